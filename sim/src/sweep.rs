//! Many seeds of one scenario, on several threads.
//!
//! A run is a function of scenario and seed, so threads only decide when a report is ready, not what it says.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::run::{Report, SimError, run};
use crate::scenario::Scenario;
use crate::trace::TraceSink;

/// What one seed came to.
pub type SeedResult = Result<Report, SimError>;

/// Runs all seeds of a range on `threads` threads, and tells `done` of each as it is ready. Results come back in the
/// order of their seeds.
pub fn sweep(
    scenario: &Scenario,
    seeds: Range<u64>,
    threads: usize,
    done: impl Fn(&SeedResult) + Sync,
) -> Vec<(u64, SeedResult)> {
    let next = AtomicU64::new(seeds.start);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let result = run(scenario, seed, TraceSink::Discard);
                    done(&result);
                    if let Ok(mut results) = results.lock() {
                        results.push((seed, result));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|(seed, _)| *seed);
    results
}
