//! Trees that go back and forth between this crate and the JavaScript implementation: each continues what the other
//! wrote, and both must read the same.
//!
//! What is exchanged are the blocks of the cores, in files. The JavaScript side (`interop/bee.js`) appends them to
//! cores of its own from the same key pairs, so keys and hashes must come out equal as well.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "interop/database.rs"]
mod database;
#[path = "interop/node.rs"]
mod node;
#[path = "interop/bee_program.rs"]
mod program;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use autobee::bee::{BatchOptions, Bee, BeeError, BeeSettings, MemoryBlocks, Range, Sameness, Tree};
use autobee::crypto::{CoreKey, Ed25519, KeyPair, Seed, Sign as _};
use autobee::env::memory::MemoryEnv;
use autobee::hypercore::manifest::Manifest;
use autobee::hypercore::{CoreOptions, Corestore, CorestoreOptions};
use autobee::store::{Seglog, StoreHandle};
use autobee::wire::{Length, Link};
use bytes::Bytes;
use serde_json::{Value, json};

use program::{
    Answers, Differences, Map, Op, Pair, Place, Program, Query, Questions, Random, Version, Write, hex,
};

#[test]
fn a_tree_in_one_core_is_continued_by_both() {
    // More keys than a node of the usual degree holds.
    play(&Program {
        name: "one",
        seed: 1,
        cores: 1,
        degree: 128,
        keys: 2000,
        turns: 5,
        writes: 3,
        ops_max: 700,
    });
}

#[test]
fn a_tree_that_spans_cores_is_continued_by_both() {
    play(&Program {
        name: "three",
        seed: 2,
        cores: 3,
        degree: 3,
        keys: 150,
        turns: 6,
        writes: 6,
        ops_max: 40,
    });
}

/// What a database wrote into its cores, its last membership record too large to stand next to its key.
#[test]
fn the_trees_of_a_database_are_read_by_node() {
    let Some(_) = node::command("bee.js") else { return };
    let mut database = database::write();
    let program = Program {
        name: "database",
        seed: 3,
        cores: 2,
        degree: 128,
        keys: 0,
        turns: 1,
        writes: 0,
        ops_max: 0,
    };
    let side = Side::new(&program, &database.pairs);
    let state = State {
        cores: std::mem::take(&mut database.cores),
        heads: database.heads.to_vec(),
    };
    let nothing = Questions {
        ranges: Vec::new(),
        gets: Vec::new(),
        diffs: vec![(0, 1)],
    };
    let (_, answers) = side.ask_node(0, &state, &[], &nothing);
    assert_same(&side.read(&state, &nothing), &answers, "both");
    let [view, system] = [&answers.listings[0], &answers.listings[1]];
    assert_eq!(*view, database.view);
    assert!(view.len() > 2 * 128, "more than a node holds");
    let [info, records @ ..] = &system[..] else {
        panic!("an empty system tree")
    };
    assert_eq!(info.0, [0]);
    assert!(info.1.len() > 1024, "{} bytes", info.1.len());
    assert_eq!(records.len(), database.writers);
    side.done();
}

/// The cores as one side has left them, and where its versions are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    cores: Vec<Vec<Bytes>>,
    heads: Vec<Place>,
}

