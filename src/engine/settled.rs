//! Finality: which start of the order no entry to come can touch, and on what that rests.
//!
//! Source: the rule of spec/autobee.md 8.8 orders all batches anew whenever one comes; `linearizer/settled.rs` says when it leaves a
//! start of the order as it is.

use std::collections::BTreeMap;

use super::Engine;
use crate::crypto::{CoreKey, Verify};
use crate::wire::{Length, Link};

/// A start of the order that can no longer change, as long as this holds:
///
/// * nobody who may write, or could once, replaces entries of its log, or writes it twice;
/// * who is in `silent` writes nothing more;
/// * where `rests_on_strangers`, no entry of a stranger is accepted that is dated before the last one here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// Entries of the order, batches counted as one, from the first one on.
    pub entries: u64,
    /// The version of the system tree behind them; none for no entries, and where it is not in memory.
    pub head: Option<Link>,
    /// Who was taken to write nothing more.
    pub silent: Vec<CoreKey>,
    /// Some entry has weight zero, so that one of a stranger could come before it. Never where strangers are not tried.
    pub rests_on_strangers: bool,
    /// Who has not linked the last entry yet, and so keeps more from being settled.
    pub awaited: Vec<CoreKey>,
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
        let last_entry = self
            .order
            .entries()
            .last()
            .map(|entry| self.dag.batch(entry.batch));
        let last_entry = last_entry.map(|batch| (batch.writer, batch.last));

        let mut limit = usize::MAX;
        let mut awaited = Vec::new();
        let mut common: Option<BTreeMap<CoreKey, Length>> = None;
        for (writer, length) in writers {
            let past = match self.dag.batches_of(&writer).last() {
                Some(last) => self.dag.past_of(*last),
                None if length > Length::ZERO => BTreeMap::from([(writer, length)]),
                None => {
                    // Its first entry need not link anything, and counts from where it was let in.
                    limit = limit.min(self.let_in_at(&writer));
                    awaited.push(writer);
                    continue;
                }
            };
            let has_last =
                last_entry.is_none_or(|(key, length)| past.get(&key).is_some_and(|linked| *linked >= length));
            if !has_last {
                awaited.push(writer);
            }
            match &mut common {
                None => common = Some(past),
                Some(common) => common.retain(|key, length| match past.get(key) {
                    Some(linked) => {
                        *length = (*length).min(*linked);
                        true
                    }
                    None => false,
                }),
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
            settled.rests_on_strangers = found.has_weight_zero && self.takes_strangers() && !is_over;
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
