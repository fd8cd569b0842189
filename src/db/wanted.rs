//! Which cores are fetched, and what peers are told of those that are here.
//!
//! Fetched are the cores of members, those that their batches wait for, and a bounded number of strangers' cores
//! ([`Strangers`]). What is looked at each time is what changed: a database has many writers of whom few write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use super::Settings;
use super::cores::DatabaseCores;
use super::shared::{LATE, Shared, State, lock, unless};
use super::strangers::{Strangers, Turn, WAITING_MAX};
use crate::crypto::CoreKey;
use crate::engine::Engine;
use crate::env::{Clock as _, Env, Mono, Point, Slip, Spawn as _, TraceEvent, knob, watch};
use crate::hypercore::CoreError;
use crate::replication::session::Wakeup;
use crate::replication::wakeup::TopicPeer;
use crate::wire::{Length, Link, WriterRecord};

/// What is to be opened, and what there is to tell.
pub(super) struct Wanted {
    /// Cores that are wanted, and that nobody opened yet.
    to_open: BTreeSet<CoreKey>,
    /// Cores that are fetched though no member mentions them, and those that could be.
    strangers: Strangers,
    /// The cores that peers are told of, with the length that they are told.
    coupled: BTreeMap<CoreKey, Length>,
    /// Those of which there may be more to tell.
    uncoupled: BTreeSet<CoreKey>,
    /// The membership that [`Wanted::choose`] looked at, and what could not be opened since.
    seen: Option<(usize, u64)>,
    unopened: BTreeSet<CoreKey>,
}

impl<E: Env> Shared<E> {
    /// Fetches from now on what is wanted. These cores are open already.
    pub(super) fn fetch(
        self: &Arc<Self>,
        open: Vec<CoreKey>,
        wishes: watch::Receiver<u64>,
        closing: watch::Receiver<bool>,
    ) {
        {
            let mut state = lock(&self.state);
            let awaited = state.engine.awaited();
            let now = self.env.clock().now();
            for key in open {
                if key != self.local && !state.engine.is_member(&key) && !awaited.contains(&key) {
                    state.wanted.strangers.occupy(key, now);
                }
            }
        }
        let spawn = self.env.spawn();
        spawn.spawn("open cores", open_wanted(Arc::downgrade(self), wishes));
        let wakeup = self.replication.wakeup(self.key);
        spawn.spawn("hear announcements", hear(Arc::downgrade(self), wakeup, closing));
    }

    /// Takes note of cores that peers are said to have.
    pub(super) fn hint(self: &Arc<Self>, cores: &[Link]) {
        self.heard(cores.iter().map(|core| (None, core.key)));
    }

    /// Opens a core that takes part.
    async fn open(self: &Arc<Self>, key: CoreKey) -> Result<(), CoreError> {
        let core = DatabaseCores::session(&self.store, self.key, self.keys.as_ref(), key).await?;
        let is_new = {
            let mut state = lock(&self.state);
            if state.is_closed {
                return Err(CoreError::Closed);
            }
            let is_new = state.cores.add(core)?;
            if is_new && !state.wants(&key) {
                // It gave up its slot while it was opened.
                return state.cores.close(&key);
            }
            is_new
        };
        if is_new {
            self.follow(key)?;
        }
        Ok(())
    }

    /// Notes cores that peers have, each with the peer that said so.
    fn heard(self: &Arc<Self>, cores: impl Iterator<Item = (Option<TopicPeer>, CoreKey)>) {
        {
            let State { engine, wanted, .. } = &mut *lock(&self.state);
            // Without strangers, who becomes a member is fetched without being announced.
            if engine.takes_strangers() {
                for (by, key) in cores {
                    wanted.strangers.announce(by, [key]);
                }
            }
        }
        self.env.sometimes(Point::Announced, true);
        self.tend();
    }

    /// Chooses what to fetch and what to tell peers of, now that more is known.
    pub(super) fn tend(self: &Arc<Self>) {
        let (is_wishing, news, rotates_at) = {
            let mut state = lock(&self.state);
            if state.is_closed {
                return;
            }
            let State {
                engine,
                cores,
                wanted,
                ..
            } = &mut *state;
            wanted.strangers.retain_peers(|peer| self.wakeup.has_peer(peer));
            wanted.choose(engine, cores, self.env.clock().now());
            if E::SIM {
                self.env.sometimes(Point::StrangerWaits, wanted.counts()[2] > 0);
            }
            let news = wanted.couple(engine, cores);
            (!wanted.to_open.is_empty(), news, wanted.strangers.next_at())
        };
        self.set_rotation(rotates_at);
        if is_wishing {
            self.wishes.send_modify(|count| *count = count.wrapping_add(1));
        }
        for core in news {
            self.wakeup.couple(core.key, core.length);
        }
    }

    /// Strangers that wait for a slot get one when another one gave nothing for long enough.
    fn set_rotation(self: &Arc<Self>, at: Option<Mono>) {
        let Some(at) = at else { return };
        {
            let mut rotation = lock(&self.rotation);
            if rotation.is_some_and(|set| set <= at) {
                return;
            }
            *rotation = Some(at);
        }
        let (shared, clock) = (Arc::downgrade(self), self.env.clock().clone());
        self.env.spawn().spawn("rotate strangers", async move {
            clock.sleep_until(at).await;
            let Some(shared) = shared.upgrade() else { return };
            lock(&shared.rotation).take_if(|set| *set == at);
            shared.tend();
        });
    }
}

impl<E: Env> State<E> {
    fn wants(&self, key: &CoreKey) -> bool {
        self.engine.is_member(key) || self.wanted.strangers.has(key) || self.engine.awaited().contains(key)
    }
}

