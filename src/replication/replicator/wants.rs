//! What a peer wants to be told about.
//!
//! Source: spec/replication.md 6.7.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::replication::message::{WANT_MAX, Want};

const ANY_MAX: usize = 16;
const ALIGNED_MAX: usize = 512;
const LENGTHS_MAX: usize = 4;

/// The wants of one peer. Past the bounds it counts as wanting everything.
#[derive(Debug, Clone, Default)]
pub(super) struct Wants {
    any: Vec<Want>,
    aligned: BTreeSet<(u64, u64)>,
    everything: bool,
}

impl Wants {
    pub(super) fn insert(&mut self, want: Want) {
        if want.any {
            if self.any.len() < ANY_MAX {
                self.any.push(want);
            } else {
                self.everything = true;
            }
            return;
        }
        let aligned = want.length.is_power_of_two()
            && (32..=WANT_MAX).contains(&want.length)
            && want.start.is_multiple_of(want.length);
        let known_length = self
            .aligned
            .range((want.length, 0)..=(want.length, u64::MAX))
            .next();
        let lengths = self.lengths().len() + usize::from(known_length.is_none());
        if aligned && self.aligned.len() < ALIGNED_MAX && lengths <= LENGTHS_MAX {
            self.aligned.insert((want.length, want.start));
        } else {
            self.everything = true;
        }
    }

    pub(super) fn remove(&mut self, want: Want) {
        if want.any {
            self.any.retain(|kept| *kept != want);
        } else {
            self.aligned.remove(&(want.length, want.start));
        }
    }

    /// True when the peer wants to hear of some block of the range.
    pub(super) fn touches(&self, range: Range<u64>) -> bool {
        let overlaps =
            |start: u64, length: u64| start < range.end && start.saturating_add(length) > range.start;
        self.everything
            || self.any.iter().any(|want| overlaps(want.start, want.length))
            || self.lengths().into_iter().any(|length| {
                let first = range.start - range.start % length;
                let mut found = self
                    .aligned
                    .range((length, first)..(length, range.end.max(first)));
                found.next().is_some()
            })
    }

    fn lengths(&self) -> Vec<u64> {
        let mut lengths = Vec::new();
        let mut from = 0;
        while let Some((length, _)) = self.aligned.range((from, 0)..).next() {
            lengths.push(*length);
            from = *length + 1;
        }
        lengths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aligned_want_is_found_and_forgotten() {
        let mut wants = Wants::default();
        let want = Want {
            start: 64,
            length: 64,
            any: false,
        };
        wants.insert(want);
        wants.insert(Want {
            start: 0,
            length: 32,
            any: false,
        });
        assert!(wants.touches(100..101) && wants.touches(0..1) && wants.touches(20..200));
        assert!(!wants.touches(32..64) && !wants.touches(128..200));
        wants.remove(want);
        assert!(!wants.touches(100..101));
    }

    #[test]
    fn odd_wants_and_too_many_count_as_everything() {
        let mut wants = Wants::default();
        wants.insert(Want {
            start: 5,
            length: 7,
            any: false,
        });
        assert!(wants.touches(1_000_000..1_000_001));
        let mut wants = Wants::default();
        for power in 5..10 {
            wants.insert(Want {
                start: 0,
                length: 1 << power,
                any: false,
            });
        }
        assert!(wants.touches(1_000_000..1_000_001));
        let mut wants = Wants::default();
        for start in 0..17 {
            wants.insert(Want {
                start,
                length: 1,
                any: true,
            });
        }
        assert!(wants.touches(1_000_000..1_000_001));
    }
}
