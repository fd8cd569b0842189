//! The scripts of `scenarios.json`, played again: what our writers append must be what the original's did, byte for
//! byte. Peers hear the recorded blocks of others at the recorded times.
//!
//! Two things tell how often a writer reordered, which we do less often: the positions in its stamps, and attestations
//! that the original repeats when it applies a grant again. A writer that heard of nobody's blocks must write the very
//! same bytes.
//!
//! The original also acknowledges a stranger again when it applies it anew after a reorder, and ours does so once: such a
//! block is taken as it was recorded, after a look that it is an acknowledgement and nothing else.

use std::collections::BTreeMap;

use autobee::apply::ApplyFn;
use autobee::crypto::{CoreKey, Ed25519, Seed, Sign as _};
use autobee::engine::encryption::DatabaseCipher;
use autobee::engine::witness::verify;
use autobee::engine::{Engine, EngineOptions, OwnBatch, Trees};
use autobee::hypercore::manifest::Manifest;
use autobee::wire::oplog::{Attestation, OplogBlock, Witness};
use autobee::wire::{Decode as _, Encode as _, Index, Timestamp};
use autobee_sim::workload::JsonApply;
use bytes::Bytes;
use serde_json::{Value, json};

use super::engine::{clear_blocks, keys, manifest, stored};
use super::{fixed, list, optional, text, to_hex, uint};

/// The clock by which blocks are taken: ahead of all that was recorded.
const LATE: Timestamp = Timestamp(1 << 50);

const CACHE_BYTES: usize = 1 << 20;

pub(crate) fn check(case: &Value) -> Result<(), String> {
    let records = Records::new(case);
    let mut peers: BTreeMap<String, Peer> = BTreeMap::new();
    for step in list(&case["script"]) {
        let name = |field: &str| text(&step[field]).to_owned();
        match text(&step["op"]) {
            "open" => {
                let writer = CoreKey::new(fixed(&step["writer"]));
                peers.insert(name("peer"), Peer::open(case, &name("peer"), writer));
            }
            "append" => peers.get_mut(&name("peer")).unwrap().append(&records, step),
            "pull" => peers.get_mut(&name("to")).unwrap().pull(&records, step),
            "check" => peers[&name("peer")].check(&records, step),
            "rotate" => peers.get_mut(&name("peer")).unwrap().rotate(step),
            "sync" => {}
            op => return Err(format!("script op {op}")),
        }
    }
    Ok(())
}

/// What was recorded.
struct Records {
    name: String,
    writers: BTreeMap<CoreKey, Writer>,
}

struct Writer {
    manifest: Manifest,
    seed: Seed,
    cipher: Option<DatabaseCipher>,
    stored: Vec<String>,
    /// The same in clear.
    blocks: Vec<Bytes>,
}

impl Records {
    fn new(case: &Value) -> Self {
        let keys = keys(case);
        let writers = list(&case["writers"]).iter().map(|writer| {
            let key = CoreKey::new(fixed(&writer["key"]));
            let manifest = manifest(writer);
            let writer = Writer {
                seed: Seed::new(fixed(&writer["seed"])),
                cipher: keys.as_ref().map(|keys| keys.writer(&key, &manifest)),
                stored: list(&writer["blocks"])
                    .iter()
                    .map(|block| text(block).to_owned())
                    .collect(),
                blocks: clear_blocks(writer, keys.as_ref()),
                manifest,
            };
            (key, writer)
        });
        Self {
            name: text(&case["name"]).to_owned(),
            writers: writers.collect(),
        }
    }

    fn manifest(&self, key: &CoreKey) -> Option<Bytes> {
        let writer = self.writers.get(key)?;
        Some(Bytes::copy_from_slice(writer.manifest.as_bytes()))
    }
}

struct Peer {
    engine: Engine<Ed25519>,
    local: CoreKey,
    fed: BTreeMap<CoreKey, usize>,
    /// The cores of its trees were recorded.
    knows_trees: bool,
}

