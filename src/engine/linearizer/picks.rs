//! Picks of the top level, and the search for the first one that a new batch beats.

use std::cmp::Reverse;
use std::ops::Range;

use crate::crypto::CoreKey;
use crate::engine::dag::Batch;
use crate::env::{Planted, Slip};
use crate::wire::{Length, Timestamp, Weight};

/// What batches are compared by. The better one is the smaller one.
///
/// Source: spec/autobee.md 8.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Priority {
    pub(super) weight: Reverse<Weight>,
    pub(super) timestamp: Timestamp,
    pub(super) key: CoreKey,
    pub(super) length: Length,
}

impl Priority {
    /// Of a batch that counts as written at `timestamp`.
    pub(super) const fn new(batch: &Batch, timestamp: Timestamp, weight: Weight) -> Self {
        Self {
            weight: Reverse(weight),
            timestamp,
            key: batch.writer,
            length: batch.first,
        }
    }

    /// Behind all of the same weight and time: only as a slip.
    pub(super) const fn behind_ties(self) -> Self {
        Self {
            key: CoreKey::new([0xff; 32]),
            length: Length(u64::MAX),
            ..self
        }
    }
}

/// Picks with the priority that each won with, and where it ends in the timeline.
#[derive(Debug, Clone, Default)]
pub(super) struct Picks {
    ends: Vec<usize>,
    /// The first level has the priorities, each further one the worst of every [`FAN`] of the level below.
    levels: Vec<Vec<Priority>>,
    pub(super) planted: Planted,
}

const FAN: usize = 64;

impl Picks {
    pub(super) const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Where the last pick ends in the timeline.
    pub(super) fn end(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    pub(super) fn push(&mut self, priority: Priority, end: usize) {
        self.ends.push(end);
        let mut at = self.ends.len() - 1;
        let mut level = 0;
        loop {
            if self.levels.len() == level {
                // A new top has to know all that is below, not only the newcomer.
                let below = level.checked_sub(1).map_or(&[][..], |below| &self.levels[below]);
                let worst = below.chunks(FAN).filter_map(|items| items.iter().max().copied());
                self.levels.push(worst.collect());
            }
            let items = &mut self.levels[level];
            if let Some(item) = items.get_mut(at) {
                if !self.planted.has(Slip::WorstIsFirst) {
                    *item = (*item).max(priority);
                }
            } else {
                items.push(priority);
            }
            if at < FAN && self.levels.len() == level + 1 {
                break;
            }
            at /= FAN;
            level += 1;
        }
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.ends.truncate(length);
        let mut kept = length;
        for level in 0..self.levels.len() {
            self.levels[level].truncate(kept);
            if level > 0 && kept > 0 {
                let worst = self.levels[level - 1][(kept - 1) * FAN..].iter().max().copied();
                if let (Some(worst), Some(last)) = (worst, self.levels[level].last_mut()) {
                    *last = worst;
                }
            }
            kept = kept.div_ceil(FAN);
        }
    }

    /// Forgets the first `count` picks.
    pub(super) fn forget(&mut self, count: usize) {
        let gone = count.checked_sub(1).map_or(0, |last| self.ends[last]);
        let mut after = Self {
            planted: self.planted,
            ..Self::default()
        };
        for at in count..self.ends.len() {
            after.push(self.levels[0][at], self.ends[at] - gone);
        }
        *self = after;
    }

    /// How many picks end at this position of the timeline or before it.
    pub(super) fn ending_up_to(&self, position: usize) -> usize {
        self.ends.partition_point(|end| *end <= position)
    }

    /// The priority of each of the first `count` picks, and where it ends.
    pub(super) fn first(&self, count: usize) -> impl Iterator<Item = (Priority, usize)> {
        let priorities = self.levels.first().map_or(&[][..], Vec::as_slice);
        priorities
            .iter()
            .copied()
            .zip(self.ends.iter().copied())
            .take(count)
    }

    /// The first pick in `range` that loses to `priority`.
    pub(super) fn first_worse(&self, range: Range<usize>, priority: &Priority) -> Option<usize> {
        let mut at = range.start;
        let mut level = 0;
        while at << (level * FAN.ilog2() as usize) < range.end {
            let items = self.levels.get(level)?;
            let worst = items.get(at)?;
            if worst > priority {
                if level == 0 {
                    return Some(at);
                }
                level -= 1;
                at *= FAN;
            } else {
                at += 1;
                while at.is_multiple_of(FAN) && level + 1 < self.levels.len() {
                    at /= FAN;
                    level += 1;
                }
            }
        }
        None
    }

    /// How many picks start at this position of the timeline or before it.
    pub(super) fn starting_up_to(&self, position: usize) -> usize {
        // A pick starts where the one before ends.
        let later = self.ends.partition_point(|end| *end <= position);
        self.len().min(later + 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn priority(timestamp: u64) -> Priority {
        Priority {
            weight: Reverse(Weight(0)),
            timestamp: Timestamp(timestamp),
            key: CoreKey::new([0; 32]),
            length: Length(1),
        }
    }

    proptest! {
        #[test]
        fn the_search_finds_what_a_scan_finds(
            runs in prop::collection::vec((prop::collection::vec(0..1000_u64, 0..9000), any::<prop::sample::Index>()), 1..4),
            queries in prop::collection::vec((0..9500_usize, 0..9500_usize, 0..1000_u64), 20),
        ) {
            let mut picks = Picks::default();
            let mut plain: Vec<u64> = Vec::new();
            for (values, cut) in runs {
                let cut = cut.index(plain.len() + 1);
                plain.truncate(cut);
                picks.truncate(cut);
                for value in values {
                    plain.push(value);
                    picks.push(priority(value), plain.len());
                }
                for &(from, to, value) in &queries {
                    let to = to.min(plain.len());
                    let expected = (from..to).find(|at| plain[*at] > value);
                    prop_assert_eq!(picks.first_worse(from..to, &priority(value)), expected);
                }
            }
        }
    }
}
