//! A directory in memory.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::locked;
use crate::env::{Disk, DiskFile, DiskLock, Open, check_name};

/// A directory in memory. Clones are handles to the same directory; it lives as long as one of them.
///
/// ```
/// use autobee::env::{Disk as _, Open, memory::MemoryDisk};
/// use std::io::IoSlice;
///
/// let disk = MemoryDisk::default();
/// let file = disk.open("greeting", Open::CreateNew)?;
/// file.write_at(0, &[IoSlice::new(b"hello, "), IoSlice::new(b"bee")])?;
/// let mut word = [0; 3];
/// file.read_at(7, &mut word)?;
/// assert_eq!(&word, b"bee");
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    files: Arc<Mutex<BTreeMap<String, Contents>>>,
    taken: Arc<AtomicBool>,
}

type Contents = Arc<Mutex<Vec<u8>>>;

impl Disk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(locked(&self.files).keys().cloned().collect())
    }

    fn open(&self, name: &str, how: Open) -> io::Result<Box<dyn DiskFile>> {
        check_name(name)?;
        let mut files = locked(&self.files);
        let contents = match (how, files.get(name)) {
            (Open::CreateNew, Some(_)) => {
                return Err(io::Error::new(ErrorKind::AlreadyExists, name.to_owned()));
            }
            (Open::CreateNew, None) => {
                let contents = Contents::default();
                files.insert(name.to_owned(), contents.clone());
                contents
            }
            (Open::Read | Open::Write, Some(contents)) => contents.clone(),
            (Open::Read | Open::Write, None) => return Err(missing(name)),
        };
        Ok(Box::new(MemoryFile {
            contents,
            writable: how != Open::Read,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        let mut files = locked(&self.files);
        let contents = files.remove(from).ok_or_else(|| missing(from))?;
        files.insert(to.to_owned(), contents);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        locked(&self.files)
            .remove(name)
            .map(drop)
            .ok_or_else(|| missing(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> io::Result<DiskLock> {
        if self.taken.swap(true, Ordering::AcqRel) {
            return Err(io::Error::new(ErrorKind::WouldBlock, "the directory is in use"));
        }
        Ok(Box::new(Taken(self.taken.clone())))
    }
}

struct MemoryFile {
    contents: Contents,
    writable: bool,
}

impl MemoryFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            Ok(())
        } else {
            Err(io::Error::new(ErrorKind::PermissionDenied, "opened for reading"))
        }
    }
}

impl DiskFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(locked(&self.contents).len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let contents = locked(&self.contents);
        let range = usize::try_from(offset)
            .ok()
            .and_then(|start| Some(start..start.checked_add(buffer.len())?));
        match range.and_then(|range| contents.get(range)) {
            Some(bytes) => buffer.copy_from_slice(bytes),
            // Nothing asked for is nothing missing, wherever it is.
            None if buffer.is_empty() => {}
            None => return Err(ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        self.check_writable()?;
        let mut contents = locked(&self.contents);
        let mut at = usize::try_from(offset).map_err(|_| too_large())?;
        for slice in slices.iter().filter(|slice| !slice.is_empty()) {
            let end = at.checked_add(slice.len()).ok_or_else(too_large)?;
            if contents.len() < end {
                contents.resize(end, 0);
            }
            contents[at..end].copy_from_slice(slice);
            at = end;
        }
        Ok(())
    }

    fn allocate(&self, _length: u64) -> io::Result<()> {
        self.check_writable()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.check_writable()?;
        let length = usize::try_from(length).map_err(|_| too_large())?;
        locked(&self.contents).resize(length, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

struct Taken(Arc<AtomicBool>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

fn missing(name: &str) -> io::Error {
    io::Error::new(ErrorKind::NotFound, name.to_owned())
}

fn too_large() -> io::Error {
    ErrorKind::FileTooLarge.into()
}
