//! One interpreter for the files whose cases are lists of steps over several trees.

use std::collections::BTreeMap;
use std::sync::Arc;

use autobee::bee::{
    BatchOptions, Bee, BeeSettings, Block, BlockKind, KeyRecord, MemoryBlocks, Range, Sameness, Tree,
    TreeChange, TreeEntry, Unsealed,
};
use autobee::crypto::CoreKey;
use autobee::hypercore::encryption::{BlockCipher, CoreCipher};
use autobee::wire::{Length, Link};
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{fixed, hex, text, to_hex, uint};

/// Runs a case with the caches as they are, and with caches that hold nothing.
pub(crate) fn check(case: &Value) -> Result<(), String> {
    for cache_bytes_max in [32 << 20, 0] {
        let mut world = World::new(case, cache_bytes_max);
        for (position, step) in list(&case["steps"]).iter().enumerate() {
            let about = format!("{} step {position} {}", case["name"], step["op"]);
            if case["quirk"] == json!(true) && is_unwritten(step) {
                // The original's view then claims a head that nobody wrote. Ours stays where it is.
                let name = text(&step["bee"]);
                let head = world.head_json(name);
                world.write_unchecked(step)?;
                assert_eq!(world.head_json(name), head, "{about}");
                break;
            }
            world.step(step, &about)?;
        }
    }
    Ok(())
}

/// True for a write of which the original appends nothing.
fn is_unwritten(step: &Value) -> bool {
    step["op"] == json!("write") && step["blocks"] == json!([])
}

/// The cores of a case, a family of trees for each, and the views.
struct World<'a> {
    case: &'a Value,
    cache_bytes_max: usize,
    names: BTreeMap<CoreKey, String>,
    blocks: MemoryBlocks,
    /// The same blocks as encrypted cores store them.
    sealed: MemoryBlocks,
    views: BTreeMap<String, View>,
}

struct View {
    local: CoreKey,
    tree: Tree,
}

/// What a write step did.
struct Appended {
    blocks: Vec<Bytes>,
    /// The blocks as the core stores them, when it is encrypted.
    sealed: Vec<Bytes>,
    applied: u64,
    flags: String,
}

enum Op {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Clear,
}

impl<'a> World<'a> {
    fn new(case: &'a Value, cache_bytes_max: usize) -> Self {
        let cores = case["cores"].as_object().unwrap();
        let mut world = Self {
            case,
            cache_bytes_max,
            names: cores
                .iter()
                .map(|(name, key)| (core_key(key), name.clone()))
                .collect(),
            blocks: MemoryBlocks::new(),
            sealed: MemoryBlocks::new(),
            views: BTreeMap::new(),
        };
        world.open(&case["degree"]);
        world
    }

    /// Opens a tree for each core, at its last block.
    fn open(&mut self, degree: &Value) {
        self.views.clear();
        for (key, name) in &self.names {
            let settings = BeeSettings {
                degree: u8::try_from(uint(degree)).unwrap(),
                block_cache_bytes_max: self.cache_bytes_max,
                node_cache_bytes_max: self.cache_bytes_max,
                ..BeeSettings::default()
            };
            let length = self.blocks.length(key);
            let tree = Bee::new(settings).unwrap().tree(Link { key: *key, length });
            self.views.insert(name.clone(), View { local: *key, tree });
        }
    }

