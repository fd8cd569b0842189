//! Forgetting what is settled.

use crate::crypto::CoreKey;
use crate::wire::{Length, Link};

use super::{BatchId, Dag, id};

/// Old ids of batches to new ones. None for what was forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renumbered(Vec<Option<BatchId>>);

impl Renumbered {
    /// The new id of a batch. None when it was forgotten.
    #[must_use]
    pub fn get(&self, before: BatchId) -> Option<BatchId> {
        self.0.get(before.index()).copied().flatten()
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

    /// All writers, in no order that means something, each with how much of it was forgotten.
    pub fn base_lengths(&self) -> impl Iterator<Item = (CoreKey, Length)> {
        self.writers.iter().map(|writer| (writer.key, writer.base))
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
        let ids = Renumbered(ids);
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
        ids
    }

    /// Makes the anchors these ones alone. What they opened stays open.
    pub(crate) fn reset_anchors(&mut self, anchors: impl IntoIterator<Item = CoreKey>) {
        self.anchors = anchors.into_iter().collect();
    }
}
