//! Forgetting what is settled, and letting go of what is not to take part.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::crypto::CoreKey;
use crate::wire::{Length, Link};

use super::{BatchId, Dag, Gate, Waiting, WriterId, id};

/// Old ids of batches to new ones. None for what is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renumbered {
    /// Batches before this one have the ids that they had.
    from: usize,
    ids: Vec<Option<BatchId>>,
}

impl Renumbered {
    /// The new id of a batch. None when it is gone.
    #[must_use]
    pub fn get(&self, before: BatchId) -> Option<BatchId> {
        match before.index().checked_sub(self.from) {
            None => Some(before),
            Some(at) => self.ids.get(at).copied().flatten(),
        }
    }

    /// The first batch whose id changed, or that is gone.
    pub(crate) const fn from(&self) -> usize {
        self.from
    }

    /// Those whose ids changed: before, and after.
    pub(crate) fn moved(&self) -> impl Iterator<Item = (BatchId, BatchId)> {
        let ids = (self.from..).zip(&self.ids);
        ids.filter_map(|(before, after)| Some((id(before), (*after)?)))
    }
}

impl Dag {
    /// A set that begins at these lengths.
    #[must_use]
    pub fn starting_at(lengths: impl IntoIterator<Item = (CoreKey, Length)>) -> Self {
        let mut dag = Self::new();
        for (key, length) in lengths {
            let id = dag.writer_mut(key);
            let writer = &mut dag.writers[id.index()];
            writer.base = length;
            writer.ready_length = length;
            writer.known_length = length;
        }
        dag
    }

    /// How much of a writer was forgotten.
    #[must_use]
    pub fn base_length(&self, writer: &CoreKey) -> Length {
        self.ids
            .get(writer)
            .map_or(Length::ZERO, |id| self.writers[id.index()].base)
    }

    /// All writers, each with how much of it was forgotten.
    pub fn base_lengths(&self) -> impl Iterator<Item = (CoreKey, Length)> {
        self.ids
            .iter()
            .map(|(key, id)| (*key, self.writers[id.index()].base))
    }

    /// Forgets these ready batches. With a batch everything that comes before it must go.
    ///
    /// Ids change: those that stay are numbered anew, in the same order.
    pub fn forget(&mut self, goes: impl Fn(BatchId) -> bool) -> Renumbered {
        let mut ids = Vec::with_capacity(self.batches.len());
        let mut kept = 0;
        for at in 0..self.batches.len() {
            let stays = !goes(id(at));
            ids.push(stays.then(|| id(kept)));
            kept += usize::from(stays);
        }
        let ids = Renumbered { from: 0, ids };
        self.known -= self.batches.len() - kept;

        for writer in &mut self.writers {
            let gone = writer.ready.partition_point(|at| ids.get(*at).is_none());
            if let Some(last) = gone.checked_sub(1) {
                writer.base = self.batches[writer.ready[last].index()].last;
            }
            writer.ready.drain(..gone);
            writer.ready = writer.ready.iter().filter_map(|at| ids.get(*at)).collect();
        }
        let before = std::mem::take(&mut self.batches);
        let link = |at: BatchId| {
            let batch = &before[at.index()];
            Link {
                key: batch.writer,
                length: batch.last,
            }
        };
        let mut after = Vec::with_capacity(kept);
        for (at, batch) in before.iter().enumerate() {
            if ids.get(id(at)).is_none() {
                continue;
            }
            let gone = batch.parents.iter().filter(|parent| ids.get(**parent).is_none());
            let mut moved = super::Batch {
                sequence: 0,
                parents: batch
                    .parents
                    .iter()
                    .filter_map(|parent| ids.get(*parent))
                    .collect(),
                behind: batch
                    .behind
                    .iter()
                    .copied()
                    .chain(gone.map(|parent| link(*parent)))
                    .collect(),
                ..batch.clone()
            };
            moved.parents.shrink_to_fit();
            after.push(moved);
        }
        self.batches = after;
        for writer in &self.writers {
            for (sequence, at) in (0..).zip(&writer.ready) {
                self.batches[at.index()].sequence = sequence;
            }
        }
        self.keep_gates();
        ids
    }

