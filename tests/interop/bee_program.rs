//! Random programs of batches over a few cores, and what their versions must hold.

use std::collections::BTreeMap;

use autobee::bee::Range;
use serde_json::{Value, json};

pub(crate) type Map = BTreeMap<Vec<u8>, Vec<u8>>;
pub(crate) type Pair = (Vec<u8>, Vec<u8>);
pub(crate) type Differences = Vec<(Option<Pair>, Option<Pair>)>;

/// A random program, the same in every run. Node has the even turns.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) seed: u64,
    pub(crate) cores: usize,
    pub(crate) degree: u8,
    /// How many keys there are to choose from.
    pub(crate) keys: u64,
    pub(crate) turns: usize,
    /// Batches of a turn.
    pub(crate) writes: usize,
    /// The most operations of a batch.
    pub(crate) ops_max: u64,
}

/// One batch.
pub(crate) struct Write {
    pub(crate) local: usize,
    /// The version that it builds on.
    pub(crate) on: usize,
    pub(crate) block_bytes: usize,
    pub(crate) is_cleared: bool,
    pub(crate) ops: Vec<Op>,
}

pub(crate) enum Op {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    /// From a key to before another one. Only ours can do it.
    DeleteRange(Vec<u8>, Vec<u8>),
}

/// A head: which core, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) core: usize,
    pub(crate) length: u64,
}

/// What a version must hold.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) map: Map,
    /// The version that it was built on. None where a history begins.
    pub(crate) base: Option<usize>,
}

/// A range to be read of a version.
pub(crate) struct Query {
    pub(crate) version: usize,
    pub(crate) lower: Option<(Vec<u8>, bool)>,
    pub(crate) upper: Option<(Vec<u8>, bool)>,
    pub(crate) is_reverse: bool,
    pub(crate) limit: Option<u64>,
}

/// What both sides are asked after a turn.
pub(crate) struct Questions {
    pub(crate) ranges: Vec<Query>,
    pub(crate) gets: Vec<(usize, Vec<u8>)>,
    pub(crate) diffs: Vec<(usize, usize)>,
}

/// What one side has read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answers {
    pub(crate) listings: Vec<Vec<Pair>>,
    pub(crate) chains: Vec<Vec<Place>>,
    pub(crate) ranges: Vec<Vec<Pair>>,
    pub(crate) gets: Vec<Option<Pair>>,
    pub(crate) diffs: Vec<Differences>,
}

impl Program {
    /// The batches of a turn, and what must come out of them.
    pub(crate) fn writes(&self, random: &mut Random, model: &mut Vec<Version>, is_node: bool) -> Vec<Write> {
        let mut writes = Vec::new();
        for _ in 0..self.writes {
            let newest = model.len() - 1;
            let on = if random.one_in(3) {
                random.index(model.len())
            } else {
                newest
            };
            let is_cleared = random.one_in(20);
            let mut map = if is_cleared {
                Map::new()
            } else {
                model[on].map.clone()
            };
            let ops = if !map.is_empty() && random.one_in(10) {
                // Changes nothing, and makes no version.
                vec![Op::Delete(b"not a key".to_vec())]
            } else {
                self.ops(random, is_node)
            };
            for op in &ops {
                op.apply(&mut map);
            }
            model.push(Version {
                map,
                base: Some(on).filter(|_| !is_cleared),
            });
            writes.push(Write {
                local: random.index(self.cores),
                on,
                block_bytes: [4096, 4096, 200][random.index(3)],
                is_cleared,
                ops,
            });
        }
        writes
    }

    fn ops(&self, random: &mut Random, is_node: bool) -> Vec<Op> {
        // A batch on nothing that does nothing confuses the original: it begins with a key, which is new there.
        let mut ops = vec![Op::Put(self.key(random), value(random))];
        for _ in 0..random.below(self.ops_max) {
            let key = self.key(random);
            ops.push(match random.below(24) {
                0..15 => Op::Put(key, value(random)),
                23 if !is_node => {
                    let end = [&key[..], b"9"].concat();
                    Op::DeleteRange(key, end)
                }
                _ => Op::Delete(key),
            });
        }
        ops
    }

    /// A text, some bytes, or nothing at all; some keys are the beginning of others.
    pub(crate) fn key(&self, random: &mut Random) -> Vec<u8> {
        let number = random.below(self.keys);
        match number % 4 {
            _ if number == 0 => Vec::new(),
            0 => number.to_le_bytes().to_vec(),
            1 => (number / 8).to_le_bytes()[..2].to_vec(),
            _ => format!("key {number}").into_bytes(),
        }
    }
}

/// A value, sometimes empty, sometimes too long to be stored next to its key.
fn value(random: &mut Random) -> Vec<u8> {
    let byte = random.array()[0];
    let length = if random.one_in(30) {
        1000 + random.index(2000)
    } else {
        random.index(24)
    };
    vec![byte; length]
}

