//! The same contract under the engine's linearizer, on the engine's membership state.

use std::collections::BTreeMap;

use autobee::crypto::CoreKey;
use autobee::engine::dag::BatchId;
use autobee::engine::linearizer::{CeilingGrant, PlacedBatch, Replay, Suspended, Verdict, WriterStanding};
use autobee::engine::system::{Flush, System};
use autobee::wire::{Length, Weight};
use im::OrdMap;

use super::state::shown;
use super::{ModelBatch, ModelBlock, ModelGrant, ModelRecord, ModelRules, ModelState};
use crate::workload::{Op, Shown, forgotten, tally};

/// Membership and view behind an entry.
#[derive(Debug, Clone, Default)]
pub struct Play {
    /// Membership.
    pub system: System,
    /// View.
    pub view: OrdMap<Vec<u8>, Vec<u8>>,
}

impl Play {
    /// The same as the model has it.
    #[must_use]
    pub fn to_model(&self) -> ModelState {
        let records = self.system.records().map(|(key, record)| {
            let record = ModelRecord {
                is_removed: record.is_removed,
                is_oplog: record.is_oplog,
                weight: record.weight,
                max_weight: record.max_weight.unwrap_or_default(),
                length: record.length,
                clock: record.clock,
                is_genesis: record.is_genesis,
                is_anchor: record.is_anchor,
                is_guest: record.is_guest,
                timestamp: u64::try_from(record.timestamp).ok().map(autobee::wire::Timestamp),
            };
            (*key, record)
        });
        let granted = self.system.records().filter_map(|(key, _)| {
            let grants = self.system.grants(key).iter();
            let grants: Vec<ModelGrant> = grants
                .map(|grant| ModelGrant {
                    by: grant.by,
                    weight: grant.weight,
                })
                .collect();
            (!grants.is_empty()).then_some((*key, grants))
        });
        ModelState {
            granted: granted.collect(),
            records: records.collect(),
            heads: self.system.heads().iter().collect(),
            timestamp: self.system.timestamp(),
            flushes: self.system.flushes(),
            view: self.view.clone(),
        }
    }
}

/// Replays batches for a linearizer.
pub struct Player<'a> {
    rules: &'a ModelRules<'a>,
    batches: BTreeMap<(CoreKey, Length), &'a ModelBatch>,
    /// How often each batch was applied.
    pub applied: BTreeMap<BatchId, u32>,
    /// Asked before every apply: true suspends it.
    pub suspend: Box<dyn FnMut() -> bool + 'a>,
}

impl<'a> Player<'a> {
    /// Plays these batches, and never suspends.
    #[must_use]
    pub fn new(rules: &'a ModelRules<'a>, batches: &'a [ModelBatch]) -> Self {
        Self {
            rules,
            batches: batches
                .iter()
                .map(|batch| ((batch.writer, batch.first), batch))
                .collect(),
            applied: BTreeMap::new(),
            suspend: Box::new(|| false),
        }
    }

    fn begin(&self, play: &Play, batch: &ModelBatch, step: PlacedBatch<'_>) -> Flush {
        let mut flush = Flush::new(&play.system, batch.writer, step.weight)
            .under(self.rules.set)
            .dated(step.date);
        if batch.writer == self.rules.bootstrap && batch.first == Length(1) {
            flush.grant_genesis();
        }
        for (length, node) in batch.numbered() {
            flush.record(length, node.timestamp, &node.links);
        }
        flush
    }

    /// None when the node is refused.
    fn run(
        &self,
        view: &mut OrdMap<Vec<u8>, Vec<u8>>,
        flush: &mut Flush,
        (key, length): (CoreKey, Length),
        (node, weight): (&ModelBlock, Weight),
    ) -> Option<()> {
        let op: Op = serde_json::from_slice(&node.value).ok()?;
        let blocked = op
            .reject_if
            .as_ref()
            .is_some_and(|key| view.contains_key(key.as_bytes()));
        if node.optimistic && (op.reject || blocked) {
            return None;
        }
        let changes_members = op.add_writer.is_some() || op.remove_writer.is_some();
        if changes_members && flush.is_by_guest(&self.rules.bootstrap) {
            return None;
        }
        if let Some(target) = &op.add_writer {
            flush.add_writer(target.parse().ok()?, Weight(op.weight.unwrap_or(2)));
        }
        if let Some(target) = &op.remove_writer {
            flush.remove_writer(target.parse().ok()?);
        }
        if let Some(target) = &op.ack {
            flush.ack_writer(target.parse().ok()?);
        }
        let anchor = op.anchor.then(|| (self.rules.anchor)(key, length));
        if let Some(anchor) = anchor {
            flush.add_anchor(anchor);
        }
        let seen = op.look.as_ref().map(|_| Shown {
            is_genesis: flush.is_genesis(),
            clock: flush.clock(),
            ..shown(view, node, weight)
        });
        let (number, next) = tally(view.get(&b"n"[..]).map(Vec::as_slice));
        let forgotten = forgotten(op.forget, &next);
        let name = format!("{key}:{length}").into_bytes();
        view.insert(b"n".to_vec(), next.into_bytes());
        view.insert(number.into_bytes(), name.clone());
        if let Some((key, shown)) = op.look.zip(seen) {
            view.insert(key.into_bytes(), shown.to_string().into_bytes());
        }
        if let Some((key, value)) = op.put {
            view.insert(key.into_bytes(), value.into_bytes());
        }
        if let Some(key) = op.del {
            view.remove(key.as_bytes());
        }
        for number in forgotten {
            view.remove(number.as_bytes());
        }
        if let Some(anchor) = anchor {
            view.insert(format!("anchor/{anchor}").into_bytes(), name);
        }
        Some(())
    }
}

impl Replay for Player<'_> {
    type State = Play;

    fn standing(&self, state: &Play, writer: &CoreKey) -> Option<WriterStanding> {
        state.system.standing(writer)
    }

    fn grants(&self, state: &Play, writer: &CoreKey) -> Vec<CeilingGrant> {
        state.system.grants(writer).to_vec()
    }

    fn apply(&mut self, state: &Play, step: PlacedBatch<'_>) -> Result<Verdict<Play>, Suspended> {
        if (self.suspend)() {
            return Err(Suspended);
        }
        *self.applied.entry(step.id).or_default() += 1;
        let Some(batch) = self.batches.get(&(step.batch.writer, step.batch.first)).copied() else {
            return Err(Suspended);
        };
        let is_member = batch.writer == self.rules.bootstrap || state.system.member(&batch.writer).is_some();
        let is_removed = state
            .system
            .record(&batch.writer)
            .is_some_and(|record| record.is_removed);
        if !is_member && is_removed {
            return Ok(Verdict::Refused);
        }
        let mut flush = self.begin(state, batch, step);
        let mut view = state.view.clone();
        if flush.may_apply(step.batch.optimistic) {
            for (length, node) in batch.numbered().filter(|(_, node)| !node.value.is_empty()) {
                if self
                    .run(&mut view, &mut flush, (batch.writer, length), (node, step.weight))
                    .is_some()
                {
                    continue;
                }
                if !is_member {
                    return Ok(Verdict::Refused);
                }
                flush = self.begin(state, batch, step);
                view = state.view.clone();
                break;
            }
        }
        Ok(Verdict::Accepted(Play {
            system: flush.finish().system,
            view,
        }))
    }
}
