//! Who syncs: commits run at once in the caller, syncs one at a time in one machine.
//!
//! A commit is one write into the page cache and takes microseconds, so it runs inline under the lock of the store. A
//! sync takes as long as the disk takes; while one is under way commits go on, and whoever asked meanwhile is
//! answered by the next one. That is group commit without timers: the slower the disk, the larger the groups.
//!
//! [`Owner`] neither waits nor does I/O by itself. It says what is to be done ([`Owner::begin`]), is told the outcome
//! ([`Owner::end`]) and answers. As a [`Worker`] it runs on a thread of its own in the native world, and as a task in a
//! simulation, where a sync takes effect at the end of its latency, for what was committed before its begin: what is
//! simulated is what runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::{
    Drawn, Key, Recovered, Seq, Snapshot, Space, Store, StoreBatch, StoreEngine, StoreError, SyncDone,
    SyncJob,
};
use crate::env::{Entropy as _, Env, Planted, Point, Sights, Slip, Spawn as _, TraceEvent, Worker, knob};

/// A store that many share. Clones are handles to the same one; the last one that goes ends its owner.
///
/// ```
/// use autobee::env::{Env as _, memory::MemoryEnv};
/// use autobee::store::{StoreBatch, DataPointer, Key, Seglog, StoreHandle};
///
/// let env = MemoryEnv::new(1);
/// let store = StoreHandle::open(&env, &Seglog::default())?;
/// let key = Key::Block(DataPointer(1), 0);
/// let seq = store.commit(StoreBatch::default().put(key.clone(), &b"hello"[..]))?; // visible
/// assert!(store.durable() < seq);
/// env.run(store.synced(seq)).unwrap()?; // durable
/// assert_eq!(store.durable(), seq);
/// # Ok::<_, autobee::store::StoreError>(())
/// ```
#[derive(Clone)]
pub struct StoreHandle {
    shared: Arc<OwnerShared>,
    _alive: Arc<Alive>,
}

struct OwnerShared {
    /// None after the store was closed.
    store: Mutex<Option<Box<dyn Store>>>,
    inbox: Mutex<Inbox>,
    work: Notify,
    durable: AtomicU64,
    unsynced_bytes: AtomicU64,
    over: AtomicBool,
    limits: Limits,
    planted: Planted,
    /// Tells the world of the points that the store passed.
    report: Report,
    checkpoints: AtomicU64,
    compactions: AtomicU64,
    recovered: Recovered,
}

impl OwnerShared {
    fn report(&self) {
        let sights = locked(&self.store).as_mut().map(|store| store.take_sights());
        let sights = sights.unwrap_or_default();
        if sights.is_empty() {
            return;
        }
        let count = |counter: &AtomicU64, point| {
            let is_so = u64::from(sights.has(point));
            counter.fetch_add(is_so, Ordering::Relaxed) + is_so
        };
        let work = Housekeeping {
            checkpoints: count(&self.checkpoints, Point::IndexWritten),
            compactions: count(&self.compactions, Point::CompactionRan),
        };
        (self.report)(sights, work);
    }
}

type Report = Box<dyn Fn(Sights, Housekeeping) + Send + Sync>;

/// How often a store did what nobody asked for, since its opening.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Housekeeping {
    /// Checkpoints of the index, each with all that was written since the one before.
    pub checkpoints: u64,
    /// Times that what was wanted of a segment was moved to the end.
    pub compactions: u64,
}

fn reporter<E: Env>(env: &E) -> Report {
    let env = env.clone();
    Box::new(move |sights, work| {
        sights.report(&env);
        if sights.has(Point::IndexWritten) {
            env.trace(|| TraceEvent::Checkpoint {
                count: work.checkpoints,
            });
        }
        if sights.has(Point::CompactionRan) {
            env.trace(|| TraceEvent::Compaction {
                count: work.compactions,
            });
        }
    })
}

/// Portions of what is done unasked.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// This much that is only visible is synced without being asked for.
    unsynced_bytes: u64,
    /// Bytes of housekeeping between two looks into the inbox.
    maintain_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unsynced_bytes: 4 * 1024 * 1024,
            maintain_bytes: 1024 * 1024,
        }
    }
}

