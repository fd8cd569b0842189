//! The tree against an ordered map: whatever is done to it, and whatever goes wrong on the way, it holds what the map
//! holds.
//!
//! Three writers share one set of cores and build on each other's versions. Every block is missing the first time
//! that it is read, so every operation is interrupted and run again.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use autobee::bee::{
    BatchOptions, Bee, BeeError, BeeSettings, BlockError, Blocks, MemoryBlocks, Range, Sameness, Tree,
    TreeBatch, Watch,
};
use autobee::crypto::CoreKey;
use autobee::wire::{Index, Length, Link};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index as Pick;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// One operation of a batch.
#[derive(Debug, Clone)]
enum Op {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Swap(Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>),
    DeleteRange(Query),
    Clear,
}

/// How a batch ends.
#[derive(Debug, Clone, Copy)]
enum Ending {
    Commit,
    /// The append fails: nothing may have happened.
    FailedAppend,
    /// It is given up before it becomes blocks.
    Dropped,
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize, Vec<Op>, Ending, usize),
    /// Moves a writer's view to a version that somebody wrote before.
    Move(usize, Pick),
    Undo(usize, u64),
    Reopen(usize),
    DropCaches(usize),
    Forget,
    Diff(usize, Pick, Query),
    Read(usize, Query),
}

#[derive(Debug, Clone)]
struct Query {
    lower: Option<(Vec<u8>, bool)>,
    upper: Option<(Vec<u8>, bool)>,
    reverse: bool,
    limit: Option<u64>,
}

/// Blocks that are missing when they are first asked for.
#[derive(Default)]
struct Sparse {
    blocks: MemoryBlocks,
    fetched: Mutex<BTreeSet<(CoreKey, Index)>>,
}

impl Blocks for Sparse {
    fn block(&self, core: &CoreKey, index: Index) -> Result<Bytes, BlockError> {
        let block = self.blocks.block(core, index)?;
        if self.fetched.lock().unwrap().insert((*core, index)) {
            return Err(BlockError::Missing);
        }
        Ok(block)
    }
}

impl Sparse {
    /// Runs an operation until nothing is missing.
    fn retry<T>(&self, mut operation: impl FnMut(&dyn Blocks) -> Result<T, BeeError>) -> T {
        for _ in 0..100_000 {
            match operation(self) {
                Err(BeeError::Unavailable { .. }) => {}
                result => return result.unwrap(),
            }
        }
        panic!("always missing a block");
    }
}

struct Writer {
    local: CoreKey,
    tree: Tree,
}

struct World {
    sparse: Sparse,
    writers: Vec<Writer>,
    settings: BeeSettings,
    /// What every version holds, and what it was built on.
    versions: BTreeMap<Link, (Map, Option<Link>)>,
}

impl World {
    fn new(settings: BeeSettings) -> Self {
        let writers = (0..3).map(|number| {
            let local = CoreKey::new([number; 32]);
            let head = Link {
                key: local,
                length: Length::ZERO,
            };
            Writer {
                local,
                tree: Bee::new(settings.clone()).unwrap().tree(head),
            }
        });
        Self {
            sparse: Sparse::default(),
            writers: writers.collect(),
            settings,
            versions: BTreeMap::new(),
        }
    }

    fn map(&self, head: Link) -> Map {
        self.versions
            .get(&head)
            .map_or_else(Map::new, |(map, _)| map.clone())
    }

