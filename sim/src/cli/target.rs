//! What a command is asked about: a scenario file, a generated plan, or a kept failure, with a seed.

use std::path::{Path, PathBuf};

use autobee_sim::Scenario;
use clap::Args;

use super::record::{FILE, FailureRecord, PLAN, SHRUNK};
use super::{CliError, load, plant};

/// The run that a command is about.
#[derive(Debug, Args)]
pub(super) struct RunTarget {
    /// The scenario file, its name, or the folder of a kept failure.
    pub(super) file: Option<PathBuf>,
    /// The plan that this seed generates instead of a file, with this seed unless another is given.
    #[arg(long, value_name = "N", conflicts_with = "file")]
    pub(super) plan: Option<u64>,
    /// The seed; that of the failure when a kept one is named, else 0.
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// Slips of the engine to plant, to prove that the command shows them.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub(super) planted: Vec<String>,
}

/// A run that can be made.
pub(super) struct Target {
    pub(super) scenario: Scenario,
    pub(super) seed: u64,
    /// What repeats it, as arguments of `cargo sim run`.
    pub(super) arguments: String,
    /// Where the failure is kept.
    pub(super) folder: Option<PathBuf>,
}

impl RunTarget {
    /// Loads what is asked about.
    pub(super) fn load(&self) -> Result<Target, CliError> {
        let planted = match &*self.planted {
            [] => String::new(),
            names => format!(" --planted {}", names.join(",")),
        };
        if let Some(plan) = self.plan {
            let seed = self.seed.unwrap_or(plan);
            let with = if seed == plan {
                String::new()
            } else {
                format!(" --seed {seed}")
            };
            return Ok(Target {
                scenario: plant(Scenario::generate(plan), &self.planted)?,
                seed,
                arguments: format!("--plan {plan}{with}{planted}"),
                folder: None,
            });
        }
        let Some(file) = &self.file else {
            return Err(CliError::Usage(
                "which run is meant? A scenario file or its name, the folder of a kept failure, or --plan N"
                    .into(),
            ));
        };
        let (file, folder) = kept(file);
        let recorded = folder.as_deref().map(FailureRecord::load).transpose()?;
        let (scenario, file) = load(&file)?;
        let seed = self.seed.or(recorded.map(|record| record.seed)).unwrap_or(0);
        Ok(Target {
            scenario: plant(scenario, &self.planted)?,
            seed,
            arguments: format!("{} --seed {seed}{planted}", file.display()),
            folder,
        })
    }
}

/// The file that is meant by a folder of a failure, and the folder; of a file in such a folder the same.
fn kept(path: &Path) -> (PathBuf, Option<PathBuf>) {
    if path.is_dir() && path.join(FILE).is_file() {
        let small = path.join(SHRUNK);
        let file = if small.is_file() { small } else { path.join(PLAN) };
        return (file, Some(path.to_owned()));
    }
    let folder = path
        .parent()
        .filter(|folder| path.is_file() && folder.join(FILE).is_file());
    (path.to_owned(), folder.map(Path::to_owned))
}
