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

/// Bears the lock where a directory cannot be locked itself. No file name may begin with a dot, so it is in nobody's way.
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
    /// The files of `directory`, which is created when it is missing. Nobody but its owner may enter a directory that is made
    /// here, and files that are made in it are readable by their owner alone: they hold keys in clear.
    ///
    /// # Errors
    ///
    /// The name is empty, or the directory cannot be made.
    pub fn new(directory: impl AsRef<Path>) -> io::Result<Self> {
        let directory = directory.as_ref();
        if directory.as_os_str().is_empty() {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "the name of the directory is empty; \".\" is the current one",
            ));
        }
        create_private(directory)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", directory.display())))?;
        Ok(Self {
            directory: Arc::new(directory.to_path_buf()),
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
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(how != Open::Read)
            .create_new(how == Open::CreateNew);
        private(&mut options);
        let file = options.open(path)?;
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
        // The directory itself, where that can be: a file for the purpose could be deleted, and then locked twice.
        let locked = File::open(&*self.directory).and_then(lock);
        match locked {
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                let mut options = OpenOptions::new();
                options.write(true).create(true).truncate(false);
                private(&mut options);
                lock(options.open(self.directory.join(LOCK_NAME))?)
            }
            locked => locked,
        }
    }
}

fn lock(file: File) -> io::Result<DiskLock> {
    match file.try_lock() {
        Ok(()) => Ok(Box::new(file)),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(
            ErrorKind::WouldBlock,
            "the directory is in use by another process",
        )),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Makes a directory, and those above it that are missing, for their owner alone, and makes their names durable.
fn create_private(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_private(parent)?;
    }
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    match builder.create(directory) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && directory.is_dir() => return Ok(()),
        made => made?,
    }
    #[cfg(unix)]
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(())
}

/// Files that are made are for their owner alone.
fn private(options: &mut OpenOptions) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    #[cfg(not(unix))]
    let _ = options;
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

    fn is_removed(&self) -> io::Result<bool> {
        is_removed(&self.file)
    }
}

#[cfg(unix)]
fn is_removed(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(file.metadata()?.nlink() == 0)
}

#[cfg(not(unix))]
fn is_removed(_: &File) -> io::Result<bool> {
    Ok(false)
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

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("autobee-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).map_or(0, |found| found.permissions().mode() & 0o777)
    }

    #[test]
    fn what_is_made_is_private() {
        let scratch = Scratch::new("private");
        let directory = scratch.0.join("a/b");
        let disk = NativeDisk::new(&directory).unwrap();
        disk.open("file", Open::CreateNew).unwrap();
        let _lock = disk.lock().unwrap();
        assert_eq!(mode(&scratch.0), 0o700);
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&directory.join("file")), 0o600);
    }

    #[test]
    fn a_lock_holds_whatever_is_deleted_in_the_directory() {
        let scratch = Scratch::new("locked");
        let disk = NativeDisk::new(&scratch.0).unwrap();
        let lock = disk.lock().unwrap();
        for entry in fs::read_dir(&scratch.0).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        assert_eq!(disk.lock().map(drop).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(lock);
        disk.lock().unwrap();
    }

    #[test]
    fn a_removed_file_is_known() {
        let scratch = Scratch::new("removed");
        let disk = NativeDisk::new(&scratch.0).unwrap();
        let file = disk.open("file", Open::CreateNew).unwrap();
        file.sync().unwrap();
        assert!(!file.is_removed().unwrap());
        fs::remove_dir_all(&scratch.0).unwrap();
        file.sync().unwrap();
        assert!(file.is_removed().unwrap());
    }

    #[test]
    fn a_directory_without_a_name_is_refused() {
        assert_eq!(NativeDisk::new("").unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
