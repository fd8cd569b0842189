//! A state: what is known of writers, and a plain map as view.

use std::collections::BTreeMap;

use autobee::crypto::CoreKey;
use autobee::wire::{Length, Link, Timestamp, Weight};
use im::OrdMap;

use super::{ModelBatch, ModelBlock, ModelRules};
use crate::workload::{LOOKED_AT, Op, SELF, Shown, forgotten, tally};

/// Everything that peers must agree on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelState {
    /// What is known of writers.
    pub records: OrdMap<CoreKey, ModelRecord>,
    /// Who raised ceilings, or would have, and was not taken back; under safe rules alone.
    pub granted: OrdMap<CoreKey, Vec<ModelGrant>>,
    /// Nodes that no node links, oldest first.
    pub heads: Vec<Link>,
    /// The highest of all nodes.
    pub timestamp: Timestamp,
    /// Number of batches.
    pub flushes: u64,
    /// What [`crate::workload::JsonApply`] keeps.
    pub view: OrdMap<Vec<u8>, Vec<u8>>,
}

/// What is known of a writer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ModelRecord {
    /// Removed, and not added again.
    pub is_removed: bool,
    /// Written by the flush of its own batch.
    pub is_oplog: bool,
    /// Weight of its last batch.
    pub weight: Weight,
    /// Granted ceiling.
    pub max_weight: Weight,
    /// How much of it is applied.
    pub length: Length,
    /// Flushes before the one that wrote the record.
    pub clock: u64,
    /// The ceiling is that of genesis.
    pub is_genesis: bool,
    /// Nobody writes it.
    pub is_anchor: bool,
    /// No member: an entry was accepted, or somebody named it.
    pub is_guest: bool,
    /// Of its batch, if that wrote the record.
    pub timestamp: Option<Timestamp>,
}

/// A grant of a ceiling: the first block of the batch, and up to which weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelGrant {
    /// The block.
    pub by: Link,
    /// The weight.
    pub weight: Weight,
}

/// Grants that are kept of one writer.
const GRANTS_MAX: usize = 16;

impl ModelRecord {
    /// The weight of its next batch, if that claims nothing.
    #[must_use]
    pub fn standing(&self) -> Weight {
        if self.is_genesis && self.max_weight > Weight::ZERO {
            self.max_weight
        } else {
            self.weight
        }
    }
}

/// Apply, or admission, says no.
#[derive(Debug)]
pub(super) struct Refused;

/// What one flush says about a writer.
#[derive(Default)]
struct ModelUpdate {
    length: Length,
    weight: Option<Weight>,
    max_weight: Option<Weight>,
    is_genesis: bool,
    removed: bool,
    added: bool,
    is_anchor: bool,
    timestamp: Option<Timestamp>,
}

/// One batch, while it is applied.
struct ModelFlush<'a> {
    before: &'a ModelState,
    after: ModelState,
    pending: BTreeMap<CoreKey, ModelUpdate>,
    /// Its first block.
    first: Link,
    weight: Weight,
}

impl ModelState {
    /// The record of a member, removed or not.
    pub(super) fn member(&self, key: &CoreKey) -> Option<&ModelRecord> {
        self.records.get(key).filter(|record| !record.is_guest)
    }

    /// True for members, removed or not, and the creator.
    pub(super) fn is_member(&self, rules: &ModelRules<'_>, key: &CoreKey) -> bool {
        self.member(key).is_some() || *key == rules.bootstrap
    }

    /// The weight of a batch whose ancestors are applied; which blocks are among those tells `comes_before`.
    pub(super) fn resolve(
        &self,
        rules: &ModelRules<'_>,
        batch: &ModelBatch,
        comes_before: impl Fn(&Link) -> bool,
    ) -> Weight {
        let own = self.member(&batch.writer);
        let floor = own.map_or(Weight::ZERO, ModelRecord::standing);
        let Some((claim, own)) = batch.claim.zip(own) else {
            return floor;
        };
        let backer = self.member(&claim.backer.key);
        let grants = self.granted.get(&batch.writer).into_iter().flatten();
        let mut grants = grants.filter(|grant| grant.weight >= claim.weight);
        let counts = claim.valid
            && claim.weight > floor
            && claim.weight <= own.max_weight
            && claim.backer.key != batch.writer
            && backer.is_some_and(|backer| backer.length >= claim.backer.length)
            && (!rules.set.is_safe()
                || (comes_before(&claim.backer) && grants.any(|grant| comes_before(&grant.by))));
        if counts { claim.weight } else { floor }
    }

