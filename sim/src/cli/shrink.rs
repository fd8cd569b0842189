//! `shrink`: the smallest scenario that fails in the same way.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use autobee_sim::{Scenario, Shrunk, TraceSink, fails_by, failure, run_caught};
use indicatif::ProgressBar;

use super::{CliError, ShrinkArgs, count, files, load, reproduce};

/// The most seconds and candidates that shrinking takes unless more are asked for.
pub(super) const SECONDS: u64 = 60;
pub(super) const RUNS: u64 = 20_000;

pub(super) fn shrink(args: &ShrinkArgs) -> Result<(), CliError> {
    let (scenario, file) = load(&args.file)?;
    let seed = args.seed;
    let Some(name) = quietly(|| failure(&run_caught(&scenario, seed, TraceSink::Discard))) else {
        return Err(CliError::Usage(format!(
            "{} does not fail with seed {seed}: there is nothing to shrink",
            file.display()
        )));
    };
    let shrunk = shrink_by(&scenario, seed, &name, args.seconds, args.runs);
    eprintln!("{name}: {}", describe(&shrunk));
    let text = shrunk.scenario.to_toml();
    match &args.out {
        Some(path) => {
            files::write(path, text.as_bytes())?;
            eprintln!("{}", reproduce(path, seed));
        }
        None => print!("{text}"),
    }
    Ok(())
}

/// Shrinks a scenario that fails by what has this name.
pub(super) fn shrink_by(scenario: &Scenario, seed: u64, name: &str, seconds: u64, runs: u64) -> Shrunk {
    let bar = if std::io::stderr().is_terminal() {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    };
    let started = now();
    let limit = Duration::from_secs(seconds);
    let shrunk = quietly(|| {
        autobee_sim::shrink(
            scenario,
            seed,
            |candidate| {
                let fails = fails_by(&run_caught(candidate, seed, TraceSink::Discard), name);
                if fails {
                    bar.set_message(size(candidate));
                }
                fails
            },
            |made| {
                bar.tick();
                made < runs && now().saturating_sub(started) < limit
            },
        )
    });
    bar.finish_and_clear();
    shrunk
}

/// How large the smallest scenario is, and what it took.
pub(super) fn describe(shrunk: &Shrunk) -> String {
    let end = if shrunk.is_minimal {
        "nothing more can be taken away"
    } else {
        "the budget is spent"
    };
    format!(
        "shrunk to {} in {} runs, {end}",
        size(&shrunk.scenario),
        shrunk.runs
    )
}

fn size(scenario: &Scenario) -> String {
    format!(
        "{}, {}, {}",
        count(scenario.operations(), "operation"),
        count(scenario.faults(), "fault"),
        count(scenario.replicas, "replica")
    )
}

/// Does something during which runs may panic, without a word about each.
pub(super) fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = work();
    std::panic::set_hook(hook);
    result
}

/// Real time, for people.
#[expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "people wait in real time"
)]
pub(super) fn now() -> Duration {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    since.unwrap_or_default()
}

/// True for a file of a kept failure.
pub(super) fn is_kept(file: &Path) -> bool {
    file.with_file_name(super::record::FILE).is_file()
}
