//! Batches of strangers that nothing can admit before their writer gets a record.
//!
//! A batch that is not tried, whose writer has no record, and whose unsettled parents are all of this kind: its
//! trial would refuse its ancestors, change nothing, and refuse it. Under safe rules also one that would be tried: whatever
//! apply accepts of strangers gives nobody a record that counts. They cost one look at each of their writers per
//! pick, not a trial each.

use std::collections::{BTreeMap, BTreeSet};

use crate::crypto::CoreKey;
use crate::engine::dag::{BatchId, Dag, Renumbered};
use crate::env::{Planted, Slip};

use super::timeline::Timeline;
use super::{Replay, Rules};

#[derive(Debug, Clone, Default)]
pub(super) struct Parked {
    batches: BTreeSet<BatchId>,
    writers: BTreeSet<CoreKey>,
    /// What some batch of a set was found to be, while the set is gone through.
    known: BTreeMap<CoreKey, bool>,
}

impl Parked {
    pub(super) fn iter(&self) -> impl Iterator<Item = BatchId> {
        self.batches.iter().copied()
    }

    /// Takes out of `batches`, which are sorted, what can be parked where the timeline stands.
    pub(super) fn park<R: Replay>(
        &mut self,
        dag: &Dag,
        replay: &R,
        (rules, shuts_out): (&Rules, bool),
        timeline: &Timeline<R::State>,
        batches: &mut Vec<BatchId>,
    ) {
        self.known.clear();
        batches.retain(|id| {
            let batch = dag.batch(*id);
            let known = self.known.entry(batch.writer).or_insert_with(|| {
                batch.writer == rules.bootstrap || replay.standing(timeline.state(), &batch.writer).is_some()
            });
            let is_hopeless = !*known
                && (shuts_out || !rules.tries(batch))
                && batch
                    .parents
                    .iter()
                    .all(|parent| timeline.settled(*parent).is_some() || self.batches.contains(parent));
            if is_hopeless && timeline.settled(*id).is_none() {
                self.batches.insert(*id);
                self.writers.insert(batch.writer);
            }
            !is_hopeless
        });
    }

    /// Gives everything back if one of the writers has a record now: its batches may lift others.
    pub(super) fn wake<R: Replay>(&mut self, replay: &R, state: &R::State, planted: Planted) -> Vec<BatchId> {
        let is_known = |writer: &CoreKey| replay.standing(state, writer).is_some();
        let is_woken = match planted.has(Slip::ParkedTogether) {
            true => self.writers.iter().all(is_known),
            false => self.writers.iter().any(is_known),
        };
        if is_woken { self.take() } else { Vec::new() }
    }

    /// After ids of the set changed.
    pub(super) fn renumber(&mut self, ids: &Renumbered) {
        self.batches = self.batches.iter().filter_map(|id| ids.get(*id)).collect();
    }

    /// Looks at no writer any longer of whom nothing is parked.
    pub(super) fn forget_writers(&mut self, dag: &Dag) {
        self.writers = self.batches.iter().map(|id| dag.batch(*id).writer).collect();
    }

    /// Gives everything back.
    pub(super) fn take(&mut self) -> Vec<BatchId> {
        self.writers.clear();
        std::mem::take(&mut self.batches).into_iter().collect()
    }
}
