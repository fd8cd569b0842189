//! Where cores keep their bytes: one ordered map, changed in atomic batches over any number of cores.
//!
//! Two layers of traits. [`crate::env::Disk`] knows the operating system and is the only place of faults; [`StoreEngine`],
//! [`Store`] and [`Snapshot`] are what another storage engine implements. Neither has threads, clocks, randomness or
//! async. Engines here: [`Seglog`], one segmented log for all cores, the default; [`MemoryEngine`], which is also the
//! oracle of the tests; `redb` behind a feature of its name.
//!
//! Laws that every engine keeps (`tests/logs/laws.rs` runs them, `tests/crash_points.rs` cuts the power after every
//! call of the disk):
//!
//! 1. A snapshot never changes.
//! 2. A crash leaves exactly the state after some commit, at or after the last durable one, over all cores at once.
//! 3. The death of the process keeps every commit, where [`StoreEngine::keeps_visible`] says so.
//! 4. The same calls cause the same calls of the disk, in every process.
//! 5. After a failed write or sync every change answers [`StoreError::Fenced`], and nothing of it is visible. Reads go on, of
//!    what was committed before, or answer the same.
//! 6. What a crash tears off is never called damage, and damage is never silent.

mod batch;
mod error;
mod key;
mod memory;
mod owner;
#[cfg(feature = "redb")]
mod redb;
pub mod seglog;

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

pub use batch::{Op, StoreBatch};
pub use error::{Damage, StoreError};
pub use key::{CorePointer, DataPointer, Key};
pub use memory::MemoryEngine;
pub use owner::{Housekeeping, Owner, OwnerTask, StoreHandle};
#[cfg(feature = "redb")]
pub use redb::RedbEngine;
pub use seglog::{Seglog, marked, salvage, verify};

use crate::env::{Disk, DiskLock, Planted, Sights};

/// The number of a commit, counted from one; zero stands for the empty store. An engine may use up numbers for its own
/// housekeeping.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// Values that an environment draws for a store that is opened in it.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Drawn {
    /// Slips that a simulator plants.
    pub planted: Planted,
    /// For the checksums of a new store.
    pub salt: u64,
}

/// The report of an opening: what it found and dealt with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// Bytes of an unfinished write that a crash left at the end, and that were cut off.
    pub torn_bytes: u64,
    /// Commits that were durable once and are missing at the end of the log: the first and the last of them. Somebody cut
    /// the file, or put an older one in its place.
    pub missing: Option<(Seq, Seq)>,
    /// What is wrong with the checkpoint, which was left aside: all of the log was read instead.
    pub checkpoint: Option<Damage>,
}

/// A kind of store.
pub trait StoreEngine: Send + Sync {
    /// Opens the store of a directory, and creates it when the directory is empty.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`], [`StoreError::Newer`], [`StoreError::Corrupt`], or what the disk says.
    fn open(&self, disk: Arc<dyn Disk>) -> Result<Box<dyn Store>, StoreError>;

    /// As [`StoreEngine::open`], with what an environment draws for the store.
    ///
    /// # Errors
    ///
    /// As [`StoreEngine::open`].
    #[doc(hidden)]
    fn open_in(&self, disk: Arc<dyn Disk>, _drawn: Drawn) -> Result<Box<dyn Store>, StoreError> {
        self.open(disk)
    }

    /// True when commits survive the death of the process before they are synced.
    fn keeps_visible(&self) -> bool;
}

/// Reads of one state of a store.
pub trait Read {
    /// The value of a key.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`], or what the disk says.
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError>;

    /// True when the key has a value. May be cheaper than reading it.
    ///
    /// # Errors
    ///
    /// As [`Read::get`].
    fn contains(&self, key: &Key) -> Result<bool, StoreError> {
        Ok(self.get(key)?.is_some())
    }

