//! One file of the log.
//!
//! ```text
//! magic 8 | format version 4 | number 4 | salt 8 | seq before the first frame 8 | crc 4 | frames
//! ```

use std::io::{self, IoSlice};
use std::sync::Arc;

use im::OrdMap;

use super::super::{Seq, StoreError};
use super::page::{RecordPlace, SEGMENT_MAX};
use super::record::crc_of;
use crate::env::{Disk, DiskFile, Open, Planted, Slip};

/// Bytes before the first frame.
pub(super) const HEAD_BYTES: u64 = HEAD as u64;
const HEAD: usize = 36;

const MAGIC: &[u8; 8] = b"autobeeL";

/// The newest format that this version reads, and the one that it writes.
pub(super) const FORMAT_VERSION: u32 = 1;

/// A record of more bytes than this is worth a look at the length of the file before it is read.
const LARGE_BYTES: u64 = 64 * 1024;

/// All segments by number. Cloning costs nothing, and keeps removed files readable.
pub(super) type Segments = OrdMap<u32, Arc<Segment>>;

/// An open file of the log.
pub(super) struct Segment {
    number: u32,
    name: String,
    file: Arc<dyn DiskFile>,
}

/// The head of a segment: what it says before its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHead {
    pub(super) number: u32,
    pub(super) salt: u64,
    /// The last commit that is in earlier segments.
    pub(super) before: Seq,
}

/// The name of a segment.
pub(super) fn name_of(number: u32) -> String {
    format!("{number:08x}.segment")
}

/// The number of a name; none when it is not that of a segment.
pub(super) fn number_of(name: &str) -> Option<u32> {
    let number = u32::from_str_radix(name.strip_suffix(".segment")?, 16).ok()?;
    ((1..=SEGMENT_MAX).contains(&number) && name_of(number) == name).then_some(number)
}

impl Segment {
    /// Creates a segment and makes it durable, its name too.
    pub(super) fn create(disk: &dyn Disk, head: SegmentHead, planted: Planted) -> Result<Self, StoreError> {
        let name = name_of(head.number);
        let file = disk
            .open(&name, Open::CreateNew)
            .map_err(|error| StoreError::io("create", &name, error))?;
        let segment = Self {
            number: head.number,
            name,
            file: file.into(),
        };
        segment.write(0, &head.encode())?;
        segment.sync()?;
        if planted.has(Slip::SegmentNameUnsynced) {
            return Ok(segment);
        }
        disk.sync_dir()
            .map_err(|error| StoreError::io("sync", "the directory", error))?;
        Ok(segment)
    }

    pub(super) fn open(disk: &dyn Disk, number: u32, how: Open) -> Result<Self, StoreError> {
        let name = name_of(number);
        let file = disk
            .open(&name, how)
            .map_err(|error| StoreError::io("open", &name, error))?;
        Ok(Self {
            number,
            name,
            file: file.into(),
        })
    }

    /// The head; none when the file does not begin with one.
    pub(super) fn head(&self) -> Result<Option<SegmentHead>, StoreError> {
        let mut bytes = [0; HEAD];
        if self.length()? < HEAD_BYTES {
            return Ok(None);
        }
        self.read(0, &mut bytes)?;
        SegmentHead::decode(&bytes)
    }

    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn length(&self) -> Result<u64, StoreError> {
        self.file
            .len()
            .map_err(|error| StoreError::io("measure", &self.name, error))
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        self.file
            .read_at(offset, buffer)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    StoreError::corrupt(&self.name, offset, "the file ends before its time")
                }
                _ => StoreError::io("read", &self.name, error),
            })
    }

    /// The first bytes of a record, `most` at most.
    pub(super) fn read_place(&self, place: RecordPlace, most: u64) -> Result<Vec<u8>, StoreError> {
        let length = u64::from(place.length).min(most);
        // The length may come from a damaged index: memory is given for what is really there.
        if length > LARGE_BYTES && u64::from(place.offset) + length > self.length()? {
            return Err(self.corrupt(u64::from(place.offset), "the file ends before its time"));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.read(u64::from(place.offset), &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.file
            .write_at(offset, &[IoSlice::new(bytes)])
            .map_err(|error| StoreError::io("write", &self.name, error))
    }

    pub(super) fn truncate(&self, length: u64) -> Result<(), StoreError> {
        self.file
            .truncate(length)
            .map_err(|error| StoreError::io("cut", &self.name, error))
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("sync", &self.name, error);
        self.file.sync().map_err(failed)?;
        if self.file.is_removed().map_err(failed)? {
            return Err(failed(io::Error::new(
                io::ErrorKind::NotFound,
                "the file was removed while it was in use",
            )));
        }
        Ok(())
    }

    pub(super) fn corrupt(&self, offset: u64, what: impl Into<String>) -> StoreError {
        StoreError::corrupt(&self.name, offset, what)
    }
}

impl SegmentHead {
    fn encode(self) -> [u8; HEAD] {
        let mut out = [0; HEAD];
        out[0..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&self.number.to_le_bytes());
        out[16..24].copy_from_slice(&self.salt.to_le_bytes());
        out[24..32].copy_from_slice(&self.before.0.to_le_bytes());
        let crc = crc_of(&[&out[..32]]);
        out[32..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8; HEAD]) -> Result<Option<Self>, StoreError> {
        let part = |at: usize| {
            bytes[at..]
                .first_chunk::<4>()
                .map_or(0, |part| u32::from_le_bytes(*part))
        };
        let long = |at: usize| {
            bytes[at..]
                .first_chunk::<8>()
                .map_or(0, |part| u64::from_le_bytes(*part))
        };
        if &bytes[..8] != MAGIC || part(32) != crc_of(&[&bytes[..32]]) {
            return Ok(None);
        }
        if part(8) > FORMAT_VERSION {
            return Err(StoreError::Newer {
                found: part(8),
                known: FORMAT_VERSION,
            });
        }
        Ok(Some(Self {
            number: part(12),
            salt: long(16),
            before: Seq(long(24)),
        }))
    }
}
