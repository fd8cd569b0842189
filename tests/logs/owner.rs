//! Group commit: commits run at once, one sync at a time serves all who wait.

use std::sync::Arc;

use autobee::env::memory::MemoryEnv;
use autobee::env::{Env as _, Spawn as _};
use autobee::store::{Key, OwnerTask, Seglog, Seq, StoreBatch, StoreEngine as _, StoreError, StoreHandle};
use autobee_sim::disk::{DiskCrash, DiskFaults, Seeded, SimDisk};

fn put(byte: u8) -> StoreBatch {
    let mut batch = StoreBatch::default();
    batch.put(Key::Ext(vec![byte].into()), vec![byte; 10]);
    batch
}

/// ```text
/// commit 1, 2   sync begins   commit 3   sync ends: 2 durable, 3 not   next sync: 3 durable
/// ```
#[test]
fn commits_go_on_while_a_sync_runs_and_the_next_one_serves_them() {
    let disk = SimDisk::new(1);
    let store = Seglog::default().open(Arc::new(disk.clone())).unwrap();
    let (handle, mut owner) = StoreHandle::new(store);
    assert!(!owner.has_work());
    handle.commit(&put(1)).unwrap();
    let second = handle.commit(&put(2)).unwrap();
    handle.request_sync();
    assert!(owner.has_work());
    let syncs = disk.stats().syncs;
    let OwnerTask::Sync(job) = owner.begin() else {
        panic!("there is something to sync");
    };
    let third = handle.commit(&put(3)).unwrap();
    handle.request_sync();
    owner.end(job.run());
    assert_eq!(handle.durable(), second);
    let OwnerTask::Sync(job) = owner.begin() else {
        panic!("the third commit is not durable");
    };
    owner.end(job.run());
    assert_eq!(handle.durable(), third);
    assert_eq!(disk.stats().syncs - syncs, 2);
    assert!(matches!(owner.begin(), OwnerTask::Nothing));
}

#[test]
fn many_waiters_share_few_syncs() {
    let env = MemoryEnv::new(1);
    let disk = SimDisk::new(1);
    let store = Seglog::default().open(Arc::new(disk.clone())).unwrap();
    let (handle, owner) = StoreHandle::new(store);
    env.spawn().dedicated("store", owner);
    let syncs = disk.stats().syncs;
    let (sender, mut done) = tokio::sync::mpsc::unbounded_channel();
    for byte in 0..100 {
        let (handle, sender) = (handle.clone(), sender.clone());
        env.spawn().spawn("writer", async move {
            let seq = handle.commit_durable(&put(byte)).await.unwrap();
            assert!(handle.durable() >= seq);
            sender.send(()).unwrap();
        });
    }
    drop(sender);
    let count = env.run(async {
        let mut count = 0;
        while done.recv().await.is_some() {
            count += 1;
        }
        count
    });
    assert_eq!(count, Some(100));
    assert!(
        disk.stats().syncs - syncs < 5,
        "{} syncs",
        disk.stats().syncs - syncs
    );
}

#[test]
fn what_was_acknowledged_survives_and_the_rest_may_not() {
    let env = MemoryEnv::new(1);
    let disk = SimDisk::new(1);
    let (handle, owner) = StoreHandle::new(Seglog::default().open(Arc::new(disk.clone())).unwrap());
    env.spawn().dedicated("store", owner);
    env.run(handle.commit_durable(&put(1))).unwrap().unwrap();
    handle.commit(&put(2)).unwrap();
    let disk = disk.crash(DiskCrash::Lost, &mut Seeded::new(1));
    let store = Seglog::default().open(Arc::new(disk)).unwrap();
    assert_eq!(store.seq(), Seq(1));
}

