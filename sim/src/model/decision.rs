//! Which part of the rule puts one batch before another: what somebody asks who sees two orders.

use std::cmp::Reverse;

use autobee::wire::{Timestamp, Weight};

use super::{At, ModelBatch, ModelRules, ModelRun, Priority};

/// Why one batch stands before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The later one names the earlier, by links, as its backer or as the batch before, directly or not.
    Causal,
    /// The picked one is heavier.
    Weight {
        /// Of the batch that was picked.
        picked: Weight,
        /// Of the one that lost.
        lost: Weight,
    },
    /// The weights are equal, and the picked one is older.
    Timestamp {
        /// The weight of both.
        weight: Weight,
        /// Of the batch that was picked.
        picked: Timestamp,
        /// Of the one that lost.
        lost: Timestamp,
    },
    /// Weights and timestamps are equal, and the key of the picked one's writer is lower.
    Key {
        /// The weight of both.
        weight: Weight,
    },
    /// Both are of one writer.
    Length,
    /// Nobody admits the later one at this place of the order: it is no candidate there.
    NotAdmitted,
    /// The later one takes no part: something that it names is not here.
    Waits,
}

/// What the rule says of two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The one that comes first.
    pub first: usize,
    /// The other one.
    pub second: usize,
    /// The batch that was picked: the first itself, or one that pulled it forward as something that it names.
    pub picked: usize,
    /// Why.
    pub rule: Rule,
}

/// What puts one of two batches of a set before the other; none when neither takes part, or neither is ever admitted.
#[must_use]
pub fn decision(rules: &ModelRules<'_>, batches: &[ModelBatch], a: usize, b: usize) -> Option<Decision> {
    let mut run = ModelRun::new(rules, batches);
    let waits = |first, second| Decision {
        first,
        second,
        picked: first,
        rule: Rule::Waits,
    };
    match (run.ready.contains(&a), run.ready.contains(&b)) {
        (true, true) => run.decide(a, b),
        (true, false) => Some(waits(a, b)),
        (false, true) => Some(waits(b, a)),
        (false, false) => None,
    }
}

impl ModelRun<'_> {
    fn decide(&mut self, a: usize, b: usize) -> Option<Decision> {
        let (mut at, mut set, mut pulled) = (0, self.ready.clone(), false);
        loop {
            let picked = self.pick(at, &set, pulled)?;
            let before = self.pull(at, picked);
            let behind = self.settle(before, picked);
            let settled = &self.places[behind].settled;
            match (settled.contains(&a), settled.contains(&b)) {
                (false, false) => at = behind,
                (true, true) if picked == a || picked == b => {
                    let (first, second) = if picked == a { (b, a) } else { (a, b) };
                    return Some(Decision {
                        first,
                        second,
                        picked,
                        rule: Rule::Causal,
                    });
                }
                (true, true) => {
                    // Both are pulled forward by the same batch: the same question among what that names.
                    let here = &self.places[at].settled;
                    let named = self.ancestors[picked].iter().copied();
                    set = named.filter(|batch| !here.contains(batch)).collect();
                    pulled = true;
                }
                (is_first, _) => {
                    let (first, second) = if is_first { (a, b) } else { (b, a) };
                    let rule = self.rule(at, picked, second, pulled);
                    let is_named = self.ancestors[second].contains(&first);
                    return Some(Decision {
                        first,
                        second,
                        picked,
                        rule: if is_named { Rule::Causal } else { rule },
                    });
                }
            }
        }
    }

    /// The priority of a batch at a place, and whether it is admitted there.
    fn tried(&mut self, at: At, v: usize) -> (Priority, bool) {
        let trial = self.pull(at, v);
        let weight = self.resolve(trial, v);
        (self.priority(v, weight), self.is_admitted(trial, v))
    }

    /// Why a batch was picked at a place, and not another one.
    fn rule(&mut self, at: At, picked: usize, other: usize, pulled: bool) -> Rule {
        let (won, _) = self.tried(at, picked);
        let (lost, is_admitted) = self.tried(at, other);
        if !is_admitted && !pulled {
            return Rule::NotAdmitted;
        }
        let (Priority(Reverse(weight), timestamp, key, _), Priority(Reverse(light), young, other_key, _)) =
            (won, lost);
        if weight != light {
            Rule::Weight {
                picked: weight,
                lost: light,
            }
        } else if timestamp != young {
            Rule::Timestamp {
                weight,
                picked: timestamp,
                lost: young,
            }
        } else if key != other_key {
            Rule::Key { weight }
        } else {
            Rule::Length
        }
    }
}

#[cfg(test)]
mod tests {
    use autobee::Rules;
    use autobee::crypto::CoreKey;
    use autobee::wire::{Length, Link};

    use super::*;
    use crate::model::ModelBlock;
    use crate::workload::Op;

    fn key(of: u8) -> CoreKey {
        CoreKey::new([of; 32])
    }

    fn batch(writer: u8, first: u64, at: u64, op: &Op, links: &[(u8, u64)]) -> ModelBatch {
        let links = links.iter().map(|(of, length)| Link {
            key: key(*of),
            length: Length(*length),
        });
        ModelBatch {
            writer: key(writer),
            first: Length(first),
            nodes: vec![ModelBlock {
                timestamp: Timestamp(at),
                links: links.collect(),
                optimistic: false,
                value: op.to_value(),
            }],
            claim: None,
        }
    }

    #[test]
    fn each_part_of_the_rule_is_named() {
        let put = Op::put("k", "v");
        let batches = vec![
            batch(1, 1, 10, &Op::add_writer(key(2), 2), &[]),
            batch(1, 2, 11, &Op::add_writer(key(3), 2), &[]),
            batch(2, 1, 20, &put, &[(1, 2)]),
            batch(3, 1, 15, &put, &[(1, 2)]),
            batch(3, 2, 20, &put, &[]),
            batch(2, 2, 30, &put, &[(9, 1)]),
            batch(1, 3, 40, &put, &[]),
        ];
        let anchor = |_, _| key(0);
        let rules = ModelRules {
            bootstrap: key(1),
            optimistic: false,
            set: Rules::interop(),
            anchor: &anchor,
        };
        let of = |a, b| decision(&rules, &batches, a, b).unwrap();
        assert_eq!((of(2, 0).first, of(2, 0).rule), (0, Rule::Causal));
        let older = of(2, 3);
        assert_eq!((older.first, older.picked), (3, 3));
        assert!(matches!(older.rule, Rule::Timestamp { .. }), "{older:?}");
        assert!(matches!(of(4, 2).rule, Rule::Key { .. }), "{:?}", of(4, 2));
        assert_eq!((of(5, 3).first, of(5, 3).rule), (3, Rule::Waits));
        // The creator is heavier.
        assert!(matches!(of(6, 2).rule, Rule::Weight { .. }), "{:?}", of(6, 2));
        assert_eq!(of(6, 2).first, 6);
        assert_eq!(decision(&rules, &batches, 5, 5), None);
    }
}
