//! What became of own batches, and what waits for the clock.
//!
//! A function of the order: a batch is applied or rejected where it stands now, and a reorder may change that. Only what
//! is held is looked at; what is forgotten stays as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use im::OrdMap;

use super::reader::AHEAD_MS_MAX;
use super::{Engine, WriterReader};
use crate::crypto::{CoreKey, Verify};
use crate::env::{Planted, Point, Slip};
use crate::wire::{Length, Timestamp};

/// What became of a batch of the local writer, as far as is known here. It may change: when others write concurrently,
/// when blocks arrive, or when the clock goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Apply took it: its effects are in the view.
    Applied,
    /// It is in the log, and has no effect. The reason is that of [`ApplyError::Reject`](crate::apply::ApplyError::Reject),
    /// or of the engine.
    Rejected(String),
    /// It is in the log, and not applied yet.
    Waiting {
        /// For this time of day, because it is stamped with one that is more than two hours ahead: everybody waits for it.
        /// None: for blocks that are not here.
        until: Option<Timestamp>,
    },
}

impl Outcome {
    /// What it is called in traces.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Rejected(_) => "rejected",
            Self::Waiting { .. } => "waiting",
        }
    }
}

/// Why a batch of which nothing else is known has no effect.
const NOT_LET_IN: &str = "its writer is no member, and apply has not let it in";

/// The same under safe rules.
const NOT_ACKNOWLEDGED: &str = "its writer is no member, and no member has acknowledged it";

/// Why an own batch of a removed writer has no effect.
pub(super) const REMOVED: &str = "its writer is removed at this place of the order";

/// Why a batch of somebody who is no member has no effect that would change who is one.
pub(super) const NO_MEMBER: &str = "its writer is no member, and apply would change membership for it";

/// Why a batch has no effect whose records cannot be written.
pub(super) const UNWRITABLE: &str = "apply asked for a record that cannot be written";

/// Most outcomes that are kept of own batches of the forgotten start of the order.
const FORGOTTEN_MAX: usize = 256;

/// Outcomes of own batches.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// Of those that are held, by the length of their last block, and of forgotten ones that were not applied: when the
    /// order begins before them again, they may be.
    known: BTreeMap<Length, Outcome>,
    /// Those that are to be told.
    news: BTreeMap<Length, Outcome>,
    /// Why apply refused those that left no trace in the order.
    refused: BTreeMap<Length, Arc<str>>,
    /// What an earlier engine applied was looked at.
    has_begun: bool,
}

impl Outcomes {
    /// True once what an earlier engine applied was looked at.
    pub(super) const fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// True when it was another outcome that is known already.
    fn set(&mut self, length: Length, outcome: Outcome) -> bool {
        let before = self.known.insert(length, outcome.clone());
        let is_news = match &before {
            Some(before) => *before != outcome,
            None => self.has_begun && outcome != Outcome::Applied,
        };
        if is_news {
            self.news.insert(length, outcome);
        }
        before.is_some() && is_news
    }

    /// Forgets what became of batches from this length on: they are in no log.
    pub(super) fn forget_from(&mut self, length: Length) {
        self.known.split_off(&length);
        self.news.split_off(&length);
        self.refused.split_off(&length);
    }

    /// Forgets what became of batches before this length, but for the last of those that were not applied.
    fn forget_before(&mut self, base: Length, planted: Planted) {
        // What is held stays where it is: there may be thousands of it, and this is done in each drain.
        let is_over =
            |outcome: &Outcome| *outcome == Outcome::Applied || planted.has(Slip::RejectionForgotten);
        let mut over = Vec::new();
        let mut kept = Vec::new();
        for (length, outcome) in self.known.range(..base) {
            let list = if is_over(outcome) { &mut over } else { &mut kept };
            list.push(*length);
        }
        let too_many = kept.len().saturating_sub(FORGOTTEN_MAX);
        for length in over.iter().chain(kept.iter().take(too_many)) {
            self.known.remove(length);
        }
        if self
            .refused
            .first_key_value()
            .is_some_and(|(length, _)| *length < base)
        {
            self.refused = self.refused.split_off(&base);
        }
    }
}

/// The newest entry of each writer that the clock holds back, with the time for which it waits, or that was taken, with
/// its time stamp. Values for readers: a copy costs nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stamped {
    pub(crate) held_back: OrdMap<CoreKey, (Length, Timestamp)>,
    pub(crate) taken: OrdMap<CoreKey, (Length, Timestamp)>,
}

