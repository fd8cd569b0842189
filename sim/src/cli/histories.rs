//! Histories: thousands of them at the end of the main job, or one by its seed or file.

use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

use autobee_sim::history::{HistoryFailure, HistoryReport, PeerHistory};
use autobee_sim::in_parallel;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::all::KEPT_MAX;
use super::shrink::quietly;
use super::{CliError, files, parse_seeds, threads_default};

/// What `history` takes.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// The file of a history.
    file: Option<PathBuf>,
    /// Plays the one that this seed draws.
    #[arg(long, conflicts_with_all = ["file", "seeds"])]
    seed: Option<u64>,
    /// Plays those that these seeds draw, A..B without B.
    #[arg(long, value_name = "A..B", value_parser = parse_seeds, conflicts_with = "file")]
    seeds: Option<Range<u64>>,
    /// Prints the history instead of playing it.
    #[arg(long, conflicts_with = "seeds")]
    draw: bool,
    /// Slips of the engine to plant, to prove that they are found.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    planted: Vec<String>,
    /// Begins no further one after the first failure.
    #[arg(long)]
    fail_fast: bool,
    /// Keeps failures as they are.
    #[arg(long)]
    no_shrink: bool,
    /// Prints a JSON object.
    #[arg(long)]
    json: bool,
    /// Histories that are played at the same time. The results do not depend on it.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Where failures are kept.
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
}

/// How histories of seeds are played.
pub(super) struct HistoryJob<'a> {
    pub(super) seeds: Range<u64>,
    pub(super) planted: &'a [String],
    pub(super) threads: Option<usize>,
    /// None begins after one that failed.
    pub(super) fail_fast: bool,
    pub(super) no_shrink: bool,
    pub(super) out: &'a Path,
}

/// What they came to.
#[derive(Debug, Default)]
pub(super) struct HistoryTally {
    pub(super) played: u64,
    pub(super) failed: u64,
    pub(super) first_failed: Option<u64>,
    /// Sums.
    pub(super) report: HistoryReport,
    /// For people, a failure each.
    pub(super) failures: Vec<String>,
}

pub(super) fn run(args: &HistoryArgs) -> Result<(), CliError> {
    if args.draw || args.file.is_some() {
        return one(args);
    }
    let seeds = match (args.seed, &args.seeds) {
        (Some(seed), _) => seed..seed.saturating_add(1),
        (None, Some(seeds)) => seeds.clone(),
        (None, None) => {
            return Err(CliError::Usage(
                "which history? A FILE, --seed N or --seeds A..B".into(),
            ));
        }
    };
    let job = HistoryJob {
        seeds,
        planted: &args.planted,
        threads: args.threads,
        fail_fast: args.fail_fast,
        no_shrink: args.no_shrink,
        out: &args.out,
    };
    let tally = play(&job)?;
    if args.json {
        println!("{}", tally.to_json());
        for failure in &tally.failures {
            eprintln!("{failure}");
        }
    } else {
        for failure in &tally.failures {
            println!("{failure}");
        }
        println!("{tally}");
    }
    tally.verdict()
}

/// The history of a file or a seed, printed or played.
fn one(args: &HistoryArgs) -> Result<(), CliError> {
    let usage = |error: &dyn std::fmt::Display| CliError::Usage(error.to_string());
    let mut history = match (&args.file, args.seed) {
        (Some(file), _) => load(file)?,
        (None, seed) => PeerHistory::generate(seed.unwrap_or(0)),
    };
    history.planted.extend(args.planted.iter().cloned());
    history.check().map_err(|error| usage(&error))?;
    if args.draw {
        print!("{}", history.to_toml());
        return Ok(());
    }
    let played = quietly(|| history.play_caught());
    if args.json {
        let failure = played.as_ref().err();
        println!(
            "{}",
            json!({
                "failed": failure.is_some(),
                "step": failure.and_then(|failure| failure.step),
                "invariant": failure.map(|failure| failure.invariant),
                "what": failure.map(|failure| &failure.what),
            })
        );
    } else {
        match &played {
            Ok(report) => println!("agrees with the model {} times", report.comparisons),
            Err(failure) => println!("FAILED {failure}"),
        }
    }
    played.map(|_| ()).map_err(|_| CliError::Bad)
}

/// Reads the history of a file.
pub(super) fn load(file: &Path) -> Result<PeerHistory, CliError> {
    let text = files::read(file)?;
    let text = String::from_utf8_lossy(&text);
    PeerHistory::parse(&text).map_err(|error| CliError::Usage(format!("{}: {error}", file.display())))
}

