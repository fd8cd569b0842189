//! One state of the log: what is where, and the files where it is.

use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use bytes::Bytes;

use super::super::key::KeyPrefix;
use super::super::{DataPointer, Key, Read, Seq, Snapshot, StoreError};
use super::cache::{AHEAD_BYTES, AHEAD_RECORD_BYTES, ReadAhead, ReadCache};
use super::index::{PlaceIndex, Value, node_part_bytes, span};
use super::page::RecordPlace;
use super::record::{BlockRecord, Record};
use super::segment::{Segment, Segments};
use super::tree;

/// A state to read. Cloning costs nothing.
#[derive(Clone, Default)]
pub(super) struct IndexView {
    pub(super) index: PlaceIndex,
    pub(super) segments: Segments,
    pub(super) seq: Seq,
    /// Shared with all other states of the store.
    pub(super) cache: Arc<ReadCache>,
}

impl IndexView {
    fn segment(&self, place: RecordPlace) -> Result<&Segment, StoreError> {
        self.segments
            .get(&place.segment())
            .map(|segment| &**segment)
            .ok_or_else(|| {
                let name = super::segment::name_of(place.segment());
                StoreError::corrupt(&name, u64::from(place.offset), "the file is missing")
            })
    }

    fn block(&self, data: DataPointer, index: u64) -> Result<Option<Bytes>, StoreError> {
        let place = self
            .index
            .line(data)
            .map_or(RecordPlace::NONE, |line| line.blocks.get(index));
        if !place.is_record() || place.has(RecordPlace::BLOCK_GONE) {
            return Ok(None);
        }
        let segment = self.segment(place)?;
        let bytes = match place.length {
            ..=AHEAD_RECORD_BYTES => self.read_in_a_row(segment, place, data, index)?,
            _ => segment.read_place(place, u64::MAX)?.into(),
        };
        match Record::decode(&bytes) {
            Some((Record::Block(record), _)) if (record.data, record.index) == (data, index) => {
                if record.mask != 0 {
                    self.cache.keep(place, &record);
                }
                let Some(block) = record.block else {
                    return Ok(None);
                };
                // A small block that is kept for long must not keep all that was read with it.
                Ok(Some(match place.length {
                    ..=AHEAD_RECORD_BYTES => Bytes::copy_from_slice(block),
                    _ => bytes.slice_ref(block),
                }))
            }
            _ => Err(bad_record(segment, place, &Key::Block(data, index))),
        }
    }

    /// Reads the record of a block, and those of the blocks after it when blocks are read one after the other.
    fn read_in_a_row(
        &self,
        segment: &Segment,
        place: RecordPlace,
        data: DataPointer,
        index: u64,
    ) -> Result<Bytes, StoreError> {
        let alone = match self.cache.block(place, data, index) {
            ReadAhead::Read(bytes) => return Ok(bytes),
            ReadAhead::Next => false,
            ReadAhead::Alone => true,
        };
        let mut end = place.end();
        let line = self.index.line(data).filter(|_| !alone);
        // Everything up to the end of a known record is written, and stays.
        let later = line.map(|line| {
            line.blocks
                .range(index.saturating_add(1)..=index.saturating_add(AHEAD_BYTES))
        });
        for (_, later) in later.into_iter().flatten() {
            let fits = later.segment() == place.segment()
                && u64::from(later.offset) >= end
                && later.end() <= u64::from(place.offset) + AHEAD_BYTES;
            if !fits {
                break;
            }
            end = later.end();
        }
        if end == place.end() {
            return Ok(segment.read_place(place, u64::MAX)?.into());
        }
        let length = end - u64::from(place.offset);
        let piece = RecordPlace::new(
            place.segment(),
            place.offset,
            u32::try_from(length).unwrap_or(u32::MAX),
        );
        // Damage behind the record is not its own.
        let Ok(bytes) = segment.read_place(piece, AHEAD_BYTES).map(Bytes::from) else {
            return Ok(segment.read_place(place, u64::MAX)?.into());
        };
        self.cache.keep_ahead(place, data, index, bytes.clone());
        Ok(bytes.slice(..bytes.len().min(place.length as usize)))
    }

