//! Looking at failures: what is explained, drawn, compared and swept, as people and scripts meet it.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and works with files of its own"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use autobee::Corestore;
use autobee::db::Autobee;
use autobee::env::{Disk as _, Open};
use autobee_sim::workload::{JsonApply, Op};
use autobee_sim::{World, WorldConfig};
use serde_json::Value;

/// Slips of every layer with a run that finds each.
const SLIPS: &[(&str, &str, u64, &str)] = &[
    ("store", "acknowledged_before_sync", 0, "short_lives"),
    ("store", "torn_tail_accepted", 6, "short_lives"),
    ("hypercore", "unsynced_offer", 0, "short_lives"),
    ("replication", "openings_unseen", 0, "bad_paths"),
    ("engine", "wrong_tie_break", 0, "ties"),
    ("engine", "skipped_undo", 0, "bad_paths"),
    ("engine", "live_weight", 0, "bad_paths"),
    ("bee", "put_of_equal_length_skipped", 0, "attested_after_restart"),
    ("bee", "reverse_leaves_out_its_bound", 0, "attested_after_restart"),
    ("db", "watch_forgets_the_rest", 0, "attested_after_restart"),
    ("db", "alarm_rings_once", 0, "future_entries"),
];

#[test]
fn failures_are_explained_by_replica_entry_and_layer() {
    for (layer, slip, seed, scenario) in SLIPS {
        let seed = seed.to_string();
        let output = sim(&["explain", scenario, "--seed", &seed, "--planted", slip, "--json"]);
        assert_eq!(output.status.code(), Some(1), "{slip}: {}", text(&output.stderr));
        let told = json(&output.stdout);
        let named = |field: &str| told[field].as_array().unwrap().len();
        assert!(named("who") > 0 && named("entries") > 0, "{slip}: {told}");
        let hint = told["layer"]["layer"].as_str().unwrap();
        assert!(hint.contains(layer), "{slip} is of {layer}: {hint}");
        for entry in told["entries"].as_array().unwrap() {
            assert!(entry.as_str().unwrap().contains('@'), "{slip}: {entry}");
        }
    }
}

