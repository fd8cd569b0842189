//! What changed for somebody who looks at a part of the tree.
//!
//! A watch remembers the version that its owner has seen. Events are the differences by value between that version and
//! the present one, so they are right whatever happened in between: an undo yields the way back, and a value that
//! was changed and changed back yields nothing.

use bytes::Bytes;

use crate::wire::Link;

use super::diff::{Diff, Sameness};
use super::error::BeeError;
use super::range::Range;
use super::source::Blocks;
use super::tree::{Tree, TreeEntry};

/// A subscription to a key, a prefix or a range.
///
/// ```
/// # use autobee::bee::{BatchOptions, Bee, MemoryBlocks, Range, BeeSettings, Watch};
/// # use autobee::crypto::CoreKey;
/// # use autobee::wire::{Length, Link};
/// # let local = CoreKey::new([7; 32]);
/// # let blocks = MemoryBlocks::new();
/// # let bee = Bee::new(BeeSettings::default())?;
/// # let mut tree = bee.tree(Link { key: local, length: Length::ZERO });
/// let mut watch = Watch::new(&tree, Range::prefix("user/"));
/// # let mut batch = tree.batch(&local, blocks.length(&local), BatchOptions::default());
/// # batch.put(&blocks, b"user/1", b"Ada")?;
/// # let written = batch.finish(&blocks)?;
/// # blocks.append(local, written.blocks().iter().cloned());
/// # tree.commit(written);
/// let mut events = watch.events(&tree);
/// while let Some(event) = events.next(&blocks)? {
///     assert_eq!(event.key, "user/1");
///     assert!(event.old.is_none() && event.new.is_some());
/// }
/// watch.seen(&events);
/// # Ok::<(), autobee::bee::BeeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Watch {
    range: Range,
    seen: Tree,
}

/// A change of one key between two versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchEvent {
    /// The key.
    pub key: Bytes,
    /// Its entry in `from`.
    pub old: Option<TreeEntry>,
    /// Its entry in `to`.
    pub new: Option<TreeEntry>,
    /// The version that was seen before.
    pub from: Link,
    /// The version that it is compared with.
    pub to: Link,
}

/// The events that lead from one version to another, in the order of their keys.
#[derive(Debug, Clone)]
pub struct WatchEvents {
    diff: Diff,
    from: Link,
    to: Tree,
}

impl Watch {
    /// Watches from the present version of `tree` on.
    #[must_use]
    pub fn new(tree: &Tree, range: Range) -> Self {
        Self {
            range,
            seen: tree.clone(),
        }
    }

    /// What leads from the version that was seen to the present version of `tree`.
    #[must_use]
    pub fn events(&self, tree: &Tree) -> WatchEvents {
        WatchEvents {
            diff: self.seen.diff(tree, self.range.clone(), Sameness::Value),
            from: self.seen.head(),
            to: tree.clone(),
        }
    }

    /// Takes note that these events were handled.
    pub fn seen(&mut self, events: &WatchEvents) {
        self.seen = events.to.clone();
    }
}

impl WatchEvents {
    /// The next event.
    ///
    /// # Errors
    ///
    /// When a block is missing or corrupt. The search goes on from there by the next call.
    pub fn next(&mut self, blocks: &dyn Blocks) -> Result<Option<WatchEvent>, BeeError> {
        let Some(found) = self.diff.next(blocks)? else {
            return Ok(None);
        };
        let key = found.left.as_ref().or(found.right.as_ref());
        Ok(key.map(|entry| entry.key.clone()).map(|key| WatchEvent {
            key,
            old: found.left,
            new: found.right,
            from: self.from,
            to: self.to.head(),
        }))
    }
}
