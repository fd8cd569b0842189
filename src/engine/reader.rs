//! Making batches out of the blocks of one writer.
//!
//! A verdict on a block is a function of the blocks alone: what cannot be read, or breaks the rules of batches, ends
//! what this peer takes of the writer there, at every peer alike. Only the clock delays: a batch from more than two
//! hours ahead waits until it is less.
//!
//! Source: spec/autobee.md 5 and 7.3.

use std::collections::VecDeque;

use thiserror::Error;

use super::dag::{Claim, NewBatch};
use super::witness;
use crate::crypto::{CoreKey, Verify};
use crate::wire::oplog::OplogBlock;
use crate::wire::{Decode as _, DecodeError, Index, Length, Link, Timestamp};

/// Most blocks that a batch may have.
pub const BATCH_BLOCKS_MAX: u64 = 1024;

/// How far ahead of the wall clock an entry may be, in milliseconds.
pub const AHEAD_MS_MAX: u64 = 2 * 60 * 60 * 1000;

/// The reason why nothing more is taken of a writer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Frozen {
    /// The block is no oplog block.
    #[error("block {index} cannot be read: {source}")]
    Unreadable {
        /// Which block.
        index: Index,
        /// What is wrong.
        source: DecodeError,
    },
    /// The block does not stand where its batch says.
    #[error("block {index} breaks its batch: {after} blocks should follow it, it says {found}")]
    BrokenBatch {
        /// Which block.
        index: Index,
        /// How many blocks the block before announced.
        after: u64,
        /// How many it announces itself.
        found: u64,
    },
    /// The batch is longer than any peer takes.
    #[error("block {index} starts a batch of {blocks} blocks, more than {BATCH_BLOCKS_MAX}")]
    LongBatch {
        /// Which block.
        index: Index,
        /// How many blocks the batch would have.
        blocks: u64,
    },
}

/// The blocks of one writer, as far as they are here and not forgotten.
#[derive(Debug)]
pub(super) struct WriterReader {
    key: CoreKey,
    /// Blocks that were forgotten. Batches begin behind them.
    base: u64,
    blocks: Vec<OplogBlock>,
    /// Where in `blocks` the batch starts that is not complete yet.
    open: usize,
    /// Complete batches that the set does not have yet.
    complete: VecDeque<NewBatch>,
    /// Up to here batches took part in the order before the engine went back: the clock is not asked again.
    taken: Length,
    /// The batch with the latest time stamp of those that were given, the first of equal ones.
    latest: (Length, Timestamp),
    frozen: Option<Frozen>,
}

impl WriterReader {
    /// Of a writer whose blocks are forgotten up to `base`, and of which none is here. Batches up to `taken` took part in
    /// the order before.
    #[must_use]
    pub(super) const fn new(key: CoreKey, base: Length, taken: Length) -> Self {
        Self {
            key,
            base: base.0,
            blocks: Vec::new(),
            open: 0,
            complete: VecDeque::new(),
            taken,
            latest: (Length::ZERO, Timestamp(0)),
            frozen: None,
        }
    }

    /// Takes the block at `index`. Blocks that were taken before are passed over, and so is one that leaves a gap.
    pub(super) fn take(&mut self, index: Index, block: &[u8], verify: &impl Verify) {
        if self.frozen.is_some() || index.0 != self.length().0 {
            return;
        }
        match self.read(index, block) {
            Ok(block) => {
                let is_last = block.batch.is_last();
                self.blocks.push(block);
                if is_last {
                    let batch = self.batch(verify);
                    self.complete.push_back(batch);
                    self.open = self.blocks.len();
                }
            }
            Err(frozen) => self.frozen = Some(frozen),
        }
    }

    /// Forgets blocks up to this length, which ends a batch that the set has.
    pub(super) fn forget(&mut self, length: Length) {
        let gone = length.0.saturating_sub(self.base);
        let gone = usize::try_from(gone).unwrap_or(usize::MAX).min(self.open);
        self.blocks.drain(..gone);
        self.open -= gone;
        self.base += gone as u64;
        // A writer that was busy once must not hold that memory for ever.
        self.blocks.shrink_to(self.blocks.len() * 2);
    }

    /// Forgets blocks behind this length, which ends a batch or is that of the forgotten ones.
    pub(super) fn let_go(&mut self, length: Length) {
        let stays = usize::try_from(length.0.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.blocks.truncate(stays);
        self.open = self.open.min(self.blocks.len());
        self.complete.retain(|batch| batch.last <= length);
        self.frozen = None;
        self.taken = self.taken.min(length);
    }

    /// How many blocks were taken.
    #[must_use]
    pub(super) const fn length(&self) -> Length {
        Length(self.base + self.blocks.len() as u64)
    }

    /// How many of them are held.
    #[must_use]
    pub(super) const fn held(&self) -> usize {
        self.blocks.len()
    }

    /// The next complete batch, once the wall clock allows it.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<NewBatch> {
        if self.due()? > now {
            return None;
        }
        let batch = self.complete.pop_front()?;
        let newest = self.newest(&batch);
        if newest > self.latest.1 {
            self.latest = (batch.last, newest);
        }
        Some(batch)
    }

