//! A file of checksummed records, until the store lands.
//!
//! Records are appended and read back whole. A record that was cut short by a crash is dropped when the file is
//! opened; so is everything behind it. What it is not: atomic over several files, compacted, or able to tell damage
//! inside durable data from a torn end.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;

use crate::env::{Disk, DiskFile, Open};

const HEADER_BYTES: usize = 8;

/// The longest record, in bytes.
pub const RECORD_BYTES_MAX: usize = 1 << 27;

/// An open file of records.
pub struct RecordFile {
    file: Arc<dyn DiskFile>,
    end: u64,
}

impl RecordFile {
    /// Makes an empty file. Its name is durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    ///
    /// Whatever the disk says; `AlreadyExists` when the name is taken.
    pub fn create(disk: &dyn Disk, name: &str) -> io::Result<Self> {
        Ok(Self {
            file: disk.open(name, Open::CreateNew)?.into(),
            end: 0,
        })
    }

    /// Opens a file and reads all of its records. A torn end is cut.
    ///
    /// # Errors
    ///
    /// Whatever the disk says.
    pub fn open(disk: &dyn Disk, name: &str) -> io::Result<(Self, Vec<Bytes>)> {
        let file: Arc<dyn DiskFile> = disk.open(name, Open::Write)?.into();
        let size = file.len()?;
        let mut records = Vec::new();
        let mut end = 0;
        while let Some(record) = read_record(file.as_ref(), end, size)? {
            end += (HEADER_BYTES + record.len()) as u64;
            records.push(record);
        }
        if end < size {
            // The torn end must be gone for good before anything is written after it.
            file.truncate(end)?;
            file.sync()?;
        }
        Ok((Self { file, end }, records))
    }

    /// Appends a record. It is durable after a sync of [`RecordFile::file`].
    ///
    /// # Errors
    ///
    /// Whatever the disk says; `InvalidInput` above [`RECORD_BYTES_MAX`].
    pub fn append(&mut self, record: &[u8]) -> io::Result<()> {
        let Some(size) = u32::try_from(record.len())
            .ok()
            .filter(|_| record.len() <= RECORD_BYTES_MAX)
        else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "record too long"));
        };
        let size = size.to_le_bytes();
        let sum = checksum(self.end, &size, record).to_le_bytes();
        self.file.write_at(
            self.end,
            &[IoSlice::new(&size), IoSlice::new(&sum), IoSlice::new(record)],
        )?;
        self.end += (HEADER_BYTES + record.len()) as u64;
        Ok(())
    }

    /// The file, to sync it while nobody holds this.
    #[must_use]
    pub fn file(&self) -> Arc<dyn DiskFile> {
        Arc::clone(&self.file)
    }
}

impl std::fmt::Debug for RecordFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordFile")
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// The record at `offset`; none when there is no whole one.
fn read_record(file: &dyn DiskFile, offset: u64, size: u64) -> io::Result<Option<Bytes>> {
    let mut header = [0; HEADER_BYTES];
    if size - offset < HEADER_BYTES as u64 {
        return Ok(None);
    }
    file.read_at(offset, &mut header)?;
    let (length, sum) = header.split_at(4);
    let length_bytes = [length[0], length[1], length[2], length[3]];
    let length = u32::from_le_bytes(length_bytes) as usize;
    if length > RECORD_BYTES_MAX || size - offset - (HEADER_BYTES as u64) < length as u64 {
        return Ok(None);
    }
    let mut record = vec![0; length];
    file.read_at(offset + HEADER_BYTES as u64, &mut record)?;
    let intact = checksum(offset, &length_bytes, &record).to_le_bytes() == *sum;
    Ok(intact.then(|| Bytes::from(record)))
}

/// The offset is part of the sum, so that neither zeros nor an older record in a wrong place check out.
fn checksum(offset: u64, length: &[u8; 4], record: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(b"autobee record");
    sum.update(&offset.to_le_bytes());
    sum.update(length);
    sum.update(record);
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::memory::MemoryDisk;

    #[test]
    fn records_come_back_and_a_torn_end_is_cut_wherever_it_tears() {
        let disk = MemoryDisk::default();
        let mut file = RecordFile::create(&disk, "a").unwrap();
        for record in [b"one".as_slice(), b"", b"three"] {
            file.append(record).unwrap();
        }
        let whole = file.end;
        let kept_at = [0, 11, 19, whole];
        for cut in (0..=whole).rev() {
            disk.open("a", Open::Write).unwrap().truncate(cut).unwrap();
            let (file, records) = RecordFile::open(&disk, "a").unwrap();
            let kept = kept_at.iter().filter(|at| **at <= cut).count() - 1;
            assert_eq!(records.len(), kept, "cut at {cut}");
            assert_eq!(file.end, kept_at[kept]);
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_file_there() {
        let disk = MemoryDisk::default();
        let mut file = RecordFile::create(&disk, "a").unwrap();
        file.append(b"one").unwrap();
        file.append(b"two").unwrap();
        let raw = disk.open("a", Open::Write).unwrap();
        raw.write_at(12, &[IoSlice::new(&[0xff])]).unwrap();
        let (_, records) = RecordFile::open(&disk, "a").unwrap();
        assert_eq!(records, [Bytes::from_static(b"one")]);
    }
}
