//! What a replica holds is what the slow obvious model makes of exactly the batches that its engine has.
//!
//! Source: spec/autobee.md 8.8, transcribed in `sim::model`.

use std::collections::BTreeSet;

use autobee::crypto::{CoreKey, Verify};
use autobee::db::OrderedEntry;
use autobee::engine::anchor::Anchor;
use autobee::engine::encryption::DatabaseKeys;
use autobee::wire::oplog::OplogBlock;
use autobee::wire::{Decode as _, Length, Rules};
use bytes::Bytes;

use super::{Look, Moment, ReplicaLook, Violation, first_difference};
use crate::model::{ModelBatch, ModelRules, batches, canonical};

/// The most batches that the model judges at once: it is slow.
const BATCHES_MAX: usize = 500;

/// What the model has to know of a database.
pub struct Model<'a, V> {
    /// The creator.
    pub database: CoreKey,
    /// Whether batches of strangers are tried.
    pub optimistic: bool,
    /// The rules of the database.
    pub rules: Rules,
    /// Of an encrypted database.
    pub keys: Option<&'a DatabaseKeys>,
    /// Checks attestations.
    pub verify: &'a V,
}

/// Batches that have an effect, by their writer and the length of its log with them.
pub type Effective = BTreeSet<(CoreKey, Length)>;

/// Compares a replica with the model. None when it is too much for the model, or the replica makes an order just now;
/// else whether they agree, and which batches have an effect.
pub fn reference<V: Verify>(
    model: &Model<'_, V>,
    moment: &Moment<'_>,
    replica: &ReplicaLook,
    look: &Look,
) -> Option<Result<Effective, Violation>> {
    let set = known_batches(look, BATCHES_MAX, model.verify)?;
    // A key that no core has, should a length ever be beyond what an encoding carries.
    let name = |key, length| {
        Anchor::new(model.keys, key, length).map_or(CoreKey::new([0; 32]), |anchor| anchor.link().key)
    };
    let rules = ModelRules {
        bootstrap: model.database,
        optimistic: model.optimistic,
        set: model.rules,
        anchor: &name,
    };
    let canonical = canonical(&rules, &set);
    let order = canonical.entries(&set);
    let violation = |what: String| {
        Some(Err(Violation {
            invariant: "reference",
            what: format!("{} differs from the model: {what}", replica.name),
        }))
    };
    if order != look.order {
        let named = |order: &[OrderedEntry]| -> Vec<String> {
            let entries = order.iter();
            entries
                .map(|entry| {
                    format!(
                        "{} (weight {})",
                        moment.block(&entry.key, entry.length),
                        entry.weight.0
                    )
                })
                .collect()
        };
        let difference = first_difference(&named(&look.order), &named(&order));
        return violation(format!("order {difference}"));
    }
    for (key, record) in &canonical.state.records {
        let found = look.writers.iter().find(|writer| writer.key == *key);
        let agrees = found.is_some_and(|writer| {
            writer.length == record.length
                && writer.is_removed == record.is_removed
                && writer.is_anchor == record.is_anchor
                && writer.is_guest == record.is_guest
                && writer.weight == record.weight
                && writer.max_weight == record.max_weight
        });
        if !agrees {
            return violation(format!(
                "record of {}: {found:?}, the model has {record:?}",
                moment.name_of(key)
            ));
        }
    }
    if look.writers.len() != canonical.state.records.len() {
        return violation(format!(
            "{} records, the model has {}",
            look.writers.len(),
            canonical.state.records.len()
        ));
    }
    let (heads, timestamp) = (&canonical.state.heads, canonical.state.timestamp);
    if *heads != look.heads {
        return violation(format!("heads {}", first_difference(&look.heads, heads)));
    }
    if (timestamp, canonical.state.flushes) != (look.timestamp, look.flushes) {
        return violation(format!(
            "{} batches up to {}, the model has {} up to {}",
            look.flushes, look.timestamp.0, canonical.state.flushes, timestamp.0
        ));
    }
    let effective = canonical.order.iter().map(|(at, _)| *at);
    let effective = effective.filter(|at| !canonical.rejected.contains(at));
    let effective = effective.map(|at| (set[at].writer, set[at].last())).collect();
    let view: Vec<(Bytes, Bytes)> = canonical
        .state
        .view
        .into_iter()
        .map(|(key, value)| (key.into(), value.into()))
        .collect();
    if view != *look.view {
        return violation(format!("view {}", first_difference(&look.view, &view)));
    }
    Some(Ok(effective))
}

/// The batches that the engine of a replica has; none while it makes an order, when a block of theirs is not known, and when
/// there are more than `most`.
pub(crate) fn known_batches(look: &Look, most: usize, verify: &impl Verify) -> Option<Vec<ModelBatch>> {
    let mut set = Vec::new();
    for (key, length) in look.known.as_ref()? {
        if *length == Length::ZERO {
            continue;
        }
        let blocks = look.logs.get(key)?.blocks();
        let blocks = blocks.get(..usize::try_from(length.0).ok()?)?;
        let log: Vec<OplogBlock> = blocks
            .iter()
            .map_while(|block| OplogBlock::from_bytes(block).ok())
            .collect();
        set.extend(batches(*key, &log, verify));
        if set.len() > most {
            return None;
        }
    }
    Some(set)
}
