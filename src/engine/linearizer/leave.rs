//! Batches that leave the set: those that were refused wherever their turn came.
//!
//! What is not settled when an update is complete pulled nothing and left no trace, and nothing that is settled depends on
//! it. So the order of the set without it is the same, pick by pick: `docs/linearizer.md` has the proof. When it comes
//! back, the picks that were made while it was there need not be looked at again.

use std::collections::BTreeMap;

use crate::crypto::CoreKey;
use crate::engine::dag::Dag;
use crate::wire::Length;

use super::Linearizer;

/// What is remembered of a writer whose batches left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    /// Its batches were in the set up to here.
    length: Length,
    /// So many picks of the top level were made with them.
    pub(super) picks: usize,
}

impl Left {
    /// True when this batch took part in the picks.
    pub(super) fn includes(&self, last: Length) -> bool {
        last <= self.length
    }
}

impl<S: Clone> Linearizer<S> {
    /// Takes the batches of these writers behind these lengths out of the set. None of them may be settled, and what
    /// depends on one, or names it, must go too. The last update must have been a complete one of this set.
    pub fn let_go(&mut self, dag: &mut Dag, kept: &BTreeMap<CoreKey, Length>) {
        for (key, length) in kept {
            let chain = dag.batches_of(key);
            let stays = chain.partition_point(|id| dag.batch(*id).last <= *length);
            let Some(last) = chain.last().filter(|_| stays < chain.len()) else {
                continue;
            };
            for id in &chain[stays..] {
                self.base.leaves(dag.batch(*id));
            }
            let last = dag.batch(*last);
            self.claims.truncate(last.writer_id, stays);
            let left = Left {
                length: last.last,
                picks: self.picks.len(),
            };
            self.left.insert(*key, left);
        }
        let ids = dag.remove(kept);
        self.timeline.renumber(&ids, dag);
        self.base.remove(&ids);
        self.unsettled = self.unsettled.iter().filter_map(|id| ids.get(*id)).collect();
        self.ancestry.clear();
        self.parked.renumber(&ids);
        self.parked.forget_writers(dag);
        self.considered = dag.len();
    }

    /// Forgets that batches of a writer were in the set: it is gone for good.
    pub fn forget_left(&mut self, writer: &CoreKey) {
        self.left.remove(writer);
    }

    /// How many picks of the top level need not be looked at again for a batch that comes back.
    pub(super) fn picks_with(&self, writer: &CoreKey, last: Length) -> usize {
        let left = self.left.get(writer).filter(|left| left.includes(last));
        left.map_or(0, |left| left.picks)
    }

    /// Picks from this one on were taken back.
    pub(super) fn picks_end_at(&mut self, cut: usize) {
        for left in self.left.values_mut() {
            left.picks = left.picks.min(cut);
        }
    }

    /// The first picks are forgotten. Who was not there for all of them is as good as new.
    pub(super) fn picks_begin_at(&mut self, count: usize) {
        self.left.retain(|_, left| left.picks >= count);
        for left in self.left.values_mut() {
            left.picks -= count;
        }
    }

    /// Forgets which batches left: for an order that begins at the start of another one.
    pub(crate) fn forget_who_left(&mut self) {
        self.left.clear();
    }

    /// What `before` remembers of batches that left, for an order that begins at a shorter start of the same.
    pub(crate) fn remembering(mut self, before: &Self) -> Self {
        self.left.clone_from(&before.left);
        self.picks_end_at(0);
        self
    }
}
