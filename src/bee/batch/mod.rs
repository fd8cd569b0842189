//! Writing: a batch of operations becomes blocks (spec/hyperbee.md 6 and 7).
//!
//! A batch works on copies of the nodes that it changes and touches nothing else. Its blocks are handed out, not
//! appended: only once they are in the core does [`super::Tree::commit`] move the tree. A batch that is dropped, or
//! whose append fails, has never happened.
//!
//! The bytes are those of the original for the same operations. That needs care with *when* a pointer is looked at:
//! an edit that mentions a stored node or key keeps the place that this had at the time; one that mentions a
//! key record of the batch gets the final place; one that mentions a rewritten node gets the place of the old
//! version, and a second edit made at the end gets the new one.

mod edit;
mod emit;
mod rebalance;
mod written;

use std::sync::Arc;

use bytes::Bytes;

use crate::crypto::CoreKey;
use crate::env::{Sights, Slip};
use crate::wire::{Length, Link};

use super::error::BeeError;
use super::family::{Bee, DEPTH_MAX, FamilyReader};
use super::node::{BeeNode, KeyAt, KidAt};
use super::place::{CoreId, ElementPlace};
use super::range::{Edge, Range};
use super::source::Blocks;
use super::tree::Tree;

pub use written::WrittenBatch;

/// Options of a batch. What is not given is taken from the settings of the family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchOptions {
    /// Build on this version instead of the one that the tree is at.
    pub on: Option<Link>,
    /// Largest value, in bytes, that is stored next to its key.
    pub value_inline_bytes_max: Option<usize>,
    /// A block is closed once it has about this many bytes, not counting inline values.
    pub block_bytes_preferred: Option<usize>,
}

/// Operations on a tree that become visible together. Reads see the writes before them.
///
/// An operation that fails because a block is missing has changed nothing and can be tried again once the block is
/// there. Only [`TreeBatch::delete_range`] keeps what it has deleted so far.
#[derive(Debug)]
pub struct TreeBatch {
    bee: Bee,
    local: CoreId,
    /// Length of the local core that the blocks are made for.
    length: u64,
    /// The core that new nodes say they come from until they have a place.
    selected: CoreId,
    /// The core of the version that the batch was begun on.
    base: CoreId,
    /// That version, which is where the view goes when nothing is written.
    unchanged: Option<ElementPlace>,
    /// What the last block will point back to: that version, unless the batch was cleared.
    previous: Option<ElementPlace>,
    root: KidAt,
    /// The root, when the tree has it in memory.
    root_node: Option<Arc<BeeNode>>,
    nodes: Vec<Working>,
    keys: Vec<FreshKey>,
    applied: u64,
    sights: Sights,
    value_inline_bytes_max: usize,
    block_bytes_preferred: usize,
}

/// A node of the batch.
#[derive(Debug)]
struct Working {
    node: BeeNode,
    /// The place of its pointer as long as it has no new one: of the stored version, or a placeholder.
    origin: ElementPlace,
}

/// A key record of the batch.
#[derive(Debug)]
struct FreshKey {
    key: Bytes,
    value: Bytes,
}

/// A key and its value, as a batch sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: Bytes,
    /// The value. A record made by others may have none, which differs from an empty one.
    pub value: Option<Bytes>,
}

impl TreeBatch {
    pub(super) fn new(tree: &Tree, local: &CoreKey, length: Length, options: BatchOptions) -> Self {
        let bee = tree.bee().clone();
        let version = options.on.unwrap_or_else(|| tree.head());
        let base = bee.core_id(&version.key);
        let previous = bee.place(version);
        let settings = bee.settings();
        let mut batch = Self {
            local: bee.core_id(local),
            length: length.0,
            selected: bee.core_id(&tree.selected()),
            base,
            unchanged: previous,
            previous,
            root: KidAt::Working(0),
            root_node: tree.root_cached().filter(|_| tree.root() == previous).cloned(),
            nodes: Vec::new(),
            keys: Vec::new(),
            applied: 0,
            sights: Sights::default(),
            value_inline_bytes_max: options
                .value_inline_bytes_max
                .unwrap_or(settings.value_inline_bytes_max),
            block_bytes_preferred: options
                .block_bytes_preferred
                .unwrap_or(settings.block_bytes_preferred),
            bee,
        };
        match previous {
            Some(place) => batch.root = KidAt::Stored(place),
            None => batch.clear(),
        }
        batch
    }

