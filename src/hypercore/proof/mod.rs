//! Proofs: what one peer sends so that another can check blocks and lengths against a signature.
//!
//! A [`Request`] asks for a block, a tree node, a byte offset, a longer length, or several of these at once;
//! [`ProofSource::prove`] answers it with a [`Proof`]; [`ProofReceiver::check`] verifies one and says what to store. A proof
//! of another fork goes through [`Reorg`]. All of it is pure: nothing is stored here, and a proof that fails leaves
//! no trace.
//!
//! Every failure says who is to blame, see [`ProofError::blames_peer`].
//!
//! Source: spec/hypercore.md 7 (`hypercore/lib/merkle-tree.js`).

mod check;
mod make;
mod message;
mod reorg;
mod standalone;

use bytes::Bytes;
use thiserror::Error;

pub use check::{Accepted, Head, ProofReceiver};
pub use make::ProofSource;
pub use message::{DataMessage, RequestMessage};
pub use reorg::{Reorg, Rewound, WantedProofs};
pub use standalone::{Shown, Standalone};

use super::manifest::{Manifest, VerifyError};
use super::merkle::{Node, ReadError, TreeError};

#[cfg(test)]
mod tests;

/// A request for a proof. An empty one is valid and gives an empty proof.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Request {
    /// A block.
    pub block: Option<BlockRequest>,
    /// A tree node. Not looked at when a block is wanted.
    pub hash: Option<HashRequest>,
    /// A byte offset.
    pub seek: Option<SeekRequest>,
    /// More length.
    pub upgrade: Option<UpgradeRequest>,
}

/// Asks for a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRequest {
    /// Which block.
    pub index: u64,
    /// How many levels to climb from its leaf to a node that the asker has.
    pub nodes: u64,
}

/// Asks for a tree node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashRequest {
    /// Number of the node.
    pub index: u64,
    /// How many levels to climb from it to a node that the asker has.
    pub nodes: u64,
}

/// Asks where a byte offset lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeekRequest {
    /// Offset, without padding.
    pub bytes: u64,
    /// Bytes of each block that do not count.
    pub padding: u64,
}

/// Asks for more length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpgradeRequest {
    /// Length that the asker has.
    pub start: u64,
    /// How many blocks more.
    pub length: u64,
}

/// A proof: what a peer says, to be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The fork that it is about.
    pub fork: u64,
    /// A block.
    pub block: Option<BlockProof>,
    /// A tree node. Not looked at when there is a block.
    pub hash: Option<HashProof>,
    /// The node of a byte offset.
    pub seek: Option<SeekProof>,
    /// More length.
    pub upgrade: Option<UpgradeProof>,
    /// The manifest of the core.
    pub manifest: Option<Manifest>,
}

/// A block, and the siblings on the way to a known node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockProof {
    /// Which block.
    pub index: u64,
    /// The block as stored.
    pub value: Bytes,
    /// Siblings, from the leaf up.
    pub nodes: Vec<Node>,
}

/// A node, and the siblings on the way to a known one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashProof {
    /// Number of the node.
    pub index: u64,
    /// The node itself, then siblings, from there up.
    pub nodes: Vec<Node>,
}

/// The node of a byte offset, and the siblings on the way to a node of the rest of the proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeekProof {
    /// The offset that was asked for.
    pub bytes: u64,
    /// The node, then siblings, from there up.
    pub nodes: Vec<Node>,
}

/// The roots that make a log longer, and the signature of its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeProof {
    /// From this length.
    pub start: u64,
    /// By this many blocks.
    pub length: u64,
    /// Subtrees of these blocks, left to right, but for the one that the rest of the proof gives.
    pub nodes: Vec<Node>,
    /// Subtrees of the blocks after, up to the length that is signed.
    pub additional_nodes: Vec<Node>,
    /// The signature over the length with the additional nodes.
    pub signature: Option<Bytes>,
}

impl Proof {
    /// A proof of nothing.
    #[must_use]
    pub const fn empty(fork: u64) -> Self {
        Self {
            fork,
            block: None,
            hash: None,
            seek: None,
            upgrade: None,
            manifest: None,
        }
    }
}

/// A request cannot be answered. To blame: the peer that asked, but for [`RequestError::Tree`], which says that we
/// do not have what it asks for.
#[derive(Debug, Clone, Error)]
pub enum RequestError {
    /// The upgrade is empty or longer than the log.
    #[error("invalid upgrade of a log of length {length}")]
    Upgrade {
        /// Our length.
        length: u64,
    },
    /// The byte offset lies outside of the requested subtree, or is combined with a new block.
    #[error("invalid seek")]
    Seek,
    /// The block or node lies in no subtree of the requested upgrade.
    #[error("invalid block request")]
    Block,
    /// The number of levels to climb leads out of the log.
    #[error("levels to climb are out of bounds")]
    OutOfBounds,
    /// A node that the answer needs is not stored, or could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// A proof is refused. Nothing was changed.
#[derive(Debug, Clone, Error)]
pub enum ProofError {
    /// A node is missing, or another one than expected comes next.
    #[error("expected tree node {expected}, found {}", found.map_or("none".to_owned(), |node| node.to_string()))]
    Order {
        /// The number of the node that has to come.
        expected: u64,
        /// The number of the node that came.
        found: Option<u64>,
    },
    /// An additional node does not start at the end of the log.
    #[error("additional tree node {node} does not follow a log of length {length}")]
    Additional {
        /// The node.
        node: u64,
        /// The length before it.
        length: u64,
    },
    /// The part does not lead to any node that is known here.
    #[error("tree node {0} is not known, so nothing below it can be checked")]
    Unrooted(u64),
    /// The part leads to a known node with another hash.
    #[error("the hash of tree node {0} differs from the known one")]
    Checksum(u64),
    /// An upgrade to a length whose roots are not those of the local log.
    #[error("upgrade to length {length} contradicts the local roots")]
    Roots {
        /// The length of the upgrade.
        length: u64,
    },
    /// An upgrade to nothing, or to more than a log can have.
    #[error("upgrade to {length} blocks of {bytes} bytes")]
    Size {
        /// Blocks.
        length: u64,
        /// Bytes.
        bytes: u64,
    },
    /// The first blocks are not those that the manifest fixes.
    #[error("the prologue of {length} blocks differs")]
    Prologue {
        /// Length of the prologue.
        length: u64,
    },
    /// The manifest does not belong to the key of the core.
    #[error("the manifest is not that of the core")]
    Manifest,
    /// The signature is missing, malformed, or not by the signers of the manifest.
    #[error("no valid signature over length {length} at fork {fork}")]
    Signature {
        /// Length that it would cover.
        length: u64,
        /// Fork that it would cover.
        fork: u64,
        /// What is wrong with it.
        #[source]
        reason: VerifyError,
    },
    /// A block or node that the proof of a new fork neither asked for nor needs.
    #[error("tree node {0} is no part of the new fork")]
    Unrequested(u64),
    /// The local store failed. Not the peer's fault.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl ProofError {
    /// True when the proof is wrong, false when our own disk is.
    #[must_use]
    pub const fn blames_peer(&self) -> bool {
        !matches!(self, Self::Read(_))
    }
}
