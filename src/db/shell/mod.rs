//! What the handles of one open database, and the tasks that serve it, share: the machine behind its lock, one timer, and
//! what carries out its effects.

mod append;
mod connections;
mod drain;
mod forward;
mod lock;
mod own_log;
mod rotate;
pub(super) mod store;
mod swarm;
mod tasks;
mod timer;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use self::append::Unsynced;
use super::custom_view::ReleasedAtClose;
use super::machine::{
    Effect, Input, Machine, MachineParts, Now, Published, TreeCommit, TreeLengths, TreeRecord, log_error,
};
use super::own_log::Unconfirmed;
use super::stats::Counters;
use super::trees::DatabaseTrees;
use super::update::{UpdateHook, Updates};
use super::{Event, FastForward, Session, Settings, Stats};
use crate::crypto::{CoreKey, DiscoveryKey, discovery_key};
use crate::engine::encryption::DatabaseKeys;
use crate::engine::{Engine, GAP_ENTRIES, Settled};
use crate::env::{BoxFuture, Clock as _, Env, Spawn as _, TraceEvent, knob, watch};
use crate::error::Error;
use crate::hypercore::{CoreError, Corestore, Hold};
use crate::replication::Role;
use crate::replication::session::{Replication, ReplicationSession, SessionSettings, Wakeup};
use crate::replication::stream::Secured;
use crate::store::Seq;
use crate::wire::Timestamp;
use lock::{Inside, MachineLock};
use store::{OpenLog, Opened};
use timer::Timer;

/// Events that wait for a slow listener. It is told how many more there were.
const BACKLOG: usize = 256;

/// How late a simulator may let something happen that nobody may count on to be early.
const LATE: Duration = Duration::from_millis(20);

/// A machine in the world `E`.
pub(super) type MachineOf<E> = Machine<<E as Env>::Crypto, OpenLog<E>>;

pub(super) struct Shell<E: Env> {
    pub(super) env: E,
    pub(super) store: Corestore<E>,
    pub(super) settings: Settings,
    pub(super) key: CoreKey,
    /// Why peers may have more of the own log than is here.
    unconfirmed: Mutex<Option<Unconfirmed>>,
    /// The directory was an older copy when it was opened.
    was_restored: bool,
    /// Of an encrypted database.
    pub(super) keys: Option<DatabaseKeys>,
    pub(super) trees: DatabaseTrees<E>,
    /// What of the store is this database's alone, until it is closed.
    holds: Mutex<Vec<Hold<E>>>,
    pub(super) machine: MachineLock<E::Crypto, OpenLog<E>>,
    /// Held by the append whose turn it is.
    appending: tokio::sync::Mutex<()>,
    /// What was appended and nobody waits for to be durable.
    unsynced: Mutex<Unsynced>,
    pub(super) replication: Replication<E>,
    /// Where peers tell each other of cores of writers.
    wakeup: Wakeup,
    /// Counts changes: of the order, of what may be offered, of what is open.
    pub(super) changed: watch::Sender<u64>,
    /// Changes when the database is closed.
    closing: watch::Sender<bool>,
    /// Held by the close whose turn it is.
    ending: tokio::sync::Mutex<Ending>,
    timer: watch::Sender<Timer>,
    /// Drains that run.
    draining: watch::Sender<usize>,
    updates: Updates,
    /// What keeps views in types of the program's.
    custom_views: Mutex<Vec<Weak<dyn ReleasedAtClose>>>,
    /// Whose trees are moved onto.
    forward: Mutex<FastForward>,
    pub(super) counters: Counters,
}

/// How far the end of the database has come. A close that is given up leaves it to the next.
enum Ending {
    Open,
    /// Nothing more is written, and the trees are signed, or could not be.
    Signed(Result<Seq, CoreError>),
    /// The store is closed, or left to the other databases in it.
    Over,
}

/// What carrying out effects came to.
#[derive(Default)]
struct Done {
    /// It is time to order and apply.
    drains: bool,
    /// How a portion of a drain ended: true when there is more.
    drained: Option<Result<bool, Error>>,
    /// A log could not be read.
    unreadable: Option<CoreError>,
    /// Whoever waits for a change is to look.
    notifies: bool,
}

