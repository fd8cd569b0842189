//! What can go wrong with a tree, and who is to blame.

use thiserror::Error;

use crate::crypto::CoreKey;
use crate::hypercore::encryption::CipherError;
use crate::wire::{DecodeError, EncodeError, Index};

/// An operation on a tree failed. The tree and an open batch are as they were before it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BeeError {
    /// A block is not on this machine. Nobody is to blame: run the operation again once the block is here.
    #[error("block {index} of core {core} is not here")]
    Unavailable {
        /// The core.
        core: CoreKey,
        /// The block.
        index: Index,
    },
    /// The store of the core was closed.
    #[error("core {core} is closed")]
    Closed {
        /// The core.
        core: CoreKey,
    },
    /// The disk, or whatever stands behind [`super::Blocks`], failed.
    #[error("block {index} of core {core} cannot be read: {message}")]
    Source {
        /// The core.
        core: CoreKey,
        /// The block.
        index: Index,
        /// What the source said.
        message: String,
    },
    /// The writer of the core, or the disk, produced a block that makes no sense.
    #[error("block {seq} of core {core} is corrupt: {what}")]
    Corrupt {
        /// The core.
        core: CoreKey,
        /// The block.
        seq: Index,
        /// What is wrong with it.
        what: BlockFault,
    },
    /// The block is well formed but uses a part of the format that nobody can read.
    #[error("block {seq} of core {core} is not supported: {what}")]
    Unsupported {
        /// The core.
        core: CoreKey,
        /// The block.
        seq: Index,
        /// What it uses.
        what: &'static str,
    },
    /// The caller asked for something that the format cannot hold.
    #[error("cannot be stored: {0}")]
    Encode(#[from] EncodeError),
    /// The caller's settings make no sense.
    #[error("invalid setting: {0}")]
    Setting(&'static str),
}

/// The fault of a corrupt block.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BlockFault {
    /// The bytes are no block.
    #[error("{0}")]
    Encoding(#[from] DecodeError),
    /// The stored bytes are not what the cipher of the core makes.
    #[error("{0}")]
    Cipher(CipherError),
    /// The disk gives other bytes than were written.
    #[error("{0}")]
    Damaged(String),
    /// A core number beyond the list of the block's checkpoint.
    #[error("core number {number} of {listed}")]
    CoreNumber {
        /// The number.
        number: u64,
        /// How many cores are listed.
        listed: usize,
    },
    /// A pointer to a list position that is not there.
    #[error("no {what} at offset {offset}")]
    Dangling {
        /// What should be there.
        what: &'static str,
        /// The position.
        offset: u64,
    },
    /// A cohort edit without a pointer.
    #[error("cohort edit without a pointer")]
    CohortWithoutPointer,
    /// A log that leaves a placeholder in a list.
    #[error("placeholder left in a list")]
    Placeholder,
    /// A node whose lists do not fit each other.
    #[error("node of {keys} keys and {children} children")]
    ChildCount {
        /// Its keys.
        keys: usize,
        /// Its children.
        children: usize,
    },
    /// A list that grew beyond what a node can hold, or a log that takes too many steps.
    #[error("node log beyond all bounds")]
    LogTooLong,
    /// More levels than any tree has: the child pointers form a cycle.
    #[error("tree deeper than {0} levels")]
    TooDeep(usize),
    /// Keys that do not ascend: a cycle in the child pointers, or a node in the wrong place.
    #[error("keys out of order")]
    KeyOrder,
    /// A batch that claims to begin before its core.
    #[error("batch begins {start} blocks before the block")]
    BatchStart {
        /// The claim.
        start: u64,
    },
    /// A chain of versions that comes back to where it was.
    #[error("previous version does not lie before the block")]
    Previous,
    /// A record that names a version beyond the end of a core.
    #[error("it names the version at {0}, which its core does not reach")]
    Beyond(u64),
    /// A degree for which nothing can be written.
    #[error("degree {0}")]
    Degree(u64),
}