/// Plays the histories of a job, and keeps those that fail: the first one shrunk.
pub(super) fn play(job: &HistoryJob<'_>) -> Result<HistoryTally, CliError> {
    let first = PeerHistory {
        planted: job.planted.to_vec(),
        ..PeerHistory::generate(job.seeds.start)
    };
    first
        .check()
        .map_err(|error| CliError::Usage(error.to_string()))?;
    let count = usize::try_from(job.seeds.end - job.seeds.start).unwrap_or(usize::MAX);
    let bar = ProgressBar::new(count as u64).with_style(style());
    let history_of = |position: usize| {
        let seed = job.seeds.start + position as u64;
        let history = PeerHistory {
            planted: job.planted.to_vec(),
            ..PeerHistory::generate(seed)
        };
        (seed, history)
    };
    let threads = job.threads.unwrap_or_else(threads_default);
    let results = quietly(|| {
        in_parallel(count, threads, |position| {
            let played = history_of(position).1.play_caught();
            bar.inc(1);
            if played.is_err() && job.fail_fast {
                ControlFlow::Break(played)
            } else {
                ControlFlow::Continue(played)
            }
        })
    });
    bar.finish_and_clear();
    let mut tally = HistoryTally::default();
    for (position, played) in results {
        tally.played += 1;
        let failure = match played {
            Ok(report) => {
                tally.add(&report);
                continue;
            }
            Err(failure) => failure,
        };
        let (seed, history) = history_of(position);
        tally.failed += 1;
        tally.first_failed = tally.first_failed.or(Some(seed));
        if tally.failures.len() < KEPT_MAX {
            let shrinks = tally.failures.is_empty() && !job.no_shrink;
            let text = keep(seed, &history, &failure, shrinks, job.out)?;
            tally.failures.push(text);
        }
    }
    Ok(tally)
}

/// Writes a history that failed, and says so.
fn keep(
    seed: u64,
    history: &PeerHistory,
    failure: &HistoryFailure,
    shrinks: bool,
    out: &Path,
) -> Result<String, CliError> {
    let folder = out.join(format!("history-{seed}"));
    files::make_folder(&folder)?;
    let mut file = folder.join("history.toml");
    files::write(&file, history.to_toml().as_bytes())?;
    let mut text = format!("history {seed} FAILED: {failure}");
    if shrinks {
        let shrunk = quietly(|| history.shrink(failure.invariant));
        file = folder.join("shrunk.toml");
        files::write(&file, shrunk.history.to_toml().as_bytes())?;
        let failure = quietly(|| shrunk.history.play_caught()).err();
        let failure = failure.map_or_else(String::new, |failure| format!(": {failure}"));
        text += &format!(
            "\n  {} steps of {} are enough{failure}",
            shrunk.history.steps.len(),
            history.steps.len()
        );
    }
    Ok(text + &format!("\n  REPRODUCE WITH cargo sim history {}", file.display()))
}

impl HistoryTally {
    fn add(&mut self, report: &HistoryReport) {
        self.report.appends += report.appends;
        self.report.refused += report.refused;
        self.report.withdrawn += report.withdrawn;
        self.report.apart += report.apart;
        self.report.entries += report.entries;
        self.report.comparisons += report.comparisons;
        self.report.weights += report.weights;
        self.report.settled += report.settled;
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "histories": self.played,
            "failed": self.failed,
            "first_failed": self.first_failed,
            "comparisons": self.report.comparisons,
            "apart": self.report.apart,
            "entries": self.report.entries,
            "weights": self.report.weights,
            "settled": self.report.settled,
        })
    }

    /// A check that compared nothing is none.
    pub(super) fn verdict(&self) -> Result<(), CliError> {
        if self.failed > 0 || (self.played > 0 && self.report.comparisons == 0) {
            Err(CliError::Bad)
        } else {
            Ok(())
        }
    }
}

impl std::fmt::Display for HistoryTally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let first = self
            .first_failed
            .map_or_else(String::new, |seed| format!(", the first of seed {seed}"));
        write!(
            f,
            "{} histories, {} failed{first}: {} entries, {} comparisons with the model",
            self.played, self.failed, self.report.entries, self.report.comparisons
        )
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("[{bar:40}] {pos}/{len} histories, {per_sec}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
