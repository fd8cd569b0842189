//! Kept failures: what is needed to see one again, in a folder of its own.
//!
//! `plan.toml` is the scenario as it ran, `shrunk.toml` the smallest one that fails in the same way, `trace.jsonl` the
//! trace of the smaller of both, `report.html` shows that, and `failure.json` says the rest.

use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use autobee_sim::{Scenario, SeedResult, Shrunk, TraceSink, failure, run_caught};
use serde::{Deserialize, Serialize};

use super::shrink::quietly;
use super::{CliError, files};

pub(super) const FILE: &str = "failure.json";
pub(super) const PLAN: &str = "plan.toml";
pub(super) const SHRUNK: &str = "shrunk.toml";
pub(super) const TRACE: &str = "trace.jsonl";

/// `failure.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FailureRecord {
    pub(super) scenario: String,
    /// The file that it was run from; none for a generated plan.
    pub(super) source: Option<String>,
    pub(super) seed: u64,
    /// The commit that was checked out, if there is a repository.
    pub(super) commit: Option<String>,
    /// The version of the engine.
    pub(super) engine: String,
    /// What failed, by its name.
    pub(super) invariant: String,
    /// Of the scenario as it ran.
    #[serde(flatten)]
    pub(super) run: RunRecord,
    /// Of the smallest one, if it was looked for.
    pub(super) shrunk: Option<ShrunkRun>,
}

/// What one run came to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct RunRecord {
    pub(super) violations: Vec<ViolationRecord>,
    /// Why it could not be carried out.
    pub(super) error: Option<String>,
    pub(super) trace_hash: Option<String>,
    pub(super) events: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ViolationRecord {
    pub(super) invariant: String,
    pub(super) what: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ShrunkRun {
    #[serde(flatten)]
    pub(super) run: RunRecord,
    pub(super) operations: usize,
    pub(super) faults: usize,
    pub(super) replicas: usize,
    /// How many candidates were run.
    pub(super) runs: u64,
    pub(super) is_minimal: bool,
}

impl RunRecord {
    pub(super) fn new(result: &SeedResult) -> Self {
        match result {
            Ok(report) => Self {
                violations: report
                    .violations
                    .iter()
                    .map(|violation| ViolationRecord {
                        invariant: violation.invariant.to_string(),
                        what: violation.what.clone(),
                    })
                    .collect(),
                error: None,
                trace_hash: Some(report.trace_hash.clone()),
                events: Some(report.events),
            },
            Err(error) => Self {
                error: Some(error.to_string()),
                ..Self::default()
            },
        }
    }
}

impl FailureRecord {
    /// Reads the record in a folder.
    pub(super) fn load(folder: &Path) -> Result<Self, CliError> {
        let path = folder.join(FILE);
        let bytes = files::read(&path)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))
    }
}

/// A failure to be kept.
pub(super) struct KeptFailure<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) source: Option<&'a Path>,
    pub(super) seed: u64,
    pub(super) result: &'a SeedResult,
}

impl KeptFailure<'_> {
    /// The folder of this failure.
    pub(super) fn folder(&self, out: &Path) -> PathBuf {
        Self::folder_of(self.scenario, self.seed, out)
    }

    /// The folder of a failure of this scenario with this seed.
    pub(super) fn folder_of(scenario: &Scenario, seed: u64, out: &Path) -> PathBuf {
        let name: String = scenario.name.chars().map(plain).collect();
        let ending = format!("-{seed}");
        out.join(if name.ends_with(&ending) {
            name
        } else {
            name + &ending
        })
    }

    /// Writes the folder. Returns the file with the smaller scenario.
    pub(super) fn write(&self, out: &Path, shrunk: Option<&Shrunk>) -> Result<PathBuf, CliError> {
        let folder = self.folder(out);
        files::make_folder(&folder)?;
        files::write(&folder.join(PLAN), self.scenario.to_toml().as_bytes())?;
        let small = folder.join(SHRUNK);
        match shrunk {
            Some(shrunk) => files::write(&small, shrunk.scenario.to_toml().as_bytes())?,
            None => files::remove(&small),
        }
        let smaller = shrunk.map_or(self.scenario, |shrunk| &shrunk.scenario);
        let traced = trace(smaller, self.seed, &folder.join(TRACE))?;
        let record = FailureRecord {
            scenario: self.scenario.name.clone(),
            source: self.source.map(|source| source.display().to_string()),
            seed: self.seed,
            commit: commit(),
            engine: env!("CARGO_PKG_VERSION").into(),
            invariant: failure(self.result).unwrap_or_default(),
            run: RunRecord::new(self.result),
            shrunk: shrunk.map(|shrunk| ShrunkRun {
                run: RunRecord::new(&traced),
                operations: shrunk.scenario.operations(),
                faults: shrunk.scenario.faults(),
                replicas: shrunk.scenario.replicas,
                runs: shrunk.runs,
                is_minimal: shrunk.is_minimal,
            }),
        };
        let text = shrunk.map(|shrunk| shrunk.scenario.to_toml());
        super::report::write(
            smaller,
            self.seed,
            text.as_deref(),
            &folder.join(super::report::PAGE),
        )?;
        let text = serde_json::to_string_pretty(&record).unwrap_or_default();
        files::write(&folder.join(FILE), text.as_bytes())?;
        Ok(if shrunk.is_some() {
            small
        } else {
            folder.join(PLAN)
        })
    }
}

/// Runs a scenario with its trace going to a file.
fn trace(scenario: &Scenario, seed: u64, path: &Path) -> Result<SeedResult, CliError> {
    let sink = TraceSink::Write(Box::new(BufWriter::new(files::create(path)?)));
    Ok(quietly(|| run_caught(scenario, seed, sink)))
}

/// A character that every file system takes.
const fn plain(character: char) -> char {
    if character.is_ascii_alphanumeric() || matches!(character, '-' | '_') {
        character
    } else {
        '_'
    }
}

fn commit() -> Option<String> {
    let output = Command::new("git")
        .args(["rev-parse", "HEAD"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
