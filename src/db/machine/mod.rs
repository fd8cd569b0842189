//! The database as a machine: what happened goes in, what is to be done comes out.
//!
//! It owns all that decides: the engine, how much of each log the engine has, the own batch on its way, which logs are
//! wanted, which blocks wait for others, what listeners were told. It has no lock, task, clock or socket, and waits for
//! nothing. Stored blocks are read through [`StoredLog`], as the trees of apply are read through theirs.
//!
//! ```text
//! shell                                machine
//! a log got more blocks          ->    feed the engine, gather
//!                                <-    Drain, when it is time
//! Drain                          ->    order and apply one portion
//!                                <-    Write; the shell commits it at once, and says Written
//!                                <-    Drained, with whether there is more; Wake; Ask; Sync; Tell
//! the clock                      ->    Wake: what waited for a time is looked at
//! a log was opened               ->    take it in, if it is still wanted
//! ```
//!
//! The same inputs at the same times give the same effects. `sim::lane0` steps several machines by hand.

mod compare;
mod drain;
mod effect;
mod fetch;
mod finality;
mod forward;
mod gather;
mod key_kind;
mod log;
mod logs;
mod news;
mod outside;
mod own;
mod published;
mod record;
mod rules;
mod stalled;
mod strangers;
mod taken_log;
mod turns;
mod wanted;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use im::OrdMap;

pub use effect::{Effect, Input, Now};
pub use forward::{Moved, NotMoved};
pub use log::{LogEvents, StoredLog};
pub use logs::Logs;
pub use news::ListenerState;
pub use published::Published;
pub use record::{TreeCommit, TreeLengths, TreeRecord};
pub use stalled::Stalled;

pub(super) use logs::Known;
use logs::blocks_before;
pub(super) use own::log_error;
pub(super) use record::{BOOT, CHECKPOINTS, FORKS, KEPT_WITH_LOCAL};
pub(super) use strangers::WAITING_MAX;

use super::{Event, Settings};
use crate::crypto::CoreKey;
use crate::engine::encryption::KeyMismatch;
use crate::engine::{Engine, MissingBlock, OrderedEntry, ResumeError};
use crate::env::{Crypto, Mono, Planted, Point, Sights, Slip, TraceEvent};
use crate::error::Error;
use crate::hypercore::CoreError;
use crate::replication::wakeup::TopicPeer;
use crate::store::Seq;
use crate::wire::{Length, Timestamp};
use compare::Compare;
use drain::Writing;
use fetch::EngineLogs;
use finality::Finality;
use forward::Forward;
use gather::{Fed, Gather};
use key_kind::KeyKind;
use news::News;
use own::Own;
use strangers::Strangers;
use turns::Turns;
use wanted::WantedLogs;

/// How often an entry that waits for the time of day looks at it: that may be put right meanwhile.
const ALARM_LOOK: Duration = Duration::from_secs(1);

/// What a machine is made of.
pub struct MachineParts<C, L: StoredLog> {
    /// With everything that was applied before.
    pub engine: Engine<C>,
    /// Signs and verifies.
    pub crypto: C,
    /// The logs that are here.
    pub logs: Logs<L>,
    /// Where the trees stand that the engine writes.
    pub record: TreeRecord,
    /// Strangers' cores of one announcer that wait; `None` for the usual number.
    pub strangers_waiting_max: Option<usize>,
    /// Whether peers may have more of the own log: then nothing is written until [`Input::Confirmed`].
    pub is_unconfirmed: bool,
    /// Whether it is looked for trees of other writers that are far ahead.
    pub looks_ahead: bool,
    /// By how many entries they are far ahead.
    pub forward_gap: u64,
    /// Until when nothing is ordered, as it is to begin from a head that was given; none when it is not.
    pub boots_until: Option<Mono>,
    /// Slips that are to be made.
    pub planted: Planted,
    /// Whether a simulator wants to be told of everything.
    pub is_traced: bool,
}

