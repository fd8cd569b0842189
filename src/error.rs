//! The error of the public face, sorted by who has to act.

use std::io;

use thiserror::Error;

use crate::crypto::CoreKey;
use crate::engine::encryption::KeyMismatch;
use crate::hypercore::CoreError;
use crate::store::StoreError;
use crate::wire::{Index, Length};

/// The kind of an [`enum@Error`]: who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The database was closed. Open it again.
    Closed,
    /// The caller passed something that can never work.
    Invalid,
    /// The caller may not do this now, for example write without being a writer.
    Denied,
    /// What was asked for is at no peer within reach. Try again when there are peers.
    Unavailable,
    /// Apply stopped on purpose. Upgrade or fix it, then open again.
    Interrupted,
    /// A peer broke the protocol. It was disconnected; nothing is to be done here.
    PeerMisbehaved,
    /// The network refused an address. Choose another one, or wait until it is free.
    Network,
    /// The disk failed. Nothing more is written until the database is opened again.
    Disk,
    /// What is on the disk is damaged. Restore or salvage it.
    Corrupt,
    /// Not built yet.
    Unsupported,
    /// A defect of this library.
    Internal,
}

/// The error of a call of the public face.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The database was closed before or during the call.
    #[error("the database is closed")]
    Closed,
    /// The caller passed something that can never work.
    #[error("{what}")]
    Invalid {
        /// What, and why not.
        what: String,
    },
    /// The local writer is no member, or not any more.
    #[error("the local writer {local} is not a writer of this database")]
    NotWritable {
        /// The key of the local writer.
        local: CoreKey,
    },
    /// The local writer is no member, and its log is as long as peers look at one of somebody who is none.
    #[error(
        "the log of the local writer {local} would have {blocks} blocks of {bytes} bytes, and peers do not look at that \
         much of somebody who is no member: it has to be added first"
    )]
    NoRoom {
        /// The key of the local writer.
        local: CoreKey,
        /// Blocks of the log with the batch.
        blocks: u64,
        /// Bytes of the log with the batch.
        bytes: u64,
    },
    /// Peers may have entries of the own log that are not here, and none of them could be asked.
    #[error(
        "the log of the local writer {local} may go on at peers: connect to one that has it, write with a new key pair, \
         or open with Builder::whole_log if nothing was written elsewhere"
    )]
    Unconfirmed {
        /// The key of the local writer.
        local: CoreKey,
    },
    /// The own log has two continuations, as when it is written on two machines: no peer takes anything more of it.
    #[error(
        "the log of the local writer {local} was written twice from block {length} on at the latest: write with a new key \
         pair"
    )]
    Contradicted {
        /// The key of the local writer.
        local: CoreKey,
        /// A length of which there are two.
        length: Length,
    },
    /// The database was opened for reading only.
    #[error("the database is open for reading only")]
    ReadOnly,
    /// The encryption key does not fit the database: it has to be opened with the right one. What is here of it stays, and is
    /// read then.
    #[error("{mismatch}")]
    EncryptionKey {
        /// How it does not fit.
        mismatch: KeyMismatch,
    },
    /// The call came out of apply or of the update hook, and would wait for them.
    #[error("called from inside of apply or of the update hook, which it would have to wait for")]
    Reentrant,
    /// Another handle has what would be written here: the namespace of the store, or the log of the local writer, which the
    /// same database may have in another namespace.
    #[error(
        "another handle to this store has the namespace, or the log of the local writer: clone that handle instead"
    )]
    InUse,
    /// A block is at no peer within reach.
    #[error("block {index} of core {core} is not here")]
    Unavailable {
        /// The core.
        core: CoreKey,
        /// The block.
        index: Index,
    },
    /// Apply asked to stop, or failed for good.
    #[error("apply stopped this peer: {reason}")]
    Interrupted {
        /// The reason that apply gave.
        reason: String,
    },
    /// A peer broke the protocol.
    #[error("a peer broke the protocol: {what}")]
    Peer {
        /// What it did.
        what: String,
    },
    /// Nobody may listen at an address: it is in use, is none, or is another machine's.
    #[error("listening at {address} failed: {source}")]
    Network {
        /// The address.
        address: String,
        /// What the network said.
        source: io::Error,
    },
    /// The disk refused an operation.
    #[error("disk failed during {operation}: {source}")]
    Disk {
        /// What was being done.
        operation: &'static str,
        /// What the disk said.
        source: io::Error,
    },
    /// Stored data does not check out.
    #[error("{file} is damaged: {what}")]
    Corrupt {
        /// The file.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// Named in the interface, not built yet.
    #[error("{what} is not supported yet")]
    Unsupported {
        /// What.
        what: &'static str,
    },
    /// A defect of this library.
    #[error("internal error: {what}")]
    Internal {
        /// What did not hold.
        what: String,
    },
}

/// For checks of views that answer with a text, so that `?` works in them.
impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.to_string()
    }
}

impl Error {
    /// Who has to act.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Closed => ErrorKind::Closed,
            Self::Invalid { .. } | Self::EncryptionKey { .. } => ErrorKind::Invalid,
            Self::NotWritable { .. }
            | Self::NoRoom { .. }
            | Self::Unconfirmed { .. }
            | Self::Contradicted { .. }
            | Self::ReadOnly
            | Self::Reentrant
            | Self::InUse => ErrorKind::Denied,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::Interrupted { .. } => ErrorKind::Interrupted,
            Self::Peer { .. } => ErrorKind::PeerMisbehaved,
            Self::Network { .. } => ErrorKind::Network,
            Self::Disk { .. } => ErrorKind::Disk,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }
}

impl From<CoreError> for Error {
    fn from(error: CoreError) -> Self {
        let what = error.to_string();
        match error {
            CoreError::Closed => Self::Closed,
            CoreError::InUse => Self::InUse,
            CoreError::Store(error) => error.into(),
            CoreError::Read(_) | CoreError::Record(_) => Self::Corrupt {
                file: "store".into(),
                what,
            },
            error if error.blames_peer() => Self::Peer { what },
            CoreError::NotWritable
            | CoreError::BlockTooLarge(_)
            | CoreError::Beyond { .. }
            | CoreError::KeyMismatch { .. }
            | CoreError::NoCore
            | CoreError::Unknown
            | CoreError::Conflict(_) => Self::Invalid { what },
            _ => Self::Internal { what },
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let what = error.to_string();
        let disk = |operation, kind| Self::Disk {
            operation,
            source: io::Error::new(kind, what.clone()),
        };
        match error {
            StoreError::Io { action, source, .. } => disk(action, source.kind()),
            StoreError::Full { .. } => disk("write", io::ErrorKind::StorageFull),
            StoreError::Fenced => disk("an earlier write", io::ErrorKind::Other),
            StoreError::Locked => disk("lock", io::ErrorKind::WouldBlock),
            StoreError::Corrupt(damage) => Self::Corrupt {
                file: damage.file,
                what,
            },
            StoreError::Newer { .. } => Self::Unsupported {
                what: "a store of a newer version",
            },
            StoreError::Invalid(_) => Self::Internal { what },
        }
    }
}
