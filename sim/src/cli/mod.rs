//! The command line: what was asked, and how the answer is printed.
//!
//! Exit codes: 0 when everything converged, 1 when something did not, 2 when the question made no sense.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line talks to people"
)]

mod all;
mod meta;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use autobee_sim::{Report, Scenario};
use clap::{Args, Parser, Subcommand};

const EXAMPLES: &str = "Examples:
  cargo sim                                                    every fast scenario, several seeds each
  cargo sim run scenarios/fast/partition_heal.toml --seed 42   one seed
  cargo sim run FILE --seeds 0..500                            a sweep
  cargo sim run FILE --seed 42 --json                          one JSON object
  cargo sim run FILE --seed 42 --trace events.jsonl            every event, a JSON object a line
  cargo sim meta FILE --seed 42                                the same seed in two processes, compared
  cargo sim list                                               the scenarios that there are";

/// Replays Autobee databases through partitions, crashes and skewed clocks, and checks that they agree.
#[derive(Debug, Parser)]
#[command(name = "cargo sim", bin_name = "cargo sim", version, after_help = EXAMPLES)]
struct Command {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs a scenario with one seed or many.
    #[command(after_help = EXAMPLES)]
    Run(RunArgs),
    /// Lists the scenarios.
    List {
        /// Prints a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Runs the same seed in two processes and compares every byte of their traces.
    Meta {
        /// The scenario file.
        file: PathBuf,
        /// The seed.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Prints a JSON object.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The scenario file.
    file: PathBuf,
    /// One seed.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// A range of seeds, A..B without B.
    #[arg(long, value_name = "A..B", value_parser = parse_seeds)]
    seeds: Option<std::ops::Range<u64>>,
    /// Prints a JSON object a seed instead of text.
    #[arg(long)]
    json: bool,
    /// Writes every event of the run to this file, a JSON object a line. For one seed.
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    trace: Option<PathBuf>,
    /// Seeds that run at the same time. The results do not depend on it.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Why a command ended early.
enum Failure {
    /// The question made no sense.
    Usage(String),
    /// It did, and the answer is bad; what there is to say has been said.
    Bad,
}

pub(crate) fn main() -> ExitCode {
    // Usage errors leave with 2 from here.
    let outcome = match Command::parse().verb {
        None => all::run_all(),
        Some(Verb::Run(args)) => run::run(&args),
        Some(Verb::List { json }) => all::list(json),
        Some(Verb::Meta { file, seed, json }) => meta::meta(&file, seed, json),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Bad) => ExitCode::from(1),
        Err(Failure::Usage(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

fn load(file: &std::path::Path) -> Result<Scenario, Failure> {
    Scenario::load(file).map_err(|error| Failure::Usage(error.to_string()))
}

/// The line that repeats a run.
fn reproduce(file: &std::path::Path, seed: u64) -> String {
    format!("REPRODUCE WITH cargo sim run {} --seed {seed}", file.display())
}

/// What a run came to, in one line.
fn summary(report: &Report) -> String {
    let Report {
        scenario,
        seed,
        replicas,
        entries,
        events,
        sim_ms,
        trace_hash,
        ..
    } = report;
    let verdict = if report.converged {
        "converged"
    } else {
        "DID NOT CONVERGE"
    };
    format!(
        "{scenario} seed {seed}: {verdict}, {replicas} replicas, {entries} entries, {events} events, {sim_ms} ms simulated, trace {}",
        &trace_hash[..16]
    )
}

fn parse_seeds(text: &str) -> Result<std::ops::Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("expected A..B, for example 0..100")?;
    let from: u64 = from.parse().map_err(|error| format!("{from}: {error}"))?;
    let to: u64 = to.parse().map_err(|error| format!("{to}: {error}"))?;
    if from >= to {
        return Err(format!("{from}..{to} holds no seed"));
    }
    Ok(from..to)
}

fn threads_default() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