/// One open database.
pub struct Machine<C, L: StoredLog> {
    engine: Engine<C>,
    crypto: C,
    logs: Logs<L>,
    record: TreeRecord,
    own: Own,
    wanted: WantedLogs,
    turns: Turns,
    /// Logs that are closed, of which the engine may still have something.
    released: BTreeSet<CoreKey>,
    stranger_bytes_max: u64,
    gather: Gather,
    compare: Compare,
    forward: Forward,
    /// Nothing is ordered before all logs are here from their start.
    is_waiting_for_all: bool,
    news: News,
    finality: Finality,
    /// The earliest time of day for which an entry waits.
    alarm: Option<Timestamp>,
    /// It rang, and is not to ring again; for [`Slip::AlarmOnce`].
    is_alarm_spent: bool,
    /// What applying waits for.
    awaited: Option<MissingBlock>,
    /// Why nothing more is taken of some logs.
    stalled: OrdMap<CoreKey, Stalled>,
    stopped: Option<Arc<str>>,
    /// Whether the key is that of a database.
    key_kind: KeyKind,
    /// The creator's log is encrypted otherwise than the key says: nothing is applied or appended.
    mismatch: Option<KeyMismatch>,
    is_closed: bool,
    /// When the next [`Input::Wake`] comes.
    armed: Option<Mono>,
    writing: Option<Writing>,
    planted: Planted,
    is_traced: bool,
    sights: Sights,
    effects: Vec<Effect<L>>,
}

impl<C: Crypto, L: StoredLog> Machine<C, L> {
    /// A machine to which nothing happened yet.
    #[must_use]
    pub fn new(parts: MachineParts<C, L>, settings: &Settings) -> Self {
        let MachineParts {
            engine,
            crypto,
            logs,
            record,
            strangers_waiting_max,
            is_unconfirmed,
            looks_ahead,
            forward_gap,
            boots_until,
            planted,
            is_traced,
        } = parts;
        let strangers = Strangers::new(settings.stranger_cores_max, settings.stranger_quiet())
            .holding(strangers_waiting_max.unwrap_or(WAITING_MAX));
        let mut forward = Forward::new(forward_gap);
        forward.set(looks_ahead, boots_until);
        Self {
            news: News::new(engine.records().head(), engine.view().head()),
            engine,
            crypto,
            logs,
            record,
            own: Own {
                is_unconfirmed,
                ..Own::default()
            },
            wanted: WantedLogs::new(strangers),
            turns: Turns::new(settings.stranger_tries_max),
            released: BTreeSet::new(),
            stranger_bytes_max: settings.stranger_bytes_max,
            gather: Gather::new(settings.heal_gather, planted),
            compare: Compare::new(Duration::from_millis(settings.compare_ms)),
            forward,
            is_waiting_for_all: false,
            finality: Finality::new(Duration::from_millis(settings.settled_ms)),
            alarm: None,
            is_alarm_spent: false,
            awaited: None,
            stalled: OrdMap::new(),
            stopped: None,
            key_kind: KeyKind::default(),
            mismatch: None,
            is_closed: false,
            armed: None,
            writing: None,
            planted,
            is_traced,
            sights: Sights::default(),
            effects: Vec::new(),
        }
    }

