//! What the handles of one open database, and the tasks that serve it, share.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

use super::Settings;
use super::cores::DatabaseCores;
use super::session::{self, Ending};
use super::trees::DatabaseTrees;
use super::view::Source as _;
use crate::crypto::{CoreKey, DiscoveryKey, discovery_key};
use crate::engine::{Engine, MissingBlock, Stop};
use crate::env::{Clock as _, Env, Spawn as _, TaskHandle, watch};
use crate::error::Error;
use crate::hypercore::manifest::Manifest;
use crate::hypercore::{AppendOptions, Core, CoreError, Corestore};
use crate::replication::provisional_exchange::{Port, Segment};
use crate::store::Seq;
use crate::wire::{Length, Link, Timestamp};

pub(super) struct Shared<E: Env> {
    pub(super) env: E,
    pub(super) store: Corestore<E>,
    pub(super) settings: Settings,
    pub(super) key: CoreKey,
    pub(super) local: CoreKey,
    pub(super) state: Mutex<State<E>>,
    /// Counts changes: of the order, of what may be offered, of what is open.
    pub(super) changed: watch::Sender<u64>,
    /// Counts wishes for cores that are not open.
    wishes: watch::Sender<u64>,
    sessions: Mutex<Vec<(Arc<Ending>, [TaskHandle; 3])>>,
    /// The earliest time for which a timer runs.
    alarm: Mutex<Option<Timestamp>>,
}

/// Everything that changes, under one lock that is never held across an await.
pub(super) struct State<E: Env> {
    pub(super) engine: Engine<E::Crypto>,
    pub(super) cores: DatabaseCores<E>,
    pub(super) trees: DatabaseTrees<E>,
    /// Cores that some peer has, that are wanted, and that nobody opened yet.
    to_open: BTreeSet<CoreKey>,
    strangers_max: usize,
    /// Cores that are fetched though nothing known mentions them.
    strangers: BTreeSet<CoreKey>,
    /// A write failed: nothing more is taken from peers.
    is_fenced: bool,
    is_closed: bool,
    /// What applying waits for.
    awaited: Option<MissingBlock>,
    /// The last commit with blocks of peers.
    imported: Option<Seq>,
}

impl<E: Env> Shared<E> {
    pub(super) fn new(
        settings: Settings,
        engine: Engine<E::Crypto>,
        cores: DatabaseCores<E>,
        trees: DatabaseTrees<E>,
    ) -> Arc<Self> {
        let (store, local) = (cores.store().clone(), cores.local());
        let key = engine.key();
        let state = State {
            engine,
            cores,
            trees,
            to_open: BTreeSet::new(),
            strangers_max: settings.stranger_cores_max,
            strangers: BTreeSet::new(),
            is_fenced: false,
            is_closed: false,
            awaited: None,
            imported: None,
        };
        Arc::new(Self {
            env: store.env().clone(),
            store,
            settings,
            key,
            local,
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
            wishes: watch::Sender::new(0),
            sessions: Mutex::new(Vec::new()),
            alarm: Mutex::new(None),
        })
    }

    /// Hands what is stored to the engine, and starts the tasks that follow the cores.
    pub(super) async fn start(self: &Arc<Self>) -> Result<(), Error> {
        let keys: Vec<CoreKey> = lock(&self.state).cores.keys().collect();
        for key in &keys {
            self.follow(*key)?;
        }
        self.drain().await?;
        {
            let mut state = lock(&self.state);
            for key in keys {
                if key != self.local && !state.engine.wants(&key) {
                    state.strangers.insert(key);
                }
            }
        }
        let wishes = self.wishes.subscribe();
        self.env
            .spawn()
            .spawn("open cores", open_wanted(Arc::downgrade(self), wishes));
        Ok(())
    }

    /// Hands the stored blocks of a core to the engine, and starts a task that does so whenever more come.
    fn follow(self: &Arc<Self>, key: CoreKey) -> Result<(), CoreError> {
        let changes = {
            let mut state = lock(&self.state);
            let changes = state.cores.changes(&key)?;
            state.feed(&key)?;
            changes
        };
        self.env
            .spawn()
            .spawn("follow a core", follow(Arc::downgrade(self), key, changes));
        Ok(())
    }

