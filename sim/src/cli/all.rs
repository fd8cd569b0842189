//! The main job without arguments, and the list of scenarios.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::run::sweep_scenario;
use super::{Failure, load, threads_default};

/// Seeds of each scenario when nothing is asked for.
const SEEDS: u64 = 8;

const FOLDERS: &[&str] = &["fast", "regress"];

pub(super) fn run_all() -> Result<(), Failure> {
    let mut failed = 0;
    let mut runs = 0;
    for file in scenarios()? {
        let scenario = load(&file)?;
        failed += sweep_scenario(&scenario, &file, 0..SEEDS, threads_default(), false);
        runs += SEEDS;
    }
    println!("{runs} runs, {failed} failed");
    if failed == 0 { Ok(()) } else { Err(Failure::Bad) }
}

pub(super) fn list(json: bool) -> Result<(), Failure> {
    let mut all = Vec::new();
    for file in scenarios()? {
        let scenario = load(&file)?;
        if !json {
            println!(
                "{:45} {} replicas  {}",
                file.display(),
                scenario.replicas,
                scenario.about
            );
        }
        all.push(json!({
            "file": file.display().to_string(),
            "name": scenario.name,
            "about": scenario.about,
            "replicas": scenario.replicas,
        }));
    }
    if json {
        println!("{}", serde_json::Value::Array(all));
    }
    Ok(())
}

/// All scenario files below the current folder, sorted.
fn scenarios() -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        let folder = Path::new("scenarios").join(folder);
        #[expect(
            clippy::disallowed_methods,
            reason = "scenario files lie outside the simulated world"
        )]
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        let found = entries.flatten().map(|entry| entry.path());
        files.extend(found.filter(|path| path.extension().is_some_and(|ending| ending == "toml")));
    }
    if files.is_empty() {
        return Err(Failure::Usage(
            "no scenarios below scenarios/fast: run this in the root of the repository".into(),
        ));
    }
    files.sort();
    Ok(files)
}
