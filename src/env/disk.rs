//! The bytes of one directory. The only place where a simulator injects disk faults.
//!
//! Synchronous and object-safe: storage engines are synchronous, and a simulator charges latency as a debt that the
//! asynchronous caller sleeps off.

use std::any::Any;
use std::io::{self, IoSlice};

/// The mode in which a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Open {
    /// Existing file, reads only.
    Read,
    /// Existing file, reads and writes.
    Write,
    /// New file, reads and writes; `AlreadyExists` if the name is taken.
    CreateNew,
}

/// Held while a process owns a directory; released when dropped.
pub type DiskLock = Box<dyn Any + Send + Sync>;

/// One flat directory of files.
///
/// Names follow [`check_name`]. Creating, renaming and removing become durable with [`Disk::sync_dir`],
/// contents with [`DiskFile::sync`]; until then a power cut may keep, lose, tear or reorder them.
pub trait Disk: Send + Sync + 'static {
    /// Names of all files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file.
    fn open(&self, name: &str, how: Open) -> io::Result<Box<dyn DiskFile>>;

    /// Renames a file, replacing `to` if it exists. Atomic.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all creations, renames and removals so far durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// Takes the directory for this process; `WouldBlock` when another holds it.
    fn lock(&self) -> io::Result<DiskLock>;
}

/// Refuses names that could leave the directory, or that some file system reads in its own way: at most 255 bytes of
/// printable ASCII, no leading dot (those are kept for the world itself), none of `/ \\ : * ? " < > |`.
///
/// # Errors
///
/// `InvalidInput`, with the name.
pub fn check_name(name: &str) -> io::Result<()> {
    let printable = |byte: u8| byte.is_ascii_graphic() && !b"/\\:*?\"<>|".contains(&byte);
    if name.is_empty() || name.len() > 255 || name.starts_with('.') || !name.bytes().all(printable) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("not a file name: {name:?}"),
        ));
    }
    Ok(())
}

/// One open file. Positional access only: no cursor, no append mode.
pub trait DiskFile: Send + Sync {
    /// Size in bytes.
    fn len(&self) -> io::Result<u64>;

    /// True for a file of no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from `offset`, or fails with `UnexpectedEof`.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all slices, one after the other, from `offset`. Neither atomic nor ordered nor durable. A gap past the
    /// end reads as zeros.
    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()>;

    /// Reserves space up to `length` without changing the contents; new bytes read as zeros. May do nothing.
    fn allocate(&self, length: u64) -> io::Result<()>;

    /// Cuts or extends the file to `length` bytes.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// Makes the contents durable. After an error the file must not be written again: what reached the disk is
    /// unknown, and a second sync may falsely succeed.
    fn sync(&self) -> io::Result<()>;

    /// True when the file has no name any more, as far as the world can tell: what is written to it, and synced, is gone with
    /// the last handle.
    fn is_removed(&self) -> io::Result<bool> {
        Ok(false)
    }
}