impl Peer {
    fn open(case: &Value, name: &str, local: CoreKey) -> Self {
        let mut peers = case["peers"].as_array().into_iter().flatten();
        let peer = peers.find(|peer| peer["name"] == name);
        let trees = match peer {
            Some(peer) => {
                let [view, system] =
                    ["viewCore", "systemCore"].map(|field| CoreKey::new(fixed(&peer[field])));
                Trees::new(view, system, CACHE_BYTES)
            }
            None => Trees::unshared(&local, CACHE_BYTES),
        };
        let mut engine = Engine::new(EngineOptions {
            key: CoreKey::new(fixed(&case["bootstrap"])),
            name: String::new(),
            apply: ApplyFn::new(JsonApply),
            optimistic: case["options"]["optimistic"] != false,
            rules: Some(autobee::wire::Rules::interop()),
            verify: Ed25519,
            trees: trees.unwrap(),
            window_batches: autobee::engine::WINDOW_BATCHES,
        });
        if let Some(keys) = keys(case) {
            engine.set_keys(keys);
        }
        engine.set_local(local);
        Self {
            engine,
            local,
            fed: BTreeMap::new(),
            knows_trees: peer.is_some(),
        }
    }

    fn append(&mut self, records: &Records, step: &Value) {
        let (from, to) = (uint(&step["from"]), uint(&step["to"]));
        if from == to {
            // The recording peer had no secret for this log: it wrote nothing.
            return;
        }
        self.take_surplus(records, usize::try_from(from).unwrap());
        let values: Vec<Bytes> = list(&step["values"])
            .iter()
            .map(|value| Bytes::from(optional(value).map_or_else(String::new, |value| text(value).into())))
            .collect();
        let first = &records.writers[&self.local].blocks[usize::try_from(from).unwrap()];
        let recorded = OplogBlock::from_bytes(first).unwrap().timestamp;
        let now = Timestamp(uint(&step["now"]));
        // The clocks of some peers are off, by an amount that was not recorded.
        let now = if now.max(self.engine.system().timestamp()) == recorded {
            now
        } else {
            recorded
        };
        let batch = self
            .engine
            .append(&values, step["optimistic"] == true, now, |key| {
                records.manifest(key)
            })
            .unwrap();
        assert_eq!(
            (batch.first().0 - 1, batch.end().0),
            (from, to),
            "{}",
            records.name
        );
        self.write(records, batch);
    }

    /// Takes what moved, and acknowledges it if that is due.
    fn pull(&mut self, records: &Records, step: &Value) {
        for pair in list(&step["blocks"]) {
            let key = CoreKey::new(fixed(&pair[0]));
            let to = usize::try_from(uint(&pair[1])).unwrap();
            let from = self.fed.insert(key, to).unwrap_or(0).min(to);
            let blocks = &records.writers[&key].blocks[from..to];
            self.engine.ingest(key, Index(from as u64), blocks);
        }
        self.engine.drain(LATE, usize::MAX).unwrap();
        let now = Timestamp(uint(&step["now"]));
        let ack = self.engine.append_ack(now, |key| records.manifest(key)).unwrap();
        if let Some(ack) = ack {
            self.write(records, ack);
        }
    }

    /// Takes what the recorded peer wrote up to `end` and ours did not: acknowledgements that it repeated.
    fn take_surplus(&mut self, records: &Records, end: usize) {
        let from = usize::try_from(self.engine.fed_from(&self.local).0).unwrap();
        let blocks = &records.writers[&self.local].blocks;
        for (at, block) in blocks.iter().enumerate().take(end).skip(from) {
            if let Err(why) = is_empty_acknowledgement(block) {
                panic!("{}: block {at} of {} is surplus: {why}", records.name, self.local);
            }
            let block = std::slice::from_ref(block);
            self.engine.ingest(self.local, Index(at as u64), block);
            self.engine.drain(LATE, usize::MAX).unwrap();
        }
    }

    fn rotate(&mut self, step: &Value) {
        self.local = CoreKey::new(fixed(&step["writer"]));
        self.engine.set_local(self.local);
    }

    fn check(&self, records: &Records, step: &Value) {
        let order: Vec<Value> = self
            .engine
            .order()
            .iter()
            .map(|entry| json!([entry.key.to_hex(), entry.length.0, entry.weight.0]))
            .collect();
        assert_eq!(Value::Array(order), step["order"], "{}: order", records.name);
        if let Some(writable) = step.get("writable") {
            assert_eq!(self.engine.is_writer(&self.local), *writable, "{}", records.name);
        }
    }