impl Stamped {
    /// Takes note of what a reader gave, and of what it holds back.
    pub(super) fn look(&mut self, key: &CoreKey, reader: &WriterReader, planted: Planted) {
        match reader.held_back() {
            Some(first) => _ = self.held_back.insert(*key, first),
            None if planted.has(Slip::HeldBackListed) => {}
            None if self.held_back.contains_key(key) => _ = self.held_back.remove(key),
            None => {}
        }
        let latest = reader.latest();
        if latest.0 > Length::ZERO && self.taken.get(key) != Some(&latest) {
            self.taken.insert(*key, latest);
        }
    }

    /// Entries that wait for the clock: the writer, the length with the entry, until when, and whether it is taken here.
    pub(crate) fn ahead(&self, now: Timestamp) -> impl Iterator<Item = (CoreKey, Length, Timestamp, bool)> {
        let held_back = self.held_back.iter();
        let held_back = held_back.map(|(key, (length, until))| (*key, *length, *until, false));
        let taken = self.taken.iter().filter_map(move |(key, (length, stamp))| {
            let until = Timestamp(stamp.0.saturating_sub(AHEAD_MS_MAX));
            (until > now).then_some((*key, *length, until, true))
        });
        held_back.chain(taken)
    }
}

impl<V: Verify> Engine<V> {
    /// What became of an own batch that this engine was given, whose last block has this length in the local log.
    #[must_use]
    pub fn outcome(&self, length: Length) -> Outcome {
        let is_forgotten = || {
            let local = self.attestations.local();
            local.is_some_and(|local| length <= self.dag.base_length(&local))
        };
        match self.outcomes.known.get(&length) {
            Some(outcome) => outcome.clone(),
            // What is forgotten and was not applied is known.
            None if is_forgotten() => Outcome::Applied,
            None => Outcome::Waiting { until: None },
        }
    }

    /// The outcomes that changed since the last call, and those of new own batches that were not applied at once.
    pub fn take_outcomes(&mut self) -> BTreeMap<Length, Outcome> {
        std::mem::take(&mut self.outcomes.news)
    }

    /// What waits for the clock, here or elsewhere.
    #[must_use]
    pub(crate) fn stamped(&self) -> Stamped {
        self.stamped.clone()
    }

    /// Takes note of an own batch that is written before it could be applied.
    pub(super) fn note_waiting(&mut self, length: Length) {
        if self.outcomes.known.contains_key(&length) {
            return;
        }
        let held_back = self
            .attestations
            .local()
            .and_then(|local| self.readers.get(&local)?.held_back());
        let until = held_back.map(|(_, until)| until);
        self.outcomes.set(length, Outcome::Waiting { until });
    }

    /// Takes note of why apply refused own batches, lately.
    pub(super) fn note_refused(&mut self, refused: Vec<(Length, Arc<str>)>) {
        self.outcomes.refused.extend(refused);
    }

    /// Takes note of what became of own batches, when the first `shared` entries of the order are as they were.
    pub(super) fn note_outcomes(&mut self, shared: usize) {
        let Some(local) = self.attestations.local() else {
            return;
        };
        let shared = shared.max(self.forgotten());
        let mut found = BTreeMap::new();
        for (entry, state) in self.order.entries_since(shared) {
            let batch = self.dag.batch(entry.batch);
            if batch.writer == local {
                let said = state.said.as_deref();
                let outcome = match said.and_then(|said| said.rejected.as_deref()) {
                    Some(reason) => Outcome::Rejected(reason.to_owned()),
                    None => Outcome::Applied,
                };
                found.insert(batch.last, outcome);
            }
        }
        let stays = self.order.state_at(shared).system.length(&local);
        for id in self.dag.batches_of(&local).iter().rev() {
            let last = self.dag.batch(*id).last;
            if last <= stays {
                break;
            }
            found.entry(last).or_insert_with(|| {
                let reason = self.outcomes.refused.get(&last);
                let other = if self.rules.set.is_safe() {
                    NOT_ACKNOWLEDGED
                } else {
                    NOT_LET_IN
                };
                Outcome::Rejected(reason.map_or(other, |reason| &**reason).to_owned())
            });
        }
        let waiting = self
            .readers
            .get(&local)
            .into_iter()
            .flat_map(WriterReader::waiting);
        found.extend(waiting.map(|(last, until)| (last, Outcome::Waiting { until: Some(until) })));
        let base = Length(self.dag.base_length(&local).0 + 1);
        let is_told = !self.planted.has(Slip::OutcomeUntold);
        for (length, outcome) in found {
            let has_changed = self.outcomes.set(length, outcome);
            self.sights.note_if(Point::OutcomeChanged, has_changed);
            if has_changed && !is_told {
                self.outcomes.news.remove(&length);
            }
        }
        self.outcomes.forget_before(base, self.planted);
        self.outcomes.has_begun = true;
    }
}