/// The inbox of an owner: syncs and housekeeping that were asked for, and who waits for them.
#[derive(Default)]
struct Inbox {
    /// A sync was asked for.
    sync: bool,
    /// Housekeeping is due.
    maintain: bool,
    waiting: Vec<(Seq, Answer)>,
    /// No sync will succeed any more.
    failed: Option<StoreError>,
}

impl Inbox {
    fn wait(&mut self, seq: Seq) -> Result<oneshot::Receiver<Result<Seq, StoreError>>, StoreError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let (sender, answer) = oneshot::channel();
        self.waiting.push((seq, sender));
        Ok(answer)
    }
}

type Answer = oneshot::Sender<Result<Seq, StoreError>>;

/// Ends the owner when the last handle is gone.
struct Alive(Arc<OwnerShared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
        self.0.work.notify_one();
    }
}

impl StoreHandle {
    /// Opens the store in the world's directory, and starts its owner.
    ///
    /// # Errors
    ///
    /// As [`StoreEngine::open`].
    pub fn open<E: Env>(env: &E, engine: &dyn StoreEngine) -> Result<Self, StoreError> {
        let usual = Limits::default();
        let limits = Limits {
            unsynced_bytes: knob::STORE_UNSYNCED_BYTES.of(env, usual.unsynced_bytes),
            maintain_bytes: knob::STORE_MAINTAIN_BYTES.of(env, usual.maintain_bytes),
        };
        let planted = Planted::of(env);
        let salt = u64::from_le_bytes(env.entropy().array());
        let store = engine.open_in(env.disk(), Drawn { planted, salt })?;
        let (handle, owner) = Self::with_limits(store, limits, planted, reporter(env));
        handle.shared.report();
        env.spawn().dedicated("store", owner);
        Ok(handle)
    }

    /// Shares a store; someone must drive the owner.
    #[must_use]
    pub fn new(store: Box<dyn Store>) -> (Self, Owner) {
        Self::with_limits(store, Limits::default(), Planted::default(), Box::new(|_, _| {}))
    }

    fn with_limits(store: Box<dyn Store>, limits: Limits, planted: Planted, report: Report) -> (Self, Owner) {
        let shared = Arc::new(OwnerShared {
            durable: AtomicU64::new(store.durable().0),
            recovered: store.recovered().clone(),
            store: Mutex::new(Some(store)),
            inbox: Mutex::default(),
            work: Notify::new(),
            unsynced_bytes: AtomicU64::new(0),
            over: AtomicBool::new(false),
            limits,
            planted,
            report,
            checkpoints: AtomicU64::new(0),
            compactions: AtomicU64::new(0),
        });
        let handle = Self {
            _alive: Arc::new(Alive(shared.clone())),
            shared: shared.clone(),
        };
        let owner = Owner {
            shared,
            started: None,
        };
        (handle, owner)
    }

    /// Makes a batch visible. Give the number to [`StoreHandle::synced`] to wait until it survives power loss; unasked
    /// that comes when 4 MiB are waiting for it.
    ///
    /// # Errors
    ///
    /// As [`Store::commit`].
    pub fn commit(&self, batch: &StoreBatch) -> Result<Seq, StoreError> {
        let seq = self.with(|store| store.commit(batch))?;
        let bytes = batch.value_bytes() as u64;
        let before = self.shared.unsynced_bytes.fetch_add(bytes, Ordering::AcqRel);
        if before + bytes >= self.shared.limits.unsynced_bytes {
            self.request_sync();
        }
        Ok(seq)
    }

    /// Waits until a commit survives power loss, and asks for the sync that makes it so. Gives the last commit that
    /// does.
    ///
    /// # Errors
    ///
    /// The sync failed, or the store was closed before.
    pub async fn synced(&self, seq: Seq) -> Result<Seq, StoreError> {
        if self.durable() >= seq {
            return Ok(self.durable());
        }
        if self.shared.planted.has(Slip::AckBeforeSync) {
            self.request_sync();
            return Ok(seq);
        }
        if seq > self.seq()? {
            return Err(StoreError::Invalid("a sync of a commit that was not made"));
        }
        let answer = {
            let mut inbox = locked(&self.shared.inbox);
            inbox.sync = true;
            inbox.wait(seq)?
        };
        self.shared.work.notify_one();
        answer.await.unwrap_or(Err(StoreError::Fenced))
    }

