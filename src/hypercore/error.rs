//! What can go wrong with a core, and whose turn it is.

use std::fmt;

use thiserror::Error;

use super::encryption::CipherError;
use super::manifest::{ManifestError, SignError, VerifyError};
use super::merkle::{ReadError, TreeError};
use super::proof::{ProofError, RequestError};
use super::record::RecordError;
use crate::crypto::CoreKey;
use crate::store::StoreError;
use crate::wire::compact::{DecodeError, EncodeError};
use crate::wire::{Index, Length};

/// An operation on a core failed. Nothing of it happened. `Debug` says it in words too, since that is what a program shows
/// whose `main` ends with it.
#[derive(Clone, Error)]
#[non_exhaustive]
pub enum CoreError {
    // The caller asked for something that is not allowed.
    /// The session is closed, or was closed while waiting.
    #[error("the session is closed")]
    Closed,
    /// Somebody else has it, in the same store.
    #[error("it is open already, by another handle to the same store")]
    InUse,
    /// The session is read-only, a snapshot, or has no key pair of a signer.
    #[error("the session is not writable")]
    NotWritable,
    /// The block is larger than peers accept.
    #[error("a block of {0} bytes, padding included, is too large")]
    BlockTooLarge(usize),
    /// The first blocks are fixed by the manifest.
    #[error("the first {0} blocks are fixed by the manifest")]
    Prologue(u64),
    /// A length or block beyond the end.
    #[error("{asked} is beyond the end of a log of length {length}")]
    Beyond {
        /// What was asked for.
        asked: u64,
        /// The length.
        length: u64,
    },
    /// A named session was truncated, or its core was, so that the core cannot take its blocks over.
    #[error("a session at fork {session} cannot be committed to a core at fork {core}")]
    Fork {
        /// Fork of the session.
        session: u64,
        /// Fork of the core.
        core: u64,
    },
    /// The key pair or the signature that was given is not that of a signer.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The signature that was given, or the only one that the key pair can give, does not satisfy the manifest.
    #[error("the signature does not satisfy the manifest: {0}")]
    Signature(VerifyError),
    /// Key, manifest and key pair that were given together do not belong together.
    #[error("key {key} does not belong to the given manifest or key pair")]
    KeyMismatch {
        /// The key.
        key: CoreKey,
    },
    /// Neither key, name, key pair nor manifest says which core is meant.
    #[error("no core was named")]
    NoCore,
    /// The core is not stored here, and was not to be made.
    #[error("the core is not stored here")]
    Unknown,
    /// The core, or the store, has another group, manifest or primary key already.
    #[error("the store holds another {0}")]
    Conflict(&'static str),
    /// A manifest cannot be made.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A value is too large to be stored.
    #[error(transparent)]
    Encode(#[from] EncodeError),

    // Something is not here.
    /// The block, or a tree node that was needed, is not stored here.
    #[error("block {0} is not here")]
    Unavailable(Index),
    /// It did not come in time.
    #[error("block {0} did not arrive in time")]
    Timeout(Index),
    /// The block was cut off by a truncation.
    #[error("block {0} was truncated")]
    Truncated(Index),
    /// The block cannot be decrypted.
    #[error(transparent)]
    Cipher(#[from] CipherError),

    // A peer misbehaved.
    /// A proof is refused.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// A request cannot be answered.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Two signatures of the owner contradict each other. The core is closed for good.
    #[error("two conflicting signatures exist for length {length} at fork {fork}")]
    Signatures {
        /// The length.
        length: Length,
        /// The fork.
        fork: u64,
    },

    // The disk, or we ourselves.
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tree could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A stored record is damaged.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl fmt::Debug for CoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl CoreError {
    /// True when a peer misbehaved.
    #[must_use]
    pub const fn blames_peer(&self) -> bool {
        match self {
            Self::Proof(error) => error.blames_peer(),
            Self::Request(error) => !matches!(error, RequestError::Tree(_)),
            Self::Signatures { .. } => true,
            _ => false,
        }
    }
}

impl From<TreeError> for CoreError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Missing(node) => Self::Unavailable(Index(super::flat_tree::first_block(node))),
            TreeError::Beyond { asked, length } => Self::Beyond { asked, length },
            TreeError::Read(error) => Self::Read(error),
        }
    }
}

/// Records of our own that do not decode are damage.
impl From<DecodeError> for CoreError {
    fn from(error: DecodeError) -> Self {
        Self::Record(RecordError::Malformed(error))
    }
}
