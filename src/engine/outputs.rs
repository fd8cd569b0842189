//! What an engine tells: the order, the writers, what is awaited, and counts of its work.

use std::collections::{BTreeMap, BTreeSet};

use crate::apply::TreeSnapshot;
use crate::crypto::{CoreKey, Verify};
use crate::engine::reader::WriterReader;
use crate::engine::system::System;
use crate::engine::{Engine, Frozen};
use crate::wire::oplog::VERSION;
use crate::wire::{Length, Link, Weight, WriterRecord};

/// One block in its place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderedEntry {
    /// The writer.
    pub key: CoreKey,
    /// The length of the writer's log up to and including the block.
    pub length: Length,
    /// The weight that its batch has there.
    pub weight: Weight,
}

/// The status of one writer in the membership state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterStatus {
    /// The writer.
    pub key: CoreKey,
    /// How much of its log is applied.
    pub length: Length,
    /// The weight of its last applied batch.
    pub weight: Weight,
    /// The ceiling of its weight.
    pub max_weight: Weight,
    /// It was removed.
    pub is_removed: bool,
    /// It is an anchor, which nobody writes.
    pub is_anchor: bool,
    /// It is no member: entries of it were accepted, under safe rules, or somebody named it.
    pub is_guest: bool,
}

impl WriterStatus {
    pub(crate) fn of(key: CoreKey, record: &WriterRecord) -> Self {
        Self {
            key,
            length: record.length,
            weight: record.weight,
            max_weight: record.max_weight.unwrap_or_default(),
            is_removed: record.is_removed,
            is_anchor: record.is_anchor,
            is_guest: record.is_guest,
        }
    }
}

/// Counts since the engine was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStats {
    /// Calls of apply.
    pub applies: u64,
    /// Times that a part of the order was taken back.
    pub undos: u64,
    /// Batches that were taken back.
    pub undone: u64,
    /// Calls of apply that refused a stranger's batch.
    pub refused: u64,
    /// Times that the order was moved over a batch, to find its place or for good.
    pub steps: u64,
    /// Times that it went on from the trees of another writer.
    pub fast_forwards: u64,
}

impl<V: Verify> Engine<V> {
    /// The key of the database.
    #[must_use]
    pub const fn key(&self) -> CoreKey {
        self.rules.bootstrap
    }

    /// True when batches of strangers are tried.
    #[must_use]
    pub const fn takes_strangers(&self) -> bool {
        self.rules.optimistic
    }

    /// The membership behind the last entry.
    #[must_use]
    pub fn system(&self) -> &System {
        &self.order.state().system
    }

    /// The membership behind the last entry, as the tree that other peers read.
    #[must_use]
    pub fn records(&self) -> TreeSnapshot {
        self.order.state().records.clone()
    }

    /// The view behind the last entry.
    #[must_use]
    pub fn view(&self) -> TreeSnapshot {
        self.order.state().view.clone()
    }

    /// True when `key` may write.
    #[must_use]
    pub fn is_writer(&self, key: &CoreKey) -> bool {
        match self.system().record(key) {
            Some(record) => !record.is_removed && !record.is_guest,
            None => *key == self.rules.bootstrap,
        }
    }

    /// True for the cores of members, removed ones included, and of the creator.
    #[must_use]
    pub fn is_member(&self, core: &CoreKey) -> bool {
        *core == self.rules.bootstrap || self.system().member(core).is_some_and(|record| !record.is_anchor)
    }

    /// Changes whenever there are other members.
    #[must_use]
    pub fn membership(&self) -> (usize, u64) {
        // Who is a member stays one until the entry that made it one is undone.
        (self.system().members(), self.order.stats().undone)
    }

    /// The cores that members wait for without their being members' too: what their batches link, and what those wait
    /// for in turn. What only batches of strangers wait for is not among them, so strangers cannot make them many.
    #[must_use]
    pub fn awaited(&self) -> BTreeSet<CoreKey> {
        self.awaited_lengths().into_keys().collect()
    }

    /// The same, each with how much of it is waited for.
    #[must_use]
    pub fn awaited_lengths(&self) -> BTreeMap<CoreKey, Length> {
        let mut awaited: BTreeMap<CoreKey, Length> = BTreeMap::new();
        let stuck: BTreeMap<CoreKey, Link> = self.dag.stuck().collect();
        for (writer, link) in &stuck {
            if !self.is_member(writer) {
                continue;
            }
            let mut next = Some(link);
            while let Some(link) = next {
                let known = awaited.get(&link.key).copied();
                if self.is_member(&link.key) || known >= Some(link.length) {
                    break;
                }
                awaited.insert(link.key, link.length);
                next = stuck.get(&link.key);
            }
        }
        awaited
    }

    /// Number of batches in the order.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.order.len()
    }

    /// The blocks of the order that are held, in their order: all of them as long as [`Engine::forgotten`] is zero.
    /// [`Engine::history`] reads the others. A batch of Autobase (block versions 0 to 2) is listed by its last block alone: its
    /// blocks do not say how many come before them, and the original lists it so.
    #[must_use]
    pub fn order(&self) -> Vec<OrderedEntry> {
        let entries = self.order.entries().flat_map(|entry| {
            let batch = self.dag.batch(entry.batch);
            let (key, weight) = (batch.writer, entry.weight);
            let reader = self.readers.get(&key);
            let last = reader.and_then(|reader| reader.blocks_of(batch.last, batch.last).first());
            // What a block says of those before it nobody checks: a batch is what its first block announced.
            let is_whole = last.is_some_and(|last| last.version >= VERSION);
            let first = if is_whole { batch.first } else { batch.last };
            (first.0..=batch.last.0).map(move |length| OrderedEntry {
                key,
                length: Length(length),
                weight,
            })
        });
        entries.collect()
    }

    /// The records of all writers, by key.
    #[must_use]
    pub fn writers(&self) -> Vec<WriterStatus> {
        let records = self.system().records();
        records
            .map(|(key, record)| WriterStatus::of(*key, record))
            .collect()
    }

    /// The record of one writer.
    #[must_use]
    pub fn writer(&self, key: &CoreKey) -> Option<WriterStatus> {
        let record = self.system().record(key)?;
        Some(WriterStatus::of(*key, record))
    }

    /// Links that nothing can be ordered behind before they are here.
    pub fn missing(&self) -> impl Iterator<Item = Link> {
        self.dag.missing()
    }

    /// The same as [`Engine::missing`], as a value that costs nothing to make.
    #[must_use]
    pub(crate) fn absent(&self) -> im::OrdSet<(CoreKey, Length)> {
        self.dag.absent()
    }

    /// Why nothing more is taken of a core; none when all is well with it.
    #[must_use]
    pub fn frozen(&self, core: &CoreKey) -> Option<&Frozen> {
        self.readers.get(core).and_then(WriterReader::frozen)
    }

    /// Why nothing more is applied; none when all is well.
    #[must_use]
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// Counts since the engine was made.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        let stats = self.order.stats();
        EngineStats {
            applies: stats.applies - self.recorded.taken(),
            fast_forwards: self.past.moves_onto,
            undos: stats.undos,
            undone: stats.undone,
            refused: stats.refusals,
            steps: stats.steps,
        }
    }
}
