//! What reading costs: in blocks, in round trips to a peer that has them, and in memory.
use std::cell::RefCell;
use std::collections::BTreeSet;

use autobee::bee::{
    BatchOptions, Bee, BeeError, BeeSettings, BlockError, Blocks, MemoryBlocks, Range, Sameness, Tree,
};
use autobee::crypto::CoreKey;
use autobee::wire::{Index, Length, Link};
use bytes::Bytes;

const LOCAL: CoreKey = CoreKey::new([7; 32]);

/// A core whose blocks are at a peer. What was asked for comes all at once with the next round trip.
struct Remote {
    blocks: MemoryBlocks,
    here: RefCell<BTreeSet<Index>>,
    asked: RefCell<BTreeSet<Index>>,
    reads: RefCell<Vec<Index>>,
}

impl Blocks for Remote {
    fn block(&self, core: &CoreKey, index: Index) -> Result<Bytes, BlockError> {
        if !self.here.borrow().contains(&index) {
            self.asked.borrow_mut().insert(index);
            return Err(BlockError::Missing);
        }
        self.reads.borrow_mut().push(index);
        self.blocks.block(core, index)
    }

    fn want(&self, _core: &CoreKey, index: Index) {
        self.asked.borrow_mut().insert(index);
    }
}

impl Remote {
    fn new(blocks: MemoryBlocks) -> Self {
        Self {
            blocks,
            here: RefCell::default(),
            asked: RefCell::default(),
            reads: RefCell::default(),
        }
    }

    /// Everything is here.
    fn fetch_all(&self) {
        let length = self.blocks.length(&LOCAL).0;
        self.here.borrow_mut().extend((0..length).map(Index));
    }

    /// Runs an operation until nothing is missing. Gives the number of round trips that it took.
    fn run<T>(&self, mut operation: impl FnMut() -> Result<T, BeeError>) -> (T, usize) {
        let mut trips = 0;
        loop {
            match operation() {
                Err(BeeError::Unavailable { .. }) => {
                    trips += 1;
                    let asked = self.asked.take();
                    assert!(!asked.is_subset(&self.here.borrow()), "asks for what is here");
                    self.here.borrow_mut().extend(asked);
                }
                result => return (result.unwrap(), trips),
            }
        }
    }
}

fn key(number: u32) -> Vec<u8> {
    // Neighbours are written far apart.
    format!("key/{:08}", number.wrapping_mul(2_654_435_761) % 100_000_000).into_bytes()
}

fn family(cache_bytes_max: usize) -> Bee {
    Bee::new(BeeSettings {
        block_cache_bytes_max: cache_bytes_max,
        node_cache_bytes_max: cache_bytes_max,
        ..BeeSettings::default()
    })
    .unwrap()
}

/// 20,000 keys in batches of 100, and 500 batches of one key.
fn filled() -> (Remote, Link, u64) {
    let blocks = MemoryBlocks::new();
    let mut tree = family(32 << 20).tree(Link {
        key: LOCAL,
        length: Length::ZERO,
    });
    let mut number = 0;
    let sizes = std::iter::repeat_n(100, 200).chain(std::iter::repeat_n(1, 500));
    for size in sizes {
        let mut batch = tree.batch(&LOCAL, blocks.length(&LOCAL), BatchOptions::default());
        for _ in 0..size {
            batch.put(&blocks, &key(number), &[b'v'; 100]).unwrap();
            number += 1;
        }
        let written = batch.finish(&blocks).unwrap();
        blocks.append(LOCAL, written.blocks().iter().cloned());
        tree.commit(written);
    }
    (Remote::new(blocks), tree.head(), u64::from(number))
}

fn scan(remote: &Remote, tree: &Tree) -> (u64, usize) {
    let mut entries = tree.range(Range::all());
    let (mut count, mut trips) = (0, 0);
    loop {
        let (entry, more) = remote.run(|| entries.next(remote));
        trips += more;
        if entry.is_none() {
            return (count, trips);
        }
        count += 1;
    }
}

#[test]
fn a_cold_scan_reads_each_block_once() {
    let (remote, head, keys) = filled();
    remote.fetch_all();
    let (count, _) = scan(&remote, &family(64 << 20).tree(head));
    assert_eq!(count, keys);
    let mut reads = remote.reads.take();
    let all = reads.len();
    reads.sort_unstable();
    reads.dedup();
    assert_eq!(reads.len(), all, "a block was read again");
}

#[test]
fn a_scan_over_a_slow_link_asks_ahead() {
    let (remote, head, keys) = filled();
    let (count, trips) = scan(&remote, &family(64 << 20).tree(head));
    assert_eq!(count, keys);
    let blocks = remote.here.borrow().len();
    assert!(trips * 10 < blocks, "{trips} round trips for {blocks} blocks");
}

#[test]
fn a_get_over_a_slow_link_needs_few_blocks() {
    let (remote, head, _) = filled();
    let tree = family(64 << 20).tree(head);
    let (entry, trips) = remote.run(|| tree.get(&remote, &key(777)));
    assert_eq!(entry.unwrap().value.unwrap(), [b'v'; 100].as_slice());
    let blocks = remote.here.borrow().len();
    assert!(trips <= 14, "{trips} round trips");
    assert!(blocks <= 60, "{blocks} blocks");
}

#[test]
fn a_difference_reads_only_what_differs() {
    let (remote, head, _) = filled();
    remote.fetch_all();
    let new = family(64 << 20).tree(head);
    let mut old = new.clone();
    old.undo(&remote, 3).unwrap();
    remote.reads.take();
    let mut diff = old.diff(&new, Range::all(), Sameness::Value);
    let mut count = 0;
    while let Some(found) = diff.next(&remote).unwrap() {
        assert!(found.left.is_none() && found.right.is_some());
        count += 1;
    }
    assert_eq!(count, 3);
    let reads = remote.reads.take().len();
    let length = remote.blocks.length(&LOCAL).0;
    assert!(
        u64::try_from(reads).unwrap() * 2 < length,
        "{reads} of {length} blocks"
    );
}

#[test]
fn memory_does_not_grow_with_the_tree() {
    let (remote, head, keys) = filled();
    remote.fetch_all();
    let bound = 256 << 10;
    let bee = family(bound);
    let tree = bee.tree(head);
    let mut entries = tree.range(Range::all());
    let mut count = 0;
    let mut most = 0;
    while let Some(_entry) = entries.next(&remote).unwrap() {
        count += 1;
        let used = bee.cache_use();
        assert!(used.block_bytes <= bound, "{used:?}");
        most = most.max(used.node_bytes);
    }
    assert_eq!(count, keys);
    // The path of the walk is held besides: a node of each level.
    assert!(most <= bound + (128 << 10), "{most} bytes of nodes");
}
