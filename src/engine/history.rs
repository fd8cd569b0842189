//! The order, with what is no longer in memory.
//!
//! Every batch of the order is one batch of the system tree, in which the record of its writer alone is marked as
//! written by its own flush, and says how much of the writer's log is applied and at what weight. So the chain of
//! versions, from newest to oldest, is the order backwards.
//!
//! Source: spec/autobee.md 7.1, 9.

use std::collections::BTreeMap;

use super::forget::ResumeError;
use super::{Engine, OrderedEntry, witness};
use crate::apply::TreeSnapshot;
use crate::crypto::{CoreKey, Verify};
use crate::wire::system::{SystemKey, WriterRecord};
use crate::wire::{Decode as _, Length};

impl<V: Verify> Engine<V> {
    /// All blocks in their order, those that are forgotten as well: these are read from the system tree, in as many
    /// steps as there are batches. The tree tells where a batch ends. How many blocks it has before its last one, `before`
    /// tells; where it does not, a batch begins where the one before it in its log ends: so of Autobase's forgotten
    /// batches (block versions 0 to 2) all blocks are listed, not the last one alone, and so are blocks that were refused
    /// before their writer was let in.
    ///
    /// # Errors
    ///
    /// When a block of the system tree is missing or corrupt.
    pub fn history(
        &self,
        before: impl Fn(&CoreKey, Length) -> Option<u64>,
    ) -> Result<Vec<OrderedEntry>, ResumeError> {
        let held = self.order();
        if self.forgotten() == 0 {
            return Ok(held);
        }
        let records = &self.order.state_at(self.forgotten()).records;
        let forgotten = read(records, before, |key| self.dag.base_length(key))?;
        Ok(forgotten.into_iter().chain(held).collect())
    }
}

/// All blocks in their order behind one version of the system tree, read from that tree alone.
///
/// # Errors
///
/// As [`Engine::history`].
pub(crate) fn history_of(
    records: &TreeSnapshot,
    before: impl Fn(&CoreKey, Length) -> Option<u64>,
) -> Result<Vec<OrderedEntry>, ResumeError> {
    read(records, before, |_| Length(u64::MAX))
}

/// Reads the order from the versions of a tree, which has at most `most` of each writer's log.
fn read(
    records: &TreeSnapshot,
    before: impl Fn(&CoreKey, Length) -> Option<u64>,
    most: impl Fn(&CoreKey) -> Length,
) -> Result<Vec<OrderedEntry>, ResumeError> {
    let tree = records.tree();
    let mut changes = records.cursor().changes();
    // Newest first, each with the length before it once that is known.
    let mut batches: Vec<(CoreKey, Length, Length, WriterRecord)> = Vec::new();
    let mut open: BTreeMap<CoreKey, usize> = BTreeMap::new();
    while let Some(change) = changes.next(tree)? {
        for written in change.keys(tree)? {
            let (Some(SystemKey::Writer(key)), Some(value)) =
                (SystemKey::from_bytes(&written.key), &written.value)
            else {
                continue;
            };
            let record = WriterRecord::from_bytes(value).map_err(|error| ResumeError::Record {
                head: change.head,
                what: error.to_string(),
            })?;
            if let Some(at) = open.remove(&key) {
                batches[at].1 = record.length;
            }
            if record.length > most(&key) && !record.is_anchor {
                return Err(ResumeError::Record {
                    head: change.head,
                    what: format!("more of {key} was applied than was forgotten"),
                });
            }
            if record.is_oplog {
                open.insert(key, batches.len());
                batches.push((key, Length::ZERO, record.length, record));
            }
        }
    }
    let entries = batches.iter().rev().flat_map(|(key, end, last, record)| {
        let weight = witness::standing(Some(record));
        let first = before(key, *last).map_or(0, |before| last.0.saturating_sub(before));
        (first.max(end.0 + 1)..=last.0).map(move |length| OrderedEntry {
            key: *key,
            length: Length(length),
            weight,
        })
    });
    Ok(entries.collect())
}