impl Op {
    fn apply(&self, map: &mut Map) {
        match self {
            Self::Put(key, value) => drop(map.insert(key.clone(), value.clone())),
            Self::Delete(key) => drop(map.remove(key)),
            Self::DeleteRange(from, to) => map.retain(|key, _| key < from || key >= to),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Put(key, value) => json!({ "put": [hex(key), hex(value)] }),
            Self::Delete(key) => json!({ "delete": hex(key) }),
            Self::DeleteRange(..) => panic!("only ours can do that"),
        }
    }
}

impl Questions {
    pub(crate) fn new(program: &Program, random: &mut Random, versions: usize) -> Self {
        let bound = |random: &mut Random| {
            let key = program.key(random);
            (!random.one_in(4)).then(|| (key, random.one_in(2)))
        };
        let ranges = (0..24).map(|_| Query {
            version: random.index(versions),
            lower: bound(random),
            upper: bound(random),
            is_reverse: random.one_in(2),
            limit: random.one_in(3).then(|| random.below(20)),
        });
        Self {
            ranges: ranges.collect(),
            gets: (0..60)
                .map(|_| (random.index(versions), program.key(random)))
                .collect(),
            diffs: (0..6)
                .map(|_| (random.index(versions), random.index(versions)))
                .collect(),
        }
    }
}

impl Query {
    pub(crate) fn range(&self) -> Range {
        let mut range = Range::all();
        if let Some((key, is_inclusive)) = &self.lower {
            range = if *is_inclusive {
                range.gte(key)
            } else {
                range.gt(key)
            };
        }
        if let Some((key, is_inclusive)) = &self.upper {
            range = if *is_inclusive {
                range.lte(key)
            } else {
                range.lt(key)
            };
        }
        if self.is_reverse {
            range = range.reverse();
        }
        match self.limit {
            Some(limit) => range.limit(limit),
            None => range,
        }
    }

    pub(crate) fn of(&self, map: &Map) -> Vec<Pair> {
        let range = self.range();
        let inside = map.iter().filter(|(key, _)| range.contains(key));
        let mut pairs: Vec<Pair> = inside.map(|(key, value)| (key.clone(), value.clone())).collect();
        if self.is_reverse {
            pairs.reverse();
        }
        pairs.truncate(
            self.limit
                .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap()),
        );
        pairs
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut object = json!({ "version": self.version, "reverse": self.is_reverse });
        if let Some((key, is_inclusive)) = &self.lower {
            object[if *is_inclusive { "gte" } else { "gt" }] = hex(key).into();
        }
        if let Some((key, is_inclusive)) = &self.upper {
            object[if *is_inclusive { "lte" } else { "lt" }] = hex(key).into();
        }
        if let Some(limit) = self.limit {
            object["limit"] = limit.into();
        }
        object
    }
}

impl Answers {
    /// What the model holds.
    pub(crate) fn expected(model: &[Version], heads: &[Place], questions: &Questions) -> Self {
        let chain = |version: usize| {
            let mut chain = Vec::new();
            let mut at = Some(version);
            while let Some(version) = at {
                let head = heads[version];
                // A batch that changes nothing makes no version of its own.
                if head.length > 0 && chain.last() != Some(&head) {
                    chain.push(head);
                }
                at = model[version].base;
            }
            chain
        };
        let entry = |version: usize, key: &[u8]| {
            let value = model[version].map.get(key)?;
            Some((key.to_vec(), value.clone()))
        };
        let differences = |left: usize, right: usize| {
            let mut keys: Vec<&Vec<u8>> = model[left].map.keys().chain(model[right].map.keys()).collect();
            keys.sort();
            keys.dedup();
            keys.into_iter()
                .map(|key| (entry(left, key), entry(right, key)))
                .filter(|(left, right)| left != right)
                .collect()
        };
        let gets = questions.gets.iter();
        let ranges = questions.ranges.iter();
        let diffs = questions.diffs.iter();
        Self {
            listings: model
                .iter()
                .map(|version| version.map.clone().into_iter().collect())
                .collect(),
            chains: (0..model.len()).map(chain).collect(),
            ranges: ranges.map(|query| query.of(&model[query.version].map)).collect(),
            gets: gets.map(|(version, key)| entry(*version, key)).collect(),
            diffs: diffs.map(|(left, right)| differences(*left, *right)).collect(),
        }
    }
}

impl Place {
    pub(crate) fn of_json(value: &Value) -> Self {
        Self {
            core: usize::try_from(value["core"].as_u64().unwrap()).unwrap(),
            length: value["length"].as_u64().unwrap(),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A sequence that is the same in every run (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(u64::try_from(length).unwrap())).unwrap()
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn array(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for part in bytes.chunks_exact_mut(8) {
            part.copy_from_slice(&self.next().to_le_bytes());
        }
        bytes
    }
}