    fn version(&self, pick: &Pick) -> Option<Link> {
        let heads: Vec<&Link> = self.versions.keys().collect();
        (!heads.is_empty()).then(|| **pick.get(&heads))
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Write(writer, ops, ending, block_bytes) => self.write(*writer, ops, *ending, *block_bytes),
            Step::Move(writer, pick) => {
                if let Some(head) = self.version(pick) {
                    self.writers[*writer].tree.move_to(head);
                }
            }
            Step::Undo(writer, count) => self.undo(*writer, *count),
            Step::Reopen(writer) => {
                let writer = &mut self.writers[*writer];
                let head = writer.tree.head();
                writer.tree = Bee::new(self.settings.clone()).unwrap().tree(head);
            }
            Step::DropCaches(writer) => self.writers[*writer].tree.bee().drop_caches(),
            Step::Forget => self.sparse.fetched.lock().unwrap().clear(),
            Step::Diff(writer, pick, query) => self.diff(*writer, pick, query),
            Step::Read(writer, query) => {
                let tree = &self.writers[*writer].tree;
                let mut entries = tree.range(query.range());
                let found: Vec<(Vec<u8>, Vec<u8>)> =
                    std::iter::from_fn(|| self.sparse.retry(|blocks| entries.next(blocks)))
                        .map(|entry| (entry.key.to_vec(), entry.value.unwrap().to_vec()))
                        .collect();
                assert_eq!(found, query.of(&self.map(tree.head())));
            }
        }
    }

    fn write(&mut self, writer: usize, ops: &[Op], ending: Ending, block_bytes: usize) {
        let Writer { local, tree } = &self.writers[writer];
        let (local, head) = (*local, tree.head());
        let mut watch = Watch::new(tree, Range::all());
        let options = BatchOptions {
            block_bytes_preferred: Some(block_bytes),
            ..BatchOptions::default()
        };
        let before = self.map(head);
        let mut map = before.clone();
        let mut base = Some(head).filter(|head| head.length > Length::ZERO);
        let mut batch = tree.batch(&local, self.sparse.blocks.length(&local), options);
        for op in ops {
            self.apply(&mut batch, &mut map, op);
            if matches!(op, Op::Clear) {
                base = None;
            }
        }
        let seen: Vec<(Vec<u8>, Vec<u8>)> = self
            .sparse
            .retry(|blocks| batch.range(blocks, &Range::all()))
            .into_iter()
            .map(|pair| (pair.key.to_vec(), pair.value.unwrap().to_vec()))
            .collect();
        assert_eq!(seen, Vec::from_iter(map.clone()), "a batch reads what it wrote");
        if matches!(ending, Ending::Dropped) {
            drop(batch);
            return self.check(writer);
        }
        // What `finish` reads is always there: the end of the local core.
        let written = {
            let last = self.sparse.blocks.length(&local).0;
            let mut fetched = self.sparse.fetched.lock().unwrap();
            fetched.extend((0..last).map(|index| (local, Index(index))));
            drop(fetched);
            batch.finish(&self.sparse).unwrap()
        };
        if matches!(ending, Ending::FailedAppend) {
            drop(written);
            return self.check(writer);
        }
        let wrote = !written.blocks().is_empty();
        self.sparse.blocks.append(local, written.blocks().iter().cloned());
        let tree = &mut self.writers[writer].tree;
        tree.commit(written);
        if wrote {
            self.versions.insert(tree.head(), (map, base));
        } else {
            // Nothing was applied: the view stays, also when the batch was cleared first.
            assert_eq!(tree.head(), head);
        }
        self.check_watch(writer, &mut watch, &before);
        self.check(writer);
    }

    fn apply(&self, batch: &mut TreeBatch, map: &mut Map, op: &Op) {
        let sparse = &self.sparse;
        match op {
            Op::Put(key, value) => {
                let applied = sparse.retry(|blocks| batch.put(blocks, key, value));
                assert_eq!(
                    applied,
                    map.insert(key.clone(), value.clone()).as_ref() != Some(value)
                );
            }
            Op::Delete(key) => {
                let applied = sparse.retry(|blocks| batch.delete(blocks, key));
                assert_eq!(applied, map.remove(key).is_some());
            }
            Op::Swap(key, expected, new) => {
                let applied = sparse
                    .retry(|blocks| batch.compare_and_set(blocks, key, expected.as_deref(), new.as_deref()));
                assert_eq!(applied, map.get(key) == expected.as_ref());
                match new {
                    Some(new) if applied => drop(map.insert(key.clone(), new.clone())),
                    None if applied => drop(map.remove(key)),
                    _ => {}
                }
            }
            Op::DeleteRange(query) => {
                // A limit counts anew with every try, so the range is given without one.
                let query = Query {
                    limit: None,
                    ..query.clone()
                };
                sparse.retry(|blocks| batch.delete_range(blocks, &query.range()));
                for (key, _) in query.of(map) {
                    map.remove(&key);
                }
            }
            Op::Clear => {
                batch.clear();
                map.clear();
            }
        }
    }

    fn undo(&mut self, writer: usize, count: u64) {
        let tree = &mut self.writers[writer].tree;
        let mut expected = Some(tree.head()).filter(|head| head.length > Length::ZERO);
        for _ in 0..count {
            expected = expected.and_then(|head| self.versions[&head].1);
        }
        self.sparse.retry(|blocks| tree.undo(blocks, count));
        let head = tree.head();
        assert_eq!(Some(head).filter(|head| head.length > Length::ZERO), expected);
        self.check(writer);
    }

    fn diff(&self, writer: usize, pick: &Pick, query: &Query) {
        let Some(other) = self.version(pick) else { return };
        let tree = &self.writers[writer].tree;
        let (left, right) = (self.map(tree.head()), self.map(other));
        // A limit counts differences, not entries.
        let all = Query {
            limit: None,
            ..query.clone()
        };
        let mut keys: BTreeSet<Vec<u8>> = all.of(&left).into_iter().map(|(key, _)| key).collect();
        keys.extend(all.of(&right).into_iter().map(|(key, _)| key));
        let mut expected: Vec<_> = keys
            .into_iter()
            .filter(|key| left.get(key) != right.get(key))
            .map(|key| (left.get(&key).cloned(), right.get(&key).cloned()))
            .collect();
        if query.reverse {
            expected.reverse();
        }
        let limit = query.limit.and_then(|limit| usize::try_from(limit).ok());
        expected.truncate(limit.unwrap_or(usize::MAX));
        let mut diff = tree.diff(&tree.checkout(other), query.range(), Sameness::Value);
        let found: Vec<_> = std::iter::from_fn(|| self.sparse.retry(|blocks| diff.next(blocks)))
            .map(|found| {
                let value =
                    |entry: Option<autobee::bee::TreeEntry>| entry.map(|entry| entry.value.unwrap().to_vec());
                (value(found.left), value(found.right))
            })
            .collect();
        assert_eq!(found, expected);
    }

    /// The events since `before` turn it into what the tree holds.
    fn check_watch(&self, writer: usize, watch: &mut Watch, before: &Map) {
        let tree = &self.writers[writer].tree;
        let mut map = before.clone();
        let mut events = watch.events(tree);
        while let Some(event) = self.sparse.retry(|blocks| events.next(blocks)) {
            let value =
                |entry: Option<autobee::bee::TreeEntry>| entry.map(|entry| entry.value.unwrap().to_vec());
            let (old, new) = (value(event.old), value(event.new));
            assert_ne!(old, new);
            assert_eq!(map.remove(&event.key.to_vec()), old);
            if let Some(new) = new {
                map.insert(event.key.to_vec(), new);
            }
        }
        watch.seen(&events);
        assert_eq!(map, self.map(tree.head()));
    }

    /// The view, and the whole chain below it, hold what they should.
    fn check(&self, writer: usize) {
        let tree = &self.writers[writer].tree;
        let expected = self.map(tree.head());
        let mut entries = tree.range(Range::all());
        let mut found = Map::new();
        while let Some(entry) = self.sparse.retry(|blocks| entries.next(blocks)) {
            found.insert(entry.key.to_vec(), entry.value.unwrap().to_vec());
        }
        assert_eq!(found, expected);
        for key in (0..KEYS).map(key) {
            let entry = self.sparse.retry(|blocks| tree.get(blocks, &key));
            let value = entry.map(|entry| entry.value.unwrap().to_vec());
            assert_eq!(value, expected.get(&key).cloned());
        }
        let mut changes = tree.changes();
        let mut head = Some(tree.head()).filter(|head| head.length > Length::ZERO);
        while let Some(change) = self.sparse.retry(|blocks| changes.next(blocks)) {
            let (map, base) = &self.versions[&change.head];
            assert_eq!(Some(change.head), head);
            assert_eq!(change.tail, *base);
            for written in self.sparse.retry(|blocks| change.keys(blocks)) {
                assert_eq!(
                    map.get(&written.key.to_vec()),
                    written.value.map(|value| value.to_vec()).as_ref()
                );
            }
            head = change.tail;
        }
        assert_eq!(head, None);
    }
}

