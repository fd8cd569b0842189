//! The trees that this peer writes, and their versions.
//!
//! Every write makes a new version, in blocks that are appended to one local core; a version of the past stays what it
//! was. Undo and trials of other orders are other versions of the same tree, and cost nothing but their blocks.
//!
//! As in the original, the blocks of versions that lost stay in the core as gaps that nobody points to. Places are
//! never given twice, so nothing that was read before can come to mean something else.
//!
//! A tree does no I/O. Of one that is stored, new blocks wait in memory until whoever owns the store took them
//! ([`LocalTree::unsaved`]) and said so ([`LocalTree::saved`]); from then on they are read like any other block. A tree
//! in memory keeps its blocks itself, and those of a version go when the last [`TreeSnapshot`] of it and of what was
//! built on it goes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::bee::{
    BatchOptions, Bee, BeeError, BeeSettings, Block, BlockError, Blocks, Difference, Range, Sameness, Tree,
    TreeBatch,
};
use crate::crypto::CoreKey;
use crate::env::{Planted, Sights};
use crate::wire::{Index, Length, Link};

/// A tree that this peer writes: caches, the blocks of its own core, and the way to those of other cores. Cloning
/// gives another handle.
#[derive(Clone)]
pub struct LocalTree(Arc<LocalTreeInner>);

struct LocalTreeInner {
    bee: Bee,
    core: CoreKey,
    own: Mutex<OwnBlocks>,
    /// Where all other blocks come from.
    blocks: Arc<dyn Blocks + Send + Sync>,
    /// New blocks go to a store.
    is_stored: bool,
    /// Held from reading the length to the append.
    writing: Mutex<()>,
    sights: Mutex<Sights>,
}

impl LocalTreeInner {
    fn sights(&self) -> MutexGuard<'_, Sights> {
        self.sights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The local core, as far as it is in memory: what some version needs, or what is to be stored.
#[derive(Default)]
struct OwnBlocks {
    blocks: BTreeMap<u64, Bytes>,
    length: u64,
    /// Some version stands on a core of others, so that blocks may list cores.
    lists_cores: bool,
}

/// One version of a tree: it never changes. Cloning is cheap.
///
/// ```
/// use autobee::apply::{LocalTree, TreeSnapshot};
/// use autobee::bee::{MemoryBlocks, BeeSettings};
/// use autobee::crypto::CoreKey;
///
/// let tree = LocalTree::new(CoreKey::new([7; 32]), BeeSettings::default(), MemoryBlocks::new())?;
/// let empty = TreeSnapshot::empty(&tree);
/// let one = empty.write([("key".into(), Some("value".into()))])?;
/// assert_eq!(one.get(b"key")?, Some("value".into()));
/// assert_eq!(empty.get(b"key")?, None);
/// # Ok::<(), autobee::bee::BeeError>(())
/// ```
#[derive(Clone)]
pub struct TreeSnapshot(Arc<Version>);

struct Version {
    tree: LocalTree,
    head: Link,
    /// The blocks of the own core that this version added to its parent's, and that go with it: none when the tree is
    /// stored.
    first: u64,
    end: u64,
    parent: Option<TreeSnapshot>,
}

impl LocalTree {
    /// A tree in memory, written to `core`, which is empty. Blocks of other cores come from `others`.
    ///
    /// # Errors
    ///
    /// [`BeeError::Setting`] when the settings contradict the format.
    pub fn new(
        core: CoreKey,
        settings: BeeSettings,
        others: impl Blocks + Send + Sync + 'static,
    ) -> Result<Self, BeeError> {
        let end = Link {
            key: core,
            length: Length::ZERO,
        };
        Self::make(end, settings, Arc::new(others), false)
    }

    /// A tree in a store, written behind `end`, the core and its stored length. These blocks, and those of other
    /// cores, come from `blocks`.
    ///
    /// ```
    /// use autobee::apply::{LocalTree, TreeSnapshot};
    /// use autobee::bee::{MemoryBlocks, BeeSettings};
    /// use autobee::crypto::CoreKey;
    /// use autobee::wire::{Length, Link};
    /// use std::sync::Arc;
    ///
    /// let end = Link { key: CoreKey::new([7; 32]), length: Length::ZERO };
    /// let store = Arc::new(MemoryBlocks::new());
    /// let tree = LocalTree::stored(end, BeeSettings::default(), store.clone())?;
    /// let one = TreeSnapshot::empty(&tree).write([("key".into(), Some("value".into()))])?;
    ///
    /// store.append(tree.core(), tree.unsaved());
    /// tree.saved(tree.length());
    /// assert!(tree.unsaved().is_empty());
    /// assert_eq!(one.get(b"key")?, Some("value".into()));
    /// # Ok::<(), autobee::bee::BeeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`LocalTree::new`].
    pub fn stored(
        end: Link,
        settings: BeeSettings,
        blocks: impl Blocks + Send + Sync + 'static,
    ) -> Result<Self, BeeError> {
        Self::make(end, settings, Arc::new(blocks), true)
    }

