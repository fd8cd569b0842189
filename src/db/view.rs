//! Reading the merged view.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;

use super::stream::Steps;
use crate::apply::TreeSnapshot;
use crate::bee::{BeeError, Range};
use crate::crypto::CoreKey;
use crate::error::Error;
use crate::wire::{Index, Link};

/// A snapshot of the view: it never changes, whatever is applied later. Take a new one to see more.
///
/// Two views are equal when they hold the same, whatever led there.
///
/// ```
/// # use autobee::{Autobee, Corestore};
/// # use autobee::apply::{Apply, ApplyError, ApplyView, Entry, Host};
/// # use autobee::env::memory::MemoryEnv;
/// use autobee::bee::Range;
///
/// # struct Words;
/// # impl Apply for Words {
/// #     async fn apply(&self, entries: &[Entry], view: &mut ApplyView, _: &mut dyn Host) -> Result<(), ApplyError> {
/// #         for entry in entries {
/// #             let mut write = view.write();
/// #             write.put(entry.value(), b"here");
/// #             write.flush().await?;
/// #         }
/// #         Ok(())
/// #     }
/// # }
/// # let env = MemoryEnv::new(1);
/// # env.run(async {
/// # let db = Autobee::builder(Corestore::open_default(env.clone()).await?).apply(Words).open().await?;
/// let before = db.view();
/// db.append_batch(vec!["user/ada".into(), "user/bob".into(), "other".into()]).await?;
/// let view = db.view();
/// let last = view.entries(Range::prefix("user/").reverse().limit(1)).await?;
/// assert_eq!(last, [("user/bob".into(), "here".into())]);
///
/// let changes = before.changes(&view, Range::all().lt("user/b")).await?;
/// assert_eq!(changes.iter().map(|change| &change.key[..]).collect::<Vec<_>>(), [&b"other"[..], b"user/ada"]);
/// # Ok::<(), autobee::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct View {
    snapshot: TreeSnapshot,
    source: Arc<dyn RemoteBlocks>,
}

/// A source of blocks that are not on this machine: a part of the view may be in cores of other peers.
pub(super) trait RemoteBlocks: fmt::Debug + Send + Sync {
    /// Waits until a block is here.
    fn fetch(&self, core: CoreKey, index: Index) -> Fetch<'_>;

    /// Entries that a stream reads at once.
    fn page(&self) -> u64 {
        PAGE
    }
}

pub(super) type Fetch<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// A key whose value differs between two views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewChange {
    /// The key.
    pub key: Bytes,
    /// Its value in the earlier view; none when it was not there.
    pub old: Option<Bytes>,
    /// Its value in the later view; none when it is not there any more.
    pub new: Option<Bytes>,
}

impl View {
    pub(super) fn new(snapshot: TreeSnapshot, source: Arc<dyn RemoteBlocks>) -> Self {
        Self { snapshot, source }
    }

    /// The version of the tree that this is, in the core that it was written to. Peers write it to different ones.
    #[must_use]
    pub fn head(&self) -> Link {
        self.snapshot.head()
    }

