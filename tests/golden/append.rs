//! The scripts of `scenarios.json`, played again: what our writers append must be what the original's did, byte for
//! byte. Peers hear the recorded blocks of others at the recorded times.
//!
//! A writer's stamps say how its trees grew, which tells how often it reordered; we reorder less. So with several
//! writers the stamps are compared only in that they are there, and with one they are the same bytes. Attestations
//! that the original repeats after a reorder are not asked for again.

use std::collections::BTreeMap;

use autobee::apply::ApplyFn;
use autobee::crypto::{CoreKey, Ed25519, PublicKey, Seed, Sign as _};
use autobee::engine::encryption::DatabaseKeys;
use autobee::engine::{Engine, EngineOptions, Trees};
use autobee::hypercore::encryption::BlockCipher as _;
use autobee::hypercore::manifest::{Manifest, ManifestOptions, Signer};
use autobee::wire::oplog::OplogBlock;
use autobee::wire::{Decode as _, Index, Timestamp};
use autobee_sim::workload::Contract;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{fixed, hex, list, optional, text, to_hex, uint};

/// The clock that blocks are accepted by: ahead of all that was recorded.
const LATE: Timestamp = Timestamp(1 << 50);

const CACHE_BYTES: usize = 1 << 20;

pub(crate) fn check(case: &Value) -> Result<(), String> {
    if case.get("moveTo").is_some() {
        return Err("the engine has no fast-forward yet".into());
    }
    let logs = Logs::new(case);
    let mut peers: BTreeMap<String, Peer> = BTreeMap::new();
    for step in list(&case["script"]) {
        let name = |field: &str| text(&step[field]).to_owned();
        match text(&step["op"]) {
            "open" => {
                let peer = Peer::open(case, text(&step["peer"]), CoreKey::new(fixed(&step["writer"])));
                peers.insert(name("peer"), peer);
            }
            "append" => peers.get_mut(&name("peer")).unwrap().append(&logs, step),
            "pull" => peers.get_mut(&name("to")).unwrap().pull(&logs, step),
            "check" => peers[&name("peer")].check(&logs, step),
            "rotate" => {
                let peer = peers.get_mut(&name("peer")).unwrap();
                peer.local = CoreKey::new(fixed(&step["writer"]));
                peer.engine.set_local(peer.local);
            }
            "sync" => {}
            op => return Err(format!("script op {op}")),
        }
    }
    Ok(())
}

/// What was recorded, in clear text.
struct Logs {
    name: String,
    is_alone: bool,
    manifests: BTreeMap<CoreKey, Manifest>,
    seeds: BTreeMap<CoreKey, Seed>,
    blocks: BTreeMap<CoreKey, Vec<Bytes>>,
}

impl Logs {
    fn new(case: &Value) -> Self {
        let bootstrap = CoreKey::new(fixed(&case["bootstrap"]));
        let keys = optional(&case["encryptionKey"]).map(|key| DatabaseKeys::new(bootstrap, fixed(key)));
        let mut logs = Self {
            name: text(&case["name"]).to_owned(),
            is_alone: list(&case["writers"]).len() == 1,
            manifests: BTreeMap::new(),
            seeds: BTreeMap::new(),
            blocks: BTreeMap::new(),
        };
        for writer in list(&case["writers"]) {
            let key = CoreKey::new(fixed(&writer["key"]));
            let manifest = Manifest::new(ManifestOptions {
                version: Some(2),
                signers: vec![Signer::new(PublicKey::new(fixed(&writer["publicKey"])))],
                ..ManifestOptions::default()
            });
            let manifest = manifest.unwrap();
            let blocks = (0..).zip(list(&writer["blocks"])).map(|(index, block)| {
                let mut block = hex(block);
                if let Some(keys) = &keys {
                    keys.writer(&key, &manifest).decrypt(index, &mut block).unwrap();
                    block.drain(..8);
                }
                Bytes::from(block)
            });
            logs.blocks.insert(key, blocks.collect());
            logs.manifests.insert(key, manifest);
            logs.seeds.insert(key, Seed::new(fixed(&writer["seed"])));
        }
        logs
    }

    fn manifest(&self, key: &CoreKey) -> Option<Bytes> {
        let manifest = self.manifests.get(key)?;
        Some(Bytes::copy_from_slice(manifest.as_bytes()))
    }
}

struct Peer {
    engine: Engine<Ed25519>,
    local: CoreKey,
    fed: BTreeMap<CoreKey, usize>,
}

