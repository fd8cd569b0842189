//! What replication needs of a core: reading it, and storing what was verified.

use bytes::Bytes;

use crate::crypto::CoreKey;
use crate::hypercore::log::Log;
use crate::hypercore::manifest::Manifest;
use crate::hypercore::merkle::{Node, Nodes, ReadError};
use crate::hypercore::proof::{Accepted, Head, Rewound};
use crate::wire::Index;

/// A core as peers may see it.
///
/// An own core is to show only what is durable: a peer that has seen a signed length must never see another log of that
/// length. Everything is synchronous; a store that waits for its disk stages what is stored here, and answers reads from
/// what it staged.
pub trait Core {
    /// Where its tree nodes are read from.
    type Nodes: Nodes + ?Sized;

    /// Its key.
    fn key(&self) -> CoreKey;

    /// Its manifest, once known.
    fn manifest(&self) -> Option<&Manifest>;

    /// Its tree, with the signature.
    fn head(&self) -> &Head;

    /// Its tree nodes.
    fn nodes(&self) -> &Self::Nodes;

    /// Number of leading blocks that are here.
    fn contiguous_length(&self) -> u64;

    /// Whether a block is here.
    fn has(&self, index: u64) -> bool;

    /// A block as stored.
    ///
    /// # Errors
    ///
    /// When the store failed.
    fn block(&self, index: u64) -> Result<Option<Bytes>, ReadError>;

    /// Stores what a proof brought, in one step. Nothing was changed since the proof was checked.
    ///
    /// # Errors
    ///
    /// When the store failed.
    fn accept(&mut self, accepted: Accepted) -> Result<(), ReadError>;

    /// Moves to another fork, in one step. False, and nothing done, when the log changed since the move began.
    ///
    /// # Errors
    ///
    /// When the store failed.
    fn rewind(&mut self, rewound: Rewound) -> Result<bool, ReadError>;

    /// The first block from `from` on that is not here; `end` when there is none below it.
    fn first_missing(&self, from: u64, end: u64) -> u64 {
        (from..end).find(|index| !self.has(*index)).unwrap_or(end)
    }

    /// Which of the 32 blocks from `start` on are here, the first one in the lowest bit.
    fn word(&self, start: u64) -> u32 {
        (0..32).fold(0, |word, bit| word | u32::from(self.has(start + bit)) << bit)
    }
}

impl Core for Log {
    type Nodes = std::collections::BTreeMap<u64, Node>;

    fn key(&self) -> CoreKey {
        self.key()
    }

    fn manifest(&self) -> Option<&Manifest> {
        self.manifest()
    }

    fn head(&self) -> &Head {
        self.head()
    }

    fn nodes(&self) -> &Self::Nodes {
        self.nodes()
    }

    fn contiguous_length(&self) -> u64 {
        self.contiguous_length().0
    }

    fn has(&self, index: u64) -> bool {
        self.get(Index(index)).is_some()
    }

    fn block(&self, index: u64) -> Result<Option<Bytes>, ReadError> {
        Ok(self.get(Index(index)).cloned())
    }

    fn accept(&mut self, accepted: Accepted) -> Result<(), ReadError> {
        self.store(accepted);
        Ok(())
    }

    fn rewind(&mut self, rewound: Rewound) -> Result<bool, ReadError> {
        Ok(self.rewind(rewound))
    }
}
