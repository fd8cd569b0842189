//! Comparing the own view with that of another writer, where both stand behind the same entries.
//!
//! The last block of a batch says where the trees of its writer stood behind it. When as many batches were applied there
//! as here, and both orders end in that batch, both applied the same batches in the same order; so both views must have
//! the same contents. What the writer put since its last stamp, and what this peer changed by the batch, is compared, key
//! by key. Nothing else tells anything: without equal counts and heads there is no verdict, nor where the order goes on
//! here, as what comes behind a batch has a part in how those before it are ordered.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Engine;
use super::system::System;
use crate::apply::{LocalTree, TreeSnapshot};
use crate::bee::{BeeError, BeeSettings, Blocks, Range};
use crate::crypto::{CoreKey, Verify};
use crate::env::Slip;
use crate::wire::oplog::{ViewStamp, ViewStamps};
use crate::wire::system::{InfoRecord, SystemKey};
use crate::wire::{Decode as _, Length, Link};

/// Most blocks of a tree that a stamp may be about, to be compared.
const RANGE_MAX: u64 = 64;

/// Most keys of one batch that are looked up.
const KEYS_MAX: usize = 256;

/// A claim of another writer about its trees behind a batch, beside what is so here.
#[derive(Debug, Clone)]
pub struct ViewClaim {
    /// The batch, by its last block.
    pub batch: Link,
    stamps: ViewStamps,
    system: System,
    /// The view here, before the batch and behind it.
    views: (TreeSnapshot, TreeSnapshot),
    /// It is compared whatever is behind it there; see [`Slip::ComparedUnequal`].
    is_careless: bool,
}

impl ViewClaim {
    /// The cores of the writer's system tree and of its view.
    #[must_use]
    pub fn cores(&self) -> [CoreKey; 2] {
        let view = self.stamps.view.as_ref().unwrap_or(&self.stamps.system);
        [self.stamps.system.key, view.key]
    }

    /// A key that the two views have another value of; none when there is none, or nothing can be said.
    ///
    /// # Errors
    ///
    /// `Unavailable` when a block of the writer's is not here: again once it is. Else when its trees cannot be read.
    pub fn compare(
        &self,
        system: impl Blocks + Send + Sync + 'static,
        view: impl Blocks + Send + Sync + 'static,
    ) -> Result<Option<Bytes>, BeeError> {
        let Some(stamp) = self.stamps.view else {
            return Ok(None);
        };
        let head = end(&self.stamps.system);
        let records = TreeSnapshot::at(&LocalTree::stored(head, BeeSettings::default(), system)?, head);
        let info = records.get(&SystemKey::Info.to_bytes())?;
        let info = info.and_then(|info| InfoRecord::from_bytes(&info).ok());
        let Some(info) = info.filter(|info| {
            let is_same = info.heads.iter().copied().eq(self.system.heads().iter());
            (info.flushes == self.system.flushes() && is_same) || self.is_careless
        }) else {
            return Ok(None);
        };
        let Some(theirs) = info.view.filter(|view| view.key == stamp.key) else {
            return Ok(None);
        };
        let theirs = TreeSnapshot::at(&LocalTree::stored(theirs, BeeSettings::default(), view)?, theirs);
        let (before, ours) = &self.views;

        // What they put, the last value of each key.
        let mut put: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
        let mut changes = theirs.cursor().changes();
        while let Some(change) = changes.next(theirs.tree())? {
            if change.head.key != stamp.key || change.head.length <= stamp.start || put.len() > KEYS_MAX {
                break;
            }
            for written in change.keys(theirs.tree())?.into_iter().rev() {
                put.entry(written.key).or_insert(written.value);
            }
        }
        // A key that was put and deleted later is not in their view.
        for key in put.into_keys() {
            if theirs.get(&key)? != ours.get(&key)? {
                return Ok(Some(key));
            }
        }
        // What was put or deleted here.
        for difference in before.diff(ours, Range::all())?.into_iter().take(KEYS_MAX) {
            let entry = difference.left.or(difference.right);
            let Some(key) = entry.map(|entry| entry.key) else {
                continue;
            };
            if theirs.get(&key)? != ours.get(&key)? {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }
}

fn end(stamp: &ViewStamp) -> Link {
    Link {
        key: stamp.key,
        length: Length(stamp.start.0.saturating_add(stamp.length.0)),
    }
}

impl<V: Verify> Engine<V> {
    /// The newest batch of another writer in which the order ended after one of the last drains, if it says where the views
    /// stand behind it, and as many batches were applied there as here.
    pub fn take_claim(&mut self) -> Option<Box<ViewClaim>> {
        self.claim.take()
    }

    /// Looks for a batch that can be compared, when the first `shared` entries of the order are as they were.
    pub(super) fn note_claim(&mut self, shared: usize) {
        let local = self.attestations.local();
        // What an earlier engine applied is no news.
        if !self.outcomes.has_begun() {
            return;
        }
        let is_careless = self.planted.has(Slip::ComparedUnequal);
        let last = self.order.len().saturating_sub(1);
        let from = if is_careless { shared } else { shared.max(last) };
        let entries = self.order.entries_since(from);
        let first = self.order.len() - entries.len();
        let found = entries.enumerate().rev().find_map(|(at, (entry, state))| {
            let batch = self.dag.batch(entry.batch);
            let said = state.said.as_deref().filter(|said| said.is_stamped());
            said.filter(|_| Some(batch.writer) != local)?;
            let last = self
                .readers
                .get(&batch.writer)?
                .blocks_of(batch.last, batch.last)
                .first()?;
            let stamps = last.views.filter(|stamps| {
                let is_small = |stamp: &ViewStamp| stamp.length.0 <= RANGE_MAX;
                (stamps.flushes == state.system.flushes() || is_careless)
                    && is_small(&stamps.system)
                    && stamps.view.as_ref().is_some_and(is_small)
            })?;
            let before = self.order.state_at(first + at).view.clone();
            let behind = if self.planted.has(Slip::ComparedBefore) {
                before.clone()
            } else {
                state.view.clone()
            };
            Some(ViewClaim {
                batch: Link {
                    key: batch.writer,
                    length: batch.last,
                },
                stamps,
                system: state.system.clone(),
                views: (before, behind),
                is_careless,
            })
        });
        if let Some(claim) = found {
            self.claim = Some(Box::new(claim));
        }
    }
}
