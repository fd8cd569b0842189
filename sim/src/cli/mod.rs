//! The command line: what was asked, and how the answer is printed.
//!
//! Exit codes: 0 when everything converged, 1 when something did not, 2 when the question made no sense.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line talks to people"
)]

mod all;
mod check_log;
mod diff;
mod draw;
mod explain;
mod files;
mod filter;
mod histories;
mod list;
mod merge;
mod meta;
mod points;
mod record;
mod replay;
mod report;
mod run;
mod shrink;
mod sweep;
mod target;
mod trace;
mod watch;
mod why;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use autobee_sim::{Report, Scenario};
use clap::{Args, Parser, Subcommand};

use filter::LineTopic;

const EXAMPLES: &str = "Examples:
  cargo sim                                            every scenario with 8 seeds, 1,000 generated plans, 3,000 histories
  cargo sim --plans 100 --fail-fast                    fewer plans; ends at the first failure
  cargo sim --json                                     a JSON object as each run ends
  cargo sim run partition_heal --seed 42               one seed
  cargo sim run FILE --seeds 0..500                    a sweep
  cargo sim shrink FILE --seed 42                      the smallest scenario that fails like this one
  cargo sim explain partition_heal --seed 42           why it fails, on one screen
  cargo sim replay out/partition_heal-42               whether a kept failure still fails
  cargo sim draw --seed 7 --out plan.toml              a generated plan as a file
  cargo sim meta FILE --seed 42                        the same seed in two processes, compared
  cargo sim list --points                              the rare states that the last run reached";

const HISTORY_EXAMPLES: &str = "Examples:
  cargo sim history --seeds 0..100000         many, each held against the model at every step
  cargo sim history --seed 7 --draw           prints the one that seed 7 draws
  cargo sim history out/history-7/shrunk.toml a kept failure
A history is what a few peers write and hear, step by step, without network or disk: docs/simulation.md.";

const RUN_EXAMPLES: &str = "Examples:
  cargo sim run scenarios/fast/partition_heal.toml --seed 42   one seed
  cargo sim run partition_heal --seed 42                       the same, found by its name
  cargo sim run FILE --seeds 0..500 --json                     a sweep, a JSON object a line as each seed ends
  cargo sim run FILE --seed 42 --trace t.jsonl                 every event, a JSON object a line
  cargo sim run FILE --seed 42 --trace t.jsonl --trace-only engine,faults
  cargo sim run --plan 7                                       the plan that seed 7 generates
  cargo sim run --plans 1000..2000 --json                      a thousand plans";

const SHRINK_EXAMPLES: &str = "Examples:
  cargo sim shrink partition_heal --seed 42
  cargo sim shrink out/plan-7/plan.toml --seed 7 --out small.toml --seconds 300";

const REPLAY_EXAMPLES: &str = "Examples:
  cargo sim replay out/plan-7                 the smallest scenario of this failure
  cargo sim replay out/plan-7/plan.toml       the scenario in which it was found
  cargo sim replay out/plan-7 --json          one JSON object";

const EXPLAIN_EXAMPLES: &str = "Examples:
  cargo sim explain partition_heal --seed 42              what differs, between whom, since when, by which rule
  cargo sim explain --plan 36 --planted block_behind_a_hole_fills_it
  cargo sim explain out/plan-36                           a kept failure, the shrunk one
  cargo sim explain out/plan-36 --json                    one JSON object";

const DIFF_EXAMPLES: &str = "Examples:
  cargo sim diff a.jsonl b.jsonl                          two traces: the first event that differs, with both lines
  cargo sim diff ties --seed 3 --planted wrong_tie_break  a run without a slip and with it
  cargo sim diff ties --seed 3 --against-seed 4 --loose --only engine
  cargo sim diff a.jsonl b.jsonl --json                   one JSON object
Exit codes: 0 equal, 1 not, 2 the question made no sense.";

const TRACE_EXAMPLES: &str = "Examples:
  cargo sim trace partition_heal --seed 42 --only engine,faults      a line of columns for each event
  cargo sim trace out/plan-7 --cone violation                        only what can have led to the violation
  cargo sim trace partition_heal --seed 42 --cone 1830               only what can have led to the event of line 1830
  cargo sim trace out/plan-7 --format perfetto --out t.json          for ui.perfetto.dev
  cargo sim trace out/plan-7 --format shiviz --only engine --out t.log
  cargo sim trace --from out/plan-7/trace.jsonl                      a trace that is there already";

const REPORT_EXAMPLES: &str = "Examples:
  cargo sim report partition_heal --seed 42 --out run.html    one page, which needs no network
  cargo sim report out/plan-7                                 of a kept failure, beside it
  cargo sim report --plan 7 --planted skipped_undo --out F.html";

const SWEEP_EXAMPLES: &str = "Examples:
  cargo sim sweep --seeds 0..1000000 --time 10m --jobs 2 --out sweep         plans; ended at any time, the same command goes on
  cargo sim sweep partition_heal --seeds 0..10000 --out sweep                one scenario
  cargo sim sweep --seeds 0..1000000 --shard 3/100 --out sweep               one part of a hundred: docs/sweeps
  cargo sim merge sweep                                                      what all parts came to