    /// The batch with the latest time stamp of those that were given, by its last block.
    #[must_use]
    pub(super) const fn latest(&self) -> (Length, Timestamp) {
        self.latest
    }

    /// The first complete batch that was not given, by its last block, and when it may be taken.
    #[must_use]
    pub(super) fn held_back(&self) -> Option<(Length, Timestamp)> {
        self.waiting().next()
    }

    /// The complete batches that were not given, by their last blocks, each with the time when it may be taken.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (Length, Timestamp)> {
        self.complete.iter().scan(Timestamp::default(), |due, batch| {
            *due = (*due).max(self.due_of(batch));
            Some((batch.last, *due))
        })
    }

    /// What the next complete batch links first; none when there is no such batch.
    #[must_use]
    pub(super) fn next_links(&self) -> Option<&[Link]> {
        let batch = self.complete.front()?;
        let first = self.blocks_of(batch.first, batch.first).first()?;
        Some(&first.links)
    }

    /// Up to where batches were taken, now or before the engine went back.
    #[must_use]
    pub(super) fn taken(&self) -> Length {
        let now = self
            .complete
            .front()
            .map_or(self.base + self.open as u64, |batch| batch.first.0 - 1);
        self.taken.max(Length(now))
    }

    /// When the next complete batch may be taken. What was taken before may be taken at once, wherever the clock went.
    #[must_use]
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.complete.front().map(|batch| self.due_of(batch))
    }

    fn due_of(&self, batch: &NewBatch) -> Timestamp {
        if batch.last <= self.taken {
            return Timestamp::default();
        }
        Timestamp(self.newest(batch).0.saturating_sub(AHEAD_MS_MAX))
    }

    /// The latest time stamp of a batch.
    fn newest(&self, batch: &NewBatch) -> Timestamp {
        let blocks = self.blocks_of(batch.first, batch.last).iter();
        blocks.map(|block| block.timestamp).max().unwrap_or_default()
    }

    /// The last block of an own batch got its stamps and attestations.
    pub(super) fn replace_last(&mut self, length: Length, block: OplogBlock) {
        if length == self.length()
            && let Some(last) = self.blocks.last_mut()
        {
            *last = block;
        }
    }

    /// Blocks by length, both ends included.
    #[must_use]
    pub(super) fn blocks_of(&self, first: Length, last: Length) -> &[OplogBlock] {
        let place = |length: u64| usize::try_from(length.checked_sub(self.base)?).ok();
        let (Some(from), Some(to)) = (place(first.0.saturating_sub(1)), place(last.0)) else {
            return &[];
        };
        self.blocks.get(from..to).unwrap_or_default()
    }

    /// How many blocks are here, if another batch can follow them.
    #[must_use]
    pub(super) fn boundary(&self) -> Option<u64> {
        (self.frozen.is_none() && self.open == self.blocks.len()).then_some(self.length().0)
    }

    /// Why nothing more is taken of this writer.
    #[must_use]
    pub(super) const fn frozen(&self) -> Option<&Frozen> {
        self.frozen.as_ref()
    }

    fn read(&self, index: Index, block: &[u8]) -> Result<OplogBlock, Frozen> {
        let block = OplogBlock::from_bytes(block).map_err(|source| Frozen::Unreadable { index, source })?;
        let found = block.batch.after;
        if self.open == self.blocks.len() {
            let blocks = found.saturating_add(1);
            if blocks > BATCH_BLOCKS_MAX {
                return Err(Frozen::LongBatch { index, blocks });
            }
        } else if let Some(before) = self.blocks.last() {
            let after = before.batch.after.saturating_sub(1);
            if found != after {
                return Err(Frozen::BrokenBatch { index, after, found });
            }
        }
        Ok(block)
    }

    /// The batch that the newest block completes.
    fn batch(&self, verify: &impl Verify) -> NewBatch {
        let blocks = &self.blocks[self.open..];
        let (first, later) = blocks
            .split_first()
            .map_or((None, blocks), |(first, later)| (Some(first), later));
        NewBatch {
            writer: self.key,
            first: Length(self.base + self.open as u64 + 1),
            last: self.length(),
            timestamp: first.map_or(Timestamp::default(), |first| first.timestamp),
            optimistic: first.is_some_and(|first| first.optimistic),
            links: first.map_or_else(Vec::new, |first| first.links.clone()),
            gates: later
                .iter()
                .flat_map(|block| block.links.iter().copied())
                .collect(),
            claim: first
                .and_then(|first| first.witness.as_ref())
                .map(|witness| Claim {
                    weight: witness.weight,
                    backer: Link {
                        key: witness.backer.key,
                        length: witness.backer.length,
                    },
                    valid: witness::verify(verify, &self.key, witness),
                }),
        }
    }
}