    /// Takes note of what happened, and says what follows.
    pub fn step(&mut self, now: Now, input: Input<L>) -> Vec<Effect<L>> {
        debug_assert!(
            self.writing.is_some() == matches!(input, Input::Written(_)),
            "a commit is answered at once"
        );
        if self.is_closed && !matches!(input, Input::Append { .. } | Input::Written(_)) {
            if matches!(input, Input::Drain { .. }) {
                return vec![Effect::Drained(Err(Error::Closed))];
            }
            return Vec::new();
        }
        match input {
            Input::Loaded(core) => self.loaded(core, now),
            Input::Started => self.started(now),
            Input::Begun(cores) => {
                let Self {
                    engine, logs, wanted, ..
                } = self;
                wanted.occupy(&cores, &EngineLogs::new(engine, logs, self.planted), now.mono);
                self.begun(&cores, now);
                if self.wanted.is_over() {
                    self.effects.push(Effect::ChooseLogs);
                }
            }
            Input::Changed { core, gathers } => self.changed(&core, gathers, now),
            Input::Opened(log) => self.opened(log),
            Input::Reopened(log) => self.reopened(log, now),
            Input::Unopened { core, error } => self.unopened(core, error),
            Input::Announced(cores) => self.announced(cores),
            Input::ChooseLogs { gone } => self.choose_logs(&gone, now),
            Input::PeerConnected { peer, at } => _ = self.gather.meet(peer, at),
            Input::PeerSynced(peer) => {
                let was_last = self.gather.peer_synced(peer);
                self.order_if(was_last && !self.is_filling(), now);
            }
            Input::Wake { is_early } => self.wake(is_early, now),
            Input::Append {
                values,
                optimistic,
                named,
            } => {
                self.engine.name_trusted(named);
                self.own.outcome = None;
                if let Err(error) = self.begin(&values, optimistic, now) {
                    self.own.outcome = Some(Err(error));
                }
            }
            Input::Confirmed => {
                self.own.is_unconfirmed = false;
                self.effects.push(Effect::Tell(Event::Confirmed));
                self.effects.push(Effect::Drain);
            }
            Input::SetLocal { log, is_unconfirmed } => self.set_local(log, is_unconfirmed, now),
            Input::Abandoned => self.abandon(),
            Input::Drain { applies_max } => self.drain(applies_max, now),
            Input::Written(written) => self.written(written, now),
            Input::DrainOver { failure, is_heard } => {
                let local = self.logs.local();
                let outcomes = self.engine.take_outcomes();
                for (length, outcome) in &outcomes {
                    self.trace(|| TraceEvent::Outcome {
                        length: length.0,
                        outcome: outcome.name().to_owned(),
                    });
                }
                if is_heard {
                    let mut events = self.news.tell(&self.engine, &local, failure, self.planted);
                    let outcome = |(length, outcome)| Event::Outcome { length, outcome };
                    events.extend(outcomes.into_iter().map(outcome));
                    self.effects.extend(events.into_iter().map(Effect::Tell));
                    self.tell_settled(now);
                }
            }
            Input::Found(block) => {
                self.awaited.take_if(|awaited| *awaited == block);
                self.sights.note(Point::DrainResumed);
                self.effects.push(Effect::Drain);
            }
            Input::Unfindable { block, error } => {
                if self.awaited.take_if(|awaited| *awaited == block).is_some() {
                    self.failed("a block that apply waits for", &error);
                }
            }
            Input::Compared { batch, key } => {
                self.compare.over();
                self.sights.note(Point::ViewCompared);
                if let Some(key) = key {
                    self.sights.note(Point::ViewDiverged);
                    let (writer, length) = (batch.key, batch.length);
                    self.effects
                        .push(Effect::Tell(Event::Diverged { writer, length, key }));
                }
            }
            Input::MoveOnto { survey, is_forced } => self.move_onto(&survey, is_forced, now),
            Input::Forward { is_on, until } => self.forward.set(is_on, until),
            Input::LookedAhead => self.looked_ahead(now),
            Input::Listen(heard) => self.news.listen(heard),
            Input::Failed { what, error } => self.failed(what, &error),
            Input::Broken(reason) => {
                self.trace(|| TraceEvent::Interrupted {
                    reason: reason.clone(),
                });
                self.engine.give_up(reason.clone());
                self.effects.push(Effect::Tell(Event::Interrupt { reason }));
            }
            Input::Close => {
                self.is_closed = true;
                self.logs.clear();
            }
        }
        if self.writing.is_none() && !self.is_closed {
            if let Some(claim) = self.engine.take_claim() {
                self.compare.add(claim, now.mono);
            }
            let claim = self.compare.begin(now.mono);
            self.effects.extend(claim.map(Effect::Compare));
            self.look_ahead(now);
        }
        self.arm(now);
        std::mem::take(&mut self.effects)
    }

    // What is so.

    /// The engine.
    #[must_use]
    pub const fn engine(&self) -> &Engine<C> {
        &self.engine
    }

    /// The logs that are open.
    #[must_use]
    pub const fn logs(&self) -> &Logs<L> {
        &self.logs
    }

    /// All entries in their order, with those that are not in memory.
    ///
    /// # Errors
    ///
    /// When the system tree cannot be read.
    pub fn order(&self) -> Result<Vec<OrderedEntry>, ResumeError> {
        let before = |key: &CoreKey, last| blocks_before(&**self.logs.get(key)?, last);
        self.engine.history(before)
    }

    /// Why nothing more of a log is taken; none when all is well with it.
    #[must_use]
    pub fn stalled(&self, core: &CoreKey) -> Option<&Stalled> {
        self.stalled.get(core)
    }

    /// The block of a tree that applying waits for.
    #[must_use]
    pub const fn awaited(&self) -> Option<MissingBlock> {
        self.awaited
    }

    /// True once the database is closed.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Cores that are to be opened, strangers that have a slot, and strangers that wait for one.
    #[must_use]
    pub fn counts(&self) -> [usize; 3] {
        self.wanted.counts()
    }

    /// The peers that announced cores of which something is remembered.
    #[must_use]
    pub fn announcers(&self) -> BTreeSet<TopicPeer> {
        self.wanted.announcers()
    }

    /// What became of the own batch: the length of the log with it, and the commit. None while it is on its way.
    pub fn take_outcome(&mut self) -> Option<Result<(Length, Seq), Error>> {
        self.own.outcome.take()
    }

