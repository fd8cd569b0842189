//! One seed is one run, event for event: twice in a process, in two processes, at any thread count.
//!
//! The program is busy gossip under partitions, crashes, pauses and skewed clocks; every poll, timer, byte and fault is
//! a line of the trace, and what is compared is the hash over all lines.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod gossip;

use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use autobee::env::PeerAddr;
use autobee_sim::disk::DiskFaults;
use autobee_sim::{Crash, ReplicaId, Rest, Stream, TraceSink, World, WorldConfig};

use gossip::Known;

const REPLICAS: usize = 4;
const SEEDS: std::ops::Range<u64> = 0..12;

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

#[test]
fn another_process_sees_the_same_runs() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "print_hashes",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stderr)
    );
    let output = String::from_utf8(child.stdout).unwrap();
    let theirs: Vec<&str> = output
        .lines()
        .filter_map(|line| line.split_once("run ").map(|(_, run)| run))
        .collect();
    let ours: Vec<String> = SEEDS.map(describe).collect();
    assert_eq!(theirs, ours);
}

#[test]
#[ignore = "the other process of `another_process_sees_the_same_runs`"]
fn print_hashes() {
    for seed in SEEDS {
        println!("run {}", describe(seed));
    }
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

struct Run {
    hash: String,
    events: u64,
    lines: Vec<u8>,
}

fn describe(seed: u64) -> String {
    let run = run(seed, false);
    format!("{seed} {} {}", run.hash, run.events)
}

fn run(seed: u64, collect: bool) -> Run {
    let world = World::new(WorldConfig {
        seed,
        buggify: true,
        disk: DiskFaults {
            read_error: 600,
            write_error: 600,
            sync_error: 600,
            sync_lie: 600,
            ..DiskFaults::default()
        },
        dial_limit: Duration::from_secs(1),
        trace: if collect {
            TraceSink::Collect(Vec::new())
        } else {
            TraceSink::Discard
        },
        trace_polls: true,
        ..WorldConfig::default()
    });
    let names: Vec<String> = (0..REPLICAS).map(|at| format!("replica-{at}")).collect();
    let ids: Vec<ReplicaId> = names
        .iter()
        .map(|name| world.add_replica(name).unwrap())
        .collect();
    let known: Vec<Known> = names.iter().map(|_| Known::default()).collect();
    for (at, id) in ids.iter().enumerate() {
        let own = PeerAddr::new(&names[at]);
        let peers: Vec<PeerAddr> = names
            .iter()
            .filter(|name| **name != names[at])
            .map(PeerAddr::new)
            .collect();
        let known = known[at].clone();
        world.boot(*id, move |env| {
            gossip::run(env, own.clone(), peers.clone(), 10, known.clone())
        });
    }
    let mut faults = world.stream("faults");
    for _ in 0..40 {
        world
            .run_for(Duration::from_millis(faults.between(10, 400)))
            .unwrap();
        inject(&world, &ids, &mut faults);
    }
    world.heal();
    for id in &ids {
        world.resume(*id);
        world.restart(*id);
    }
    world.run_for(Duration::from_secs(15)).unwrap();
    let first = known[0].lock().unwrap().clone();
    assert!(first.len() >= 10, "seed {seed}: {first:?}");
    assert!(
        known.iter().all(|other| *other.lock().unwrap() == first),
        "seed {seed}: not converged"
    );
    for id in &ids {
        world.crash(*id, Crash::Kill);
    }
    assert_eq!(world.run_until_idle(Duration::from_secs(60)), Ok(Rest::Quiet));
    assert_eq!(world.tasks(), 0, "seed {seed}: tasks outlive their replicas");
    Run {
        hash: world.trace_hash().to_hex(),
        events: world.trace_events(),
        lines: world.trace_bytes(),
    }
}

fn inject(world: &World, ids: &[ReplicaId], faults: &mut Stream) {
    let [a, b] = [0; 2].map(|_| ids[faults.index(ids.len())]);
    match faults.below(9) {
        0 => world.partition(&[vec![a, b]]),
        1 => world.cut(a, b),
        2 | 3 => world.heal(),
        4 => world.crash(a, Crash::Kill),
        5 => world.crash(a, Crash::PowerLoss),
        6 => {
            world.pause(a);
            world.resume(b);
        }
        7 => world.skew(a, i64::try_from(faults.below(7_200_000)).unwrap() - 3_600_000),
        _ => {
            world.restart(a);
            world.restart(b);
        }
    }
}