    /// Shows the values from `from` up to, and without, `to`, in order or in reverse, until `visit` breaks.
    ///
    /// # Errors
    ///
    /// As [`Read::get`].
    fn scan(
        &self,
        from: &Key,
        to: &Key,
        reverse: bool,
        visit: &mut dyn FnMut(Key, Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;
}

/// An open store: reads what was committed last. Closing is dropping; [`Store::close`] saves work for the next
/// opening.
pub trait Store: Read + Send {
    /// The state as it is now, for ever. Costs nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fenced`], from an engine that cannot read after a failure.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError>;

    /// Makes all changes of a batch visible, together. They survive power loss after a sync.
    ///
    /// # Errors
    ///
    /// Nothing of the batch is visible after an error.
    fn commit(&mut self, batch: &StoreBatch) -> Result<Seq, StoreError>;

    /// Prepares a sync of all commits so far; none when there is nothing to sync. The job runs without the store, so
    /// that commits go on meanwhile; its outcome comes back with [`Store::end_sync`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Fenced`].
    fn begin_sync(&mut self) -> Result<Option<SyncJob>, StoreError>;

    /// Takes the outcome of a sync. Gives the last commit that is durable now.
    ///
    /// # Errors
    ///
    /// The sync failed; the store is fenced.
    fn end_sync(&mut self, done: SyncDone) -> Result<Seq, StoreError>;

    /// Makes all commits so far survive power loss. Gives the last one that does.
    ///
    /// # Errors
    ///
    /// The sync failed; the store is fenced.
    fn sync(&mut self) -> Result<Seq, StoreError> {
        match self.begin_sync()? {
            Some(job) => self.end_sync(job.run()),
            None => Ok(self.durable()),
        }
    }

    /// The last commit.
    fn seq(&self) -> Seq;

    /// The last commit that is known to survive power loss.
    fn durable(&self) -> Seq;

    /// What the opening found.
    fn recovered(&self) -> &Recovered {
        const NOTHING: &Recovered = &Recovered {
            torn_bytes: 0,
            missing: None,
            checkpoint: None,
        };
        NOTHING
    }

    /// What its files take on the disk. None when the engine does not know.
    fn space(&self) -> Option<Space> {
        None
    }

    /// The points that it passed since the last call; see [`Sights`].
    fn take_sights(&mut self) -> Sights {
        Sights::default()
    }

    /// Housekeeping, about `budget_bytes` of it: gives space back and keeps the next opening fast. True when there is
    /// more to do.
    ///
    /// # Errors
    ///
    /// As [`Store::commit`].
    fn maintain(&mut self, budget_bytes: u64) -> Result<bool, StoreError>;

    /// Reads and verifies everything.
    ///
    /// # Errors
    ///
    /// The first damage that it finds.
    fn check(&self) -> Result<(), StoreError>;

    /// Ends in an orderly way: everything is durable, and the next opening is fast.
    ///
    /// # Errors
    ///
    /// As [`Store::sync`].
    fn close(self: Box<Self>) -> Result<(), StoreError>;
}

/// What the files of a store take on the disk, and how much of it is still wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Space {
    /// Bytes of the files that hold values and blocks.
    pub bytes: u64,
    /// Of these, bytes of what is still there for somebody: an estimate, without what stands around each value.
    pub wanted_bytes: u64,
    /// Housekeeping will give some back: it has not come that far.
    pub is_shrinking: bool,
}

/// One state of a store, for as long as it is wanted and the store is open.
pub trait Snapshot: Read + Send + Sync {
    /// The commit after which this was the state.
    fn seq(&self) -> Seq;
}

/// A sync that is ready to run.
pub struct SyncJob {
    seq: Seq,
    work: Box<dyn FnOnce() -> Result<(), StoreError> + Send>,
}

/// A sync that ran.
#[derive(Debug)]
pub struct SyncDone {
    seq: Seq,
    outcome: Result<(), StoreError>,
}

impl SyncJob {
    /// For engines: `work` makes every commit up to `seq` durable.
    pub fn new(seq: Seq, work: impl FnOnce() -> Result<(), StoreError> + Send + 'static) -> Self {
        Self {
            seq,
            work: Box::new(work),
        }
    }

    /// Runs it. May take as long as a disk takes.
    #[must_use]
    pub fn run(self) -> SyncDone {
        SyncDone {
            seq: self.seq,
            outcome: (self.work)(),
        }
    }
}

impl SyncDone {
    /// For engines: the commit up to which all are durable, or why not.
    ///
    /// # Errors
    ///
    /// What the job came to.
    pub fn into_outcome(self) -> Result<Seq, StoreError> {
        self.outcome.map(|()| self.seq)
    }
}

/// The directory for this store alone.
fn lock(disk: &dyn Disk) -> Result<DiskLock, StoreError> {
    disk.lock().map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => StoreError::Locked,
        _ => StoreError::io("lock", "the directory", error),
    })
}
