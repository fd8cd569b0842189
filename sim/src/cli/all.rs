//! The main job without arguments: every scenario with several seeds, generated plans, and histories.

use std::ops::ControlFlow;
use std::path::PathBuf;

use autobee::env::Point;
use autobee_sim::{Scenario, SeedResult, TraceSink, failure, in_parallel, run_caught};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::histories::{self, HistoryJob};
use super::points::PointsReport;
use super::run::{Failed, Keep, converged, print_result, timed};
use super::shrink::{now, quietly};
use super::watch::RunWatch;
use super::{AllArgs, CliError, files, plant, threads_default};

/// Seeds of each scenario.
const SEEDS: u64 = 8;

/// Generated plans unless another number is asked for. Points are judged on so many.
pub(super) const PLANS: u64 = 1_000;

/// Histories for each plan, unless another number is asked for.
const HISTORIES_OF_A_PLAN: u64 = 3;

/// Failures of one job that are kept.
pub(super) const KEPT_MAX: usize = 20;

const FOLDERS: &[&str] = &["fast", "regress"];

/// One run of the job.
enum Job<'a> {
    File(&'a Scenario, &'a PathBuf, u64),
    Plan(u64),
}

/// What a job came to.
struct Done {
    result: SeedResult,
    wall_ms: u64,
}

pub(super) fn run_all(args: &AllArgs) -> Result<(), CliError> {
    let mut scenarios = Vec::new();
    for file in files::scenarios(Some(FOLDERS))? {
        let scenario = Scenario::load(&file).map_err(|error| CliError::Usage(error.to_string()))?;
        scenarios.push((plant(scenario, &args.planted)?, file));
    }
    let mut jobs: Vec<Job<'_>> = scenarios
        .iter()
        .flat_map(|(scenario, file)| {
            let own = scenario.own_seed().filter(|seed| *seed >= SEEDS);
            (0..SEEDS)
                .chain(own)
                .map(move |seed| Job::File(scenario, file, seed))
        })
        .collect();
    jobs.extend((0..args.plans).map(Job::Plan));

    let started = now();
    let results = run_jobs(&jobs, args);
    let is_over = args.fail_fast && results.iter().any(|(_, done)| !converged(&done.result));
    let of_plans = args.plans.saturating_mul(HISTORIES_OF_A_PLAN);
    let histories = histories::play(&HistoryJob {
        seeds: 0..if is_over {
            0
        } else {
            args.histories.unwrap_or(of_plans)
        },
        planted: &args.planted,
        threads: args.threads,
        fail_fast: args.fail_fast,
        no_shrink: args.no_shrink,
        out: &args.out,
    })?;
    let taken = now().saturating_sub(started);

    let mut points = PointsReport::default();
    let mut events = 0;
    let mut failures = Vec::new();
    for (number, Done { result, .. }) in &results {
        if let Ok(report) = result {
            events += report.events;
            points.add(report, jobs[*number].plan());
        }
        if !converged(result) {
            failures.push(*number);
        }
    }
    points.save(&args.out)?;
    let mut shown = 0;
    for (number, done) in results.iter().filter(|(number, _)| failures.contains(number)) {
        shown += 1;
        report(&jobs[*number], done, shown, args)?;
    }
    let unreached = judge_points(&points, jobs.len() == results.len(), args);
    for name in &unreached {
        say(args, &format!("NEVER REACHED {name}"));
    }
    for point in Point::ALL {
        if let Some(why) = point.out_of_reach().filter(|_| args.plans >= PLANS) {
            say(args, &format!("out of reach: {}: {why}", point.name()));
        }
    }
    for failure in &histories.failures {
        say(args, failure);
    }
    let first = match (failures.first(), histories.first_failed) {
        (Some(first), _) => format!(", the first in run {}", first + 1),
        (None, Some(seed)) => format!(", the first in history {seed}"),
        (None, None) => String::new(),
    };
    let failed = failures.len() as u64 + histories.failed;
    let seconds = taken.as_secs();
    let summary = format!(
        "{} runs, {failed} failed{first}: {} plans, {} histories, {events} events, {} points never reached, {} s",
        results.len(),
        points.plans,
        histories.played,
        unreached.len(),
        seconds,
    );
    if args.json {
        println!(
            "{}",
            json!({
                "runs": results.len(),
                "failed": failed,
                "first_failed": failures.first().map(|first| first + 1),
                "histories": histories.played,
                "histories_failed": histories.failed,
                "first_failed_history": histories.first_failed,
                "compared_histories": histories.report.comparisons,
                "plans": points.plans,
                "events": events,
                "never_reached": unreached,
                "seconds": seconds,
            })
        );
    }
    say(args, &summary);
    histories.verdict()?;
    if failures.is_empty() && unreached.is_empty() {
        Ok(())
    } else {
        Err(CliError::Bad)
    }
}

