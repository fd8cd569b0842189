//! What readers see: a snapshot of everything that the public face tells, which no drain holds up.

use std::sync::Arc;

use im::{OrdMap, OrdSet};

use super::log::StoredLog;
use super::logs::{Known, blocks_before};
use super::record::ApplyChange;
use super::stalled::Stalled;
use crate::apply::TreeSnapshot;
use crate::crypto::CoreKey;
use crate::engine::system::System;
use crate::engine::{
    EngineStats, Held, MissingBlock, OrderedEntry, ResumeError, Stamped, WriterStatus, history_of,
};
use crate::wire::{Length, Link, Rules};

/// A database at one moment. Its parts are persistent values: making one costs as much as what changed since the last
/// one, and a copy costs nothing.
///
/// How long logs are is not part of it: that is read from the store when somebody asks.
pub struct Published<L: StoredLog> {
    /// The creator's writer.
    pub(in crate::db) bootstrap: CoreKey,
    /// The rules, once they are known.
    pub(in crate::db) rules: Option<Rules>,
    /// The local writer.
    pub(in crate::db) local: CoreKey,
    /// The view behind the last entry.
    pub(in crate::db) view: TreeSnapshot,
    /// The system tree behind the last entry.
    pub(in crate::db) tree: TreeSnapshot,
    /// Its head.
    pub(in crate::db) records: Link,
    /// The membership behind the last entry.
    pub(in crate::db) system: System,
    /// What nothing can be ordered behind before it is here.
    pub(in crate::db) missing: OrdSet<(CoreKey, Length)>,
    /// What applying waits for.
    pub(in crate::db) awaited: Option<MissingBlock>,
    /// The database of which the key names a writer's log.
    pub(in crate::db) writer_of: Option<CoreKey>,
    /// Why nothing is applied any more.
    pub(in crate::db) stopped: Option<Arc<str>>,
    /// The logs that are open.
    pub(in crate::db) logs: OrdMap<CoreKey, Arc<L>>,
    /// Why nothing more is taken of some of them.
    pub(in crate::db) stalled: OrdMap<CoreKey, Stalled>,
    /// Counts since the opening.
    pub(in crate::db) stats: EngineStats,
    /// What is in memory.
    pub(in crate::db) held: Held,
    /// What another version of apply has made anew.
    pub(in crate::db) rebuild: Option<ApplyChange>,
    /// What waits for the clock, here or elsewhere.
    pub(in crate::db) stamped: Stamped,
}

impl<L: StoredLog> Published<L> {
    /// True when `key` may write.
    pub(in crate::db) fn is_writer(&self, key: &CoreKey) -> bool {
        match self.system.record(key) {
            Some(record) => !record.is_removed && !record.is_guest,
            None => *key == self.bootstrap,
        }
    }

    /// True for members, removed ones included, and the creator.
    pub(in crate::db) fn is_member(&self, key: &CoreKey) -> bool {
        *key == self.bootstrap || self.system.member(key).is_some_and(|record| !record.is_anchor)
    }

    /// The records of all writers, by key.
    pub(in crate::db) fn writers(&self) -> Vec<WriterStatus> {
        let records = self.system.records();
        records
            .map(|(key, record)| WriterStatus::of(*key, record))
            .collect()
    }

    /// The record of one writer.
    pub(in crate::db) fn writer(&self, key: &CoreKey) -> Option<WriterStatus> {
        let record = self.system.record(key)?;
        Some(WriterStatus::of(*key, record))
    }

    /// Links that nothing can be ordered behind before they are here.
    pub(in crate::db) fn missing(&self) -> impl Iterator<Item = Link> {
        self.missing.iter().map(|(key, length)| Link {
            key: *key,
            length: *length,
        })
    }

    /// How long the logs are, by key.
    pub(in crate::db) fn known(&self) -> impl Iterator<Item = Known> {
        self.logs.values().map(|log| Known::of(&**log))
    }

    /// The order, read from the system tree alone: the same that the engine has in memory.
    ///
    /// # Errors
    ///
    /// When the system tree cannot be read.
    pub fn order(&self) -> Result<Vec<OrderedEntry>, ResumeError> {
        history_of(&self.tree, |key, last| {
            blocks_before(&**self.logs.get(key)?, last)
        })
    }
}
