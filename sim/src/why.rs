//! When a failure became inevitable: futures that are drawn anew from moments of the run.
//!
//! Up to a moment the run is what it was; behind it every draw of chance (who runs next, how long bytes and disks take, what
//! tears, what is forced) comes from another seed, while the plan of the scenario stays. Where all of several futures
//! fail in the same way, the failure was inevitable; the first such moment is found by halving.

use std::ops::ControlFlow;
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

use crate::events::{Topic, TraceLine};
use crate::explain::Observed;
use crate::kit::{Panicked, quietly};
use crate::run::{Hooks, SimError, run_hooked};
use crate::scenario::Scenario;
use crate::seed::Seeds;
use crate::sweep::{fails_by, failure, in_parallel};
use crate::trace::TraceSink;
use crate::world::Reseed;

/// Moments at which the futures are counted before the search, besides the first.
const GRID: usize = 8;

/// How much may be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WhyLimits {
    /// The most runs.
    pub runs: u64,
    /// Futures from each moment.
    pub futures: u64,
    /// Runs at the same time. What is found does not depend on it.
    pub threads: usize,
}

/// There is nothing to search.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WhyError {
    /// The run is good.
    #[error("the run does not fail: there is no moment to be found")]
    Passes,
    /// It ended before anything happened.
    #[error("the run ended before anything happened: {0}")]
    Nothing(String),
}

/// When a failure became inevitable.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Why {
    /// The name of what fails.
    pub failure: String,
    /// When it was found, in milliseconds of virtual time.
    pub found_ms: u64,
    /// Futures from each moment.
    pub futures: u64,
    /// How many runs were made.
    pub runs: u64,
    /// How many futures failed from moments of the run, in the order of the moments.
    pub samples: Vec<FutureSample>,
    /// The last moment from which some future was good; none when none was.
    pub avoidable_ns: Option<u64>,
    /// The first from which all failed.
    pub inevitable_ns: u64,
    /// What happened from the one to the other, a line each.
    pub events: Vec<String>,
    /// Nothing is left to be halved; otherwise the runs were used up first.
    pub is_exact: bool,
}

/// Futures from one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FutureSample {
    /// The moment, in nanoseconds of virtual time.
    pub at_ns: u64,
    /// How many failed in the same way.
    pub failed: u64,
    /// Of how many: a search ends at the first that is good.
    pub of: u64,
}

/// Searches the moment. `progress` is told of each sample.
///
/// # Errors
///
/// When the run is good.
pub fn why(
    scenario: &Scenario,
    seed: u64,
    limits: WhyLimits,
    progress: impl Fn(&FutureSample),
) -> Result<Why, WhyError> {
    // The plan must not be drawn from another seed.
    let plan = scenario.explicit(seed);
    let observed = Observed::run(&plan, seed);
    let name = failure(observed.result()).ok_or(WhyError::Passes)?;
    let lines: Vec<&TraceLine> = observed
        .lines()
        .iter()
        .filter(|line| line.topic() != Topic::Scheduler)
        .collect();
    let mut moments: Vec<u64> = lines.iter().map(|line| line.at).collect();
    moments.dedup();
    let Some(last) = moments.last().copied() else {
        return Err(WhyError::Nothing(name));
    };
    let mut search = FutureSearch {
        plan: &plan,
        seed,
        name: &name,
        limits,
        runs: 1,
        samples: Vec::new(),
    };
    // From the end on nothing is left to chance.
    let (mut low, mut high) = (None, moments.len());
    let mut is_exact = true;
    for step in 0..=GRID {
        let at = (moments.len() - 1) * step / GRID;
        let Some(is_inevitable) = search.ask(moments[at], true, &progress) else {
            is_exact = false;
            break;
        };
        if !is_inevitable {
            low = Some(at);
        } else if low.is_none_or(|low| at > low) {
            high = at;
            break;
        }
    }
    while high - low.map_or(0, |low| low + 1) > 0 && is_exact {
        let from = low.map_or(0, |low| low + 1);
        let middle = from.midpoint(high);
        if middle == high {
            break;
        }
        match search.ask(moments[middle], false, &progress) {
            None => is_exact = false,
            Some(true) => high = middle,
            Some(false) => low = Some(middle),
        }
    }
    let inevitable = moments.get(high).copied().unwrap_or(last.saturating_add(1));
    let avoidable = low.map(|low| moments[low]);
    let between = lines
        .iter()
        .filter(|line| avoidable.is_none_or(|from| line.at >= from) && line.at < inevitable);
    let mut events: Vec<String> = between.map(|line| crate::events::columns(line)).collect();
    if avoidable.is_none() {
        events.clear();
    }
    search.samples.sort_by_key(|sample| sample.at_ns);
    Ok(Why {
        found_ms: last / 1_000_000,
        futures: limits.futures,
        runs: search.runs,
        samples: search.samples,
        avoidable_ns: avoidable,
        inevitable_ns: inevitable,
        events,
        is_exact,
        failure: name.clone(),
    })
}

struct FutureSearch<'a> {
    plan: &'a Scenario,
    seed: u64,
    name: &'a str,
    limits: WhyLimits,
    runs: u64,
    samples: Vec<FutureSample>,
}

impl FutureSearch<'_> {
    /// Whether all futures from a moment fail; none when the runs are used up. All are counted, or only up to the first
    /// good one.
    fn ask(&mut self, at: u64, count: bool, progress: &impl Fn(&FutureSample)) -> Option<bool> {
        let left = self.limits.runs.saturating_sub(self.runs);
        if left < self.limits.futures {
            return None;
        }
        let threads = self.limits.threads.max(1);
        let (mut failed, mut of) = (0, 0);
        // In portions of one size, so that what is run does not depend on threads.
        const PORTION: u64 = 4;
        while of < self.limits.futures {
            let size = PORTION.min(self.limits.futures - of);
            let from = of;
            let portion = usize::try_from(size).unwrap_or(1);
            let results = in_parallel(portion, threads, |number| {
                ControlFlow::Continue(self.fails(at, from + number as u64))
            });
            failed += results.iter().filter(|(_, fails)| *fails).count() as u64;
            of += size;
            if !count && failed < of {
                break;
            }
        }
        self.runs += of;
        let sample = FutureSample {
            at_ns: at,
            failed,
            of,
        };
        progress(&sample);
        self.samples.push(sample);
        Some(failed == of)
    }

    /// Whether a future from a moment fails in the same way.
    fn fails(&self, at: u64, number: u64) -> bool {
        let mut stream = Seeds::new(self.seed).stream("future", &[&number.to_string()]);
        let hooks = Hooks {
            recorder: None,
            reseed: Some(Reseed {
                at: Duration::from_nanos(at),
                seed: stream.next_u64(),
            }),
        };
        let ran = quietly(|| run_hooked(self.plan, self.seed, TraceSink::Discard, hooks));
        let result = ran.unwrap_or_else(|Panicked(why)| {
            Err(SimError::Call {
                what: "panicked".into(),
                why,
            })
        });
        fails_by(&result, self.name)
    }
}
