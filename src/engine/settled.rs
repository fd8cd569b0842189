//! Finality: which start of the order no entry to come can touch, and on what that rests.
//!
//! Source: the rule of spec/autobee.md 8.8 orders all batches anew whenever one comes; `linearizer/settled.rs` says when it leaves a
//! start of the order as it is.

use std::collections::BTreeMap;

use super::Engine;
use super::attestations::Named;
use super::dag::BatchId;
use crate::crypto::{CoreKey, Verify};
use crate::env::Slip;
use crate::wire::{Length, Link};

/// A start of the order that can no longer change, as long as this holds:
///
/// * nobody who may write, or could once, replaces entries of its log, or writes it twice;
/// * who is in `silent` writes nothing more;
/// * where `rests_on_strangers`, no entry of a stranger is accepted that is dated before the last one here;
/// * an entry that apply takes, or refuses, names the same writers to be added wherever it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// Entries of the order, batches counted as one, from the first one on.
    pub entries: u64,
    /// The version of the system tree behind them; none for no entries, and where it is not in memory.
    pub head: Option<Link>,
    /// Who was taken to write nothing more.
    pub silent: Vec<CoreKey>,
    /// An entry of a stranger could still come before one of these: one of them has weight zero, and strangers are tried;
    /// or an entry of a removed writer, which was not applied, would let a stranger in where it is applied.
    pub rests_on_strangers: bool,
    /// Who has not linked the last entry yet, and so keeps more from being settled.
    pub awaited: Vec<CoreKey>,
}

/// Most entries of removed writers that are looked at; with more, strangers are said to be let in by them.
const REMOVED_MAX: usize = 64;

/// An entry that may have let somebody in.
struct Naming<'a> {
    batch: BatchId,
    /// How many entries the order has up to it.
    end: usize,
    named: &'a Named,
    /// Its writer is removed behind it.
    was_removed: bool,
}

/// Keeps of what some have in their past what these have, too.
fn meet(common: &mut Option<BTreeMap<CoreKey, Length>>, past: BTreeMap<CoreKey, Length>) {
    match common {
        None => *common = Some(past),
        Some(common) => common.retain(|key, length| match past.get(key) {
            Some(linked) => {
                *length = (*length).min(*linked);
                true
            }
            None => false,
        }),
    }
}

impl<V: Verify> Engine<V> {
    /// The longest start of the order that is known to be settled if those whom `is_silent` names write nothing more. What was
    /// settled once stays so, but later that may not be seen any more: keep the longest answer.
    ///
    /// Costs a look at all that is in memory for each writer.
    #[must_use]
    pub fn settled(&self, is_silent: impl Fn(&CoreKey) -> bool) -> Settled {
        let system = self.system();
        // Guests are ordered by whom members link, and by nothing that they write later.
        let records = system.records();
        let records = records.filter(|(_, record)| !record.is_anchor && !record.is_guest);
        let removed_go = self.planted.has(Slip::SettledRemoved);
        let records = records.filter(|(_, record)| !(removed_go && record.is_removed));
        let mut writers: Vec<(CoreKey, Length)> =
            records.map(|(key, record)| (*key, record.length)).collect();
        if system.record(&self.rules.bootstrap).is_none() {
            writers.push((self.rules.bootstrap, Length::ZERO));
        }
        let silent: Vec<CoreKey> = writers
            .iter()
            .map(|writer| writer.0)
            .filter(|key| is_silent(key))
            .collect();
        writers.retain(|(key, _)| !silent.contains(key));
        let namings = self.namings();
        let last_entry = self
            .order
            .entries()
            .last()
            .map(|entry| self.dag.batch(entry.batch));
        let last_entry = last_entry.map(|batch| (batch.writer, batch.last));

        let mut limit = usize::MAX;
        let mut awaited = Vec::new();
        let mut common: Option<BTreeMap<CoreKey, Length>> = None;
        let mut unwritten = Vec::new();
        for (writer, length) in writers {
            let past = match self.dag.batches_of(&writer).last() {
                Some(last) => self.dag.past_of(*last),
                None if length > Length::ZERO => BTreeMap::from([(writer, length)]),
                None => {
                    // Its first entry counts from where it was let in, or behind any entry that lets it in and that it links:
                    // it need not link anything else.
                    let from = self.let_in_at(&writer);
                    limit = limit.min(from);
                    unwritten.push((writer, from));
                    awaited.push(writer);
                    continue;
                }
            };
            let has_last =
                last_entry.is_none_or(|(key, length)| past.get(&key).is_some_and(|linked| *linked >= length));
            if !has_last {
                awaited.push(writer);
            }
            meet(&mut common, past);
        }
        let looked_at = namings
            .iter()
            .filter(|_| !self.planted.has(Slip::SettledFirstGrant));
        for naming in looked_at {
            if unwritten
                .iter()
                .any(|(writer, from)| naming.end >= *from && naming.named.may_be(writer))
            {
                meet(&mut common, self.dag.past_of(naming.batch));
            }
        }
        // With all writers silent nothing comes at all.
        let is_over = common.is_none() && limit == usize::MAX;
        let all = || {
            self.dag
                .base_lengths()
                .map(|(key, _)| (key, Length(u64::MAX)))
                .collect()
        };
        let past = common.unwrap_or_else(all);
        let found = self.order.settled_prefix(&self.dag, &self.run(0), &past, limit);
        let mut settled = Settled {
            silent,
            awaited,
            ..Settled::default()
        };
        if let Some(found) = found {
            settled.entries = found.entries as u64;
            let has_room = found.has_weight_zero && self.takes_strangers();
            settled.rests_on_strangers =
                !is_over && (has_room || self.may_be_let_in(&namings, found.entries));
        }
        settled.head = self.head_behind(settled.entries);
        settled
    }

