//! Lane 2: the same programs under a second, independent scheduler.
#![cfg_attr(madsim, expect(clippy::unwrap_used, reason = "a test fails by panicking"))]

#[cfg(madsim)]
#[path = "conformance/network.rs"]
mod conformance;
#[cfg(madsim)]
mod gossip;

#[cfg(any(target_os = "linux", target_os = "macos"))]
#[test]
fn the_second_scheduler_is_compiled_in() {
    assert!(
        cfg!(madsim),
        "unset RUSTFLAGS: it drops --cfg madsim from .cargo/config.toml"
    );
}

#[cfg(madsim)]
mod lane_two {
    use std::time::Duration;

    use autobee::env::PeerAddr;
    use autobee_sim::disk::DiskFaults;
    use autobee_sim::madsim::MadsimWorld;
    use autobee_sim::{Crash, ReplicaId, RunError, Stream, TraceSink, WorldConfig};

    use crate::conformance;
    use crate::gossip::{self, Known};

    const REPLICAS: usize = 4;
    const SEEDS: std::ops::Range<u64> = 0..6;

    #[test]
    fn the_network_keeps_its_laws() {
        let world = MadsimWorld::new(WorldConfig {
            seed: 5,
            ..WorldConfig::default()
        });
        let [a, b] = ["a", "b"].map(|name| world.add_replica(name).unwrap());
        let limit = Duration::from_secs(600);
        let laws = conformance::stream_laws(world.env(a), world.env(b), PeerAddr::new("b:0"));
        world.block_on_for(a, limit, laws).unwrap();
        let laws = conformance::address_laws(world.env(a), PeerAddr::new("a:0"));
        world.block_on_for(a, limit, laws).unwrap();
    }

    #[test]
    fn the_same_seed_is_the_same_run() {
        for seed in SEEDS {
            let [first, second] = [run(seed), run(seed)];
            let differs = first.lines().zip(second.lines()).find(|(a, b)| a != b);
            assert_eq!(differs, None, "seed {seed}: first differing line");
            assert_eq!(first, second, "seed {seed}: lengths differ");
        }
    }

    #[test]
    fn another_thread_sees_the_same_runs() {
        let ours: Vec<String> = SEEDS.map(run).collect();
        let theirs = std::thread::scope(|scope| {
            let threads: Vec<_> = SEEDS.map(|seed| scope.spawn(move || run(seed))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert!(ours == theirs);
        let mut distinct = ours;
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), SEEDS.count(), "distinct seeds are distinct runs");
    }

    #[test]
    fn what_does_not_end_is_told() {
        let world = MadsimWorld::new(WorldConfig::default());
        let a = world.add_replica("a").unwrap();
        let limit = Duration::from_secs(1);
        let late = world.block_on_for(a, limit, std::future::pending::<()>());
        assert!(matches!(late, Err(RunError::Limit { .. })), "{late:?}");
        world.crash(a, Crash::Kill);
        let down = world.block_on_for(a, limit, async {});
        assert!(matches!(down, Err(RunError::Down { .. })), "{down:?}");
    }

    /// The lines of a run of gossip under faults, which converges in the end.
    fn run(seed: u64) -> String {
        let world = MadsimWorld::new(WorldConfig {
            seed,
            buggify: true,
            dial_limit: Duration::from_secs(1),
            disk: DiskFaults {
                write_error: 600,
                sync_error: 600,
                ..DiskFaults::default()
            },
            trace: TraceSink::Collect(Vec::new()),
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
        for _ in 0..30 {
            world.run_for(Duration::from_millis(faults.between(10, 400)));
            inject(&world, &ids, &mut faults);
        }
        world.heal();
        for id in &ids {
            world.resume(*id);
            world.restart(*id);
        }
        world.run_for(Duration::from_secs(15));
        let first = known[0].lock().unwrap().clone();
        assert!(first.len() >= 10, "seed {seed}: {first:?}");
        assert!(
            known.iter().all(|other| *other.lock().unwrap() == first),
            "seed {seed}: not converged"
        );
        String::from_utf8(world.trace_bytes()).unwrap()
    }

    fn inject(world: &MadsimWorld, ids: &[ReplicaId], faults: &mut Stream) {
        let [a, b] = [0; 2].map(|_| ids[faults.index(ids.len())]);
        match faults.below(8) {
            0 => world.partition(&[vec![a, b]]),
            1 => world.cut(a, b),
            2 | 3 => world.heal(),
            4 => world.crash(a, Crash::Kill),
            5 => world.crash(a, Crash::PowerLoss),
            6 => {
                world.pause(a);
                world.resume(b);
            }
            _ => {
                world.restart(a);
                world.restart(b);
            }
        }
    }
}
