//! Where blocks come from.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;

use crate::crypto::CoreKey;
use crate::hypercore::encryption::CipherError;
use crate::wire::{Index, Length};

use super::error::{BeeError, BlockFault};

/// Blocks by core and index, already decrypted and without padding.
///
/// The tree never waits: a source that does not have a block says so at once, and whoever runs the operation fetches
/// the block and runs the operation again.
pub trait Blocks {
    /// One block.
    ///
    /// # Errors
    ///
    /// [`BlockError::Missing`] when the block is not on this machine.
    fn block(&self, core: &CoreKey, index: Index) -> Result<Bytes, BlockError>;

    /// A block that the operation will probably ask for soon, said only when another one is missing: whoever fetches
    /// that one may fetch this one too, and save a round trip. Doing nothing is right.
    fn want(&self, core: &CoreKey, index: Index) {
        let _ = (core, index);
    }
}

/// The reason why a source has no block to give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// It is not on this machine.
    #[error("block is not here")]
    Missing,
    /// What holds the core was closed.
    #[error("core is closed")]
    Closed,
    /// It is, but cannot be read.
    #[error("{0}")]
    Failed(String),
    /// It was, and the disk gives other bytes of it than were written.
    #[error("{0}")]
    Damaged(String),
    /// It is, but cannot be decrypted.
    #[error(transparent)]
    Cipher(#[from] CipherError),
}

impl BlockError {
    /// The tree's error for this block.
    pub(super) fn at(self, core: CoreKey, index: Index) -> BeeError {
        match self {
            Self::Missing => BeeError::Unavailable { core, index },
            Self::Closed => BeeError::Closed { core },
            Self::Failed(message) => BeeError::Source { core, index, message },
            Self::Damaged(what) => BeeError::Corrupt {
                core,
                seq: index,
                what: BlockFault::Damaged(what),
            },
            Self::Cipher(error @ CipherError::NoKey(_)) => BeeError::Source {
                core,
                index,
                message: error.to_string(),
            },
            Self::Cipher(error) => BeeError::Corrupt {
                core,
                seq: index,
                what: BlockFault::Cipher(error),
            },
        }
    }
}

impl<B: Blocks + ?Sized> Blocks for &B {
    fn block(&self, core: &CoreKey, index: Index) -> Result<Bytes, BlockError> {
        (**self).block(core, index)
    }

    fn want(&self, core: &CoreKey, index: Index) {
        (**self).want(core, index);
    }
}

impl<B: Blocks + ?Sized> Blocks for std::sync::Arc<B> {
    fn block(&self, core: &CoreKey, index: Index) -> Result<Bytes, BlockError> {
        (**self).block(core, index)
    }

    fn want(&self, core: &CoreKey, index: Index) {
        (**self).want(core, index);
    }
}

/// Cores in memory: for tests, examples and trees that nobody needs to keep.
#[derive(Debug, Default)]
pub struct MemoryBlocks {
    cores: RwLock<BTreeMap<CoreKey, Vec<Bytes>>>,
}

impl MemoryBlocks {
    /// No core has a block yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends blocks to a core, all at once.
    pub fn append(&self, core: CoreKey, blocks: impl IntoIterator<Item = Bytes>) {
        let mut cores = self.cores.write().unwrap_or_else(PoisonError::into_inner);
        cores.entry(core).or_default().extend(blocks);
    }

    /// How many blocks a core has.
    #[must_use]
    pub fn length(&self, core: &CoreKey) -> Length {
        let cores = self.cores.read().unwrap_or_else(PoisonError::into_inner);
        let count = cores.get(core).map_or(0, Vec::len);
        Length(u64::try_from(count).unwrap_or(u64::MAX))
    }
}

impl Blocks for MemoryBlocks {
    fn block(&self, core: &CoreKey, index: Index) -> Result<Bytes, BlockError> {
        let cores = self.cores.read().unwrap_or_else(PoisonError::into_inner);
        let blocks = cores.get(core).ok_or(BlockError::Missing)?;
        let index = usize::try_from(index.0).map_err(|_| BlockError::Missing)?;
        blocks.get(index).cloned().ok_or(BlockError::Missing)
    }
}