    fn write(&mut self, records: &Records, batch: OwnBatch) {
        let writer = &records.writers[&self.local];
        let from = batch.first().0 - 1;
        self.engine.drain(LATE, usize::MAX).unwrap();
        let secret = Ed25519.key_pair(&writer.seed).secret;
        let blocks = self.engine.stamp(batch, &Ed25519, &secret).unwrap();
        for (index, block) in (from..).zip(&blocks) {
            let at = usize::try_from(index).unwrap();
            let what = format!("{}: block {index} of {}", records.name, self.local);
            let recorded = &writer.blocks[at];
            let block = if self.fed.is_empty() && self.knows_trees {
                block.clone()
            } else {
                self.reconciled(block, recorded, &what)
            };
            assert_eq!(to_hex(&block), to_hex(recorded), "{what}");
            let stored = stored(writer.cipher.as_ref(), index, &block);
            assert_eq!(to_hex(&stored), writer.stored[at], "{what}");
        }
    }

    /// Our block, with what may differ taken from the recorded one after a look at how it differs.
    fn reconciled(&self, ours: &Bytes, theirs: &Bytes, what: &str) -> Bytes {
        let [mut ours, theirs] = [ours, theirs].map(|block| OplogBlock::from_bytes(block).unwrap());
        let positions = |block: &OplogBlock| {
            let views = block.views?;
            let trees = [views.system.key]
                .into_iter()
                .chain(views.view.map(|view| view.key));
            let trees = trees.filter(|_| self.knows_trees).collect::<Vec<_>>();
            Some((views.flushes, views.view.is_some(), trees))
        };
        assert_eq!(positions(&ours), positions(&theirs), "{what}");
        ours.views = theirs.views;

        let [mine, recorded] =
            [&ours, &theirs].map(|block| block.attestations.as_ref().map_or(&[][..], Vec::as_slice));
        let is_recorded = |attestation: &Attestation| recorded.contains(attestation);
        assert!(mine.iter().all(is_recorded), "{what}: {mine:?}");
        assert!(
            !mine.is_empty() || ours.attestations.is_none(),
            "{what}: none is written as absent"
        );
        ours.attestations.clone_from(&theirs.attestations);

        // Which of several backers was heard first depends on the way of their blocks.
        let weight = |witness: &Option<Witness>| witness.as_ref().map(|witness| witness.weight);
        assert_eq!(weight(&ours.witness), weight(&theirs.witness), "{what}");
        if let Some(witness) = &ours.witness {
            assert!(verify(&Ed25519, &self.local, witness), "{what}");
        }
        ours.witness = theirs.witness;
        ours.to_bytes().unwrap().into()
    }
}

/// A batch of one block that links something and has no value: what a member appends for a stranger.
fn is_empty_acknowledgement(block: &Bytes) -> Result<(), String> {
    let block = OplogBlock::from_bytes(block).map_err(|error| error.to_string())?;
    let has_value = block.value.as_ref().is_some_and(|value| !value.is_empty());
    match () {
        () if has_value => Err("it has a value".into()),
        () if block.optimistic => Err("it is optimistic".into()),
        () if block.links.is_empty() => Err("it links nothing".into()),
        () if (block.batch.before, block.batch.after) != (0, 0) => Err("it is part of a batch".into()),
        () => Ok(()),
    }
}

#[test]
fn only_empty_acknowledgements_are_surplus() {
    let link = autobee::wire::Link {
        key: CoreKey::new([1; 32]),
        length: autobee::wire::Length(1),
    };
    let acknowledgement = OplogBlock {
        links: vec![link],
        ..OplogBlock::default()
    };
    let is_one = |block: &OplogBlock| is_empty_acknowledgement(&block.to_bytes().unwrap().into()).is_ok();
    assert!(is_one(&acknowledgement));
    for other in [
        OplogBlock {
            value: Some("x".into()),
            ..acknowledgement.clone()
        },
        OplogBlock {
            optimistic: true,
            ..acknowledgement
        },
        OplogBlock::default(),
    ] {
        assert!(!is_one(&other), "{other:?}");
    }
}
