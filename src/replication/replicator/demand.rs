//! What we want of a core, whoever gives it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::env::Mono;

/// Names a range that is being downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RangeId(pub(super) u64);

/// A block that somebody waits for.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockDemand {
    pub(super) priority: u64,
    pub(super) since: Mono,
    pub(super) waiters: usize,
}

/// A run of blocks to fetch.
#[derive(Debug, Clone, Copy)]
pub(super) struct RangeDemand {
    pub(super) start: u64,
    /// None: to the end, and on as the core grows.
    pub(super) end: Option<u64>,
    /// Its blocks are asked for in order and nothing else, so that whoever reads along can.
    pub(super) is_linear: bool,
    /// Larger blocks are not asked for.
    pub(super) block_bytes_max: Option<u64>,
    /// Everything from the start up to here is there.
    pub(super) cursor: u64,
}

impl RangeDemand {
    pub(super) fn contains(&self, index: u64) -> bool {
        index >= self.start && self.end.is_none_or(|end| index < end)
    }
}

/// Everything that is wanted of a core.
#[derive(Debug, Default)]
pub(super) struct WantedBlocks {
    pub(super) blocks: BTreeMap<u64, BlockDemand>,
    pub(super) ranges: BTreeMap<RangeId, RangeDemand>,
    /// Byte offset and padding.
    pub(super) seeks: BTreeMap<(u64, u64), usize>,
    /// Blocks of ranges that were asked for in vain.
    pub(super) again: BTreeSet<u64>,
    /// Nodes of the blocks before this were asked for ahead, as far as they are of use.
    pub(super) scouted: u64,
    /// The end of the ranges that are here as a whole.
    done_end: Option<u64>,
    next_range: u64,
}

impl WantedBlocks {
    pub(super) fn add_range(&mut self, start: u64, end: Option<u64>, cursor: u64) -> RangeId {
        let id = RangeId(self.next_range);
        self.next_range += 1;
        self.scouted = 0;
        self.ranges.insert(
            id,
            RangeDemand {
                start,
                end,
                is_linear: false,
                block_bytes_max: None,
                cursor,
            },
        );
        id
    }

    /// The blocks are here: nobody waits for them any more.
    pub(super) fn fill(&mut self, blocks: Range<u64>) {
        let mut later = self.blocks.split_off(&blocks.start);
        self.blocks.append(&mut later.split_off(&blocks.end));
    }

    /// Takes note that a range is here as a whole.
    pub(super) fn done(&mut self, id: RangeId) {
        let range = self.ranges.get(&id);
        self.done_end = self.done_end.max(range.and_then(|range| range.end));
    }

    /// The first block that nobody wants, nor any behind it; none when there is none, or it is not said what is wanted.
    pub(super) fn end(&self) -> Option<u64> {
        let mut end = self.done_end;
        for range in self.ranges.values() {
            end = end.max(Some(range.end?));
        }
        let single = self.blocks.last_key_value();
        end.map(|end: u64| single.map_or(end, |(index, _)| end.max(index.saturating_add(1))))
    }

    /// Whether anybody wants the block.
    pub(super) fn wants(&self, index: u64) -> bool {
        self.blocks.contains_key(&index) || self.ranges.values().any(|range| range.contains(index))
    }

    /// The most bytes that the block may have to be asked for; none when it may have any.
    pub(super) fn block_bytes_max(&self, index: u64) -> Option<u64> {
        let mut most = None;
        for range in self.ranges.values().filter(|range| range.contains(index)) {
            most = most.max(Some(range.block_bytes_max?));
        }
        most.filter(|_| !self.blocks.contains_key(&index))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.ranges.is_empty() && self.seeks.is_empty()
    }

    /// Looks again from `start` on: blocks there are gone.
    pub(super) fn rewind(&mut self, start: u64) {
        self.scouted = self.scouted.min(start);
        for range in self.ranges.values_mut() {
            range.cursor = range.cursor.min(start.max(range.start));
        }
    }
}
