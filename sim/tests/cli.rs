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
    let out = Folder::new("repeat");
    let output = sim(&[
        "run",
        file.path(),
        "--seeds",
        "3..5",
        "--no-shrink",
        "--out",
        out.path(""),
    ]);
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
fn plans_in_two_processes_and_as_a_sweep() {
    let output = sim(&["meta", "--plans", "3..5", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let verdict = json(&output.stdout);
    assert_eq!(verdict["equal"], true);
    assert_eq!(verdict["plans"], 2);

    let output = sim(&["run", "--plans", "3..5", "--json"]);
    let said = text(&output.stdout);
    let seeds: std::collections::BTreeSet<u64> = said
        .lines()
        .map(|line| json(line.as_bytes())["seed"].as_u64().unwrap())
        .collect();
    assert_eq!(seeds, [3, 4].into());
}

#[test]
fn the_main_job_prints_json_when_asked() {
    let home = Folder::new("json");
    #[expect(clippy::disallowed_methods, reason = "a folder of this test")]
    std::fs::create_dir_all(home.path("scenarios/fast")).unwrap();
    write(
        home.path("scenarios/fast/islands.toml"),
        &read("../scenarios/fast/partition_heal.toml"),
    );
    let output = sim_in(home.path(""), &["--plans", "1", "--json"]);
    let said = text(&output.stdout);
    let lines: Vec<_> = said.lines().map(|line| json(line.as_bytes())).collect();
    assert_eq!(lines.len(), 10, "{said}");
    assert!(
        lines[..9]
            .iter()
            .all(|line| line["converged"] == true && line["wall_ms"].is_u64())
    );
    assert_eq!(lines[9]["runs"], 9);
    assert_eq!(lines[9]["failed"], 0);
}

#[test]
fn help_has_examples() {
    for verb in [
        "",
        "run",
        "shrink",
        "replay",
        "explain",
        "why",
        "diff",
        "trace",
        "report",
        "sweep",
        "merge",
        "check-log",
        "draw",
        "list",
        "meta",
    ] {
        let args: Vec<&str> = [verb, "--help"]
            .into_iter()
            .filter(|arg| !arg.is_empty())
            .collect();
        let output = sim(&args);
        assert_eq!(output.status.code(), Some(0), "{verb}");
        assert!(text(&output.stdout).contains("Examples:"), "{verb}");
    }
}

#[test]
fn scenarios_are_found_by_their_names_and_misspelt_ones_are_guessed() {
    let output = sim(&["run", "skewed_clocks", "--seed", "1", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(json(&output.stdout)["scenario"], "skewed_clocks");
    for (args, meant) in [
        (["run", "skewd_clocks"], "skewed_clocks.toml"),
        (
            ["run", "scenarios/fast/partition_hela.toml"],
            "partition_heal.toml",
        ),
        (["shrink", "tise"], "ties.toml"),
        (["meta", "../scenarios"], "folder"),
    ] {
        let output = sim(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(meant), "{}", text(&output.stderr));
    }
}

#[test]
fn sweeps_print_each_seed_with_its_time_and_all_seeds() {
    let output = sim(&["run", "ties", "--seeds", "2..6", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let lines: Vec<serde_json::Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut seeds: Vec<u64> = lines.iter().map(|line| line["seed"].as_u64().unwrap()).collect();
    seeds.sort_unstable();
    assert_eq!(seeds, [2, 3, 4, 5]);
    assert!(lines.iter().all(|line| line["wall_ms"].as_u64().unwrap() > 0));
}

#[test]
fn a_trace_of_one_topic_has_only_its_lines_and_the_hash_of_all() {
    let out = Folder::new("topics");
    let (all, some) = (out.path("all.jsonl"), out.path("some.jsonl"));
    let whole = sim(&["run", "ties", "--json", "--trace", all]);
    let part = sim(&[
        "run",
        "ties",
        "--json",
        "--trace",
        some,
        "--trace-only",
        "disk,faults",
    ]);
    assert_eq!(
        json(&whole.stdout)["trace_hash"],
        json(&part.stdout)["trace_hash"]
    );
    let events = |path: &str| -> std::collections::BTreeSet<String> {
        let lines = read(path);
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        lines
            .lines()
            .map(|text| line(text)["e"].as_str().unwrap().to_owned())
            .collect()
    };
    let (all, some) = (events(all), events(some));
    assert!(all.contains("deliver") && all.contains("engine"), "{all:?}");
    assert!(some.contains("disk") && some.contains("note"), "{some:?}");
    assert!(!some.contains("deliver") && !some.contains("engine"), "{some:?}");
    let output = sim(&["run", "ties", "--trace-only", "disk"]);
    assert_eq!(output.status.code(), Some(2), "a topic without a trace");
}

#[test]
fn a_drawn_plan_runs_as_the_plan() {
    let out = Folder::new("draw");
    let file = out.path("drawn.toml");
    let output = sim(&["draw", "--seed", "5", "--out", file]);
    assert_eq!(output.status.code(), Some(0));
    let reports = [
        sim(&["run", "--plan", "5", "--json", "--out", out.path("")]),
        sim(&["run", file, "--seed", "5", "--json", "--out", out.path("")]),
    ]
    .map(|output| {
        let mut report = json(&output.stdout);
        report["wall_ms"] = 0.into();
        report
    });
    assert!(reports[0]["trace_hash"].is_string());
    assert_eq!(reports[0], reports[1]);
    assert_eq!(text(&sim(&["draw", "--seed", "5"]).stdout), read(file));
}

/// From the main job to a small scenario that is replayed: with a slip, in a folder with one scenario of its own.
#[test]
fn the_main_job_keeps_and_shrinks_a_failure_that_can_be_replayed() {
    let home = Folder::new("job");
    #[expect(clippy::disallowed_methods, reason = "a folder of this test")]
    std::fs::create_dir_all(home.path("scenarios/fast")).unwrap();
    let islands =
        read("../scenarios/fast/partition_heal.toml").replace("about", "crypto = \"stand-in\"\nabout");
    write(home.path("scenarios/fast/islands.toml"), &islands);
    let output = sim_in(home.path(""), &["--plans", "3", "--planted", "skipped_undo"]);
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}{errors}");
    let last = said.lines().last().unwrap();
    assert!(
        last.starts_with("11 runs, ") && last.contains("the first in run 1"),
        "{last}"
    );
    assert!(
        errors.contains("REPRODUCE WITH cargo sim run out/islands-0/plan.toml --seed 0"),
        "{errors}"
    );

    let record: serde_json::Value =
        serde_json::from_str(&read(home.path("out/islands-0/failure.json"))).unwrap();
    assert_eq!(record["seed"], 0);
    assert!(record["trace_hash"].is_string() && record["events"].is_u64() && record["engine"].is_string());
    assert!(record.get("commit").is_some());
    let invariant = record["invariant"].as_str().unwrap();
    assert_eq!(record["violations"][0]["invariant"], invariant);
    assert!(record["shrunk"]["operations"].as_u64().unwrap() < 20, "{record}");
    assert!(record["shrunk"]["faults"].as_u64().unwrap() < 2, "{record}");

    let replayed = sim_in(home.path(""), &["replay", "out/islands-0"]);
    let said = text(&replayed.stdout);
    assert_eq!(replayed.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("still fails by `{invariant}`")), "{said}");
    assert!(said.contains("event for event"), "{said}");

    // Another trace stands for another build.
    let trace = home.path("out/islands-0/trace.jsonl");
    let lines = read(trace);
    write(trace, &lines.replacen("\"op\":\"list\"", "\"op\":\"look\"", 1));
    let file = home.path("out/islands-0/failure.json");
    write(file, &read(file).replace("trace_hash\": \"", "trace_hash\": \"0"));
    let replayed = sim_in(home.path(""), &["replay", "out/islands-0", "--json"]);
    let said = json(&replayed.stdout);
    assert_eq!(
        (&said["verdict"], &said["same_run"]),
        (&"fails by the same".into(), &false.into())
    );
    assert!(
        said["leaves"]["recorded"].as_str().unwrap().contains("look"),
        "{said}"
    );
    assert!(said["leaves"]["now"].as_str().unwrap().contains("list"), "{said}");

    // Without its slip it is mended.
    let small = home.path("out/islands-0/shrunk.toml");
    write(small, &read(small).replace("planted = [\"skipped_undo\"]", ""));
    let replayed = sim_in(home.path(""), &["replay", "out/islands-0/shrunk.toml"]);
    assert_eq!(replayed.status.code(), Some(0));
    assert!(text(&replayed.stdout).contains("no longer fails"));

    let points = sim_in(home.path(""), &["list", "--points", "--json"]);
    assert_eq!(json(&points.stdout)["plans"], 3, "{}", text(&points.stderr));
    let fast = sim_in(
        home.path(""),
        &[
            "--plans",
            "0",
            "--planted",
            "skipped_undo",
            "--fail-fast",
            "--no-shrink",
            "--threads",
            "1",
        ],
    );
    assert!(
        text(&fast.stdout)
            .lines()
            .last()
            .unwrap()
            .starts_with("1 runs, 1 failed")
    );
}

#[test]
fn shrinking_writes_a_file_that_fails_alike() {
    let out = Folder::new("shrink");
    let (file, small) = (out.path("slip.toml"), out.path("small.toml"));
    let islands = read("../scenarios/fast/partition_heal.toml");
    write(
        file,
        &format!("planted = [\"skipped_undo\"]\ncrypto = \"stand-in\"\n{islands}"),
    );
    let output = sim(&["shrink", file, "--seed", "2", "--out", small, "--runs", "300"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let again = sim(&["run", small, "--seed", "2", "--json", "--out", out.path("out")]);
    assert_eq!(again.status.code(), Some(1));
    let invariant = json(&again.stdout)["violations"][0]["invariant"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        text(&output.stderr).starts_with(&format!("{invariant}: shrunk to ")),
        "{}",
        text(&output.stderr)
    );

    let good = sim(&["shrink", "ties", "--seed", "0"]);
    assert_eq!(good.status.code(), Some(2));
    assert!(
        text(&good.stderr).contains("nothing to shrink"),
        "{}",
        text(&good.stderr)
    );
}

#[test]
fn what_is_not_there_is_said_in_words() {
    let out = Folder::new("empty");
    for (args, named) in [
        (vec!["replay", out.path("")], "no failure is kept there"),
        (
            vec!["list", "--points", "--out", out.path("")],
            "`cargo sim` makes them",
        ),
        (vec!["run"], "--plan"),
        (
            vec!["run", "ties", "--trace", "x", "--trace-only", "weather"],
            "weather",
        ),
        (vec!["--plans", "many"], "many"),
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
fn the_list_has_all_folders() {
    let output = sim(&["list", "--json"]);
    let all = json(&output.stdout);
    let files: Vec<&str> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["file"].as_str().unwrap())
        .collect();
    for folder in ["fast", "planted", "regress"] {
        assert!(
            files.iter().any(|file| file.contains(&format!("/{folder}/"))),
            "{files:?}"
        );
    }
}

fn sim(args: &[&str]) -> Output {
    sim_in(env!("CARGO_MANIFEST_DIR"), args)
}

fn sim_in(folder: &str, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_autobee-sim"))
        .current_dir(folder)
        .args(args)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}: {}", text(bytes)))
}

fn read(path: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "a file of these tests")]
    std::fs::read_to_string(path).unwrap()
}

fn write(path: &str, text: &str) {
    #[expect(clippy::disallowed_methods, reason = "a file of these tests")]
    std::fs::write(path, text).unwrap();
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = Self(std::env::temp_dir().join(format!("autobee-cli-{}-{name}", std::process::id())));
        #[expect(clippy::disallowed_methods, reason = "a folder of these tests")]
        std::fs::create_dir_all(&folder.0).unwrap();
        folder
    }

    /// The path of a file in it. Never freed: a test has few.
    fn path(&self, file: &str) -> &'static str {
        let path = self.0.join(file).to_str().unwrap().to_owned();
        Box::leak(path.into_boxed_str())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is in the folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
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