    /// Takes batches out of the set again: those of each of these writers behind this length, ready or waiting. What
    /// depends on a batch that goes, or names it, must go with it, and nothing that is settled may.
    ///
    /// Ids change from the first one that goes on: it costs what is behind that.
    pub fn remove(&mut self, kept: &BTreeMap<CoreKey, Length>) -> Renumbered {
        let before = self.batches.len();
        let mut goes = Vec::new();
        for (key, length) in kept {
            let Some(id) = self.ids.get(key).copied() else {
                continue;
            };
            self.end_waiting(id, *length);
            let batches = &self.batches;
            let writer = &mut self.writers[id.index()];
            let stays = writer
                .ready
                .partition_point(|at| batches[at.index()].last <= *length);
            goes.extend(writer.ready.drain(stays..));
            if let Some(last) = writer.ready.last() {
                writer.ready_length = batches[last.index()].last;
            } else {
                writer.ready_length = writer.base;
            }
            let waiting = writer.waiting.back();
            writer.known_length = waiting.map_or(writer.ready_length, |waiting| waiting.batch.last);
            if writer.known_length == Length::ZERO {
                self.ids.remove(key);
                self.free.push(id);
            }
        }
        goes.sort_unstable();
        self.known -= goes.len();
        let from = goes.first().map_or(before, |first| first.index());
        let mut ids = Vec::with_capacity(before - from);
        let mut goes = goes.into_iter().peekable();
        let mut next = from;
        for at in from..before {
            let stays = goes.next_if_eq(&id(at)).is_none();
            ids.push(stays.then(|| id(next)));
            next += usize::from(stays);
        }
        let ids = Renumbered { from, ids };
        for (was, now) in ids.moved() {
            self.batches.swap(was.index(), now.index());
            let batch = &mut self.batches[now.index()];
            for parent in &mut batch.parents {
                *parent = ids.get(*parent).unwrap_or(*parent);
            }
            let (writer, sequence) = (batch.writer_id, batch.sequence as usize);
            self.writers[writer.index()].ready[sequence] = now;
        }
        self.batches.truncate(next);
        self.keep_gates();
        ids
    }

    /// Forgets what the waiting batches of a writer behind this length wait for, and them.
    fn end_waiting(&mut self, id: WriterId, length: Length) {
        let waiting = &mut self.writers[id.index()].waiting;
        let gate = waiting.front().and_then(Waiting::gate);
        let count = waiting.len();
        while waiting.back().is_some_and(|waiting| waiting.batch.last > length) {
            waiting.pop_back();
        }
        self.known -= count - waiting.len();
        if let Some(gate) = gate.filter(|_| waiting.is_empty() && count > 0) {
            let at = (gate.key, gate.length);
            if let Entry::Occupied(mut waits) = self.waits.entry(at) {
                waits.get_mut().retain(|other| *other != id);
                if waits.get().is_empty() {
                    waits.remove();
                    self.absent.remove(&at);
                }
            }
        }
    }

    /// Forgets what batches need that are not here.
    fn keep_gates(&mut self) {
        let gates = std::mem::take(&mut self.gates);
        let gates = gates.into_iter().filter(|gate| self.find(gate.batch).is_some());
        self.gates = gates.collect();
    }

    /// Hands over what ready batches need that `is_wanted` says.
    pub(crate) fn take_gates(&mut self, is_wanted: impl Fn(&Self, &Gate) -> bool) -> Vec<Gate> {
        let gates = std::mem::take(&mut self.gates);
        let (taken, left) = gates.into_iter().partition(|gate| is_wanted(self, gate));
        self.gates = left;
        taken
    }

    /// Makes the anchors these ones alone. What they opened stays open.
    pub(crate) fn reset_anchors(&mut self, anchors: impl IntoIterator<Item = CoreKey>) {
        self.anchors = anchors.into_iter().collect();
    }
}
