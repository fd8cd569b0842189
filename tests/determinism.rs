//! One seed is one run, event for event: twice in a process, in two processes, at any thread count.
//!
//! The program is busy gossip under partitions, crashes, pauses and skewed clocks; every poll, timer, byte and fault is
//! a line of the trace, and what is compared is the hash over all lines.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod gossip;

use std::process::Command;
use std::sync::Mutex;

use autobee_sim::World;
use gossip::drive::Run;

const SEEDS: std::ops::Range<u64> = 0..12;

/// Set in the process that only prints its runs.
const CHILD: &str = "AUTOBEE_DETERMINISM_CHILD";

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in SEEDS {
        let [first, second] = [run(seed, true), run(seed, true)];
        let differs = first
            .lines
            .split(|byte| *byte == b'\n')
            .zip(second.lines.split(|byte| *byte == b'\n'))
            .position(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}: first differing line");
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(
            first.hash,
            run(seed, false).hash,
            "seed {seed}: collecting the lines changed the run"
        );
    }
}

/// In the process that it starts, this test prints its runs and is done.
#[test]
fn another_process_sees_the_same_runs() {
    if std::env::var_os(CHILD).is_some() {
        SEEDS.for_each(|seed| println!("run {}", describe(seed)));
        return;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "another_process_sees_the_same_runs",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stderr)
    );
    let output = String::from_utf8(child.stdout).unwrap();
    // The first line shares its line with the name of the test.
    let theirs: Vec<&str> = output
        .lines()
        .filter_map(|line| line.split_once("run "))
        .map(|(_, run)| run)
        .collect();
    let ours: Vec<String> = SEEDS.map(describe).collect();
    assert_eq!(theirs, ours);
}

#[test]
fn the_thread_count_changes_nothing() {
    let alone: Vec<String> = SEEDS.map(describe).collect();
    let next = Mutex::new(SEEDS);
    let together = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(seed) = next.lock().unwrap().next() else {
                        break;
                    };
                    let line = describe(seed);
                    together.lock().unwrap().push((seed, line));
                }
            });
        }
    });
    let mut together = together.into_inner().unwrap();
    together.sort();
    let together: Vec<String> = together.into_iter().map(|(_, line)| line).collect();
    assert_eq!(alone, together);
}

#[test]
fn distinct_seeds_are_distinct_runs() {
    let mut hashes: Vec<_> = SEEDS.map(|seed| run(seed, false).hash).collect();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), SEEDS.count());
}

#[test]
fn faults_are_exercised() {
    let text: String = SEEDS
        .map(|seed| String::from_utf8(run(seed, true).lines).unwrap())
        .collect();
    for event in [
        "poll",
        "timer",
        "dial",
        "dial_refused",
        "dial_timeout",
        "open",
        "arrive",
        "deliver",
        "fin",
        "reset",
        "held",
        "close",
        "partition",
        "cut",
        "heal",
        "crash",
        "restart",
        "pause",
        "resume",
        "skew",
        "disk",
        "engine",
    ] {
        assert!(
            text.contains(&format!("\"e\":\"{event}\"")),
            "no event {event} in any run"
        );
    }
}

fn run(seed: u64, collect: bool) -> Run {
    gossip::drive::run::<World>(seed, collect)
}

fn describe(seed: u64) -> String {
    let run = run(seed, false);
    format!("{seed} {} {}", run.hash, run.events)
}
