//! Calls to disks, as lines.

use super::Trace;
use crate::disk::{DiskEvent, DiskFault, DiskOp};

/// Writes the line of one call to the disk of the replica `name`.
pub(crate) fn write_disk_event(trace: &mut Trace, now: u64, name: &str, event: &DiskEvent<'_>) {
    let line = trace
        .event(now, "disk")
        .text("r", name)
        .text("op", op_name(event.op))
        .text("file", event.name)
        .number("at", event.offset)
        .number("bytes", event.bytes);
    let line = match event.fault {
        Some(fault) => line.text("fault", fault_name(fault)),
        None => line,
    };
    line.flag("ok", event.failed.is_none());
}

const fn op_name(op: DiskOp) -> &'static str {
    match op {
        DiskOp::List => "list",
        DiskOp::Open => "open",
        DiskOp::Create => "create",
        DiskOp::Rename => "rename",
        DiskOp::Remove => "remove",
        DiskOp::SyncDir => "sync_dir",
        DiskOp::Lock => "lock",
        DiskOp::Length => "length",
        DiskOp::Read => "read",
        DiskOp::Write => "write",
        DiskOp::Allocate => "allocate",
        DiskOp::Truncate => "truncate",
        DiskOp::Sync => "sync",
    }
}

const fn fault_name(fault: DiskFault) -> &'static str {
    match fault {
        DiskFault::Error => "error",
        DiskFault::Full => "full",
        DiskFault::Lie => "lie",
        DiskFault::Rot => "rot",
        DiskFault::Astray => "astray",
    }
}
