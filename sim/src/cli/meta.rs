//! The same seeds in two processes: every byte of their traces must be the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{CliError, MetaArgs, load};

pub(super) fn meta(args: &MetaArgs) -> Result<(), CliError> {
    let this = std::env::current_exe().map_err(|error| CliError::Usage(format!("this program: {error}")))?;
    let other = args.against.clone().unwrap_or_else(|| this.clone());
    match (&args.plans, &args.file) {
        (Some(plans), _) => plans_twice(&[this, other], plans, args.json),
        (None, Some(file)) => seed_twice(&[this, other], file, args.seed, args.json),
        (None, None) => Err(CliError::Usage(
            "what is to be compared? A scenario file or its name, or --plans A..B".into(),
        )),
    }
}

/// One seed of a scenario, whose traces are compared byte by byte.
fn seed_twice(programs: &[PathBuf; 2], file: &Path, seed: u64, as_json: bool) -> Result<(), CliError> {
    let (scenario, file) = load(file)?;
    let mut runs = Vec::new();
    for (number, program) in programs.iter().enumerate() {
        let trace = std::env::temp_dir().join(format!("autobee-meta-{}-{number}.jsonl", std::process::id()));
        let run = run_child(program, &file, seed, &trace);
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
    if equal { Ok(()) } else { Err(CliError::Bad) }
}

/// Many generated plans, on one thread in the first process and on two in the second. Their whole reports are compared, and
/// in them the hashes over every byte of the traces.
fn plans_twice(programs: &[PathBuf; 2], plans: &std::ops::Range<u64>, as_json: bool) -> Result<(), CliError> {
    let children = [("1", &programs[0]), ("2", &programs[1])].map(|(threads, program)| {
        let mut command = Command::new(program);
        command
            .args(["run", "--json", "--no-shrink", "--threads", threads, "--plans"])
            .arg(format!("{}..{}", plans.start, plans.end));
        reports(program, command)
    });
    let [first, second] = children;
    let (first, second) = (first?, second?);
    let expected = usize::try_from(plans.end - plans.start).unwrap_or(usize::MAX);
    let different: Vec<u64> = plans
        .clone()
        .filter(|seed| !first.contains_key(seed) || first.get(seed) != second.get(seed))
        .collect();
    let events: u64 = first
        .values()
        .filter_map(|report| report["events"].as_u64())
        .sum();
    if as_json {
        println!(
            "{}",
            json!({
                "plans": expected,
                "equal": different.is_empty(),
                "different": different,
                "events": events,
            })
        );
    } else if different.is_empty() {
        println!("{expected} plans: equal in two processes, on one thread and on two, {events} events");
    } else {
        println!("{expected} plans: DIFFERENT in two processes: {different:?}");
    }
    if different.is_empty() {
        Ok(())
    } else {
        Err(CliError::Bad)
    }
}

/// What a process reports of each seed, but for real time.
fn reports(program: &Path, mut command: Command) -> Result<BTreeMap<u64, Value>, CliError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| CliError::Usage(format!("{}: {error}", program.display())))?;
    let mut reports = BTreeMap::new();
    for line in output.stdout.split(|byte| *byte == b'\n') {
        if let Ok(report) = serde_json::from_slice::<Value>(line)
            && let Some(seed) = report["seed"].as_u64()
        {
            reports.insert(seed, without_wall(&report));
        }
    }
    if reports.is_empty() {
        return Err(CliError::Usage(format!(
            "{} printed no report: {}",
            program.display(),
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    Ok(reports)
}

fn run_child(program: &Path, file: &Path, seed: u64, trace: &Path) -> Result<Value, CliError> {
    let output = Command::new(program)
        .arg("run")
        .arg(file)
        .args(["--json", "--seed", &seed.to_string(), "--trace"])
        .arg(trace)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| CliError::Usage(format!("{}: {error}", program.display())))?;
    serde_json::from_slice(&output.stdout)
        .map_err(|error| CliError::Usage(format!("the child process printed no report: {error}")))
}

fn without_wall(report: &Value) -> Value {
    let mut report = report.clone();
    if let Some(fields) = report.as_object_mut() {
        fields.remove("wall_ms");
    }
    report
}
