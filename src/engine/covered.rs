//! What the last complete order covers, for those who check it against the rule.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::encryption::DatabaseKeys;
use super::reader::WriterReader;
use super::{Anchor, Engine};
use crate::crypto::{CoreKey, Verify};
use crate::wire::{Encode as _, Length, Timestamp};

/// The set of batches that the order, the records and the view are those of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered {
    /// Per log, up to where its batches are ready: everything that they name is in the set.
    pub ready: BTreeMap<CoreKey, Length>,
    /// Per log, up to where its batches are in the set, with those that wait for what they name. Their entries name
    /// anchors, which may be what a ready batch links.
    pub known: BTreeMap<CoreKey, Length>,
}

/// The keys of the anchors of one database.
#[derive(Clone)]
pub struct AnchorKeys(Option<DatabaseKeys>);

impl AnchorKeys {
    /// The anchor of an entry. None for a length that no encoding carries.
    #[must_use]
    pub fn key(&self, writer: CoreKey, length: Length) -> Option<CoreKey> {
        let anchor = Anchor::new(self.0.as_ref(), writer, length).ok()?;
        Some(anchor.link().key)
    }
}

impl std::fmt::Debug for AnchorKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AnchorKeys(is_encrypted: {})", self.0.is_some())
    }
}

impl<V: Verify> Engine<V> {
    /// The set that the last complete drain ordered; none while the next one is under way or stopped, while more is in
    /// the set than it saw, and while it is not known yet whether an awaited link is to an anchor.
    #[must_use]
    pub fn covered(&self) -> Option<Covered> {
        let is_complete = self.is_settled()
            && self.stopped().is_none()
            && !self.is_awaiting_anchors()
            && self.order.has_seen_all(&self.dag);
        is_complete.then(|| {
            let lengths = |length: &dyn Fn(&CoreKey) -> Length| {
                let writers = self.dag.base_lengths().map(|(writer, _)| writer);
                let lengths = writers.map(|writer| (writer, length(&writer)));
                lengths.filter(|(_, length)| *length > Length::ZERO).collect()
            };
            Covered {
                ready: lengths(&|writer| self.dag.ready_length(writer)),
                known: lengths(&|writer| self.dag.known_length(writer)),
            }
        })
    }

    /// The first blocks of a log, in clear, as far as the engine has them in memory; none when it forgot some.
    #[must_use]
    pub fn read_blocks(&self, core: &CoreKey, length: Length) -> Option<Vec<Bytes>> {
        let reader = self.readers.get(core)?;
        let blocks = reader.blocks_of(Length(1), length);
        let is_all = blocks.len() as u64 == length.0;
        let blocks = blocks.iter().map(|block| Some(block.to_bytes().ok()?.into()));
        is_all.then(|| blocks.collect()).flatten()
    }

    /// When the clock lets the next batch into the set that only waits for it; in the past when nobody has drained
    /// since.
    #[must_use]
    pub fn waits_until(&self) -> Option<Timestamp> {
        self.readers.values().filter_map(WriterReader::due).min()
    }

    /// The keys of anchors, as they are in this database.
    #[must_use]
    pub fn anchor_keys(&self) -> AnchorKeys {
        AnchorKeys(self.keys.clone())
    }

    /// Blocks that are held and in no batch of the set: of batches that are not whole, or that wait for the clock.
    #[must_use]
    pub fn unready_blocks(&self) -> u64 {
        let beyond = |(core, reader): (&CoreKey, &WriterReader)| {
            let known = self.dag.known_length(core);
            reader.length().0.saturating_sub(known.0)
        };
        self.readers.iter().map(beyond).sum()
    }
}
