//! What every storage engine keeps, whatever it is made of. The laws are listed in `autobee::store`.
#[path = "../store/workload.rs"]
mod workload;

use std::ops::ControlFlow;
use std::sync::Arc;

use autobee::env::Disk;
use autobee::store::{
    DataPointer, Key, MemoryEngine, Seglog, Snapshot, Store, StoreBatch, StoreEngine, StoreError,
};
use autobee_sim::disk::{DiskFault, DiskStats, Seeded, SimDisk};
use bytes::Bytes;
use proptest::prelude::*;

use workload::{Step, Workload, contents};

/// Small segments and frequent checkpoints, so that little work reaches everything.
fn small() -> Seglog {
    Seglog::default()
        .segment_bytes(2048)
        .checkpoint_bytes(3000)
        .salt(7)
}

fn engines() -> Vec<(&'static str, Box<dyn StoreEngine>)> {
    vec![
        ("memory", Box::new(MemoryEngine)),
        ("seglog", Box::new(small())),
        #[cfg(feature = "redb")]
        ("redb", Box::new(autobee::store::RedbEngine)),
    ]
}

fn open(engine: &dyn StoreEngine, disk: &SimDisk) -> Box<dyn Store> {
    engine.open(Arc::new(disk.clone())).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_engine_equals_the_oracle(seed in any::<u64>()) {
        for (name, engine) in engines() {
            let disk = SimDisk::new(seed);
            let mut store = open(&*engine, &disk);
            let mut oracle = open(&MemoryEngine, &SimDisk::new(0));
            let mut snapshots: Vec<(Box<dyn Snapshot>, Contents)> = Vec::new();
            for step in Workload::new(seed).take(40) {
                match step {
                    Step::Commit(batch) => {
                        store.commit(&batch).unwrap();
                        oracle.commit(&batch).unwrap();
                    }
                    Step::Sync => {
                        let seq = store.sync().unwrap();
                        prop_assert_eq!(seq, store.seq());
                        prop_assert_eq!(seq, store.durable());
                    }
                    Step::Maintain => {
                        store.maintain(1000).unwrap();
                    }
                    Step::Reopen if name == "memory" => {}
                    Step::Reopen => {
                        // A snapshot lives no longer than its store.
                        for (snapshot, expected) in snapshots.drain(..) {
                            check_snapshot(name, &*snapshot, &expected);
                        }
                        store.close().unwrap();
                        store = open(&*engine, &disk);
                    }
                }
                prop_assert_eq!(contents(&*store), contents(&*oracle), "{} {}", name, seed);
                if snapshots.len() < 5 {
                    snapshots.push((store.snapshot().unwrap(), contents(&*oracle)));
                }
            }
            store.check().unwrap();
            for (snapshot, expected) in snapshots {
                check_snapshot(name, &*snapshot, &expected);
            }
            check_reads(&*store, seed);
        }
    }
}

type Contents = Vec<(Key, Bytes)>;

fn check_snapshot(name: &str, snapshot: &dyn Snapshot, expected: &[(Key, Bytes)]) {
    assert!(contents(snapshot) == expected, "a snapshot of {name} changed");
}

