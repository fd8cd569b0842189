//! `run`: one seed, or a sweep with a progress bar.

use std::io::BufWriter;
use std::ops::ControlFlow;
use std::path::Path;

use autobee_sim::{Report, Scenario, SeedResult, TraceSink, in_parallel, run_caught};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::filter::Filter;
use super::record::{KeptFailure, PLAN};
use super::shrink::{self, now};
use super::watch::RunWatch;
use super::{CliError, RunArgs, all, files, load, plant, reproduce, summary, threads_default};

pub(super) fn run(args: &RunArgs) -> Result<(), CliError> {
    if let Some(plans) = &args.plans {
        let source = PlanSource::Plans {
            planted: &args.planted,
        };
        return run_many(&source, plans.clone(), args);
    }
    let (scenario, file) = match (&args.file, args.plan) {
        (_, Some(plan)) => (Scenario::generate(plan), None),
        (Some(file), None) => {
            let (scenario, file) = load(file)?;
            (scenario, Some(file))
        }
        (None, None) => {
            return Err(CliError::Usage(
                "what is to be run? A scenario file or its name, --plan N, or --plans A..B".into(),
            ));
        }
    };
    let scenario = plant(scenario, &args.planted)?;
    match &args.seeds {
        Some(seeds) => {
            let source = PlanSource::Scenario {
                scenario: &scenario,
                file: file.as_deref(),
            };
            run_many(&source, seeds.clone(), args)
        }
        None => run_one(&scenario, file.as_deref(), args),
    }
}

fn run_one(scenario: &Scenario, file: Option<&Path>, args: &RunArgs) -> Result<(), CliError> {
    let seed = args.seed.or(args.plan).unwrap_or(0);
    let trace = match &args.trace {
        Some(path) => {
            let file = BufWriter::new(files::create(path)?);
            TraceSink::Write(if args.trace_only.is_empty() {
                Box::new(file)
            } else {
                Box::new(Filter::new(args.trace_only.clone(), file))
            })
        }
        None => TraceSink::Discard,
    };
    let (result, wall_ms) = timed(|| shrink::quietly(|| run_caught(scenario, seed, trace)));
    print_result(&result, seed, wall_ms, args.json);
    if converged(&result) {
        return Ok(());
    }
    let kept = keep_one(scenario, file, seed, &result, args)?;
    eprintln!("{}", reproduce(&kept, seed));
    Err(CliError::Bad)
}

/// Keeps a failure, unless it is kept already. Returns the file that repeats it.
fn keep_one(
    scenario: &Scenario,
    file: Option<&Path>,
    seed: u64,
    result: &SeedResult,
    args: &RunArgs,
) -> Result<std::path::PathBuf, CliError> {
    let as_it_is = file.filter(|_| args.planted.is_empty());
    if let Some(file) = as_it_is.filter(|file| shrink::is_kept(file)) {
        return Ok(file.to_owned());
    }
    let kept = KeptFailure {
        scenario,
        source: file,
        seed,
        result,
    };
    let plan = kept.write(&args.out, None)?;
    let file = as_it_is.unwrap_or(&plan);
    let folder = kept.folder(&args.out);
    eprintln!(
        "kept in {}; cargo sim shrink {} --seed {seed} makes it smaller",
        folder.display(),
        file.display()
    );
    say_why(&folder);
    Ok(file.to_owned())
}

/// Says where a kept failure is explained.
fn say_why(folder: &Path) {
    let page = folder.join(super::report::PAGE);
    eprintln!(
        "cargo sim explain {} says why; {} shows it",
        folder.display(),
        page.display()
    );
}

/// What the seeds of a sweep run.
enum PlanSource<'a> {
    /// One scenario, and the file that it is from.
    Scenario {
        scenario: &'a Scenario,
        file: Option<&'a Path>,
    },
    /// The plan that each seed generates.
    Plans { planted: &'a [String] },
}

impl PlanSource<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Scenario { scenario, .. } => &scenario.name,
            Self::Plans { .. } => "plans",
        }
    }

    /// What this seed runs. The names of slips were checked before.
    fn scenario(&self, seed: u64) -> Scenario {
        match self {
            Self::Scenario { scenario, .. } => (*scenario).clone(),
            Self::Plans { planted } => {
                let mut scenario = Scenario::generate(seed);
                scenario.planted.extend(planted.iter().cloned());
                scenario
            }
        }
    }

    const fn file(&self) -> Option<&Path> {
        match self {
            Self::Scenario { file, .. } => *file,
            Self::Plans { .. } => None,
        }
    }
}