    /// The value under `key`.
    ///
    /// # Errors
    ///
    /// `Unavailable` when a block is still at a peer, and does not come within [`super::Settings::read_wait`]; `Closed`,
    /// `Corrupt`, `Disk`.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.read(|snapshot| snapshot.get(key)).await
    }

    /// All entries with `from <= key < to`, in key order.
    ///
    /// # Errors
    ///
    /// As [`View::get`].
    pub async fn range(&self, from: &[u8], to: &[u8]) -> Result<Vec<(Bytes, Bytes)>, Error> {
        self.entries(Range::all().gte(from).lt(to)).await
    }

    /// The entries of a range or prefix, in its direction and up to its limit.
    ///
    /// # Errors
    ///
    /// As [`View::get`].
    pub async fn entries(&self, range: Range) -> Result<Vec<(Bytes, Bytes)>, Error> {
        self.read(|snapshot| snapshot.range(range.clone())).await
    }

    /// The entries of a range one after the other, as a [`Stream`]: read in pages, so that a large view is held nowhere as
    /// a whole.
    ///
    /// ```
    /// # use autobee::{Autobee, Corestore, Range};
    /// # use autobee::apply::OrderOnly;
    /// # use autobee::env::memory::MemoryEnv;
    /// # let env = MemoryEnv::new(1);
    /// # env.run(async {
    /// # let db = Autobee::builder(Corestore::open_default(env.clone()).await?).apply(OrderOnly).open().await?;
    /// let mut entries = db.view().stream(Range::prefix("user/"));
    /// while let Some((key, value)) = entries.next().await? {
    ///     println!("{key:?} {value:?}");
    /// }
    /// # Ok::<(), autobee::Error>(())
    /// # }).unwrap().unwrap();
    /// ```
    #[must_use]
    pub fn stream(&self, range: Range) -> ViewEntries {
        ViewEntries {
            steps: Steps::new(EntryPage {
                view: self.clone(),
                left: range.limit_count(),
                range,
                page: VecDeque::new(),
                is_last: false,
            }),
        }
    }

    /// Everything, in key order.
    ///
    /// # Errors
    ///
    /// As [`View::get`].
    pub async fn all(&self) -> Result<Vec<(Bytes, Bytes)>, Error> {
        self.entries(Range::all()).await
    }

    /// What differs in `later`, within a range. Costs as much as there are differences, not as there are entries. It
    /// does not matter which of the two is older, nor whether one comes from the other: an undo yields the way back.
    ///
    /// # Errors
    ///
    /// As [`View::get`]; `Invalid` when the two are not views of one open database.
    pub async fn changes(&self, later: &Self, range: Range) -> Result<Vec<ViewChange>, Error> {
        if !self.snapshot.tree().is(later.snapshot.tree()) {
            let what = "the two views are not of one open database".into();
            return Err(Error::Invalid { what });
        }
        let found = self
            .read(|snapshot| snapshot.diff(&later.snapshot, range.clone()))
            .await?;
        let changes = found.into_iter().filter_map(|difference| {
            let key = difference
                .left
                .as_ref()
                .or(difference.right.as_ref())?
                .key
                .clone();
            Some(ViewChange {
                key,
                old: difference.left.and_then(|entry| entry.value),
                new: difference.right.and_then(|entry| entry.value),
            })
        });
        Ok(changes.collect())
    }

    /// Reads, again from the start for each block that has to be fetched.
    async fn read<T>(&self, read: impl Fn(&TreeSnapshot) -> Result<T, BeeError>) -> Result<T, Error> {
        loop {
            match read(&self.snapshot) {
                Err(BeeError::Unavailable { core, index }) => self.source.fetch(core, index).await?,
                outcome => return outcome.map_err(read_error),
            }
        }
    }
}

/// Entries of a view in the order of a range, see [`View::stream`]. As a [`Stream`] it ends behind the last entry.
#[derive(Debug)]
pub struct ViewEntries {
    steps: Steps<EntryPage, Result<Option<(Bytes, Bytes)>, Error>>,
}

/// Entries that are read at a time.
pub(super) const PAGE: u64 = 256;

/// A part of the entries, and what comes behind it.
#[derive(Debug)]
struct EntryPage {
    view: View,
    /// What is not read yet.
    range: Range,
    /// How many entries may still be read; none: all.
    left: Option<u64>,
    page: VecDeque<(Bytes, Bytes)>,
    is_last: bool,
}

impl ViewEntries {
    /// The next entry; none behind the last one. A call that is dropped loses nothing.
    ///
    /// # Errors
    ///
    /// As [`View::get`], and the next call tries again.
    pub async fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        self.steps.step(EntryPage::step).await
    }
}

impl Stream for ViewEntries {
    type Item = Result<(Bytes, Bytes), Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.get_mut().steps.poll_step(context, EntryPage::step);
        polled.map(Result::transpose)
    }
}

