//! What can go wrong with a call, how long calls take, and the record of them.

use std::io::{self, ErrorKind};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::DiskState;
use super::choice::Choose;
use super::image::{DiskChange, Image, Inode};

/// One kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskOp {
    /// Names of all files.
    List,
    /// An existing file was opened.
    Open,
    /// A file was created.
    Create,
    /// A file was renamed; the event names the new name.
    Rename,
    /// A file was removed.
    Remove,
    /// The directory was synced.
    SyncDir,
    /// The directory was locked.
    Lock,
    /// The length of a file was asked for.
    Length,
    /// Bytes were read.
    Read,
    /// Bytes were written.
    Write,
    /// Space was reserved.
    Allocate,
    /// A file was cut or extended.
    Truncate,
    /// A file was synced.
    Sync,
}

/// How one call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskFault {
    /// An error of the device. A failed write leaves some prefix; a failed sync leaves some of the sectors, and
    /// forgets the rest for ever: the next one succeeds.
    Error,
    /// No space. A write leaves some prefix.
    Full,
    /// A sync that does nothing and says it did.
    Lie,
    /// A bit of what is read has flipped, for good.
    Rot,
    /// A write lands in another sector.
    Astray,
}

/// Faults that strike at random. Shares are of 65,536 calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiskFaults {
    /// Reads, openings and listings that fail.
    pub read_error: u16,
    /// Writes and changes of names that fail.
    pub write_error: u16,
    /// Syncs that fail.
    pub sync_error: u16,
    /// Syncs that lie.
    pub sync_lie: u16,
    /// Reads that find a bit flipped.
    pub bit_rot: u16,
    /// Writes that land elsewhere.
    pub write_astray: u16,
    /// Files that a crash shortens although they were synced.
    pub short_file: u16,
    /// Bytes that all files together may have.
    pub quota_bytes: Option<u64>,
    /// How long calls take.
    pub latency: Latency,
}

/// How long calls take, in microseconds. Each call adds up to `jitter_us` more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Latency {
    /// A read.
    pub read_us: u32,
    /// A write, or a change of names.
    pub write_us: u32,
    /// A sync.
    pub sync_us: u32,
    /// What chance adds to each of them, at most.
    pub jitter_us: u32,
}

/// One call, for traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskEvent<'a> {
    /// Counted from one.
    pub number: u64,
    /// What was called.
    pub op: DiskOp,
    /// The file; empty for the directory.
    pub name: &'a str,
    /// Where in the file; the length for a cut.
    pub offset: u64,
    /// How much.
    pub bytes: u64,
    /// What went wrong by order of the simulation.
    pub fault: Option<DiskFault>,
    /// The error that the caller got.
    pub failed: Option<ErrorKind>,
}

/// Counts of calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// All calls.
    pub calls: u64,
    /// Calls that change something, syncs included.
    pub changes: u64,
    /// Reads.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Syncs of files and of the directory.
    pub syncs: u64,
    /// A hash over all calls with their arguments, but not the bytes: equal runs have equal ones.
    pub calls_hash: u64,
}

