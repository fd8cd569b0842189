//! Absolute positions: cores by a small number that holds for the whole family of trees.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use crate::crypto::CoreKey;

/// A core that some pointer named, as an index into [`NamedCores`] plus one. The zero that is left over keeps enums over
/// places as small as the place itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CoreId(NonZeroU32);

/// An element of a list of a block: a node, a key record, a value or a cohort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ElementPlace {
    /// The block.
    pub(super) seq: u64,
    /// The core of the block.
    pub(super) core: CoreId,
    /// Position in the list.
    pub(super) offset: u32,
}

/// All cores that pointers of this family have named. Grows only by cores that are really referred to.
#[derive(Debug, Default)]
pub(super) struct NamedCores {
    ids: BTreeMap<CoreKey, CoreId>,
    keys: Vec<CoreKey>,
}

impl NamedCores {
    pub(super) fn id(&mut self, key: &CoreKey) -> CoreId {
        if let Some(id) = self.ids.get(key) {
            return *id;
        }
        self.keys.push(*key);
        // Four thousand million keys of 32 bytes do not fit in memory: the count does not saturate in practice.
        let count = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        let id = CoreId(NonZeroU32::new(count).unwrap_or(NonZeroU32::MAX));
        self.ids.insert(*key, id);
        id
    }

    pub(super) fn key(&self, id: CoreId) -> CoreKey {
        let position = usize::try_from(id.0.get() - 1).unwrap_or(usize::MAX);
        self.keys[position]
    }
}
