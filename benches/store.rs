//! What a store costs, without hashing and signing: appends of 100-byte blocks with their nodes and a head, reads, and
//! opening after a kill. The files are real; the numbers are those of the disk below them.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark fails by panicking, and tells what it finds of this machine"
)]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use autobee::env::native::NativeDisk;
use autobee::store::{DataPointer, Key, Seglog, Store, StoreBatch, StoreEngine};
use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const DATA: DataPointer = DataPointer(1);

fn engines() -> Vec<(&'static str, Box<dyn StoreEngine>)> {
    vec![
        ("seglog", Box::new(Seglog::default())),
        #[cfg(feature = "redb")]
        ("redb", Box::new(autobee::store::RedbEngine)),
    ]
}

/// The batch of one append: blocks, the nodes that they complete, a head.
fn append(from: u64, count: u64) -> StoreBatch {
    let block = Bytes::from_static(&[7; 100]);
    let node = Bytes::from_static(&[1; 40]);
    let mut batch = StoreBatch::default();
    for index in from..from + count {
        batch.put(Key::Block(DATA, index), block.clone());
        for depth in 0..=index.trailing_ones() {
            batch.put(Key::Tree(DATA, 2 * index + 1 - (1 << depth)), node.clone());
        }
    }
    batch.put(Key::Head(DATA), Bytes::from_static(&[2; 150]));
    batch
}

fn appends(c: &mut Criterion) {
    for durable in [false, true] {
        let name = if durable {
            "store/append/durable"
        } else {
            "store/append/visible"
        };
        let mut group = c.benchmark_group(name);
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(2));
        for (engine_name, engine) in engines() {
            for count in [1, 16, 256] {
                let scratch = Scratch::new("append");
                let mut store = engine.open(scratch.disk()).unwrap();
                let mut length = 0;
                group.throughput(Throughput::Elements(count));
                group.bench_function(BenchmarkId::new(engine_name, count), |bencher| {
                    bencher.iter_batched(
                        || {
                            length += count;
                            append(length - count, count)
                        },
                        |batch| {
                            store.commit(&batch).unwrap();
                            if durable {
                                store.sync().unwrap();
                            }
                        },
                        BatchSize::SmallInput,
                    );
                });
            }
        }
        group.finish();
    }
}

fn filled(store: &mut dyn Store, blocks: u64) {
    for from in (0..blocks).step_by(256) {
        store.commit(&append(from, 256.min(blocks - from))).unwrap();
    }
}

fn reads(c: &mut Criterion) {
    let mut group = c.benchmark_group("store/read");
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(2))
        .throughput(Throughput::Elements(1));
    for (name, engine) in engines() {
        let scratch = Scratch::new("read");
        let mut store = engine.open(scratch.disk()).unwrap();
        filled(&mut *store, 100_000);
        let mut at = 0_u64;
        let mut next = move || {
            at = at
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (at >> 33) % 100_000
        };
        group.bench_function(BenchmarkId::new(name, "block"), |bencher| {
            bencher.iter(|| black_box(store.get(&Key::Block(DATA, next())).unwrap()));
        });
        group.bench_function(BenchmarkId::new(name, "node"), |bencher| {
            bencher.iter(|| black_box(store.get(&Key::Tree(DATA, 2 * next())).unwrap()));
        });
    }
    group.finish();
}

/// Opening a million blocks: after a kill, when all of the log is read, and after an orderly end.
fn openings(c: &mut Criterion) {
    let mut group = c.benchmark_group("store/open/million");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_secs(3));
    for (name, engine) in engines() {
        let scratch = Scratch::new("open");
        let mut store = engine.open(scratch.disk()).unwrap();
        let before = resident_bytes();
        filled(&mut *store, 1_000_000);
        store.sync().unwrap();
        println!(
            "{name}: {} bytes of memory a block",
            resident_bytes().saturating_sub(before) / 1_000_000
        );
        drop(store);
        group.bench_function(BenchmarkId::new(name, "killed"), |bencher| {
            bencher.iter(|| black_box(engine.open(scratch.disk()).unwrap().seq()));
        });
        engine.open(scratch.disk()).unwrap().close().unwrap();
        group.bench_function(BenchmarkId::new(name, "closed"), |bencher| {
            bencher.iter(|| black_box(engine.open(scratch.disk()).unwrap().seq()));
        });
    }
    group.finish();
}

/// Of this process, where the system says so.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// A directory that is gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("autobee-bench-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn disk(&self) -> Arc<NativeDisk> {
        Arc::new(NativeDisk::new(self.path()).unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

criterion_group!(benches, appends, reads, openings);
criterion_main!(benches);
