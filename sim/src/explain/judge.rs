//! What the reference model says of what a replica shows.

use autobee::Rules;
use autobee::crypto::CoreKey;
use autobee::db::OrderedEntry;
use autobee::engine::anchor::Anchor;
use autobee::engine::encryption::DatabaseKeys;
use autobee::wire::Length;
use bytes::Bytes;

use crate::crypto::SimCrypto;
use crate::invariant::{Look, known_batches};
use crate::model::{Canonical, Decision, ModelBatch, ModelRules, canonical, decision};
use crate::run::ENCRYPTION_KEY;
use crate::scenario::Scenario;

/// The most batches that the model judges here: it is slow.
const BATCHES_MAX: usize = 700;

/// Asks the model.
pub(super) struct Judge {
    database: CoreKey,
    optimistic: bool,
    rules: Rules,
    keys: Option<DatabaseKeys>,
    crypto: SimCrypto,
}

/// What the model makes of the blocks of one replica.
pub(super) struct ModelVerdict {
    pub(super) batches: Vec<ModelBatch>,
    pub(super) canonical: Canonical,
    pub(super) order: Vec<OrderedEntry>,
}

/// Where a replica differs from the model first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Disagreement {
    /// Another entry stands there, or one more or less.
    Order(usize),
    /// The same entry has another weight.
    Weight(usize),
    Record(CoreKey),
    Heads,
    Counts,
    /// The key of the view.
    View(Bytes),
}

impl Judge {
    pub(super) fn new(scenario: &Scenario, database: CoreKey, crypto: SimCrypto) -> Self {
        Self {
            database,
            optimistic: !scenario.members_only,
            rules: scenario.rules(),
            keys: scenario
                .encrypted
                .then(|| DatabaseKeys::new(database, ENCRYPTION_KEY)),
            crypto,
        }
    }

    /// The same, with another key of the database; none for one that is not encrypted.
    pub(super) fn encrypted(self, key: Option<[u8; 32]>) -> Self {
        Self {
            keys: key.map(|key| DatabaseKeys::new(self.database, key)),
            ..self
        }
    }

    fn with_rules<T>(&self, work: impl FnOnce(&ModelRules<'_>) -> T) -> T {
        let anchor = |key, length| {
            Anchor::new(self.keys.as_ref(), key, length)
                .map_or(CoreKey::new([0; 32]), |anchor| anchor.link().key)
        };
        work(&ModelRules {
            bootstrap: self.database,
            optimistic: self.optimistic,
            set: self.rules,
            anchor: &anchor,
        })
    }

    /// What the model makes of the blocks that a replica's engine has; none while it makes an order, and when it is too
    /// much for the model.
    pub(super) fn judge(&self, look: &Look) -> Option<ModelVerdict> {
        let set = known_batches(look, BATCHES_MAX, &self.crypto)?;
        let canonical = self.with_rules(|rules| canonical(rules, &set));
        let order = canonical.entries(&set);
        Some(ModelVerdict {
            order,
            canonical,
            batches: set,
        })
    }

    /// Which part of the rule decides between two entries of what was judged.
    pub(super) fn decide(
        &self,
        judged: &ModelVerdict,
        a: (CoreKey, Length),
        b: (CoreKey, Length),
    ) -> Option<Decision> {
        let (a, b) = (judged.batch(a)?, judged.batch(b)?);
        if a == b {
            return None;
        }
        self.with_rules(|rules| decision(rules, &judged.batches, a, b))
    }
}

impl ModelVerdict {
    /// The batch that an entry is in.
    pub(super) fn batch(&self, (key, length): (CoreKey, Length)) -> Option<usize> {
        let mut batches = self.batches.iter();
        batches.position(|batch| batch.writer == key && batch.first <= length && length <= batch.last())
    }

    /// Where the order, the records or the view of a replica differ; none when it is all that the model says.
    pub(super) fn disagreement(&self, look: &Look) -> Option<Disagreement> {
        let fork = fork(&look.order, &self.order);
        if let Some(at) = fork {
            let place = |order: &[OrderedEntry]| order.get(at).map(|entry| (entry.key, entry.length));
            return Some(if place(&look.order) == place(&self.order) {
                Disagreement::Weight(at)
            } else {
                Disagreement::Order(at)
            });
        }
        let state = &self.canonical.state;
        for (key, record) in &state.records {
            let mut writers = look.writers.iter();
            let agrees = writers.any(|writer| {
                (writer.key, writer.length, writer.weight) == (*key, record.length, record.weight)
                    && (writer.max_weight, writer.is_removed, writer.is_anchor)
                        == (record.max_weight, record.is_removed, record.is_anchor)
            });
            if !agrees {
                return Some(Disagreement::Record(*key));
            }
        }
        if let Some(writer) = look
            .writers
            .iter()
            .find(|writer| !state.records.contains_key(&writer.key))
        {
            return Some(Disagreement::Record(writer.key));
        }
        let theirs = state.view.iter();
        let theirs: Vec<(Bytes, Bytes)> = theirs
            .map(|(key, value)| (key.clone().into(), value.clone().into()))
            .collect();
        if let Some(key) = other_key(&look.view, &theirs) {
            return Some(Disagreement::View(key));
        }
        if state.heads != look.heads {
            return Some(Disagreement::Heads);
        }
        ((state.timestamp, state.flushes) != (look.timestamp, look.flushes)).then_some(Disagreement::Counts)
    }
}

/// The position at which two orders differ first.
pub(super) fn fork(ours: &[OrderedEntry], theirs: &[OrderedEntry]) -> Option<usize> {
    let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    (at < ours.len().max(theirs.len())).then_some(at)
}

/// The first key at which two views differ.
pub(super) fn other_key(ours: &[(Bytes, Bytes)], theirs: &[(Bytes, Bytes)]) -> Option<Bytes> {
    let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    match (ours.get(at), theirs.get(at)) {
        (None, None) => None,
        (Some((key, _)), None) | (None, Some((key, _))) => Some(key.clone()),
        (Some((ours, _)), Some((theirs, _))) => Some(ours.min(theirs).clone()),
    }
}
