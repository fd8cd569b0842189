//! What is where: a pure function of the records that were applied.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use bytes::Bytes;
use im::OrdMap;

use super::super::key::KeyPrefix;
use super::super::{DataPointer, Key};
use super::frame::FrameKind;
use super::page::{Pages, RecordPlace};
use super::record::{BLOCK_HEAD_BYTES, BlockRecord, NODE_BYTES, Record};
use super::tree;
use crate::env::{Planted, Slip};

/// Values up to this size stay in memory.
const INLINE_BYTES: usize = 256;

/// The place of everything that has one. Cloning costs nothing.
#[derive(Clone, Default)]
pub(super) struct PlaceIndex {
    /// All keys but blocks and nodes.
    pub(super) values: OrdMap<Key, Value>,
    pub(super) lines: OrdMap<DataPointer, LinePlaces>,
}

#[derive(Clone)]
pub(super) struct Value {
    pub(super) place: RecordPlace,
    pub(super) inline: Option<Bytes>,
}

/// One line of blocks with its tree. A node stands where `nodes` says; where that says nothing, it stands with the
/// block that completes it.
#[derive(Clone, Default)]
pub(super) struct LinePlaces {
    pub(super) blocks: Pages,
    pub(super) nodes: Pages,
}

/// Counts of what is still wanted of each segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) segments: BTreeMap<u32, Live>,
    pub(super) planted: Planted,
}

/// Estimated bytes, and the exact number of places that point into a segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) bytes: u64,
    pub(super) places: u64,
}

impl Usage {
    fn add(&mut self, place: RecordPlace, bytes: u64) {
        let live = self.segments.entry(place.segment()).or_default();
        live.bytes += bytes;
        live.places += 1;
    }

    fn remove(&mut self, place: RecordPlace, bytes: u64) {
        let live = self.segments.entry(place.segment()).or_default();
        live.bytes = live.bytes.saturating_sub(bytes);
        live.places = live.places.saturating_sub(1);
    }

    /// Counts all places of an index.
    pub(super) fn count(&mut self, index: &PlaceIndex) {
        for value in index.values.values() {
            self.add(value.place, u64::from(value.place.length));
        }
        for line in index.lines.values() {
            for (block, place) in line.blocks.range(0..=u64::MAX) {
                self.swap_block(block, RecordPlace::NONE, place);
            }
            for (_, place) in line.nodes.range(0..=u64::MAX) {
                self.swap_node(RecordPlace::NONE, place);
            }
        }
    }

    /// True when so many places of an index point into each segment.
    pub(super) fn is_of(&self, index: &PlaceIndex) -> bool {
        let mut counted = Self::default();
        counted.count(index);
        let places = |usage: &Self| -> BTreeMap<u32, u64> {
            let live = usage.segments.iter().filter(|(_, live)| live.places > 0);
            live.map(|(segment, live)| (*segment, live.places)).collect()
        };
        places(self) == places(&counted)
    }

    /// Of a block record, which may be wanted in part.
    fn swap_block(&mut self, index: u64, before: RecordPlace, after: RecordPlace) {
        if before.is_record() {
            self.remove(before, block_bytes(index, before));
        }
        if after.is_record() {
            self.add(after, block_bytes(index, after));
        }
    }

    fn swap_node(&mut self, before: RecordPlace, after: RecordPlace) {
        if before.is_record() {
            self.remove(before, node_bytes(before));
        }
        if after.is_record() {
            self.add(after, node_bytes(after));
        }
    }
}

/// Bytes of a block record that are wanted. How many of them are nodes is not known here; their most will do.
fn block_bytes(index: u64, place: RecordPlace) -> u64 {
    let length = u64::from(place.length);
    let nodes = match place.has(RecordPlace::NODES_GONE) {
        true => 0,
        false => node_part_bytes(index).min(length),
    };
    let block = match place.has(RecordPlace::BLOCK_GONE) {
        true => 0,
        false => length - nodes,
    };
    nodes + block
}

fn node_bytes(place: RecordPlace) -> u64 {
    match place.has(RecordPlace::IN_BLOCK) {
        true => u64::from(place.length).min(NODE_BYTES as u64),
        false => u64::from(place.length),
    }
}

/// The first bytes of a block record, in which head and nodes fit.
pub(super) fn node_part_bytes(index: u64) -> u64 {
    let nodes = u64::from(tree::mask_of(index).count_ones());
    BLOCK_HEAD_BYTES as u64 + NODE_BYTES as u64 * nodes
}