    /// The points that it passed since the last call.
    pub fn take_sights(&mut self) -> Sights {
        let mut sights = self.sights.take();
        sights.add(self.gather.take_sights());
        sights.add(self.logs.take_sights());
        sights
    }

    /// What readers see from now on.
    #[must_use]
    pub fn publish(&mut self) -> Published<L> {
        let engine = &self.engine;
        if self.stopped.is_none() {
            self.stopped = engine.stopped().map(Arc::from);
        }
        let tree = engine.records();
        Published {
            bootstrap: engine.key(),
            rules: engine.rules(),
            local: self.logs.local(),
            view: engine.view(),
            records: tree.head(),
            tree,
            system: engine.system().clone(),
            missing: engine.absent(),
            awaited: self.awaited,
            writer_of: match self.key_kind {
                KeyKind::Writer(database) => Some(database),
                _ => None,
            },
            stopped: self.stopped.clone(),
            logs: self.logs.handles(),
            stalled: self.stalled.clone(),
            stats: engine.stats(),
            held: engine.held(),
            rebuild: self.record.rebuild(),
            stamped: engine.stamped(),
        }
    }

    // Logs.

    /// Hands new blocks of a log to the engine. None when there are none.
    fn feed(&mut self, key: &CoreKey, now: Now) -> Result<Option<Fed>, CoreError> {
        self.feed_up_to(key, None, now)
    }

    /// The same, none behind `end`.
    fn feed_up_to(&mut self, key: &CoreKey, end: Option<u64>, now: Now) -> Result<Option<Fed>, CoreError> {
        self.learn_rules(key, now)?;
        let (from, blocks) = self.logs.take_new(key, end)?;
        match self.logs.stalled(key) {
            Some(Stalled::Rewritten { .. }) => self.sights.note(Point::LogRewritten),
            Some(Stalled::Conflict { .. }) => self.sights.note(Point::LogContradicted),
            Some(Stalled::Sealed(crate::hypercore::encryption::CipherError::Clear(_))) => {
                self.sights.note(Point::ClearRefused);
            }
            _ => {}
        }
        if !blocks.is_empty() {
            self.trace(|| TraceEvent::Taken {
                core: *key,
                length: from.0 + blocks.len() as u64,
            });
        }
        self.note_rotten(key);
        if self.logs.reopens(key) {
            self.effects.push(Effect::Reopen(*key));
        }
        if let Some(stalled) = self.logs.stalled(key) {
            let why = self.is_traced.then(|| format!("{stalled:?}"));
            let event = why.map(|why| Effect::Trace(TraceEvent::Stalled { core: *key, why }));
            self.effects.extend(event);
        }
        self.learn_key_kind(key, (from, &blocks));
        self.wanted.changed(key, !blocks.is_empty(), now.mono);
        self.engine.ingest(*key, from, &blocks);
        self.note_stalled(key);
        Ok((!blocks.is_empty()).then(|| Fed {
            blocks: blocks.len(),
            bytes: blocks.iter().map(Bytes::len).sum(),
        }))
    }

    /// The same; what cannot be read is given up, for all to see.
    fn feed_or_give_up(&mut self, key: &CoreKey, now: Now) -> Option<Fed> {
        self.feed(key, now).unwrap_or_else(|error| {
            self.unreadable(key, error);
            None
        })
    }

    /// A log cannot be read: it is given up, for all to see.
    fn unreadable(&mut self, key: &CoreKey, error: CoreError) {
        self.logs.give_up(key, &error);
        self.note_stalled(key);
        let (core, why) = (*key, error.to_string());
        self.trace(|| TraceEvent::Stalled { core, why });
        self.effects.push(Effect::Unreadable { core, error });
    }

    /// Nothing is forgotten again before as much is here as was.
    fn expect_stored(&mut self) {
        let Self { engine, logs, .. } = self;
        engine.set_available(|key| logs.taken(key));
    }

    fn changed(&mut self, core: &CoreKey, gathers: bool, now: Now) {
        self.forward.changed();
        self.look_ahead(now);
        let fed = if self.takes_turn(core, now) {
            self.admit(now)
        } else {
            self.feed_or_give_up(core, now)
        };
        match fed {
            Some(fed) => {
                let may_undo = gathers && self.may_undo(core);
                let waits = self.gather.take(fed, may_undo, now.mono);
                self.order_if(!waits, now);
            }
            None if self.is_waiting_for_all => {
                if !self.waits_for_all() {
                    self.order_if(true, now);
                }
                self.effects.push(Effect::Notify);
            }
            None => self.effects.push(Effect::Notify),
        }
    }

