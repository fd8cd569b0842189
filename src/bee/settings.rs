//! The numbers that shape a tree and bound its memory.

use serde::{Deserialize, Serialize};

use super::error::BeeError;

/// Sizes and bounds of a family of trees. The first three decide the bytes that are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BeeSettings {
    /// Half of the most children of a node, 2 to 128. Only for batches that start from the empty tree: a tree keeps
    /// the degree that it was begun with.
    pub degree: u8,
    /// Largest value, in bytes, that is stored next to its key.
    pub value_inline_bytes_max: usize,
    /// A block of a batch is closed once it has about this many bytes, not counting inline values.
    pub block_bytes_preferred: usize,
    /// Memory for decoded blocks, in bytes.
    pub block_cache_bytes_max: usize,
    /// Memory for tree nodes, in bytes.
    pub node_cache_bytes_max: usize,
}

impl Default for BeeSettings {
    fn default() -> Self {
        Self {
            degree: 128,
            value_inline_bytes_max: 1024,
            block_bytes_preferred: 4096,
            block_cache_bytes_max: 32 << 20,
            node_cache_bytes_max: 32 << 20,
        }
    }
}

impl BeeSettings {
    pub(super) fn check(&self) -> Result<(), BeeError> {
        if !(2..=128).contains(&self.degree) {
            return Err(BeeError::Setting("degree is not from 2 to 128"));
        }
        Ok(())
    }
}