/// Says something to people: on the output, or on the errors when the output is JSON.
fn say(args: &AllArgs, text: &str) {
    if args.json {
        eprintln!("{text}");
    } else {
        println!("{text}");
    }
}

fn run_jobs(jobs: &[Job<'_>], args: &AllArgs) -> Vec<(usize, Done)> {
    let bar = ProgressBar::new(jobs.len() as u64).with_style(style());
    let threads = args.threads.unwrap_or_else(threads_default);
    let watch = RunWatch::start(&args.out);
    let failed = std::sync::atomic::AtomicU64::new(0);
    let results = quietly(|| {
        in_parallel(jobs.len(), threads, |number| {
            let job = &jobs[number];
            let scenario = job.scenario(args);
            let (result, wall_ms) = timed(|| {
                watch.over(&scenario, job.seed(), || {
                    run_caught(&scenario, job.seed(), TraceSink::Discard)
                })
            });
            if args.json {
                print_result(&result, job.seed(), wall_ms, true);
            }
            let name = failure(&result);
            if let Some(name) = &name {
                let failed = 1 + failed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                bar.println(format!("{} seed {} failed: {name}", scenario.name, job.seed()));
                bar.set_message(format!("{failed} failed"));
            }
            bar.inc(1);
            let done = Done { result, wall_ms };
            if name.is_some() && args.fail_fast {
                ControlFlow::Break(done)
            } else {
                ControlFlow::Continue(done)
            }
        })
    });
    bar.finish_and_clear();
    results
}

/// Prints and keeps a failure, the `shown`th one.
fn report(job: &Job<'_>, done: &Done, shown: usize, args: &AllArgs) -> Result<(), CliError> {
    let scenario = job.scenario(args);
    let seed = job.seed();
    if shown > KEPT_MAX {
        let name = failure(&done.result).unwrap_or_default();
        say(args, &format!("{} seed {seed} failed: {name}", scenario.name));
        return Ok(());
    }
    if !args.json {
        print_result(&done.result, seed, done.wall_ms, false);
    }
    let file = match job {
        Job::File(_, file, _) if args.planted.is_empty() => Some(file.as_path()),
        _ => None,
    };
    let failed = Failed {
        scenario: &scenario,
        file,
        seed,
        result: &done.result,
    };
    let keep = if shown == 1 && !args.no_shrink {
        Keep::Shrunk
    } else {
        Keep::AsItIs
    };
    failed.report(&args.out, keep)
}

/// The points that nothing reached. Only the whole job is judged, and only when the engine is as it is.
fn judge_points<'a>(points: &'a PointsReport, is_whole: bool, args: &AllArgs) -> Vec<&'a str> {
    if is_whole && args.plans >= PLANS && args.planted.is_empty() {
        let is_reachable = |name: &&str| {
            let mut all = Point::ALL.iter();
            all.any(|point| point.name() == *name && point.out_of_reach().is_none())
        };
        points.unreached().into_iter().filter(is_reachable).collect()
    } else {
        Vec::new()
    }
}

impl Job<'_> {
    const fn seed(&self) -> u64 {
        match self {
            Self::File(_, _, seed) | Self::Plan(seed) => *seed,
        }
    }

    const fn plan(&self) -> Option<u64> {
        match self {
            Self::File(..) => None,
            Self::Plan(seed) => Some(*seed),
        }
    }

    fn scenario(&self, args: &AllArgs) -> Scenario {
        match self {
            Self::File(scenario, ..) => (*scenario).clone(),
            Self::Plan(seed) => {
                let mut scenario = Scenario::generate(*seed);
                // The names were checked with those of the files.
                scenario.planted.extend(args.planted.iter().cloned());
                scenario
            }
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("[{bar:40}] {pos}/{len} runs, {per_sec}, {eta} left {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
