//! Space comes back: what is still wanted of a segment moves to the end of the log, and the file goes.
//!
//! A segment is removed only after a checkpoint that does not build on it is durable. Until then nothing that it held
//! is lost, whenever the power is cut.

use super::super::{Key, StoreError};
use super::SeglogStore;
use super::checkpoint::IndexCheckpoint;
use super::frame::{self, Found, FrameKind, Frames};
use super::index::PlaceIndex;
use super::page::RecordPlace;
use super::record::{BlockRecord, NODE_BYTES, Record, encode_block, encode_delete, encode_put};
use super::segment::{self, Segment};
use super::tree;
use crate::env::{Planted, Point, Slip};

/// A frame of copies ends with the record that makes it this long.
const MOVE_BYTES: usize = 1024 * 1024;

/// The state of a compaction: which segment is being moved, and how far that is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moving {
    number: u32,
    offset: u64,
}

impl SeglogStore {
    pub(super) fn maintain_within(&mut self, budget_bytes: u64) -> Result<bool, StoreError> {
        if self.moving.is_none() {
            self.moving = self.next_to_move().map(|number| Moving {
                number,
                offset: segment::HEAD_BYTES,
            });
        }
        if let Some(moving) = self.moving {
            if let Err(error) = self.move_some(moving, budget_bytes) {
                // Not this segment again until the store is opened anew.
                self.unmovable.insert(moving.number);
                self.moving = None;
                return Err(error);
            }
            if self.moving.is_some() {
                return Ok(true);
            }
        }
        if self.since_checkpoint >= self.checkpoint_due() || !self.unwanted().is_empty() {
            self.checkpoint()?;
        }
        Ok(self.next_to_move().is_some())
    }

    /// Makes everything durable, writes the index, and removes the segments of which nothing is wanted.
    pub(super) fn checkpoint(&mut self) -> Result<(), StoreError> {
        if !self.settings.planted.has(Slip::CheckpointUnsynced) {
            self.sync_now()?;
        }
        let unwanted = self.unwanted();
        let wanted = self
            .sealed
            .iter()
            .filter(|(number, _)| !unwanted.contains(number));
        debug_assert!(
            self.usage.is_of(&self.view.index),
            "what is wanted of the segments was miscounted"
        );
        let checkpoint = IndexCheckpoint {
            salt: self.salt,
            seq: self.view.seq,
            segment: self.active.number(),
            offset: self.end,
            index: self.view.index.clone(),
            usage: super::index::Usage {
                planted: self.settings.planted,
                ..super::index::Usage::default()
            },
            sealed: wanted.map(|(number, length)| (*number, *length)).collect(),
        };
        let written = checkpoint.write(&*self.disk);
        self.checkpoint_bytes = self.fencing(written)?;
        self.since_checkpoint = 0;
        self.sights.note(Point::IndexWritten);
        self.sights.note_if(Point::SegmentRemoved, !unwanted.is_empty());
        for number in unwanted {
            let name = segment::name_of(number);
            let removed = self
                .disk
                .remove(&name)
                .map_err(|error| StoreError::io("remove", &name, error));
            self.fencing(removed)?;
            self.sealed.remove(&number);
            self.usage.segments.remove(&number);
            self.view.segments.remove(&number);
        }
        Ok(())
    }

    /// Segments into which no place points.
    fn unwanted(&self) -> Vec<u32> {
        let numbers = self.sealed.keys().copied();
        let places = |number: &u32| self.usage.segments.get(number).map_or(0, |live| live.places);
        let wanted = u64::from(self.settings.planted.has(Slip::LiveSegmentRemoved));
        numbers.filter(|number| places(number) <= wanted).collect()
    }

    pub(super) fn next_to_move(&self) -> Option<u32> {
        let fifths = self.settings.compaction_fifths;
        let worth = |(number, length): (&u32, &u64)| {
            let live = self.usage.segments.get(number).copied().unwrap_or_default();
            let little = live.bytes.saturating_mul(5) < length.saturating_mul(fifths);
            (live.places > 0 && little && !self.unmovable.contains(number)).then_some((live.bytes, *number))
        };
        self.sealed
            .iter()
            .filter_map(worth)
            .min()
            .map(|(_, number)| number)
    }

