//! What the model makes of the first blocks of some logs.

use std::collections::BTreeMap;
use std::sync::Arc;

use autobee::crypto::CoreKey;
use autobee::db::OrderedEntry;
use autobee::engine::anchor;
use autobee::wire::oplog::OplogBlock;
use autobee::wire::{Decode as _, Length, Rules};
use bytes::Bytes;

use crate::crypto::SimCrypto;
use crate::lane0::signatures;
use crate::model::{ModelBatch, ModelRules, ModelState, batches, canonical};

/// The order of a set of blocks, and the state behind it.
pub type ModelAnswer = (Vec<OrderedEntry>, ModelState);

/// The answers of the model in one database, each computed once. Its logs have one continuation each, so that lengths
/// name a set of blocks.
pub struct ModelAnswers {
    database: CoreKey,
    rules: Rules,
    signatures: SimCrypto,
    known: BTreeMap<BTreeMap<CoreKey, Length>, Arc<ModelAnswer>>,
}

impl ModelAnswers {
    /// For a database, by the key of its creator.
    #[must_use]
    pub fn new(database: CoreKey, rules: Rules) -> Self {
        Self {
            database,
            rules,
            signatures: signatures(),
            known: BTreeMap::new(),
        }
    }

    /// What follows from so many blocks of each log. `log` gives the blocks of one, at least so many.
    ///
    /// # Panics
    ///
    /// When a block does not decode, or is not there.
    pub fn of(
        &mut self,
        lengths: &BTreeMap<CoreKey, Length>,
        log: impl Fn(&CoreKey) -> Vec<Bytes>,
    ) -> Arc<ModelAnswer> {
        if let Some(known) = self.known.get(lengths) {
            return Arc::clone(known);
        }
        let set: Vec<ModelBatch> = lengths
            .iter()
            .flat_map(|(core, length)| {
                let blocks = log(core);
                let length = usize::try_from(length.0).unwrap_or(usize::MAX);
                let blocks = blocks[..length].iter().map(|block| {
                    let decoded = OplogBlock::from_bytes(block);
                    decoded.unwrap_or_else(|error| panic!("a block of {core}: {error}"))
                });
                batches(*core, &blocks.collect::<Vec<_>>(), &self.signatures)
            })
            .collect();
        // No length here is beyond what an encoding carries.
        let name = |key, length| anchor(key, length).map_or(CoreKey::new([0; 32]), |anchor| anchor.key);
        let rules = ModelRules {
            bootstrap: self.database,
            optimistic: true,
            set: self.rules,
            anchor: &name,
        };
        let canonical = canonical(&rules, &set);
        let answer = Arc::new((canonical.entries(&set), canonical.state));
        self.known.insert(lengths.clone(), Arc::clone(&answer));
        answer
    }
}
