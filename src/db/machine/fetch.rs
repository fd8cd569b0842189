//! Fetching: logs that are wanted are opened, taken in, and let go of.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::log::StoredLog;
use super::logs::Logs;
use super::strangers::Turn;
use super::wanted::KnownLogs;
use super::{Effect, Machine, Now};
use crate::crypto::CoreKey;
use crate::engine::Engine;
use crate::env::{Crypto, Planted, Point, Slip, TraceEvent};
use crate::error::Error;
use crate::hypercore::CoreError;
use crate::replication::wakeup::TopicPeer;
use crate::wire::{Length, WriterRecord};

impl<C: Crypto, L: StoredLog> Machine<C, L> {
    pub(super) fn announced(&mut self, cores: Vec<(Option<TopicPeer>, CoreKey)>) {
        // Without strangers, who becomes a member is fetched without being announced.
        if self.engine.takes_strangers() {
            for (by, key) in cores {
                self.wanted.announce(by, key);
            }
        }
        self.sights.note(Point::Announced);
        self.effects.push(Effect::ChooseLogs);
    }

    pub(super) fn choose_logs(&mut self, gone: &BTreeSet<TopicPeer>, now: Now) {
        self.wanted.forget(gone);
        let Self {
            engine, logs, wanted, ..
        } = self;
        let view = EngineLogs::new(engine, logs, self.planted);
        let turns = wanted.choose(&view, now.mono);
        let mut is_changed = !turns.is_empty();
        for Turn { opens, closes } in turns {
            self.sights.note(Point::StrangerAdmitted);
            self.trace(|| TraceEvent::StrangerAdmitted { core: opens });
            if let Some(core) = closes {
                self.evict(&core);
            }
        }
        // What members need of what was here before is known once all of it is ordered.
        while self.engine.is_settled()
            && let Some(core) = self.wanted.surplus()
        {
            self.evict(&core);
            is_changed = true;
        }
        if self.is_traced {
            let waits = self.wanted.counts()[2] > 0;
            self.sights.note_if(Point::StrangerWaits, waits);
        }
        if is_changed {
            self.let_go();
            // Those that are closed leave room to others.
            for core in self.logs.limited() {
                self.allow(&core);
                self.feed_stored(&core, now);
            }
        }
        let Self {
            engine, logs, wanted, ..
        } = self;
        let view = EngineLogs::new(engine, logs, self.planted);
        let news = wanted.couple(&view);
        self.effects.extend(news.into_iter().map(Effect::Announce));
        self.fetch_next();
    }

    fn fetch_next(&mut self) {
        let next = self.wanted.next_fetch();
        self.effects.extend(next.map(Effect::Fetch));
    }

    fn evict(&mut self, core: &CoreKey) {
        self.sights.note(Point::StrangerEvicted);
        self.trace(|| TraceEvent::StrangerEvicted { core: *core });
        self.close_log(core);
    }

    fn close_log(&mut self, key: &CoreKey) {
        let closed = self.logs.close(key);
        if let Some(log) = closed
            .as_ref()
            .filter(|_| self.planted.has(Slip::ClosedPublished))
        {
            self.logs.keep_handle(log);
        }
        self.turns.remove(key);
        self.released.insert(*key);
        self.stalled.remove(key);
        self.effects.extend(closed.map(Effect::Release));
    }

    pub(super) fn opened(&mut self, log: Arc<L>) {
        let key = log.key();
        log.pass_over(self.record.passed_over(&key));
        let added = self.logs.add(log);
        if self.record.passed_over(&key) > Length::ZERO {
            self.logs.begin_log_at(&key, self.engine.fed_from(&key));
        }
        self.forward.changed();
        self.wanted.fetched(&key, added.is_ok());
        match added {
            Ok(false) => {}
            Ok(true) => {
                let Self {
                    engine, logs, wanted, ..
                } = self;
                let view = EngineLogs::new(engine, logs, self.planted);
                if wanted.wants(&key, &view) {
                    self.released.remove(&key);
                    self.allow(&key);
                    self.download(&key);
                    self.effects.push(Effect::Follow(key));
                } else {
                    // It gave up its slot while it was opened.
                    self.close_log(&key);
                }
            }
            Err(error) => self.failed("a log that was opened", &Error::from(error)),
        }
        self.fetch_next();
        self.effects.push(Effect::Notify);
    }

    /// A log that its owner contradicts is open in another session: what of it is missing is fetched on, and who joins is
    /// served.
    pub(super) fn reopened(&mut self, log: Arc<L>, now: Now) {
        let key = log.key();
        log.pass_over(self.record.passed_over(&key));
        match self.logs.take_anew(log) {
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => return self.unreadable(&key, error),
        }
        self.sights.note(Point::ContradictedReopened);
        self.download(&key);
        if self.feed_or_give_up(&key, now).is_some() {
            self.order_if(true, now);
        }
        self.effects.push(Effect::Notify);
    }

    pub(super) fn unopened(&mut self, key: CoreKey, error: CoreError) {
        let is_over = self.planted.has(Slip::UnopenedForgotten);
        self.wanted.fetched(&key, is_over);
        // Other cores go on without one that cannot be opened; after the next drain it is tried again. When the store
        // failed, so are all others.
        let goes_on = !matches!(error, CoreError::Closed | CoreError::Store(_));
        self.failed("opening a log", &Error::from(error));
        if goes_on {
            self.fetch_next();
        }
        self.effects.push(Effect::Notify);
    }
}

/// What [`super::wanted::WantedLogs`] asks.
pub(super) struct EngineLogs<'a, C, L: StoredLog> {
    pub(super) engine: &'a Engine<C>,
    pub(super) logs: &'a Logs<L>,
    pub(super) planted: Planted,
}

impl<'a, C, L: StoredLog> EngineLogs<'a, C, L> {
    pub(super) const fn new(engine: &'a Engine<C>, logs: &'a Logs<L>, planted: Planted) -> Self {
        Self {
            engine,
            logs,
            planted,
        }
    }
}

impl<C: Crypto, L: StoredLog> KnownLogs for EngineLogs<'_, C, L> {
    fn membership(&self) -> (usize, u64) {
        self.engine.membership()
    }

    fn members(&self) -> Vec<CoreKey> {
        let removed_go = self.planted.has(Slip::RemovedUnfetched);
        let records = self.engine.system().records();
        // The log of a guest is fetched as far as a member needs it.
        let is_left = |record: &WriterRecord| record.is_anchor || record.is_guest;
        let members = records.filter(|(_, record)| !(is_left(record) || removed_go && record.is_removed));
        members.map(|(key, _)| *key).collect()
    }

    fn is_member(&self, core: &CoreKey) -> bool {
        self.engine.is_member(core)
    }

    fn awaited(&self) -> BTreeSet<CoreKey> {
        self.engine.awaited()
    }

    fn is_needed(&self, core: &CoreKey) -> bool {
        self.engine.needed(core) > Length::ZERO
    }

    fn takes_strangers(&self) -> bool {
        self.engine.takes_strangers()
    }

    fn missing(&self) -> Vec<CoreKey> {
        self.engine.missing().map(|link| link.key).collect()
    }

    fn local(&self) -> CoreKey {
        self.logs.local()
    }

    fn is_open(&self, core: &CoreKey) -> bool {
        self.logs.get(core).is_some()
    }

    fn offered(&self, core: &CoreKey) -> Length {
        self.logs.offered_length(core)
    }

    fn here(&self, core: &CoreKey) -> Option<Length> {
        self.logs.here(core)
    }

    fn planted(&self) -> Planted {
        self.planted
    }
}