    /// True when more blocks are on their way, and ordering what is here before they are may be to no avail.
    fn may_undo(&self, core: &CoreKey) -> bool {
        let mut filling = self.logs.filling().peekable();
        // What the only other writer sends, and goes on where the order ends, is not undone by the rest of it.
        (self.gather.has_newcomers() || filling.peek().is_some())
            && (self.gather.is_waiting()
                || filling.any(|key| key != *core)
                || !self.engine.is_continued_by(core, &self.logs.local()))
    }

    fn is_filling(&self) -> bool {
        self.logs.filling().next().is_some()
    }

    /// What waits is ordered now, if it is time.
    fn order_if(&mut self, is_due: bool, now: Now) {
        if is_due {
            self.gather.release();
            if !self.forward.hold(now.mono) {
                self.effects.push(Effect::Drain);
            }
        }
    }

    // Time.

    fn wake(&mut self, is_early: bool, now: Now) {
        self.armed.take_if(|_| !self.planted.has(Slip::ArmedForGood));
        let was_last = self.gather.expire(now.mono) && !self.is_filling();
        let is_due = self.gather.is_due(now.mono, is_early);
        let rings = self.alarm.is_some_and(|at| at <= now.wall) && !self.is_alarm_spent;
        if rings {
            self.sights.note(Point::AheadApplied);
            self.is_alarm_spent = self.planted.has(Slip::AlarmOnce);
            self.alarm.take_if(|_| !self.is_alarm_spent);
        }
        if was_last || is_due {
            self.order_if(true, now);
        } else if rings {
            self.effects.push(Effect::Drain);
        }
        self.gather.looked();
        if self.turns.wake_at().is_some_and(|at| at <= now.mono) && self.admit(now).is_some() {
            self.order_if(true, now);
        }
        if self.wanted.wake_at().is_some_and(|at| at <= now.mono) {
            self.effects.push(Effect::ChooseLogs);
        }
        let is_released = self.forward.release(now.mono);
        self.order_if(is_released, now);
    }

    /// An entry waits for this time of day.
    fn set_alarm(&mut self, at: Timestamp) {
        if self.alarm.is_none_or(|set| at < set) {
            self.alarm = Some(at);
            self.is_alarm_spent = false;
            self.sights.note(Point::AheadOfClock);
        }
    }

    /// Asks to be woken, if that is to be earlier than it was asked for.
    fn arm(&mut self, now: Now) {
        let alarm = self.alarm.filter(|_| !self.is_alarm_spent).map(|at| {
            let left = Duration::from_millis(at.0.saturating_sub(now.wall.0));
            now.mono + left.min(ALARM_LOOK)
        });
        let waits = [
            self.gather.wake_at(),
            self.wanted.wake_at(),
            self.turns.wake_at(),
            self.compare.wake_at(),
            self.forward.wake_at(),
            alarm,
        ];
        let Some(at) = waits.into_iter().flatten().min() else {
            return;
        };
        if !self.is_closed && self.armed.is_none_or(|armed| at < armed) {
            self.armed = Some(at);
            self.effects.push(Effect::Wake(at));
        }
    }

    // Telling.

    /// Something failed for which nobody waits. What is wrong with the store or with this library is told to listeners.
    fn failed(&mut self, what: &str, error: &(impl Blame + fmt::Display)) {
        let why = error.to_string();
        self.trace(|| TraceEvent::Failed {
            what: what.to_owned(),
            why: why.clone(),
        });
        if error.is_ours() {
            let what = format!("{what}: {why}");
            self.effects.push(Effect::Tell(Event::Error { what }));
        }
    }

    fn trace(&mut self, event: impl FnOnce() -> TraceEvent) {
        if self.is_traced {
            self.effects.push(Effect::Trace(event()));
        }
    }
}

/// Who is to hear of a failure.
trait Blame {
    /// True when it is the store's fault, or a defect of this library: no peer or caller can do anything about it.
    fn is_ours(&self) -> bool;
}

impl Blame for Error {
    fn is_ours(&self) -> bool {
        matches!(
            self,
            Self::Disk { .. } | Self::Corrupt { .. } | Self::Internal { .. }
        )
    }
}

impl Blame for ResumeError {
    fn is_ours(&self) -> bool {
        false
    }
}

impl Blame for crate::engine::ComposeError {
    fn is_ours(&self) -> bool {
        false
    }
}

impl<C, L: StoredLog> fmt::Debug for Machine<C, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}
