//! Logs of real peers, as sets of batches: what `scenarios.json` and `divergences.json` are made of.

use std::collections::BTreeMap;

use autobee::crypto::{CoreKey, Ed25519, PublicKey};
use autobee::engine::anchor::Anchor;
use autobee::engine::dag::Dag;
use autobee::engine::encryption::DatabaseKeys;
use autobee::engine::linearizer::{self, Linearizer};
use autobee::hypercore::encryption::BlockCipher as _;
use autobee::hypercore::manifest::{Manifest, ManifestOptions, Signer};
use autobee::wire::oplog::OplogBlock;
use autobee::wire::{Decode as _, Length, Weight};
use autobee_sim::model::{self, ModelBatch, ModelRules, ModelState, Play, Player, canonical};
use serde_json::{Value, json};

use super::{fixed, hex, list, optional, to_hex, uint};

/// Everything that a case knows of its writers.
pub(crate) struct History {
    bootstrap: CoreKey,
    optimistic: bool,
    keys: Option<DatabaseKeys>,
    logs: BTreeMap<CoreKey, Vec<OplogBlock>>,
    batches: BTreeMap<CoreKey, Vec<ModelBatch>>,
}

/// How much of each log was delivered.
pub(crate) type Fed = BTreeMap<CoreKey, Length>;

impl History {
    pub(crate) fn new(case: &Value) -> Self {
        let bootstrap = CoreKey::new(fixed(&case["bootstrap"]));
        let keys = optional(&case["encryptionKey"]).map(|key| DatabaseKeys::new(bootstrap, fixed(key)));
        let logs: BTreeMap<_, _> = list(&case["writers"])
            .iter()
            .map(|writer| log(writer, keys.as_ref()))
            .collect();
        let batches = logs
            .iter()
            .map(|(key, log)| (*key, model::batches(*key, log, &Ed25519)))
            .collect();
        let optimistic = case["options"]["optimistic"] != false;
        Self {
            bootstrap,
            optimistic,
            keys,
            logs,
            batches,
        }
    }

    /// All of every log.
    pub(crate) fn all(&self) -> Fed {
        self.logs
            .iter()
            .map(|(key, log)| (*key, Length(log.len() as u64)))
            .collect()
    }

    /// What the model says of these blocks.
    pub(crate) fn declared(&self, fed: &Fed) -> Value {
        let anchor = |key, length| self.anchor(key, length);
        let set: Vec<ModelBatch> = self.within(fed).cloned().collect();
        let result = canonical(&self.rules(&anchor), &set);
        let order = result.order.iter().map(|(at, weight)| (&set[*at], *weight));
        self.outcome(order, &result.state)
    }

    /// What a peer says that got these blocks, step by step.
    pub(crate) fn replayed(&self, steps: &[Vec<(CoreKey, Length)>]) -> Value {
        let anchor = |key, length| self.anchor(key, length);
        let rules = self.rules(&anchor);
        let everything: Vec<ModelBatch> = self.batches.values().flatten().cloned().collect();
        let mut player = Player::new(&rules, &everything);
        let mut dag = Dag::new();
        let mut linearizer = Linearizer::new(
            linearizer::Rules {
                bootstrap: self.bootstrap,
                optimistic: self.optimistic,
                set: autobee::wire::Rules::interop(),
            },
            Play::default(),
        );
        let mut fed = Fed::new();
        for step in steps {
            for (key, length) in step {
                let fed = fed.entry(*key).or_default();
                *fed = (*fed).max(*length);
            }
            for batch in self.within(&fed) {
                if batch.first > dag.known_length(&batch.writer) {
                    for (length, _) in batch.numbered() {
                        dag.add_anchor(self.anchor(batch.writer, length));
                    }
                    dag.insert(batch.outline()).unwrap();
                }
            }
            linearizer.update(&dag, &mut player).unwrap();
        }
        let find = |entry: linearizer::OrderEntry| {
            let entered = dag.batch(entry.batch);
            let of = |batch: &&ModelBatch| batch.writer == entered.writer && batch.first == entered.first;
            (everything.iter().find(of).unwrap(), entry.weight)
        };
        self.outcome(linearizer.entries().map(find), &linearizer.state().to_model())
    }