    fn make(
        end: Link,
        settings: BeeSettings,
        blocks: Arc<dyn Blocks + Send + Sync>,
        is_stored: bool,
    ) -> Result<Self, BeeError> {
        let own = OwnBlocks {
            length: end.length.0,
            ..OwnBlocks::default()
        };
        Ok(Self(Arc::new(LocalTreeInner {
            bee: Bee::new(settings)?,
            core: end.key,
            own: Mutex::new(own),
            blocks,
            is_stored,
            writing: Mutex::new(()),
            sights: Mutex::default(),
        })))
    }

    // What it is.

    /// The core that is written.
    #[must_use]
    pub fn core(&self) -> CoreKey {
        self.0.core
    }

    /// The points that writing passed since the last call; see [`Sights`].
    #[must_use]
    pub fn take_sights(&self) -> Sights {
        self.0.sights().take()
    }

    /// Forgets blocks and nodes that can be read again. Changes no result.
    pub fn drop_caches(&self) {
        self.0.bee.drop_caches();
    }

    /// How many blocks were appended to it.
    #[must_use]
    pub fn length(&self) -> Length {
        Length(self.own().length)
    }

    /// How many of them are in memory, caches aside: those that some version still needs, or that are to be stored.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.own().blocks.len()
    }

    /// False for a version of its own that its core is too short for. Of versions in other cores it cannot tell.
    #[must_use]
    pub fn reaches(&self, head: Link) -> bool {
        head.key != self.core() || head.length <= self.length()
    }

    /// True when both are handles to one tree.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Has it make slips. Before anything is read.
    pub fn plant(&self, planted: Planted) {
        self.0.bee.plant(planted);
    }

    // Storing it.

    /// The blocks at the end of the core that are to be stored, in order. A tree in memory has none.
    #[must_use]
    pub fn unsaved(&self) -> Vec<Bytes> {
        if !self.0.is_stored {
            return Vec::new();
        }
        self.own().blocks.values().cloned().collect()
    }

    /// Takes note that the core has its blocks up to `length` in the store, from where they are read from now on.
    pub fn saved(&self, length: Length) {
        if self.0.is_stored {
            let mut own = self.own();
            own.blocks = own.blocks.split_off(&length.0);
        }
    }

    // Writing.

    /// Appends blocks. None when the core has another length.
    fn append(&self, start: Length, blocks: &[Bytes]) -> Option<()> {
        let mut own = self.own();
        if own.length != start.0 {
            return None;
        }
        for block in blocks {
            let index = own.length;
            own.blocks.insert(index, block.clone());
            own.length = index + 1;
        }
        Some(())
    }

    fn release(&self, first: u64, end: u64) {
        let mut own = self.own();
        for index in first..end {
            own.blocks.remove(&index);
        }
    }

    fn own(&self) -> MutexGuard<'_, OwnBlocks> {
        self.0.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Blocks for LocalTree {
    fn block(&self, core: &CoreKey, index: Index) -> Result<Bytes, BlockError> {
        if *core == self.0.core {
            // Not held while the store is asked.
            let kept = self.own().blocks.get(&index.0).cloned();
            if kept.is_some() || !self.0.is_stored {
                return kept.ok_or(BlockError::Missing);
            }
        }
        self.0.blocks.block(core, index)
    }

    fn want(&self, core: &CoreKey, index: Index) {
        self.0.blocks.want(core, index);
    }
}

impl TreeSnapshot {
    /// The version without keys, on which a tree is begun.
    #[must_use]
    pub fn empty(tree: &LocalTree) -> Self {
        let head = Link {
            key: tree.core(),
            length: Length::ZERO,
        };
        Self::at(tree, head)
    }

    /// A version that is stored, or that other peers wrote, in cores of theirs.
    #[must_use]
    pub fn at(tree: &LocalTree, head: Link) -> Self {
        tree.own().lists_cores |= head.key != tree.core();
        Self(Arc::new(Version {
            tree: tree.clone(),
            head,
            first: 0,
            end: 0,
            parent: None,
        }))
    }

    // What it is.

    /// The version: its core and length.
    #[must_use]
    pub fn head(&self) -> Link {
        self.0.head
    }

    /// The tree that it is a version of.
    #[must_use]
    pub fn tree(&self) -> &LocalTree {
        &self.0.tree
    }

    /// A cursor on this version, to be read with [`TreeSnapshot::tree`] as its blocks, while this snapshot lives.
    #[must_use]
    pub fn cursor(&self) -> Tree {
        self.tree().0.bee.tree(self.head())
    }

    // Reading.

