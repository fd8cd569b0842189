//! Fast-forward: when a log is worth a look at the trees of its writer, and what follows when the database moves onto them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::log::StoredLog;
use super::{Effect, Machine, Now};
use crate::crypto::CoreKey;
use crate::db::Event;
use crate::engine::Survey;
use crate::env::{Crypto, Mono, Point, TraceEvent};
use crate::wire::{Length, Link};

/// Between two looks at least: what a peer says changes with each of its entries.
const LOOK_EACH: Duration = Duration::from_millis(200);

/// How long nothing is ordered at most while it is looked: what is ordered meanwhile may be for nothing.
const HOLD: Duration = Duration::from_secs(2);

/// Which logs were looked at.
#[derive(Debug, Default)]
pub(super) struct Forward {
    /// Whether it is looked at all.
    is_on: bool,
    /// How many entries trees are ahead, at least, to be worth it.
    gap: u64,
    /// One look at a time.
    is_looking: bool,
    /// At which log.
    looks_at: Option<CoreKey>,
    /// There may be something to look at.
    is_due: bool,
    next_at: Mono,
    /// Nothing is ordered before this time, while it is looked.
    held_until: Mono,
    /// Something waits for that.
    is_held: bool,
    /// How long logs were when they were looked at last.
    seen: BTreeMap<CoreKey, Length>,
    /// Logs of which only the first blocks are fetched before it is known how far ahead they are.
    begun: BTreeSet<CoreKey>,
    /// What became of the last move.
    outcome: Option<Result<Moved, NotMoved>>,
}

/// A move onto other trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// The version of the system tree before.
    pub from: Link,
    /// The version onto which it moved, in the core of the other writer.
    pub to: Link,
}

/// Why the database did not move onto other trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotMoved {
    /// What they are ahead is not worth it.
    Near,
    /// An own batch is on its way to its log, or the rules of the database are not known yet. Again later.
    Busy,
    /// This log is here with more than those trees are made of, so that they would not be the end.
    Ahead(CoreKey),
    /// They cannot be read.
    Unreadable,
}

impl Forward {
    pub(super) fn new(gap: u64) -> Self {
        Self {
            gap,
            ..Self::default()
        }
    }

    /// Sets whether it is looked, and until when nothing is ordered unless [`super::Input::LookedAhead`] comes first.
    pub(super) fn set(&mut self, is_on: bool, until: Option<Mono>) {
        self.is_on = is_on;
        // Also to let go of what waits for a look.
        self.is_due = true;
        self.seen.clear();
        if let Some(until) = until {
            self.is_looking = true;
            self.held_until = until;
        }
    }

    pub(super) const fn changed(&mut self) {
        self.is_due |= self.is_on;
    }

    pub(super) fn wake_at(&self) -> Option<Mono> {
        let look = (self.is_due && !self.is_looking).then_some(self.next_at);
        let begun = |core: &CoreKey| self.begun.contains(core);
        let is_waited_for = self.is_looking && self.looks_at.as_ref().is_some_and(begun);
        let held = (self.is_held || is_waited_for).then_some(self.held_until);
        look.into_iter().chain(held).min()
    }

    /// Holds back what is to be ordered, as long as it is looked. False when that is over.
    pub(super) fn hold(&mut self, now: Mono) -> bool {
        self.is_held = self.is_looking && now < self.held_until;
        self.is_held
    }

    /// True, once, when what was held back is to be ordered.
    pub(super) fn release(&mut self, now: Mono) -> bool {
        let is_over = !self.is_looking || now >= self.held_until;
        is_over && std::mem::take(&mut self.is_held)
    }
}

