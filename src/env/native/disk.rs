//! Files of one directory.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the native world is the door to the machine's files"
)]

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::env::{Disk, DiskFile, DiskLock, Open, check_name};

/// Bears the lock of the directory. No file name may begin with a dot, so it is in nobody's way.
const LOCK_NAME: &str = ".lock";

/// Slices up to this size in bytes are joined, so that one call of the kernel writes them together.
const JOIN_BYTES: usize = 256 * 1024;

/// One directory. Clones are handles to the same one.
///
/// Reads and writes are positional. [`DiskFile::sync`] is `fdatasync`, or what the platform has in its place
/// (`F_FULLFSYNC` on macOS); on Windows, where directories cannot be synced, [`Disk::sync_dir`] does nothing.
///
/// ```
/// use autobee::env::{Disk as _, Open, native::NativeDisk};
/// use std::io::IoSlice;
///
/// # let directory = std::env::temp_dir().join(format!("autobee-doc-disk-{}", std::process::id()));
/// let disk = NativeDisk::new(&directory)?;
/// let file = disk.open("greeting", Open::CreateNew)?;
/// file.write_at(0, &[IoSlice::new(b"hello")])?;
/// file.sync()?;
/// disk.sync_dir()?;
/// assert_eq!(disk.list()?, ["greeting"]);
/// # std::fs::remove_dir_all(&directory)?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct NativeDisk {
    directory: Arc<PathBuf>,
}

impl NativeDisk {
    /// The files of `directory`, which is created when it is missing.
    ///
    /// # Errors
    ///
    /// The directory cannot be made.
    pub fn new(directory: impl AsRef<Path>) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        Ok(Self {
            directory: Arc::new(directory.as_ref().to_path_buf()),
        })
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        check_name(name)?;
        Ok(self.directory.join(name))
    }
}

impl Disk for NativeDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&*self.directory)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string()
                && check_name(&name).is_ok()
                && entry.file_type()?.is_file()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, name: &str, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let path = self.path(name)?;
        let file = OpenOptions::new()
            .read(true)
            .write(how != Open::Read)
            .create_new(how == Open::CreateNew)
            .open(path)?;
        Ok(Box::new(NativeFile { file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from)?, self.path(to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name)?)
    }

    #[cfg(unix)]
    fn sync_dir(&self) -> io::Result<()> {
        File::open(&*self.directory)?.sync_all()
    }

    #[cfg(not(unix))]
    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> io::Result<DiskLock> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.directory.join(LOCK_NAME))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::Error::new(
                ErrorKind::WouldBlock,
                "the directory is in use by another process",
            )),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

struct NativeFile {
    file: File,
}

impl DiskFile for NativeFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        read_exact(&self.file, offset, buffer)
    }

    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        if let [slice] = slices {
            return write_all(&self.file, offset, slice);
        }
        let mut at = offset;
        let mut joined = Vec::new();
        for slice in slices {
            if joined.len() + slice.len() > JOIN_BYTES {
                at = write_next(&self.file, at, &joined)?;
                joined.clear();
            }
            if slice.len() > JOIN_BYTES {
                at = write_next(&self.file, at, slice)?;
            } else {
                joined.extend_from_slice(slice);
            }
        }
        write_next(&self.file, at, &joined).map(drop)
    }

    fn allocate(&self, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Writes `bytes` and says where the next ones go.
fn write_next(file: &File, offset: u64, bytes: &[u8]) -> io::Result<u64> {
    let end = offset
        .checked_add(bytes.len() as u64)
        .ok_or(ErrorKind::FileTooLarge)?;
    write_all(file, offset, bytes)?;
    Ok(end)
}

#[cfg(unix)]
fn read_exact(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    file.read_exact_at(buffer, offset)
}

#[cfg(unix)]
fn write_all(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    file.write_all_at(bytes, offset)
}

#[cfg(windows)]
fn read_exact(file: &File, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
    use std::os::windows::fs::FileExt as _;
    while !buffer.is_empty() {
        match file.seek_read(buffer, offset) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffer = &mut buffer[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(windows)]
fn write_all(file: &File, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    use std::os::windows::fs::FileExt as _;
    while !bytes.is_empty() {
        match file.seek_write(bytes, offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
