//! What the handles of one open database, and the tasks that serve it, share.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::append::Own;
use super::cores::DatabaseCores;
use super::event::News;
use super::gather::{Fed, Gather};
use super::trees::DatabaseTrees;
use super::update::{UpdateHook, Updates};
use super::view::Source as _;
use super::wanted::Wanted;
use super::{Session, Settings, Stalled};
use crate::crypto::{CoreKey, DiscoveryKey, discovery_key};
use crate::engine::encryption::DatabaseKeys;
use crate::engine::{Drained, Engine, MissingBlock, Stop};
use crate::env::{Clock as _, Env, Mono, Point, Sights, Slip, Spawn as _, TraceEvent, watch};
use crate::error::Error;
use crate::hypercore::{CoreError, Corestore};
use crate::replication::Role;
use crate::replication::session::{Replication, SessionSettings, Wakeup};
use crate::store::Seq;
use crate::wire::{Length, Timestamp};

/// How often an entry that waits for the clock looks at it.
const ALARM_LOOK: Duration = Duration::from_secs(1);

/// How late a simulator may let something happen that nobody may count on to be early.
pub(super) const LATE: Duration = Duration::from_millis(20);

pub(super) struct Shared<E: Env> {
    pub(super) env: E,
    pub(super) store: Corestore<E>,
    pub(super) settings: Settings,
    pub(super) key: CoreKey,
    pub(super) local: CoreKey,
    /// Of an encrypted database.
    pub(super) keys: Option<DatabaseKeys>,
    pub(super) state: Mutex<State<E>>,
    /// Held by the append whose turn it is.
    pub(super) appending: tokio::sync::Mutex<()>,
    pub(super) replication: Replication<E>,
    /// Where peers tell each other of cores of writers.
    pub(super) wakeup: Wakeup,
    /// Counts changes: of the order, of what may be offered, of what is open.
    pub(super) changed: watch::Sender<u64>,
    /// Counts wishes for cores that are not open.
    pub(super) wishes: watch::Sender<u64>,
    /// Changes when the database is closed.
    closing: watch::Sender<bool>,
    /// The earliest time for which a timer runs.
    alarm: Mutex<Option<Timestamp>>,
    /// The earliest time at which somebody looks whether a stranger gives up its slot.
    pub(super) rotation: Mutex<Option<Mono>>,
    /// Connections that run, and some that are over.
    sessions: Mutex<Vec<Session>>,
    /// Drains that run.
    draining: watch::Sender<usize>,
    pub(super) gather: Mutex<Gather>,
    pub(super) updates: Updates,
}

/// Everything that changes, under one lock that is never held across an await.
pub(super) struct State<E: Env> {
    pub(super) engine: Engine<E::Crypto>,
    pub(super) cores: DatabaseCores<E>,
    pub(super) trees: DatabaseTrees<E>,
    pub(super) own: Own,
    pub(super) wanted: Wanted,
    pub(super) is_closed: bool,
    /// What applying waits for.
    awaited: Option<MissingBlock>,
    pub(super) news: News,
}

impl<E: Env> Shared<E> {
    pub(super) fn new(
        settings: Settings,
        sessions: SessionSettings,
        engine: Engine<E::Crypto>,
        cores: DatabaseCores<E>,
        trees: DatabaseTrees<E>,
        update: Option<UpdateHook>,
    ) -> Arc<Self> {
        let (store, local) = (cores.store().clone(), cores.local());
        let key = engine.key();
        let updates = Updates::new(update, &engine);
        let news = News::new(store.env(), engine.records().head(), engine.view().head());
        let keys = cores.encryption().cloned();
        let replication = Replication::new(store.env(), &store, sessions);
        let state = State {
            engine,
            cores,
            trees,
            own: Own::default(),
            wanted: Wanted::new(store.env(), &settings),
            is_closed: false,
            awaited: None,
            news,
        };
        Arc::new(Self {
            env: store.env().clone(),
            store,
            settings,
            key,
            local,
            keys,
            state: Mutex::new(state),
            appending: tokio::sync::Mutex::new(()),
            wakeup: replication.wakeup(key),
            replication,
            changed: watch::Sender::new(0),
            wishes: watch::Sender::new(0),
            closing: watch::Sender::new(false),
            alarm: Mutex::new(None),
            rotation: Mutex::new(None),
            sessions: Mutex::new(Vec::new()),
            draining: watch::Sender::new(0),
            gather: Mutex::default(),
            updates,
        })
    }