#[test]
fn an_explanation_has_both_orders_and_the_rule_and_no_keys() {
    let output = sim(&["explain", "ties", "--seed", "0", "--planted", "wrong_tie_break"]);
    let said = text(&output.stdout);
    for part in [
        "  who ", "  since ", "  order ", "  rule ", "  layer ", "weight", "links",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    let is_key = |word: &str| word.len() >= 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut words = said.split(|letter: char| !letter.is_ascii_alphanumeric());
    assert!(!words.any(is_key), "{said}");
    assert!(said.lines().count() <= 60, "{said}");
    assert!(text(&output.stderr).contains("REPRODUCE WITH cargo sim run"));
    let good = sim(&["explain", "ties", "--seed", "0"]);
    assert_eq!(good.status.code(), Some(0));
    assert_eq!(text(&good.stdout), "ties seed 0: nothing fails\n");
}

#[test]
fn a_kept_failure_has_its_page_and_is_explained_by_its_folder() {
    let out = Folder::new("kept");
    let folder = out.path("ties-0");
    let kept = sim(&[
        "run",
        "ties",
        "--planted",
        "wrong_tie_break",
        "--out",
        &out.path(""),
    ]);
    assert_eq!(kept.status.code(), Some(1));
    assert!(text(&kept.stderr).contains("cargo sim explain"));
    let page = std::fs::read_to_string(out.path("ties-0/report.html")).unwrap();
    assert!(page.contains("ties seed 0") && page.len() < 5_000_000);
    let told = json(&sim(&["explain", &folder, "--json"]).stdout);
    assert_eq!((&told["scenario"], &told["seed"]), (&"ties".into(), &0.into()));
    let report = sim(&["report", &folder, "--json"]);
    assert_eq!(report.status.code(), Some(0), "{}", text(&report.stderr));
    assert_eq!(json(&report.stdout)["failure"], told["failure"]);
}

#[test]
fn two_traces_part_at_a_named_event() {
    let diff = |args: &[&str]| {
        let all = [&["diff"], args, &["--json"]].concat();
        let output = sim(&all);
        (output.status.code(), json(&output.stdout))
    };
    let (code, told) = diff(&["ties", "--planted", "wrong_tie_break"]);
    assert_eq!(code, Some(1));
    let common = told["common"].as_u64().unwrap();
    assert_eq!(told["differs"]["first"]["line"].as_u64(), Some(common + 1));
    assert!(!told["engines"].as_object().unwrap().is_empty());

    let folder = Folder::new("diff");
    let (a, b) = (folder.path("a.jsonl"), folder.path("b.jsonl"));
    sim(&["run", "ties", "--trace", &a]);
    std::fs::copy(&a, &b).unwrap();
    assert_eq!(diff(&[&a, &b]).0, Some(0));
    let mut lines: Vec<String> = std::fs::read_to_string(&a)
        .unwrap()
        .lines()
        .map(ToOwned::to_owned)
        .collect();
    lines.insert(50, "{\"t\":1,\"e\":\"note\",\"what\":\"more\"}".into());
    std::fs::write(&b, lines.join("\n")).unwrap();
    let (code, told) = diff(&[&a, &b]);
    assert_eq!((code, told["common"].as_u64()), (Some(1), Some(50)));
    assert_eq!(told["differs"]["second"]["event"]["what"], "more");
    assert_eq!(told["goes_on"]["after"], 1);
}

#[test]
fn a_trace_is_written_in_every_format_and_as_a_cone() {
    let trace = |args: &[&str]| {
        let output = sim(&[&["trace", "partition_heal", "--seed", "1"], args].concat());
        assert_eq!(
            output.status.code(),
            Some(0),
            "{args:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    };
    let all = trace(&["--json"]);
    let lines: Vec<Value> = all.lines().map(|line| json(line.as_bytes())).collect();
    let columns = trace(&[]);
    assert_eq!(columns.lines().count(), lines.len());
    let perfetto = json(trace(&["--format", "perfetto"]).as_bytes());
    assert!(perfetto["traceEvents"].as_array().unwrap().len() > 100);
    let shiviz = trace(&["--format", "shiviz", "--only", "engine"]);
    assert!(shiviz.starts_with("r0 {\"r0\":1}\n"), "{}", &shiviz[..60]);
    // What one replica took of another's log, and what came before it.
    let position = lines
        .iter()
        .position(|line| line["what"] == "taken" && line["r"] != line["core"]);
    let number = (position.unwrap() + 1).to_string();
    let cone = trace(&["--cone", &number, "--json"]);
    let past: Vec<Value> = cone.lines().map(|line| json(line.as_bytes())).collect();
    assert!(past.len() < position.unwrap() && past.len() > 5, "{}", past.len());
    assert_eq!(past.last(), Some(&lines[position.unwrap()]));
    let owner = &lines[position.unwrap()]["core"];
    assert!(
        past.iter()
            .any(|line| line["what"] == "appended" && line["core"] == *owner)
    );
}

#[test]
fn the_moment_of_no_return_is_found_within_its_runs() {
    let output = sim(&[
        "why",
        "short_lives",
        "--planted",
        "acknowledged_before_sync",
        "--futures",
        "6",
        "--runs",
        "150",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let told = json(&output.stdout);
    assert!(told["runs"].as_u64().unwrap() <= 150, "{told}");
    assert_eq!(told["failure"], "acknowledged");
    let found = told["found_ms"].as_u64().unwrap() * 1_000_000;
    let from = told["inevitable_ns"].as_u64().unwrap();
    assert!(from <= found + 1_000_000, "{told}");
    assert!(told["avoidable_ns"].as_u64().is_none_or(|until| until < from));
    let good = sim(&["why", "short_lives"]);
    assert_eq!(good.status.code(), Some(2));
    assert!(text(&good.stderr).contains("does not fail"));
}

#[test]
fn a_sweep_that_was_killed_goes_on_and_counts_nothing_twice() {
    let out = Folder::new("sweep");
    let (folder, file) = (out.path("all"), out.path("all/results-0-of-1.jsonl"));
    let args = [
        "sweep",
        "partition_heal",
        "--seeds",
        "0..40",
        "--jobs",
        "1",
        "--out",
        &folder,
    ];
    let mut child = command(&args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = || std::fs::read_to_string(&file).unwrap_or_default().lines().count();
    for _ in 0..600 {
        if lines() > 3 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // A kill that cannot be caught.
    child.kill().unwrap();
    child.wait().unwrap();
    let before = lines();
    assert!(before > 3, "nothing was run");
    let torn = std::fs::read_to_string(&file).unwrap() + "{\"seed\":39,\"fai";
    std::fs::write(&file, torn).unwrap();
    let output = sim(&[&args[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let told = json(&output.stdout);
    assert_eq!((&told["seeds"], &told["complete"]), (&40.into(), &true.into()));
    let seeds: Vec<u64> = std::fs::read_to_string(&file)
        .unwrap()
        .lines()
        .skip(1)
        .map(|line| json(line.as_bytes())["seed"].as_u64().unwrap())
        .collect();
    let each: std::collections::BTreeSet<u64> = seeds.iter().copied().collect();
    assert_eq!((seeds.len(), each), (40, (0..40).collect()));
    let other = sim(&["sweep", "partition_heal", "--seeds", "0..41", "--out", &folder]);
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).contains("another sweep"));
}

#[test]
fn parts_of_a_sweep_are_the_whole_and_failures_have_causes() {
    let out = Folder::new("parts");
    let sweep = |shard: &str, folder: &str| {
        let folder = out.path(folder);
        let args = [
            "sweep",
            "ties",
            "--seeds",
            "0..6",
            "--planted",
            "wrong_tie_break",
            "--shard",
            shard,
            "--out",
            &folder,
        ];
        assert_eq!(sim(&args).status.code(), Some(1));
    };
    sweep("0/1", "whole");
    sweep("0/2", "a");
    sweep("1/2", "b");
    let merge = |folders: &[&str]| {
        let paths: Vec<String> = folders.iter().map(|folder| out.path(folder)).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let merged = out.path("merged");
        json(&sim(&[&["merge"], &paths[..], &["--out", &merged, "--json"]].concat()).stdout)
    };
    let (whole, parts) = (merge(&["whole"]), merge(&["a", "b"]));
    assert_eq!(parts["parts"], 2);
    for field in ["seeds", "failed", "faults", "events", "points"] {
        assert_eq!(whole[field], parts[field], "{field}");
    }
    let of = |told: &Value| -> Vec<(String, u64)> {
        let causes = told["causes"].as_array().unwrap().iter();
        causes
            .map(|cause| {
                (
                    cause["cause"].as_str().unwrap().into(),
                    cause["count"].as_u64().unwrap(),
                )
            })
            .collect()
    };
    assert_eq!(of(&whole), of(&parts));
    let kept = out.path("merged/failures");
    let plans = std::fs::read_dir(kept).unwrap().count();
    assert_eq!(plans, of(&whole).len());
    let missing = merge(&["a"]);
    assert_eq!(missing["missing"], 3);
}

/// The manifests of `docs/sweeps`, as plain processes.
#[test]
fn the_manifests_run_as_plain_processes() {
    let out = Folder::new("manifests");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let array = Command::new("sh")
        .arg("docs/sweeps/local.sh")
        .current_dir(&root)
        .envs([
            ("SIM", env!("CARGO_BIN_EXE_autobee-sim")),
            ("SEEDS", "0..4"),
            ("PARTS", "2"),
            ("OUT", &out.path("array")),
        ])
        .output()
        .unwrap();
    let said = text(&array.stdout);
    assert!(
        array.status.success() && said.contains("4 seeds: 0 failed"),
        "{said}{}",
        text(&array.stderr)
    );

    let job = std::fs::read_to_string(root.join("docs/sweeps/kubernetes.yaml")).unwrap();
    // The folded text behind `args:` is the command of each pod.
    let command: Vec<&str> = job
        .lines()
        .skip_while(|line| line.trim() != "- >-")
        .skip(1)
        .take_while(|line| line.starts_with("              "))
        .map(str::trim)
        .collect();
    for part in ["0", "1"] {
        let pod = Command::new("sh")
            .args(["-c", &command.join(" ")])
            .envs([
                ("SIM", env!("CARGO_BIN_EXE_autobee-sim")),
                ("SEEDS", "0..4"),
                ("PARTS", "2"),
                ("JOB_COMPLETION_INDEX", part),
                ("OUT", &out.path("job")),
            ])
            .output()
            .unwrap();
        assert!(pod.status.success(), "{}", text(&pod.stderr));
    }
    let merged = json(&sim(&["merge", &out.path("job"), "--json"]).stdout);
    assert_eq!((&merged["seeds"], &merged["missing"]), (&4.into(), &0.into()));
}

/// The files of a store that the engine wrote, and the key of its database.
fn store(folder: &str) -> String {
    let world = World::new(WorldConfig {
        ed25519: true,
        ..WorldConfig::default()
    });
    let id = world.add_replica("writer").unwrap();
    let env = world.env(id);
    let limit = Duration::from_secs(60);
    let key = world.block_on_for(id, limit, async move {
        let store = Corestore::open_default(env).await.unwrap();
        let db = Autobee::builder(store).name("writer").apply(JsonApply);
        let db = db.open().await.unwrap();
        for number in 0..9 {
            let value = Op::put(format!("k{}", number % 4), format!("v{number}")).to_value();
            db.append(value).await.unwrap();
        }
        db.close().await.unwrap();
        db.key()
    });
    let disk = world.disk(id);
    std::fs::create_dir_all(folder).unwrap();
    for name in disk.list().unwrap() {
        let file = disk.open(&name, Open::Read).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(0, &mut bytes).unwrap();
        std::fs::write(Path::new(folder).join(name), bytes).unwrap();
    }
    key.unwrap().to_hex()
}

#[test]
fn a_store_is_held_against_the_model() {
    let out = Folder::new("store");
    let folder = out.path("data");
    let key = store(&folder);
    let before = std::fs::read_dir(&folder).unwrap().count();
    let output = sim(&["check-log", &folder, "--key", &key, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let told = json(&output.stdout);
    assert_eq!((&told["entries"], &told["logs"]), (&9.into(), &1.into()));
    assert_eq!(
        std::fs::read_dir(&folder).unwrap().count(),
        before,
        "it is only read"
    );
    for (args, named) in [
        (vec!["check-log", "nowhere", "--key", &key], "nowhere"),
        (vec!["check-log", &folder, "--key", "12"], "hexadecimal"),
    ] {
        let output = sim(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(named), "{}", text(&output.stderr));
    }
}

/// The page in a real browser, where there is one.
#[test]
fn the_page_opens_in_a_browser() {
    let Some(browser) = browser() else {
        println!("skipped: there is no Chromium or Chrome on this machine");
        return;
    };
    let out = Folder::new("browser");
    let page = out.path("page.html");
    let made = sim(&["report", "hostile_peers", "--seed", "0", "--out", &page, "--json"]);
    let told = json(&made.stdout);
    assert!(told["events"].as_u64().unwrap() > 10_000, "{told}");
    assert!(told["bytes"].as_u64().unwrap() < 5_000_000, "{told}");
    let opened = Command::new(browser)
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--window-size=1200,900",
        ])
        .arg(format!("--user-data-dir={}", out.path("profile")))
        .args(["--dump-dom", &format!("file://{page}")])
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let dom = text(&opened.stdout);
    let start = dom.find("data-ready=\"").expect("the script came to its end") + 12;
    let ready: String = dom[start..].chars().take_while(char::is_ascii_digit).collect();
    let ready: u64 = ready.parse().unwrap();
    println!("{} bytes, ready after {ready} ms", told["bytes"]);
    // A second on a machine with nothing else to do; this one has.
    assert!(ready < 5_000, "ready after {ready} ms");
    assert!(dom.matches("<tr").count() > 200, "events and orders are listed");
    for wanted in [
        "role=\"img\"",
        "aria-label=\"Space-time diagram of 9 replicas",
        "<caption>",
        "role=\"status\"",
    ] {
        assert!(dom.contains(wanted), "{wanted}");
    }
}

fn browser() -> Option<PathBuf> {
    let names = [
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
        "chrome",
    ];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let found = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|file| file.is_file());
    found.or_else(|| {
        let home = PathBuf::from(std::env::var_os("HOME")?).join(".cache/ms-playwright");
        let versions = std::fs::read_dir(home).ok()?.flatten();
        let mut files = versions.map(|entry| entry.path().join("chrome-linux/chrome"));
        files.find(|file| file.is_file())
    })
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autobee-sim"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args);
    command
}

fn sim(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}: {}", text(bytes)))
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder =
            Self(std::env::temp_dir().join(format!("autobee-looking-{}-{name}", std::process::id())));
        std::fs::create_dir_all(&folder.0).unwrap();
        folder
    }

    fn path(&self, file: &str) -> String {
        self.0.join(file).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is in the folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