Exit codes: 0 nothing failed, 1 something did, 2 the question made no sense.";

const MERGE_EXAMPLES: &str = "Examples:
  cargo sim merge sweep                            what all parts in a folder came to, failures grouped by cause
  cargo sim merge part-0 part-1 --out all --json   parts of several folders as one, with the smallest plan of each cause";

const CHECK_LOG_EXAMPLES: &str = "Examples:
  cargo sim check-log ./data --key 06b2..                 the store of a database, which is only read
  cargo sim check-log ./data --key 06b2.. --encryption-key 0707.. --json
  node sim/node/export.js ./corestore > logs.jsonl        in a project with corestore 7: the logs of a store of Node
  cargo sim check-log logs.jsonl --key 06b2..             whether they are whole, signed, and what the model makes of them
It opens a copy without peers and compares order, weights, records and view with the reference model. The model knows
the operations of the simulator's own apply function (workload::JsonApply).";

const WHY_EXAMPLES: &str = "Examples:
  cargo sim why out/plan-7                                  when its failure became inevitable
  cargo sim why short_lives --planted acknowledged_before_sync
  cargo sim why --plan 7 --futures 24 --runs 500 --json     one JSON object";

const DRAW_EXAMPLES: &str = "Examples:
  cargo sim draw --seed 7                     prints plan 7
  cargo sim draw --seed 7 --out plan.toml     writes it; `cargo sim run plan.toml --seed 7` runs it";

const LIST_EXAMPLES: &str = "Examples:
  cargo sim list                              the scenarios that there are
  cargo sim list --points --json              which runs of the last `cargo sim` reached which rare states";

const META_EXAMPLES: &str = "Examples:
  cargo sim meta partition_heal --seed 42     both traces, byte by byte
  cargo sim meta --plans 0..32                plans on one thread and on two; reports and hashes of traces
  cargo sim meta --plans 0..32 --against target/debug/autobee-sim    with another build of this program";

/// Replays Autobee databases through partitions, crashes and skewed clocks, and checks that they agree.
#[derive(Debug, Parser)]
#[command(
    name = "cargo sim",
    bin_name = "cargo sim",
    version,
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true
)]
struct Command {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    all: AllArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs a scenario with one seed or many.
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Plays histories: what peers write and hear, step by step, held against the model.
    #[command(after_help = HISTORY_EXAMPLES)]
    History(histories::HistoryArgs),
    /// Looks for the smallest scenario that fails in the same way.
    #[command(after_help = SHRINK_EXAMPLES)]
    Shrink(ShrinkArgs),
    /// Runs a kept failure again, and says where this build first leaves the recorded run.
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay {
        /// The folder of the failure, or a file in it.
        path: PathBuf,
        /// Prints a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Says why a run fails: what differs, between whom, since when, and what happened before.
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(explain::ExplainArgs),
    /// Says where two traces part, or a run with a slip and without it.
    #[command(after_help = DIFF_EXAMPLES)]
    Diff(diff::DiffArgs),
    /// Writes the events of a run in a format of choice, all of them or what led to one.
    #[command(after_help = TRACE_EXAMPLES)]
    Trace(trace::TraceArgs),
    /// Writes a run as one page of HTML: lanes, faults, undos, orders, views, with search and a scrubber.
    #[command(after_help = REPORT_EXAMPLES)]
    Report(report::ReportArgs),
    /// Runs many seeds as a process that can be ended and goes on, and that may be one of many.
    #[command(after_help = SWEEP_EXAMPLES)]
    Sweep(sweep::SweepArgs),
    /// Says what all parts of a sweep came to, with failures grouped by cause.
    #[command(after_help = MERGE_EXAMPLES)]
    Merge(merge::MergeArgs),
    /// Compares what a real store holds with the reference model.
    #[command(after_help = CHECK_LOG_EXAMPLES)]
    CheckLog(check_log::CheckLogArgs),
    /// Finds the moment at which a failure became inevitable.
    #[command(after_help = WHY_EXAMPLES)]
    Why(why::WhyArgs),
    /// Writes a generated plan as a scenario file.
    #[command(after_help = DRAW_EXAMPLES)]
    Draw {
        /// The seed that generates it.
        #[arg(long)]
        seed: u64,
        /// The file; printed when absent.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Lists the scenarios, or the rare states that runs reached.
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Prints a JSON array.
        #[arg(long)]
        json: bool,
        /// Lists the `sometimes` points instead: which runs of the last `cargo sim` reached them, how often.
        #[arg(long)]
        points: bool,
        /// Where the last results are kept.
        #[arg(long, value_name = "DIR", default_value = "out")]
        out: PathBuf,
    },
    /// Runs the same seeds in two processes and compares every byte of their traces.
    #[command(after_help = META_EXAMPLES)]
    Meta(MetaArgs),
}

/// What a run without a subcommand takes.
#[derive(Debug, Args)]
struct AllArgs {
    /// Generated plans to run after the scenarios: those of the seeds below this.
    #[arg(long, value_name = "N", default_value_t = all::PLANS)]
    plans: u64,
    /// Histories to play after the plans: those of the seeds below this; three for each plan when absent.
    #[arg(long, value_name = "N")]
    histories: Option<u64>,
    /// Slips of the engine to plant in every run, to prove that it finds them.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    planted: Vec<String>,
    /// Begins no further run after the first failure.
    #[arg(long)]
    fail_fast: bool,
    /// Keeps the first failure as it is.
    #[arg(long)]
    no_shrink: bool,
    /// Prints a JSON object as each run ends, and one for all; the text goes to the errors.
    #[arg(long)]
    json: bool,
    /// Runs at the same time. The results do not depend on it.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Where failures and results are kept.
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The scenario file, or its name.
    file: Option<PathBuf>,
    /// Runs the plan that this seed generates instead of a file, with this seed unless another is given.
    #[arg(long, value_name = "N", conflicts_with = "file")]
    plan: Option<u64>,
    /// Runs the plans that these seeds generate, A..B without B.
    #[arg(long, value_name = "A..B", value_parser = parse_seeds,
          conflicts_with_all = ["file", "plan", "seed", "seeds", "trace"])]
    plans: Option<std::ops::Range<u64>>,
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
    /// Only these lines of the trace. Its hash stays that of all.
    #[arg(
        long,
        value_name = "TOPIC,..",
        value_enum,
        value_delimiter = ',',
        requires = "trace"
    )]
    trace_only: Vec<LineTopic>,
    /// Slips of the engine to plant, to prove that the run finds them.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    planted: Vec<String>,
    /// Keeps the first failure of a sweep as it is.
    #[arg(long)]
    no_shrink: bool,
    /// Seeds that run at the same time. The results do not depend on it.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Where failures are kept.
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct MetaArgs {
    /// The scenario file, or its name.
    #[arg(required_unless_present = "plans")]
    file: Option<PathBuf>,
    /// The seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Compares the plans that these seeds generate, A..B without B, on one thread and on two.
    #[arg(long, value_name = "A..B", value_parser = parse_seeds, conflicts_with_all = ["file", "seed"])]
    plans: Option<std::ops::Range<u64>>,
    /// The program of the second process, another build of this one.
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,
    /// Prints a JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ShrinkArgs {
    /// The scenario file, or its name.
    file: PathBuf,
    /// The seed with which it fails.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The file for the smallest scenario; printed when absent.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The most seconds that it may take.
    #[arg(long, value_name = "N", default_value_t = shrink::SECONDS)]
    seconds: u64,
    /// The most candidates that it may run.
    #[arg(long, value_name = "N", default_value_t = shrink::RUNS)]
    runs: u64,
}

