//! One batch, from the state before it to the state behind it.
//!
//! Source: spec/autobee.md 7.1, 7.2. Membership calls see the state *before* the flush, overlaid with what is pending in
//! it: a pending removal is or-ed into the stored record, a pending ceiling replaces the stored one, and a pending
//! addition does not hide a stored removal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::crypto::CoreKey;
use crate::wire::system::{SystemKey, WriterRecord};
use crate::wire::{
    Decode as _, DecodeError, Decoder, Encode as _, EncodeError, Encoder, Length, Link, Rules, Timestamp,
    Weight,
};

use super::System;
use crate::engine::linearizer::{CeilingGrant, GENESIS_WEIGHT};

/// What becomes of the state with one batch: its nodes first, then the membership calls of apply, then
/// [`Flush::finish`].
#[derive(Debug, Clone)]
pub struct Flush {
    before: System,
    after: System,
    writer: CoreKey,
    weight: Weight,
    rules: Rules,
    /// The first block of the batch.
    first: Option<Length>,
    /// The creator, in its first batch.
    creator: Option<CoreKey>,
    pending: Vec<(CoreKey, WriterUpdate)>,
    /// Position in `pending`.
    touched: BTreeMap<CoreKey, usize>,
    /// Added or removed, in order of the first such call.
    changed: Vec<CoreKey>,
    /// See [`Flush::take_named`].
    named: BTreeSet<CoreKey>,
}

/// The changes that this flush makes to the record of a writer.
#[derive(Debug, Clone, Copy, Default)]
struct WriterUpdate {
    length: Length,
    weight: Option<Weight>,
    ceiling: Option<Weight>,
    timestamp: Option<Timestamp>,
    membership: Option<Membership>,
    is_genesis: bool,
    is_anchor: bool,
    /// The ceiling was raised: somebody should attest it.
    granted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Membership {
    Added,
    Removed,
}

/// The state behind a batch, and what led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flushed {
    /// The state.
    pub system: System,
    /// Writers whose record was written, first touched first.
    pub touched: Vec<CoreKey>,
    /// Ceilings that were raised.
    pub grants: Vec<Grant>,
    /// Writers that were added or removed, in order of the first such call.
    pub changes: Vec<WriterChange>,
}

/// A ceiling that a flush raised, to be attested with the next own batch, unless it is one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Whose.
    pub key: CoreKey,
    /// Where it stands at the end of the flush.
    pub weight: Weight,
}

/// A writer that a flush added or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterChange {
    /// Who.
    pub key: CoreKey,
    /// Else removed.
    pub added: bool,
    /// An anchor, which nobody writes.
    pub is_anchor: bool,
}

/// A change of the system tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemWrite {
    /// Sets a key.
    Put {
        /// Key.
        key: Vec<u8>,
        /// Value.
        value: Vec<u8>,
    },
    /// Removes a key, which need not exist.
    Delete {
        /// Key.
        key: Vec<u8>,
    },
}

impl Flush {
    /// Begins a flush of a batch of `writer` that was resolved to `weight`.
    #[must_use]
    pub fn new(before: &System, writer: CoreKey, weight: Weight) -> Self {
        Self {
            before: before.clone(),
            after: before.clone(),
            writer,
            weight,
            rules: Rules::interop(),
            first: None,
            creator: None,
            pending: Vec::new(),
            touched: BTreeMap::new(),
            changed: Vec::new(),
            named: BTreeSet::new(),
        }
    }