impl<E: Env> Shell<E> {
    pub(super) fn new(
        settings: Settings,
        sessions: SessionSettings,
        engine: Engine<E::Crypto>,
        (opened, unconfirmed): (Opened<E>, Option<Unconfirmed>),
        (trees, record): (DatabaseTrees<E>, TreeRecord),
        (update, forward): (Option<UpdateHook>, FastForward),
    ) -> Arc<Self> {
        let Opened {
            store,
            database: key,
            local: _,
            keys,
            logs,
            holds,
            rules: _,
        } = opened;
        let env = store.env().clone();
        let updates = Updates::new(update, (engine.view().head(), engine.records().head()));
        let parts = MachineParts {
            engine,
            crypto: env.crypto().clone(),
            logs,
            record,
            forward_gap: knob::FORWARD_GAP.of(&env, GAP_ENTRIES),
            strangers_waiting_max: Some(knob::STRANGERS_WAITING.size(&env, super::machine::WAITING_MAX)),
            is_unconfirmed: unconfirmed.is_some(),
            looks_ahead: forward.is_on() && !E::READ_ONLY,
            boots_until: forward.boots().map(|boot| env.clock().now() + boot.lasts()),
            planted: store.planted(),
            is_traced: E::TRACED,
        };
        let machine = Machine::new(parts, &settings);
        let replication = Replication::new(&env, &store, sessions);
        Arc::new(Self {
            machine: MachineLock::new(machine, knob::DB_EVENTS.size(&env, BACKLOG)),
            settings,
            key,
            unconfirmed: Mutex::new(unconfirmed),
            was_restored: unconfirmed == Some(Unconfirmed::Restored),
            keys,
            trees,
            holds: Mutex::new(holds),
            appending: tokio::sync::Mutex::new(()),
            unsynced: Mutex::default(),
            wakeup: replication.wakeup(key),
            replication,
            changed: watch::Sender::new(0),
            closing: watch::Sender::new(false),
            ending: tokio::sync::Mutex::new(Ending::Open),
            timer: watch::Sender::new(Timer::Idle),
            draining: watch::Sender::new(0),
            updates,
            custom_views: Mutex::default(),
            forward: Mutex::new(forward),
            counters: Counters::default(),
            env,
            store,
        })
    }

    /// Hands what is stored to the engine, and starts the tasks that follow the cores and open others, once it is applied.
    /// `waits` for that.
    pub(super) async fn start(self: &Arc<Self>, waits: bool) -> Result<(), Error> {
        let keys = {
            let mut machine = self.machine.enter().await;
            let keys: Vec<CoreKey> = machine.logs().keys().collect();
            for key in &keys {
                self.follow(&machine, *key)?;
                let done = self.step(&mut machine, Input::Loaded(*key));
                if let Some(error) = done.unreadable {
                    return Err(error.into());
                }
            }
            self.step(&mut machine, Input::Started);
            self.tell_of_opening();
            keys
        };
        let spawn = self.env.spawn();
        let timer = timer::run(
            Arc::downgrade(self),
            self.env.clock().clone(),
            self.timer.subscribe(),
        );
        spawn.spawn("timer", timer);
        if waits {
            return self.serve(keys).await;
        }
        let shared = Arc::clone(self);
        spawn.spawn("rebuild", async move {
            told(shared.serve(keys).await, &shared.env);
        });
        Ok(())
    }

    /// Says what the opening found that somebody has to know.
    fn tell_of_opening(&self) {
        if let Some((first, last)) = self.store.recovered().missing {
            let (first, last) = (first.0, last.0);
            self.machine.tell(Event::CutOff { first, last });
        }
        if let Some(why) = self.unconfirmed() {
            self.machine.tell(Event::Unconfirmed(why));
        }
    }