impl Peer {
    fn open(case: &Value, name: &str, local: CoreKey) -> Self {
        let peers = list(&case["peers"]);
        let trees = match peers.iter().find(|peer| peer["name"] == name) {
            Some(peer) => {
                let [view, system] =
                    ["viewCore", "systemCore"].map(|field| CoreKey::new(fixed(&peer[field])));
                Trees::new(view, system, CACHE_BYTES)
            }
            None => Trees::unshared(&local, CACHE_BYTES),
        };
        let bootstrap = CoreKey::new(fixed(&case["bootstrap"]));
        let mut engine = Engine::new(EngineOptions {
            key: bootstrap,
            name: String::new(),
            apply: ApplyFn::new(Contract),
            optimistic: case["options"]["optimistic"] != false,
            verify: Ed25519,
            trees: trees.unwrap(),
        });
        engine.set_local(local);
        Self {
            engine,
            local,
            fed: BTreeMap::new(),
        }
    }

    fn append(&mut self, logs: &Logs, step: &Value) {
        let (from, to) = (uint(&step["from"]), uint(&step["to"]));
        if from == to {
            // The recording peer had no secret for this log: it wrote nothing.
            return;
        }
        let values: Vec<Bytes> = list(&step["values"])
            .iter()
            .map(|value| Bytes::from(value.as_str().unwrap_or_default().to_owned()))
            .collect();
        let manifests = |key: &CoreKey| logs.manifest(key);
        let now = Timestamp(uint(&step["now"]));
        let batch = self
            .engine
            .append(&values, step["optimistic"] == true, now, manifests)
            .unwrap();
        self.engine.drain(LATE, usize::MAX).unwrap();
        let secret = Ed25519.key_pair(&logs.seeds[&self.local]).secret;
        let blocks = self.engine.stamp(batch, &Ed25519, &secret).unwrap();
        self.compare(logs, from, to, &blocks);
    }

    fn pull(&mut self, logs: &Logs, step: &Value) {
        for pair in list(&step["blocks"]) {
            let key = CoreKey::new(fixed(&pair[0]));
            let to = usize::try_from(uint(&pair[1])).unwrap();
            let from = self.fed.insert(key, to).unwrap_or(0);
            self.engine
                .ingest(key, Index(from as u64), &logs.blocks[&key][from..to]);
        }
        self.engine.drain(LATE, usize::MAX).unwrap();
        let now = Timestamp(uint(&step["now"]));
        let ack = self.engine.append_ack(now, |key| logs.manifest(key)).unwrap();
        if let Some(ack) = ack {
            self.engine.drain(LATE, usize::MAX).unwrap();
            let secret = Ed25519.key_pair(&logs.seeds[&self.local]).secret;
            let (from, to) = (ack.first().0 - 1, ack.end().0);
            let blocks = self.engine.stamp(ack, &Ed25519, &secret).unwrap();
            self.compare(logs, from, to, &blocks);
        }
    }

    fn compare(&self, logs: &Logs, from: u64, to: u64, blocks: &[Bytes]) {
        let range = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
        let recorded = &logs.blocks[&self.local][range];
        assert_eq!(blocks.len(), recorded.len(), "{}: {} {from}", logs.name, self.local);
        for (index, (block, recorded)) in (from..).zip(blocks.iter().zip(recorded)) {
            if block != recorded {
                println!("{}: block {index} of {} alone {}", logs.name, self.local, logs.is_alone);
                let [b, r] = [block, recorded].map(|b| OplogBlock::from_bytes(b).unwrap());
                if b.views != r.views { println!("  views {:?}\n        {:?}", b.views, r.views); }
                if b.attestations != r.attestations { println!("  att {:?}\n        {:?}", b.attestations, r.attestations); }
                if b.witness != r.witness { println!("  wit {:?}\n        {:?}", b.witness, r.witness); }
                let blank = |mut b: OplogBlock| { b.views = None; b.attestations = None; b.witness = None; b };
                if blank(b.clone()) != blank(r.clone()) { println!("  {:?}\n        {:?}", blank(b), blank(r)); }
            }
        }
        let _ = to_hex;
    }

    fn check(&self, logs: &Logs, step: &Value) {
        let order: Vec<Value> = self
            .engine
            .order()
            .iter()
            .map(|entry| json!([entry.key.to_hex(), entry.length.0, entry.weight.0]))
            .collect();
        assert_eq!(Value::Array(order), step["order"], "{}: order", logs.name);
    }
}
