//! `sweep`: many seeds as a plain process that can be ended at any time and started again, and is one of many.
//!
//! A folder holds one file of results for each shard: a line that says what is swept, then a line for each seed. A line is
//! there whole or counts as absent, so that a process that was killed loses the seeds that were under way and nothing
//! else. Of each cause of failures the smallest plan is kept.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use autobee_sim::{Scenario, SeedResult, SimError, TraceSink, in_parallel, run_caught};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::merge::{self, Totals};
use super::record::{KeptFailure, PLAN};
use super::run::{converged, timed};
use super::shrink::{now, quietly};
use super::watch::RunWatch;
use super::{CliError, files, load, parse_seeds, plant};

/// How often progress is told where nobody sees a bar.
const TOLD_EVERY: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(super) struct SweepArgs {
    /// The scenario file, or its name; the plans that the seeds generate when absent.
    file: Option<PathBuf>,
    /// A range of seeds, A..B without B.
    #[arg(long, value_name = "A..B", value_parser = parse_seeds)]
    seeds: Range<u64>,
    /// Which part of the seeds: the i-th of n, from 0. All parts together are all seeds.
    #[arg(long, value_name = "I/N", default_value = "0/1")]
    shard: Shard,
    /// Begins no further run after this time: 90s, 10m, 2h.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    time: Option<Duration>,
    /// Runs at the same time. The results do not depend on it.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// The folder of the results. A sweep that was ended goes on.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Slips of the engine to plant, to prove that the sweep finds them.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    planted: Vec<String>,
    /// Prints a JSON object at the end.
    #[arg(long)]
    json: bool,
}

/// One part of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shard {
    part: u64,
    of: u64,
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected I/N with I below N, for example 0/4, not {text:?}");
        let (part, of) = text.split_once('/').ok_or_else(wrong)?;
        let shard = Self {
            part: part.parse().map_err(|_| wrong())?,
            of: of.parse().map_err(|_| wrong())?,
        };
        if shard.part < shard.of {
            Ok(shard)
        } else {
            Err(wrong())
        }
    }
}

impl Shard {
    /// The file of this part in the folder of a sweep.
    fn file(self) -> String {
        format!("results-{}-of-{}.jsonl", self.part, self.of)
    }

    /// The seeds of this part.
    fn seeds(self, all: &Range<u64>) -> impl Iterator<Item = u64> + use<> {
        let Self { part, of } = self;
        all.clone().filter(move |seed| seed % of == part)
    }
}

/// The first line of a file of results: what is swept. Parts with other heads are no parts of one sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SweepHead {
    /// The name of the scenario; `plans` for generated ones.
    pub(super) sweep: String,
    /// A hash of the scenario; that of the first plan for generated ones.
    pub(super) hash: String,
    pub(super) planted: Vec<String>,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) engine: String,
}

/// What one seed came to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct SeedLine {
    pub(super) seed: u64,
    /// The name of what failed.
    pub(super) failed: Option<String>,
    /// What failures are grouped by.
    pub(super) cause: Option<String>,
    /// In one sentence.
    pub(super) what: Option<String>,
    pub(super) violations: usize,
    pub(super) faults: usize,
    pub(super) operations: usize,
    pub(super) replicas: usize,
    pub(super) events: u64,
    pub(super) sim_ms: u64,
    pub(super) wall_ms: u64,
    /// Rare states that were reached.
    pub(super) points: Vec<String>,
}

pub(super) fn sweep(args: &SweepArgs) -> Result<(), CliError> {
    let fixed = match &args.file {
        Some(file) => Some(plant(load(file)?.0, &args.planted)?),
        None => {
            // The names of slips are checked once.
            plant(Scenario::generate(args.seeds.start), &args.planted)?;
            None
        }
    };
    let scenario = |seed: u64| match &fixed {
        Some(scenario) => scenario.clone(),
        None => {
            let mut scenario = Scenario::generate(seed);
            scenario.planted.extend(args.planted.iter().cloned());
            scenario
        }
    };
    let head = SweepHead {
        sweep: fixed
            .as_ref()
            .map_or_else(|| "plans".into(), |scenario| scenario.name.clone()),
        hash: autobee::crypto::hash(&[scenario(args.seeds.start).to_toml().as_bytes()]).to_hex(),
        planted: args.planted.clone(),
        from: args.seeds.start,
        to: args.seeds.end,
        engine: env!("CARGO_PKG_VERSION").into(),
    };
    files::make_folder(&args.out)?;
    let path = args.out.join(args.shard.file());
    let results = Results::open(&path, &head)?;
    let seeds: Vec<u64> = args
        .shard
        .seeds(&args.seeds)
        .filter(|seed| !results.done.contains_key(seed))
        .collect();
    if !results.done.is_empty() {
        eprintln!(
            "{} seeds are there already, {} are left",
            results.done.len(),
            seeds.len()
        );
    }
    let ran = run_all(args, &seeds, &scenario, results)?;
    let totals = Totals::of(ran.done.values());
    let is_over = ran.done.len() as u64 == args.shard.seeds(&args.seeds).count() as u64;
    if args.json {
        let mut value = totals.to_json();
        value["complete"] = Value::from(is_over);
        value["file"] = Value::from(path.display().to_string());
        println!("{value}");
    } else {
        print!("{}", totals.in_words());
        if !is_over {
            println!("not all seeds were run; the same command goes on");
        }
    }
    if totals.failed == 0 {
        Ok(())
    } else {
        Err(CliError::Bad)
    }
}