    /// Makes a batch visible and durable.
    ///
    /// # Errors
    ///
    /// As [`StoreHandle::commit`] and [`StoreHandle::synced`]. After an error of the latter the batch may be visible.
    pub async fn commit_durable(&self, batch: &StoreBatch) -> Result<Seq, StoreError> {
        let seq = self.commit(batch)?;
        self.synced(seq).await?;
        Ok(seq)
    }

    /// Asks for a sync of all commits so far, and does not wait.
    pub fn request_sync(&self) {
        locked(&self.shared.inbox).sync = true;
        self.shared.work.notify_one();
    }

    /// Waits until more is durable than up to `seq`, without asking for it. What may be offered to peers grows then.
    ///
    /// # Errors
    ///
    /// A sync failed, or the store was closed.
    pub async fn durable_past(&self, seq: Seq) -> Result<Seq, StoreError> {
        let answer = {
            // Under the lock of the inbox: the owner answers under it too, so that nothing falls between.
            let mut inbox = locked(&self.shared.inbox);
            if self.durable() > seq {
                return Ok(self.durable());
            }
            inbox.wait(Seq(seq.0.saturating_add(1)))?
        };
        answer.await.unwrap_or(Err(StoreError::Fenced))
    }

    /// What the opening found and dealt with.
    #[must_use]
    pub fn recovered(&self) -> &Recovered {
        &self.shared.recovered
    }

    /// How many wait for a sync, though one has failed: all of them were to hear of that.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        let inbox = locked(&self.shared.inbox);
        inbox.failed.as_ref().map_or(0, |_| inbox.waiting.len())
    }

    /// What the files of the store take on the disk. None when the engine does not know, or the store was closed.
    #[must_use]
    pub fn space(&self) -> Option<Space> {
        locked(&self.shared.store)
            .as_ref()
            .and_then(|store| store.space())
    }

    /// How often the store did what nobody asked for.
    #[must_use]
    pub fn housekeeping(&self) -> Housekeeping {
        Housekeeping {
            checkpoints: self.shared.checkpoints.load(Ordering::Relaxed),
            compactions: self.shared.compactions.load(Ordering::Relaxed),
        }
    }

    /// The last commit that survives power loss.
    #[must_use]
    pub fn durable(&self) -> Seq {
        Seq(self.shared.durable.load(Ordering::Acquire))
    }

    /// The last commit.
    ///
    /// # Errors
    ///
    /// The store was closed.
    pub fn seq(&self) -> Result<Seq, StoreError> {
        self.with(|store| Ok(store.seq()))
    }

    /// The state as it is now, for ever.
    ///
    /// # Errors
    ///
    /// As [`Store::snapshot`].
    pub fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.with(|store| store.snapshot())
    }

    /// The value of a key as it is now.
    ///
    /// # Errors
    ///
    /// As [`super::Read::get`].
    pub fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.with(|store| store.get(key))
    }

    /// Works on the store itself. Nothing else does meanwhile, so it must not take long, nor use the handle.
    ///
    /// # Errors
    ///
    /// The store was closed, or what `work` says.
    pub fn with<T>(
        &self,
        work: impl FnOnce(&mut dyn Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match locked(&self.shared.store).as_mut() {
            Some(store) => work(&mut **store),
            None => Err(StoreError::Fenced),
        }
    }

    /// Makes everything durable, saves work for the next opening, and lets go of the directory. Other handles answer
    /// [`StoreError::Fenced`] from then on.
    ///
    /// # Errors
    ///
    /// As [`Store::close`].
    pub async fn close(&self) -> Result<(), StoreError> {
        let seq = self.seq()?;
        self.synced(seq).await?;
        let store = locked(&self.shared.store).take();
        let closed = store.map_or(Err(StoreError::Fenced), Store::close);
        self.shared.over.store(true, Ordering::Release);
        self.shared.work.notify_one();
        closed
    }
}

/// The machine that syncs a shared store, and answers who waits for it.
pub struct Owner {
    shared: Arc<OwnerShared>,
    /// The sync that was started as half a step.
    started: Option<SyncJob>,
}

