//! `why`: the moment at which a failure became inevitable.

use std::io::IsTerminal as _;

use autobee_sim::{FutureSample, Why, WhyLimits, why};
use clap::Args;
use indicatif::ProgressBar;

use super::target::RunTarget;
use super::{CliError, threads_default};

/// The most runs that may be asked for.
const RUNS_MAX: u64 = 1_000;

/// Events between the last good moment and the first bad one that are shown.
const EVENTS_MAX: usize = 24;

#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    #[command(flatten)]
    target: RunTarget,
    /// The most runs, at most 1,000.
    #[arg(long, value_name = "N", default_value_t = RUNS_MAX, value_parser = clap::value_parser!(u64).range(1..=RUNS_MAX))]
    runs: u64,
    /// Futures that are drawn from each moment.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u64).range(2..=100))]
    futures: u64,
    /// Runs at the same time. What is found does not depend on it.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Prints a JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn search(args: &WhyArgs) -> Result<(), CliError> {
    let target = args.target.load()?;
    let bar = if std::io::stderr().is_terminal() {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    };
    let limits = WhyLimits {
        runs: args.runs,
        futures: args.futures,
        threads: args.threads.unwrap_or_else(threads_default),
    };
    let found = why(&target.scenario, target.seed, limits, |sample: &FutureSample| {
        bar.set_message(format!(
            "from {} ms {} of {} futures fail",
            sample.at_ns / 1_000_000,
            sample.failed,
            sample.of
        ));
        bar.tick();
    });
    bar.finish_and_clear();
    let found = found.map_err(|error| CliError::Usage(format!("{}: {error}", target.arguments)))?;
    if args.json {
        println!("{}", serde_json::to_string(&found).unwrap_or_default());
    } else {
        print(&found, &target.scenario.name, target.seed);
    }
    eprintln!("REPRODUCE WITH cargo sim run {}", target.arguments);
    Err(CliError::Bad)
}

fn print(found: &Why, name: &str, seed: u64) {
    let ms = |nanos: u64| autobee_sim::events::milliseconds(nanos);
    println!(
        "{name} seed {seed}: `{}`, found at {} ms; {} runs",
        found.failure, found.found_ms, found.runs
    );
    println!("futures that fail in the same way, when chance is drawn anew from a moment on:");
    for sample in &found.samples {
        let bar = "#".repeat(usize::try_from(sample.failed).unwrap_or(0));
        let more = if sample.of < found.futures {
            "  (then one was good)"
        } else {
            ""
        };
        println!(
            "  from {:>12} ms  {:>2} of {:>2}  {bar}{more}",
            ms(sample.at_ns),
            sample.failed,
            sample.of
        );
    }
    match found.avoidable_ns {
        None => println!(
            "inevitable from the start: whatever chance does, this plan leads to it (it is the plan or the code)"
        ),
        Some(avoidable) => {
            println!(
                "avoidable until {} ms, inevitable from {} ms on{}; between them:",
                ms(avoidable),
                ms(found.inevitable_ns),
                if found.is_exact {
                    ""
                } else {
                    " (the runs were used up before it was exact)"
                }
            );
            let skipped = found.events.len().saturating_sub(EVENTS_MAX);
            if skipped > 0 {
                println!("  ... {skipped} events more");
            }
            for event in &found.events[skipped..] {
                println!("  {event}");
            }
        }
    }
}
