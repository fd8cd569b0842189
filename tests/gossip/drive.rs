//! Gossip among four replicas under faults, on whatever world it is given.

use std::time::Duration;

use autobee::env::PeerAddr;
use autobee_sim::disk::DiskFaults;
use autobee_sim::{Crash, ReplicaId, SimulatedWorld, Stream, TraceSink, WorldConfig};

use super::Known;

const REPLICAS: usize = 4;
const NUMBERS: u32 = 10;

/// What is left of a run.
pub(crate) struct Run {
    /// The hash over all lines of the trace.
    pub(crate) hash: String,
    /// How many lines there were.
    pub(crate) events: u64,
    /// The lines, if they were collected.
    pub(crate) lines: Vec<u8>,
}

/// Lets everybody gossip while ways are cut, processes die and disks fail; then heals all, and fails unless all know
/// the same in the end.
pub(crate) fn run<L: SimulatedWorld>(seed: u64, collect: bool) -> Run {
    let world = L::new(WorldConfig {
        seed,
        buggify: true,
        dial_limit: Duration::from_secs(1),
        disk: DiskFaults {
            read_error: 600,
            write_error: 600,
            sync_error: 600,
            sync_lie: 600,
            ..DiskFaults::default()
        },
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
            super::run(env, own.clone(), peers.clone(), NUMBERS, known.clone())
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
    assert!(first.len() >= NUMBERS as usize, "seed {seed}: {first:?}");
    assert!(
        known.iter().all(|other| *other.lock().unwrap() == first),
        "seed {seed}: not converged"
    );
    for id in &ids {
        world.crash(*id, Crash::Kill);
    }
    world.run_for(Duration::from_secs(60)).unwrap();
    Run {
        hash: world.trace_hash().to_hex(),
        events: world.trace_events(),
        lines: world.trace_bytes(),
    }
}

fn inject<L: SimulatedWorld>(world: &L, ids: &[ReplicaId], faults: &mut Stream) {
    let [a, b] = [0; 2].map(|_| ids[faults.index(ids.len())]);
    match faults.below(10) {
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
        8 => world.reset_between(a, b),
        _ => {
            world.restart(a);
            world.restart(b);
        }
    }
}