    /// Applies what is stored, and fetches more from then on. These logs were open from the start.
    async fn serve(self: &Arc<Self>, keys: Vec<CoreKey>) -> Result<(), Error> {
        self.drain().await?;
        {
            let mut machine = self.machine.enter().await;
            self.step_alone(&mut machine, Input::Begun(keys));
        }
        let wakeup = self.replication.wakeup(self.key);
        let announcements =
            tasks::follow_announcements(Arc::downgrade(self), wakeup, self.closing.subscribe());
        self.env.spawn().spawn("follow announcements", announcements);
        self.boot_later();
        Ok(())
    }

    /// Replicates with a peer.
    pub(super) fn replicate<S>(self: &Arc<Self>, stream: S, role: Role) -> Result<Session, Error>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        self.check_open()?;
        Ok(self.entered(self.replication.start(stream, role)))
    }

    /// Replicates with a peer on a stream that is encrypted already.
    pub(super) fn replicate_secured<S>(
        self: &Arc<Self>,
        stream: S,
        role: Role,
        secured: Secured,
    ) -> Result<Session, Error>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        self.check_open()?;
        Ok(self.entered(self.replication.start_secured(stream, role, secured)))
    }

    fn entered(self: &Arc<Self>, session: ReplicationSession) -> Session {
        let (clock, wait) = (self.env.clock().clone(), self.settings.read_wait());
        let patience = move || -> Pin<Box<dyn Future<Output = ()> + Send>> {
            let clock = clock.clone();
            Box::pin(async move { clock.sleep(wait).await })
        };
        let session = Session::new(session, Arc::new(patience));
        let number = self.machine.add_session(session.clone());
        self.follow_peer(number, &session);
        if self.is_closed() {
            // It was closed meanwhile, and may have missed this one.
            session.close();
        }
        session
    }

    /// Counts since the opening.
    pub(super) fn stats(&self) -> Stats {
        let engine = self.read().stats;
        let sessions = self.replication.counts();
        let store = self.store.housekeeping();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            appended_blocks: read(&self.counters.appended_blocks),
            appended_bytes: read(&self.counters.appended_bytes),
            received_blocks: sessions.received_blocks,
            received_bytes: sessions.received_bytes,
            sent_blocks: sessions.sent_blocks,
            sent_bytes: sessions.sent_bytes,
            connections_opened: sessions.opened,
            connections_closed: sessions.closed,
            checkpoints: store.checkpoints,
            compactions: store.compactions,
            errors: read(&self.counters.errors),
            ..Stats::from(engine)
        }
    }

    /// The start of the order that can no longer change if these writers are silent.
    pub(super) fn settled<'a>(&'a self, silent: &'a [CoreKey]) -> BoxFuture<'a, Settled> {
        Box::pin(async move { self.machine.enter().await.settled(|key| silent.contains(key)) })
    }

    pub(super) fn discovery_key(&self) -> DiscoveryKey {
        discovery_key(&self.key)
    }

    /// The key of the local writer.
    pub(super) fn local(&self) -> CoreKey {
        self.read().local
    }

    /// What was published last.
    pub(super) fn read(&self) -> Arc<Published<OpenLog<E>>> {
        self.machine.read()
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.closing.borrow()
    }

    pub(super) fn check_open(&self) -> Result<(), Error> {
        if self.is_closed() {
            return Err(Error::Closed);
        }
        Ok(())
    }

    /// Refuses what would wait for itself: a call out of apply or of the update hook.
    pub(super) fn check_entry(&self) -> Result<(), Error> {
        if self.machine.is_reentrant() {
            return Err(Error::Reentrant);
        }
        Ok(())
    }

    pub(super) fn notify(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Ends everything.
    pub(super) fn close(self: &Arc<Self>) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.check_entry()?;
            if !self.closing.send_replace(true) {
                self.env
                    .trace(|| TraceEvent::DatabaseClosed { local: self.local() });
                self.replication.close();
                self.timer.send_replace(Timer::Over);
                self.notify();
            }
            // Whoever comes second waits for the end, or goes on with one that was given up.
            let mut ending = self.ending.lock().await;
            if matches!(*ending, Ending::Open) {
                let signed = {
                    let mut machine = self.machine.enter().await;
                    let signed = self.store.transact(|change| self.trees.sign(change));
                    self.step(&mut machine, Input::Close);
                    self.machine.end();
                    signed
                };
                *ending = Ending::Signed(signed.map(|((), seq)| seq));
                self.holds.lock().unwrap_or_else(PoisonError::into_inner).clear();
                let custom_views = std::mem::take(&mut *self.lock_custom_views());
                for kept in custom_views.iter().filter_map(Weak::upgrade) {
                    kept.release();
                }
            }
            if let Ending::Signed(signed) = &*ending {
                let signed = signed.clone();
                // Other databases may have their logs in the same store.
                if self.store.is_held() {
                    self.store.synced(signed?).await?;
                } else {
                    self.store.close().await?;
                    *ending = Ending::Over;
                    signed?;
                }
                *ending = Ending::Over;
            }
            Ok(())
        })
    }

    /// Has this told when the database closes, as long as somebody keeps it.
    pub(super) fn release_at_close(&self, kept: Weak<dyn ReleasedAtClose>) {
        let mut custom_views = self.lock_custom_views();
        custom_views.retain(|kept| kept.strong_count() > 0);
        custom_views.push(kept);
    }

    fn lock_custom_views(&self) -> MutexGuard<'_, Vec<Weak<dyn ReleasedAtClose>>> {
        self.custom_views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The machine.

    pub(super) fn now(&self) -> Now {
        let clock = self.env.clock();
        Now {
            mono: clock.now(),
            wall: Timestamp(clock.wall().0),
        }
    }

    /// Tells the machine what happened, after what was left for it, and carries out what follows.
    fn step(
        self: &Arc<Self>,
        machine: &mut Inside<'_, E::Crypto, OpenLog<E>>,
        input: Input<OpenLog<E>>,
    ) -> Done {
        let mut done = Done::default();
        while let Some(left) = self.machine.next_left() {
            self.step_one(machine, left, &mut done);
        }
        self.step_one(machine, input, &mut done);
        if std::mem::take(&mut done.notifies) {
            // Whoever is woken by this reads what was published, at once and on another thread.
            machine.show();
            self.notify();
        }
        done
    }

    /// The same, where nobody else orders what is to be ordered then.
    fn step_alone(
        self: &Arc<Self>,
        machine: &mut Inside<'_, E::Crypto, OpenLog<E>>,
        input: Input<OpenLog<E>>,
    ) {
        if self.step(machine, input).drains {
            self.drain_later();
        }
    }

    fn step_one(
        self: &Arc<Self>,
        machine: &mut Inside<'_, E::Crypto, OpenLog<E>>,
        input: Input<OpenLog<E>>,
        done: &mut Done,
    ) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            // What listeners were told is nothing that readers see.
            if !matches!(input, Input::DrainOver { .. } | Input::Listen(_)) {
                machine.touch();
            }
            let effects = machine.step(self.now(), input);
            machine.take_sights().report(&self.env);
            for effect in effects {
                if let Some(input) = self.perform(machine, effect, done) {
                    inputs.push_back(input);
                }
            }
        }
    }

    /// Carries out one effect. Gives what happened by it.
    fn perform(
        self: &Arc<Self>,
        machine: &MachineOf<E>,
        effect: Effect<OpenLog<E>>,
        done: &mut Done,
    ) -> Option<Input<OpenLog<E>>> {
        let failed = |what, error: CoreError| {
            let error = error.into();
            Some(Input::Failed { what, error })
        };
        match effect {
            Effect::Fetch(core) => self.open_later(core),
            Effect::Reopen(core) => self.reopen_later(core),
            Effect::Follow(core) => match self.follow(machine, core) {
                Ok(()) => {
                    let gathers = self.gathers();
                    return Some(Input::Changed { core, gathers });
                }
                Err(error) => return failed("following a log", error),
            },
            Effect::Download {
                core,
                end,
                block_bytes_max,
            } => {
                let log = machine.logs().get(&core);
                let fetched = log.map(|log| log.fetch(end, block_bytes_max));
                if let Some(Err(error)) = fetched {
                    // Its owner contradicted it, or all is being closed; whoever reads the log hears of it. Nothing may
                    // happen to the machine before a commit that was asked for with this is answered.
                    self.env.trace(|| TraceEvent::Failed {
                        what: "fetching a log".into(),
                        why: error.to_string(),
                    });
                }
            }
            Effect::Release(log) => {
                if let Err(error) = store::release(&self.store, &log) {
                    return failed("letting go of a log", error);
                }
            }
            Effect::Unreadable { error, .. } => done.unreadable = Some(error),
            Effect::Ask(missing) => {
                let asking = tasks::await_block(Arc::downgrade(self), missing);
                self.env.spawn().spawn("await a block", asking);
            }
            Effect::Compare(claim) => {
                let comparing = tasks::compare(Arc::downgrade(self), claim);
                self.env.spawn().spawn("compare views", comparing);
            }
            Effect::LookAhead(head) => self.look_ahead_later(head),
            Effect::Write(write) => {
                return Some(Input::Written(self.commit(machine, write)));
            }
            Effect::Sync(seq) => self.sync_later(seq),
            Effect::Drain => done.drains = true,
            Effect::Drained(drained) => done.drained = Some(drained),
            Effect::ChooseLogs => return Some(self.choose_logs(machine)),
            Effect::Announce(core) => self.wakeup.couple(core.key, core.length),
            Effect::Wake(at) => {
                self.timer.send_if_modified(|timer| {
                    let is_open = *timer != Timer::Over;
                    if is_open {
                        *timer = Timer::Until(at);
                    }
                    is_open
                });
            }
            Effect::Notify => done.notifies = true,
            Effect::Tell(event) => {
                if matches!(event, Event::Error { .. }) {
                    self.counters.errors.fetch_add(1, Ordering::Relaxed);
                }
                self.machine.tell(event);
            }
            Effect::Trace(event) => self.env.trace(|| event),
        }
        None
    }

    /// It is time to look what to fetch.
    fn choose_logs(&self, machine: &MachineOf<E>) -> Input<OpenLog<E>> {
        let mut gone = machine.announcers();
        gone.retain(|peer| !self.wakeup.has_peer(*peer));
        Input::ChooseLogs { gone }
    }

    /// Writes in one commit.
    fn commit(&self, machine: &MachineOf<E>, write: TreeCommit) -> Result<TreeLengths, Error> {
        let logs = machine.logs();
        let local = logs.get(&logs.local()).ok_or(CoreError::Closed)?.core();
        let trees = &self.trees;
        let mut refused = None;
        let written = self.store.transact(|change| {
            let system = change.append_unsigned(&trees.system, write.system)?;
            let view = change.append_unsigned(&trees.view, write.view)?;
            for (name, value) in write.values {
                change.set_user_data(local, name, value)?;
            }
            let has_own = !write.own.is_empty();
            let own = has_own.then(|| change.append(local, write.own)).transpose();
            // Of the trees it would be another thing: they are nobody's but ours.
            refused = own
                .as_ref()
                .err()
                .map(|error| log_error(local.key(), error.clone()));
            Ok((system, view, own?))
        });
        let ((system, view, own), seq) = written.map_err(|error| refused.unwrap_or_else(|| error.into()))?;
        Ok(TreeLengths {
            system,
            view,
            own,
            seq,
        })
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

impl<E: Env> Drop for Shell<E> {
    /// Sessions end with the last handle.
    fn drop(&mut self) {
        self.replication.close();
    }
}

/// How a drain failed, as listeners are told.
fn failure(error: &Error) -> Option<Event> {
    match error {
        Error::Interrupted { reason } => Some(Event::Interrupt {
            reason: reason.clone(),
        }),
        error @ (Error::Disk { .. } | Error::Internal { .. }) => Some(Event::Error {
            what: error.to_string(),
        }),
        _ => None,
    }
}

/// A drain that nobody waits for failed: the machine told listeners, and remembers what went wrong with applying.
fn told(drained: Result<(), Error>, env: &impl Env) {
    if let Err(error) = drained {
        env.trace(|| TraceEvent::Failed {
            what: "a drain that nobody waits for".into(),
            why: error.to_string(),
        });
    }
}