impl Wanted {
    pub(super) fn new<E: Env>(env: &E, settings: &Settings) -> Self {
        let waiting_max = knob::STRANGERS_WAITING.size(env, WAITING_MAX);
        Self {
            to_open: BTreeSet::new(),
            strangers: Strangers::new(settings.stranger_cores_max, settings.stranger_quiet())
                .holding(waiting_max),
            coupled: BTreeMap::new(),
            uncoupled: BTreeSet::new(),
            seen: None,
            unopened: BTreeSet::new(),
        }
    }

    /// Cores that are to be opened, strangers that have a slot, and strangers that wait for one.
    pub(super) fn counts(&self) -> [usize; 3] {
        let (slots, waiting) = self.strangers.counts();
        [self.to_open.len(), slots, waiting]
    }

    /// A core changed, and perhaps gave blocks.
    pub(super) fn changed(&mut self, key: &CoreKey, has_given: bool, now: Mono) {
        self.uncoupled.insert(*key);
        if has_given {
            self.strangers.gave(key, now);
        }
    }

    /// Which cores are to be opened: those of members, what their batches wait for, and a bounded number of strangers',
    /// who may have written optimistically.
    fn choose<E: Env>(&mut self, engine: &Engine<E::Crypto>, cores: &mut DatabaseCores<E>, now: Mono) {
        let Self {
            to_open,
            strangers,
            coupled,
            uncoupled,
            seen,
            unopened,
        } = self;
        let now_seen = Some(engine.membership());
        if std::mem::replace(seen, now_seen) != now_seen {
            let members = engine.system().records();
            let removed_go = cores.store().planted().has(Slip::RemovedUnfetched);
            let takes_part = |record: &WriterRecord| !(record.is_anchor || removed_go && record.is_removed);
            for (key, _) in members.filter(|(_, record)| takes_part(record)) {
                if cores.get(key).is_none() {
                    to_open.insert(*key);
                } else if !coupled.contains_key(key) {
                    uncoupled.insert(*key);
                }
            }
        }
        to_open.append(unopened);
        let awaited = engine.awaited();
        let awaited_go = cores.store().planted().has(Slip::AwaitedUnopened);
        to_open.extend(
            awaited
                .iter()
                .filter(|key| cores.get(key).is_none() && !awaited_go),
        );
        let is_wanted = |key: &CoreKey| engine.is_member(key) || awaited.contains(key);
        strangers.retain(|key| !is_wanted(key));
        if !engine.takes_strangers() {
            return;
        }
        let linked = engine.missing().map(|link| link.key);
        let is_new = |key: &CoreKey| !awaited.contains(key) && cores.get(key).is_none();
        if !cores.store().planted().has(Slip::LinkedUnfetched) {
            strangers.announce(None, linked.filter(is_new));
        }
        let mut turns = Vec::new();
        while let Some(turn) = strangers.next(now, |key| cores.get(key).is_some() || is_wanted(key)) {
            turns.push(turn);
        }
        for Turn { opens, closes } in turns {
            let env = cores.store().env();
            env.sometimes(Point::StrangerAdmitted, true);
            env.sometimes(Point::StrangerEvicted, closes.is_some());
            env.trace(|| TraceEvent::StrangerAdmitted { core: opens });
            if let Some(closes) = closes {
                to_open.remove(&closes);
                env.trace(|| TraceEvent::StrangerEvicted { core: closes });
                // A store that cannot be written says so at the next drain.
                let _ = cores.close(&closes);
            }
            to_open.insert(opens);
        }
    }

    /// The cores that peers are to be told of, with their lengths, as far as these are news: those of members, and our own.
    fn couple<E: Env>(&mut self, engine: &Engine<E::Crypto>, cores: &DatabaseCores<E>) -> Vec<Link> {
        let mut news = Vec::new();
        self.uncoupled.retain(|key| {
            if *key != cores.local() && !engine.is_member(key) {
                return false;
            }
            let length = cores.offered_length(key);
            if length > self.coupled.get(key).copied().unwrap_or_default() {
                news.push(Link { key: *key, length });
            }
            // The rest is told of once it is durable.
            cores.here(key).is_some_and(|here| length < here)
        });
        self.coupled
            .extend(news.iter().map(|core| (core.key, core.length)));
        news
    }
}

/// Opens the cores that are wished for.
async fn open_wanted<E: Env>(shared: Weak<Shared<E>>, mut wishes: watch::Receiver<u64>) {
    while wishes.changed().await.is_ok() {
        let Some(shared) = shared.upgrade() else { return };
        loop {
            let Some(key) = lock(&shared.state).wanted.to_open.pop_first() else {
                break;
            };
            if shared.env.buggify("late_opening") {
                shared.env.clock().sleep(LATE).await;
            }
            // Other cores go on without one that cannot be opened; the next drain tries it again.
            match shared.open(key).await {
                Ok(()) => {}
                Err(CoreError::Closed | CoreError::Store(_)) => return,
                Err(_) => _ = lock(&shared.state).wanted.unopened.insert(key),
            }
        }
        shared.notify();
    }
}

/// Takes note of the cores that peers announce.
async fn hear<E: Env>(shared: Weak<Shared<E>>, wakeup: Wakeup, mut closing: watch::Receiver<bool>) {
    while let Some(cores) = unless(wakeup.announced_by(), closing.changed()).await {
        let Some(shared) = shared.upgrade() else { return };
        let cores = cores.into_iter().map(|(peer, core)| (Some(peer), core.key));
        shared.heard(cores);
    }
}
