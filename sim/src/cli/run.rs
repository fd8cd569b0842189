//! `run`: one seed, or a sweep with a progress bar.

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "traces are written, and runs timed, for people outside the simulated world"
)]

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use autobee_sim::{Report, Scenario, SeedResult, TraceSink, sweep};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{Failure, RunArgs, load, reproduce, summary, threads_default};

pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    let scenario = load(&args.file)?;
    match &args.seeds {
        Some(seeds) => {
            let threads = args.threads.unwrap_or_else(threads_default);
            let failed = sweep_scenario(&scenario, &args.file, seeds.clone(), threads, args.json);
            if failed == 0 { Ok(()) } else { Err(Failure::Bad) }
        }
        None => run_one(&scenario, args),
    }
}

fn run_one(scenario: &Scenario, args: &RunArgs) -> Result<(), Failure> {
    let seed = args.seed.unwrap_or(0);
    let trace = match &args.trace {
        Some(path) => TraceSink::Write(Box::new(BufWriter::new(create(path)?))),
        None => TraceSink::Discard,
    };
    let started = now_ms();
    let result = autobee_sim::run(scenario, seed, trace);
    let wall_ms = now_ms() - started;
    print_result(&result, &args.file, seed, wall_ms, args.json);
    match result {
        Ok(report) if report.converged => Ok(()),
        _ => Err(Failure::Bad),
    }
}

/// Runs seeds and prints what they came to. Returns how many failed.
pub(super) fn sweep_scenario(
    scenario: &Scenario,
    file: &Path,
    seeds: std::ops::Range<u64>,
    threads: usize,
    json: bool,
) -> usize {
    let started = now_ms();
    let bar = ProgressBar::new(seeds.end - seeds.start)
        .with_style(style())
        .with_message(scenario.name.clone());
    let results = sweep(scenario, seeds, threads, |result| {
        if !converged(result) {
            bar.println(format!("{}: a seed failed", scenario.name));
        }
        bar.inc(1);
    });
    bar.finish_and_clear();
    let wall_ms = now_ms() - started;
    let mut failed = 0;
    let mut events = 0;
    for (seed, result) in &results {
        events += result.as_ref().map_or(0, |report| report.events);
        failed += usize::from(!converged(result));
        if json || !converged(result) {
            print_result(result, file, *seed, 0, json);
        }
    }
    if !json {
        println!(
            "{}: {} of {} seeds converged, {events} events, {wall_ms} ms",
            scenario.name,
            results.len() - failed,
            results.len(),
        );
    }
    failed
}

fn print_result(result: &SeedResult, file: &Path, seed: u64, wall_ms: u64, json: bool) {
    match result {
        Ok(report) if json => println!("{}", to_json(report, wall_ms)),
        Ok(report) => {
            println!("{}, {wall_ms} ms", summary(report));
            for violation in &report.violations {
                println!("  {violation}");
            }
        }
        Err(error) if json => println!(
            "{}",
            json!({ "seed": seed, "converged": false, "error": error.to_string() })
        ),
        Err(error) => println!("seed {seed} could not be run: {error}"),
    }
    if !converged(result) {
        eprintln!("{}", reproduce(file, seed));
    }
}

fn to_json(report: &Report, wall_ms: u64) -> Value {
    // A report is a plain struct of texts and numbers.
    let mut value = serde_json::to_value(report).unwrap_or_default();
    value["wall_ms"] = wall_ms.into();
    value
}

fn converged(result: &SeedResult) -> bool {
    result.as_ref().is_ok_and(|report| report.converged)
}

fn create(path: &Path) -> Result<File, Failure> {
    let file = File::create(path);
    file.map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{msg:24} [{bar:40}] {pos}/{len} seeds, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Milliseconds of real time, for people.
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