/// The file of results of one part.
struct Results {
    path: PathBuf,
    out: files::PlainFile,
    done: BTreeMap<u64, SeedLine>,
}

impl Results {
    /// Opens a file of results, cuts a torn end off, and reads what is there.
    fn open(path: &Path, head: &SweepHead) -> Result<Self, CliError> {
        let text = match files::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) => String::new(),
        };
        let known = merge::parse(&text);
        if let Some(first) = &known.head
            && first != head
        {
            return Err(CliError::Usage(format!(
                "{}: holds the results of another sweep ({} seeds {}..{}, engine {}); name another --out",
                path.display(),
                first.sweep,
                first.from,
                first.to,
                first.engine
            )));
        }
        let mut out = files::append(path)?;
        let whole = if known.head.is_some() { known.whole } else { 0 };
        let failed = |error: std::io::Error| CliError::Usage(format!("{}: {error}", path.display()));
        out.set_len(whole).map_err(failed)?;
        if known.head.is_none() {
            writeln!(out, "{}", json!(head)).map_err(failed)?;
        }
        Ok(Self {
            path: path.to_owned(),
            out,
            done: known.lines,
        })
    }

    /// Adds a line in one write.
    fn add(&mut self, line: SeedLine) -> Result<(), CliError> {
        let text = format!("{}\n", serde_json::to_string(&line).unwrap_or_default());
        self.out
            .write_all(text.as_bytes())
            .map_err(|error| CliError::Usage(format!("{}: {error}", self.path.display())))?;
        self.done.insert(line.seed, line);
        Ok(())
    }
}

fn run_all(
    args: &SweepArgs,
    seeds: &[u64],
    scenario: &(impl Fn(u64) -> Scenario + Sync),
    results: Results,
) -> Result<Results, CliError> {
    let bar = ProgressBar::new(seeds.len() as u64).with_style(style());
    let is_seen = std::io::stderr().is_terminal();
    let jobs = args.jobs.unwrap_or_else(super::threads_default);
    let started = now();
    let watch = RunWatch::start(&args.out);
    let state = Mutex::new((results, SweepProgress::default(), started, None));
    let is_full = AtomicBool::new(false);
    quietly(|| {
        in_parallel(seeds.len(), jobs, |position| {
            let late = args
                .time
                .is_some_and(|time| now().saturating_sub(started) >= time);
            if late || is_full.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            let seed = seeds[position];
            let scenario = scenario(seed);
            let (result, wall_ms) = timed(|| {
                if never_ended(&args.out, &scenario, seed) {
                    return Err(SimError::Call {
                        what: "does not end".into(),
                        why: "a process before this one was ended by it".into(),
                    });
                }
                watch.over(&scenario, seed, || {
                    run_caught(&scenario, seed, TraceSink::Discard)
                })
            });
            let line = line(&scenario, seed, &result, wall_ms);
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let (results, progress, told, error) = &mut *state;
            progress.add(&line);
            if line.failed.is_some()
                && let Err(failed) = keep(&args.out, args.shard, &scenario, &line)
            {
                error.get_or_insert(failed);
            }
            if let Err(failed) = results.add(line) {
                error.get_or_insert(failed);
            }
            if error.is_some() {
                is_full.store(true, Ordering::Relaxed);
            }
            bar.inc(1);
            let words = progress.in_words(now().saturating_sub(started));
            if !is_seen && now().saturating_sub(*told) >= TOLD_EVERY {
                *told = now();
                eprintln!("{} of {} seeds, {words}", progress.seeds, seeds.len());
            }
            bar.set_message(words);
            ControlFlow::Continue(())
        })
    });
    bar.finish_and_clear();
    let (results, progress, _, error) = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    eprintln!(
        "{} seeds run, {}",
        progress.seeds,
        progress.in_words(now().saturating_sub(started))
    );
    error.map_or(Ok(results), Err)
}