    fn step(&mut self, step: &Value, about: &str) -> Result<(), String> {
        match text(&step["op"]) {
            "write" => self.write(step, about)?,
            "raw" => {
                let key = self.key(text(&step["core"]));
                let blocks = list(&step["blocks"]).iter().map(|block| Bytes::from(hex(block)));
                self.blocks.append(key, blocks);
            }
            "reopen" => {
                let degree = if step["degree"].is_null() {
                    &self.case["degree"]
                } else {
                    &step["degree"]
                };
                self.open(degree);
                for (name, head) in step["heads"].as_object().unwrap() {
                    assert_eq!(self.head_json(name), *head, "{about}");
                }
            }
            "move" => {
                // Without a position the view is emptied and keeps its core.
                let head = if step["to"].is_null() {
                    Link {
                        key: self.view(&step["bee"]).tree.selected(),
                        length: Length::ZERO,
                    }
                } else {
                    self.link(&step["to"])
                };
                self.view_mut(&step["bee"]).tree.move_to(head);
                self.check_head(&step["bee"], step, about);
            }
            "checkout" => {
                let tree = self.view(&step["bee"]).tree.checkout(self.link(&step["at"]));
                self.add_view(step, tree, about);
            }
            "snapshot" => {
                let tree = self.view(&step["bee"]).tree.clone();
                self.add_view(step, tree, about);
            }
            "undo" => {
                let mut tree = self.view(&step["bee"]).tree.clone();
                tree.undo(&self.blocks, uint(&step["n"])).unwrap();
                self.add_view(step, tree, about);
            }
            "update" => {
                if step["from"].is_null() {
                    let key = self.view(&step["bee"]).tree.selected();
                    let length = self.blocks.length(&key);
                    self.view_mut(&step["bee"]).tree.move_to(Link { key, length });
                } else {
                    let other = self.view(&step["from"]).tree.clone();
                    self.view_mut(&step["bee"]).tree.follow(&other);
                }
                self.check_head(&step["bee"], step, about);
            }
            _ => return self.read(step, about),
        }
        Ok(())
    }

    fn read(&self, step: &Value, about: &str) -> Result<(), String> {
        match text(&step["op"]) {
            "list" => {
                let entries = self.entries(&step["bee"], Range::all());
                if self.case.get("encryptionKey").is_some() {
                    // What is stored reads the same, given the key.
                    let stored = Unsealed::new(&self.sealed, |core: &CoreKey| self.cipher(core));
                    let head = self.view(&step["bee"]).tree.head();
                    let fresh = Bee::new(BeeSettings::default()).unwrap().tree(head);
                    let unsealed: Result<Vec<TreeEntry>, _> =
                        fresh.range(Range::all()).iter(&stored).collect();
                    assert_eq!(unsealed.unwrap(), entries, "{about}");
                }
                if step["entries"].is_null() {
                    assert_eq!(count(&entries), step["count"], "{about}");
                    assert_eq!(hash_entries(&entries, true), step["hash"], "{about}");
                } else {
                    let pairs: Vec<Value> = entries
                        .iter()
                        .map(|entry| json!([to_hex(&entry.key), value_json(entry)]))
                        .collect();
                    assert_eq!(Value::from(pairs), step["entries"], "{about}");
                }
            }
            "shape" => {
                let shape = self.view(&step["bee"]).tree.shape(&self.blocks).unwrap();
                assert_eq!(json!(shape), step["levels"], "{about}");
            }
            "get" => {
                let entry = self
                    .view(&step["bee"])
                    .tree
                    .get(&self.blocks, &hex(&step["key"]))
                    .unwrap();
                let found = entry.map(|entry| {
                    json!({
                        "core": self.names[&entry.core],
                        "seq": entry.seq.0,
                        "offset": entry.offset,
                        "value": value_json(&entry),
                    })
                });
                assert_eq!(json!(found), step["result"], "{about}");
            }
            "range" => {
                let entries = self.entries(&step["bee"], range(&step["query"])?);
                if step["keys"].is_null() {
                    assert_eq!(count(&entries), step["count"], "{about}");
                    assert_eq!(hash_entries(&entries, false), step["hash"], "{about}");
                } else {
                    let keys: Vec<String> = entries.iter().map(|entry| to_hex(&entry.key)).collect();
                    assert_eq!(json!(keys), step["keys"], "{about}");
                }
            }
            "cores" => {
                let tree = &self.view(&step["bee"]).tree;
                let length = self.blocks.length(&tree.selected());
                let cores = tree.cores(&self.blocks, length).unwrap();
                let names: Vec<&String> = cores.iter().map(|key| &self.names[key]).collect();
                assert_eq!(json!(names), step["cores"], "{about}");
            }
            "changes" => assert_eq!(self.changes(step), step["items"], "{about}"),
            "diff" => self.diff(step, about)?,
            other => return Err(format!("unknown step {other}")),
        }
        Ok(())
    }

    // Writes.

