//! The membership state: who the writers are, which heads were applied, and how far.
//!
//! Source: spec/autobee.md 2.4 to 2.7, 7. A [`System`] is a value: copying it is cheap, and a state of the past stays
//! what it was, which is what undo and trials of the linearizer live on. A [`Flush`] makes the next one from one batch.

mod flush;
mod heads;

use std::sync::Arc;

use im::OrdMap;

use crate::crypto::CoreKey;
use crate::wire::system::{InfoRecord, WriterRecord};
use crate::wire::{Length, Link, Timestamp, Weight};

use super::linearizer::{CeilingGrant, WriterStanding};
use super::witness;

pub(super) use flush::read_record;
pub use flush::{Flush, Flushed, Grant, SystemWrite, WriterChange};
pub use heads::Heads;

/// The membership state behind some entry of the order.
///
/// ```
/// use autobee::crypto::CoreKey;
/// use autobee::engine::system::{Flush, System};
/// use autobee::wire::{Length, Timestamp, Weight};
///
/// let creator = CoreKey::new([1; 32]);
/// let mut flush = Flush::new(&System::default(), creator, Weight(0));
/// flush.grant_genesis();
/// flush.record(Length(1), Timestamp(7), &[]);
/// flush.add_writer(CoreKey::new([2; 32]), Weight(2));
/// let system = flush.finish().system;
/// assert_eq!(system.flushes(), 1);
/// assert!(system.is_writer(&CoreKey::new([2; 32])));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct System {
    /// Behind a pointer each, so that a copy of a state that differs in one record is small.
    records: OrdMap<CoreKey, Arc<WriterRecord>>,
    /// How many of the records are those of guests.
    guests: usize,
    /// Who granted writers their ceilings, under safe rules.
    grants: OrdMap<CoreKey, Arc<Vec<CeilingGrant>>>,
    heads: Heads,
    timestamp: Timestamp,
    flushes: u64,
}

impl System {
    /// The state that these records say: the info record, and one of each writer.
    pub fn from_records(
        info: &InfoRecord,
        records: impl IntoIterator<Item = (CoreKey, WriterRecord)>,
    ) -> Self {
        let records: OrdMap<CoreKey, Arc<WriterRecord>> = shared(records).collect();
        Self {
            guests: records.values().filter(|record| record.is_guest).count(),
            records,
            grants: OrdMap::new(),
            heads: info.heads.iter().copied().collect(),
            timestamp: info.timestamp,
            flushes: info.flushes,
        }
    }

    /// The state that these records say, on top of those that are here: a new info record, and some of writers.
    pub(super) fn after(
        &self,
        info: &InfoRecord,
        records: impl IntoIterator<Item = (CoreKey, WriterRecord)>,
    ) -> Self {
        let mut after = Self::from_records(info, []);
        (after.records, after.guests) = (self.records.clone(), self.guests);
        for (key, record) in records {
            after.set(key, record);
        }
        after.grants = self.grants.clone();
        after
    }

    /// The same state with these grants of ceilings, in place of those of the same writers.
    pub(super) fn granting(mut self, grants: impl IntoIterator<Item = (CoreKey, Vec<CeilingGrant>)>) -> Self {
        for (key, grants) in grants {
            if grants.is_empty() {
                self.grants.remove(&key);
            } else {
                self.grants.insert(key, Arc::new(grants));
            }
        }
        self
    }

    /// Who granted a writer its ceiling, under safe rules: each entry that was not taken back, the first of each granter
    /// for a weight.
    #[must_use]
    pub fn grants(&self, writer: &CoreKey) -> &[CeilingGrant] {
        self.grants.get(writer).map_or(&[], |grants| grants.as_slice())
    }

    /// The record of a member, removed or not.
    #[must_use]
    pub fn member(&self, key: &CoreKey) -> Option<&WriterRecord> {
        self.record(key).filter(|record| !record.is_guest)
    }

    /// The record of a writer.
    #[must_use]
    pub fn record(&self, writer: &CoreKey) -> Option<&WriterRecord> {
        self.records.get(writer).map(Arc::as_ref)
    }

    /// All records, by key.
    pub fn records(&self) -> impl Iterator<Item = (&CoreKey, &WriterRecord)> {
        self.records.iter().map(|(key, record)| (key, record.as_ref()))
    }

