//! The same scenarios in three worlds: the simulator, madsim, and processes of this machine that talk over TCP, keep
//! files, and are ended with `kill -9`. All come to the same view.
//!
//! What a process cannot be made to suffer (power loss, lying disks, clocks that are off, hostile peers) only the
//! simulator plays; the test says which scenarios those are. Steps are pulled apart so far that what is in one island is
//! known to all there before the next step: then the causal order of a run, and with it the view, is that of the plan
//! in each world, however fast it is. Where `AUTOBEE_JS` names a checkout of the original with its packages, some of the
//! processes are of that.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "processes of this machine, and their time"
)]
#![cfg(feature = "tokio")]

#[path = "native/group.rs"]
mod group;
#[path = "process/peer.rs"]
mod peer;
#[path = "native/plan.rs"]
mod plan;
#[path = "native/proxy.rs"]
mod proxy;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use autobee_sim::{Report, Scenario, TraceSink};
use group::{Engine, Group};
use plan::{keys, pulled_apart, unplayable};

const SEED: u64 = 7;

/// How many scenarios are played at the same time.
const AT_ONCE: usize = 3;

type View = BTreeMap<String, String>;

#[test]
fn the_three_worlds_agree_on_final_views() {
    let (mut playable, mut left_out) = (Vec::new(), Vec::new());
    for file in scenarios() {
        let scenario = Scenario::load(&file).unwrap();
        match unplayable(&scenario) {
            Some(why) => left_out.push(format!("{}: {why}", scenario.name)),
            None => playable.push(scenario),
        }
    }
    let next = AtomicUsize::new(0);
    // Processes mostly wait for their next step.
    thread::scope(|threads| {
        for _ in 0..AT_ONCE {
            threads.spawn(|| {
                while let Some(scenario) = playable.get(next.fetch_add(1, Ordering::Relaxed)) {
                    agree(scenario);
                }
            });
        }
    });
    let played: Vec<&str> = playable.iter().map(|scenario| scenario.name.as_str()).collect();
    println!("played: {}", played.join(", "));
    println!("only simulated:\n  {}", left_out.join("\n  "));
    assert!(played.len() >= 8, "{played:?}");
    // One of them kills processes.
    assert!(played.contains(&"attested_after_restart"));
}

/// The word by which this program knows that it was started in a namespace of its own.
const INSIDE: &str = "AUTOBEE_IN_NAMESPACE";

/// `tc netem`: 4 ms on the way, give or take 2, and of 100 packets one is lost and one comes before those sent earlier.
#[test]
fn delay_and_loss_of_the_system_change_nothing() {
    if std::env::var_os(INSIDE).is_some() {
        let scenario = Scenario::load(&folder().join("partition_heal.toml")).unwrap();
        agree(&scenario);
        return;
    }
    let netem = "ip link set lo up && tc qdisc add dev lo root netem delay 4ms 2ms loss 1% reorder 1%";
    let in_namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-c", script]);
        command
    };
    match in_namespace(netem).output() {
        Ok(tried) if tried.status.success() => {}
        _ => {
            println!("skipped: no network namespaces with `tc netem` here");
            return;
        }
    }
    // Built before, where there is a network.
    peer::program();
    let script =
        format!("{netem} && exec \"$0\" --exact delay_and_loss_of_the_system_change_nothing --nocapture");
    let output = in_namespace(&script)
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// Plays a scenario in all worlds.
fn agree(scenario: &Scenario) {
    let scenario = pulled_apart(scenario, SEED);
    let keys = keys(&scenario);
    let simulated = view_of(
        &autobee_sim::run(&scenario, SEED, TraceSink::Discard).unwrap(),
        &keys,
    );
    assert!(
        !simulated.is_empty(),
        "{}: an empty view agrees with all",
        scenario.name
    );
    #[cfg(madsim)]
    {
        let report = autobee_sim::run_on_madsim(&scenario, SEED, TraceSink::Discard).unwrap();
        assert_eq!(view_of(&report, &keys), simulated, "{}: madsim", scenario.name);
    }
    for engines in mixes() {
        // The original knows no other rules.
        if scenario.safe && engines.len() > 1 {
            continue;
        }
        let mut native = Group::play(&scenario, &engines);
        native.retain(|key, _| keys.contains(key));
        assert_eq!(native, simulated, "{}: processes of {engines:?}", scenario.name);
    }
}

/// Which replicas run what: ours alone, and with the original where `AUTOBEE_JS` names a checkout of it.
fn mixes() -> Vec<Vec<Engine>> {
    let mut mixes = vec![vec![Engine::Ours]];
    if let Some(folder) = std::env::var_os("AUTOBEE_JS") {
        let original = Engine::Original(folder.into());
        mixes.push(vec![Engine::Ours, original.clone()]);
        mixes.push(vec![original, Engine::Ours]);
    }
    mixes
}

/// What a run came to, of the keys that the plan writes: the others hold names of writers.
fn view_of(report: &Report, keys: &[String]) -> View {
    assert!(report.converged, "{}: {:?}", report.scenario, report.violations);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let view = report.states[0].view.iter();
    view.map(|(key, value)| (text(key), text(value)))
        .filter(|(key, _)| keys.contains(key))
        .collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/fast")
}

fn scenarios() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files
}
