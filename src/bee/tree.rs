//! One version of a tree: reads, and moves to other versions.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::crypto::CoreKey;
use crate::wire::{Index, Length, Link};

use super::batch::{BatchOptions, TreeBatch, WrittenBatch};
use super::changes::{History, TreeChanges};
use super::diff::{Diff, Sameness};
use super::error::{BeeError, BlockFault};
use super::family::{Bee, DEPTH_MAX, FamilyReader};
use super::node::{BeeNode, KeyAt, KidAt};
use super::place::ElementPlace;
use super::range::Range;
use super::source::Blocks;
use super::walk::{Walk, WalkStep};

/// A key, its value, and where the record of the two is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// The key.
    pub key: Bytes,
    /// The value. A record made by others may have none, which differs from an empty one.
    pub value: Option<Bytes>,
    /// The core that the record was written to.
    pub core: CoreKey,
    /// The block of that core.
    pub seq: Index,
    /// The record's position in that block.
    pub offset: u32,
}

/// A view of a tree: a root that can be read and moved. Cloning is cheap and gives an independent view.
///
/// ```
/// use autobee::bee::{BatchOptions, Bee, MemoryBlocks, Range, BeeSettings};
/// use autobee::crypto::CoreKey;
/// use autobee::wire::{Length, Link};
///
/// let local = CoreKey::new([7; 32]);
/// let blocks = MemoryBlocks::new();
/// let bee = Bee::new(BeeSettings::default())?;
/// let mut tree = bee.tree(Link { key: local, length: Length::ZERO });
///
/// let mut batch = tree.batch(&local, blocks.length(&local), BatchOptions::default());
/// batch.put(&blocks, b"b", b"2")?;
/// batch.put(&blocks, b"a", b"1")?;
/// let written = batch.finish(&blocks)?;
/// blocks.append(local, written.blocks().iter().cloned());
/// tree.commit(written);
///
/// assert_eq!(tree.get(&blocks, b"a")?.and_then(|entry| entry.value), Some("1".into()));
/// let mut entries = tree.range(Range::all());
/// let mut keys = Vec::new();
/// while let Some(entry) = entries.next(&blocks)? {
///     keys.push(entry.key);
/// }
/// assert_eq!(keys, ["a", "b"]);
/// # Ok::<(), autobee::bee::BeeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Tree {
    bee: Bee,
    /// What "the newest" means, and where new nodes say they come from. Not always the core of the root.
    selected: CoreKey,
    root: Option<ElementPlace>,
    node: OnceLock<Arc<BeeNode>>,
}

impl Tree {
    pub(super) fn new(bee: Bee, head: Link) -> Self {
        let mut tree = Self {
            bee,
            selected: head.key,
            root: None,
            node: OnceLock::new(),
        };
        tree.move_to(head);
        tree
    }

    // Where it is.

    /// The version: its core and length. Of an empty tree, the selected core and length 0.
    #[must_use]
    pub fn head(&self) -> Link {
        self.root.map_or(
            Link {
                key: self.selected,
                length: Length::ZERO,
            },
            |root| Link {
                key: self.bee.core_key(root.core),
                length: Index(root.seq).end(),
            },
        )
    }

    /// The core that the tree was last moved to. A batch moves the root to the local core, but not this.
    #[must_use]
    pub const fn selected(&self) -> CoreKey {
        self.selected
    }

    /// The family that it belongs to.
    #[must_use]
    pub const fn bee(&self) -> &Bee {
        &self.bee
    }

    // Other versions.

    /// Moves to another version and selects its core. Nothing is read.
    pub fn move_to(&mut self, head: Link) {
        self.selected = head.key;
        self.set_root(head);
    }

    /// Another view, at another version.
    #[must_use]
    pub fn checkout(&self, head: Link) -> Self {
        Self::new(self.bee.clone(), head)
    }

    /// Follows another view of the family: same version, but the selected core stays.
    pub fn follow(&mut self, other: &Self) {
        if self.bee.is(&other.bee) {
            self.root = other.root;
            self.node = other.node.clone();
        } else {
            self.set_root(other.head());
        }
    }