impl DiskStats {
    pub(super) fn count(&mut self, op: DiskOp, name: &str, offset: u64, bytes: u64) {
        self.calls += 1;
        match op {
            DiskOp::Read => {
                self.reads += 1;
                self.read_bytes += bytes;
            }
            DiskOp::Write => {
                self.writes += 1;
                self.written_bytes += bytes;
            }
            DiskOp::Sync | DiskOp::SyncDir => self.syncs += 1,
            _ => {}
        }
        if op.changes() {
            self.changes += 1;
        }
        let numbers = [op as u64, offset, bytes]
            .map(u64::to_le_bytes)
            .into_iter()
            .flatten();
        for byte in name.bytes().chain(numbers) {
            self.calls_hash = (self.calls_hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl DiskFaults {
    /// True when nothing goes wrong, however long it takes.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let Self { latency, .. } = self;
        *self
            == Self {
                latency: latency.clone(),
                ..Self::default()
            }
    }
}

impl DiskOp {
    /// True for what changes contents, names or their durability.
    #[must_use]
    pub const fn changes(self) -> bool {
        matches!(
            self,
            Self::Create
                | Self::Rename
                | Self::Remove
                | Self::SyncDir
                | Self::Write
                | Self::Allocate
                | Self::Truncate
                | Self::Sync
        )
    }
}

/// The error of a fault that has no more to it than an error.
pub(super) fn check(fault: Option<DiskFault>) -> io::Result<()> {
    match fault {
        Some(DiskFault::Error) => Err(io::Error::other("injected: input/output error")),
        Some(DiskFault::Full) => Err(full()),
        Some(DiskFault::Lie | DiskFault::Rot | DiskFault::Astray) | None => Ok(()),
    }
}

pub(super) fn full() -> io::Error {
    io::Error::new(ErrorKind::StorageFull, "injected: no space left on device")
}

impl DiskState {
    pub(super) fn draw_fault(&mut self, number: u64, op: DiskOp) -> Option<DiskFault> {
        if let Some(fault) = self.planned.remove(&number) {
            return Some(fault);
        }
        let faults = &self.faults;
        let table: &[(u16, DiskFault)] = match op {
            DiskOp::Read => &[
                (faults.read_error, DiskFault::Error),
                (faults.bit_rot, DiskFault::Rot),
            ],
            DiskOp::Write => &[
                (faults.write_error, DiskFault::Error),
                (faults.write_astray, DiskFault::Astray),
            ],
            DiskOp::Sync | DiskOp::SyncDir => &[
                (faults.sync_error, DiskFault::Error),
                (faults.sync_lie, DiskFault::Lie),
            ],
            DiskOp::List | DiskOp::Open | DiskOp::Length => &[(faults.read_error, DiskFault::Error)],
            DiskOp::Create | DiskOp::Rename | DiskOp::Remove | DiskOp::Allocate | DiskOp::Truncate => {
                &[(faults.write_error, DiskFault::Error)]
            }
            DiskOp::Lock => &[],
        };
        let choice = &mut self.choice;
        table
            .iter()
            .find(|(share, _)| choice.chance(*share))
            .map(|(_, fault)| *fault)
    }

    pub(super) fn draw_latency(&mut self, op: DiskOp) -> Duration {
        let latency = &self.faults.latency;
        let base = match op {
            DiskOp::Read | DiskOp::List | DiskOp::Open | DiskOp::Length | DiskOp::Lock => latency.read_us,
            DiskOp::Sync | DiskOp::SyncDir => latency.sync_us,
            DiskOp::Create
            | DiskOp::Rename
            | DiskOp::Remove
            | DiskOp::Write
            | DiskOp::Allocate
            | DiskOp::Truncate => latency.write_us,
        };
        let jitter = match latency.jitter_us {
            0 => 0,
            most => self.choice.below(most.saturating_add(1)),
        };
        Duration::from_micros(u64::from(base) + u64::from(jitter))
    }

    pub(super) fn charge(&mut self, op: DiskOp) {
        if op == DiskOp::Sync && self.begun.is_some() {
            // Its time has passed.
            return;
        }
        let latency = self.draw_latency(op);
        self.debt += latency;
    }

    pub(super) fn rot(&mut self, inode: Inode, offset: u64, bit: u8) -> bool {
        let flipped = self.written.contents(inode).flip(offset, bit);
        self.synced.contents(inode).flip(offset, bit);
        flipped
    }

    /// The last files that a crash touches although it must not.
    pub(super) fn shorten_files(&mut self, image: &mut Image) {
        if self.faults.short_file == 0 {
            return;
        }
        let files: Vec<(Inode, u64)> = image
            .files
            .iter()
            .map(|(inode, file)| (*inode, file.length))
            .collect();
        for (inode, length) in files {
            if self.choice.chance(self.faults.short_file) {
                let lost = u64::from(self.choice.below(8192)) + 1;
                image.apply(&DiskChange::Truncate {
                    inode,
                    length: length.saturating_sub(lost),
                });
            }
        }
    }
}
