//! A batch that has become blocks and waits to be appended.

use std::sync::Arc;

use bytes::Bytes;

use crate::wire::{Index, Length, Link};

use super::super::family::Bee;
use super::super::node::{BeeNode, KeyAt, KidAt};
use super::super::numbers::Numbers;
use super::super::place::{CoreId, ElementPlace};
use super::index;

/// The blocks of a batch, and what a tree needs to know once they are appended.
///
/// All of them must be appended in one step, and only if the local core still has the length that the batch was made
/// for: their pointers say where they stand.
#[derive(Debug)]
pub struct WrittenBatch {
    bee: Bee,
    local: CoreId,
    start: u64,
    blocks: Vec<Bytes>,
    applied: u64,
    root: Option<ElementPlace>,
    /// Children before their parents.
    nodes: Vec<WrittenNode>,
    /// The places of the key records of the batch.
    keys: Vec<Option<ElementPlace>>,
    numbers: Option<Numbers>,
}

/// A node that has got its place.
#[derive(Debug)]
pub(super) struct WrittenNode {
    /// Its number in the batch.
    pub(super) id: u32,
    pub(super) place: ElementPlace,
    pub(super) node: BeeNode,
}

impl WrittenBatch {
    /// A batch that changes nothing, of a view at `root`.
    pub(super) const fn nothing(bee: Bee, local: CoreId, start: u64, root: Option<ElementPlace>) -> Self {
        Self {
            bee,
            local,
            start,
            blocks: Vec::new(),
            applied: 0,
            root,
            nodes: Vec::new(),
            keys: Vec::new(),
            numbers: None,
        }
    }

    /// Adds what the batch has written. The root comes last.
    pub(super) fn with(
        mut self,
        blocks: Vec<Bytes>,
        applied: u64,
        nodes: Vec<WrittenNode>,
        keys: Vec<Option<ElementPlace>>,
        numbers: Numbers,
    ) -> Self {
        self.blocks = blocks;
        self.applied = applied;
        self.root = nodes.last().map(|root| root.place);
        self.nodes = nodes;
        self.keys = keys;
        self.numbers = Some(numbers);
        self
    }

    /// The blocks, in the order in which they must be appended. None when the batch changes nothing.
    #[must_use]
    pub fn blocks(&self) -> &[Bytes] {
        &self.blocks
    }

    /// The length that the local core must have before the append.
    #[must_use]
    pub const fn start(&self) -> Length {
        Length(self.start)
    }

    /// The version that the batch makes. None when that is the empty tree.
    #[must_use]
    pub fn head(&self) -> Option<Link> {
        self.root.map(|root| Link {
            key: self.bee.core_key(root.core),
            length: Index(root.seq).end(),
        })
    }

    /// How many operations have changed something.
    #[must_use]
    pub const fn applied(&self) -> u64 {
        self.applied
    }

    /// True when the batch was begun on a tree of this family.
    pub(in crate::bee) fn is_of(&self, bee: &Bee) -> bool {
        self.bee.is(bee)
    }

    /// Puts the nodes in the cache under their places. Gives the root.
    pub(in crate::bee) fn into_cache(self) -> (Option<ElementPlace>, Option<Arc<BeeNode>>) {
        let count = self.nodes.iter().map(|node| index(node.id) + 1).max();
        let mut kept: Vec<Option<(ElementPlace, Arc<BeeNode>)>> = vec![None; count.unwrap_or(0)];
        let mut root = None;
        for WrittenNode { id, place, mut node } in self.nodes {
            for slot in &mut node.keys {
                if let KeyAt::Fresh(key) = slot.at
                    && let Some(place) = self.keys[index(key)]
                {
                    slot.at = KeyAt::Stored(place);
                }
            }
            for slot in &mut node.kids {
                if let KidAt::Working(kid) = slot.at
                    && let Some((place, kid)) = &kept[index(kid)]
                {
                    slot.at = KidAt::Stored(*place);
                    slot.link(kid);
                }
            }
            let node = self.bee.keep(place, node);
            kept[index(id)] = Some((place, Arc::clone(&node)));
            root = Some(node);
        }
        if let Some(numbers) = self.numbers {
            self.bee.keep_numbers(self.local, Arc::new(numbers));
        }
        (self.root, root)
    }
}