    // Writes.

    /// Sets the value of a key. False when it has exactly this value already.
    ///
    /// # Errors
    ///
    /// When a block is missing or corrupt.
    pub fn put(&mut self, blocks: &dyn Blocks, key: &[u8], value: &[u8]) -> Result<bool, BeeError> {
        let bee = self.bee.clone();
        let reader = FamilyReader { bee: &bee, blocks };
        let applied = self.put_key(&reader, key, value, false)?;
        self.applied += u64::from(applied);
        Ok(applied)
    }

    /// Sets the value of a key that is not there, or has another value for certain: the one it has is not read.
    ///
    /// # Errors
    ///
    /// When a block is missing or corrupt.
    pub fn put_other(&mut self, blocks: &dyn Blocks, key: &[u8], value: &[u8]) -> Result<(), BeeError> {
        let bee = self.bee.clone();
        let reader = FamilyReader { bee: &bee, blocks };
        self.put_key(&reader, key, value, true)?;
        self.applied += 1;
        Ok(())
    }

    /// Removes a key. False when there is none.
    ///
    /// # Errors
    ///
    /// When a block is missing or corrupt.
    pub fn delete(&mut self, blocks: &dyn Blocks, key: &[u8]) -> Result<bool, BeeError> {
        let bee = self.bee.clone();
        let reader = FamilyReader { bee: &bee, blocks };
        let applied = self.delete_key(&reader, key)?;
        self.applied += u64::from(applied && !bee.has(Slip::DeletionsAlone));
        Ok(applied)
    }

    /// Sets a key to `new`, or removes it if that is none, provided that it has the value `expected`; none stands for
    /// a key that is not there. False when it has another value, and then nothing is changed.
    ///
    /// # Errors
    ///
    /// When a block is missing or corrupt.
    pub fn compare_and_set(
        &mut self,
        blocks: &dyn Blocks,
        key: &[u8],
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool, BeeError> {
        let holds = match (self.get(blocks, key)?, expected) {
            (None, None) => true,
            (Some(pair), Some(expected)) => pair.value.as_deref() == Some(expected),
            _ => false,
        };
        if holds {
            match new {
                Some(value) => self.put(blocks, key, value)?,
                None => self.delete(blocks, key)?,
            };
        }
        Ok(holds)
    }

    /// Removes the keys of a range, in its direction and up to its limit. Tells how many.
    ///
    /// # Errors
    ///
    /// When a block is missing or corrupt. The keys removed so far stay removed: calling it again goes on.
    pub fn delete_range(&mut self, blocks: &dyn Blocks, range: &Range) -> Result<u64, BeeError> {
        let mut count = 0;
        while range.limit_count().is_none_or(|limit| count < limit) {
            let Some(pair) = self.peek(blocks, range)? else {
                break;
            };
            if !self.delete(blocks, &pair.key)? {
                // Only a tree whose keys are out of order hides a key that was just seen.
                break;
            }
            count += 1;
        }
        Ok(count)
    }

    /// Forgets what was done so far and goes on from the empty tree. The history of the tree ends here.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.keys.clear();
        self.applied = 0;
        self.previous = None;
        self.root_node = None;
        let degree = u64::from(self.bee.settings().degree);
        let origin = ElementPlace {
            core: self.base,
            seq: 0,
            offset: 0,
        };
        self.root = KidAt::Working(self.add(BeeNode::empty(degree), origin));
    }

    /// How many operations have changed something.
    #[must_use]
    pub const fn applied(&self) -> u64 {
        self.applied
    }

    // Reads.