/// True when the watch of an earlier process kept this run because it did not end.
fn never_ended(out: &Path, scenario: &Scenario, seed: u64) -> bool {
    KeptFailure::folder_of(scenario, seed, out).join(PLAN).is_file()
}

/// What a seed came to, as a line. A failure is run once more, to say its cause.
fn line(scenario: &Scenario, seed: u64, result: &SeedResult, wall_ms: u64) -> SeedLine {
    let mut line = SeedLine {
        seed,
        faults: scenario.faults(),
        operations: scenario.operations(),
        replicas: scenario.replicas,
        wall_ms,
        ..SeedLine::default()
    };
    if let Ok(report) = result {
        line.events = report.events;
        line.sim_ms = report.sim_ms;
        line.violations = report.violations.len();
        let reached = report.points.iter().filter(|(_, count)| **count > 0);
        line.points = reached.map(|(name, _)| (*name).to_owned()).collect();
    }
    if let Err(SimError::Call { what, why }) = result
        && what == "does not end"
    {
        line.failed = Some(what.clone());
        line.cause = Some(what.clone());
        line.what = Some(why.clone());
        line.violations = 1;
        return line;
    }
    if !converged(result) {
        let told = autobee_sim::explain::explain(scenario, seed);
        line.failed = autobee_sim::failure(result);
        line.cause = Some(told.cause());
        line.what = told.violations.first().cloned();
        line.violations = line.violations.max(1);
    }
    line
}

/// Keeps the plan of a failure when it is the smallest of its cause.
fn keep(out: &Path, shard: Shard, scenario: &Scenario, line: &SeedLine) -> Result<(), CliError> {
    let folder = merge::folder(out, line.cause.as_deref().unwrap_or_default());
    files::make_folder(&folder)?;
    let ending = format!("-{}-of-{}", shard.part, shard.of);
    let about = folder.join(format!("smallest{ending}.json"));
    let smaller = files::read(&about)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<SeedLine>(&bytes).ok())
        .is_some_and(|known| merge::size(&known) <= merge::size(line));
    if smaller {
        return Ok(());
    }
    let plan = folder.join(format!("plan{ending}.toml"));
    let text = format!(
        "# seed {}: {}\n{}",
        line.seed,
        line.what.as_deref().unwrap_or_default().replace('\n', " "),
        scenario.to_toml()
    );
    files::write(&plan, text.as_bytes())?;
    files::write(&about, serde_json::to_string(line).unwrap_or_default().as_bytes())
}

/// What this process did so far.
#[derive(Debug, Default)]
struct SweepProgress {
    seeds: u64,
    failed: u64,
    violations: u64,
    faults: u64,
    sim_ms: u64,
    points: std::collections::BTreeSet<String>,
}

impl SweepProgress {
    fn add(&mut self, line: &SeedLine) {
        self.seeds += 1;
        self.failed += u64::from(line.failed.is_some());
        self.violations += line.violations as u64;
        self.faults += line.faults as u64;
        self.sim_ms += line.sim_ms;
        self.points.extend(line.points.iter().cloned());
    }

    fn in_words(&self, passed: Duration) -> String {
        let seconds = passed.as_secs_f64().max(0.001);
        format!(
            "{:.1} seeds/s, {:.0} x real time, {} faults, {} failed, {} violations, {} points",
            self.seeds as f64 / seconds,
            self.sim_ms as f64 / 1_000.0 / seconds,
            self.faults,
            self.failed,
            self.violations,
            self.points.len()
        )
    }
}

/// A time: a number, and its unit; seconds without one.
fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a time, for example 90s, 10m or 2h, not {text:?}");
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    match &text[digits.len()..] {
        "" | "s" => Ok(Duration::from_secs(number)),
        "m" | "min" => Ok(Duration::from_secs(number.saturating_mul(60))),
        "h" => Ok(Duration::from_secs(number.saturating_mul(3_600))),
        _ => Err(wrong()),
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("[{bar:30}] {pos}/{len} seeds, {eta} left, {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_all_seeds_and_share_none() {
        let all = 5..24;
        let mut seen: Vec<u64> = (0..4)
            .flat_map(|part| Shard { part, of: 4 }.seeds(&all))
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, all.collect::<Vec<_>>());
        assert!("4/4".parse::<Shard>().is_err() && "0".parse::<Shard>().is_err());
    }

    #[test]
    fn times_have_units() {
        assert_eq!(parse_time("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_time("7"), Ok(Duration::from_secs(7)));
        assert!(parse_time("soon").is_err() && parse_time("1w").is_err());
    }
}
