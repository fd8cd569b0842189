//! Shrinking: from a scenario that fails to a small one that fails in the same way.
//!
//! Delta debugging over the plan. A candidate lacks a part of the best scenario so far, or has something in a simpler
//! form; it takes its place when it fails by the same thing. Parts are tried from halves down to single ones. It ends
//! when no single step is left that makes the scenario simpler and keeps the failure (a local minimum), or when the
//! budget is spent. Every step makes the scenario smaller, so it always ends, and the same input gives the same output.

mod defaults;
mod replicas;
mod times;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::Range;

use autobee::crypto::{Hash, hash};

use crate::scenario::{CryptoChoice, Scenario};

/// What shrinking came to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Shrunk {
    /// The smallest scenario that was found, with its appends written out.
    pub scenario: Scenario,
    /// How many candidates were run.
    pub runs: u64,
    /// Nothing single can be taken away or made simpler any more; otherwise the budget ended first.
    pub is_minimal: bool,
}

/// Shrinks a scenario that fails with this seed.
///
/// `same_failure` says of a candidate whether it fails, with the same seed, in the same way. `budget` is told how many
/// candidates were run, and says whether one more may be: so bounds of number and of time are the caller's. A scenario
/// that does not fail comes back as it is, written out.
pub fn shrink(
    scenario: &Scenario,
    seed: u64,
    same_failure: impl FnMut(&Scenario) -> bool,
    budget: impl FnMut(u64) -> bool,
) -> Shrunk {
    let mut search = Search {
        best: scenario.explicit(seed),
        same_failure,
        budget,
        runs: 0,
        is_spent: false,
        tried: BTreeSet::new(),
    };
    let first = search.best.clone();
    if search.fails(&first) {
        search.run();
    }
    Shrunk {
        is_minimal: !search.is_spent,
        runs: search.runs,
        scenario: search.best,
    }
}

struct Search<F, B> {
    best: Scenario,
    same_failure: F,
    budget: B,
    runs: u64,
    is_spent: bool,
    /// Candidates that were run, by the hash of their text: each is run once.
    tried: BTreeSet<Hash>,
}

impl<F: FnMut(&Scenario) -> bool, B: FnMut(u64) -> bool> Search<F, B> {
    fn run(&mut self) {
        // Ten times the speed for all candidates that follow.
        let mut faster = self.best.clone();
        faster.crypto = CryptoChoice::StandIn;
        self.attempt(faster);
        loop {
            let before = self.best.clone();
            self.defaults_in_bulk();
            self.replicas();
            self.appends();
            self.events();
            self.ops();
            self.times();
            self.defaults_one_by_one();
            self.values();
            if self.is_spent || self.best == before {
                return;
            }
        }
    }

    /// Takes a candidate if it fails in the same way.
    fn attempt(&mut self, candidate: Scenario) -> bool {
        let is_possible = !self.is_spent && candidate != self.best && candidate.check().is_ok();
        let is_taken = is_possible && self.fails(&candidate);
        if is_taken {
            self.best = candidate;
        }
        is_taken
    }

    fn fails(&mut self, candidate: &Scenario) -> bool {
        let text = hash(&[candidate.to_toml().as_bytes()]);
        if self.is_spent || self.tried.contains(&text) {
            return false;
        }
        if !(self.budget)(self.runs) {
            self.is_spent = true;
            return false;
        }
        self.tried.insert(text);
        self.runs += 1;
        (self.same_failure)(candidate)
    }

    /// Takes away as many of some parts as can be: all of them, halves, quarters, single ones, until no single one can.
    /// The last ones go first, because earlier ones are what later ones follow from.
    fn minimize(
        &mut self,
        count: impl Fn(&Scenario) -> usize,
        without: impl Fn(&Scenario, Range<usize>) -> Scenario,
    ) {
        let mut chunk = count(&self.best);
        while chunk > 0 && !self.is_spent {
            let mut is_smaller = false;
            let mut end = count(&self.best);
            while end > 0 {
                let start = end.saturating_sub(chunk);
                let candidate = without(&self.best, start..end);
                is_smaller |= self.attempt(candidate);
                end = start.min(count(&self.best));
            }
            if chunk > 1 || !is_smaller {
                chunk /= 2;
            }
        }
    }

    fn appends(&mut self) {
        // In the order of their times, so that neighbours go together.
        let mut sorted = self.best.clone();
        sorted.append.sort_by_key(|append| append.at_ms);
        self.attempt(sorted);
        self.minimize(
            |scenario| scenario.append.len(),
            |scenario, range| {
                let mut scenario = scenario.clone();
                scenario.append.drain(range);
                scenario
            },
        );
    }

    fn events(&mut self) {
        self.minimize(
            |scenario| scenario.hostile.len(),
            |scenario, range| {
                let mut scenario = scenario.clone();
                scenario.hostile.drain(range);
                scenario
            },
        );
        self.minimize(
            |scenario| scenario.reader.len(),
            |scenario, range| {
                let mut scenario = scenario.clone();
                scenario.reader.drain(range);
                scenario
            },
        );
        self.minimize(
            |scenario| scenario.core.len(),
            |scenario, range| {
                let mut scenario = scenario.clone();
                scenario.core.drain(range);
                scenario
            },
        );
        self.minimize(
            |scenario| scenario.event.len(),
            |scenario, range| {
                let mut scenario = scenario.clone();
                scenario.event.drain(range);
                scenario
            },
        );
    }

    /// Takes away values of appends; each keeps one at least.
    fn ops(&mut self) {
        self.minimize(Scenario::operations, |scenario, range| {
            let mut scenario = scenario.clone();
            let mut number = 0;
            for append in &mut scenario.append {
                let mut kept = Vec::new();
                let last = append.ops.len().saturating_sub(1);
                for (position, op) in std::mem::take(&mut append.ops).into_iter().enumerate() {
                    let is_needed = position == last && kept.is_empty();
                    if is_needed || !range.contains(&number) {
                        kept.push(op);
                    }
                    number += 1;
                }
                append.ops = kept;
            }
            scenario
        });
    }
}

impl Scenario {
    /// How many events there are, and hostile peers.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.event.len() + self.hostile.len()
    }

    /// How many values are appended in all, at most.
    #[must_use]
    pub fn operations(&self) -> usize {
        let single: usize = self.append.iter().map(|append| append.ops.len()).sum();
        let drawn = self.workload.iter().map(|workload| {
            workload.replicas.len() * workload.appends as usize * workload.batch_max.max(1) as usize
        });
        single + drawn.sum::<usize>()
    }
}
