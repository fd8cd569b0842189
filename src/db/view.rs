//! Reading the merged view.

use bytes::Bytes;

use crate::apply::Snapshot;
use crate::bee::{BeeError, Range};
use crate::error::Error;
use crate::wire::Link;

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
    snapshot: Snapshot,
}

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
    pub(super) const fn new(snapshot: Snapshot) -> Self {
        Self { snapshot }
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
    /// `Unavailable` when a block is still at a peer, `Corrupt`.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.snapshot.get(key).map_err(read_error)
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
        self.snapshot.range(range).map_err(read_error)
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
        let found = self.snapshot.diff(&later.snapshot, range).map_err(read_error)?;
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

fn read_error(error: BeeError) -> Error {
    match error {
        BeeError::Closed { .. } => Error::Closed,
        BeeError::Unavailable { core, index } => Error::Unavailable { core, index },
        BeeError::Corrupt { core, seq, what } => Error::Corrupt {
            file: format!("core {core}"),
            what: format!("block {seq}: {what}"),
        },
        other => Error::Internal {
            what: other.to_string(),
        },
    }
}
