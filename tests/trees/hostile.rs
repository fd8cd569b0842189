//! Trees made of blocks that somebody invented: whatever they say, every operation ends, and soon.
//!
//! Pointers of these blocks lead to one of a few places, so that nearly all of them lead somewhere, and most trees have
//! cycles: among children, among earlier versions, within one core and across cores.
use std::cell::Cell;

use autobee::bee::{
    BatchOptions, Bee, BeeError, BeeSettings, Block, BlockEdit, BlockError, BlockFault, BlockKind, Blocks,
    CoreRecord, EditKind, KeyRecord, MemoryBlocks, NodeLogs, Pointer, Previous, Range, Sameness, Tree,
    ValuePointer, Watch,
};
use autobee::crypto::CoreKey;
use autobee::wire::{Index, Length, Link};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

const CORES: u8 = 2;
const BLOCKS: u64 = 5;

/// More block reads than any operation on so few blocks can need when it is bounded.
const READS_MAX: u64 = 20_000;

/// Blocks, and how often they are asked for.
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

/// Runs everything that can be done with a version. Errors are fine, as long as they come.
fn use_tree(source: &Counted, tree: &Tree, other: &Tree) {
    source.reads.set(0);
    for key in [b"".as_slice(), b"a", b"b", b"zz"] {
        let _ = tree.get(source, key);
    }
    for range in [
        Range::all(),
        Range::all().reverse(),
        Range::all().gt("a").lte("c"),
        Range::prefix("b").reverse(),
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
    let _ = tree.cores(source, Length(BLOCKS));
    let mut changes = tree.changes();
    while let Ok(Some(change)) = changes.next(source) {
        let _ = change.keys(source);
    }
    for sameness in [Sameness::Place, Sameness::Value] {
        let mut diff = tree.diff(other, Range::all(), sameness);
        while let Ok(Some(_)) = diff.next(source) {}
    }
    let mut events = Watch::new(other, Range::prefix("a")).events(tree);
    while let Ok(Some(_)) = events.next(source) {}
    let _ = tree.clone().undo(source, u64::MAX);
    write(source, tree);
}

fn write(source: &Counted, tree: &Tree) {
    let local = core(0);
    let mut batch = tree.batch(&local, Length(BLOCKS), BatchOptions::default());
    for key in [b"a".as_slice(), b"ab", b"c", b"", b"b"] {
        let before = batch.get(source, key);
        let deleted = batch.delete(source, key);
        if let (Ok(before), Ok(deleted)) = (before, deleted) {
            // Where the keys of a node are out of order, a search may miss one; it never finds two things.
            assert!(before.is_some() || !deleted);
        }
        let _ = batch.put(source, key, b"value");
        let _ = batch.peek(source, &Range::all());
    }
    let _ = batch.delete_range(source, &Range::all().gte("b").limit(50));
    if let Ok(written) = batch.finish(source) {
        for (index, block) in (BLOCKS..).zip(written.blocks()) {
            Block::decode(block, Index(index)).unwrap();
        }
    }
}

fn number(max: u64) -> impl Strategy<Value = u64> {
    prop_oneof![12 => 0..max, 1 => Just(max), 1 => any::<u32>().prop_map(u64::from), 1 => Just((1 << 53) - 1)]
}

fn pointer() -> impl Strategy<Value = Pointer> {
    (number(2), number(BLOCKS), number(3)).prop_map(|(core, seq, offset)| Pointer { core, seq, offset })
}

fn edit() -> impl Strategy<Value = BlockEdit> {
    let kind = prop_oneof![
        6 => Just(EditKind::Insert),
        1 => Just(EditKind::Set),
        1 => Just(EditKind::Remove),
        2 => Just(EditKind::Cohort),
        1 => (4..8_u8).prop_map(EditKind::Unknown),
    ];
    let index = prop_oneof![5 => 0..3_u8, 1 => any::<u8>()];
    (kind, index, proptest::option::weighted(0.9, pointer())).prop_map(|(kind, index, pointer)| BlockEdit {
        kind,
        index,
        pointer,
    })
}

/// Logs that make a node whose lists fit each other, mostly.
fn node() -> impl Strategy<Value = NodeLogs> {
    let insert = |(index, pointer)| BlockEdit {
        kind: EditKind::Insert,
        index,
        pointer: Some(pointer),
    };
    let sound =
        (vec(pointer(), 0..4), vec(pointer(), 5), any::<bool>()).prop_map(move |(keys, kids, leaf)| {
            let count = if leaf { 0 } else { keys.len() + 1 };
            NodeLogs {
                children: (0..).zip(kids.into_iter().take(count)).map(insert).collect(),
                keys: (0..).zip(keys).map(insert).collect(),
            }
        });
    let wild =
        (vec(edit(), 0..5), vec(edit(), 0..5)).prop_map(|(keys, children)| NodeLogs { keys, children });
    prop_oneof![4 => sound, 1 => wild]
}

fn key_record() -> impl Strategy<Value = KeyRecord> {
    let key = proptest::sample::select(vec!["", "a", "aa", "ab", "b", "ba", "c"]);
    let value_pointer = proptest::option::weighted(0.2, (pointer(), 0..2_u64));
    (key, any::<bool>(), value_pointer).prop_map(|(key, value, pointer)| KeyRecord {
        key: Bytes::from_static(key.as_bytes()),
        value: value.then(|| Bytes::from_static(b"v")),
        value_pointer: pointer.map(|(at, split)| ValuePointer { at, split }),
    })
}

prop_compose! {
    fn block()(
        checkpoint in number(BLOCKS),
        batch in (number(3), number(3)),
        previous in proptest::option::of((0..2_u64, number(BLOCKS))),
        metadata in proptest::option::weighted(0.8, vec(0..CORES, 0..3)),
        tree in proptest::option::weighted(0.95, vec(node(), 1..4)),
        keys in proptest::option::weighted(0.95, vec(key_record(), 1..4)),
        values in proptest::option::of(vec(Just(Bytes::from_static(b"big")), 0..3)),
        cohorts in proptest::option::of(vec(vec(edit(), 0..4), 0..3)),
        degree in prop_oneof![Just(2_u64), Just(128), 1..4_u64, number(200)],
    ) -> Block {
        Block {
            kind: BlockKind::Current,
            checkpoint,
            batch_start: batch.0,
            batch_end: batch.1,
            previous: previous.map(|(core, seq)| Previous { core, seq }),
            metadata: metadata.map(|cores| cores.into_iter().map(|number| CoreRecord::from(core(number))).collect()),
            tree,
            keys,
            values,
            cohorts,
            degree,
        }
    }
}

fn family(cache_bytes_max: usize) -> Bee {
    Bee::new(BeeSettings {
        block_cache_bytes_max: cache_bytes_max,
        node_cache_bytes_max: cache_bytes_max,
        ..BeeSettings::default()
    })
    .unwrap()
}

fn source(cores: &[Vec<Vec<u8>>]) -> Counted {
    let blocks = MemoryBlocks::new();
    for (number, bytes) in (0..).zip(cores) {
        blocks.append(core(number), bytes.iter().map(|block| Bytes::from(block.clone())));
    }
    Counted {
        blocks,
        reads: Cell::new(0),
    }
}

fn use_all(source: &Counted, cache_bytes_max: usize) {
    let trees: Vec<Tree> = (0..CORES)
        .flat_map(|number| {
            (1..=BLOCKS).map(move |length| Link {
                key: core(number),
                length: Length(length),
            })
        })
        .map(|head| family(cache_bytes_max).tree(head))
        .collect();
    for (tree, other) in trees.iter().zip(trees.iter().cycle().skip(3)) {
        use_tree(source, tree, other);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn invented_blocks_end_every_operation(
        cores in vec(vec(block(), 5), 2),
        cache_bytes_max in prop_oneof![Just(0_usize), Just(1 << 20)],
    ) {
        let cores: Vec<Vec<Vec<u8>>> = cores
            .iter()
            .map(|blocks| blocks.iter().map(|block| block.encode().unwrap()).collect())
            .collect();
        use_all(&source(&cores), cache_bytes_max);
    }

    #[test]
    fn damaged_blocks_end_every_operation(
        puts in vec(vec((0..200_u8, 0..3_usize), 1..30), 5),
        damage in vec((0..5_usize, any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let local = core(0);
        let whole = MemoryBlocks::new();
        let settings = BeeSettings { degree: 2, value_inline_bytes_max: 1, ..BeeSettings::default() };
        let mut tree = Bee::new(settings).unwrap().tree(Link { key: local, length: Length::ZERO });
        for batch_puts in &puts {
            let options = BatchOptions { block_bytes_preferred: Some(1 << 20), ..BatchOptions::default() };
            let mut batch = tree.batch(&local, whole.length(&local), options);
            for (key, size) in batch_puts {
                batch.put(&whole, &[*key], &vec![*key; *size]).unwrap();
            }
            let written = batch.finish(&whole).unwrap();
            whole.append(local, written.blocks().iter().cloned());
            tree.commit(written);
        }
        let length = whole.length(&local).0.min(BLOCKS);
        let mut blocks: Vec<Vec<u8>> =
            (0..length).map(|index| whole.block(&local, Index(index)).unwrap().to_vec()).collect();
        for (position, at, byte) in &damage {
            if let Some(block) = blocks.get_mut(*position) {
                let at = at.index(block.len());
                block[at] = *byte;
            }
        }
        use_all(&source(&[blocks]), 1 << 20);
    }
}

/// One root that is its own child.
#[test]
fn a_node_that_is_its_own_child_is_too_deep() {
    let mut block = Block::empty();
    let insert = |index, offset| BlockEdit {
        kind: EditKind::Insert,
        index,
        pointer: Some(Pointer {
            core: 0,
            seq: 0,
            offset,
        }),
    };
    block.tree = Some(vec![NodeLogs {
        keys: vec![insert(0, 0)],
        children: vec![insert(0, 0), insert(1, 0)],
    }]);
    block.keys = Some(vec![KeyRecord {
        key: Bytes::from_static(b"m"),
        value: None,
        value_pointer: None,
    }]);
    let source = source(&[vec![block.encode().unwrap()]]);
    let tree = family(1 << 20).tree(Link {
        key: core(0),
        length: Length(1),
    });
    let error = tree.get(&source, b"a").unwrap_err();
    assert!(
        matches!(
            error,
            BeeError::Corrupt {
                what: BlockFault::TooDeep(64),
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(source.reads.get(), 1, "one block is read once");
    assert!(tree.get(&source, b"m").unwrap().is_some());
}

/// ```text
///   core 0: block 0 -> core 1: block 0 -> core 0: block 0
/// ```
#[test]
fn versions_that_go_round_in_a_ring_are_corrupt() {
    let ring = |to: u8| {
        let mut block = Block::empty();
        block.checkpoint = 1;
        block.metadata = Some(vec![CoreRecord::from(core(to))]);
        block.previous = Some(Previous { core: 1, seq: 0 });
        block.encode().unwrap()
    };
    let source = source(&[vec![ring(1)], vec![ring(0)]]);
    let mut tree = family(1 << 20).tree(Link {
        key: core(0),
        length: Length(1),
    });
    let error = tree.undo(&source, 10).unwrap_err();
    assert!(
        matches!(
            error,
            BeeError::Corrupt {
                what: BlockFault::Previous,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(tree.head().length, Length(1), "the view stays where it was");
}

/// A log of 60 kB that runs one cohort of 60 kB again and again would make a list of 3.6 thousand million elements.
#[test]
fn a_cohort_that_is_run_too_often_is_corrupt() {
    let cohort = |index| BlockEdit {
        kind: EditKind::Cohort,
        index,
        pointer: Some(Pointer::default()),
    };
    let insert = BlockEdit {
        kind: EditKind::Insert,
        index: 0,
        pointer: None,
    };
    let mut block = Block::empty();
    block.tree = Some(vec![NodeLogs {
        keys: vec![cohort(0); 60_000],
        children: Vec::new(),
    }]);
    block.cohorts = Some(vec![vec![insert; 60_000]]);
    let source = source(&[vec![block.encode().unwrap()]]);
    let tree = family(1 << 20).tree(Link {
        key: core(0),
        length: Length(1),
    });
    let error = tree.get(&source, b"a").unwrap_err();
    assert!(
        matches!(
            error,
            BeeError::Corrupt {
                what: BlockFault::LogTooLong,
                ..
            }
        ),
        "{error}"
    );
}