fn play(program: &Program) {
    let Some(_) = node::command("bee.js") else { return };
    let mut random = Random(program.seed);
    let pairs: Vec<KeyPair> = (0..program.cores)
        .map(|_| Ed25519.key_pair(&Seed::new(random.array())))
        .collect();
    let side = Side::new(program, &pairs);
    let empty = Place { core: 0, length: 0 };
    let mut state = State {
        cores: vec![Vec::new(); program.cores],
        heads: vec![empty],
    };
    let mut model = vec![Version {
        map: Map::new(),
        base: None,
    }];
    let mut cores_spanned = 0;
    for turn in 0..program.turns {
        let is_node = turn % 2 == 0;
        let start = state.clone();
        let writes = program.writes(&mut random, &mut model, is_node);
        // Also what the other one writes: a batch has one form.
        let ours = side.write(&start, &writes);
        let questions = Questions::new(program, &mut random, model.len());
        let expected = Answers::expected(&model, &ours.heads, &questions);
        let (base, rest) = if is_node {
            (&start, &writes[..])
        } else {
            (&ours, &[][..])
        };
        let (theirs, their_answers) = side.ask_node(turn, base, rest, &questions);
        assert_eq!(theirs.heads, ours.heads, "turn {turn}: versions");
        assert!(theirs == ours, "turn {turn}: blocks differ");
        assert_same(&their_answers, &expected, &format!("turn {turn}, read by Node"));
        let our_answers = side.read(&theirs, &questions);
        assert_same(&our_answers, &expected, &format!("turn {turn}, read by us"));
        assert_eq!(
            our_answers.diffs, their_answers.diffs,
            "turn {turn}: differences by place"
        );
        let spans = our_answers.chains.iter().map(|chain| {
            let cores: BTreeSet<usize> = chain.iter().map(|place| place.core).collect();
            cores.len()
        });
        cores_spanned = spans.fold(cores_spanned, usize::max);
        state = theirs;
    }
    // The program has been where it should go.
    assert_eq!(cores_spanned, program.cores);
    assert!(side.levels(&state) > 1);
    side.done();
}

/// Compares part by part, so that a failure is short.
fn assert_same(found: &Answers, expected: &Answers, about: &str) {
    for (version, (found, expected)) in found.listings.iter().zip(&expected.listings).enumerate() {
        assert_eq!(found, expected, "{about}: version {version}");
    }
    assert_eq!(found.chains, expected.chains, "{about}: histories");
    assert_eq!(found.ranges, expected.ranges, "{about}: ranges");
    assert_eq!(found.gets, expected.gets, "{about}: single keys");
    for (found, expected) in found.diffs.iter().zip(&expected.diffs) {
        // A value that was written again differs in its place; the model does not know of places.
        let changed: Differences = found
            .iter()
            .filter(|(left, right)| left != right)
            .cloned()
            .collect();
        assert_eq!(&changed, expected, "{about}: differences");
    }
    let counts = |answers: &Answers| (answers.listings.len(), answers.diffs.len());
    assert_eq!(counts(found), counts(expected), "{about}");
}

/// This crate, and the way to the other side.
struct Side<'a> {
    pairs: &'a [KeyPair],
    keys: Vec<CoreKey>,
    degree: u8,
    folder: PathBuf,
}

impl<'a> Side<'a> {
    fn new(program: &Program, pairs: &'a [KeyPair]) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("interop_bee_{}", program.name));
        files::remove(&folder);
        files::create(&folder);
        Self {
            pairs,
            keys: pairs
                .iter()
                .map(|pair| Manifest::single(pair.public).key())
                .collect(),
            degree: program.degree,
            folder,
        }
    }

    /// Nothing is left behind when all went well.
    fn done(&self) {
        files::remove(&self.folder);
    }

    // Ours.

    /// Opens the cores and runs the batches on them.
    fn write(&self, state: &State, writes: &[Write]) -> State {
        let blocks = self.blocks(state);
        let mut trees: Vec<Tree> = (0..self.keys.len())
            .map(|core| {
                let length = blocks.length(&self.keys[core]).0;
                self.bee().tree(self.link(Place { core, length }))
            })
            .collect();
        let mut state = state.clone();
        for write in writes {
            let tree = &mut trees[write.local];
            let local = self.keys[write.local];
            tree.move_to(self.link(state.heads[write.on]));
            let options = BatchOptions {
                block_bytes_preferred: Some(write.block_bytes),
                ..BatchOptions::default()
            };
            let mut batch = tree.batch(&local, blocks.length(&local), options);
            if write.is_cleared {
                batch.clear();
            }
            for op in &write.ops {
                match op {
                    Op::Put(key, value) => drop(batch.put(&blocks, key, value).unwrap()),
                    Op::Delete(key) => drop(batch.delete(&blocks, key).unwrap()),
                    Op::DeleteRange(from, to) => {
                        batch
                            .delete_range(&blocks, &Range::all().gte(from).lt(to))
                            .unwrap();
                    }
                }
            }
            let written = batch.finish(&blocks).unwrap();
            blocks.append(local, written.blocks().iter().cloned());
            state.cores[write.local].extend(written.blocks().iter().cloned());
            tree.commit(written);
            state.heads.push(self.place(tree.head()));
        }
        state
    }