    /// The version of the system tree behind so many entries; none for none, and for fewer than are forgotten.
    #[must_use]
    pub fn head_behind(&self, entries: u64) -> Option<Link> {
        let entries = usize::try_from(entries).unwrap_or(usize::MAX);
        let is_here = entries > 0 && (self.order.forgotten()..=self.order.len()).contains(&entries);
        is_here.then(|| self.order.state_at(entries).records.head())
    }

    /// Entries in memory that may have let somebody in, in their order.
    fn namings(&self) -> Vec<Naming<'_>> {
        let mut end = self.order.forgotten();
        let entries = self.order.entries_since(end).filter_map(|(entry, state)| {
            end += 1;
            let named = &state.said.as_deref()?.named;
            let writer = &self.dag.batch(entry.batch).writer;
            let was_removed = state
                .system
                .record(writer)
                .is_some_and(|record| record.is_removed);
            let is_one = *named != Named::default();
            is_one.then_some(Naming {
                batch: entry.batch,
                end,
                named,
                was_removed,
            })
        });
        entries.collect()
    }

    /// Whether an entry of a writer that was removed, and that did not know all that comes before it, could let in a stranger
    /// who knows no more, and whose entry would come before one of the first `entries`.
    fn may_be_let_in(&self, namings: &[Naming<'_>], entries: usize) -> bool {
        let mut removed = namings
            .iter()
            .filter(|naming| naming.was_removed && *naming.named == Named::Unknown);
        let run = self.run(0);
        let knows_all = |naming: &Naming<'_>| {
            let before = entries.min(naming.end - 1);
            let past = self.dag.past_of(naming.batch);
            self.order.is_known_to(&self.dag, &run, &past, before)
        };
        removed
            .by_ref()
            .take(REMOVED_MAX)
            .any(|naming| !knows_all(naming))
            || removed.next().is_some()
    }

    /// After how many entries a writer had a record first; none as long as that is forgotten.
    fn let_in_at(&self, writer: &CoreKey) -> usize {
        let (first, end) = (self.order.forgotten(), self.order.len());
        let has_record = |entries: usize| {
            let record = self.order.state_at(entries).system.record(writer);
            record.is_some_and(|record| !record.is_guest)
        };
        if has_record(first) {
            return 0;
        }
        let (mut without, mut with) = (first, end);
        while without + 1 < with {
            let middle = usize::midpoint(without, with);
            if has_record(middle) {
                with = middle;
            } else {
                without = middle;
            }
        }
        with
    }
}
