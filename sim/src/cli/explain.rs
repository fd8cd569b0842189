//! `explain`: why a run fails, on one screen.

use autobee_sim::explain::Observed;
use clap::Args;

use super::CliError;
use super::target::RunTarget;

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    target: RunTarget,
    /// Prints a JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn explain(args: &ExplainArgs) -> Result<(), CliError> {
    let target = args.target.load()?;
    let explanation = Observed::run(&target.scenario, target.seed).explanation();
    if args.json {
        println!("{}", serde_json::to_string(&explanation).unwrap_or_default());
    } else {
        println!("{explanation}");
    }
    if explanation.failure.is_none() {
        return Ok(());
    }
    eprintln!("REPRODUCE WITH cargo sim run {}", target.arguments);
    Err(CliError::Bad)
}
