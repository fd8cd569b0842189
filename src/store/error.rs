//! What can go wrong below a core, and whose turn it is.

use std::fmt;
use std::io;
use std::sync::Arc;

use thiserror::Error;

/// A store cannot do what it was asked for. `Debug` says it in words too, since that is what a program shows whose `main`
/// ends with it.
#[derive(Clone, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk failed. After a failed write or sync the store is fenced: open it again.
    #[error("{action} {file}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file, or the directory.
        file: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Bytes that were durable are not what they were. Verify, salvage, or restore a backup.
    #[error("damaged: {0}")]
    Corrupt(Damage),
    /// No space is left. The store is fenced: make space and open it again.
    #[error("no space left for {file}")]
    Full {
        /// The file that did not fit.
        file: String,
    },
    /// An earlier write or sync failed, and what reached the disk is unknown. Open the store again.
    #[error("the store is fenced after a failed write; open it again")]
    Fenced,
    /// Another process, or another part of this one, has the directory.
    #[error("the store is in use by another process, or by another part of this one")]
    Locked,
    /// The store was written by a newer version.
    #[error("format version {found} is newer than {known}, the newest that this version knows")]
    Newer {
        /// In the file.
        found: u32,
        /// In this program.
        known: u32,
    },
    /// The caller asked for something that no store does.
    #[error("invalid: {0}")]
    Invalid(&'static str),
}

/// The place of a damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// The byte at which the damaged thing starts.
    pub offset: u64,
    /// What is wrong there: the frame, or the record with its key.
    pub what: String,
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {} of {}", self.what, self.offset, self.file)
    }
}

impl StoreError {
    pub(super) fn io(action: &'static str, file: &str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full {
                file: file.to_owned(),
            },
            _ => Self::Io {
                action,
                file: file.to_owned(),
                source: Arc::new(source),
            },
        }
    }

    pub(super) fn corrupt(file: &str, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt(Damage {
            file: file.to_owned(),
            offset,
            what: what.into(),
        })
    }
}
