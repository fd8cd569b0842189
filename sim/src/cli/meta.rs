//! The same seed in two processes: every byte of their traces must be the same.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Failure, load};

pub(super) fn meta(file: &Path, seed: u64, as_json: bool) -> Result<(), Failure> {
    let (scenario, file) = load(file)?;
    let program =
        std::env::current_exe().map_err(|error| Failure::Usage(format!("this program: {error}")))?;
    let mut runs = Vec::new();
    for number in 0..2 {
        let trace = std::env::temp_dir().join(format!("autobee-meta-{}-{number}.jsonl", std::process::id()));
        let run = run_child(&program, &file, seed, &trace);
        #[expect(
            clippy::disallowed_methods,
            reason = "traces are read outside the simulated world"
        )]
        let bytes = std::fs::read(&trace).unwrap_or_default();
        #[expect(
            clippy::disallowed_methods,
            reason = "traces are read outside the simulated world"
        )]
        let _ = std::fs::remove_file(&trace);
        runs.push((run?, bytes));
    }
    let ((first, first_trace), (second, second_trace)) = (&runs[0], &runs[1]);
    let same_trace = first_trace == second_trace && !first_trace.is_empty();
    let same_report = without_wall(first) == without_wall(second);
    let events = first_trace.iter().filter(|byte| **byte == b'\n').count();
    let equal = same_trace && same_report;
    if as_json {
        println!(
            "{}",
            json!({
                "scenario": scenario.name,
                "seed": seed,
                "equal": equal,
                "events": events,
                "trace_hash": [&first["trace_hash"], &second["trace_hash"]],
            })
        );
    } else if equal {
        println!(
            "{} seed {seed}: equal in two processes, {events} events, {} bytes",
            scenario.name,
            first_trace.len()
        );
    } else {
        let different = first_trace
            .split(|byte| *byte == b'\n')
            .zip(second_trace.split(|byte| *byte == b'\n'))
            .position(|(a, b)| a != b);
        println!(
            "{} seed {seed}: DIFFERENT in two processes, first at event {different:?}",
            scenario.name
        );
    }
    if equal { Ok(()) } else { Err(Failure::Bad) }
}

fn run_child(program: &PathBuf, file: &Path, seed: u64, trace: &Path) -> Result<Value, Failure> {
    let output = Command::new(program)
        .arg("run")
        .arg(file)
        .args(["--json", "--seed", &seed.to_string(), "--trace"])
        .arg(trace)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::Usage(format!("{}: {error}", program.display())))?;
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::Usage(format!("the child process printed no report: {error}")))
}

fn without_wall(report: &Value) -> Value {
    let mut report = report.clone();
    if let Some(fields) = report.as_object_mut() {
        fields.remove("wall_ms");
    }
    report
}