    fn node(&self, data: DataPointer, node: u64) -> Result<Option<Bytes>, StoreError> {
        let Some(line) = self.index.line(data) else {
            return Ok(None);
        };
        let stray = line.nodes.get(node);
        if stray == RecordPlace::HIDDEN {
            return Ok(None);
        }
        let key = Key::Tree(data, node);
        if stray.is_record() && !stray.has(RecordPlace::IN_BLOCK) {
            return self.value(&key, stray).map(Some);
        }
        let Some((block, depth)) = tree::completer(node) else {
            return Ok(None);
        };
        let place = match stray.is_record() {
            true => Some(stray),
            false => line.nodes_with(block),
        };
        let Some(place) = place else {
            return Ok(None);
        };
        if let Some(known) = self.cache.node(place, (data, block), depth) {
            return Ok(known);
        }
        let segment = self.segment(place)?;
        let bytes = segment.read_place(place, node_part_bytes(block))?;
        match BlockRecord::decode_nodes(&bytes) {
            Some(record) if (record.data, record.index) == (data, block) => {
                self.cache.keep(place, &record);
                Ok(record.node(depth).map(Bytes::copy_from_slice))
            }
            _ => Err(bad_record(segment, place, &key)),
        }
    }

    /// The value of a record that stands alone.
    fn value(&self, key: &Key, place: RecordPlace) -> Result<Bytes, StoreError> {
        let segment = self.segment(place)?;
        let bytes = segment.read_place(place, u64::MAX)?;
        match Record::decode(&bytes) {
            Some((Record::Put { key: found, value }, _)) if found == *key => {
                let start = bytes.len() - value.len();
                Ok(Bytes::from(bytes).slice(start..))
            }
            _ => Err(bad_record(segment, place, key)),
        }
    }

    fn known(&self, key: &Key, value: &Value) -> Result<Bytes, StoreError> {
        match &value.inline {
            Some(bytes) => Ok(bytes.clone()),
            None => self.value(key, value.place),
        }
    }

