//! Rare states that are worth reaching: which runs reached them, how often.

use std::collections::BTreeMap;
use std::path::Path;

use autobee_sim::Report;
use serde::{Deserialize, Serialize};

use super::{CliError, count, files};

/// The file of the last results, in the folder of results.
const FILE: &str = "points.json";

/// Results of one run without a subcommand.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct PointsReport {
    /// How many runs there were.
    pub(super) runs: u64,
    /// How many of them were generated plans.
    pub(super) plans: u64,
    pub(super) points: BTreeMap<String, PointReport>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct PointReport {
    /// How often it was seen in all runs.
    pub(super) sights: u64,
    /// How many runs saw it.
    pub(super) runs: u64,
    /// How many seeds of each scenario saw it.
    pub(super) scenarios: BTreeMap<String, u64>,
    /// How many plans saw it.
    pub(super) plans: u64,
    /// The first plan that saw it.
    pub(super) first_plan: Option<u64>,
}

impl PointsReport {
    /// Counts what one run saw; `plan` is its number if it was a generated one.
    pub(super) fn add(&mut self, report: &Report, plan: Option<u64>) {
        self.runs += 1;
        self.plans += u64::from(plan.is_some());
        for (name, sights) in &report.points {
            let point = self.points.entry((*name).to_string()).or_default();
            if *sights == 0 {
                continue;
            }
            point.sights += sights;
            point.runs += 1;
            match plan {
                Some(number) => {
                    point.plans += 1;
                    point.first_plan = Some(point.first_plan.map_or(number, |first| first.min(number)));
                }
                None => *point.scenarios.entry(report.scenario.clone()).or_default() += 1,
            }
        }
    }

    /// Points that no run saw.
    pub(super) fn unreached(&self) -> Vec<&str> {
        let unreached = self.points.iter().filter(|(_, point)| point.sights == 0);
        unreached.map(|(name, _)| name.as_str()).collect()
    }

    pub(super) fn save(&self, out: &Path) -> Result<(), CliError> {
        files::make_folder(out)?;
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        files::write(&out.join(FILE), text.as_bytes())
    }
}

/// Prints the last results.
pub(super) fn list(out: &Path, json: bool) -> Result<(), CliError> {
    let path = out.join(FILE);
    let bytes = files::read(&path).map_err(|_| {
        CliError::Usage(format!(
            "no results in {}: `cargo sim` makes them, and this shows which of its runs reached which points",
            path.display()
        ))
    })?;
    let points: PointsReport = serde_json::from_slice(&bytes)
        .map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))?;
    if json {
        println!("{}", serde_json::to_value(&points).unwrap_or_default());
        return Ok(());
    }
    for (name, point) in &points.points {
        let PointReport { sights, runs, .. } = point;
        if *sights == 0 {
            println!("{name:45} NEVER");
            continue;
        }
        let mut by: Vec<String> = point
            .scenarios
            .iter()
            .map(|(scenario, seeds)| format!("{scenario} {seeds}"))
            .collect();
        if let Some(first) = point.first_plan {
            by.push(format!("plans {} (first {first})", point.plans));
        }
        println!("{name:45} {sights:>9} times in {runs:>5} runs: {}", by.join(", "));
    }
    println!(
        "{}, {} runs, {} plans",
        count(points.points.len(), "point"),
        points.runs,
        points.plans
    );
    Ok(())
}
