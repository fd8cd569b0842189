//! Sets of batches that are emitted at once: those in which nothing can rise, chains, and what is refused.

use std::collections::{BTreeMap, BinaryHeap};

use crate::engine::dag::BatchId;
use crate::env::Slip;

use super::emission::{Emission, Next};
use super::timeline::{NodeId, Trial};
use super::{Replay, Suspended};

/// How deep in its chain a batch is with which others behind it are tried.
pub(super) const CHAIN_AHEAD: usize = 16;

impl<R: Replay> Emission<'_, R> {
    /// True when the order of a set is a question: some batch in it could rise.
    pub(super) fn has_choice(&self, set: &[BatchId], is_spanning: bool) -> bool {
        set.iter()
            .any(|id| self.could_rise(*id) || (is_spanning && self.could_span(*id)))
    }

    /// Emits a set in which nothing can rise; the last walk must have been the one that found it.
    pub(super) fn emit_sorted(&mut self, set: &[BatchId]) -> Result<Next, Suspended> {
        for id in self.sort(set) {
            let weight = self.resolve(id);
            self.settle(id, weight)?;
        }
        Ok(Next::Again)
    }

    /// Settles a batch whose ancestors are. Gives what its trial would find where those began.
    pub(super) fn settle_trial(&mut self, id: BatchId) -> Result<Trial, Suspended> {
        let weight = self.resolve(id);
        let is_known = self.is_known(id);
        let is_accepted = self.settle(id, weight)?;
        Ok(Trial {
            weight,
            admitted: Some(self.admits(is_known, is_accepted)),
        })
    }

    /// Whether a batch may be a candidate at the top level: one of somebody without a record may, under the rules of the
    /// original, when apply accepts it, and never under safe ones.
    const fn admits(&self, is_known: bool, is_accepted: bool) -> bool {
        is_known || (is_accepted && !self.shuts_out())
    }

    /// Parts a set of ancestors into its end, in which each batch comes before the next and all others come before the
    /// first, and these others: where the end has its place is no question. None when it has no such end. The last walk is
    /// then the one that found the others.
    pub(super) fn split(&mut self, set: &[BatchId]) -> Option<(Vec<BatchId>, Vec<BatchId>)> {
        let follows = |pair: &[BatchId]| self.dag.batch(pair[1]).parents.contains(&pair[0]);
        let chain = set.windows(2).rev().take_while(|pair| follows(pair)).count();
        // The further back in the chain, the more of the others come before.
        let mut from = set.len().checked_sub(chain + 1)?;
        let (mut end, mut middle) = (set.len(), from);
        while from < end {
            if self.ancestors(set[middle]).len() == middle {
                end = middle;
            } else {
                from = middle + 1;
            }
            middle = from.midpoint(end);
        }
        let first = set.get(from)?;
        Some((self.ancestors(*first), set[from..].to_vec()))
    }

    /// Emits a set in which each batch comes before the next: its order is no question, and each weight is the one where
    /// its batch stands. False when it is no such set.
    pub(super) fn emit_chain(&mut self, set: &[BatchId]) -> Result<bool, Suspended> {
        let follows = |pair: &[BatchId]| self.dag.batch(pair[1]).parents.contains(&pair[0]);
        if self.planted.has(Slip::RaiseUnseen) || !set.windows(2).all(follows) {
            return Ok(false);
        }
        for id in set {
            let weight = self.resolve(*id);
            self.settle(*id, weight)?;
        }
        Ok(true)
    }

    /// Emits a set of strangers' batches as if no weight could change in it: what is refused changes nothing, so that all
    /// that could be tried in between is refused, too. False, and nothing emitted, when one is accepted.
    pub(super) fn emit_refused(&mut self, set: &[BatchId]) -> Result<bool, Suspended> {
        if set.iter().any(|id| self.is_known(*id)) {
            return Ok(false);
        }
        let start = self.timeline.len();
        for id in self.sort(set) {
            let weight = self.resolve(id);
            if self.settle(id, weight)? {
                self.timeline.rewind(start);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Tries a batch together with others of its writer's chain: what comes before each of them is what comes before the
    /// one in front of it, and that one, so that all trials are on one way. Nothing is known of it afterwards when there
    /// is more that comes before it.
    pub(super) fn try_chain(&mut self, id: BatchId) -> Result<(), Suspended> {
        let batch = self.dag.batch(id);
        let chain = self.dag.batches_of(&batch.writer);
        let head = self.timeline.head(batch.writer_id) as usize;
        // Of a long one more is looked at than is asked for: each that is asked for alone would go all the way again.
        let asked = batch.sequence as usize + 1 - head;
        let most = if asked < CHAIN_AHEAD { asked } else { asked * 2 };
        let (start, here) = (self.timeline.len(), self.timeline.node());
        for (at, id) in chain[head..].iter().take(most).enumerate() {
            let is_open = |parent: &BatchId| self.timeline.settled(*parent).is_some();
            if !self.dag.batch(*id).parents.iter().all(is_open) {
                let before = self.ancestors(*id);
                if at > 0 || !(self.emit_chain(&before)? || self.emit_refused(&before)?) {
                    break;
                }
                self.stats.stranger_steps += before.len() as u64;
            }
            self.stats.trials += 1;
            let is_known = self.is_known(*id);
            self.stats.stranger_steps += u64::from(!is_known);
            let weight = self.resolve(*id);
            let is_last = at + 1 == most;
            // Nobody asks what a member's batch comes to: only those behind it would.
            let is_accepted = (is_known && is_last) || self.settle(*id, weight)?;
            let admitted = Some(self.admits(is_known, is_accepted));
            self.timeline
                .remember((here, *id, false), Trial { weight, admitted });
        }
        self.timeline.rewind(start);
        Ok(())
    }

    /// After the trial of a batch to which the way was long: goes on with those for which it is the same way, and on from
    /// there. Each that is asked for alone would go all the way again.
    pub(super) fn try_behind(&mut self, id: BatchId, most: usize, before: NodeId) -> Result<(), Suspended> {
        let mut last = id;
        for _ in 0..most {
            let trial = self.settle_trial(last)?;
            if last != id {
                self.timeline.remember((before, last, false), trial);
            }
            let batch = self.dag.batch(last);
            let is_open = |parent: &BatchId| self.timeline.settled(*parent).is_some();
            let is_next = |next: &BatchId| {
                let parents = &self.dag.batch(*next).parents;
                parents.contains(&last) && parents.iter().all(is_open)
            };
            let of_writer = self
                .dag
                .batches_of(&batch.writer)
                .get(batch.sequence as usize + 1);
            let of_all = self.dag.ready_since(last.index() + 1).next().map(|(id, _)| id);
            let Some(next) = of_writer.copied().filter(is_next).or(of_all.filter(is_next)) else {
                return Ok(());
            };
            last = next;
        }
        Ok(())
    }

    /// Unsettled ancestors, oldest id first.
    pub(super) fn ancestors(&mut self, id: BatchId) -> Vec<BatchId> {
        self.marks.start(self.dag);
        let mut found = Vec::new();
        let mut next = vec![id];
        while let Some(id) = next.pop() {
            for &parent in &self.dag.batch(id).parents {
                if self.timeline.settled(parent).is_none() && self.marks.see(parent) {
                    found.push(parent);
                    next.push(parent);
                }
            }
        }
        found.sort_unstable();
        found
    }

    /// The order of a set in which nothing can rise; the last walk must have been the one that found it.
    ///
    /// The best goes as far to the front as its ancestors allow, then the next best: the same as taking, from the back,
    /// the worst of those that nothing left depends on.
    pub(super) fn sort(&self, set: &[BatchId]) -> Vec<BatchId> {
        if set.len() < 2 {
            return set.to_vec();
        }
        let inside = |id: &BatchId| self.marks.has_seen(*id) && self.timeline.settled(*id).is_none();
        let mut children: BTreeMap<BatchId, u32> = set.iter().map(|id| (*id, 0)).collect();
        for id in set {
            for parent in self.dag.batch(*id).parents.iter().filter(|id| inside(id)) {
                *children.entry(*parent).or_default() += 1;
            }
        }
        let priority = |id: BatchId| self.priority(id, self.bound(id).1);
        let free = children.iter().filter(|(_, children)| **children == 0);
        let mut last: BinaryHeap<_> = free.map(|(id, _)| (priority(*id), *id)).collect();
        let mut sorted = Vec::new();
        while let Some((_, id)) = last.pop() {
            sorted.push(id);
            for parent in self.dag.batch(id).parents.iter().filter(|id| inside(id)) {
                if let Some(children) = children.get_mut(parent) {
                    *children -= 1;
                    if *children == 0 {
                        last.push((priority(*parent), *parent));
                    }
                }
            }
        }
        sorted.reverse();
        sorted
    }
}