impl EntryPage {
    async fn step(mut self) -> (Self, Result<Option<(Bytes, Bytes)>, Error>) {
        let next = self.next().await;
        (self, next)
    }

    async fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, Error> {
        if self.page.is_empty() && !self.is_last {
            let page = self.view.source.page();
            let count = self.left.unwrap_or(page).min(page);
            let page = self.view.entries(self.range.clone().limit(count)).await?;
            let found = page.len() as u64;
            self.left = self.left.map(|left| left.saturating_sub(found));
            self.is_last = found < count || self.left == Some(0);
            if let Some((last, _)) = page.last() {
                let rest = self.range.clone();
                self.range = if rest.is_reverse() {
                    rest.lt(last)
                } else {
                    rest.gt(last)
                };
            }
            self.page = page.into();
        }
        Ok(self.page.pop_front())
    }
}

/// Views that cannot be read are equal to nothing.
impl PartialEq for View {
    fn eq(&self, other: &Self) -> bool {
        match (
            self.snapshot.range(Range::all()),
            other.snapshot.range(Range::all()),
        ) {
            (Ok(left), Ok(right)) => left == right,
            _ => false,
        }
    }
}

pub(super) fn read_error(error: BeeError) -> Error {
    match error {
        BeeError::Closed { .. } => Error::Closed,
        BeeError::Unavailable { core, index } => Error::Unavailable { core, index },
        BeeError::Corrupt { core, seq, what } => Error::Corrupt {
            file: format!("core {core}"),
            what: format!("block {seq}: {what}"),
        },
        BeeError::Source { message, .. } => Error::Disk {
            operation: "read a block of a tree",
            source: io::Error::other(message),
        },
        other => Error::Internal {
            what: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::apply::LocalTree;
    use crate::bee::{BeeSettings, Blocks as _, MemoryBlocks};
    use crate::env::memory::MemoryEnv;

    /// A peer that has a tree, and gives one block after the other.
    #[derive(Debug)]
    struct Peer {
        tree: LocalTree,
        here: Arc<MemoryBlocks>,
        asked: Mutex<Vec<Index>>,
        blocks_max: usize,
    }

    impl RemoteBlocks for Peer {
        fn fetch(&self, core: CoreKey, index: Index) -> Fetch<'_> {
            let mut asked = self.asked.lock().unwrap();
            asked.push(index);
            let count = asked.len();
            Box::pin(async move {
                if count > self.blocks_max {
                    return Err(Error::Unavailable { core, index });
                }
                assert_eq!(self.here.length(&core).0, index.0, "in order, in this test");
                self.here.append(core, self.tree.block(&core, index));
                Ok(())
            })
        }
    }

    #[test]
    fn what_is_at_a_peer_is_fetched_within_bounds() {
        let key = |byte| CoreKey::new([byte; 32]);
        let theirs = LocalTree::new(key(2), BeeSettings::default(), MemoryBlocks::new()).unwrap();
        let one = TreeSnapshot::empty(&theirs)
            .write([("a".into(), Some("1".into()))])
            .unwrap();
        for (blocks_max, outcome) in [(1, Some("1".into())), (0, None)] {
            let here = Arc::new(MemoryBlocks::new());
            let ours = LocalTree::new(key(1), BeeSettings::default(), Arc::clone(&here)).unwrap();
            let peer = Arc::new(Peer {
                tree: theirs.clone(),
                here,
                asked: Mutex::default(),
                blocks_max,
            });
            let view = View::new(
                TreeSnapshot::at(&ours, one.head()),
                Arc::clone(&peer) as Arc<dyn RemoteBlocks>,
            );
            let read = MemoryEnv::new(1).run(async { view.get(b"a").await }).unwrap();
            match (read, outcome) {
                (Ok(read), Some(outcome)) => assert_eq!(read, Some(outcome)),
                (Err(Error::Unavailable { .. }), None) => {}
                (other, _) => panic!("{other:?}"),
            }
            assert_eq!(*peer.asked.lock().unwrap(), [Index(0)]);
        }
    }
}