    fn read(&self, state: &State, questions: &Questions) -> Answers {
        let blocks = self.blocks(state);
        let bee = self.bee();
        let at = |version: usize| bee.tree(self.link(state.heads[version]));
        let listing = |tree: &Tree, range: Range| {
            let mut entries = tree.range(range);
            all(|| Ok(entries.next(&blocks)?.map(|entry| (entry.key, entry.value))))
        };
        let pair = |(key, value): (Bytes, Option<Bytes>)| (key.to_vec(), value.unwrap().to_vec());
        let pairs = |tree: &Tree, range| listing(tree, range).into_iter().map(pair).collect();
        let versions = 0..state.heads.len();
        let chain = |version| {
            let mut changes = at(version).changes();
            all(|| Ok(changes.next(&blocks)?.map(|change| self.place(change.head))))
        };
        let get = |(version, key): &(usize, Vec<u8>)| {
            let entry = at(*version).get(&blocks, key).unwrap()?;
            Some(pair((entry.key, entry.value)))
        };
        let diff = |(left, right): &(usize, usize)| {
            let mut diff = at(*left).diff(&at(*right), Range::all(), Sameness::Place);
            let found = all(|| diff.next(&blocks)).into_iter();
            found
                .map(|found| {
                    [found.left, found.right]
                        .map(|side| Some(pair((side.as_ref()?.key.clone(), side?.value))))
                })
                .map(|[left, right]| (left, right))
                .collect()
        };
        Answers {
            listings: versions
                .clone()
                .map(|version| pairs(&at(version), Range::all()))
                .collect(),
            chains: versions.map(chain).collect(),
            ranges: questions
                .ranges
                .iter()
                .map(|query| pairs(&at(query.version), query.range()))
                .collect(),
            gets: questions.gets.iter().map(get).collect(),
            diffs: questions.diffs.iter().map(diff).collect(),
        }
    }

    /// How many levels the highest version has.
    fn levels(&self, state: &State) -> usize {
        let (blocks, bee) = (self.blocks(state), self.bee());
        let levels = |head: &Place| bee.tree(self.link(*head)).shape(&blocks).unwrap().len();
        state.heads.iter().map(levels).max().unwrap()
    }

    fn bee(&self) -> Bee {
        Bee::new(BeeSettings {
            degree: self.degree,
            ..BeeSettings::default()
        })
        .unwrap()
    }

    fn blocks(&self, state: &State) -> MemoryBlocks {
        let blocks = MemoryBlocks::new();
        for (key, core) in self.keys.iter().zip(&state.cores) {
            blocks.append(*key, core.iter().cloned());
        }
        blocks
    }

    fn link(&self, place: Place) -> Link {
        Link {
            key: self.keys[place.core],
            length: Length(place.length),
        }
    }

    fn place(&self, link: Link) -> Place {
        Place {
            core: self.keys.iter().position(|key| *key == link.key).unwrap(),
            length: link.length.0,
        }
    }

    /// Key and hash of each core, once it has its blocks.
    fn hashes(&self, state: &State) -> Vec<(String, String)> {
        let env = MemoryEnv::new(1);
        env.run(async {
            let store = StoreHandle::open(&env, &Seglog::default()).unwrap();
            let store = Corestore::open(env.clone(), store, CorestoreOptions::default())
                .await
                .unwrap();
            let mut hashes = Vec::new();
            for (pair, blocks) in self.pairs.iter().zip(&state.cores) {
                let core = store.get(CoreOptions::key_pair(pair.clone())).await.unwrap();
                core.append(blocks.clone()).await.unwrap();
                hashes.push((core.key().to_hex(), core.tree_hash().unwrap().to_hex()));
            }
            hashes
        })
        .unwrap()
    }

