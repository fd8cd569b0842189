//! Appending blocks of 100 bytes to a core in a store on disk.
//!
//! `visible` is what the JavaScript stack does: nothing waits for a sync. `durable` waits for one an append. What a
//! single append writes to the disk is printed once.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench fails by panicking and says what it found"
)]

mod databases;

use std::hint::black_box;
use std::path::PathBuf;

use autobee::db::Durability;
use autobee::env::native::NativeEnv;
use autobee::hypercore::{Core, CoreAppendOptions, CoreOptions, Corestore, CorestoreOptions};
use autobee::store::{Seglog, StoreHandle};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use databases::{Peer, applied, value};
use tokio::runtime::Runtime;

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("autobee-bench-{}-{name}", std::process::id()));
        #[expect(clippy::disallowed_methods, reason = "the bench needs a directory of its own")]
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn bytes(&self) -> u64 {
        #[expect(
            clippy::disallowed_methods,
            reason = "the bench weighs the files of the store"
        )]
        let files = std::fs::read_dir(&self.0).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(runtime: &Runtime, directory: &Directory) -> Core<NativeEnv> {
    runtime.block_on(async {
        let env = NativeEnv::new(&directory.0).unwrap();
        let store = StoreHandle::open(&env, &Seglog::default()).unwrap();
        let store = Corestore::open(env, store, CorestoreOptions::default())
            .await
            .unwrap();
        store.get(CoreOptions::name("log")).await.unwrap()
    })
}

fn blocks(count: usize) -> Vec<Bytes> {
    (0..count).map(|at| Bytes::from(vec![at as u8; 100])).collect()
}

fn append(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let _inside = runtime.enter();
    let mut group = criterion.benchmark_group("append");
    for count in [1, 16, 64, 256] {
        group.throughput(Throughput::Elements(count as u64));
        let directory = Directory::new(&format!("visible-{count}"));
        let core = open(&runtime, &directory);
        let blocks = blocks(count);
        group.bench_function(format!("visible/{count}"), |bencher| {
            bencher.iter(|| {
                core.append_visible(black_box(blocks.clone()), CoreAppendOptions::default())
                    .unwrap()
            });
        });
    }
    for count in [1, 64, 256] {
        group.throughput(Throughput::Elements(count as u64));
        let directory = Directory::new(&format!("durable-{count}"));
        let core = open(&runtime, &directory);
        let blocks = blocks(count);
        group.bench_function(format!("durable/{count}"), |bencher| {
            bencher.iter(|| runtime.block_on(core.append(black_box(blocks.clone()))).unwrap());
        });
    }
    group.finish();

    let directory = Directory::new("weight");
    let core = open(&runtime, &directory);
    let before = directory.bytes();
    const APPENDS: u64 = 20_000;
    for _ in 0..APPENDS {
        core.append_visible(blocks(1), CoreAppendOptions::default())
            .unwrap();
    }
    println!(
        "append/bytes written for one append of 100 bytes: {}",
        (directory.bytes() - before) / APPENDS
    );
}

/// Appends to a database, each applied when it returns.
fn append_and_apply(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("append and apply");
    for (name, durability) in [("visible", Durability::Visible), ("durable", Durability::Durable)] {
        for count in [1, 64] {
            group.throughput(Throughput::Elements(count as u64));
            let peer = runtime.block_on(Peer::open(None, durability));
            let mut at = 0;
            group.bench_function(format!("{name}/{count}"), |bencher| {
                bencher.iter(|| {
                    let values = (at..at + count).map(|at| value(at % 10_000_000)).collect();
                    at += count;
                    runtime.block_on(peer.db.append_batch(values)).unwrap()
                });
            });
            runtime.block_on(async {
                applied(&peer.db, peer.db.local(), at as u64).await;
                peer.close().await;
            });
        }
    }
    group.finish();
}

criterion_group!(benches, append, append_and_apply);
criterion_main!(benches);
