//! The read cache of the log: nodes that many proofs need, and blocks that are read one after the other.
//!
//! A record never changes where it stands, and places are given out once only, so nothing here is ever out of date.
//! What is kept is bounded, whatever is read: [`HEADS`] heads of records with their nodes, and [`RUNS`] pieces of
//! [`AHEAD_BYTES`]. Where it is kept follows from the numbers alone, so the same calls read the disk the same way.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::super::DataPointer;
use super::page::RecordPlace;
use super::record::BlockRecord;
use crate::env::{Planted, Slip};

/// Heads of block records that are kept. One has two nodes on average.
const HEADS: usize = 1 << HEAD_BITS;
const HEAD_BITS: u32 = 12;

/// Readers that may go through lines one block after the other, each with a piece of its own.
const RUNS: usize = 8;

/// Bytes that are read in one go for blocks that follow each other.
pub(super) const AHEAD_BYTES: u64 = 64 * 1024;

/// Records that are longer are read alone: little would be gained.
pub(super) const AHEAD_RECORD_BYTES: u32 = 16 * 1024;

/// The read cache of one log.
#[derive(Debug, Default)]
pub(super) struct ReadCache {
    heads: Mutex<Vec<Option<CachedHead>>>,
    runs: Mutex<Vec<SequentialRead>>,
    planted: Planted,
}

/// The nodes of one block record.
#[derive(Debug)]
struct CachedHead {
    place: (u32, u32),
    data: DataPointer,
    index: u64,
    mask: u64,
    nodes: Bytes,
}

/// A reader that goes through a line.
#[derive(Debug)]
struct SequentialRead {
    data: DataPointer,
    /// The block that would come next.
    next: u64,
    /// Where the piece stands.
    segment: u32,
    offset: u32,
    bytes: Bytes,
}

/// The answer of the cache about a block that is to be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadAhead {
    /// Its record was read already.
    Read(Bytes),
    /// The block before it was read last: those after it are likely to be next.
    Next,
    /// Nothing.
    Alone,
}

impl ReadCache {
    /// An empty one that makes slips.
    pub(super) fn planted(planted: Planted) -> Self {
        Self {
            planted,
            ..Self::default()
        }
    }

    /// The node `depth` levels above the leaf of a block, as far as the record of the block at `place` was read. The
    /// inner none: it is not in there.
    pub(super) fn node(
        &self,
        place: RecordPlace,
        (data, index): (DataPointer, u64),
        depth: u32,
    ) -> Option<Option<Bytes>> {
        let heads = locked(&self.heads);
        let head = heads.get(slot(data, index))?.as_ref()?;
        let is_it = (head.data, head.index) == (data, index) && head.place == spot(place);
        is_it.then(|| {
            let record = BlockRecord {
                data,
                index,
                mask: head.mask,
                nodes: &head.nodes,
                block: None,
            };
            record.node(depth).map(|node| head.nodes.slice_ref(node))
        })
    }

    /// Keeps the nodes of a record that was checked.
    pub(super) fn keep(&self, place: RecordPlace, record: &BlockRecord<'_>) {
        let mut heads = locked(&self.heads);
        if heads.is_empty() {
            heads.resize_with(HEADS, || None);
        }
        if let Some(kept) = heads.get_mut(slot(record.data, record.index)) {
            *kept = Some(CachedHead {
                place: spot(place),
                data: record.data,
                index: record.index,
                mask: record.mask,
                nodes: Bytes::copy_from_slice(record.nodes),
            });
        }
    }

    /// Looks for the record of a block, and notes that the block is read.
    pub(super) fn block(&self, place: RecordPlace, data: DataPointer, index: u64) -> ReadAhead {
        let mut runs = locked(&self.runs);
        let next = index.saturating_add(1);
        let Some(at) = runs.iter().position(|run| (run.data, run.next) == (data, index)) else {
            // The one that stood still for longest makes room.
            if runs.len() >= RUNS {
                runs.remove(0);
            }
            runs.push(SequentialRead {
                data,
                next,
                segment: 0,
                offset: 0,
                bytes: Bytes::new(),
            });
            return ReadAhead::Alone;
        };
        let mut run = runs.remove(at);
        run.next = next;
        let start = place.offset.checked_sub(run.offset).map(|start| start as usize);
        let end = start.and_then(|start| start.checked_add(place.length as usize));
        let found = match (start, end) {
            (Some(start), Some(end))
                if (run.segment == place.segment() || self.planted.has(Slip::AheadOfOther))
                    && end <= run.bytes.len() =>
            {
                ReadAhead::Read(run.bytes.slice(start..end))
            }
            _ => ReadAhead::Next,
        };
        runs.push(run);
        found
    }

