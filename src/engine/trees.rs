//! The two trees that an engine writes: the user's view, and the membership as other peers read it.
//!
//! Source: spec/autobee.md 3.1, 7.1. Each flush of apply is one batch of the view; each applied batch is one batch of
//! the system tree, whose info record names the head of the view behind it.

use crate::apply::LocalTree;
use crate::bee::{BeeError, MemoryBlocks, Settings};
use crate::crypto::{CoreKey, hash};
use crate::wire::Index;

/// Memory for blocks and nodes of the system tree, in bytes each. The engine reads records from memory of its own: all
/// that this serves is the path that the next write takes.
const SYSTEM_CACHE_BYTES_MAX: usize = 1 << 20;

/// The trees that an engine writes.
#[derive(Debug, Clone)]
pub struct Trees {
    /// The user's view.
    pub view: LocalTree,
    /// The records of writers, and the info record.
    pub system: LocalTree,
}

impl Trees {
    /// Trees whose cores have these keys. The caches of the view take up to `cache_bytes_max` together.
    ///
    /// # Errors
    ///
    /// None: the settings are those of the original.
    pub fn new(view: CoreKey, system: CoreKey, cache_bytes_max: usize) -> Result<Self, BeeError> {
        let bounded = |bytes| Settings {
            block_cache_bytes_max: bytes,
            node_cache_bytes_max: bytes,
            ..Settings::default()
        };
        Ok(Self {
            view: LocalTree::new(view, bounded(cache_bytes_max / 2), MemoryBlocks::new())?,
            system: LocalTree::new(system, bounded(SYSTEM_CACHE_BYTES_MAX), MemoryBlocks::new())?,
        })
    }

    /// Trees in cores that nobody else sees, so that any keys will do: they are derived from the local writer's.
    ///
    /// # Errors
    ///
    /// As [`Trees::new`].
    pub fn unshared(local: &CoreKey, cache_bytes_max: usize) -> Result<Self, BeeError> {
        let key = |name: &[u8]| CoreKey::new(*hash(&[name, local.as_bytes()]).as_bytes());
        Self::new(key(b"view"), key(b"system"), cache_bytes_max)
    }
}

/// A block that apply needs and that is not on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MissingBlock {
    /// The core.
    pub core: CoreKey,
    /// The block.
    pub index: Index,
}