    pub(super) fn discovery_key(&self) -> DiscoveryKey {
        discovery_key(&self.key)
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp(self.env.clock().wall().0)
    }

    /// Orders and applies everything that is here, in portions, so that other tasks get their turn.
    pub(super) async fn drain(self: &Arc<Self>) -> Result<(), Error> {
        loop {
            let drained = {
                let mut state = lock(&self.state);
                if state.is_closed {
                    return Err(Error::Closed);
                }
                let now = self.now();
                let drained = state.engine.drain(now, self.settings.drain_applies_max);
                state.save()?;
                drained
            };
            self.env.trace(|| {
                let state = lock(&self.state);
                format!("drained, {} batches in order", state.engine.batches())
            });
            self.notify();
            match drained {
                Ok(drained) => {
                    self.set_alarm(drained.wake_at);
                    self.set_awaited(drained.missing);
                    if !drained.more {
                        return Ok(());
                    }
                }
                Err(Stop { reason }) => return Err(Error::Interrupted { reason }),
            }
            yield_now().await;
        }
    }

    /// Waits until a commit is durable; one sync covers everybody who waits for one.
    pub(super) async fn synced(&self, seq: Seq) -> Result<(), Error> {
        let outcome = self.store.synced(seq).await;
        if outcome.is_err() {
            let mut state = lock(&self.state);
            if state.is_closed {
                return Err(Error::Closed);
            }
            state.is_fenced = true;
        }
        self.notify();
        Ok(outcome?)
    }

    /// Makes a commit durable while nobody waits for it: only then do peers see it.
    pub(super) fn sync_later(self: &Arc<Self>, seq: Seq) {
        let shared = Arc::clone(self);
        self.env.spawn().spawn("sync", async move {
            // A failure fences the store, and the next append says so.
            let _ = shared.synced(seq).await;
        });
    }

    pub(super) fn notify(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Takes over the tasks of a connection, so that they end with the database.
    pub(super) fn adopt(&self, ending: Arc<Ending>, tasks: [TaskHandle; 3]) -> Result<(), Error> {
        let closed = lock(&self.state).is_closed;
        let mut sessions = lock(&self.sessions);
        if closed {
            session::stop(&ending, tasks);
            return Err(Error::Closed);
        }
        let (over, running) = std::mem::take(&mut *sessions)
            .into_iter()
            .partition::<Vec<_>, _>(|(ending, _)| ending.is_over());
        *sessions = running;
        sessions.push((ending, tasks));
        drop(sessions);
        over.into_iter()
            .for_each(|(ending, tasks)| session::stop(&ending, tasks));
        Ok(())
    }

    pub(super) async fn close(&self) -> Result<(), Error> {
        if std::mem::replace(&mut lock(&self.state).is_closed, true) {
            return Ok(());
        }
        let sessions = std::mem::take(&mut *lock(&self.sessions));
        sessions
            .into_iter()
            .for_each(|(ending, tasks)| session::stop(&ending, tasks));
        self.notify();
        let signed = {
            let mut state = lock(&self.state);
            let signed = state.sign();
            state.cores.clear();
            signed
        };
        self.store.close().await?;
        Ok(signed?)
    }

    /// Applying goes on when a block of a tree that is still at a peer is here.
    fn set_awaited(self: &Arc<Self>, missing: Option<MissingBlock>) {
        let known = std::mem::replace(&mut lock(&self.state).awaited, missing);
        if let Some(missing) = missing.filter(|_| known != missing) {
            self.env
                .spawn()
                .spawn("await a block", await_block(Arc::downgrade(self), missing));
        }
    }

    /// Entries from too far ahead wait for the clock.
    fn set_alarm(self: &Arc<Self>, at: Option<Timestamp>) {
        let Some(at) = at else { return };
        {
            let mut alarm = lock(&self.alarm);
            if alarm.is_some_and(|set| set <= at) {
                return;
            }
            *alarm = Some(at);
        }
        let (shared, clock) = (Arc::downgrade(self), self.env.clock().clone());
        let wait = std::time::Duration::from_millis(at.0.saturating_sub(self.now().0));
        self.env.spawn().spawn("alarm", async move {
            clock.sleep(wait).await;
            let Some(shared) = shared.upgrade() else { return };
            *lock(&shared.alarm) = None;
            // The state remembers what went wrong with applying.
            let _ = Box::pin(shared.drain()).await;
        });
    }
}

impl<E: Env> State<E> {
    pub(super) const fn check_open(&self) -> Result<(), Error> {
        if self.is_closed {
            return Err(Error::Closed);
        }
        Ok(())
    }