    /// Keeps a piece that begins with the record of a block, which [`ReadCache::block`] noted.
    pub(super) fn keep_ahead(&self, place: RecordPlace, data: DataPointer, index: u64, bytes: Bytes) {
        let mut runs = locked(&self.runs);
        let next = index.saturating_add(1);
        if let Some(run) = runs.iter_mut().find(|run| (run.data, run.next) == (data, next)) {
            (run.segment, run.offset, run.bytes) = (place.segment(), place.offset, bytes);
        }
    }
}

fn spot(place: RecordPlace) -> (u32, u32) {
    (place.segment(), place.offset)
}

/// Neighbours are spread, and so are the last blocks of large subtrees.
fn slot(data: DataPointer, index: u64) -> usize {
    let mixed = (index ^ data.0.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(mixed >> (u64::BITS - HEAD_BITS)).unwrap_or(0)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: DataPointer = DataPointer(3);

    fn keep(cache: &ReadCache, place: RecordPlace, index: u64, fill: u8) {
        let nodes = [fill; 40];
        let record = BlockRecord {
            data: DATA,
            index,
            mask: 1,
            nodes: &nodes,
            block: None,
        };
        cache.keep(place, &record);
    }

    #[test]
    fn nodes_are_found_by_their_place_and_are_bounded() {
        let cache = ReadCache::default();
        let place = |index: u32| RecordPlace::new(1, index * 100, 90);
        for index in 0..3 * HEADS as u32 {
            keep(&cache, place(index), u64::from(index), 1);
        }
        let known = |index: u32| cache.node(place(index), (DATA, u64::from(index)), 0);
        let found = (0..3 * HEADS as u32)
            .filter(|index| known(*index).is_some())
            .count();
        assert!(found > HEADS / 2 && found <= HEADS, "{found}");
        let last = 3 * HEADS as u32 - 1;
        assert_eq!(known(last).unwrap().unwrap(), [1; 40][..]);
        // The record stands elsewhere now.
        let moved = RecordPlace::new(2, 50, 90);
        assert_eq!(cache.node(moved, (DATA, u64::from(last)), 0), None);
        keep(&cache, moved, u64::from(last), 2);
        assert_eq!(
            cache.node(moved, (DATA, u64::from(last)), 0).unwrap().unwrap(),
            [2; 40][..]
        );
        assert_eq!(cache.node(moved, (DATA, u64::from(last)), 1), Some(None));
    }

    #[test]
    fn blocks_in_a_row_are_read_ahead_and_readers_are_bounded() {
        let cache = ReadCache::default();
        let place = |index: u64| RecordPlace::new(1, u32::try_from(index).unwrap() * 10 + 5, 10);
        assert_eq!(cache.block(place(7), DATA, 7), ReadAhead::Alone);
        assert_eq!(cache.block(place(8), DATA, 8), ReadAhead::Next);
        cache.keep_ahead(place(8), DATA, 8, Bytes::from((0..30).collect::<Vec<u8>>()));
        assert_eq!(
            cache.block(place(9), DATA, 9),
            ReadAhead::Read((10..20).collect::<Vec<u8>>().into())
        );
        assert_eq!(
            cache.block(place(10), DATA, 10),
            ReadAhead::Read((20..30).collect::<Vec<u8>>().into())
        );
        assert_eq!(cache.block(place(11), DATA, 11), ReadAhead::Next);
        assert_eq!(
            cache.block(place(99), DATA, 12),
            ReadAhead::Next,
            "it was rewritten elsewhere"
        );
        for other in 100..100 + RUNS as u64 {
            cache.block(place(0), DataPointer(other), 0);
        }
        assert_eq!(locked(&cache.runs).len(), RUNS);
        assert_eq!(cache.block(place(13), DATA, 13), ReadAhead::Alone);
    }
}
