//! All seeds of a check: drawn on the thread of the test, run on all cores; the first that fails is shrunk and told.

use std::ops::ControlFlow;
use std::time::Duration;

use super::Property;
use super::identity::CheckId;
use super::ops::Ops;
use super::outside::{self, ProgressLine, Stopwatch, say, variable};
use super::record::{CheckFailure, Counts};
use super::report::{FailureReport, tell};
use super::second::{self, SECOND_PLANS, Second};
use super::seed::Ran;
use super::tested::Tries;
use crate::scenario::Scenario;
use crate::shrink::shrink;
use crate::sweep::in_parallel;

/// How batches are tried.
const USUAL: Tries = Tries {
    fresh: 1,
    is_primed: false,
};

/// The same while a failure is looked at that chance may hide.
const SHRINKING: Tries = Tries { fresh: 4, ..USUAL };

/// The same in a second process.
const SECOND: Tries = Tries {
    is_primed: true,
    ..USUAL
};

/// How often a plan that failed is run again as it is.
const AGAIN: usize = 3;

/// Runs of the shrinker, and the time that they may take.
const SHRINK_RUNS: u64 = 600;
const SHRINK_TIME: Duration = Duration::from_secs(20);

/// Seeds that are run in search of two replicas that differ, when instances at one do.
const SPARE_SEEDS: u64 = 24;

/// Seeds that are drawn at once, for each thread.
const DRAWN: u64 = 4;

/// What of a check the environment decides.
struct CheckRange {
    first: u64,
    end: u64,
    time: Option<Duration>,
}

/// Says what replicas hold when a plan failed.
type TellStates<'a> = dyn Fn(&Scenario, u64, Tries) -> Vec<String> + Sync + 'a;

/// A check, whatever it runs.
pub(super) struct CheckJob<'a> {
    pub(super) id: &'a CheckId,
    /// The first, and the one after the last.
    pub(super) seeds: (u64, u64),
    /// Draws the plan of a seed, on the thread of the test.
    pub(super) draw: &'a dyn Fn(u64) -> Result<Scenario, String>,
    /// Runs a plan.
    pub(super) run: &'a (dyn Fn(&Scenario, u64, Tries) -> Ran + Sync),
    /// Says what replicas hold when a plan failed; a program has none.
    pub(super) explain: Option<&'a TellStates<'a>>,
    /// Where the operations come from; a program has none.
    pub(super) ops: Option<&'a dyn Ops>,
}

impl CheckJob<'_> {
    /// Runs a plan on a thread of its own, as the seeds run: that of the test may belong to a runtime, which counts what its
    /// tasks do, and keeps those of the simulation back.
    fn run_aside(&self, scenario: &Scenario, seed: u64, tries: Tries) -> Ran {
        let run = self.run;
        let mut ran = in_parallel(1, 1, |_| ControlFlow::Break(run(scenario, seed, tries)));
        ran.pop()
            .map_or_else(|| run(scenario, seed, tries), |(_, ran)| ran)
    }
}