    fn write(&mut self, step: &Value, about: &str) -> Result<(), String> {
        let written = self.write_unchecked(step)?;
        assert_eq!(written.applied, step["applied"], "{about}");
        if !step["flags"].is_null() {
            assert_eq!(written.flags, step["flags"], "{about}");
        }
        check_blocks(&written.blocks, step, about);
        if !step["raw"].is_null() {
            let sealed: Vec<String> = written.sealed.iter().map(|block| to_hex(block)).collect();
            assert_eq!(json!(sealed), step["raw"], "{about}");
        }
        self.check_head(&step["bee"], step, about);
        Ok(())
    }

    fn write_unchecked(&mut self, step: &Value) -> Result<Appended, String> {
        let mut options = BatchOptions::default();
        let mut keep = true;
        for (name, value) in step["opts"].as_object().into_iter().flatten() {
            match name.as_str() {
                "inlineValueSize" => options.value_inline_bytes_max = usize::try_from(uint(value)).ok(),
                "preferredBlockSize" => options.block_bytes_preferred = usize::try_from(uint(value)).ok(),
                "from" => options.on = Some(self.link(value)),
                "autoUpdate" => keep = *value == json!(true),
                other => return Err(format!("write option {other}")),
            }
        }
        let ops = ops(&step["ops"])?;
        let View { local, tree } = self.view(&step["bee"]);
        let local = *local;
        let mut batch = tree.batch(&local, self.blocks.length(&local), options);
        let mut flags = String::new();
        for op in ops {
            let applied = match op {
                Op::Put(key, value) => batch.put(&self.blocks, &key, &value).unwrap(),
                Op::Delete(key) => batch.delete(&self.blocks, &key).unwrap(),
                Op::Clear => {
                    batch.clear();
                    flags.clear();
                    continue;
                }
            };
            flags.push(if applied { '1' } else { '0' });
        }
        let written = batch.finish(&self.blocks).unwrap();
        let sealed = self.cipher(&local).map(|cipher| {
            let sealed = written.sealed(&*cipher, 0).unwrap();
            self.sealed.append(local, sealed.iter().cloned());
            sealed
        });
        let appended = Appended {
            sealed: sealed.unwrap_or_default(),
            blocks: written.blocks().to_vec(),
            applied: written.applied(),
            flags,
        };
        self.blocks.append(local, appended.blocks.iter().cloned());
        if keep {
            self.view_mut(&step["bee"]).tree.commit(written);
        }
        Ok(appended)
    }

    // Reads.

    fn entries(&self, name: &Value, range: Range) -> Vec<TreeEntry> {
        let mut entries = self.view(name).tree.range(range);
        entries.iter(&self.blocks).map(Result::unwrap).collect()
    }

    fn changes(&self, step: &Value) -> Value {
        let mut tree = self.view(&step["bee"]).tree.clone();
        if !step["from"].is_null() {
            tree.move_to(self.link(&step["from"]));
        }
        let mut changes = tree.changes();
        let mut items = Vec::new();
        while let Some(change) = changes.next(&self.blocks).unwrap() {
            // Values are found wherever they are stored.
            change.keys(&self.blocks).unwrap();
            items.push(self.change_json(&change));
        }
        items.into()
    }

    fn change_json(&self, change: &TreeChange) -> Value {
        json!({
            "head": self.link_json(change.head),
            "tail": change.tail.map(|tail| self.link_json(tail)),
            "batch": change.blocks().map(|block| self.block_json(block)).collect::<Vec<_>>(),
        })
    }

    fn block_json(&self, block: &Block) -> Value {
        let keys = block.keys.as_ref().map(|keys| {
            let key = |key: &KeyRecord| {
                let pointer = key
                    .value_pointer
                    .map(|to| [to.at.core, to.at.seq, to.at.offset, to.split]);
                json!([
                    to_hex(&key.key),
                    key.value.as_ref().map(|value| to_hex(value)),
                    pointer
                ])
            };
            keys.iter().map(key).collect::<Vec<_>>()
        });
        json!({
            "type": match block.kind {
                BlockKind::First => 0,
                BlockKind::Current => 1,
                BlockKind::Legacy => 10,
            },
            "batch": [block.batch_start, block.batch_end],
            "previous": block.previous.map(|previous| [previous.core, previous.seq]),
            "checkpoint": block.checkpoint,
            "cores": block.metadata.as_ref().map(|cores| {
                cores.iter().map(|core| &self.names[&core.key]).collect::<Vec<_>>()
            }),
            "keys": keys,
            "values": block.values.as_ref().map(|values| values.iter().map(Bytes::len).collect::<Vec<_>>()),
            "nodes": block.tree.as_ref().map(Vec::len),
            "t": block.degree,
        })
    }

