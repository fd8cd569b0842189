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
        std::hint::black_box(cfg!(madsim)),
        "unset RUSTFLAGS: it drops --cfg madsim from .cargo/config.toml"
    );
}

#[cfg(madsim)]
mod lane_two {
    use std::time::Duration;

    use autobee::env::PeerAddr;
    use autobee_sim::madsim::MadsimWorld;
    use autobee_sim::{Crash, RunError, WorldConfig};

    use crate::conformance;
    use crate::gossip::drive;

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
            let [first, second] = [(); 2].map(|()| drive::run::<MadsimWorld>(seed, true));
            let lines = |run: &drive::Run| String::from_utf8(run.lines.clone()).unwrap();
            let differs = lines(&first)
                .lines()
                .zip(lines(&second).lines())
                .position(|(a, b)| a != b);
            assert_eq!(differs, None, "seed {seed}: first differing line");
            assert_eq!(
                (first.hash, first.events),
                (second.hash, second.events),
                "seed {seed}"
            );
        }
    }

    #[test]
    fn another_thread_sees_the_same_runs() {
        let run = |seed| drive::run::<MadsimWorld>(seed, false).hash;
        let ours: Vec<String> = SEEDS.map(run).collect();
        let theirs: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = SEEDS.map(|seed| scope.spawn(move || run(seed))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(ours, theirs);
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
}