    /// The value under `key`.
    ///
    /// # Errors
    ///
    /// When a block is missing or corrupt.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BeeError> {
        let entry = self.cursor().get(self.tree(), key)?;
        Ok(entry.and_then(|entry| entry.value))
    }

    /// The entries of a range that have a value, in its direction.
    ///
    /// # Errors
    ///
    /// As [`TreeSnapshot::get`].
    pub fn range(&self, range: Range) -> Result<Vec<(Bytes, Bytes)>, BeeError> {
        entries(&self.cursor(), self.tree(), range)
    }

    /// What has another value in `other`, a version of the same tree, within a range. Parts that both share are not
    /// read.
    ///
    /// # Errors
    ///
    /// As [`TreeSnapshot::get`].
    pub fn diff(&self, other: &Self, range: Range) -> Result<Vec<Difference>, BeeError> {
        let mut diff = self.cursor().diff(&other.cursor(), range, Sameness::Value);
        let mut found = Vec::new();
        while let Some(difference) = diff.next(self.tree())? {
            found.push(difference);
        }
        Ok(found)
    }

    /// The number of keys of each node, level by level from the root.
    ///
    /// # Errors
    ///
    /// As [`TreeSnapshot::get`].
    pub fn shape(&self) -> Result<Vec<Vec<usize>>, BeeError> {
        self.cursor().shape(self.tree())
    }

    /// The least number of keys that a node has which is not the root: at most it has twice as many, and one.
    #[must_use]
    pub fn keys_min(&self) -> usize {
        usize::from(self.tree().0.bee.settings().degree).saturating_sub(1)
    }

    // Writing.

    /// The version behind these puts and deletes, in order, as one batch. It is this one when they change nothing.
    ///
    /// # Errors
    ///
    /// When a block is missing or corrupt, or the format cannot hold what is written. Nothing is written then.
    pub fn write(&self, writes: impl IntoIterator<Item = (Bytes, Option<Bytes>)>) -> Result<Self, BeeError> {
        let writes: Vec<_> = writes.into_iter().collect();
        self.write_with(&mut self.cursor(), &writes)
    }

    /// As [`TreeSnapshot::write`], for puts of values that no key has yet: what keys have is not read.
    pub(crate) fn write_other(
        &self,
        writes: impl IntoIterator<Item = (Bytes, Option<Bytes>)>,
    ) -> Result<Self, BeeError> {
        self.write_batch(&mut self.cursor(), |batch, tree| {
            for (key, value) in writes {
                match value {
                    Some(value) => batch.put_other(tree, &key, &value)?,
                    None => _ = batch.delete(tree, &key)?,
                }
            }
            Ok(())
        })
    }

    /// As [`TreeSnapshot::write`], with a cursor that is on this version and moves to the new one.
    pub(super) fn write_with(
        &self,
        cursor: &mut Tree,
        writes: &[(Bytes, Option<Bytes>)],
    ) -> Result<Self, BeeError> {
        self.write_batch(cursor, |batch, tree| {
            for (key, value) in writes {
                match value {
                    Some(value) => batch.put(tree, key, value)?,
                    None => batch.delete(tree, key)?,
                };
            }
            Ok(())
        })
    }

    fn write_batch(
        &self,
        cursor: &mut Tree,
        write: impl FnOnce(&mut TreeBatch, &LocalTree) -> Result<(), BeeError>,
    ) -> Result<Self, BeeError> {
        let tree = self.tree();
        let shared = &tree.0;
        let _turn = shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let start = tree.length();
        let mut batch = cursor.batch(&shared.core, start, BatchOptions::default());
        write(&mut batch, tree)?;
        shared.sights().add(batch.take_sights());
        let written = batch.finish(tree)?;
        let end = tree.append(start, written.blocks()).map(|()| tree.length());
        // Nobody appends while it is our turn.
        let Some(end) = end.filter(|end| *end > start) else {
            return Ok(self.clone());
        };
        if shared.is_stored {
            cursor.commit(written);
            return Ok(Self::at(tree, cursor.head()));
        }
        // Later blocks of the core, of whatever version, resolve their core numbers with the newest list: it stays.
        let lists_cores = tree.own().lists_cores
            && Block::decode(&written.blocks()[0], Index(start.0))
                .is_ok_and(|block| block.metadata.is_some());
        cursor.commit(written);
        Ok(Self(Arc::new(Version {
            tree: tree.clone(),
            head: cursor.head(),
            first: start.0 + u64::from(lists_cores),
            end: end.0,
            parent: Some(self.clone()),
        })))
    }
}

/// The entries of a range that have a value.
pub(super) fn entries(
    cursor: &Tree,
    blocks: &LocalTree,
    range: Range,
) -> Result<Vec<(Bytes, Bytes)>, BeeError> {
    let mut entries = cursor.range(range);
    let mut found = Vec::new();
    while let Some(entry) = entries.next(blocks)? {
        found.extend(entry.value.map(|value| (entry.key, value)));
    }
    Ok(found)
}