    /// In the form of the files.
    fn outcome<'a>(
        &self,
        order: impl Iterator<Item = (&'a ModelBatch, Weight)>,
        state: &ModelState,
    ) -> Value {
        let nodes = order.flat_map(|(batch, weight)| {
            let last = &self.logs[&batch.writer][usize::try_from(batch.last().0).unwrap() - 1];
            // Listed from the last node backwards: blocks of Autobase do not say how many are before them.
            let listed = batch.last().0 - last.batch.before..=batch.last().0;
            listed
                .map(move |length| json!([batch.writer.to_hex(), length, weight.0]))
                .collect::<Vec<_>>()
        });
        let view = state
            .view
            .iter()
            .map(|(key, value)| json!([to_hex(key), to_hex(value)]));
        let writers = state.records.iter().map(|(key, record)| {
            json!({
                "key": key.to_hex(),
                "isRemoved": record.is_removed,
                "isOplog": record.is_oplog,
                "weight": record.weight.0,
                "maxWeight": record.max_weight.0,
                "length": record.length.0,
                "clock": record.clock,
                "isGenesis": record.is_genesis,
                "isAnchor": record.is_anchor,
                "timestamp": record.timestamp.map_or(json!(-1), |at| json!(at.0)),
            })
        });
        let heads = state
            .heads
            .iter()
            .map(|head| json!([head.key.to_hex(), head.length.0]));
        json!({
            "order": nodes.collect::<Vec<_>>(),
            "view": view.collect::<Vec<_>>(),
            "writers": writers.collect::<Vec<_>>(),
            "info": {
                "version": 3,
                "timestamp": state.timestamp.0,
                "flushes": state.flushes,
                "heads": heads.collect::<Vec<_>>(),
            },
        })
    }

    fn rules<'a>(&self, anchor: &'a dyn Fn(CoreKey, Length) -> CoreKey) -> ModelRules<'a> {
        ModelRules {
            bootstrap: self.bootstrap,
            optimistic: self.optimistic,
            set: autobee::wire::Rules::interop(),
            anchor,
        }
    }

    fn anchor(&self, key: CoreKey, length: Length) -> CoreKey {
        Anchor::new(self.keys.as_ref(), key, length).unwrap().link().key
    }

    /// Batches that are complete within what was fed.
    fn within<'a>(&'a self, fed: &'a Fed) -> impl Iterator<Item = &'a ModelBatch> {
        let length = |key: &CoreKey| fed.get(key).copied().unwrap_or_default();
        self.batches
            .values()
            .flatten()
            .filter(move |batch| batch.last() <= length(&batch.writer))
    }
}

/// `[key, length]`.
pub(crate) fn fed(value: &Value) -> (CoreKey, Length) {
    (CoreKey::new(fixed(&value[0])), Length(uint(&value[1])))
}

fn log(writer: &Value, keys: Option<&DatabaseKeys>) -> (CoreKey, Vec<OplogBlock>) {
    let key = CoreKey::new(fixed(&writer["key"]));
    let manifest = Manifest::new(ManifestOptions {
        version: Some(2),
        signers: vec![Signer::new(PublicKey::new(fixed(&writer["publicKey"])))],
        ..ManifestOptions::default()
    });
    let manifest = manifest.unwrap();
    assert_eq!(manifest.key(), key);
    let blocks = (0..).zip(list(&writer["blocks"])).map_while(|(index, block)| {
        let mut block = hex(block);
        if let Some(keys) = keys {
            keys.writer(&key, &manifest).decrypt(index, &mut block).ok()?;
            block.drain(..8);
        }
        // A block that cannot be read ends the log for good.
        OplogBlock::from_bytes(&block).ok()
    });
    (key, blocks.collect())
}
