//! A disk without faults: every write is durable at once.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};

use autobee::env::{Disk, DiskFile, DiskLock, Open};

use crate::drive::Drive;
use crate::executor::lock;

type Bytes = Arc<Mutex<Vec<u8>>>;

/// The files of one replica, in memory.
#[derive(Debug, Default)]
pub(crate) struct PlainDrive {
    files: Arc<Mutex<BTreeMap<String, Bytes>>>,
    mounted: Mutex<Arc<()>>,
}

#[derive(Debug, Clone)]
struct PlainDisk {
    files: Arc<Mutex<BTreeMap<String, Bytes>>>,
    /// Held while a process has the lock.
    lock: Arc<()>,
}

#[derive(Debug)]
struct PlainFile(Bytes);

impl Drive for PlainDrive {
    fn mount(&self) -> Arc<dyn Disk> {
        let mut mounted = lock(&self.mounted);
        *mounted = Arc::new(());
        Arc::new(PlainDisk {
            files: Arc::clone(&self.files),
            lock: Arc::clone(&mounted),
        })
    }

    fn kill(&self, _now: u64) {}

    fn power_off(&self, _now: u64) {}
}

impl Disk for PlainDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.files).keys().cloned().collect())
    }

    fn open(&self, name: &str, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let mut files = lock(&self.files);
        let bytes = match (how, files.get(name)) {
            (Open::CreateNew, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Open::CreateNew, None) => Arc::clone(files.entry(name.to_owned()).or_default()),
            (Open::Read | Open::Write, Some(bytes)) => Arc::clone(bytes),
            (Open::Read | Open::Write, None) => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Box::new(PlainFile(bytes)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = lock(&self.files);
        let bytes = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let removed = lock(&self.files).remove(name);
        removed.map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> io::Result<DiskLock> {
        // One count is ours, one the drive's.
        if Arc::strong_count(&self.lock) > 2 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Arc::clone(&self.lock)))
    }
}

impl DiskFile for PlainFile {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.0).len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = lock(&self.0);
        let start = position(offset)?;
        let part = start
            .checked_add(buffer.len())
            .and_then(|end| bytes.get(start..end))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }

    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let mut bytes = lock(&self.0);
        let mut at = position(offset)?;
        for slice in slices {
            let end = at.checked_add(slice.len()).ok_or(io::ErrorKind::InvalidInput)?;
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[at..end].copy_from_slice(slice);
            at = end;
        }
        Ok(())
    }

    fn allocate(&self, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        lock(&self.0).resize(position(length)?, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}