impl<C: Crypto, L: StoredLog> Machine<C, L> {
    /// Looks for a log that may be far ahead: of a member, or, before there are any, the creator's.
    pub(super) fn look_ahead(&mut self, now: Now) {
        let forward = &self.forward;
        if !forward.is_due || forward.is_looking || now.mono < forward.next_at {
            self.fetch_begun(now);
            return;
        }
        let ahead = |key: &CoreKey| -> Option<(Length, Length)> {
            let length = self.logs.proven(key)?;
            let ahead = length.0.checked_sub(self.logs.taken(key).0)?;
            // Much came since: what did not do then may do now.
            let grown = |seen: &Length| length.0 >= seen.0.saturating_add(forward.gap);
            let is_news = forward.seen.get(key).is_none_or(grown);
            (forward.is_on && is_news && ahead >= forward.gap).then_some((Length(ahead), length))
        };
        let trusted = self.logs.keys().filter(|key| self.may_be_trusted(key));
        let best = trusted
            .filter_map(|key| ahead(&key).map(|(ahead, length)| (ahead, key, length)))
            .max();
        let forward = &mut self.forward;
        forward.is_due = false;
        if let Some((_, core, length)) = best {
            forward.seen.insert(core, length);
            forward.is_looking = true;
            forward.looks_at = Some(core);
            forward.next_at = now.mono + LOOK_EACH;
            // What is held already does not wait longer for another look.
            if !forward.is_held {
                forward.held_until = now.mono + HOLD;
            }
            self.effects.push(Effect::LookAhead(Link { key: core, length }));
        }
        self.fetch_begun(now);
    }

    /// The first block of a log that is not fetched before it was looked at; none when all are. Of a log that the database may go
    /// forward with, most may not be needed.
    pub(super) fn first_end(&mut self, key: &CoreKey) -> Option<u64> {
        let is_new = self.forward.is_on
            && self.logs.end(key).is_none()
            && self.logs.taken(key) == Length::ZERO
            && !self.forward.seen.contains_key(key)
            && self.may_be_trusted(key);
        if !is_new {
            self.forward.begun.remove(key);
            return None;
        }
        self.forward.begun.insert(*key);
        Some(self.forward.gap)
    }

    /// Fetches logs as a whole that were looked at, or need not be, or at which it is looked for so long that what waits is
    /// ordered without.
    fn fetch_begun(&mut self, now: Now) {
        if self.forward.begun.is_empty() {
            return;
        }
        let Forward { looks_at, .. } = self.forward;
        let is_looking = self.forward.is_looking && now.mono < self.forward.held_until;
        let is_known = |key: &CoreKey| {
            let length = self.logs.proven(key).unwrap_or_default().0;
            let is_near = length > 0 && length.saturating_sub(self.logs.taken(key).0) < self.forward.gap;
            let is_looked_at = is_looking && looks_at == Some(*key);
            let was_looked_at = !is_looked_at && self.forward.seen.contains_key(key);
            is_near || was_looked_at || !self.may_be_trusted(key) || !self.forward.is_on
        };
        let known: Vec<CoreKey> = self.forward.begun.iter().copied().filter(is_known).collect();
        for key in &known {
            self.forward.begun.remove(key);
            self.forward.seen.entry(*key).or_default();
            self.download(key);
        }
    }

    /// True for a log of a member, or, before there are any, the creator's, that is not the own one.
    fn may_be_trusted(&self, key: &CoreKey) -> bool {
        *key != self.logs.local()
            && match self.engine.system().record(key) {
                Some(record) => !record.is_removed && !record.is_anchor && !record.is_guest,
                None => *key == self.engine.key(),
            }
    }

    /// A look that was asked for with [`Effect::LookAhead`] is over.
    pub(super) fn looked_ahead(&mut self, now: Now) {
        self.forward.is_looking = false;
        self.forward.changed();
        self.look_ahead(now);
        let is_due = self.forward.release(now.mono);
        self.order_if(is_due, now);
    }

    /// Moves onto the trees that were surveyed, if that is no step back.
    pub(super) fn move_onto(&mut self, survey: &Survey, is_forced: bool, now: Now) {
        self.forward.outcome = Some(self.try_move(survey, is_forced, now));
    }

