//! Blocks of a tree are read from peers: whatever they say, every operation on the tree ends, and soon, and no bytes
//! panic or take more memory than they are worth.
//!
//! ```text
//! cargo +stable fuzz run -s none bee -- -len_control=0 -max_len=2048
//! ```
//!
//! The input is a list of blocks of two cores: a byte whose lowest bit says which core and whose other bits say how long
//! the block is, then the block. The list of core numbers is whatever the blocks say. A corpus grows fastest from
//! the blocks in `tests/vectors/bee_encoding.json`.
#![no_main]

use std::cell::Cell;

use autobee::bee::{
    BatchOptions, Bee, BeeSettings, Block, BlockError, Blocks, MemoryBlocks, Range, Sameness, Tree,
};
use autobee::crypto::CoreKey;
use autobee::wire::{Index, Link};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

/// More reads than any bounded work on one input needs.
const READS_MAX: u64 = 200_000;

struct Counted {
    blocks: MemoryBlocks,
    reads: Cell<u64>,
}

impl Blocks for Counted {
    fn block(&self, core: &CoreKey, index: Index) -> Result<Bytes, BlockError> {
        self.reads.set(self.reads.get() + 1);
        assert!(self.reads.get() < READS_MAX, "reads without end");
        self.blocks.block(core, index)
    }
}

fn core(number: u8) -> CoreKey {
    CoreKey::new([number; 32])
}

fuzz_target!(|bytes: &[u8]| {
    let source = Counted {
        blocks: MemoryBlocks::new(),
        reads: Cell::new(0),
    };
    let mut rest = bytes;
    while let Some((head, tail)) = rest.split_first() {
        let size = usize::from(head >> 1).min(tail.len());
        let (block, tail) = tail.split_at(size);
        let key = core(head & 1);
        let block = Bytes::copy_from_slice(block);
        check_block(&block, Index(source.blocks.length(&key).0));
        source.blocks.append(key, [block]);
        rest = tail;
    }
    let tree = |number| {
        let settings = BeeSettings {
            block_cache_bytes_max: 1 << 20,
            node_cache_bytes_max: 1 << 20,
            ..BeeSettings::default()
        };
        let key = core(number);
        let length = source.blocks.length(&key);
        Bee::new(settings)
            .expect("the settings are valid")
            .tree(Link { key, length })
    };
    let (left, right) = (tree(0), tree(1));
    use_tree(&source, &left, &right);
    use_tree(&source, &right, &left);
});

/// A block that can be read can be written, and says the same then.
fn check_block(bytes: &Bytes, seq: Index) {
    let Ok(block) = Block::decode(bytes, seq) else {
        return;
    };
    let written = Bytes::from(block.encode().expect("a block that was read can be written"));
    let mut again = Block::decode(&written, seq).expect("a block that was written can be read");
    again.kind = block.kind;
    assert_eq!(again, block);
}

fn use_tree(source: &Counted, tree: &Tree, other: &Tree) {
    for key in [b"".as_slice(), b"a", b"m", b"\xff"] {
        let _ = tree.get(source, key);
    }
    for range in [
        Range::all(),
        Range::all().reverse(),
        Range::all().gt("a").lte("m"),
    ] {
        let mut last: Option<Bytes> = None;
        let mut entries = tree.range(range.clone());
        while let Ok(Some(entry)) = entries.next(source) {
            let order = last.map(|last| last.cmp(&entry.key));
            assert!(order.is_none_or(|order| order.is_lt() != range.is_reverse() && order.is_ne()));
            last = Some(entry.key);
        }
    }
    let _ = tree.shape(source);
    let mut changes = tree.changes();
    while let Ok(Some(change)) = changes.next(source) {
        let _ = change.keys(source);
    }
    let mut diff = tree.diff(other, Range::all(), Sameness::Value);
    while let Ok(Some(_)) = diff.next(source) {}
    let _ = tree.clone().undo(source, u64::MAX);
    write(source, tree);
}

fn write(source: &Counted, tree: &Tree) {
    let local = core(0);
    let length = source.blocks.length(&local);
    let mut batch = tree.batch(&local, length, BatchOptions::default());
    for key in [b"a".as_slice(), b"", b"m", b"z"] {
        let _ = batch.delete(source, key);
        let _ = batch.put(source, key, b"value");
        let _ = batch.get(source, key);
    }
    let _ = batch.delete_range(source, &Range::all().gte("b").limit(50));
    if let Ok(written) = batch.finish(source) {
        for (index, block) in (length.0..).zip(written.blocks()) {
            Block::decode(block, Index(index)).expect("a block that was written can be read");
        }
    }
}
