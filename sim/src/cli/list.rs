//! `list`: the scenarios that there are.

use autobee_sim::Scenario;
use serde_json::json;

use super::{CliError, files};

pub(super) fn list(json: bool) -> Result<(), CliError> {
    let mut all = Vec::new();
    for file in files::scenarios(None)? {
        let scenario = Scenario::load(&file).map_err(|error| CliError::Usage(error.to_string()))?;
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