    /// The state behind a batch whose ancestors are applied, and whether the batch has an effect beyond its record.
    pub(super) fn apply(
        &self,
        rules: &ModelRules<'_>,
        batch: &ModelBatch,
        (weight, date): (Weight, Timestamp),
    ) -> Result<(Self, bool), Refused> {
        let member = self.is_member(rules, &batch.writer);
        let optimistic = batch.nodes[0].optimistic;
        if !member && (!optimistic || !rules.optimistic || self.flushes == 0 || batch.nodes.len() > 32) {
            return Err(Refused);
        }
        // A guest that somebody removed.
        if !member
            && self
                .records
                .get(&batch.writer)
                .is_some_and(|record| record.is_removed)
        {
            return Err(Refused);
        }
        let mut flush = ModelFlush::record(self, rules, batch, (weight, date));
        let may_apply = match (flush.pending.get(&batch.writer), self.records.get(&batch.writer)) {
            (Some(pending), _) if pending.added => true,
            (_, Some(record)) => !record.is_removed,
            (_, None) => optimistic,
        };
        let mut has_effect = may_apply;
        if may_apply {
            for (length, node) in batch.numbered().filter(|(_, node)| !node.value.is_empty()) {
                match flush.run(rules, (batch.writer, length), node) {
                    Ok(()) => {}
                    Err(Refused) if !member => return Err(Refused),
                    Err(Refused) => {
                        flush = ModelFlush::record(self, rules, batch, (weight, date));
                        has_effect = false;
                        break;
                    }
                }
            }
        }
        Ok((flush.finish(rules, batch.writer), has_effect))
    }
}

impl<'a> ModelFlush<'a> {
    fn record(
        before: &'a ModelState,
        rules: &ModelRules<'_>,
        batch: &ModelBatch,
        (weight, date): (Weight, Timestamp),
    ) -> Self {
        let mut flush = Self {
            before,
            after: before.clone(),
            pending: BTreeMap::new(),
            first: Link {
                key: batch.writer,
                length: batch.first,
            },
            weight,
        };
        if batch.writer == rules.bootstrap && batch.first == Length(1) {
            flush.add_writer(rules, batch.writer, Weight(2), true);
        }
        for (length, node) in batch.numbered() {
            // Under safe rules links of later nodes take no heads away, and the state has the latest date, which is not before
            // what is linked.
            let is_safe = rules.set.is_safe();
            let links = if is_safe && length > batch.first {
                &[]
            } else {
                node.links.as_slice()
            };
            let covers = |head: &Link| {
                (head.key == batch.writer && head.length <= length)
                    || links
                        .iter()
                        .any(|link| link.key == head.key && link.length >= head.length)
            };
            flush.after.heads.retain(|head| !covers(head));
            flush.after.heads.push(Link {
                key: batch.writer,
                length,
            });
            let at = if is_safe { date } else { node.timestamp };
            flush.after.timestamp = flush.after.timestamp.max(at);
            let pending = flush.pending.entry(batch.writer).or_default();
            pending.length = pending.length.max(length);
            pending.weight = pending.weight.max(Some(weight));
            pending.timestamp = pending.timestamp.or(Some(node.timestamp));
        }
        flush
    }