    /// All nodes of a line in a range that may have a value, in order.
    fn node_candidates(&self, data: DataPointer, range: &RangeInclusive<u64>) -> Vec<u64> {
        let Some(line) = self.index.line(data) else {
            return Vec::new();
        };
        let strays = line.nodes.range(range.clone());
        let mut nodes: Vec<u64> = strays
            .filter(|(_, place)| place.is_record())
            .map(|(node, _)| node)
            .collect();
        for (index, place) in line.blocks.range(range.start().div_ceil(2)..=u64::MAX) {
            if !place.has(RecordPlace::NODES_GONE) {
                nodes.extend(tree::completed(index).filter(|node| range.contains(node)));
            }
        }
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// Shows every value there is, or why it cannot be read.
    pub(super) fn each_value(
        &self,
        visit: &mut dyn FnMut(Key, Result<Bytes, StoreError>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for (key, value) in &self.index.values {
            // The record, even where its value is in memory.
            visit(key.clone(), self.value(key, value.place))?;
        }
        let mut show = |key: Key| match self.get(&key).transpose() {
            Some(value) => visit(key, value),
            None => Ok(()),
        };
        for (data, line) in &self.index.lines {
            for (index, _) in line.blocks.range(0..=u64::MAX) {
                show(Key::Block(*data, index))?;
            }
            for node in self.node_candidates(*data, &(0..=u64::MAX)) {
                show(Key::Tree(*data, node))?;
            }
        }
        Ok(())
    }

    /// The keys that may have a value in a range, one kind after the other, in order. A visit gets them one by one.
    fn each_key(
        &self,
        from: &Key,
        to: &Key,
        reverse: bool,
        visit: &mut dyn FnMut(Key) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        // The lines cut the other keys into stretches: those before the blocks of a line, and those after its nodes.
        let mut stretches = Vec::new();
        let mut from = from.clone();
        for data in self.index.lines_between(&from, to) {
            let blocks = span(&from, to, KeyPrefix::blocks(data));
            let nodes = span(&from, to, KeyPrefix::nodes(data));
            if blocks.is_none() && nodes.is_none() {
                continue;
            }
            let first = Key::Block(data, 0);
            if from < first {
                stretches.push(Stretch::Values(from.clone(), first));
            }
            stretches.extend(blocks.map(|range| Stretch::Blocks(data, range)));
            stretches.extend(nodes.map(|range| Stretch::Nodes(data, range)));
            from = from.max(Key::Bitfield(data, 0));
        }
        if from < *to {
            stretches.push(Stretch::Values(from, to.clone()));
        }
        if reverse {
            stretches.reverse();
        }
        for stretch in stretches {
            if self.each_key_of(stretch, reverse, visit)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn each_key_of(
        &self,
        stretch: Stretch,
        reverse: bool,
        visit: &mut dyn FnMut(Key) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let mut all = |keys: &mut dyn Iterator<Item = Key>| {
            for key in keys {
                if visit(key)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        };
        match stretch {
            Stretch::Values(from, to) => {
                let mut keys = self.index.values.range(from..to).map(|(key, _)| key.clone());
                if reverse {
                    all(&mut keys.rev())
                } else {
                    all(&mut keys)
                }
            }
            Stretch::Blocks(data, range) => {
                let Some(line) = self.index.line(data) else {
                    return Ok(ControlFlow::Continue(()));
                };
                let key = |(index, place): (u64, RecordPlace)| {
                    (!place.has(RecordPlace::BLOCK_GONE)).then_some(Key::Block(data, index))
                };
                if reverse {
                    all(&mut line.blocks.range_back(range).filter_map(key))
                } else {
                    all(&mut line.blocks.range(range).filter_map(key))
                }
            }
            Stretch::Nodes(data, range) => {
                let nodes = self.node_candidates(data, &range);
                let mut keys = nodes.into_iter().map(|node| Key::Tree(data, node));
                if reverse {
                    all(&mut keys.rev())
                } else {
                    all(&mut keys)
                }
            }
        }
    }
}

enum Stretch {
    Values(Key, Key),
    Blocks(DataPointer, RangeInclusive<u64>),
    Nodes(DataPointer, RangeInclusive<u64>),
}

impl Read for IndexView {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        match key {
            Key::Block(data, index) => self.block(*data, *index),
            Key::Tree(data, node) => self.node(*data, *node),
            _ => {
                let value = self.index.values.get(key);
                value.map(|value| self.known(key, value)).transpose()
            }
        }
    }

    fn contains(&self, key: &Key) -> Result<bool, StoreError> {
        match key {
            Key::Block(data, index) => {
                let place = self
                    .index
                    .line(*data)
                    .map_or(RecordPlace::NONE, |line| line.blocks.get(*index));
                Ok(place.is_record() && !place.has(RecordPlace::BLOCK_GONE))
            }
            Key::Tree(..) => Ok(self.get(key)?.is_some()),
            _ => Ok(self.index.values.contains_key(key)),
        }
    }

    fn scan(
        &self,
        from: &Key,
        to: &Key,
        reverse: bool,
        visit: &mut dyn FnMut(Key, Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        self.each_key(from, to, reverse, &mut |key| {
            Ok(match self.get(&key)? {
                Some(value) => visit(key, value),
                None => ControlFlow::Continue(()),
            })
        })
    }
}

impl Snapshot for IndexView {
    fn seq(&self) -> Seq {
        self.seq
    }
}

fn bad_record(segment: &Segment, place: RecordPlace, key: &Key) -> StoreError {
    segment.corrupt(
        u64::from(place.offset),
        format!("the record of {key:?} does not check out"),
    )
}