/// Runs a check. The error is the text with which the test fails.
pub(super) fn run(job: &CheckJob<'_>) -> Result<(), String> {
    if second::answer(job.id, |scenario, seed| job.run_aside(scenario, seed, SECOND)) {
        return Ok(());
    }
    outside::say_if_slow();
    let range = range(job.seeds)?;
    let watch = Stopwatch::start();
    let (seeds, counts, kept) = match all(job, &range, watch)? {
        Ok(all) => all,
        Err(found) => return Err(fail(job, *found)),
    };
    if job.ops.is_none() {
        let time = watch.elapsed().as_secs_f64();
        say(&format!(
            "{}: {seeds} seeds in {time:.1} s, {} looks",
            job.id.label, counts.views
        ));
        return Ok(());
    }
    let empty = match counts.empty {
        0 => String::new(),
        empty => format!("; {empty} ops were empty, and a database hands apply no empty value"),
    };
    if counts.entries == 0 {
        return Err(format!(
            "apply was handed no entry in {seeds} seeds: nothing was tested{empty}"
        ));
    }
    if counts.refused == counts.entries {
        return Err(format!(
            "apply refused every one of the {} entries of {seeds} seeds: nothing was tested",
            counts.entries
        ));
    }
    let second = second::ask(job.id, &kept);
    if let Second::Differs(differs) = &second {
        let CoveredPlan { seed, scenario, .. } = &kept[differs.plan];
        let told = FailureReport {
            id: job.id,
            seed: *seed,
            drawn: scenario,
            scenario,
            failure: &differs.failure,
            states: Vec::new(),
            runs: 0,
            again: None,
        };
        return Err(tell(&told));
    }
    say(&format!(
        "{}: {seeds} seeds in {:.1} s: {} entries, {} of them refused somewhere; {} batches applied, {} compared between replicas, {} views looked at{empty}",
        job.id.label,
        watch.elapsed().as_secs_f64(),
        counts.entries,
        counts.refused,
        counts.batches,
        counts.compared,
        counts.views,
    ));
    if let Second::Missing(why) = &second {
        say(&format!("{}: no second process: {why}", job.id.label));
    }
    Ok(())
}

/// A plan that ran well.
pub(super) struct CoveredPlan {
    pub(super) seed: u64,
    pub(super) scenario: Scenario,
    pub(super) steps: Vec<String>,
    /// How long that took.
    pub(super) took: Duration,
}

/// A plan that failed.
struct FailedPlan {
    seed: u64,
    scenario: Scenario,
    failure: CheckFailure,
}

impl FailedPlan {
    /// Instances of the apply function differ, but no two replicas do.
    fn is_of_instances(&self) -> bool {
        self.failure.property == Property::Function && !self.failure.replicas_differ
    }
}

/// How many seeds ran, what they did, and the first of them.
type All = (u64, Counts, Vec<CoveredPlan>);

/// Runs seeds until one fails, they are over, or the time is.
fn all(
    job: &CheckJob<'_>,
    range: &CheckRange,
    watch: Stopwatch,
) -> Result<Result<All, Box<FailedPlan>>, String> {
    let threads = outside::threads();
    let mut progress = ProgressLine::new();
    let (mut counts, mut kept) = (Counts::default(), Vec::new());
    let mut next = range.first;
    // A failure that is one, but that a later seed may show better.
    let mut spare: Option<Box<FailedPlan>> = None;
    // The first ones run in whatever time.
    let is_time = |next: u64| next == range.first || range.time.is_none_or(|time| watch.elapsed() < time);
    while next < range.end && is_time(next) {
        if let Some(found) = spare.take_if(|found| next - found.seed > SPARE_SEEDS) {
            return Ok(Err(found));
        }
        let end = range.end.min(next.saturating_add(DRAWN * threads as u64));
        let plans: Vec<(u64, Scenario)> = (next..end)
            .map(|seed| Ok((seed, (job.draw)(seed)?)))
            .collect::<Result<_, String>>()?;
        let run = job.run;
        let one = |number: usize| {
            let (seed, scenario) = &plans[number];
            let watch = Stopwatch::start();
            let ran = run(scenario, *seed, USUAL);
            let is_over = ran.failure.is_some();
            let ran = (ran, watch.elapsed());
            if is_over {
                ControlFlow::Break(ran)
            } else {
                ControlFlow::Continue(ran)
            }
        };
        next = end;
        for (number, (ran, took)) in in_parallel(plans.len(), threads, one) {
            let (seed, scenario) = &plans[number];
            if let Some(failure) = ran.failure {
                let found = Box::new(FailedPlan {
                    seed: *seed,
                    scenario: scenario.clone(),
                    failure,
                });
                if !found.is_of_instances() {
                    let is_better = found.failure.property == Property::Function;
                    return Ok(Err(spare.filter(|_| !is_better).unwrap_or(found)));
                }
                spare.get_or_insert(found);
                next = seed + 1;
                break;
            }
            counts.add(ran.counts);
            counts.empty += empty_ops(scenario);
            if kept.len() < SECOND_PLANS {
                kept.push(CoveredPlan {
                    seed: *seed,
                    scenario: scenario.clone(),
                    steps: ran.steps,
                    took,
                });
            }
        }
        let done = next - range.first;
        let speed = done as f64 / watch.elapsed().as_secs_f64().max(0.001);
        let of = if range.end == u64::MAX {
            String::new()
        } else {
            format!(" of {}", range.end - range.first)
        };
        progress.say(&format!(
            "{}: {done}{of} seeds, {speed:.0} a second",
            job.id.label
        ));
    }
    Ok(match spare {
        Some(found) => Err(found),
        None => Ok((next - range.first, counts, kept)),
    })
}