    fn diff(&self, step: &Value, about: &str) -> Result<(), String> {
        let (left, right) = (&self.view(&step["left"]).tree, &self.view(&step["right"]).tree);
        let query = range(&step["query"])?;
        let mut diff = left.diff(right, query.clone(), Sameness::Place);
        let mut items = Vec::new();
        let mut by_value = Vec::new();
        while let Some(found) = diff.next(&self.blocks).unwrap() {
            items.push(json!([
                self.entry_json(found.left.as_ref()),
                self.entry_json(found.right.as_ref())
            ]));
            if found.left.as_ref().map(|entry| &entry.value) != found.right.as_ref().map(|entry| &entry.value)
            {
                by_value.push(found);
            }
        }
        if step["items"].is_null() {
            assert_eq!(count(&items), step["count"], "{about}");
            let hash = to_hex(&Sha256::digest(Value::from(items).to_string()));
            assert_eq!(hash, step["hash"], "{about}");
        } else {
            assert_eq!(Value::from(items), step["items"], "{about}");
        }
        // By value, and backwards, the same differences come out, but for values that were written again.
        if query.limit_count().is_none() {
            let mut diff = left.diff(right, query.reverse(), Sameness::Value);
            while let Some(found) = diff.next(&self.blocks).unwrap() {
                assert_eq!(Some(found), by_value.pop(), "{about}");
            }
            assert!(by_value.is_empty(), "{about}");
        }
        Ok(())
    }

    fn entry_json(&self, entry: Option<&TreeEntry>) -> Value {
        let Some(entry) = entry else { return Value::Null };
        let value = match &entry.value {
            Some(value) if value.len() > 80 => {
                json!(format!(
                    "sha256:{}:{}",
                    to_hex(&Sha256::digest(value)),
                    value.len()
                ))
            }
            value => json!(value.as_ref().map(|value| to_hex(value))),
        };
        json!([
            self.names[&entry.core],
            entry.seq.0,
            entry.offset,
            to_hex(&entry.key),
            value
        ])
    }

    // Views and heads.

    fn view(&self, name: &Value) -> &View {
        &self.views[text(name)]
    }

    fn view_mut(&mut self, name: &Value) -> &mut View {
        self.views.get_mut(text(name)).unwrap()
    }

    fn add_view(&mut self, step: &Value, tree: Tree, about: &str) {
        let local = self.view(&step["bee"]).local;
        self.views
            .insert(text(&step["as"]).to_owned(), View { local, tree });
        self.check_head(&step["as"], step, about);
    }

    fn cipher(&self, core: &CoreKey) -> Option<Arc<dyn BlockCipher>> {
        let key = self.case.get("encryptionKey")?;
        Some(Arc::new(CoreCipher::new(&fixed(key), core, false)))
    }

    fn check_head(&self, name: &Value, step: &Value, about: &str) {
        assert_eq!(self.head_json(text(name)), step["head"], "{about}");
    }

    fn head_json(&self, name: &str) -> Value {
        self.link_json(self.views[name].tree.head())
    }

    fn link_json(&self, link: Link) -> Value {
        json!([self.names[&link.key], link.length.0])
    }

    fn link(&self, position: &Value) -> Link {
        Link {
            key: self.key(text(&position[0])),
            length: Length(uint(&position[1])),
        }
    }

    fn key(&self, name: &str) -> CoreKey {
        core_key(&self.case["cores"][name])
    }
}

fn check_blocks(blocks: &[Bytes], step: &Value, about: &str) {
    if step["blocks"].is_null() {
        let hashes: Vec<String> = blocks
            .iter()
            .map(|block| to_hex(&Sha256::digest(block)))
            .collect();
        let sizes: Vec<usize> = blocks.iter().map(Bytes::len).collect();
        assert_eq!(json!(sizes), step["sizes"], "{about}");
        assert_eq!(json!(hashes), step["hashes"], "{about}");
    } else {
        let blocks: Vec<String> = blocks.iter().map(|block| to_hex(block)).collect();
        assert_eq!(json!(blocks), step["blocks"], "{about}");
    }
}

