//! One open file.

use std::io::{self, ErrorKind, IoSlice};

use autobee::env::DiskFile;
use bytes::Bytes;

use super::choice::Choose as _;
use super::crash;
use super::fault::{self, DiskFault, DiskOp};
use super::image::{DiskChange, Inode};
use super::{DiskCall, DiskState, SimDisk};

pub(super) struct SimFile {
    disk: SimDisk,
    inode: Inode,
    name: String,
    writable: bool,
}

impl SimFile {
    pub(super) fn new(disk: SimDisk, inode: Inode, name: &str, writable: bool) -> Self {
        Self {
            disk,
            inode,
            name: name.to_owned(),
            writable,
        }
    }

    fn call<T>(
        &self,
        op: DiskOp,
        offset: u64,
        bytes: usize,
        carry_out: impl FnOnce(&mut DiskState, Option<DiskFault>) -> io::Result<T>,
    ) -> io::Result<T> {
        let call = DiskCall {
            op,
            name: &self.name,
            offset,
            bytes: bytes as u64,
        };
        self.disk.call(call, carry_out)
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            Ok(())
        } else {
            Err(io::Error::new(ErrorKind::PermissionDenied, "opened for reading"))
        }
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.call(DiskOp::Length, 0, 0, |state, fault| {
            fault::check(fault)?;
            Ok(state.written.contents(self.inode).length)
        })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.call(DiskOp::Read, offset, buffer.len(), |state, fault| {
            fault::check(fault)?;
            if fault == Some(DiskFault::Rot) && !buffer.is_empty() {
                let length = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
                let at = offset.saturating_add(u64::from(state.choice.below(length)));
                let bit = state.choice.below(8).to_le_bytes()[0];
                state.rot(self.inode, at, bit);
            }
            if state.written.contents(self.inode).read(offset, buffer) {
                Ok(())
            } else {
                Err(ErrorKind::UnexpectedEof.into())
            }
        })
    }

    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        self.check_writable()?;
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let end = offset.checked_add(bytes.len() as u64);
        let end = end.filter(|end| i64::try_from(*end).is_ok());
        let end = end.ok_or(ErrorKind::FileTooLarge)?;
        self.call(DiskOp::Write, offset, bytes.len(), |state, fault| {
            let mut bytes = Bytes::from(bytes);
            let mut offset = offset;
            let mut outcome = fault::check(fault);
            if outcome.is_err() {
                let kept = state.choice.below(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                bytes.truncate(kept as usize);
            }
            if fault == Some(DiskFault::Astray) {
                let sectors = u64::from(state.choice.below(8)) + 1;
                offset = match offset.checked_sub(sectors * crash::SECTOR_BYTES) {
                    Some(before) => before,
                    None => offset.saturating_add(sectors * crash::SECTOR_BYTES),
                };
            }
            if let Some(room) = state.room(self.inode, end) {
                let fits = room.saturating_sub(offset).min(bytes.len() as u64);
                bytes.truncate(usize::try_from(fits).unwrap_or(0));
                outcome = Err(fault::full());
            }
            if !bytes.is_empty() {
                state.change(DiskChange::Write {
                    inode: self.inode,
                    offset,
                    bytes,
                });
            }
            outcome
        })
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.check_writable()?;
        self.call(DiskOp::Allocate, length, 0, |state, fault| {
            fault::check(fault)?;
            if state.written.contents(self.inode).length < length {
                if state.room(self.inode, length).is_some() {
                    return Err(fault::full());
                }
                state.change(DiskChange::Truncate {
                    inode: self.inode,
                    length,
                });
            }
            Ok(())
        })
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.check_writable()?;
        self.call(DiskOp::Truncate, length, 0, |state, fault| {
            fault::check(fault)?;
            if state.room(self.inode, length).is_some() {
                return Err(fault::full());
            }
            state.change(DiskChange::Truncate {
                inode: self.inode,
                length,
            });
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.call(DiskOp::Sync, 0, 0, |state, fault| {
            let begun = state.begun.take();
            if fault == Some(DiskFault::Lie) {
                return Ok(());
            }
            let mine = state.take_pending(|pending| {
                let is_covered = begun.as_ref().is_none_or(|begun| begun.covers(pending.number));
                is_covered && pending.change.inode() == Some(self.inode)
            });
            let outcome = fault::check(fault);
            if outcome.is_err() {
                state.lose(self.inode, &mine);
            } else {
                for change in &mine {
                    state.synced.apply(change);
                }
            }
            outcome
        })
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.incarnation != self.disk.incarnation {
            return;
        }
        if let Some(count) = state.open.get_mut(&self.inode) {
            *count -= 1;
            if *count == 0 {
                state.open.remove(&self.inode);
            }
        }
    }
}

impl DiskState {
    /// The length up to which this file may grow, when `wanted` is more than that.
    fn room(&mut self, inode: Inode, wanted: u64) -> Option<u64> {
        let quota = self.faults.quota_bytes?;
        let length = self.written.contents(inode).length;
        let free = quota.saturating_sub(self.written.used());
        (wanted > length && wanted - length > free).then_some(length + free)
    }

    /// A failed sync: some sectors made it, the rest never will. The process still sees what it wrote, or no longer,
    /// as the cache has it. What was written since the sync began is in the cache all the same.
    fn lose(&mut self, inode: Inode, changes: &[DiskChange]) {
        crash::keep_sectors(&mut self.synced, changes, &mut self.choice);
        if self.choice.below(2) == 0 {
            let contents = self.synced.contents(inode).clone();
            self.written.files.insert(inode, contents);
            let later = self.pending.iter().map(|pending| &pending.change);
            for change in later.filter(|change| change.inode() == Some(inode)) {
                self.written.apply(change);
            }
        }
    }
}
