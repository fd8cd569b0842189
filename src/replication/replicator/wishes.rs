//! What the application wants of a core, one wish at a time or all at once.

use std::collections::btree_map::Entry;

use super::demand::{BlockDemand, RangeDemand};
use super::{RangeId, Replicator, ReplicatorEvent};
use crate::env::Mono;
use crate::hypercore::{self, CoreError};
use crate::replication::core::OfferedLog;

impl Replicator {
    /// Whether to say that we are downloading. When neither side does, channels are closed.
    pub fn set_downloading(&mut self, downloading: bool) {
        if self.downloading != downloading {
            self.downloading = downloading;
            for peer in self.peers.values_mut() {
                peer.sync_due = true;
            }
            self.all_ready();
            self.close_idle();
        }
    }

    /// Fetches all blocks from `start` to before `end`; without an end, all there are and will be.
    ///
    /// # Errors
    ///
    /// When the store failed.
    pub fn download(
        &mut self,
        start: u64,
        end: Option<u64>,
        core: &impl OfferedLog,
    ) -> Result<RangeId, CoreError> {
        self.refresh(core)?;
        let last = end.unwrap_or(u64::MAX);
        let here = start..last.min(self.known.length).max(start);
        let cursor = core.first_missing(here)?;
        let id = self.demand.add_range(start, end, cursor);
        self.all_ready();
        if cursor >= last {
            self.demand.done(id);
            self.forget_range(id);
            self.events.push_back(ReplicatorEvent::RangeDone(id));
        }
        Ok(id)
    }

    /// Fetches one block, with a priority above 0 if somebody waits for it. False when it is here. To be matched by a
    /// [`Replicator::forget_block`] when the one who waits gives up.
    ///
    /// # Errors
    ///
    /// When the store failed.
    pub fn want_block(
        &mut self,
        index: u64,
        priority: u64,
        core: &impl OfferedLog,
        now: Mono,
    ) -> Result<bool, CoreError> {
        if core.has(index)? {
            return Ok(false);
        }
        let block = self.demand.blocks.entry(index).or_insert(BlockDemand {
            priority,
            since: now,
            waiters: 0,
        });
        block.priority = block.priority.max(priority);
        block.waiters += 1;
        self.all_ready();
        Ok(true)
    }

    /// Finds the block with a byte offset, where each block has `padding` bytes that do not count. The answer is an event,
    /// at once when it is known.
    ///
    /// # Errors
    ///
    /// When the store failed.
    pub fn want_seek(&mut self, bytes: u64, padding: u64, core: &impl OfferedLog) -> Result<(), CoreError> {
        *self.demand.seeks.entry((bytes, padding)).or_default() += 1;
        self.all_ready();
        self.resolve_seeks(core)
    }

    /// Fetches a range no longer. Requests that only it needed are cancelled.
    pub fn forget_range(&mut self, id: RangeId) {
        self.drop_range(id);
        self.cancel_unwanted();
        self.all_ready();
    }

    /// Takes one [`Replicator::want_block`] back. A request that only it needed is cancelled.
    pub fn forget_block(&mut self, index: u64) {
        if let Some(block) = self.demand.blocks.get_mut(&index) {
            block.waiters = block.waiters.saturating_sub(1);
            if block.waiters == 0 {
                self.demand.blocks.remove(&index);
                self.cancel_unwanted();
                self.all_ready();
            }
        }
    }

    /// Takes one [`Replicator::want_seek`] back.
    pub fn forget_seek(&mut self, bytes: u64, padding: u64) {
        if let Some(count) = self.demand.seeks.get_mut(&(bytes, padding)) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.demand.seeks.remove(&(bytes, padding));
            }
        }
    }

    /// Makes what is wanted equal to what the sessions of a core wait for. Instead of the single steps above.
    ///
    /// # Errors
    ///
    /// When the store failed.
    pub fn set_demand(
        &mut self,
        wanted: &hypercore::Demand,
        core: &impl OfferedLog,
        now: Mono,
    ) -> Result<(), CoreError> {
        self.refresh(core)?;
        self.all_ready();
        let demand = &mut self.demand;
        let blocks = demand.blocks.len();
        demand.blocks.retain(|index, _| wanted.blocks.contains_key(index));
        let mut is_less = demand.blocks.len() < blocks;
        for (index, waiters) in &wanted.blocks {
            let block = BlockDemand {
                priority: 1,
                since: now,
                waiters: *waiters,
            };
            demand.blocks.entry(*index).or_insert(block).waiters = *waiters;
        }
        let gone: Vec<RangeId> = demand
            .ranges
            .iter()
            .filter(|(id, range)| {
                let same = wanted.ranges.get(&id.0);
                let most = wanted.block_bytes_max.get(&id.0).copied();
                same.is_none_or(|same| {
                    (same.bounds(), same.is_linear, most)
                        != ((range.start, range.end), range.is_linear, range.block_bytes_max)
                })
            })
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            is_less = true;
            self.drop_range(id);
        }
        for (id, range) in &wanted.ranges {
            let (start, end) = range.bounds();
            let here = start..end.unwrap_or(u64::MAX).min(self.known.length).max(start);
            if let Entry::Vacant(place) = self.demand.ranges.entry(RangeId(*id)) {
                place.insert(RangeDemand {
                    start,
                    end,
                    is_linear: range.is_linear,
                    block_bytes_max: wanted.block_bytes_max.get(id).copied(),
                    cursor: core.first_missing(here)?,
                });
                self.demand.scouted = 0;
            }
        }
        if is_less {
            self.cancel_unwanted();
        }
        Ok(())
    }
}