#[test]
fn a_failed_sync_reaches_everyone_who_waits_and_who_asks_later() {
    let env = MemoryEnv::new(1);
    let disk = SimDisk::new(1);
    let (handle, owner) = StoreHandle::new(Seglog::default().open(Arc::new(disk.clone())).unwrap());
    env.spawn().dedicated("store", owner);
    disk.set_faults(DiskFaults {
        sync_error: u16::MAX,
        ..DiskFaults::default()
    });
    let watcher = handle.clone();
    let (sender, seen) = tokio::sync::oneshot::channel();
    env.spawn().spawn("watcher", async move {
        let _ = sender.send(watcher.durable_past(Seq(0)).await.is_err());
    });
    let result = env.run(handle.commit_durable(&put(1))).unwrap();
    assert!(matches!(result, Err(StoreError::Io { .. })), "{result:?}");
    assert!(env.run(seen).unwrap().unwrap());
    assert!(matches!(handle.commit(&put(2)), Err(StoreError::Fenced)));
    assert!(env.run(handle.synced(Seq(1))).unwrap().is_err());
    assert!(env.run(handle.durable_past(Seq(0))).unwrap().is_err());
}

#[test]
fn closing_makes_durable_and_later_calls_say_so() {
    let env = MemoryEnv::new(1);
    let handle = StoreHandle::open(&env, &Seglog::default()).unwrap();
    assert!(matches!(
        StoreHandle::open(&env, &Seglog::default()).map(drop),
        Err(StoreError::Locked)
    ));
    handle.commit(&put(1)).unwrap();
    assert!(env.run(handle.synced(Seq(9))).unwrap().is_err(), "no such commit");
    env.run(handle.close()).unwrap().unwrap();
    assert!(matches!(handle.commit(&put(2)), Err(StoreError::Fenced)));
    assert!(matches!(
        env.run(handle.close()).unwrap(),
        Err(StoreError::Fenced)
    ));
    env.run_until_idle();
    let again = StoreHandle::open(&env, &Seglog::default()).unwrap();
    assert!(again.get(&Key::Ext(vec![1].into())).unwrap().is_some());
}

/// Much that nobody waits for is synced all the same, and space is given back.
#[test]
fn visible_commits_are_synced_in_time() {
    let env = MemoryEnv::new(1);
    let disk = SimDisk::new(1);
    let engine = Seglog::default().segment_bytes(1 << 20).checkpoint_bytes(1 << 22);
    let (handle, owner) = StoreHandle::new(engine.open(Arc::new(disk.clone())).unwrap());
    env.spawn().dedicated("store", owner);
    for _ in 0..40 {
        let mut batch = StoreBatch::default();
        batch.put(Key::StoreHead, vec![1; 500_000]);
        handle.commit(&batch).unwrap();
        env.run_until_idle();
    }
    assert!(handle.durable() > Seq(20), "{:?}", handle.durable());
    assert!(
        disk.used() < 8 << 20,
        "{} bytes for one value of 500 kB",
        disk.used()
    );
}

#[cfg(feature = "tokio")]
#[test]
fn a_thread_of_its_own_syncs_natively() {
    let directory = std::env::temp_dir().join(format!("autobee-owner-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let env = autobee::env::native::NativeEnv::new(&directory).unwrap();
        let handle = StoreHandle::open(&env, &Seglog::default()).unwrap();
        let mut tasks = Vec::new();
        for byte in 0..50 {
            let handle = handle.clone();
            let (sender, done) = tokio::sync::oneshot::channel();
            env.spawn().spawn("writer", async move {
                let _ = sender.send(handle.commit_durable(&put(byte)).await);
            });
            tasks.push(done);
        }
        for done in tasks {
            done.await.unwrap().unwrap();
        }
        handle.close().await.unwrap();
        drop(handle);
        let again = StoreHandle::open(&env, &Seglog::default()).unwrap();
        assert_eq!(again.seq().unwrap(), Seq(50));
        assert_eq!(
            env.disk().list().unwrap(),
            ["00000001.segment", "checkpoint", "durable"]
        );
    });
    std::fs::remove_dir_all(&directory).unwrap();
}