impl Drop for Version {
    fn drop(&mut self) {
        if self.first < self.end {
            self.tree.release(self.first, self.end);
        }
        // A history is long: it must not be unwound by recursion.
        let mut parent = self.parent.take();
        while let Some(TreeSnapshot(version)) = parent {
            parent = Arc::into_inner(version).and_then(|mut version| version.parent.take());
        }
    }
}

impl std::fmt::Debug for LocalTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalTree")
            .field("core", &self.core())
            .field("length", &self.length())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for TreeSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("head", &self.head())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bee::MemoryBlocks;

    fn empty() -> TreeSnapshot {
        let tree = LocalTree::new(CoreKey::new([7; 32]), BeeSettings::default(), MemoryBlocks::new());
        TreeSnapshot::empty(&tree.unwrap())
    }

    fn put(snapshot: &TreeSnapshot, key: &str, value: &str) -> TreeSnapshot {
        let write = (
            Bytes::copy_from_slice(key.as_bytes()),
            Some(Bytes::copy_from_slice(value.as_bytes())),
        );
        snapshot.write([write]).unwrap()
    }

    /// ```text
    /// empty -- a=1 -- b=2        stays, with the block of a=1
    ///             \-- b=3 -- c=4 goes: two blocks
    /// ```
    #[test]
    fn blocks_of_versions_that_lost_go_and_those_that_others_stand_on_stay() {
        let one = put(&empty(), "a", "1");
        let won = put(&one, "b", "2");
        let lost = put(&put(&one, "b", "3"), "c", "4");
        let tree = one.tree().clone();
        drop(one);
        assert_eq!((tree.length(), tree.kept()), (Length(4), 4));
        assert_eq!(lost.get(b"b").unwrap().as_deref(), Some(&b"3"[..]));
        drop(lost);
        assert_eq!((tree.length(), tree.kept()), (Length(4), 2));

        let next = put(&won, "c", "5");
        assert_eq!(next.head().length, Length(5), "a place is not given twice");
        let read = next.range(Range::all()).unwrap();
        assert_eq!(
            read.iter().map(|(_, value)| &value[..]).collect::<Vec<_>>(),
            [b"1", b"2", b"5"]
        );
        drop((won, next));
        assert_eq!(tree.kept(), 0);
    }

    #[test]
    fn what_changes_nothing_makes_no_version() {
        let one = put(&empty(), "a", "1");
        assert_eq!(put(&one, "a", "1").head(), one.head());
        assert_eq!(one.tree().length(), Length(1));
    }

    /// What is saved is read from the store, whatever was written meanwhile; what is not saved stays in memory.
    #[test]
    fn new_blocks_wait_until_they_are_saved() {
        let core = CoreKey::new([7; 32]);
        let store = Arc::new(MemoryBlocks::new());
        let open = |length| {
            let end = Link { key: core, length };
            LocalTree::stored(end, BeeSettings::default(), Arc::clone(&store)).unwrap()
        };
        let tree = open(Length::ZERO);
        let one = put(&TreeSnapshot::empty(&tree), "a", "1");
        drop(put(&one, "b", "lost"));
        let taken = tree.unsaved();
        assert_eq!((taken.len(), tree.length()), (2, Length(2)));
        let two = put(&one, "b", "2");
        store.append(core, taken);
        tree.saved(Length(2));
        assert_eq!(tree.kept(), 1);

        let again = open(Length(2));
        let read = TreeSnapshot::at(&again, one.head());
        assert_eq!(
            read.range(Range::all()).unwrap(),
            one.range(Range::all()).unwrap()
        );
        let other = put(&read, "b", "3");
        assert_eq!(other.head(), two.head(), "behind the stored end");
        assert_eq!(two.get(b"b").unwrap().as_deref(), Some(&b"2"[..]));
        assert_eq!(other.get(b"b").unwrap().as_deref(), Some(&b"3"[..]));

        store.append(core, again.unsaved());
        again.saved(again.length());
        assert_eq!((again.kept(), again.unsaved().len()), (0, 0));
        let last = TreeSnapshot::at(&open(Length(3)), other.head());
        assert_eq!(last.get(b"b").unwrap().as_deref(), Some(&b"3"[..]));
    }

    #[test]
    fn a_long_history_is_dropped_without_recursion() {
        let tree = empty().tree().clone();
        let mut snapshot = TreeSnapshot::empty(&tree);
        for _ in 0..1 << 20 {
            snapshot = TreeSnapshot(Arc::new(Version {
                tree: tree.clone(),
                head: snapshot.head(),
                first: 0,
                end: 0,
                parent: Some(snapshot),
            }));
        }
        drop(snapshot);
    }
}