impl PlaceIndex {
    pub(super) fn line(&self, data: DataPointer) -> Option<&LinePlaces> {
        self.lines.get(&data)
    }

    /// Takes a record in that stands at `place`.
    pub(super) fn apply(
        &mut self,
        usage: &mut Usage,
        kind: FrameKind,
        record: &Record<'_>,
        place: RecordPlace,
    ) {
        match record {
            Record::Block(record) => {
                let line = self.lines.entry(record.data).or_default();
                match kind {
                    FrameKind::Commit if usage.planted.has(Slip::NodesReplaced) => {}
                    FrameKind::Commit => line.keep_nodes(usage, record),
                    FrameKind::Move => line.drop_hidden(record.index),
                }
                line.put_block(usage, record, place);
                self.forget_empty(record.data);
            }
            Record::Put { key, value } => self.put(usage, key, value, place),
            Record::Delete { key } => self.delete(usage, key),
            Record::DeleteRange { from, to } => self.delete_range(usage, from, to),
        }
    }

    fn put(&mut self, usage: &mut Usage, key: &Key, value: &[u8], place: RecordPlace) {
        if let Key::Tree(data, node) = key {
            let line = self.lines.entry(*data).or_default();
            let before = line.nodes.set(*node, place);
            usage.swap_node(before, place);
            return;
        }
        let inline = (value.len() <= INLINE_BYTES).then(|| Bytes::copy_from_slice(value));
        usage.add(place, u64::from(place.length));
        if let Some(before) = self.values.insert(key.clone(), Value { place, inline }) {
            usage.remove(before.place, u64::from(before.place.length));
        }
    }

    fn delete(&mut self, usage: &mut Usage, key: &Key) {
        match key {
            Key::Block(data, index) => self.delete_blocks(usage, *data, *index..=*index),
            Key::Tree(data, node) => self.delete_nodes(usage, *data, *node..=*node),
            _ => {
                if let Some(before) = self.values.remove(key)
                    && !usage.planted.has(Slip::DeletedValueCounts)
                {
                    usage.remove(before.place, u64::from(before.place.length));
                }
            }
        }
    }

    fn delete_range(&mut self, usage: &mut Usage, from: &Key, to: &Key) {
        if from >= to {
            return;
        }
        let range = self.values.range(from.clone()..to.clone());
        let gone: Vec<Key> = range.map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.delete(usage, &key);
        }
        for data in self.lines_between(from, to) {
            if let Some(range) = span(from, to, KeyPrefix::blocks(data)) {
                self.delete_blocks(usage, data, range);
            }
            if let Some(range) = span(from, to, KeyPrefix::nodes(data)) {
                self.delete_nodes(usage, data, range);
            }
        }
    }

    /// The lines that a range of keys may touch.
    pub(super) fn lines_between(&self, from: &Key, to: &Key) -> Vec<DataPointer> {
        let bound = |key: &Key| {
            let bound = key.parts().prefix.data_bound();
            bound.unwrap_or_else(|side| DataPointer(if side.is_lt() { 0 } else { u64::MAX }))
        };
        let (first, last) = (bound(from), bound(to));
        if first > last {
            return Vec::new();
        }
        self.lines.range(first..=last).map(|(data, _)| *data).collect()
    }

    fn delete_blocks(&mut self, usage: &mut Usage, data: DataPointer, range: RangeInclusive<u64>) {
        let Some(line) = self.lines.get_mut(&data) else {
            return;
        };
        let places: Vec<(u64, RecordPlace)> = line.blocks.range(range).collect();
        for (index, place) in places {
            if !place.has(RecordPlace::BLOCK_GONE) {
                line.set_block(usage, index, place.with(RecordPlace::BLOCK_GONE));
            }
        }
        self.forget_empty(data);
    }

    fn delete_nodes(&mut self, usage: &mut Usage, data: DataPointer, range: RangeInclusive<u64>) {
        let Some(line) = self.lines.get_mut(&data) else {
            return;
        };
        let strays: Vec<u64> = line.nodes.range(range.clone()).map(|(node, _)| node).collect();
        for node in strays {
            line.hide_node(usage, node);
        }
        if range.start() == range.end() {
            line.hide_node(usage, *range.start());
        } else {
            line.delete_nodes_with_blocks(usage, &range);
        }
        self.forget_empty(data);
    }

    fn forget_empty(&mut self, data: DataPointer) {
        let empty = |line: &LinePlaces| line.blocks.is_empty() && line.nodes.is_empty();
        if self.lines.get(&data).is_some_and(empty) {
            self.lines.remove(&data);
        }
    }
}