    /// A key as it stands after the operations so far.
    ///
    /// # Errors
    ///
    /// When a block is missing or corrupt.
    pub fn get(&self, blocks: &dyn Blocks, key: &[u8]) -> Result<Option<Pair>, BeeError> {
        self.peek(blocks, &Range::key(key))
    }

    /// The first pair of a range, in its direction, as it stands after the operations so far. The limit of the range
    /// does not count.
    ///
    /// # Errors
    ///
    /// When a block is missing or corrupt.
    pub fn peek(&self, blocks: &dyn Blocks, range: &Range) -> Result<Option<Pair>, BeeError> {
        let reader = FamilyReader {
            bee: &self.bee,
            blocks,
        };
        let mut loaded = self.load_root(&reader)?;
        let mut nearest = None;
        for _ in 0..DEPTH_MAX {
            let node = self.view(&loaded);
            let (key, kid) = nearest_in(&reader, node, range)?;
            if let Some(position) = key {
                let slot = &node.keys[position];
                nearest = Some((slot.at, reader.text(node, slot)?.clone()));
            }
            let Some(kid) = kid.filter(|_| !node.is_leaf()) else {
                return self.pair(&reader, nearest.filter(|(_, text)| !range.is_past(text)));
            };
            loaded = self.load_kid(&reader, node, kid)?;
        }
        Err(self.too_deep(&reader))
    }

    /// The pairs of a range, in its direction and up to its limit, as they stand after the operations so far.
    ///
    /// # Errors
    ///
    /// When a block is missing or corrupt.
    pub fn range(&self, blocks: &dyn Blocks, range: &Range) -> Result<Vec<Pair>, BeeError> {
        let mut pairs = Vec::new();
        let mut rest = range.clone();
        while range
            .limit_count()
            .is_none_or(|limit| u64::try_from(pairs.len()).is_ok_and(|count| count < limit))
        {
            let Some(pair) = self.peek(blocks, &rest)? else {
                break;
            };
            rest = rest.after(&pair.key);
            pairs.push(pair);
        }
        Ok(pairs)
    }

    fn pair(
        &self,
        reader: &FamilyReader<'_>,
        found: Option<(KeyAt, Bytes)>,
    ) -> Result<Option<Pair>, BeeError> {
        let Some((at, key)) = found else { return Ok(None) };
        let value = self.value(reader, at)?;
        Ok(Some(Pair { key, value }))
    }

    /// The value of a key record of the batch or of a block.
    fn value(&self, reader: &FamilyReader<'_>, at: KeyAt) -> Result<Option<Bytes>, BeeError> {
        match at {
            KeyAt::Stored(place) => Ok(reader.entry(place)?.value),
            KeyAt::Fresh(id) => Ok(Some(self.keys[index(id)].value.clone())),
        }
    }

    /// The points that it passed since the last call; see [`Sights`].
    pub const fn take_sights(&mut self) -> Sights {
        self.sights.take()
    }

    fn add(&mut self, node: BeeNode, origin: ElementPlace) -> u32 {
        let id = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        self.nodes.push(Working { node, origin });
        id
    }
}

/// The key of a node that is nearest to the start of a range, and the child that may hold a nearer one.
fn nearest_in(
    reader: &FamilyReader<'_>,
    node: &BeeNode,
    range: &Range,
) -> Result<(Option<usize>, Option<usize>), BeeError> {
    let reverse = range.is_reverse();
    let position = match range.near() {
        None if reverse => node.keys.len(),
        None => 0,
        Some(Edge { key, inclusive }) => match reader.search(node, key)? {
            Ok(hit) if inclusive => return Ok((Some(hit), None)),
            Ok(hit) if reverse => hit,
            Ok(hit) => hit + 1,
            Err(position) => position,
        },
    };
    let key = if reverse {
        position.checked_sub(1)
    } else {
        Some(position).filter(|position| *position < node.keys.len())
    };
    Ok((key, Some(position)))
}

/// Positions in the lists of a batch are counted in 32 bits.
fn index(id: u32) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}