    /// The last commit with blocks of peers since this was asked.
    pub(super) const fn take_imported(&mut self) -> Option<Seq> {
        self.imported.take()
    }

    /// Signs and writes own blocks, and hands them to the engine. They are durable with the commit.
    pub(super) fn append(&mut self, blocks: Vec<Bytes>) -> Result<(Length, Seq), Error> {
        let appended = self.cores.append(blocks)?;
        self.feed(&self.cores.local())?;
        Ok(appended)
    }

    /// Stores what was applied. It is durable with the next sync.
    fn save(&mut self) -> Result<(), CoreError> {
        let head = self.engine.records().head();
        if !self.trees.has_news(head) {
            return Ok(());
        }
        let (trees, local) = (&self.trees, self.cores.local_core()?);
        let (saved, _) = self
            .cores
            .store()
            .transact(|change| trees.save(change, local, head))?;
        self.trees.saved(saved);
        Ok(())
    }

    /// Signs the heads of the trees.
    fn sign(&self) -> Result<(), CoreError> {
        let ((), _) = self.cores.store().transact(|change| self.trees.sign(change))?;
        Ok(())
    }

    /// Hands new blocks of a core to the engine. False when there are none.
    fn feed(&mut self, key: &CoreKey) -> Result<bool, CoreError> {
        let (from, blocks) = self.cores.take_new(key)?;
        self.engine.ingest(*key, from, &blocks);
        Ok(!blocks.is_empty())
    }

    /// How many cores of strangers are fetched; who became a member is none any more.
    fn strangers(&self) -> usize {
        let is_stranger = |key: &&CoreKey| !self.engine.wants(key);
        self.strangers.iter().filter(is_stranger).count()
    }

    fn is_wanted(&self, key: &CoreKey) -> bool {
        *key != self.cores.local() && (self.engine.wants(key) || self.strangers.contains(key))
    }
}

impl<E: Env> Port for Shared<E> {
    fn offered(&self) -> Vec<Link> {
        let state = lock(&self.state);
        let offered = state.cores.keys().filter_map(|key| {
            let length = state.cores.get(&key)?.offered_state().ok()?.contiguous;
            (length > 0).then_some(Link {
                key,
                length: Length(length),
            })
        });
        offered.collect()
    }

    fn wanted(&self, key: &CoreKey, length: Length) -> Option<Length> {
        let mut state = lock(&self.state);
        if state.is_fenced || state.is_closed {
            return None;
        }
        if !state.is_wanted(key) {
            // A stranger may have written optimistically. How many of them are looked at is bounded.
            if *key == self.local
                || !state.engine.takes_strangers()
                || state.strangers() >= state.strangers_max
            {
                return None;
            }
            state.strangers.insert(*key);
        }
        let Some(core) = state.cores.get(key) else {
            state.to_open.insert(*key);
            self.wishes.send_modify(|count| *count = count.wrapping_add(1));
            return None;
        };
        let here = Length(core.length().ok()?);
        (here < length).then_some(here)
    }

    fn export(&self, key: &CoreKey, from: Length) -> Option<Segment> {
        export(lock(&self.state).cores.get(key)?, from).ok()?
    }

