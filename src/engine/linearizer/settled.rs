//! Which start of the order no batch to come can touch.
//!
//! Source: the theorem in `base.rs`. Of a prefix that ends with a pick, and of which no pick is tainted and no batch outside
//! is unsound, a set that grows by batches that have all of it in their past begins with it unchanged. A batch that comes
//! later comes behind the last one of its writer, and so has in its past what that one has. So a prefix is settled when the last
//! batch of every writer has all of its tops in its past.

use std::collections::BTreeMap;

use crate::crypto::CoreKey;
use crate::engine::dag::{BatchId, Dag};
use crate::env::Slip;
use crate::wire::{Length, Weight};

use super::base::Extended;
use super::timeline::NodeId;
use super::{Linearizer, Replay};

/// A start of the order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SettledPrefix {
    /// Entries, with those that are forgotten.
    pub(crate) entries: usize,
    /// A pick of it has weight zero: a batch of a stranger could be better.
    pub(crate) has_weight_zero: bool,
}

impl<S: Clone> Linearizer<S> {
    /// The longest start of the order, of at most `limit` entries, that batches cannot touch which have this much of each
    /// log in their past. None when nothing can be said: the order is not complete, or the start that is forgotten is longer.
    pub(crate) fn settled_prefix<R: Replay<State = S>>(
        &self,
        dag: &Dag,
        replay: &R,
        past: &BTreeMap<CoreKey, Length>,
        limit: usize,
    ) -> Option<SettledPrefix> {
        if !self.is_whole(dag) {
            return None;
        }
        let settled: Vec<BatchId> = self.timeline.path_since(0).collect();
        let ends = self.pick_ends();
        let entries = |count: usize| ends[count];
        let is_covered = |count| self.is_covered(dag, replay, &settled, count, past);
        // What covers a prefix covers all shorter ones.
        let mut low = longest(self.picks.len(), |count| {
            entries(count) <= limit && is_covered(count)
        });
        // Few are tainted, and those for a while only.
        while low > 0 {
            let prefix = self.extended(dag, replay, &settled, low).prefix;
            if prefix.tainted.is_none() && prefix.unsound.is_empty() {
                let worst = prefix.worst.map(|worst| worst.weight.0);
                let longer = usize::from(self.planted.has(Slip::SettledLong));
                return Some(SettledPrefix {
                    entries: entries((low + longer).min(self.picks.len())),
                    has_weight_zero: worst == Some(Weight::ZERO),
                });
            }
            low /= 2;
        }
        None
    }

    /// Whether batches that have this much of each log in their past have all of those picks in it that end within the
    /// first `entries` entries of the order.
    pub(crate) fn is_known_to<R: Replay<State = S>>(
        &self,
        dag: &Dag,
        replay: &R,
        past: &BTreeMap<CoreKey, Length>,
        entries: usize,
    ) -> bool {
        if !self.is_whole(dag) {
            return false;
        }
        let ends = self.pick_ends();
        let count = longest(self.picks.len(), |count| ends[count] <= entries);
        let settled: Vec<BatchId> = self.timeline.path_since(0).collect();
        self.is_covered(dag, replay, &settled, count, past)
    }

    /// True when the order is that of all batches of the set.
    fn is_whole(&self, dag: &Dag) -> bool {
        let is_complete = self.considered == dag.len() && self.published.path.len() == self.timeline.len();
        is_complete && !self.base.is_behind()
    }

    /// How many entries the order has behind each number of picks.
    fn pick_ends(&self) -> Vec<usize> {
        let mut entries = self.forgotten();
        let mut ends = vec![entries];
        let mut path = self.timeline.path().iter();
        let mut start = 0;
        for (_, end) in self.picks.first(self.picks.len()) {
            let picked = path.by_ref().take(end - start);
            entries += picked.filter(|node| self.timeline.is_accepted(**node)).count();
            ends.push(entries);
            start = end;
        }
        ends
    }

    fn is_covered<R: Replay<State = S>>(
        &self,
        dag: &Dag,
        replay: &R,
        settled: &[BatchId],
        count: usize,
        past: &BTreeMap<CoreKey, Length>,
    ) -> bool {
        let prefix = self.extended(dag, replay, settled, count).prefix;
        let mut tops = prefix.tops.iter();
        tops.all(|(key, first)| past.get(key).is_some_and(|length| length >= first))
    }

    fn extended<R: Replay<State = S>>(
        &self,
        dag: &Dag,
        replay: &R,
        settled: &[BatchId],
        count: usize,
    ) -> Extended {
        let mut start = 0;
        let picks = self.picks.first(count).map(|(priority, end)| {
            let batches = &settled[start..end];
            start = end;
            (priority, batches)
        });
        let root = self.timeline.state_of(NodeId::ROOT);
        self.base
            .extended(dag, replay, &self.rules, root, picks, self.spanned)
    }
}

/// The greatest number up to `most` that fits, where all smaller ones do; zero always does.
fn longest(most: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, most + 1);
    while low + 1 < high {
        let middle = usize::midpoint(low, high);
        if fits(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}