    /// Puts a record in the place of the one before it.
    fn set(&mut self, key: CoreKey, record: WriterRecord) {
        self.guests += usize::from(record.is_guest);
        let before = self.records.insert(key, Arc::new(record));
        self.guests -= usize::from(before.is_some_and(|before| before.is_guest));
    }

    /// How many of the records are those of members, removed ones included, and of anchors.
    #[must_use]
    pub fn members(&self) -> usize {
        self.records.len() - self.guests
    }

    /// How many records there are.
    #[must_use]
    pub fn writers(&self) -> usize {
        self.records.len()
    }

    /// True for those who may write: with a record, and not removed.
    #[must_use]
    pub fn is_writer(&self, key: &CoreKey) -> bool {
        self.member(key).is_some_and(|record| !record.is_removed)
    }

    /// True when this much of the core is applied.
    #[must_use]
    pub fn has(&self, link: &Link) -> bool {
        self.records
            .get(&link.key)
            .is_some_and(|record| record.length >= link.length)
    }

    /// What the order wants to know of a writer. Of a guest there is nothing to know.
    #[must_use]
    pub fn standing(&self, writer: &CoreKey) -> Option<WriterStanding> {
        self.member(writer).map(|record| WriterStanding {
            weight: witness::standing(Some(record)),
            ceiling: record.max_weight.unwrap_or(Weight(u64::MAX)),
            length: record.length,
        })
    }

    /// Applied nodes that no applied node links.
    #[must_use]
    pub const fn heads(&self) -> &Heads {
        &self.heads
    }

    /// The highest timestamp of all applied nodes.
    #[must_use]
    pub const fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// Number of applied batches.
    #[must_use]
    pub const fn flushes(&self) -> u64 {
        self.flushes
    }

    /// True before the first flush.
    #[must_use]
    pub const fn is_genesis(&self) -> bool {
        self.flushes == 0
    }

    /// The info record, with the head of the user's view.
    #[must_use]
    pub fn info(&self, view: Link) -> InfoRecord {
        InfoRecord {
            version: InfoRecord::VERSION,
            timestamp: self.timestamp,
            flushes: self.flushes,
            view: Some(view),
            heads: self.heads.iter().collect(),
            ..InfoRecord::default()
        }
    }

    /// What an append of `local` links: all heads but its own.
    pub fn links_for(&self, local: &CoreKey) -> impl Iterator<Item = Link> {
        self.heads.iter().filter(move |head| head.key != *local)
    }

    /// How much of a writer is applied.
    #[must_use]
    pub fn length(&self, writer: &CoreKey) -> Length {
        self.records
            .get(writer)
            .map_or(Length::ZERO, |record| record.length)
    }
}

fn shared(
    records: impl IntoIterator<Item = (CoreKey, WriterRecord)>,
) -> impl Iterator<Item = (CoreKey, Arc<WriterRecord>)> {
    let records = records.into_iter();
    records.map(|(key, record)| (key, Arc::new(record)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Rules;

    /// A guest that becomes a member has a record already: who looks for members must notice all the same.
    #[test]
    fn guests_are_counted_apart_from_members() {
        let [creator, other] = [1, 2].map(|name| CoreKey::new([name; 32]));
        let mut flush = Flush::new(&System::default(), creator, Weight(0)).under(Rules::safe());
        flush.grant_genesis();
        flush.record(Length(1), Timestamp(7), &[]);
        flush.remove_writer(other);
        let named = flush.finish().system;
        assert_eq!((named.writers(), named.members(), named.guests), (2, 1, 1));
        let mut flush = Flush::new(&named, creator, Weight(2)).under(Rules::safe());
        flush.record(Length(2), Timestamp(8), &[]);
        flush.add_writer(other, Weight(0));
        let added = flush.finish().system;
        assert_eq!((added.writers(), added.members(), added.guests), (2, 2, 0));
        // What is read again of their records is the same.
        for system in [&named, &added] {
            let view = Link {
                key: creator,
                length: Length(0),
            };
            let records = || system.records().map(|(key, record)| (*key, *record));
            let info = system.info(view);
            let again = System::from_records(&info, records());
            assert_eq!((again.members(), again.guests), (system.members(), system.guests));
            let after = named.after(&info, records());
            assert_eq!((after.members(), after.guests), (system.members(), system.guests));
        }
    }
}