fn ops(ops: &Value) -> Result<Vec<Op>, String> {
    if let Some(plan) = ops.get("gen") {
        return Ok(generated(plan));
    }
    let op = |op: &Value| {
        Ok(match text(&op[0]) {
            "put" if op[2].is_null() => return Err("put of null".to_owned()),
            "put" => Op::Put(hex(&op[1]), hex(&op[2])),
            "fill" => {
                let byte = u8::try_from(uint(&op[2])).unwrap();
                Op::Put(hex(&op[1]), vec![byte; usize::try_from(uint(&op[3])).unwrap()])
            }
            "del" => Op::Delete(hex(&op[1])),
            "clear" => Op::Clear,
            other => return Err(format!("op {other}")),
        })
    };
    list(ops).iter().map(op).collect()
}

/// The operations that a generator makes, as the file describes it.
fn generated(plan: &Value) -> Vec<Op> {
    let number = |name: &str| u32::try_from(uint(&plan[name])).unwrap();
    let mut rng = Rng(number("seed"));
    let (from, count, deletes) = (number("from"), number("count"), number("deletes"));
    let sizes = list(&plan["sizes"]);
    let op = |position| {
        let n = match text(&plan["order"]) {
            "asc" => from + position,
            "desc" => from + count - 1 - position,
            _ => from + rng.below(number("space")),
        };
        let key = match text(&plan["keys"]) {
            "pad" => format!("key{n:07}").into_bytes(),
            "text" if n == 0 => Vec::new(),
            "text" => format!("k{n}").into_bytes(),
            _ => n.to_be_bytes().to_vec(),
        };
        if deletes > 0 && rng.below(100) < deletes {
            return Op::Delete(key);
        }
        let choices = u32::try_from(sizes.len()).unwrap();
        let size = uint(&sizes[usize::try_from(rng.below(choices)).unwrap()]);
        let byte = u8::try_from(rng.below(256)).unwrap();
        Op::Put(key, vec![byte; usize::try_from(size).unwrap()])
    };
    (0..count).map(op).collect()
}

struct Rng(u32);

impl Rng {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9);
        let mut z = self.0;
        z = (z ^ (z >> 16)).wrapping_mul(0x85eb_ca6b);
        z = (z ^ (z >> 13)).wrapping_mul(0xc2b2_ae35);
        (z ^ (z >> 16)) % bound
    }
}

fn range(query: &Value) -> Result<Range, String> {
    let mut range = Range::all();
    for (name, value) in query.as_object().into_iter().flatten() {
        range = match name.as_str() {
            // Of both forms of a bound the original takes the inclusive one (spec/hyperbee.md 9).
            "gt" if query.get("gte").is_some() => range,
            "lt" if query.get("lte").is_some() => range,
            "gt" => range.gt(hex(value)),
            "gte" => range.gte(hex(value)),
            "lt" => range.lt(hex(value)),
            "lte" => range.lte(hex(value)),
            "reverse" if *value == json!(true) => range.reverse(),
            "reverse" => range,
            "limit" => match value.as_i64() {
                Some(-1) => range,
                Some(limit) => range.limit(u64::try_from(limit).unwrap_or(0)),
                None => range.limit(0),
            },
            other => return Err(format!("query {other}")),
        };
    }
    Ok(range)
}

fn hash_entries(entries: &[TreeEntry], values: bool) -> String {
    let mut hash = Sha256::new();
    for entry in entries {
        hash.update(u32::try_from(entry.key.len()).unwrap().to_le_bytes());
        hash.update(&entry.key);
        if values {
            let size = entry
                .value
                .as_ref()
                .map_or(u32::MAX, |value| u32::try_from(value.len()).unwrap());
            hash.update(size.to_le_bytes());
            hash.update(entry.value.as_deref().unwrap_or_default());
        }
    }
    to_hex(&hash.finalize())
}

fn value_json(entry: &TreeEntry) -> Value {
    json!(entry.value.as_ref().map(|value| to_hex(value)))
}

fn count<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).unwrap()
}

fn core_key(value: &Value) -> CoreKey {
    CoreKey::try_from(hex(value).as_slice()).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
