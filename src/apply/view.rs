//! The view while a batch is applied: a version of the tree, and the writes of this apply on top.
//!
//! A block that is not here never shows in user code. The read that needed it does not return; the engine sees that
//! apply waits, asks the view what for, drops the future, and applies the batch again once the block is there.

use std::sync::OnceLock;

use bytes::Bytes;

use super::ApplyError;
use super::tree::{TreeSnapshot, entries};
use crate::bee::{BeeError, Range, Tree};
use crate::env::Slip;

/// The longest value, in bytes, that one put may write. A block of the tree holds it beside what else is in it, and no peer
/// takes a block of more than 15 MiB.
pub const PUT_BYTES_MAX: usize = 14 << 20;

/// The most bytes that all keys of one flush may have together: in the worst case they stand in one block.
pub const KEYS_BYTES_MAX: usize = 8 << 20;

/// The view while a batch is applied: reads see what this apply wrote; nobody else does until it returned `Ok`.
///
/// ```
/// use autobee::apply::{ApplyError, ApplyView, LocalTree, TreeSnapshot};
/// use autobee::bee::{MemoryBlocks, BeeSettings};
/// use autobee::crypto::CoreKey;
///
/// /// What a part of an apply function may look like.
/// async fn count(view: &mut ApplyView) -> Result<(), ApplyError> {
///     let seen = view.get(b"seen").await.map_or(0, |value| value.len());
///     let mut write = view.write();
///     write.put(b"seen", &vec![b'|'; seen + 1]);
///     write.flush().await
/// }
///
/// # use autobee::env::memory::MemoryEnv;
/// let tree = LocalTree::new(CoreKey::new([7; 32]), BeeSettings::default(), MemoryBlocks::new()).unwrap();
/// let mut view = ApplyView::new(TreeSnapshot::empty(&tree));
/// # MemoryEnv::new(1).run(async {
/// count(&mut view).await?;
/// count(&mut view).await?;
/// assert_eq!(view.get(b"seen").await.as_deref(), Some(&b"||"[..]));
/// # Ok::<(), ApplyError>(())
/// # }).unwrap().unwrap();
/// ```
#[derive(Debug)]
pub struct ApplyView {
    snapshot: TreeSnapshot,
    /// On the version of the snapshot. Has the root in memory.
    cursor: Tree,
    stall: OnceLock<BeeError>,
}

impl ApplyView {
    /// Starts on a version of the tree.
    #[must_use]
    pub fn new(snapshot: TreeSnapshot) -> Self {
        Self {
            cursor: snapshot.cursor(),
            snapshot,
            stall: OnceLock::new(),
        }
    }

    // The user's.

    /// The value under `key`. A block that is not here yet suspends the whole apply, never this call.
    pub async fn get(&self, key: &[u8]) -> Option<Bytes> {
        let found = self.cursor.get(self.snapshot.tree(), key);
        self.or_stall(found).await.and_then(|entry| entry.value)
    }

    /// All entries with `from <= key < to`, in key order.
    pub async fn range(&self, from: &[u8], to: &[u8]) -> Vec<(Bytes, Bytes)> {
        self.entries(Range::all().gte(from).lt(to)).await
    }

    /// The entries of a range, in its direction and up to its limit.
    pub async fn entries(&self, range: Range) -> Vec<(Bytes, Bytes)> {
        let found = entries(&self.cursor, self.snapshot.tree(), range);
        self.or_stall(found).await
    }

    /// Starts an atomic write.
    pub fn write(&mut self) -> ApplyWrite<'_> {
        ApplyWrite {
            view: self,
            writes: Vec::new(),
        }
    }

    // The engine's.

    /// What apply could not read: nothing that it did or returned after that counts.
    #[must_use]
    pub fn stall(&self) -> Option<&BeeError> {
        self.stall.get()
    }

    /// What the view is by now, with what this apply wrote.
    #[must_use]
    pub fn snapshot(&self) -> &TreeSnapshot {
        &self.snapshot
    }

    /// What the view became.
    #[must_use]
    pub fn into_snapshot(self) -> TreeSnapshot {
        self.snapshot
    }

    /// Hands on what was read. What cannot be read is noted, and never comes.
    async fn or_stall<T>(&self, found: Result<T, BeeError>) -> T {
        match found {
            Ok(found) if self.stall.get().is_none() => found,
            Ok(_) => std::future::pending().await,
            Err(error) => {
                // Only the first one is noted: what came after it may follow from it.
                let _ = self.stall.set(error);
                std::future::pending().await
            }
        }
    }
}

