//! The chain of versions that a tree came from, and the batches between them (spec/hyperbee.md 9, "Changes").
//!
//! The chain goes from block to block by `previous`, across cores. Within one core it must go down: that ends every
//! chain, also one that somebody tied into a ring.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::wire::{Index, Length, Link};

use super::block::Block;
use super::error::{BeeError, BlockFault};
use super::family::{Bee, CachedBlock, FamilyReader};
use super::place::{CoreId, ElementPlace};
use super::source::Blocks;
use crate::env::Slip;

/// A version and the one that it was built on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeVersion {
    /// The version.
    pub head: Link,
    /// What it was built on. None where a history begins.
    pub tail: Option<Link>,
}

/// Versions, newest first.
#[derive(Debug, Clone)]
pub struct History {
    bee: Bee,
    at: Option<Link>,
    /// The lowest block of each core that the chain has come through.
    lowest: BTreeMap<CoreId, u64>,
    /// The last version that was passed.
    passed: Option<Link>,
}

/// Batches, newest first.
#[derive(Debug, Clone)]
pub struct TreeChanges {
    history: History,
}

/// One batch: what it was built on, and its blocks.
#[derive(Debug, Clone)]
pub struct TreeChange {
    /// The version that the batch made.
    pub head: Link,
    /// The version that it was built on. None where a history begins.
    pub tail: Option<Link>,
    bee: Bee,
    core: CoreId,
    /// The block that the batch begins with.
    start: u64,
    blocks: Vec<Arc<CachedBlock>>,
}

/// A key that a batch wrote. Deletions leave no such record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedKey {
    /// The key.
    pub key: Bytes,
    /// The value, wherever it is stored.
    pub value: Option<Bytes>,
}

impl History {
    pub(super) fn new(bee: Bee, head: Link) -> Self {
        Self {
            bee,
            at: Some(head).filter(|head| head.length > Length::ZERO),
            lowest: BTreeMap::new(),
            passed: None,
        }
    }

    /// The version that comes next; none at the end.
    #[must_use]
    pub const fn at(&self) -> Option<Link> {
        self.at
    }

    /// The version that came last.
    pub(super) const fn passed(&self) -> Option<Link> {
        self.passed
    }

    /// The next version.
    ///
    /// # Errors
    ///
    /// When a block is missing or corrupt. The same version is tried again by the next call.
    pub fn next(&mut self, blocks: &dyn Blocks) -> Result<Option<TreeVersion>, BeeError> {
        let version = self.peek(blocks)?;
        if let Some(version) = version {
            self.pass(version);
        }
        Ok(version)
    }

    fn peek(&self, blocks: &dyn Blocks) -> Result<Option<TreeVersion>, BeeError> {
        let Some((head, last)) = self.at.and_then(|head| Some((head, head.length.last()?))) else {
            return Ok(None);
        };
        let reader = FamilyReader {
            bee: &self.bee,
            blocks,
        };
        let core = self.bee.core_id(&head.key);
        let block = reader.block(core, last.0)?;
        let Some(previous) = block.previous else {
            return Ok(Some(TreeVersion { head, tail: None }));
        };
        let below = reader.resolve(core, last.0, previous.core)?;
        let lowest = if below == core {
            Some(last.0)
        } else {
            self.lowest.get(&below).copied()
        };
        if lowest.is_some_and(|lowest| previous.seq >= lowest) {
            return Err(reader.corrupt(core, last.0, BlockFault::Previous));
        }
        let tail = Link {
            key: self.bee.core_key(below),
            length: Index(previous.seq).end(),
        };
        Ok(Some(TreeVersion {
            head,
            tail: Some(tail),
        }))
    }

    fn pass(&mut self, version: TreeVersion) {
        if let Some(last) = version.head.length.last() {
            self.lowest.insert(self.bee.core_id(&version.head.key), last.0);
        }
        self.passed = Some(version.head);
        self.at = version.tail;
    }
}

impl TreeChanges {
    pub(super) const fn new(history: History) -> Self {
        Self { history }
    }

    /// The next batch.
    ///
    /// # Errors
    ///
    /// When a block is missing or corrupt. The same batch is tried again by the next call.
    pub fn next(&mut self, blocks: &dyn Blocks) -> Result<Option<TreeChange>, BeeError> {
        let Some(version) = self.history.peek(blocks)? else {
            return Ok(None);
        };
        let Some(last) = version.head.length.last() else {
            return Ok(None);
        };
        let bee = self.history.bee.clone();
        let reader = FamilyReader { bee: &bee, blocks };
        let core = bee.core_id(&version.head.key);
        let count = reader.block(core, last.0)?.batch_start;
        let start = last
            .0
            .checked_sub(count)
            .ok_or_else(|| reader.corrupt(core, last.0, BlockFault::BatchStart { start: count }))?;
        let mut batch = Vec::new();
        for seq in start..=last.0 {
            let block = reader.block(core, seq)?;
            // Blocks that do not agree where the batch begins are not one batch, however many they claim to be.
            if block.batch_start != seq - start {
                let start = block.batch_start;
                return Err(reader.corrupt(core, seq, BlockFault::BatchStart { start }));
            }
            batch.push(block);
        }
        self.history.pass(version);
        let start = match bee.has(Slip::LastBlockChanges) {
            true => {
                batch.drain(..batch.len().saturating_sub(1));
                last.0
            }
            false => start,
        };
        Ok(Some(TreeChange {
            head: version.head,
            tail: version.tail,
            bee,
            core,
            start,
            blocks: batch,
        }))
    }
}

impl TreeChange {
    /// The blocks of the batch in the order of their core.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = &Block> {
        self.blocks.iter().map(|block| &***block)
    }

    /// The keys that the batch wrote, with their values, also those that are stored apart.
    ///
    /// # Errors
    ///
    /// When a block is missing or corrupt.
    pub fn keys(&self, blocks: &dyn Blocks) -> Result<Vec<ChangedKey>, BeeError> {
        let reader = FamilyReader {
            bee: &self.bee,
            blocks,
        };
        let mut keys = Vec::new();
        for (seq, block) in (self.start..).zip(&self.blocks) {
            for (offset, record) in (0..).zip(block.keys.iter().flatten()) {
                let place = ElementPlace {
                    core: self.core,
                    seq,
                    offset,
                };
                keys.push(ChangedKey {
                    key: record.key.clone(),
                    value: reader.value(block, place, record)?,
                });
            }
        }
        Ok(keys)
    }
}