    /// Hands what is stored to the engine, and starts the tasks that follow the cores and open others.
    pub(super) async fn start(self: &Arc<Self>) -> Result<(), Error> {
        let wishes = self.wishes.subscribe();
        let keys: Vec<CoreKey> = lock(&self.state).cores.keys().collect();
        for key in &keys {
            self.follow(*key)?;
        }
        lock(&self.state).expect();
        self.drain().await?;
        self.fetch(keys, wishes, self.closing.subscribe());
        Ok(())
    }

    /// Replicates with a peer.
    pub(super) fn replicate<S>(self: &Arc<Self>, stream: S, role: Role) -> Result<Session, Error>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        // Under the lock: a session that starts is one that a `close` from now on ends.
        let state = lock(&self.state);
        state.check_open()?;
        let session = Session::new(self.replication.start(stream, role));
        let mut sessions = lock(&self.sessions);
        sessions.retain(|session| session.close_reason().is_none());
        sessions.push(session.clone());
        self.greet(&session);
        Ok(session)
    }

    /// The connections that run.
    pub(super) fn sessions(&self) -> Vec<Session> {
        let mut sessions = lock(&self.sessions);
        sessions.retain(|session| session.close_reason().is_none());
        sessions.clone()
    }

    /// Hands the stored blocks of a core to the engine, and starts a task that does so whenever more come.
    pub(super) fn follow(self: &Arc<Self>, key: CoreKey) -> Result<(), CoreError> {
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
        let _running = Running::new(&self.draining);
        let drained = self.drain_portions().await;
        lock(&self.state).tell(drained.as_ref().err());
        self.call_update();
        drained
    }

    /// Waits until no drain runs.
    pub(super) async fn drained(&self) -> Result<(), Error> {
        // The sender lives here, so this cannot fail.
        let _ = self.draining.subscribe().wait_for(|running| *running == 0).await;
        let state = lock(&self.state);
        state.check_open()?;
        match state.engine.stopped() {
            Some(reason) => Err(Error::Interrupted {
                reason: reason.to_owned(),
            }),
            None => Ok(()),
        }
    }

    async fn drain_portions(self: &Arc<Self>) -> Result<(), Error> {
        loop {
            let (drained, unawaited, sights) = {
                let mut state = lock(&self.state);
                if state.is_closed {
                    return Err(Error::Closed);
                }
                let now = self.now();
                let budget = match self.settings.drain_applies_max {
                    _ if self.env.buggify("drain_nothing") => 0,
                    _ if self.env.buggify("drain_one") => 1,
                    usual => usual,
                };
                if self.env.buggify("drop_tree_caches") {
                    state.trees.trees().drop_caches();
                }
                let mut drained = state.engine.drain(now, budget);
                if let Ok(drained) = &mut drained
                    && drained.is_behind
                {
                    state.go_back()?;
                    drained.more = true;
                }
                let unawaited = state.settle(&mut drained, now);
                if drained.is_ok() {
                    state.save()?;
                }
                if self.env.buggify("extra_sync") {
                    state.cores.store().request_sync();
                }
                state.trace_drain(&drained);
                let sights = state.sights(&drained);
                (drained, unawaited, sights)
            };
            let unawaited = unawaited.filter(|_| !self.store.planted().has(Slip::AckUnsynced));
            sights.report(&self.env);
            if let Some(seq) = unawaited {
                self.sync_later(seq);
            }
            self.tend();
            self.notify();
            match drained {
                Ok(drained) => {
                    self.set_alarm(drained.wake_at);
                    self.set_awaited(drained.missing);
                    if !drained.more || self.store.planted().has(Slip::PortionEndsDrain) {
                        return Ok(());
                    }
                }
                Err(Stop { reason }) => return Err(Error::Interrupted { reason }),
            }
            yield_now().await;
        }
    }

    /// Waits until a commit is durable; one sync covers everybody who waits for one.
    pub(super) async fn synced(self: &Arc<Self>, seq: Seq) -> Result<(), Error> {
        let outcome = self.store.synced(seq).await;
        if let Err(error) = &outcome {
            lock(&self.state).check_open()?;
            self.env.trace(|| TraceEvent::Fenced {
                why: error.to_string(),
            });
        }
        self.tend();
        self.notify();
        Ok(outcome?)
    }

    /// Makes a commit durable while nobody waits for it: only then do peers see it.
    pub(super) fn sync_later(self: &Arc<Self>, seq: Seq) {
        let shared = Arc::clone(self);
        self.env.spawn().spawn("sync", async move {
            if shared.env.buggify("late_sync") {
                shared.env.clock().sleep(LATE).await;
            }
            // A failure fences the store, and the next append says so.
            let _ = shared.synced(seq).await;
        });
    }

    pub(super) fn notify(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) async fn close(&self) -> Result<(), Error> {
        if std::mem::replace(&mut lock(&self.state).is_closed, true) {
            return Ok(());
        }
        self.replication.close();
        self.closing.send_replace(true);
        self.notify();
        let signed = {
            let mut state = lock(&self.state);
            let signed = state.sign();
            state.cores.clear();
            state.news.end();
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
        self.env.sometimes(Point::AheadOfClock, true);
        let (shared, clock) = (Arc::downgrade(self), self.env.clock().clone());
        self.env.spawn().spawn("alarm", async move {
            // The time of day may be put right meanwhile, so it is asked again now and then.
            loop {
                let left = at.0.saturating_sub(clock.wall().0);
                if left == 0 {
                    break;
                }
                clock.sleep(Duration::from_millis(left).min(ALARM_LOOK)).await;
            }
            let Some(shared) = shared.upgrade() else { return };
            if !shared.store.planted().has(Slip::AlarmOnce) {
                *lock(&shared.alarm) = None;
            }
            shared.env.sometimes(Point::AheadApplied, true);
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

    /// Signs and writes own blocks, and with them the trees, about which they speak. The blocks are shown to peers once
    /// the commit is durable.
    pub(super) fn append(&mut self, blocks: Vec<Bytes>) -> Result<(Length, Seq), Error> {
        let (trees, cores, engine) = (&self.trees, &self.cores, &mut self.engine);
        let ((length, saved), seq) = cores.store().transact(|change| {
            let saved = trees.save(change, cores, engine)?;
            Ok((change.append(cores.local_core()?, blocks)?, saved))
        })?;
        self.trees.saved(saved);
        self.feed(&self.cores.local())?;
        Ok((Length(length), seq))
    }

    /// Stores what was applied. It is durable with the next sync.
    fn save(&mut self) -> Result<(), CoreError> {
        let (trees, cores, engine) = (&self.trees, &self.cores, &mut self.engine);
        if !trees.has_news(cores, engine) {
            return Ok(());
        }
        let (saved, _) = cores
            .store()
            .transact(|change| trees.save(change, cores, engine))?;
        self.trees.saved(saved);
        Ok(())
    }

    /// Signs the heads of the trees.
    fn sign(&self) -> Result<(), CoreError> {
        let ((), _) = self.cores.store().transact(|change| self.trees.sign(change))?;
        Ok(())
    }

    /// What a portion of a drain came to.
    fn trace_drain(&self, drained: &Result<Drained, Stop>) {
        let env = self.cores.store().env();
        match drained {
            Err(Stop { reason }) => env.trace(|| TraceEvent::Interrupted {
                reason: reason.clone(),
            }),
            Ok(drained) => {
                if drained.undone > 0 {
                    env.trace(|| TraceEvent::Undone {
                        batches: drained.undone as u64,
                    });
                }
                if let Some(missing) = drained.missing {
                    env.trace(|| TraceEvent::Suspended {
                        core: missing.core,
                        index: missing.index.0,
                    });
                }
                env.trace(|| TraceEvent::Drained {
                    batches: self.engine.batches() as u64,
                    applies: self.engine.stats().applies,
                });
            }
        }
    }

    /// The points that a portion of a drain passed.
    fn sights(&mut self, drained: &Result<Drained, Stop>) -> Sights {
        let mut sights = self.engine.take_sights();
        if let Ok(drained) = drained {
            sights.note_if(Point::DrainSuspended, drained.missing.is_some());
            sights.note_if(Point::DrainInPortions, drained.more);
        }
        if E::SIM {
            self.notice_members(&mut sights);
        }
        sights
    }

    /// Hands new blocks of a core to the engine. None when there are none.
    fn feed(&mut self, key: &CoreKey) -> Result<Option<Fed>, CoreError> {
        let (from, blocks) = self.cores.take_new(key)?;
        if E::SIM {
            let mut sights = Sights::default();
            match self.cores.stalled(key) {
                Some(Stalled::Rewritten { .. }) => sights.note(Point::LogRewritten),
                Some(Stalled::Conflict { .. }) => sights.note(Point::LogContradicted),
                _ => {}
            }
            sights.report(self.cores.store().env());
        }
        let env = self.cores.store().env();
        if !blocks.is_empty() {
            env.trace(|| TraceEvent::Taken {
                core: *key,
                length: from.0 + blocks.len() as u64,
            });
        }
        if let Some(stalled) = self.cores.stalled(key) {
            env.trace(|| TraceEvent::Stalled {
                core: *key,
                why: format!("{stalled:?}"),
            });
        }
        let now = env.clock().now();
        self.wanted.changed(key, !blocks.is_empty(), now);
        self.engine.ingest(*key, from, &blocks);
        Ok((!blocks.is_empty()).then(|| Fed {
            blocks: blocks.len(),
            bytes: blocks.iter().map(Bytes::len).sum(),
        }))
    }

    /// What came belongs before everything that the engine holds: it begins anew from a checkpoint, with what is stored.
    /// From none, when that is not what was applied: as it would if it were opened now.
    fn go_back(&mut self) -> Result<(), Error> {
        let went_back = if self.cores.are_rewritten() {
            self.engine.start_over()
        } else {
            self.engine.go_back()
        };
        went_back.map_err(|error| Error::Internal {
            what: error.to_string(),
        })?;
        self.cores.store().env().trace(|| TraceEvent::WentBack {
            batches: self.engine.batches() as u64,
        });
        let members_only = self.cores.store().planted().has(Slip::BackFeedsMembers);
        for key in self.cores.feed_from(|key| self.engine.fed_from(key)) {
            if members_only && !self.engine.is_member(&key) {
                continue;
            }
            self.feed(&key)?;
        }
        self.expect();
        Ok(())
    }

    fn expect(&mut self) {
        let Self { engine, cores, .. } = self;
        engine.expect(|key| cores.taken(key));
    }

    /// Why nothing more of a core is taken.
    pub(super) fn stalled(&self, key: &CoreKey) -> Option<Stalled> {
        let frozen = self.engine.frozen(key).cloned().map(Stalled::Frozen);
        frozen.or_else(|| self.cores.stalled(key).cloned())
    }
}

/// Hands blocks to the engine whenever a core got more, and tells everybody who offers it.
async fn follow<E: Env>(shared: Weak<Shared<E>>, key: CoreKey, mut changes: watch::Receiver<u64>) {
    let planted = shared.upgrade().map(|shared| shared.store.planted());
    if planted.is_some_and(|planted| planted.has(Slip::FollowerLate)) {
        changes.mark_unchanged();
    }
    while changes.changed().await.is_ok() {
        let Some(shared) = shared.upgrade() else { return };
        if shared.env.buggify("late_feed") {
            shared.env.clock().sleep(LATE).await;
        }
        let fed = lock(&shared.state).feed(&key);
        match fed {
            Ok(Some(fed)) => shared.gathered(&key, fed).await,
            Ok(None) => shared.notify(),
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
        if let Some(shared) = shared.upgrade()
            && shared.env.buggify("late_tree_block")
        {
            let clock = shared.env.clock().clone();
            drop(shared);
            clock.sleep(LATE).await;
        }
        match peers.fetch(missing.core, missing.index).await {
            Ok(()) => break,
            Err(Error::Unavailable { .. }) => {}
            Err(_) => return,
        }
    }
    if let Some(shared) = shared.upgrade() {
        shared.env.sometimes(Point::DrainResumed, true);
        // What went wrong with applying is kept in the engine.
        let _ = Box::pin(shared.drain()).await;
    }
}

/// What `future` gives; none when `end` comes first.
pub(super) async fn unless<T, U>(future: impl Future<Output = T>, end: impl Future<Output = U>) -> Option<T> {
    let (mut future, mut end) = (pin!(future), pin!(end));
    poll_fn(|context| match end.as_mut().poll(context) {
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending => future.as_mut().poll(context).map(Some),
    })
    .await
}

impl<E: Env> Drop for Shared<E> {
    /// Sessions end with the last handle.
    fn drop(&mut self) {
        self.replication.close();
    }
}

/// Counts a drain as long as it lives.
struct Running<'a>(&'a watch::Sender<usize>);

impl<'a> Running<'a> {
    fn new(running: &'a watch::Sender<usize>) -> Self {
        running.send_modify(|count| *count += 1);
        Self(running)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
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
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