fn run_many(source: &PlanSource<'_>, seeds: std::ops::Range<u64>, args: &RunArgs) -> Result<(), CliError> {
    plant(source.scenario(seeds.start), &args.planted)?;
    let threads = args.threads.unwrap_or_else(threads_default);
    let bar = ProgressBar::new(seeds.end - seeds.start)
        .with_style(style())
        .with_message(source.name().to_owned());
    let seeds: Vec<u64> = seeds.collect();
    let watch = RunWatch::start(&args.out);
    let started = now();
    let results = shrink::quietly(|| {
        in_parallel(seeds.len(), threads, |position| {
            let seed = seeds[position];
            let scenario = source.scenario(seed);
            let (result, wall_ms) = timed(|| {
                watch.over(&scenario, seed, || {
                    run_caught(&scenario, seed, TraceSink::Discard)
                })
            });
            if args.json {
                print_result(&result, seed, wall_ms, true);
            }
            if !converged(&result) {
                bar.println(format!("{} seed {seed} failed", scenario.name));
            }
            bar.inc(1);
            ControlFlow::Continue((result, wall_ms))
        })
    });
    bar.finish_and_clear();
    let wall_ms = now().saturating_sub(started).as_millis();
    let mut events = 0;
    let mut failed = 0;
    for (position, (result, wall_ms)) in &results {
        let seed = seeds[*position];
        events += result.as_ref().map_or(0, |report| report.events);
        if converged(result) {
            continue;
        }
        failed += 1;
        if !args.json {
            print_result(result, seed, *wall_ms, false);
        }
        let failure = Failed {
            scenario: &source.scenario(seed),
            file: source.file().filter(|_| args.planted.is_empty()),
            seed,
            result,
        };
        let how = if failed == 1 && !args.no_shrink {
            Keep::Shrunk
        } else if failed <= all::KEPT_MAX {
            Keep::AsItIs
        } else {
            Keep::Not
        };
        failure.report(&args.out, how)?;
    }
    if !args.json {
        println!(
            "{}: {} of {} seeds converged, {events} events, {wall_ms} ms",
            source.name(),
            results.len() - failed,
            results.len(),
        );
    }
    if failed == 0 { Ok(()) } else { Err(CliError::Bad) }
}

/// One run of many that failed.
pub(super) struct Failed<'a> {
    pub(super) scenario: &'a Scenario,
    /// The file that repeats it; none for a generated plan, or when something was planted besides.
    pub(super) file: Option<&'a Path>,
    pub(super) seed: u64,
    pub(super) result: &'a SeedResult,
}

/// What is kept of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Shrunk,
    AsItIs,
    Not,
}

impl Failed<'_> {
    /// Keeps it, and says how to see it again. What is said goes to the errors: results are on the output.
    pub(super) fn report(&self, out: &Path, keep: Keep) -> Result<(), CliError> {
        let Self {
            scenario,
            file,
            seed,
            result,
        } = *self;
        let kept = KeptFailure {
            scenario,
            source: file,
            seed,
            result,
        };
        let plan = kept.folder(out).join(PLAN);
        if keep == Keep::Not || file.is_some_and(shrink::is_kept) {
            eprintln!("{}", reproduce(file.unwrap_or(&plan), seed));
            return Ok(());
        }
        kept.write(out, None)?;
        let folder = kept.folder(out);
        eprintln!("kept in {}", folder.display());
        say_why(&folder);
        eprintln!("{}", reproduce(file.unwrap_or(&plan), seed));
        if keep == Keep::Shrunk {
            eprintln!("shrinking it, for at most {} s", shrink::SECONDS);
            let name = autobee_sim::failure(result).unwrap_or_default();
            let shrunk = shrink::shrink_by(scenario, seed, &name, shrink::SECONDS, shrink::RUNS);
            let small = kept.write(out, Some(&shrunk))?;
            eprintln!("{}: {}", small.display(), shrink::describe(&shrunk));
        }
        Ok(())
    }
}

/// Prints what a run came to.
pub(super) fn print_result(result: &SeedResult, seed: u64, wall_ms: u64, json: bool) {
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
            json!({ "seed": seed, "converged": false, "error": error.to_string(), "wall_ms": wall_ms })
        ),
        Err(error) => println!("seed {seed} could not be run: {error}"),
    }
}

fn to_json(report: &Report, wall_ms: u64) -> Value {
    // A report is a plain struct of texts and numbers.
    let mut value = serde_json::to_value(report).unwrap_or_default();
    value["wall_ms"] = wall_ms.into();
    value
}

pub(super) fn converged(result: &SeedResult) -> bool {
    result.as_ref().is_ok_and(|report| report.converged)
}

/// What something gives, and how many milliseconds of real time it took.
pub(super) fn timed<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let started = now();
    let result = work();
    let taken = now().saturating_sub(started).as_millis();
    (result, u64::try_from(taken).unwrap_or(u64::MAX))
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{msg:24} [{bar:40}] {pos}/{len} seeds, {per_sec}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
