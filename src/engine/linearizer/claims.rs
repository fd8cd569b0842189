//! Claims of weight that could count, and the highest of some.

use crate::engine::dag::{Batch, BatchId, Dag, WriterId};
use crate::wire::{Length, Weight};

use super::{GENESIS_WEIGHT, Rules};

/// Claims that could count, by writer.
#[derive(Debug, Clone, Default)]
pub(super) struct WeightClaims {
    of: Vec<OfWriter>,
}

/// Those of one writer.
#[derive(Debug, Clone, Default)]
struct OfWriter {
    /// The position of the batch among those of the writer, and the weight.
    claims: Vec<(u32, Weight)>,
    /// Of every two, four, eight and so on that follow each other, by the first of them: the highest.
    highest: Vec<Vec<Weight>>,
}

impl OfWriter {
    fn push(&mut self, sequence: u32, weight: Weight) {
        self.claims.push((sequence, weight));
        for level in 0.. {
            let Some(first) = self.claims.len().checked_sub(2 << level) else {
                return;
            };
            let highest = self
                .of_run(level, first)
                .max(self.of_run(level, first + (1 << level)));
            if self.highest.len() == level {
                self.highest.push(Vec::new());
            }
            self.highest[level].push(highest);
        }
    }

    /// The highest of so many as two to the `level`.
    fn of_run(&self, level: usize, first: usize) -> Weight {
        level
            .checked_sub(1)
            .map_or_else(|| self.claims[first].1, |level| self.highest[level][first])
    }

    fn of_range(&self, from: usize, end: usize) -> Weight {
        let Some(level) = end.saturating_sub(from).checked_ilog2() else {
            return Weight::ZERO;
        };
        let level = level as usize;
        self.of_run(level, from)
            .max(self.of_run(level, end - (1 << level)))
    }

    fn truncate(&mut self, length: usize) {
        self.claims.truncate(length);
        for (level, highest) in self.highest.iter_mut().enumerate() {
            highest.truncate((length + 1).saturating_sub(2 << level));
        }
    }

    /// How many of them are of batches before this one.
    fn before(&self, sequence: u32) -> usize {
        self.claims.partition_point(|(at, _)| *at < sequence)
    }

    fn up_to(&self, batch: &Batch) -> &[(u32, Weight)] {
        &self.claims[..self.before(batch.sequence.saturating_add(1))]
    }
}

impl WeightClaims {
    pub(super) fn add(&mut self, dag: &Dag, rules: &Rules, id: BatchId) {
        let batch = dag.batch(id);
        self.of.resize_with(dag.writers(), OfWriter::default);
        let of = &mut self.of[batch.writer_id.index()];
        if of
            .claims
            .last()
            .is_some_and(|(sequence, _)| *sequence >= batch.sequence)
        {
            return;
        }
        let genesis = batch.writer == rules.bootstrap && batch.first == Length(1);
        let claimed = batch
            .claim
            .filter(|claim| claim.valid && claim.backer.key != batch.writer)
            .map(|claim| claim.weight);
        // The creator's first batch lifts its later ones as a claim would.
        if let Some(weight) = claimed.max(genesis.then_some(GENESIS_WEIGHT)) {
            of.push(batch.sequence, weight);
        }
    }

    /// Forgets those of the writer from batch `stays` on.
    pub(super) fn truncate(&mut self, writer: WriterId, stays: usize) {
        if let Some(claims) = self.of.get_mut(writer.index()) {
            let stays = u32::try_from(stays).unwrap_or(u32::MAX);
            claims.truncate(claims.before(stays));
        }
    }

    /// The highest of the writer from batch `from` up to this one.
    pub(super) fn highest(&self, batch: &Batch, from: u32) -> Weight {
        let Some(of) = self.of.get(batch.writer_id.index()) else {
            return Weight::ZERO;
        };
        of.of_range(of.before(from), of.up_to(batch).len())
    }

    /// Position of the only batch of the writer that claims, from batch `from` up to this one.
    pub(super) fn only(&self, batch: &Batch, from: u32) -> Option<u32> {
        let mut claims = self
            .up_to(batch)
            .iter()
            .rev()
            .take_while(|(sequence, _)| *sequence >= from);
        let (sequence, _) = claims.next()?;
        claims.next().is_none().then_some(*sequence)
    }

    /// Position of the last batch of the writer, up to this one, that claims.
    pub(super) fn last(&self, batch: &Batch) -> Option<u32> {
        self.up_to(batch).last().map(|(sequence, _)| *sequence)
    }

    fn up_to(&self, batch: &Batch) -> &[(u32, Weight)] {
        let of = self.of.get(batch.writer_id.index());
        of.map_or(&[], |of| of.up_to(batch))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_highest_of_a_range_is_what_a_scan_finds(
            runs in prop::collection::vec((prop::collection::vec(0..50_u64, 0..40), 0..60_usize), 1..4),
            ranges in prop::collection::vec((0..90_usize, 0..90_usize), 30),
        ) {
            let mut of = OfWriter::default();
            let mut plain: Vec<u64> = Vec::new();
            for (weights, kept) in runs {
                of.truncate(kept.min(plain.len()));
                plain.truncate(kept);
                for weight in weights {
                    of.push(plain.len() as u32, Weight(weight));
                    plain.push(weight);
                }
                for (from, end) in &ranges {
                    let (from, end) = ((*from).min(plain.len()), (*end).min(plain.len()));
                    let expected = plain.get(from..end).into_iter().flatten().max();
                    prop_assert_eq!(of.of_range(from, end).0, expected.copied().unwrap_or_default());
                }
            }
        }
    }
}