    fn run(
        &mut self,
        rules: &ModelRules<'_>,
        (key, length): (CoreKey, Length),
        node: &ModelBlock,
    ) -> Result<(), Refused> {
        let op: Op = serde_json::from_slice(&node.value).map_err(|_| Refused)?;
        let has = |key: &String| self.after.view.contains_key(key.as_bytes());
        if node.optimistic && (op.reject || op.reject_if.as_ref().is_some_and(has)) {
            return Err(Refused);
        }
        let parse = |text: &str| text.parse::<CoreKey>().map_err(|_| Refused);
        let changes_members = op.add_writer.is_some() || op.remove_writer.is_some();
        if rules.set.is_safe() && changes_members && !self.before.is_member(rules, &self.first.key) {
            return Err(Refused);
        }
        if let Some(target) = &op.add_writer {
            self.add_writer(rules, parse(target)?, Weight(op.weight.unwrap_or(2)), false);
        }
        if let Some(target) = &op.remove_writer {
            self.remove_writer(rules, parse(target)?);
        }
        if let Some(target) = &op.ack {
            let target = if target == SELF { key } else { parse(target)? };
            let length = self
                .before
                .records
                .get(&target)
                .map_or(Length::ZERO, |record| record.length);
            let pending = self.pending.entry(target).or_default();
            pending.length = pending.length.max(length);
        }
        let anchor = op.anchor.then(|| (rules.anchor)(key, length));
        if let Some(anchor) = anchor {
            let pending = self.pending.entry(anchor).or_default();
            (pending.added, pending.removed, pending.is_anchor) = (true, false, true);
            pending.length = pending.length.max(Length(1));
        }

        let shown = op.look.as_ref().map(|_| Shown {
            is_genesis: self.before.flushes == 0,
            clock: self.before.flushes,
            ..shown(&self.after.view, node, self.weight)
        });
        let view = &mut self.after.view;
        let (number, next) = tally(view.get(&b"n"[..]).map(Vec::as_slice));
        let forgotten = forgotten(op.forget, &next);
        let name = format!("{key}:{}", length.0).into_bytes();
        view.insert(b"n".to_vec(), next.into_bytes());
        view.insert(number.into_bytes(), name.clone());
        if let Some((key, shown)) = op.look.zip(shown) {
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
        Ok(())
    }

    fn finish(mut self, rules: &ModelRules<'_>, writer: CoreKey) -> ModelState {
        for (key, pending) in self.pending {
            let old = self.before.records.get(&key).copied();
            let was_no_member = old.is_none_or(|old| old.is_guest);
            let old = old.unwrap_or_default();
            let is_oplog = key == writer;
            let record = ModelRecord {
                is_removed: pending.removed || (!pending.added && old.is_removed),
                is_oplog,
                weight: pending.weight.unwrap_or(old.weight),
                max_weight: pending.max_weight.unwrap_or(old.max_weight),
                length: pending.length.max(old.length),
                clock: self.before.flushes,
                is_genesis: if pending.max_weight.is_some() {
                    pending.is_genesis
                } else {
                    old.is_genesis
                },
                is_anchor: pending.is_anchor || old.is_anchor,
                is_guest: rules.set.is_safe() && !pending.added && was_no_member && key != rules.bootstrap,
                timestamp: pending.timestamp.filter(|_| is_oplog),
            };
            self.after.records.insert(key, record);
        }
        self.after.flushes += 1;
        self.after
    }

    // ---- membership calls: on the state before, overlaid with what is pending

    fn add_writer(&mut self, rules: &ModelRules<'_>, key: CoreKey, weight: Weight, is_genesis: bool) {
        if rules.set.is_safe() && !is_genesis {
            self.note_grant(key, weight);
        }
        let (is_removed, ceiling, length) =
            self.overlay(rules, &key)
                .unwrap_or((true, Weight::ZERO, Length::ZERO));
        if weight <= ceiling && !is_removed {
            return;
        }
        let pending = self.pending.entry(key).or_default();
        (pending.added, pending.removed) = (true, false);
        pending.length = pending.length.max(length);
        if weight > ceiling {
            pending.max_weight = Some(weight);
            pending.is_genesis = is_genesis;
            if is_genesis {
                pending.weight = pending.weight.max(Some(weight));
            }
        }
    }

    /// A granter that granted as much before says nothing by that. Of many grants the sixteen highest are kept.
    fn note_grant(&mut self, key: CoreKey, weight: Weight) {
        let by = self.first;
        let mut grants = self.after.granted.get(&key).cloned().unwrap_or_default();
        let says_nothing = |known: &ModelGrant| known.by.key == by.key && known.weight >= weight;
        if grants.iter().any(says_nothing) {
            return;
        }
        if grants.len() == GRANTS_MAX {
            let (mut lowest, mut at) = (weight, None);
            for (position, grant) in grants.iter().enumerate() {
                if grant.weight < lowest {
                    (lowest, at) = (grant.weight, Some(position));
                }
            }
            let Some(at) = at else { return };
            grants.remove(at);
        }
        grants.push(ModelGrant { by, weight });
        self.after.granted.insert(key, grants);
        self.pending.entry(key).or_default();
    }

    fn remove_writer(&mut self, rules: &ModelRules<'_>, key: CoreKey) {
        self.after.granted.remove(&key);
        let length = self
            .overlay(rules, &key)
            .map_or(Length::ZERO, |(_, _, length)| length);
        let pending = self.pending.entry(key).or_default();
        (pending.added, pending.removed) = (false, true);
        pending.length = pending.length.max(length);
        pending.max_weight = Some(Weight::ZERO);
        pending.is_genesis = false;
    }

    /// Removed, ceiling, length.
    fn overlay(&self, rules: &ModelRules<'_>, key: &CoreKey) -> Option<(bool, Weight, Length)> {
        // Under safe rules only an addition makes a member.
        let is_no_member = |pending: &ModelUpdate| pending.removed || (rules.set.is_safe() && !pending.added);
        match (self.before.records.get(key), self.pending.get(key)) {
            (None, None) => None,
            (Some(record), None) => Some((
                record.is_removed || record.is_guest,
                record.max_weight,
                record.length,
            )),
            (None, Some(pending)) => Some((
                is_no_member(pending),
                pending.max_weight.unwrap_or_default(),
                pending.length,
            )),
            (Some(record), Some(pending)) => Some((
                record.is_removed || record.is_guest || pending.removed,
                pending.max_weight.unwrap_or(record.max_weight),
                record.length.max(pending.length),
            )),
        }
    }
}

/// What an entry is shown of the view before it and of itself.
pub(super) fn shown(view: &OrdMap<Vec<u8>, Vec<u8>>, node: &ModelBlock, weight: Weight) -> Shown {
    let looked_at = || {
        view.iter()
            .filter(|(key, _)| key.starts_with(LOOKED_AT.as_bytes()))
    };
    let last = looked_at()
        .next_back()
        .map(|(_, value)| String::from_utf8_lossy(value).into_owned());
    Shown {
        is_genesis: false,
        clock: 0,
        timestamp: node.timestamp,
        weight,
        links: node.links.len(),
        keys: looked_at().count(),
        last: last.unwrap_or_default(),
    }
}
