//! Times: earlier and rounder.

use std::collections::BTreeSet;

use super::Search;
use crate::scenario::Scenario;

impl<F: FnMut(&Scenario) -> bool, B: FnMut(u64) -> bool> Search<F, B> {
    /// Everything at once is tried first: no time at all, a fraction of it, times cut to seconds.
    pub(super) fn times(&mut self) {
        for (part, of) in [(0, 1), (1, 8), (1, 4), (1, 2)] {
            let candidate = with_times(&self.best, |at_ms| at_ms * part / of);
            if self.attempt(candidate) {
                break;
            }
        }
        for unit in [1_000, 100, 10] {
            let candidate = with_times(&self.best, |at_ms| at_ms / unit * unit);
            if self.attempt(candidate) {
                break;
            }
        }
        let times = |scenario: &Scenario| -> BTreeSet<u64> {
            let events = scenario.event.iter().map(|event| event.at_ms);
            let hostile = scenario
                .hostile
                .iter()
                .flat_map(|hostile| [hostile.from_ms, hostile.to_ms]);
            events
                .chain(scenario.append.iter().map(|append| append.at_ms))
                .chain(hostile)
                .collect()
        };
        for time in times(&self.best).into_iter().rev() {
            for unit in [1_000, 100, 10] {
                let rounded = time / unit * unit;
                let round = |at_ms| if at_ms == time { rounded } else { at_ms };
                let candidate = with_times(&self.best, round);
                if rounded == time || self.attempt(candidate) {
                    break;
                }
            }
        }
    }
}

fn with_times(scenario: &Scenario, time: impl Fn(u64) -> u64) -> Scenario {
    let mut scenario = scenario.clone();
    for append in &mut scenario.append {
        append.at_ms = time(append.at_ms);
    }
    for event in &mut scenario.event {
        event.at_ms = time(event.at_ms);
    }
    for hostile in &mut scenario.hostile {
        hostile.from_ms = time(hostile.from_ms);
        hostile.to_ms = time(hostile.to_ms);
    }
    // Events are written in the order of their times, and those of one time keep theirs.
    scenario.event.sort_by_key(|event| event.at_ms);
    scenario.append.sort_by_key(|append| append.at_ms);
    scenario
}