/// The next task of an owner.
pub enum OwnerTask {
    /// Run this, as long as it takes, and hand the outcome to [`Owner::end`].
    Sync(SyncJob),
    /// Nothing, until there is a new request.
    Nothing,
}

impl Owner {
    /// True when there is something to do.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let inbox = locked(&self.shared.inbox);
        inbox.sync || inbox.maintain
    }

    /// What to do now. Everything that was committed before is part of it.
    pub fn begin(&mut self) -> OwnerTask {
        std::mem::take(&mut locked(&self.shared.inbox).sync);
        self.shared.unsynced_bytes.store(0, Ordering::Release);
        let begun = match locked(&self.shared.store).as_mut() {
            Some(store) => store.begin_sync().map(|job| (job, store.durable())),
            None => Err(StoreError::Fenced),
        };
        match begun {
            Ok((Some(job), _)) => return OwnerTask::Sync(job),
            Ok((None, durable)) => self.answer(&Ok(durable)),
            Err(error) => self.answer(&Err(error)),
        }
        OwnerTask::Nothing
    }

    /// Takes the outcome of a sync, and answers everyone whom it serves.
    pub fn end(&mut self, done: SyncDone) {
        if self.shared.planted.has(Slip::SyncRequestLost) {
            locked(&self.shared.inbox).sync = false;
        }
        let ended = match locked(&self.shared.store).as_mut() {
            Some(store) => store.end_sync(done),
            // Closed meanwhile, which made everything durable.
            None => Err(StoreError::Fenced),
        };
        locked(&self.shared.inbox).maintain = ended.is_ok();
        self.answer(&ended);
    }

    /// Some housekeeping, when it is due.
    pub fn maintain(&mut self) {
        let due = std::mem::take(&mut locked(&self.shared.inbox).maintain);
        if !due {
            return;
        }
        let budget = self.shared.limits.maintain_bytes;
        let more = match locked(&self.shared.store).as_mut() {
            Some(store) => store.maintain(budget).map(|more| (more, store.durable())),
            None => return,
        };
        match more {
            Ok((more, durable)) => {
                locked(&self.shared.inbox).maintain |= more;
                self.answer(&Ok(durable));
            }
            // Damage found by housekeeping does not stop commits; a fence does, and shows with the next sync.
            Err(StoreError::Corrupt(_)) => {}
            Err(error) => self.answer(&Err(error)),
        }
    }

    fn answer(&self, outcome: &Result<Seq, StoreError>) {
        let mut inbox = locked(&self.shared.inbox);
        let waiting = std::mem::take(&mut inbox.waiting);
        let durable = outcome.as_ref().ok().copied();
        match outcome {
            Ok(seq) => drop(self.shared.durable.fetch_max(seq.0, Ordering::AcqRel)),
            Err(error) => inbox.failed = Some(error.clone()),
        }
        let serves_all = self.shared.planted.has(Slip::LaterServed);
        let is_served =
            |(seq, _): &(Seq, Answer)| serves_all || durable.is_none_or(|durable| *seq <= durable);
        let mut told = 0;
        let first_alone = outcome.is_err() && self.shared.planted.has(Slip::FirstWaiterTold);
        let (served, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|waiter| {
            told += 1;
            is_served(waiter) && (!first_alone || told == 1)
        });
        inbox.waiting = rest;
        drop(inbox);
        for (_, answer) in served {
            // Who asked may have gone away.
            let _ = answer.send(outcome.clone());
        }
    }
}

impl Drop for Owner {
    /// Nobody syncs any more, so nobody must wait.
    fn drop(&mut self) {
        self.answer(&Err(StoreError::Fenced));
    }
}

impl Worker for Owner {
    async fn ready(&mut self) -> bool {
        loop {
            if self.has_work() {
                return true;
            }
            if self.shared.over.load(Ordering::Acquire) {
                return false;
            }
            self.shared.work.notified().await;
        }
    }

    fn start(&mut self) -> bool {
        let is_asked = locked(&self.shared.inbox).sync;
        if is_asked && let OwnerTask::Sync(job) = self.begin() {
            self.started = Some(job);
        }
        self.started.is_some()
    }

    fn finish(&mut self) {
        if let Some(job) = self.started.take() {
            let done = job.run();
            self.end(done);
        }
        self.maintain();
        self.shared.report();
    }
}

fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