/// Makes a failure small, and tells it.
fn fail(job: &CheckJob<'_>, found: FailedPlan) -> String {
    let FailedPlan {
        seed,
        scenario,
        failure,
    } = found;
    let label = &job.id.label;
    let mut progress = ProgressLine::new();
    let watch = Stopwatch::start();
    let mut best = failure;
    // Chance may hide a difference between two instances.
    let tries = if best.property == Property::Function {
        SHRINKING
    } else {
        USUAL
    };
    let mut failed_again = 0;
    for _ in 0..AGAIN {
        if let Some(failure) = job.run_aside(&scenario, seed, tries).failure
            && failure.property == best.property
        {
            best = failure;
            failed_again += 1;
        }
    }
    let mut small = scenario.clone();
    let mut runs = 0;
    // What chance decides cannot be made small.
    if failed_again > 0 {
        let mut fails = |candidate: &Scenario| {
            let mut ops = candidate.append.iter().flat_map(|append| &append.ops);
            if !ops.all(|op| op.app.is_some()) {
                return false;
            }
            runs += 1;
            progress.say(&format!("{label}: seed {seed} fails; shrinking, run {runs}"));
            let Some(failure) = job.run_aside(candidate, seed, tries).failure else {
                return false;
            };
            let is_same =
                failure.property == best.property && failure.replicas_differ >= best.replicas_differ;
            if is_same {
                best = failure;
            }
            is_same
        };
        let is_left = |runs: u64| runs < SHRINK_RUNS && watch.elapsed() < SHRINK_TIME;
        small = shrink(&scenario, seed, &mut fails, is_left).scenario;
        while let Some(fewer) = writers_fewer(&small, &mut fails) {
            small = shrink(&fewer, seed, &mut fails, is_left).scenario;
        }
        if let Some(ops) = job.ops {
            simplify(ops, seed, &mut small, &mut fails, || {
                watch.elapsed() < SHRINK_TIME
            });
        }
    }
    drop(progress);
    let told = FailureReport {
        id: job.id,
        seed,
        drawn: &scenario,
        scenario: &small,
        failure: &best,
        states: job
            .explain
            .filter(|_| failed_again > 0)
            .map(|explain| in_parallel(1, 1, |_| ControlFlow::Break(explain(&small, seed, tries))))
            .and_then(|mut states| states.pop())
            .map(|(_, states)| states)
            .unwrap_or_default(),
        runs,
        again: Some((failed_again, AGAIN)),
    };
    tell(&told)
}

/// The plan in which the creator does what another replica did, when it fails as well: that one may go then.
fn writers_fewer(scenario: &Scenario, fails: &mut impl FnMut(&Scenario) -> bool) -> Option<Scenario> {
    (1..scenario.replicas).rev().find_map(|writer| {
        let mut candidate = scenario.clone();
        let mut appends = candidate.append.iter_mut();
        appends
            .by_ref()
            .filter(|append| append.replica == writer)
            .for_each(|append| append.replica = 0);
        (candidate != *scenario && fails(&candidate)).then_some(candidate)
    })
}

