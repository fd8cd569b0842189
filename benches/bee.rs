//! The tree alone, on blocks in memory (`put`, `read`), and with its blocks hashed, signed and stored in a core on disk
//! (`stored`), which is what the original is timed with; nothing waits for a sync in either.
//!
//! The workloads and their data are those that the original is timed with: keys of a linear congruence, values of 100
//! bytes, batches of 100 puts on a tree that grows to 20,000 keys.
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::cell::Cell;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use autobee::bee::{BatchOptions, Bee, BeeSettings, BlockError, Blocks, MemoryBlocks, Range, Tree};
use autobee::crypto::CoreKey;
use autobee::env::native::NativeEnv;
use autobee::hypercore::{Core, CoreAppendOptions, CoreOptions, Corestore};
use autobee::wire::{Index, Length, Link};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

const KEYS: u32 = 20_000;
const LOCAL: CoreKey = CoreKey::new([7; 32]);

/// The keys of the workload, always the same.
struct Keys(u32);

impl Iterator for Keys {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.0 = self.0.wrapping_mul(1_103_515_245).wrapping_add(12345);
        Some(format!("k{:08}", self.0 % 10_000_000).into_bytes())
    }
}

fn value(number: u32) -> [u8; 100] {
    let letter = u8::try_from(number % 26).unwrap();
    [b'a' + letter; 100]
}

fn empty() -> (MemoryBlocks, Tree) {
    let bee = Bee::new(BeeSettings::default()).unwrap();
    let head = Link {
        key: LOCAL,
        length: Length::ZERO,
    };
    (MemoryBlocks::new(), bee.tree(head))
}

/// Puts `count` keys in batches of `size`.
fn fill(blocks: &MemoryBlocks, tree: &mut Tree, keys: &mut Keys, count: u32, size: u32) {
    let mut number = 0;
    while number < count {
        let mut batch = tree.batch(&LOCAL, blocks.length(&LOCAL), BatchOptions::default());
        for key in keys.by_ref().take(usize::try_from(size).unwrap()) {
            batch.put(blocks, &key, &value(number)).unwrap();
            number += 1;
        }
        let written = batch.finish(blocks).unwrap();
        blocks.append(LOCAL, written.blocks().iter().cloned());
        tree.commit(written);
    }
}

fn filled() -> (MemoryBlocks, Tree, Keys) {
    let (blocks, mut tree) = empty();
    let mut keys = Keys(1);
    fill(&blocks, &mut tree, &mut keys, KEYS, 100);
    (blocks, tree, keys)
}

fn puts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("put");
    group.sample_size(10);
    group.throughput(Throughput::Elements(u64::from(KEYS)));
    group.bench_function("batches of 100", |bencher| {
        bencher.iter_batched(
            empty,
            |(blocks, mut tree)| {
                fill(&blocks, &mut tree, &mut Keys(1), KEYS, 100);
                (blocks, tree)
            },
            BatchSize::PerIteration,
        );
    });
    group.throughput(Throughput::Elements(2000));
    group.bench_function("batches of 1, on 20,000 keys", |bencher| {
        bencher.iter_batched(
            filled,
            |(blocks, mut tree, mut keys)| {
                fill(&blocks, &mut tree, &mut keys, 2000, 1);
                (blocks, tree)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// As `puts`, with every batch appended to a core of a store on disk.
fn stored(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let _inside = runtime.enter();
    let mut group = criterion.benchmark_group("stored");
    group.sample_size(10);
    for (size, count) in [(100, KEYS), (1, 2000)] {
        group.throughput(Throughput::Elements(u64::from(count)));
        group.bench_function(format!("batches of {size}"), |bencher| {
            bencher.iter_batched(
                || StoredTree::new(&runtime),
                |mut stored| {
                    stored.fill(count, size);
                    stored
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// A tree in a core of a store in a directory of its own.
struct StoredTree {
    core: Core<NativeEnv>,
    blocks: MemoryBlocks,
    tree: Tree,
    directory: PathBuf,
}

impl StoredTree {
    fn new(runtime: &Runtime) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("autobee-bench-bee-{}-{number}", std::process::id()));
        let core = runtime.block_on(async {
            let store = Corestore::open_default(NativeEnv::new(&directory).unwrap())
                .await
                .unwrap();
            store.get(CoreOptions::name("bee")).await.unwrap()
        });
        let (blocks, tree) = empty();
        Self {
            core,
            blocks,
            tree,
            directory,
        }
    }

    fn fill(&mut self, count: u32, size: u32) {
        let mut keys = Keys(1);
        let mut number = 0;
        while number < count {
            let length = self.blocks.length(&LOCAL);
            let mut batch = self.tree.batch(&LOCAL, length, BatchOptions::default());
            for key in keys.by_ref().take(usize::try_from(size).unwrap()) {
                batch.put(&self.blocks, &key, &value(number)).unwrap();
                number += 1;
            }
            let written = batch.finish(&self.blocks).unwrap();
            self.core
                .append_visible(written.blocks().to_vec(), CoreAppendOptions::default())
                .unwrap();
            self.blocks.append(LOCAL, written.blocks().iter().cloned());
            self.tree.commit(written);
        }
    }
}

impl Drop for StoredTree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn reads(criterion: &mut Criterion) {
    let (blocks, tree, _) = filled();
    let mut group = criterion.benchmark_group("read");
    group.sample_size(10);
    group.throughput(Throughput::Elements(u64::from(KEYS)));
    let keys: Vec<Vec<u8>> = Keys(1).take(usize::try_from(KEYS).unwrap()).collect();
    group.bench_function("get, warm", |bencher| {
        bencher.iter(|| {
            for key in &keys {
                black_box(tree.get(&blocks, key).unwrap().unwrap());
            }
        });
    });
    let count = u64::try_from(tree.range(Range::all()).iter(&blocks).count()).unwrap();
    group.throughput(Throughput::Elements(count));
    group.bench_function("scan, warm", |bencher| {
        bencher.iter(|| {
            let mut entries = tree.range(Range::all());
            while let Some(entry) = entries.next(&blocks).unwrap() {
                black_box(entry);
            }
        });
    });
    group.finish();
}

/// Counts how often blocks are asked for.
struct Counted<'a> {
    blocks: &'a MemoryBlocks,
    reads: Cell<u64>,
}

impl Blocks for Counted<'_> {
    fn block(&self, core: &CoreKey, index: Index) -> Result<Bytes, BlockError> {
        self.reads.set(self.reads.get() + 1);
        self.blocks.block(core, index)
    }
}

fn cold(criterion: &mut Criterion) {
    let (blocks, mut tree, mut keys) = filled();
    fill(&blocks, &mut tree, &mut keys, 2000, 1);
    let scan = || {
        let counted = Counted {
            blocks: &blocks,
            reads: Cell::new(0),
        };
        let cold = Bee::new(BeeSettings::default()).unwrap().tree(tree.head());
        let mut entries = cold.range(Range::all());
        while let Some(entry) = entries.next(&counted).unwrap() {
            black_box(entry);
        }
        counted.reads.get()
    };
    let reads = scan();
    let length = blocks.length(&LOCAL).0;
    assert!(reads <= length, "{reads} reads of {length} blocks");
    let mut group = criterion.benchmark_group("cold");
    group.sample_size(10);
    group.bench_function("scan after 2,000 batches of 1", |bencher| bencher.iter(scan));
    group.finish();
}

criterion_group!(benches, puts, stored, reads, cold);
criterion_main!(benches);