/// Puts and deletes that become visible together, at [`ApplyWrite::flush`]; dropped without it, they do nothing.
#[derive(Debug)]
pub struct ApplyWrite<'a> {
    view: &'a mut ApplyView,
    writes: Vec<(Bytes, Option<Bytes>)>,
}

impl ApplyWrite<'_> {
    /// Sets `key` to `value`.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.writes
            .push((Bytes::copy_from_slice(key), Some(Bytes::copy_from_slice(value))));
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: &[u8]) {
        self.writes.push((Bytes::copy_from_slice(key), None));
    }

    /// Writes all of it as one batch of the tree.
    ///
    /// # Errors
    ///
    /// Refuses, the same at every peer, a value longer than [`PUT_BYTES_MAX`], and keys of more than [`KEYS_BYTES_MAX`].
    pub async fn flush(self) -> Result<(), ApplyError> {
        let values = self.writes.iter().filter_map(|(_, value)| value.as_ref());
        let longest = values.map(Bytes::len).max().unwrap_or_default();
        if longest > PUT_BYTES_MAX {
            return Err(ApplyError::Reject(format!(
                "a value of {longest} bytes, more than {PUT_BYTES_MAX}"
            )));
        }
        let keys: usize = self.writes.iter().map(|(key, _)| key.len()).sum();
        if keys > KEYS_BYTES_MAX {
            return Err(ApplyError::Reject(format!(
                "keys of {keys} bytes in one flush, more than {KEYS_BYTES_MAX}"
            )));
        }
        let (view, mut writes) = (self.view, self.writes);
        if view.cursor.bee().has(Slip::FirstPutWins) {
            let mut seen = std::collections::BTreeSet::new();
            writes.retain(|(key, _)| seen.insert(key.clone()));
        }
        if view.cursor.bee().has(Slip::PutAfterDelete) {
            let deletes = writes.iter().filter(|(_, value)| value.is_none());
            let deleted: std::collections::BTreeSet<Bytes> = deletes.map(|(key, _)| key.clone()).collect();
            writes.retain(|(key, value)| value.is_none() || !deleted.contains(key));
        }
        let written = match view.snapshot.write_with(&mut view.cursor, &writes) {
            Err(BeeError::Encode(error)) => return Err(ApplyError::Reject(error.to_string())),
            other => other,
        };
        view.snapshot = view.or_stall(written).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Waker};

    use super::*;
    use crate::apply::LocalTree;
    use crate::bee::{BeeSettings, MemoryBlocks};
    use crate::crypto::CoreKey;
    use crate::wire::{Index, Length, Link};

    /// A tree of another peer, whose blocks come late: apply waits, says what for, and goes on from there.
    #[test]
    fn a_block_that_is_elsewhere_suspends_and_is_named() {
        let [ours, theirs] = [1, 2].map(|byte| CoreKey::new([byte; 32]));
        let their_tree = LocalTree::new(theirs, BeeSettings::default(), MemoryBlocks::new()).unwrap();
        let written = TreeSnapshot::empty(&their_tree)
            .write([("a".into(), Some("1".into()))])
            .unwrap();
        let fetched = Arc::new(MemoryBlocks::new());
        let tree = LocalTree::new(ours, BeeSettings::default(), Arc::clone(&fetched)).unwrap();
        let snapshot = TreeSnapshot::at(
            &tree,
            Link {
                key: theirs,
                length: Length(1),
            },
        );

        let mut context = Context::from_waker(Waker::noop());
        let view = ApplyView::new(snapshot.clone());
        assert!(pin!(view.get(b"a")).poll(&mut context).is_pending());
        let missing = BeeError::Unavailable {
            core: theirs,
            index: Index(0),
        };
        assert_eq!(view.stall(), Some(&missing));
        assert!(
            pin!(view.range(b"x", b"a")).poll(&mut context).is_pending(),
            "after a stall nothing counts"
        );

        use crate::bee::Blocks as _;
        fetched.append(theirs, their_tree.block(&theirs, Index(0)));
        let mut view = ApplyView::new(snapshot);
        let mut apply = Box::pin(async {
            let value = view.get(b"a").await.unwrap_or_default();
            let mut write = view.write();
            write.put(b"b", &value);
            write.flush().await
        });
        assert!(apply.as_mut().poll(&mut context).is_ready());
        drop(apply);
        assert_eq!((view.stall(), written.get(b"b").unwrap()), (None, None));
        let after = view.into_snapshot();
        assert_eq!(
            after.head(),
            Link {
                key: ours,
                length: Length(1)
            }
        );
        assert_eq!(after.get(b"b").unwrap().as_deref(), Some(&b"1"[..]));
    }
}