    // Theirs.

    /// Hands the cores over, lets Node run the batches, and reads what it made and found.
    fn ask_node(
        &self,
        turn: usize,
        state: &State,
        writes: &[Write],
        questions: &Questions,
    ) -> (State, Answers) {
        let task = json!({
            "degree": self.degree,
            "cores": self.pairs.iter().zip(&state.cores).map(|(pair, blocks)| json!({
                "seed": hex(pair.secret.seed().as_bytes()),
                "blocks": blocks.iter().map(|block| hex(block)).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "versions": state.heads.iter().map(|head| json!({
                "core": head.core,
                "length": head.length,
            })).collect::<Vec<_>>(),
            "writes": writes.iter().map(|write| json!({
                "local": write.local,
                "on": write.on,
                "blockBytes": write.block_bytes,
                "clear": write.is_cleared,
                "ops": write.ops.iter().map(Op::to_json).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "ranges": questions.ranges.iter().map(Query::to_json).collect::<Vec<_>>(),
            "gets": questions.gets.iter().map(|(version, key)| json!({
                "version": version,
                "key": hex(key),
            })).collect::<Vec<_>>(),
            "diffs": questions.diffs,
        });
        let file = |kind: &str| self.folder.join(format!("{kind}-{turn}"));
        let (task_file, answer_file) = (file("task"), file("answer"));
        files::write(&task_file, task.to_string().as_bytes());
        let mut command = node::command("bee.js").unwrap();
        let output = command
            .arg(&task_file)
            .arg(&answer_file)
            .arg(file("store"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "turn {turn}: Node says:\n{said}");
        let answer: Value = serde_json::from_slice(&files::read(&answer_file)).unwrap();

        let cores = list(&answer["cores"], |core| {
            list(&core["blocks"], |block| Bytes::from(unhex(block)))
        });
        let heads = list(&answer["versions"], Place::of_json);
        let state = State { cores, heads };
        let hashes = list(&answer["cores"], |core| {
            let text = |name: &str| core[name].as_str().unwrap().to_owned();
            (text("key"), text("treeHash"))
        });
        assert_eq!(
            hashes,
            self.hashes(&state),
            "turn {turn}: keys and hashes of the cores"
        );
        let pairs = |entries: &Value| list(entries, |entry| pair(entry).unwrap());
        let answers = Answers {
            listings: list(&answer["listings"], pairs),
            chains: list(&answer["chains"], |chain| list(chain, Place::of_json)),
            ranges: list(&answer["ranges"], pairs),
            gets: list(&answer["gets"], pair),
            diffs: list(&answer["diffs"], |diff| {
                list(diff, |found| (pair(&found[0]), pair(&found[1])))
            }),
        };
        (state, answers)
    }
}

/// Everything that comes until there is no more.
fn all<T>(mut next: impl FnMut() -> Result<Option<T>, BeeError>) -> Vec<T> {
    std::iter::from_fn(|| next().unwrap()).collect()
}

fn pair(entry: &Value) -> Option<Pair> {
    (!entry.is_null()).then(|| (unhex(&entry[0]), unhex(&entry[1])))
}

fn list<T>(value: &Value, item: impl FnMut(&Value) -> T) -> Vec<T> {
    value.as_array().unwrap().iter().map(item).collect()
}

fn unhex(text: &Value) -> Vec<u8> {
    let text = text.as_str().unwrap();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// The exchange goes through files of this machine.
#[expect(clippy::disallowed_methods, reason = "the other side is another program")]
mod files {
    use std::fs;
    use std::path::Path;

    pub(super) fn read(path: &Path) -> Vec<u8> {
        fs::read(path).unwrap()
    }

    pub(super) fn write(path: &Path, bytes: &[u8]) {
        fs::write(path, bytes).unwrap();
    }

    pub(super) fn create(folder: &Path) {
        fs::create_dir_all(folder).unwrap();
    }

    pub(super) fn remove(folder: &Path) {
        if folder.exists() {
            fs::remove_dir_all(folder).unwrap();
        }
    }
}