    fn import(&self, segment: Segment) -> Result<(), String> {
        let mut state = lock(&self.state);
        let Some(core) = state.cores.get(&segment.key) else {
            // Closed meanwhile: nothing is asked for before its core is open.
            return Ok(());
        };
        match import(core, segment) {
            Ok(seq) => {
                state.imported = state.imported.max(seq);
                Ok(())
            }
            Err(CoreError::Closed) => Ok(()),
            Err(CoreError::Store(_) | CoreError::Read(_) | CoreError::Record(_)) => {
                // Our disk, not the peer.
                state.is_fenced = true;
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The log from `from` to what may be offered of it; none when that is not longer.
fn export<E: Env>(core: &Core<E>, from: Length) -> Result<Option<Segment>, CoreError> {
    let head = core.offered()?;
    let (Some(manifest), Some(signature)) = (core.manifest()?, head.signature) else {
        return Ok(None);
    };
    let mut blocks = Vec::new();
    for index in from.0..head.tree.length() {
        let Some(block) = core.get_local(index)? else {
            return Ok(None);
        };
        blocks.push(block);
    }
    Ok((!blocks.is_empty()).then(|| Segment {
        key: core.key(),
        manifest: Bytes::copy_from_slice(manifest.as_bytes()),
        from,
        blocks,
        signature,
    }))
}

/// Stores what is new in blocks of a peer after checking them. Gives the commit.
fn import<E: Env>(core: &Core<E>, segment: Segment) -> Result<Option<Seq>, CoreError> {
    let length = core.length()?;
    if segment.from.0 > length {
        return Err(CoreError::Beyond {
            asked: segment.from.0,
            length,
        });
    }
    if core.manifest()?.is_none() {
        core.set_manifest(Manifest::parse(&segment.manifest, Some(core.key()))?)?;
    }
    let known = usize::try_from(length - segment.from.0).unwrap_or(usize::MAX);
    let blocks = segment.blocks.get(known..).unwrap_or_default().to_vec();
    if blocks.is_empty() {
        return Ok(None);
    }
    let options = AppendOptions {
        signature: Some(segment.signature),
        ..AppendOptions::default()
    };
    let (_, seq) = core.append_visible(blocks, options)?;
    Ok(Some(seq))
}

/// Hands blocks to the engine whenever a core got more, and tells everybody who offers it.
async fn follow<E: Env>(shared: Weak<Shared<E>>, key: CoreKey, mut changes: watch::Receiver<u64>) {
    while changes.changed().await.is_ok() {
        let Some(shared) = shared.upgrade() else { return };
        let fed = lock(&shared.state).feed(&key);
        match fed {
            // What went wrong with applying is kept in the engine.
            Ok(true) => drop(shared.drain().await),
            Ok(false) => shared.notify(),
            // A core that cannot be read any more gives nothing more; other cores go on.
            Err(_) => return,
        }
    }
}

/// Asks peers for a block of a tree, as long as it is awaited, and goes on applying once it is here.
async fn await_block<E: Env>(shared: Weak<Shared<E>>, missing: MissingBlock) {
    loop {
        let Some(peers) = shared.upgrade().and_then(|shared| {
            let state = lock(&shared.state);
            (state.awaited == Some(missing)).then(|| state.trees.peers())
        }) else {
            return;
        };
        match peers.fetch(missing.core, missing.index).await {
            Ok(()) => break,
            Err(Error::Unavailable { .. }) => {}
            Err(_) => return,
        }
    }
    if let Some(shared) = shared.upgrade() {
        // What went wrong with applying is kept in the engine.
        let _ = Box::pin(shared.drain()).await;
    }
}

/// Opens the cores that are wished for.
async fn open_wanted<E: Env>(shared: Weak<Shared<E>>, mut wishes: watch::Receiver<u64>) {
    while wishes.changed().await.is_ok() {
        let Some(shared) = shared.upgrade() else { return };
        loop {
            let Some(key) = lock(&shared.state).to_open.pop_first() else {
                break;
            };
            let Ok(core) = DatabaseCores::session(&shared.store, shared.key, key).await else {
                return;
            };
            let added = {
                let mut state = lock(&shared.state);
                if state.is_closed {
                    return;
                }
                state.cores.add(core)
            };
            if added && shared.follow(key).is_err() {
                return;
            }
        }
        shared.notify();
    }
}

/// Locks, also after a panic elsewhere: what is behind our locks is consistent between any two statements that can
/// panic, and a user's apply runs on values of its own.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets other tasks run.
async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