/// Single reads, ranges and reverse order say the same as one scan over all.
fn check_reads(store: &dyn Store, seed: u64) {
    let all = contents(store);
    for (key, value) in &all {
        assert_eq!(store.get(key).unwrap().as_ref(), Some(value));
        assert!(store.contains(key).unwrap());
    }
    let mut choice = Seeded::new(seed);
    for _ in 0..10 {
        let (from, to) = (workload::any_key(&mut choice), workload::any_key(&mut choice));
        let expected: Vec<_> = all
            .iter()
            .filter(|(key, _)| (&from..&to).contains(&key))
            .cloned()
            .collect();
        let mut found = Vec::new();
        let mut visit = |key: Key, value| {
            found.push((key, value));
            ControlFlow::Continue(())
        };
        store.scan(&from, &to, false, &mut visit).unwrap();
        assert_eq!(found, expected, "{from:?}..{to:?}");
        found.clear();
        let mut visit = |key: Key, value| {
            found.push((key, value));
            if found.len() < 3 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        store.scan(&from, &to, true, &mut visit).unwrap();
        let back: Vec<_> = expected.into_iter().rev().take(3).collect();
        assert_eq!(found, back, "{from:?}..{to:?} in reverse");
        assert_eq!(
            store.contains(&from).unwrap(),
            all.iter().any(|(key, _)| *key == from)
        );
    }
}

#[test]
fn the_same_calls_cause_the_same_calls_of_the_disk() {
    for (name, engine) in engines() {
        let run = || -> DiskStats {
            let disk = SimDisk::new(3);
            let mut store = open(&*engine, &disk);
            for step in Workload::new(99).take(100) {
                match step {
                    Step::Commit(batch) => drop(store.commit(&batch).unwrap()),
                    Step::Sync => drop(store.sync().unwrap()),
                    Step::Maintain | Step::Reopen => drop(store.maintain(1000).unwrap()),
                }
            }
            disk.stats()
        };
        assert_eq!(run(), run(), "{name}");
    }
}

/// One append of 100 bytes, with two nodes and a head of 150 bytes, is less than 400 bytes of log.
#[test]
fn a_small_append_writes_little() {
    let disk = SimDisk::new(1);
    let mut store = open(&Seglog::default(), &disk);
    let before = disk.stats();
    for index in 0..1000 {
        let mut batch = StoreBatch::default();
        batch.put(Key::Block(DataPointer(1), index), vec![7; 100]);
        for depth in 0..=index.trailing_ones() {
            batch.put(
                Key::Tree(DataPointer(1), 2 * index + 1 - (1 << depth)),
                vec![1; 40],
            );
        }
        batch.put(Key::Head(DataPointer(1)), vec![2; 150]);
        store.commit(&batch).unwrap();
    }
    let after = disk.stats();
    assert_eq!(after.writes - before.writes, 1000);
    let each = (after.written_bytes - before.written_bytes) / 1000;
    assert!(each < 400, "{each} bytes an append");
}

#[test]
fn one_store_has_the_directory() {
    for (name, engine) in engines().into_iter().skip(1) {
        let disk = SimDisk::new(1);
        let store = open(&*engine, &disk);
        let second = engine.open(Arc::new(disk.clone()));
        assert!(matches!(second.map(drop), Err(StoreError::Locked)), "{name}");
        drop(store);
        open(&*engine, &disk);
    }
}

/// Whatever call of the disk fails while something is changed: the store says so, and is fenced from then on.
#[test]
fn a_failed_change_fences_the_store() {
    for (name, engine) in engines().into_iter().skip(1) {
        let mut fenced = 0;
        for call in 1.. {
            let disk = SimDisk::new(call);
            let mut store = open(&*engine, &disk);
            let before = disk.stats().calls;
            disk.plan(before + call, DiskFault::Error);
            let mut failed = false;
            for step in Workload::new(5).take(30) {
                let result = match step {
                    Step::Commit(batch) => store.commit(&batch).map(drop),
                    Step::Sync => store.sync().map(drop),
                    Step::Maintain | Step::Reopen => store.maintain(1 << 20).map(drop),
                };
                if failed {
                    assert!(
                        matches!(result, Err(StoreError::Fenced)),
                        "{name}: call {call} gave {result:?}"
                    );
                } else if let Err(error) = result {
                    assert!(matches!(error, StoreError::Io { .. }), "{name}: {error}");
                    // A failed read changes nothing, so it need not fence.
                    failed = store.commit(&StoreBatch::default()).is_err();
                    fenced += u64::from(failed);
                    if failed {
                        let fenced = |error: &StoreError| matches!(error, StoreError::Fenced);
                        let snapshot = store.snapshot().map(drop);
                        let read = store.get(&Key::StoreHead).map(drop);
                        for read in [snapshot, read] {
                            let goes_on =
                                read.is_ok() || (name == "redb" && read.as_ref().is_err_and(fenced));
                            assert!(goes_on, "{name}: {read:?}");
                        }
                    }
                }
            }
            if disk.stats().calls < before + call {
                break;
            }
            drop(store);
            // What was lost is for others to judge; it opens, and takes a commit.
            open(&*engine, &disk).commit(&StoreBatch::default()).unwrap();
        }
        assert!(fenced >= 15, "{name}: only {fenced}");
    }
}

#[test]
fn a_full_disk_is_told_apart() {
    for (name, engine) in engines().into_iter().skip(1) {
        let disk = SimDisk::new(1);
        let mut store = open(&*engine, &disk);
        let mut batch = StoreBatch::default();
        batch.put(Key::Block(DataPointer(1), 0), vec![1; 500]);
        store.commit(&batch).unwrap();
        store.sync().unwrap();
        let quota_bytes = Some(disk.used() + 100);
        disk.set_faults(autobee_sim::disk::DiskFaults {
            quota_bytes,
            ..Default::default()
        });
        let mut large = StoreBatch::default();
        large.put(Key::Block(DataPointer(1), 1), vec![2; 5_000_000]);
        let result = store.commit(&large).and_then(|_| store.sync());
        assert!(
            matches!(result, Err(StoreError::Full { .. })),
            "{name}: {result:?}"
        );
        drop(store);
        disk.set_faults(Default::default());
        let mut store = open(&*engine, &disk);
        assert!(store.get(&Key::Block(DataPointer(1), 0)).unwrap().is_some());
        assert!(store.get(&Key::Block(DataPointer(1), 1)).unwrap().is_none());
        store.commit(&large).unwrap();
    }
}

/// Blocks that were cleared or truncated give their space back.
#[test]
fn space_comes_back() {
    for (name, engine) in engines().into_iter().skip(1) {
        let disk = SimDisk::new(1);
        let mut store = open(&*engine, &disk);
        let data = DataPointer(1);
        for index in 0..400 {
            let mut batch = StoreBatch::default();
            batch.put(Key::Block(data, index), vec![7; 300]);
            batch.put(Key::Tree(data, index * 2), vec![1; 40]);
            store.commit(&batch).unwrap();
        }
        store.sync().unwrap();
        let full = disk.used();
        let mut clear = StoreBatch::default();
        clear.delete_range(Key::Block(data, 10), Key::Block(data, 390));
        store.commit(&clear).unwrap();
        while store.maintain(10_000).unwrap() {}
        store = {
            store.close().unwrap();
            open(&*engine, &disk)
        };
        while store.maintain(10_000).unwrap() {}
        if name == "seglog" {
            assert!(disk.used() < full / 3, "{name}: {} of {full} bytes", disk.used());
        }
        for index in 0..400 {
            let there = !(10..390).contains(&index);
            assert_eq!(store.get(&Key::Block(data, index)).unwrap().is_some(), there);
            assert!(
                store.get(&Key::Tree(data, index * 2)).unwrap().is_some(),
                "{name}: node of {index}"
            );
        }
        store.check().unwrap();
    }
}

/// A snapshot reads on while everything that it sees is removed, moved, and its files are gone.
#[test]
fn a_snapshot_outlives_compaction() {
    for (name, engine) in engines().into_iter().skip(1) {
        let disk = SimDisk::new(1);
        let mut store = open(&*engine, &disk);
        let data = DataPointer(1);
        for index in 0..100 {
            store
                .commit(StoreBatch::default().put(Key::Block(data, index), vec![7; 300]))
                .unwrap();
        }
        let snapshot = store.snapshot().unwrap();
        let expected = contents(&*snapshot);
        store
            .commit(StoreBatch::default().delete_range(Key::Block(data, 0), Key::Block(data, 95)))
            .unwrap();
        for _ in 0..100 {
            store.maintain(2000).unwrap();
            assert_eq!(contents(&*snapshot), expected, "{name}");
        }
        assert!(store.seq() > snapshot.seq());
    }
}

#[test]
fn reads_of_the_trait_object_work_through_threads() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let mut store = small().open(disk).unwrap();
    store
        .commit(StoreBatch::default().put(Key::StoreHead, &b"head"[..]))
        .unwrap();
    let snapshot = store.snapshot().unwrap();
    let read = move || snapshot.get(&Key::StoreHead).unwrap().unwrap();
    #[expect(clippy::disallowed_methods, reason = "that is what is tested")]
    let value = std::thread::spawn(read).join().unwrap();
    assert_eq!(value, "head");
}