/// Why a command ended early.
enum CliError {
    /// The question made no sense.
    Usage(String),
    /// It did, and the answer is bad; what there is to say has been said.
    Bad,
}

pub(crate) fn main() -> ExitCode {
    // Usage errors leave with 2 from here.
    let command = Command::parse();
    let outcome = match command.verb {
        None => all::run_all(&command.all),
        Some(Verb::Run(args)) => run::run(&args),
        Some(Verb::History(args)) => histories::run(&args),
        Some(Verb::Shrink(args)) => shrink::shrink(&args),
        Some(Verb::Replay { path, json }) => replay::replay(&path, json),
        Some(Verb::Explain(args)) => explain::explain(&args),
        Some(Verb::Diff(args)) => diff::diff(&args),
        Some(Verb::Trace(args)) => trace::trace(&args),
        Some(Verb::Report(args)) => report::report(&args),
        Some(Verb::Sweep(args)) => sweep::sweep(&args),
        Some(Verb::Merge(args)) => merge::merge(&args),
        Some(Verb::CheckLog(args)) => check_log::check_log(&args),
        Some(Verb::Why(args)) => why::search(&args),
        Some(Verb::Draw { seed, out }) => draw::draw(seed, out.as_deref()),
        Some(Verb::List {
            json,
            points: true,
            out,
            ..
        }) => points::list(&out, json),
        Some(Verb::List { json, .. }) => list::list(json),
        Some(Verb::Meta(args)) => meta::meta(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(CliError::Bad) => ExitCode::from(1),
        Err(CliError::Usage(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

/// A scenario by its file or its name, and where it is.
fn load(file: &Path) -> Result<(Scenario, PathBuf), CliError> {
    let file = files::locate(file)?;
    let scenario = Scenario::load(&file).map_err(|error| CliError::Usage(error.to_string()))?;
    Ok((scenario, file))
}

/// The scenario with slips planted. They are checked as those in a file are.
fn plant(mut scenario: Scenario, planted: &[String]) -> Result<Scenario, CliError> {
    if planted.is_empty() {
        return Ok(scenario);
    }
    scenario.planted.extend(planted.iter().cloned());
    Scenario::parse(&scenario.name, &scenario.to_toml()).map_err(|error| CliError::Usage(error.to_string()))
}

/// The line that repeats a run.
fn reproduce(file: &Path, seed: u64) -> String {
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

/// A number and its noun.
fn count(number: usize, one: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {one}{ending}")
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
