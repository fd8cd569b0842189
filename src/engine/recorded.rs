//! Batches that were applied before this engine was made, as the system tree has them.
//!
//! Each version of the tree is one batch behind another version. A batch that comes behind the same version again, with
//! the same weight, leads to the same state: apply need not run, and nothing has to be written. So an engine on a store
//! that has its trees takes up where the last one stood.
//!
//! Source: spec/autobee.md 1, 3.3 and 9: the chain of system write batches is the recorded order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use super::Trees;
use super::linearizer::{CeilingGrant, PlacedBatch};
use super::system::{Grant, System, read_record};
use crate::apply::{LocalTree, TreeSnapshot};
use crate::bee::{BeeError, BlockFault};
use crate::crypto::CoreKey;
use crate::env::{Planted, Slip};
use crate::wire::system::{InfoRecord, SystemKey, WriterRecord};
use crate::wire::{Decode as _, Length, Link};

/// Versions of the system tree, by the one that each stands on.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    versions: BTreeMap<Link, RecordedVersion>,
    /// Whom they have records of.
    writers: BTreeSet<CoreKey>,
    /// How many were taken up.
    taken: AtomicU64,
    planted: Planted,
}

#[derive(Debug)]
struct RecordedVersion {
    head: Link,
    info: InfoRecord,
    view: TreeSnapshot,
    records: Vec<(CoreKey, WriterRecord)>,
    grants: Vec<(CoreKey, Vec<CeilingGrant>)>,
}

impl Recorded {
    /// Has it make slips.
    pub(super) const fn plant(&mut self, planted: Planted) {
        self.planted = planted;
    }

    /// Reads the versions behind `from` up to `to`, to those that are here. None at all when that does not come from this.
    pub(super) fn read(
        &mut self,
        (tree, view): (&LocalTree, &LocalTree),
        from: Link,
        to: Link,
    ) -> Result<(), BeeError> {
        let mut versions = BTreeMap::new();
        let mut changes = TreeSnapshot::at(tree, to).cursor().changes();
        let mut at = to;
        while at != from {
            let Some(change) = changes.next(tree)? else {
                return Ok(());
            };
            let empty = Link {
                key: tree.core(),
                length: Length::ZERO,
            };
            at = change.tail.unwrap_or(empty);
            // The versions in one core stand in the order in which they were written.
            if at.key == from.key && at.length < from.length {
                return Ok(());
            }
            let (mut info, mut records, mut granted) = (InfoRecord::default(), Vec::new(), Vec::new());
            let corrupt = |error| BeeError::Corrupt {
                core: change.head.key,
                seq: change.head.length.last().unwrap_or_default(),
                what: BlockFault::Encoding(error),
            };
            for written in change.keys(tree)? {
                let value = written.value.unwrap_or_default();
                match SystemKey::from_bytes(&written.key) {
                    Some(SystemKey::Info) => {
                        info = InfoRecord::from_bytes(&value).map_err(corrupt)?;
                    }
                    Some(SystemKey::Writer(key)) => {
                        let (record, grants) = read_record(&value).map_err(corrupt)?;
                        records.push((key, record));
                        granted.push((key, grants));
                    }
                    _ => {}
                }
            }
            let version = RecordedVersion {
                head: change.head,
                view: Trees::view_of(view, &info, change.head)?,
                info,
                records,
                grants: granted,
            };
            versions.insert(at, version);
        }
        let records = versions
            .values()
            .flat_map(|version: &RecordedVersion| &version.records);
        self.writers.extend(records.map(|(key, _)| *key));
        self.versions.extend(versions);
        Ok(())
    }

    /// Forgets all versions.
    pub(super) fn clear(&mut self) {
        self.versions.clear();
        self.writers.clear();
    }

    /// True when one of them has a record of this writer.
    pub(super) fn has(&self, writer: &CoreKey) -> bool {
        self.writers.contains(writer)
    }

    /// True when one of them is not in this core.
    pub(super) fn is_elsewhere(&self, core: &CoreKey) -> bool {
        self.versions.values().any(|version| version.head.key != *core)
    }

    /// How many batches were taken up instead of applied.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// True when what a batch left that was applied on `records` before is the record of its writer and no more: then
    /// nothing here says whether apply took it.
    pub(super) fn is_bare(&self, records: &TreeSnapshot, view: &TreeSnapshot) -> bool {
        let version = self.versions.get(&records.head());
        version.is_some_and(|version| version.records.len() == 1 && version.view.head() == view.head())
    }

    /// The state behind a batch that was applied on `records` before; `bare` is what it is without apply.
    pub(super) fn behind(
        &self,
        before: (&System, &TreeSnapshot),
        step: &PlacedBatch<'_>,
        bare: impl FnOnce() -> System,
    ) -> Option<(System, TreeSnapshot, TreeSnapshot, Vec<Grant>)> {
        let (system, records) = before;
        let version = self.versions.get(&records.head())?;
        let info = &version.info;
        let own = |(key, _): &&(CoreKey, WriterRecord)| *key == step.batch.writer;
        let is_trusted = self.planted.has(Slip::RecordedAnywhere);
        let (_, record) = version.records.iter().find(|record| is_trusted || own(record))?;
        if !is_trusted && (!record.is_oplog || record.length < step.batch.last) {
            return None;
        }
        let bare = bare();
        let expected = bare.record(&step.batch.writer)?;
        let is_same = (record.weight, record.length, record.timestamp, record.clock)
            == (
                expected.weight,
                expected.length,
                expected.timestamp,
                expected.clock,
            )
            && info.flushes == bare.flushes()
            && info.timestamp == bare.timestamp()
            && info.heads.iter().copied().eq(bare.heads().iter());
        if !is_same && !is_trusted {
            return None;
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
        // Of a ceiling that was taken and given back within one batch the records do not tell.
        let ceiling =
            |record: Option<&WriterRecord>| record.and_then(|record| record.max_weight).unwrap_or_default();
        let raised = |(key, record): &(CoreKey, WriterRecord)| {
            let weight = ceiling(Some(record));
            (weight > ceiling(system.record(key))).then_some(Grant { key: *key, weight })
        };
        let grants = version.records.iter().filter_map(raised).collect();
        let after = system.after(info, version.records.iter().copied());
        let after = after.granting(version.grants.iter().cloned());
        let records = TreeSnapshot::at(records.tree(), version.head);
        Some((after, records, version.view.clone(), grants))
    }
}