    fn move_some(&mut self, moving: Moving, budget_bytes: u64) -> Result<(), StoreError> {
        let Some(segment) = self.view.segments.get(&moving.number).cloned() else {
            self.moving = None;
            return Ok(());
        };
        let mut frames = Frames::new(segment.clone(), self.salt, moving.offset)?;
        frame::begin(&mut self.buffer);
        let mut more = true;
        while more && frames.offset() - moving.offset < budget_bytes.max(1) && self.buffer.len() < MOVE_BYTES
        {
            match frames.next()? {
                Found::Frame(frame) => {
                    for (at, decoded) in frame.records() {
                        let Some((record, length)) = decoded else {
                            return Err(segment.corrupt(at, "a record does not check out"));
                        };
                        let place = place_of(&segment, at, length)?;
                        self.view
                            .index
                            .copy(&mut self.buffer, &record, place, self.settings.planted);
                        if self.settings.planted.has(Slip::OlderCopyWins)
                            && let Record::Put { key, value } = &record
                            && self
                                .view
                                .index
                                .values
                                .get(key)
                                .is_some_and(|now| now.place != place)
                        {
                            encode_put(&mut self.buffer, key, value);
                        }
                    }
                }
                Found::End => more = false,
                Found::Nothing => return Err(segment.corrupt(frames.offset(), "a frame does not check out")),
            }
        }
        let offset = frames.offset();
        if self.buffer.len() > frame::HEAD_BYTES {
            self.write_frame(FrameKind::Move)?;
        }
        if more {
            self.moving = Some(Moving { offset, ..moving });
        } else {
            self.moving = None;
            self.sights.note(Point::CompactionRan);
            let left = self
                .usage
                .segments
                .get(&moving.number)
                .map_or(0, |live| live.places);
            if left > 0 {
                return Err(segment.corrupt(0, format!("{left} records of the index are not in the file")));
            }
        }
        Ok(())
    }
}

pub(super) fn place_of(segment: &Segment, at: u64, length: usize) -> Result<RecordPlace, StoreError> {
    match (u32::try_from(at), u32::try_from(length)) {
        (Ok(at), Ok(length)) => Ok(RecordPlace::new(segment.number(), at, length)),
        _ => Err(segment.corrupt(at, "a record lies beyond what a segment holds")),
    }
}

impl PlaceIndex {
    /// Writes again what is still wanted of a record.
    fn copy(&self, out: &mut Vec<u8>, record: &Record<'_>, place: RecordPlace, planted: Planted) {
        match record {
            Record::Block(record) => self.copy_block(out, record, place, planted),
            Record::Put {
                key: key @ Key::Tree(data, node),
                value,
            } => {
                if self
                    .line(*data)
                    .is_some_and(|line| line.nodes.get(*node) == place)
                {
                    encode_put(out, key, value);
                }
            }
            Record::Put { key, value } => {
                if self.values.get(key).is_some_and(|value| value.place == place) {
                    encode_put(out, key, value);
                }
            }
            Record::Delete { .. } | Record::DeleteRange { .. } => {}
        }
    }

    fn copy_block(&self, out: &mut Vec<u8>, record: &BlockRecord<'_>, place: RecordPlace, planted: Planted) {
        let Some(line) = self.line(record.data) else {
            return;
        };
        let current = line.blocks.get(record.index);
        if current.bare() == place {
            let block = record.block.filter(|_| !current.has(RecordPlace::BLOCK_GONE));
            let is_revived = planted.has(Slip::DeletedNodesMoved);
            let standing = (0..).zip(tree::completed(record.index)).filter(|(_, node)| {
                let stray = line.nodes.get(*node);
                let is_standing = stray == RecordPlace::NONE || (is_revived && !stray.is_record());
                !current.has(RecordPlace::NODES_GONE) && is_standing
            });
            let mut nodes: Vec<(u32, &[u8])> = standing
                .filter_map(|(depth, _)| Some((depth, record.node(depth)?)))
                .collect();
            if planted.has(Slip::TopNodeLeft) && nodes.len() > 1 {
                nodes.pop();
            }
            debug_assert!(nodes.iter().all(|(_, node)| node.len() == NODE_BYTES));
            encode_block(out, record.data, record.index, nodes.iter().copied(), block);
        }
        let stray = place.with(RecordPlace::IN_BLOCK);
        for (depth, node) in (0..).zip(tree::completed(record.index)) {
            if line.nodes.get(node) != stray {
                continue;
            }
            let key = Key::Tree(record.data, node);
            match record.node(depth) {
                Some(value) => encode_put(out, &key, value),
                // It never was there.
                None => encode_delete(out, &key),
            }
        }
    }
}
