//! The command line as people and scripts meet it: exit codes, JSON, and the line that repeats a failure.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Two replicas on so slow a path that they cannot agree in the time that they get.
const HOPELESS: &str = r#"
about = "no time to agree"
replicas = 2
converge_ms = 0

[network]
latency_us_min = 5000000
latency_us_max = 5000000

[[workload]]
replicas = [0, 1]
appends = 3
to_ms = 100
"#;

#[test]
fn one_seed_as_json_with_its_trace() {
    let trace = Scratch::new("trace.jsonl");
    let output = sim(&[
        "run",
        "../scenarios/fast/skewed_clocks.toml",
        "--seed",
        "42",
        "--json",
        "--trace",
        trace.path(),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for field in [
        "scenario",
        "seed",
        "replicas",
        "entries",
        "converged",
        "trace_hash",
        "events",
        "sim_ms",
        "wall_ms",
        "states",
    ] {
        assert!(!report[field].is_null(), "{field}: {report}");
    }
    #[expect(clippy::disallowed_methods, reason = "the trace is a file for people")]
    let bytes = std::fs::read(trace.path()).unwrap();
    assert_eq!(report["trace_hash"], autobee::crypto::hash(&[&bytes]).to_hex());
}

#[test]
fn a_failure_says_how_to_repeat_it() {
    let file = Scratch::with("hopeless.toml", HOPELESS);
    let output = sim(&["run", file.path(), "--seeds", "3..5"]);
    assert_eq!(output.status.code(), Some(1));
    let line = format!("REPRODUCE WITH cargo sim run {} --seed 3", file.path());
    assert!(text(&output.stderr).contains(&line), "{}", text(&output.stderr));
}

#[test]
fn questions_that_make_no_sense_are_refused_with_2() {
    let typo = Scratch::with("typo.toml", "about = \"\"\nreplicas = 2\nreplicsa = 3\n");
    for (args, named) in [
        (vec!["run", "nowhere.toml"], "nowhere.toml"),
        (vec!["run", typo.path()], "line 3"),
        (vec!["run", "x.toml", "--seeds", "5..5"], "holds no seed"),
        (vec!["run", "x.toml", "--seed", "1", "--seeds", "1..2"], "--seeds"),
        (vec!["fly"], "fly"),
    ] {
        let output = sim(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            text(&output.stderr).contains(named),
            "{args:?}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn the_same_seed_in_two_processes() {
    let output = sim(&[
        "meta",
        "../scenarios/fast/late_joiner.toml",
        "--seed",
        "7",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdict["equal"], true);
}

#[test]
fn help_has_examples() {
    let output = sim(&["--help"]);
    assert!(text(&output.stdout).contains("Examples:"));
}

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_autobee-sim"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(args)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("autobee-cli-{}-{name}", std::process::id())))
    }

    fn with(name: &str, text: &str) -> Self {
        let scratch = Self::new(name);
        #[expect(clippy::disallowed_methods, reason = "a scenario file of this test")]
        std::fs::write(&scratch.0, text).unwrap();
        scratch
    }

    fn path(&self) -> &str {
        Path::to_str(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        #[expect(clippy::disallowed_methods, reason = "a file of this test")]
        let _ = std::fs::remove_file(&self.0);
    }
}