    /// Steps back over `count` batches, along the chain of versions from the root, across cores. Ends at the empty
    /// tree.
    ///
    /// # Errors
    ///
    /// When a block of the chain is missing or corrupt. The view stays where it was.
    pub fn undo(&mut self, blocks: &dyn Blocks, count: u64) -> Result<(), BeeError> {
        let mut history = self.history();
        for _ in 0..count {
            if history.next(blocks)?.is_none() {
                break;
            }
        }
        match (history.at(), history.passed()) {
            (Some(head), _) => self.move_to(head),
            (None, Some(first)) => self.move_to(Link {
                key: first.key,
                length: Length::ZERO,
            }),
            (None, None) => {}
        }
        Ok(())
    }

    /// The versions before this one, newest first, beginning with this one.
    #[must_use]
    pub fn history(&self) -> History {
        History::new(self.bee.clone(), self.head())
    }

    /// The batches that led to this version, newest first.
    #[must_use]
    pub fn changes(&self) -> TreeChanges {
        TreeChanges::new(self.history())
    }

    /// Other cores that the selected one lists when it has `length` blocks, itself first.
    ///
    /// # Errors
    ///
    /// When a block is missing or corrupt.
    pub fn cores(&self, blocks: &dyn Blocks, length: Length) -> Result<Vec<CoreKey>, BeeError> {
        let reader = self.reader(blocks);
        let core = self.bee.core_id(&self.selected);
        let mut keys = vec![self.selected];
        let Some(last) = length.last() else {
            return Ok(keys);
        };
        let checkpoint = reader.block(core, last.0)?.checkpoint;
        if let Some(seq) = checkpoint.checked_sub(1) {
            let block = reader.block(core, seq)?;
            keys.extend(block.metadata.iter().flatten().map(|record| record.key));
        }
        Ok(keys)
    }

    // Reads.

    /// The entry of a key.
    ///
    /// # Errors
    ///
    /// When a block is missing or corrupt.
    pub fn get(&self, blocks: &dyn Blocks, key: &[u8]) -> Result<Option<TreeEntry>, BeeError> {
        let reader = self.reader(blocks);
        let Some(mut at) = self.root else { return Ok(None) };
        let mut below: Arc<BeeNode>;
        let mut node: &BeeNode = self.root_node(&reader, at)?;
        for _ in 0..DEPTH_MAX {
            let slot = match reader.search(node, key)? {
                Ok(position) => match node.keys[position].at {
                    KeyAt::Stored(place) => return reader.entry(place).map(Some),
                    KeyAt::Fresh(_) => return Ok(None),
                },
                Err(position) => node.kids.get(position),
            };
            let Some(slot) = slot else { return Ok(None) };
            let KidAt::Stored(place) = slot.at else {
                return Ok(None);
            };
            at = place;
            below = reader.kid(slot, place)?;
            node = &below;
        }
        Err(reader.corrupt_at(at, BlockFault::TooDeep(DEPTH_MAX)))
    }

    /// The first entry of a range, in its direction.
    ///
    /// # Errors
    ///
    /// When a block is missing or corrupt.
    pub fn peek(&self, blocks: &dyn Blocks, range: Range) -> Result<Option<TreeEntry>, BeeError> {
        self.range(range.limit(1)).next(blocks)
    }

    /// The entries of a range, of this version whatever happens to the view.
    #[must_use]
    pub fn range(&self, range: Range) -> Entries {
        Entries {
            left: range.limit_count(),
            walk: Walk::new(self.root, range),
            bee: self.bee.clone(),
        }
    }

    /// What is different in `other`, within a range.
    #[must_use]
    pub fn diff(&self, other: &Self, range: Range, sameness: Sameness) -> Diff {
        // Places can be compared only within one family.
        let right = self.bee.place(other.head());
        Diff::new(&self.bee, self.root, right, range, sameness)
    }

    // Writes.

    /// Begins a batch on this version. `local` is the core that the blocks will be appended to, and `length` its
    /// length then.
    #[must_use]
    pub fn batch(&self, local: &CoreKey, length: Length, options: BatchOptions) -> TreeBatch {
        TreeBatch::new(self, local, length, options)
    }

    /// Moves to what a batch wrote, once its blocks are appended.
    pub fn commit(&mut self, written: WrittenBatch) {
        let head = written.head();
        if written.is_of(&self.bee) {
            let (root, node) = written.into_cache();
            self.root = root;
            self.node = node.map_or_else(OnceLock::new, OnceLock::from);
        } else {
            self.root = head.and_then(|head| self.bee.place(head));
            self.node = OnceLock::new();
        }
    }