    /// What became of the last [`super::Input::MoveOnto`].
    pub fn take_moved(&mut self) -> Option<Result<Moved, NotMoved>> {
        self.forward.outcome.take()
    }

    fn try_move(&mut self, survey: &Survey, is_forced: bool, now: Now) -> Result<Moved, NotMoved> {
        let here = self.engine.system().flushes();
        let gap = if is_forced { 1 } else { self.forward.gap };
        if survey.head.entries < here.saturating_add(gap) {
            return Err(NotMoved::Near);
        }
        // As long as the rules are not known, neither is what those trees are worth.
        let knows_rules = self.engine.rules().is_some();
        if self.own.pending.is_some() || self.engine.stopped().is_some() || !knows_rules {
            return Err(NotMoved::Busy);
        }
        let length = |key: &CoreKey| survey.lengths.get(key).copied().unwrap_or_default();
        let local = self.logs.local();
        let is_member = |key: &CoreKey| *key == local || self.engine.is_member(key);
        // What is ordered stays ordered. Of the own log that is all of it.
        let here = |key: &CoreKey| match *key == local {
            true => self.logs.taken(key),
            false => self.engine.system().length(key),
        };
        let is_ahead = |key: &CoreKey| is_member(key) && here(key) > length(key);
        let ahead = self.logs.keys().find(is_ahead);
        if let Some(ahead) = ahead {
            return Err(NotMoved::Ahead(ahead));
        }
        let from = self.engine.records().head();
        let to = survey.head.system;
        if let Err(error) = self.engine.move_onto(survey) {
            self.failed("moving onto the trees of another writer", &error);
            return Err(NotMoved::Unreadable);
        }
        self.trace(|| TraceEvent::MovedOnto {
            core: to.key,
            batches: survey.head.entries,
        });
        self.forward.next_at = now.mono;
        self.record.pass_over(survey.skipped.clone());
        self.stalled.clear();
        self.awaited = None;
        let Self {
            engine, logs, record, ..
        } = self;
        logs.pass_over(|key| record.passed_over(key));
        for key in logs.begin_anew(|key| engine.fed_from(key)) {
            let kept = self.turns.kept(&key).map(|kept| kept.0);
            if let Err(error) = self.feed_up_to(&key, kept, now) {
                self.unreadable(&key, error);
            }
            self.download(&key);
        }
        self.effects.extend([
            Effect::Tell(Event::MoveTo { from, to }),
            Effect::ChooseLogs,
            Effect::Drain,
            Effect::Notify,
        ]);
        Ok(Moved { from, to })
    }

    /// After a move a batch came that belongs before it: all is fetched, and until it is here the order stays as it is. False
    /// once it is.
    pub(super) fn waits_for_all(&mut self) -> bool {
        let has_moved = self.record.passes_over() || self.is_waiting_for_all;
        if !has_moved || !(self.engine.is_cut_off() || self.logs.are_rewritten()) {
            return false;
        }
        if self.record.passes_over() {
            self.sights.note(Point::FastForwardCutOff);
            self.record.pass_over(BTreeMap::new());
            self.logs.pass_over(|_| Length::ZERO);
            let keys: Vec<CoreKey> = self.logs.keys().collect();
            for key in &keys {
                self.download(key);
            }
        }
        let engine = &self.engine;
        // Of a log that was rewritten there may be less now.
        let least = |(key, length): (CoreKey, Length)| {
            let proven = self.logs.proven(&key).unwrap_or(length);
            (key, length.min(proven))
        };
        let taken = self.logs.keys().map(|key| (key, self.logs.taken(&key)));
        let taken = taken.map(least);
        let forgotten = engine.forgotten_lengths().map(least);
        self.is_waiting_for_all = !self.logs.are_whole(taken.chain(forgotten));
        self.is_waiting_for_all
    }
}