impl LinePlaces {
    /// True when the node may stand with the block that completes it.
    pub(super) fn nodes_with(&self, block: u64) -> Option<RecordPlace> {
        let place = self.blocks.get(block);
        (place.is_record() && !place.has(RecordPlace::NODES_GONE)).then_some(place)
    }

    /// Before another record replaces the one of this block: nodes that it does not bring stay where they are.
    fn keep_nodes(&mut self, usage: &mut Usage, record: &BlockRecord<'_>) {
        let Some(before) = self.nodes_with(record.index) else {
            return;
        };
        let stray = before.bare().with(RecordPlace::IN_BLOCK);
        for (node, depth) in tree::completed(record.index).zip(0..) {
            if record.mask & (1 << depth) == 0 && self.nodes.get(node) == RecordPlace::NONE {
                self.nodes.set(node, stray);
                usage.swap_node(RecordPlace::NONE, stray);
            }
        }
    }

    /// Before a copy replaces the record of this block: the copy does not have what was hidden.
    fn drop_hidden(&mut self, index: u64) {
        for node in tree::completed(index) {
            if self.nodes.get(node) == RecordPlace::HIDDEN {
                self.nodes.set(node, RecordPlace::NONE);
            }
        }
    }

    fn put_block(&mut self, usage: &mut Usage, record: &BlockRecord<'_>, place: RecordPlace) {
        if !self.nodes.is_empty() {
            for (node, depth) in tree::completed(record.index).zip(0..) {
                if record.mask & (1 << depth) != 0 {
                    let stray = self.nodes.set(node, RecordPlace::NONE);
                    usage.swap_node(stray, RecordPlace::NONE);
                }
            }
        }
        let mut place = place;
        if record.block.is_none() {
            place = place.with(RecordPlace::BLOCK_GONE);
        }
        if record.mask == 0 {
            place = place.with(RecordPlace::NODES_GONE);
        }
        self.set_block(usage, record.index, place);
    }

    /// Sets the place of a block; one of which nothing is wanted is none.
    fn set_block(&mut self, usage: &mut Usage, index: u64, place: RecordPlace) {
        let gone = place.has(RecordPlace::BLOCK_GONE) && place.has(RecordPlace::NODES_GONE);
        let place = if gone { RecordPlace::NONE } else { place };
        let before = self.blocks.set(index, place);
        usage.swap_block(index, before, place);
        // Without nodes in the record there is nothing to hide.
        if !self.nodes.is_empty() && (!place.is_record() || place.has(RecordPlace::NODES_GONE)) {
            self.drop_hidden(index);
        }
    }

    /// Removes one node, wherever it is.
    fn hide_node(&mut self, usage: &mut Usage, node: u64) {
        let with_block = tree::completer(node).is_some_and(|(block, _)| self.nodes_with(block).is_some());
        let after = if with_block {
            RecordPlace::HIDDEN
        } else {
            RecordPlace::NONE
        };
        let before = self.nodes.set(node, after);
        usage.swap_node(before, after);
    }

    /// Removes nodes that stand with blocks: whole records of them where that is possible.
    fn delete_nodes_with_blocks(&mut self, usage: &mut Usage, range: &RangeInclusive<u64>) {
        let first = range.start().div_ceil(2);
        let places: Vec<(u64, RecordPlace)> = self.blocks.range(first..=u64::MAX).collect();
        for (index, place) in places {
            if place.has(RecordPlace::NODES_GONE) {
                continue;
            }
            let standing = |line: &Self, node: &u64| line.nodes.get(*node) == RecordPlace::NONE;
            let all = tree::completed(index).all(|node| range.contains(&node) || !standing(self, &node));
            if all {
                self.set_block(usage, index, place.with(RecordPlace::NODES_GONE));
                continue;
            }
            for node in tree::completed(index).filter(|node| range.contains(node)) {
                if standing(self, &node) {
                    self.nodes.set(node, RecordPlace::HIDDEN);
                }
            }
        }
    }
}

/// The indices of one prefix that lie in a range of keys.
pub(super) fn span(from: &Key, to: &Key, prefix: KeyPrefix) -> Option<RangeInclusive<u64>> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let (from, to) = (from.parts(), to.parts());
    let low = match from.prefix.cmp(&prefix) {
        Less => 0,
        Equal => from.index,
        Greater => return None,
    };
    let high = match to.prefix.cmp(&prefix) {
        Less => return None,
        Equal => to.index.checked_sub(1)?,
        Greater => u64::MAX,
    };
    (low <= high).then_some(low..=high)
}