impl Query {
    fn range(&self) -> Range {
        let mut range = Range::all();
        if let Some((key, inclusive)) = &self.lower {
            range = if *inclusive { range.gte(key) } else { range.gt(key) };
        }
        if let Some((key, inclusive)) = &self.upper {
            range = if *inclusive { range.lte(key) } else { range.lt(key) };
        }
        if self.reverse {
            range = range.reverse();
        }
        match self.limit {
            Some(limit) => range.limit(limit),
            None => range,
        }
    }

    fn of(&self, map: &Map) -> Vec<(Vec<u8>, Vec<u8>)> {
        let inside = |key: &Vec<u8>| {
            let above = self
                .lower
                .as_ref()
                .is_none_or(|(bound, inclusive)| key > bound || (*inclusive && key == bound));
            let below = self
                .upper
                .as_ref()
                .is_none_or(|(bound, inclusive)| key < bound || (*inclusive && key == bound));
            above && below
        };
        let mut pairs: Vec<_> = map
            .iter()
            .filter(|(key, _)| inside(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if self.reverse {
            pairs.reverse();
        }
        let limit = self.limit.and_then(|limit| usize::try_from(limit).ok());
        pairs.truncate(limit.unwrap_or(usize::MAX));
        pairs
    }
}

const KEYS: u8 = 96;

/// Keys of different lengths, some a prefix of others, one empty.
fn key(number: u8) -> Vec<u8> {
    match number {
        0 => Vec::new(),
        _ if number.is_multiple_of(3) => vec![number / 6, number],
        _ => vec![number / 2],
    }
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    (0..KEYS).prop_map(key)
}

fn any_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => vec(0..3_u8, 0..3),
        // Stored apart from its key.
        1 => (any::<u8>(), 17..90_usize).prop_map(|(byte, size)| vec![byte; size]),
    ]
}