    /// The number of keys of each node, level by level from the root.
    ///
    /// # Errors
    ///
    /// When a block is missing or corrupt.
    pub fn shape(&self, blocks: &dyn Blocks) -> Result<Vec<Vec<usize>>, BeeError> {
        let reader = self.reader(blocks);
        let mut seen = BTreeSet::new();
        let mut levels = Vec::new();
        let mut level: Vec<ElementPlace> = self.root.into_iter().collect();
        while let Some(first) = level.first() {
            if levels.len() >= DEPTH_MAX {
                return Err(reader.corrupt_at(*first, BlockFault::TooDeep(DEPTH_MAX)));
            }
            let mut counts = Vec::new();
            let mut below = Vec::new();
            for place in level {
                if !seen.insert(place) {
                    return Err(reader.corrupt_at(place, BlockFault::KeyOrder));
                }
                let node = reader.node(place)?;
                counts.push(node.keys.len());
                below.extend(node.kids.iter().filter_map(|slot| match slot.at {
                    KidAt::Stored(place) => Some(place),
                    KidAt::Working(_) => None,
                }));
            }
            levels.push(counts);
            level = below;
        }
        Ok(levels)
    }

    pub(super) const fn root(&self) -> Option<ElementPlace> {
        self.root
    }

    /// The root node, when it was read before.
    pub(super) fn root_cached(&self) -> Option<&Arc<BeeNode>> {
        self.node.get()
    }

    fn reader<'a>(&'a self, blocks: &'a dyn Blocks) -> FamilyReader<'a> {
        FamilyReader {
            bee: &self.bee,
            blocks,
        }
    }

    fn root_node(&self, reader: &FamilyReader<'_>, place: ElementPlace) -> Result<&Arc<BeeNode>, BeeError> {
        if let Some(node) = self.node.get() {
            return Ok(node);
        }
        let node = reader.node(place)?;
        Ok(self.node.get_or_init(|| node))
    }

    fn set_root(&mut self, head: Link) {
        self.root = self.bee.place(head);
        self.node = OnceLock::new();
    }
}

impl FamilyReader<'_> {
    /// The entry whose key record is at `place`.
    pub(super) fn entry(&self, place: ElementPlace) -> Result<TreeEntry, BeeError> {
        let block = self.block(place.core, place.seq)?;
        let record = self.record(&block, place)?;
        Ok(TreeEntry {
            key: record.key.clone(),
            value: self.value(&block, place, record)?,
            core: block.core,
            seq: Index(place.seq),
            offset: place.offset,
        })
    }
}

/// The entries of a range, one after the other.
#[derive(Debug, Clone)]
pub struct Entries {
    bee: Bee,
    walk: Walk,
    left: Option<u64>,
}

impl Entries {
    /// The next entry.
    ///
    /// # Errors
    ///
    /// When a block is missing or corrupt. The same entry is tried again by the next call.
    pub fn next(&mut self, blocks: &dyn Blocks) -> Result<Option<TreeEntry>, BeeError> {
        if self.left == Some(0) {
            return Ok(None);
        }
        let reader = FamilyReader {
            bee: &self.bee,
            blocks,
        };
        let next = advance(&mut self.walk, &reader)
            .inspect_err(|error| self.walk.want_ahead(&reader, error, self.left))?;
        if next.is_some() {
            self.left = self.left.map(|left| left - 1);
        }
        Ok(next)
    }

    /// All entries that are left, as an iterator. It ends after the first error.
    pub fn iter<'a>(
        &'a mut self,
        blocks: &'a dyn Blocks,
    ) -> impl Iterator<Item = Result<TreeEntry, BeeError>> + 'a {
        let mut failed = false;
        std::iter::from_fn(move || {
            if failed {
                return None;
            }
            let next = self.next(blocks).transpose();
            failed = matches!(next, Some(Err(_)));
            next
        })
    }
}

/// The next entry of a walk.
fn advance(walk: &mut Walk, reader: &FamilyReader<'_>) -> Result<Option<TreeEntry>, BeeError> {
    loop {
        match walk.peek(reader)? {
            WalkStep::Subtree(_) => walk.enter(reader)?,
            WalkStep::Key(place, text) => {
                let entry = reader.entry(place)?;
                walk.pass(text);
                return Ok(Some(entry));
            }
            WalkStep::End => return Ok(None),
        }
    }
}
