//! How far the log was durable, in a file beside it: an end that was cut off can be told from one that a crash tore off.
//!
//! Frames behind a damage vouch for it, see [`super::recovery`]; behind the end of the log there is nothing to vouch. The
//! mark is written after each sync and is itself never synced: whatever of it reaches the disk says no more than what was
//! durable then. A mark that is missing or does not check out says nothing.
//!
//! ```text
//! magic 8 | salt 8 | seq 8 | crc 4
//! ```

use std::io::IoSlice;

use super::super::Seq;
use crate::env::{Disk, DiskFile, Open};

/// The name of the file.
pub(super) const NAME: &str = "durable";

const MAGIC: &[u8; 8] = b"autobeeD";
const SIZE: usize = 28;

/// Writes the mark of one log.
pub(super) struct Mark {
    salt: u64,
    file: Option<Box<dyn DiskFile>>,
}

impl Mark {
    /// The mark of the log with this salt. Nothing is read or written.
    pub(super) const fn new(salt: u64) -> Self {
        Self { salt, file: None }
    }

    /// Says that all commits up to this one are durable. When that cannot be written, the mark says less than it might,
    /// and nothing is lost; the next commit finds out what the disk has.
    pub(super) fn write(&mut self, disk: &dyn Disk, seq: Seq) {
        if self.file.is_none() {
            let opened = disk.open(NAME, Open::Write);
            self.file = opened.or_else(|_| disk.open(NAME, Open::CreateNew)).ok();
        }
        if let Some(file) = &self.file {
            let written = file.write_at(0, &[IoSlice::new(&encode(self.salt, seq))]);
            if written.is_err() {
                self.file = None;
            }
        }
    }
}

/// Up to which commit the log with this salt was durable, as far as its mark says.
pub(super) fn read(disk: &dyn Disk, salt: u64) -> Option<Seq> {
    let (of, seq) = read_any(disk)?;
    (of == salt).then_some(seq)
}

/// What the mark of a directory says, of whatever log.
fn read_any(disk: &dyn Disk) -> Option<(u64, Seq)> {
    let file = disk.open(NAME, Open::Read).ok()?;
    let mut bytes = [0; SIZE];
    file.read_at(0, &mut bytes).ok()?;
    let salt = u64::from_le_bytes(*bytes[8..16].first_chunk()?);
    let seq = Seq(u64::from_le_bytes(*bytes[16..24].first_chunk()?));
    (bytes == encode(salt, seq)).then_some((salt, seq))
}

/// Up to which commit the log of a directory was durable, as far as its mark says. None when it has none that checks out.
pub fn marked(disk: &dyn Disk) -> Option<Seq> {
    read_any(disk).map(|(_, seq)| seq)
}

fn encode(salt: u64, seq: Seq) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&salt.to_le_bytes());
    bytes[16..24].copy_from_slice(&seq.0.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..24]);
    bytes[24..].copy_from_slice(&crc.to_le_bytes());
    bytes
}