    /// The same under these rules, those of the original otherwise.
    #[must_use]
    pub const fn under(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    // ---- the engine's

    /// Grants what the creator is granted. For the batch that starts with the first block of the creator, before its
    /// nodes are recorded.
    pub fn grant_genesis(&mut self) {
        self.creator = Some(self.writer);
        self.grant(self.writer, GENESIS_WEIGHT, true);
    }

    /// Notes the timestamp that the batch is ordered by: under safe rules the state carries the latest of these, and own
    /// timestamps of nodes otherwise.
    #[must_use]
    pub fn dated(mut self, date: Timestamp) -> Self {
        if self.rules.is_safe() {
            self.after.timestamp = self.after.timestamp.max(date);
        }
        self
    }

    /// Records a node of the batch. Under safe rules only the links of the first node take heads away, as only these order.
    pub fn record(&mut self, length: Length, timestamp: Timestamp, links: &[Link]) {
        let node = Link {
            key: self.writer,
            length,
        };
        let (is_safe, is_first) = (self.rules.is_safe(), self.first.is_none());
        self.after
            .heads
            .record(node, if is_safe && !is_first { &[] } else { links });
        if !is_safe {
            self.after.timestamp = self.after.timestamp.max(timestamp);
        }
        self.first = self.first.or(Some(length));
        let weight = self.weight;
        let pending = self.touch(node.key);
        pending.length = pending.length.max(length);
        pending.weight = pending.weight.max(Some(weight));
        pending.timestamp = pending.timestamp.or(Some(timestamp));
    }

    /// Whether apply is called for the batch, once its nodes are recorded.
    #[must_use]
    pub fn may_apply(&self, optimistic: bool) -> bool {
        match self.pending(&self.writer).and_then(|pending| pending.membership) {
            Some(membership) => membership == Membership::Added,
            None => self
                .before
                .record(&self.writer)
                .map_or(optimistic, |record| !record.is_removed),
        }
    }

    /// Whom apply added, removed or acknowledged so far: who has a record by the batch, whether or not they had one before.
    #[must_use]
    pub fn take_named(&mut self) -> BTreeSet<CoreKey> {
        std::mem::take(&mut self.named)
    }

    /// The state behind the batch.
    #[must_use]
    pub fn finish(self) -> Flushed {
        let Self {
            before,
            mut after,
            writer,
            rules,
            creator,
            pending,
            changed,
            ..
        } = self;
        let clock = before.flushes;
        let mut flushed = Flushed {
            system: System::default(),
            touched: Vec::new(),
            grants: Vec::new(),
            changes: Vec::new(),
        };
        for (key, pending) in pending {
            // The creator is one by its first batch, also when that removes it.
            let was_no_member = before.member(&key).is_none() && creator != Some(key);
            let old = before.record(&key).copied().unwrap_or_default();
            let is_oplog = key == writer;
            let timestamp = pending.timestamp.filter(|_| is_oplog);
            let record = WriterRecord {
                version: WriterRecord::VERSION,
                is_removed: pending
                    .membership
                    .map_or(old.is_removed, |now| now == Membership::Removed),
                is_oplog,
                is_genesis: if pending.ceiling.is_some() {
                    pending.is_genesis
                } else {
                    old.is_genesis
                },
                is_anchor: pending.is_anchor || old.is_anchor,
                is_guest: rules.is_safe() && was_no_member && pending.membership != Some(Membership::Added),
                weight: pending.weight.unwrap_or(old.weight),
                max_weight: Some(pending.ceiling.or(old.max_weight).unwrap_or_default()),
                length: pending.length.max(old.length),
                clock,
                // Timestamps fit: what a block carries is below 2^53.
                timestamp: timestamp.map_or(-1, |at| i64::try_from(at.0).unwrap_or(i64::MAX)),
            };
            if pending.granted {
                let weight = record.max_weight.unwrap_or_default();
                flushed.grants.push(Grant { key, weight });
            }
            after.set(key, record);
            flushed.touched.push(key);
        }
        flushed.changes = changed.into_iter().filter_map(|key| after.change(key)).collect();
        after.flushes = clock + 1;
        flushed.system = after;
        flushed
    }

    // ---- apply's

    /// Flushes before this one.
    #[must_use]
    pub const fn clock(&self) -> u64 {
        self.before.flushes
    }

    /// True in the first flush.
    #[must_use]
    pub const fn is_genesis(&self) -> bool {
        self.before.is_genesis()
    }

    /// The state before the batch.
    #[must_use]
    pub const fn before(&self) -> &System {
        &self.before
    }

    /// Makes `key` a writer that may claim up to `weight`. A ceiling is only raised.
    pub fn add_writer(&mut self, key: CoreKey, weight: Weight) {
        self.named.insert(key);
        self.grant(key, weight, false);
    }

    /// Takes the right to write, and the ceiling. The weight it stands with stays.
    pub fn remove_writer(&mut self, key: CoreKey) {
        self.named.insert(key);
        self.remove(key);
        let pending = self.touch(key);
        pending.ceiling = Some(Weight::ZERO);
        pending.is_genesis = false;
    }

    /// Takes the right to write alone; all of it but as a slip.
    pub(in crate::engine) fn remove(&mut self, key: CoreKey) {
        self.after.grants.remove(&key);
        let length = self.overlay(&key).map_or(Length::ZERO, |seen| seen.length);
        let pending = self.change(key, Membership::Removed);
        pending.length = pending.length.max(length);
    }

    /// Touches the record of `key`. Who has none gets one, and is a writer from then on; a guest under safe rules.
    pub fn ack_writer(&mut self, key: CoreKey) {
        self.named.insert(key);
        let length = self.before.length(&key);
        let pending = self.touch(key);
        pending.length = pending.length.max(length);
    }

    /// Adds an anchor.
    pub fn add_anchor(&mut self, key: CoreKey) {
        let pending = self.change(key, Membership::Added);
        pending.length = pending.length.max(Length(1));
        pending.is_anchor = true;
    }

    // ---- private

    /// Whether somebody who is no member wrote the batch: then it may not change membership, under safe rules.
    #[must_use]
    pub fn is_by_guest(&self, bootstrap: &CoreKey) -> bool {
        self.rules.is_safe() && self.before.member(&self.writer).is_none() && self.writer != *bootstrap
    }

    /// A granter that granted as much before says nothing by that. Of many grants those of the highest ceilings are kept,
    /// so that nobody's low ones keep out what comes later.
    fn note_grant(&mut self, key: CoreKey, weight: Weight) {
        let Some(length) = self.first else { return };
        let by = Link {
            key: self.writer,
            length,
        };
        let known = self.after.grants(&key);
        let says_nothing = |known: &CeilingGrant| known.by.key == by.key && known.weight >= weight;
        if known.iter().any(says_nothing) {
            return;
        }
        let mut grants = known.to_vec();
        if grants.len() >= GRANTS_MAX {
            let lowest = (0..grants.len()).min_by_key(|at| grants[*at].weight);
            match lowest {
                Some(at) if grants[at].weight < weight => _ = grants.remove(at),
                _ => return,
            }
        }
        grants.push(CeilingGrant { by, weight });
        self.after.grants.insert(key, Arc::new(grants));
        // They are written with the record.
        self.touch(key);
    }

    fn grant(&mut self, key: CoreKey, weight: Weight, is_genesis: bool) {
        if self.rules.is_safe() && !is_genesis {
            self.note_grant(key, weight);
        }
        let seen = self.overlay(&key);
        let length = seen.map_or(Length::ZERO, |seen| seen.length);
        // A record of Autobase has no ceiling: any grant sets one.
        let ceiling = seen.map_or(Some(Weight::ZERO), |seen| seen.ceiling);
        let raises = ceiling.is_none_or(|ceiling| weight > ceiling);
        if !raises && seen.is_some_and(|seen| !seen.is_removed) {
            return;
        }
        let pending = self.change(key, Membership::Added);
        pending.length = pending.length.max(length);
        if raises {
            if is_genesis {
                pending.weight = pending.weight.max(Some(weight));
            }
            pending.ceiling = Some(weight);
            pending.is_genesis = is_genesis;
            pending.granted = true;
        }
    }

    fn touch(&mut self, key: CoreKey) -> &mut WriterUpdate {
        let at = *self.touched.entry(key).or_insert_with(|| {
            self.pending.push((key, WriterUpdate::default()));
            self.pending.len() - 1
        });
        &mut self.pending[at].1
    }

    fn change(&mut self, key: CoreKey, membership: Membership) -> &mut WriterUpdate {
        if self
            .pending(&key)
            .is_none_or(|pending| pending.membership.is_none())
        {
            self.changed.push(key);
        }
        let pending = self.touch(key);
        pending.membership = Some(membership);
        pending
    }

    fn pending(&self, key: &CoreKey) -> Option<&WriterUpdate> {
        self.touched.get(key).map(|at| &self.pending[*at].1)
    }

    fn overlay(&self, key: &CoreKey) -> Option<Seen> {
        let pending = self.pending(key);
        let removed = pending.is_some_and(|pending| pending.membership == Some(Membership::Removed));
        let length = pending.map_or(Length::ZERO, |pending| pending.length);
        let ceiling = pending.and_then(|pending| pending.ceiling);
        // Under safe rules only an addition makes a member.
        let is_added = pending.is_some_and(|pending| pending.membership == Some(Membership::Added));
        let is_none = removed || (self.rules.is_safe() && !is_added);
        match self.before.record(key) {
            Some(record) => Some(Seen {
                is_removed: record.is_removed || record.is_guest || removed,
                ceiling: ceiling.or(record.max_weight),
                length: record.length.max(length),
            }),
            None => pending.map(|_| Seen {
                is_removed: is_none,
                ceiling: Some(ceiling.unwrap_or_default()),
                length,
            }),
        }
    }
}

/// Grants that are kept of one writer.
const GRANTS_MAX: usize = 16;

/// A record as the system tree has it. Behind it, where the original reads no further, stand the grants that are kept under
/// safe rules.
fn write_record(record: &WriterRecord, grants: &[CeilingGrant]) -> Result<Vec<u8>, EncodeError> {
    let mut to = Encoder::new();
    record.encode(&mut to);
    if !grants.is_empty() {
        to.array(grants, |grant, to| {
            grant.by.encode(to);
            grant.weight.encode(to);
        });
    }
    to.finish()
}

/// A record as the system tree has it, and the grants behind it. Whatever else may stand there says nothing, as to the
/// original.
pub(in crate::engine) fn read_record(value: &[u8]) -> Result<(WriterRecord, Vec<CeilingGrant>), DecodeError> {
    let mut from = Decoder::new(value);
    let record = WriterRecord::decode(&mut from)?;
    if from.remaining() == 0 {
        return Ok((record, Vec::new()));
    }
    let grants = from.array(|from| {
        Ok(CeilingGrant {
            by: Link::decode(from)?,
            weight: Weight::decode(from)?,
        })
    });
    Ok((record, grants.unwrap_or_default()))
}

/// A record as membership calls see it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    is_removed: bool,
    ceiling: Option<Weight>,
    length: Length,
}

impl System {
    /// A change as it shows in the record: what is not removed was added.
    fn change(&self, key: CoreKey) -> Option<WriterChange> {
        let record = self.records.get(&key)?;
        Some(WriterChange {
            key,
            added: !record.is_removed,
            is_anchor: record.is_anchor,
        })
    }
}

impl Flushed {
    /// What this flush writes to the system tree, in order; `view` is the head of the user's view behind it.
    ///
    /// # Errors
    ///
    /// When a number does not fit the encoding: apply granted a weight above `2^53 - 1`.
    pub fn writes(&self, view: Link) -> Result<Vec<SystemWrite>, EncodeError> {
        let mut writes = Vec::new();
        for key in &self.touched {
            let record = self.system.record(key).copied().unwrap_or_default();
            writes.push(SystemWrite::Put {
                key: SystemKey::Writer(*key).to_bytes(),
                value: write_record(&record, self.system.grants(key))?,
            });
            if record.is_removed {
                writes.push(SystemWrite::Delete {
                    key: SystemKey::Indexer(*key).to_bytes(),
                });
            }
        }
        writes.push(SystemWrite::Put {
            key: SystemKey::Info.to_bytes(),
            value: self.system.info(view).to_bytes()?,
        });
        Ok(writes)
    }
}