fn any_query() -> impl Strategy<Value = Query> {
    let bound = || proptest::option::of((any_key(), any::<bool>()));
    let limit = proptest::option::weighted(0.3, 0..6_u64);
    (bound(), bound(), any::<bool>(), limit).prop_map(|(lower, upper, reverse, limit)| Query {
        lower,
        upper,
        reverse,
        limit,
    })
}

fn any_op() -> impl Strategy<Value = Op> {
    let maybe = || proptest::option::of(any_value());
    prop_oneof![
        30 => (any_key(), any_value()).prop_map(|(key, value)| Op::Put(key, value)),
        16 => any_key().prop_map(Op::Delete),
        4 => (any_key(), maybe(), maybe()).prop_map(|(key, expected, new)| Op::Swap(key, expected, new)),
        2 => any_query().prop_map(Op::DeleteRange),
        1 => Just(Op::Clear),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let ending = prop_oneof![
        8 => Just(Ending::Commit),
        1 => Just(Ending::FailedAppend),
        1 => Just(Ending::Dropped),
    ];
    let block_bytes = prop_oneof![Just(4096_usize), Just(40), Just(0)];
    prop_oneof![
        10 => (0..3_usize, vec(any_op(), 0..60), ending, block_bytes)
            .prop_map(|(writer, ops, ending, size)| Step::Write(writer, ops, ending, size)),
        4 => (0..3_usize, any::<Pick>()).prop_map(|(writer, pick)| Step::Move(writer, pick)),
        1 => (0..3_usize, 0..4_u64).prop_map(|(writer, count)| Step::Undo(writer, count)),
        1 => (0..3_usize).prop_map(Step::Reopen),
        1 => (0..3_usize).prop_map(Step::DropCaches),
        1 => Just(Step::Forget),
        2 => (0..3_usize, any::<Pick>(), any_query())
            .prop_map(|(writer, pick, query)| Step::Diff(writer, pick, query)),
        2 => (0..3_usize, any_query()).prop_map(|(writer, query)| Step::Read(writer, query)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_tree_is_an_ordered_map(
        degree in prop_oneof![4 => 2..6_u8, 1 => Just(128_u8)],
        cache_bytes_max in prop_oneof![Just(0_usize), Just(2000), Just(1 << 20)],
        steps in vec(any_step(), 1..24),
    ) {
        let mut world = World::new(BeeSettings {
            degree,
            value_inline_bytes_max: 16,
            block_cache_bytes_max: cache_bytes_max,
            node_cache_bytes_max: cache_bytes_max,
            ..BeeSettings::default()
        });
        for step in &steps {
            world.step(step);
        }
        for writer in 0..3 {
            world.check(writer);
        }
    }
}