/// Makes the operations of a plan simpler, one by one, as their strategy does.
fn simplify(
    ops: &dyn Ops,
    seed: u64,
    scenario: &mut Scenario,
    fails: &mut impl FnMut(&Scenario) -> bool,
    is_left: impl Fn() -> bool,
) {
    for append in 0..scenario.append.len() {
        for position in 0..scenario.append[append].ops.len() {
            let Some(number) = scenario.append[append].ops[position]
                .app
                .as_ref()
                .map(|op| op.number)
            else {
                continue;
            };
            let Ok(mut tree) = ops.tree(seed, number) else {
                continue;
            };
            let mut is_moving = tree.simplify();
            while is_moving && is_left() {
                let mut candidate = scenario.clone();
                candidate.append[append].ops[position].app = Some(tree.current());
                is_moving = if candidate == *scenario {
                    tree.simplify()
                } else if fails(&candidate) {
                    *scenario = candidate;
                    tree.simplify()
                } else {
                    tree.complicate()
                };
            }
        }
    }
}

/// Operations without a byte.
fn empty_ops(scenario: &Scenario) -> u64 {
    let ops = scenario.append.iter().flat_map(|append| &append.ops);
    ops.filter(|op| op.app.as_ref().is_some_and(|op| op.hex.is_empty()))
        .count() as u64
}

/// Which seeds are run, and for how long. There is one at least.
fn range(seeds: (u64, u64)) -> Result<CheckRange, String> {
    let range = asked_range(seeds)?;
    if range.first >= range.end {
        return Err(format!(
            "seeds {}..{} are none: nothing would be tested",
            range.first, range.end
        ));
    }
    if range.time == Some(Duration::ZERO) {
        return Err("AUTOBEE_TIME is no time at all: nothing would be tested".into());
    }
    Ok(range)
}

fn asked_range((first, end): (u64, u64)) -> Result<CheckRange, String> {
    let number = |name: &str, text: &str| -> Result<u64, String> {
        text.trim()
            .parse()
            .map_err(|error| format!("{name}: {text:?}: {error}"))
    };
    if let Some(seed) = variable("AUTOBEE_SEED") {
        let seed = number("AUTOBEE_SEED", &seed)?;
        let (first, end) = (seed, seed.saturating_add(1));
        return Ok(CheckRange {
            first,
            end,
            time: None,
        });
    }
    let time = variable("AUTOBEE_TIME").map(|text| {
        duration(&text).ok_or_else(|| format!("AUTOBEE_TIME: {text:?} is no time; for example 60s, 5m, 1h"))
    });
    let time = time.transpose()?;
    if let Some(seeds) = variable("AUTOBEE_SEEDS") {
        let (first, end) = seeds
            .split_once("..")
            .ok_or_else(|| format!("AUTOBEE_SEEDS: {seeds:?} is no range; for example 0..10000"))?;
        let first = number("AUTOBEE_SEEDS", first)?;
        let end = match end.strip_prefix('=') {
            Some(last) => number("AUTOBEE_SEEDS", last)?.saturating_add(1),
            None => number("AUTOBEE_SEEDS", end)?,
        };
        return Ok(CheckRange { first, end, time });
    }
    let end = if time.is_some() { u64::MAX } else { end };
    Ok(CheckRange { first, end, time })
}

/// A time: a number, and its unit; seconds without one.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.trim().parse().ok()?;
    match &text[digits.len()..] {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => Some(Duration::from_secs(number)),
        "m" | "min" => Some(Duration::from_secs(number.saturating_mul(60))),
        "h" => Some(Duration::from_secs(number.saturating_mul(3_600))),
        _ => None,
    }
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.entries += other.entries;
        self.refused += other.refused;
        self.batches += other.batches;
        self.compared += other.compared;
        self.views += other.views;
        self.empty += other.empty;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("60s"), Some(Duration::from_secs(60)));
        assert_eq!(duration("2m"), Some(Duration::from_secs(120)));
        assert_eq!(duration("7"), Some(Duration::from_secs(7)));
        assert_eq!(duration("90ms"), Some(Duration::from_millis(90)));
        assert_eq!((duration("soon"), duration("1w")), (None, None));
    }
}
