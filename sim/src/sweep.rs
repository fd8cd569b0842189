//! Many runs on several threads.
//!
//! A run is a function of scenario and seed, so threads only decide when a report is ready, not what it says.

use std::any::Any;
use std::ops::{ControlFlow, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::run::{Report, SimError, run};
use crate::scenario::Scenario;
use crate::trace::TraceSink;

/// What one seed came to.
pub type SeedResult = Result<Report, SimError>;

/// Runs all seeds of a range on `threads` threads, and tells `done` of each as it is ready. Results come back in the
/// order of their seeds, without the views themselves: of many runs they would fill the memory.
pub fn sweep(
    scenario: &Scenario,
    seeds: Range<u64>,
    threads: usize,
    done: impl Fn(&SeedResult) + Sync,
) -> Vec<(u64, SeedResult)> {
    let seeds: Vec<u64> = seeds.collect();
    let job = |position: usize| {
        let result = run(scenario, seeds[position], TraceSink::Discard);
        done(&result);
        ControlFlow::Continue(result.map(Report::without_views))
    };
    let results = in_parallel(seeds.len(), threads, job);
    let results = results.into_iter();
    results
        .map(|(position, result)| (seeds[position], result))
        .collect()
}

/// Does jobs on `threads` threads, in the order of their numbers as far as threads are free. After one that breaks none is
/// begun. Results come back in the order of their jobs, with their numbers.
pub fn in_parallel<T: Send>(
    jobs: usize,
    threads: usize,
    job: impl Fn(usize) -> ControlFlow<T, T> + Sync,
) -> Vec<(usize, T)> {
    let next = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= jobs {
                        return;
                    }
                    let result = match job(number) {
                        ControlFlow::Continue(result) => result,
                        ControlFlow::Break(result) => {
                            is_over.store(true, Ordering::Relaxed);
                            result
                        }
                    };
                    if let Ok(mut results) = results.lock() {
                        results.push((number, result));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|(number, _)| *number);
    results
}

/// As [`run`], but a run that panics is one that could not be carried out: the others go on. The report is without the views
/// themselves.
///
/// # Errors
///
/// As [`run`], and when the run panicked.
pub fn run_caught(scenario: &Scenario, seed: u64, trace: TraceSink) -> SeedResult {
    // Everything that a run touches is its own, and dropped with it.
    let result = catch_unwind(AssertUnwindSafe(|| run(scenario, seed, trace)));
    let result = result.map(|result| result.map(Report::without_views));
    result.unwrap_or_else(|panic| {
        Err(SimError::Call {
            what: "panicked".into(),
            why: panic_message(&*panic),
        })
    })
}

/// The name of what failed: that of the first invariant which does not hold, or of what kept the run from being carried
/// out. None for a good run.
#[must_use]
pub fn failure(result: &SeedResult) -> Option<String> {
    match result {
        Ok(report) if report.converged => None,
        Ok(report) => Some(
            report
                .violations
                .first()
                .map_or_else(|| "convergence".to_owned(), |first| first.invariant.to_owned()),
        ),
        Err(SimError::Call { what, .. }) => Some(what.clone()),
        Err(SimError::World(_)) => Some("the world ended the run".into()),
        Err(_) => Some("the run could not be carried out".into()),
    }
}

/// True when this failed, and by what has this name among other things: see [`failure`].
#[must_use]
pub fn fails_by(result: &SeedResult, name: &str) -> bool {
    match result {
        Ok(report) => report
            .violations
            .iter()
            .any(|violation| violation.invariant == name),
        Err(_) => failure(result).as_deref() == Some(name),
    }
}

/// What a panic says.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_none_begins_after_a_break() {
        let squares = in_parallel(20, 4, |number| ControlFlow::Continue(number * number));
        assert_eq!(squares.len(), 20);
        assert!(squares.iter().all(|(number, square)| number * number == *square));
        let some = in_parallel(20, 1, |number| {
            if number == 3 {
                ControlFlow::Break(number)
            } else {
                ControlFlow::Continue(number)
            }
        });
        assert_eq!(some.len(), 4);
    }

    #[test]
    fn failures_have_names() {
        let failed = Err(SimError::Call {
            what: "panicked".into(),
            why: "overflow".into(),
        });
        assert_eq!(failure(&failed).as_deref(), Some("panicked"));
        assert!(fails_by(&failed, "panicked") && !fails_by(&failed, "convergence"));
    }
}
