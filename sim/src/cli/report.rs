//! `report`: a run as one page of HTML.

use std::path::{Path, PathBuf};

use autobee_sim::Scenario;
use autobee_sim::explain::Observed;
use clap::Args;
use serde_json::json;

use super::record::{PLAN, SHRUNK};
use super::target::RunTarget;
use super::{CliError, files};

/// The name of the page beside a kept failure.
pub(super) const PAGE: &str = "report.html";

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    target: RunTarget,
    /// The file; `report.html` beside a kept failure when absent.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Prints a JSON object about the page.
    #[arg(long)]
    json: bool,
}

pub(super) fn report(args: &ReportArgs) -> Result<(), CliError> {
    let target = args.target.load()?;
    let path = match (&args.out, &target.folder) {
        (Some(path), _) => path.clone(),
        (None, Some(folder)) => folder.join(PAGE),
        (None, None) => PathBuf::from(PAGE),
    };
    let shrunk = target.folder.as_deref().and_then(shrunk);
    let (failure, bytes, events) = write(&target.scenario, target.seed, shrunk.as_deref(), &path)?;
    if args.json {
        println!(
            "{}",
            json!({
                "file": path.display().to_string(),
                "bytes": bytes,
                "events": events,
                "failure": failure,
            })
        );
    } else {
        println!("{}: {events} events, {bytes} bytes", path.display());
    }
    Ok(())
}

/// Runs a scenario once more and writes its page. Returns what failed, and how many bytes and events there are.
pub(super) fn write(
    scenario: &Scenario,
    seed: u64,
    shrunk: Option<&str>,
    path: &Path,
) -> Result<(Option<String>, usize, usize), CliError> {
    let observed = Observed::run(scenario, seed);
    let told = observed.explanation();
    let page = autobee_sim::report::html(&observed, &told, shrunk);
    files::write(path, page.as_bytes())?;
    Ok((told.failure, page.len(), observed.lines().len()))
}

/// The shrunk plan in the folder of a failure.
fn shrunk(folder: &Path) -> Option<String> {
    let small = folder.join(SHRUNK);
    let file = if small.is_file() { small } else { folder.join(PLAN) };
    let bytes = files::read(&file).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
