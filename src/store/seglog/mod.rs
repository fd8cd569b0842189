//! One log for all cores of a store, in segments.
//!
//! A commit is one frame and one write, over any number of cores, and one sync makes it durable. After any crash all
//! cores are cut at the same point of one history, so a view is never ahead of the input that it came from. Twelve
//! bytes of index a block stay in memory; nodes of the tree need none, they stand with the block that completes them.
//!
//! Files of a directory: `00000001.segment` and so on, `checkpoint`, `checkpoint.new` while one is written, and `durable`.

mod cache;
mod checkpoint;
mod compaction;
mod encode;
mod frame;
mod index;
mod mark;
mod page;
mod record;
mod recovery;
mod salvage;
mod segment;
#[cfg(test)]
mod tests;
mod tree;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

pub use self::mark::marked;
pub use salvage::{Report, Salvaged, salvage, verify};

use self::cache::ReadCache;
use self::compaction::Moving;
use self::frame::{FrameKind, Frames};
use self::index::Usage;
use self::mark::Mark;
use self::page::SEGMENT_MAX;
use self::segment::{Segment, SegmentHead};
use self::view::IndexView;
use super::{
    Drawn, Key, Read, Recovered, Seq, Snapshot, Space, Store, StoreBatch, StoreEngine, StoreError, SyncDone,
    SyncJob,
};
use crate::env::{Disk, DiskLock, Env, Planted, Point, Sights, Slip, knob};

/// The default engine.
///
/// ```
/// use autobee::env::memory::MemoryDisk;
/// use autobee::store::{StoreBatch, DataPointer, StoreEngine as _, Key, Seglog};
/// use std::sync::Arc;
///
/// let disk = Arc::new(MemoryDisk::default());
/// let key = Key::Block(DataPointer(1), 0);
/// let mut store = Seglog::default().open(disk.clone())?;
/// store.commit(StoreBatch::default().put(key.clone(), &b"hello"[..]))?;
/// store.sync()?;
/// drop(store); // as good as a crash
///
/// let store = Seglog::default().open(disk)?;
/// assert_eq!(store.get(&key)?.unwrap(), "hello");
/// # Ok::<_, autobee::store::StoreError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Seglog {
    segment_bytes: u64,
    checkpoint_bytes: u64,
    compaction_fifths: u64,
    salt: Option<u64>,
    is_still: bool,
    planted: Planted,
}

impl Default for Seglog {
    /// Segments of 64 MiB, a checkpoint each 128 MiB; the salt is drawn where there is an environment, else there is none.
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            checkpoint_bytes: 128 * 1024 * 1024,
            compaction_fifths: 2,
            salt: None,
            is_still: false,
            planted: Planted::default(),
        }
    }
}

impl Seglog {
    /// A segment that is this long is followed by another; between 1 KiB and 1 GiB. Large stores use longer ones, to
    /// open fewer files.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes.clamp(1024, SEGMENT_BYTES_MAX);
        self
    }

    /// After this much of the log the index is written. It bounds what an opening reads.
    #[must_use]
    pub fn checkpoint_bytes(mut self, bytes: u64) -> Self {
        self.checkpoint_bytes = bytes.max(1);
        self
    }

    /// A segment of which fewer fifths than this are wanted is moved to the end of the log; 1 to 3, 2 by default.
    #[must_use]
    pub fn compaction_fifths(mut self, fifths: u64) -> Self {
        self.compaction_fifths = fifths.clamp(1, 3);
        self
    }

    /// The numbers that a simulator chose for this run; elsewhere they stay as they are.
    #[must_use]
    pub fn tuned<E: Env>(self, env: &E) -> Self {
        if !E::SIM {
            return self;
        }
        let usual = self.clone();
        self.segment_bytes(knob::STORE_SEGMENT_BYTES.of(env, usual.segment_bytes))
            .checkpoint_bytes(knob::STORE_CHECKPOINT_BYTES.of(env, usual.checkpoint_bytes))
            .compaction_fifths(knob::STORE_COMPACTION_FIFTHS.of(env, usual.compaction_fifths))
    }

    /// No housekeeping: nothing is moved, and no index is written. For stores whose changes do not stay.
    #[must_use]
    pub const fn still(mut self) -> Self {
        self.is_still = true;
        self
    }

    /// A random number for a new store, which goes into every checksum: who does not know it cannot write a block
    /// that looks like a frame.
    #[must_use]
    pub const fn salt(mut self, salt: u64) -> Self {
        self.salt = Some(salt);
        self
    }
}

impl StoreEngine for Seglog {
    fn open(&self, disk: Arc<dyn Disk>) -> Result<Box<dyn Store>, StoreError> {
        let lock = super::lock(&*disk)?;
        Ok(Box::new(recovery::open(disk, self, lock)?))
    }

    fn open_in(&self, disk: Arc<dyn Disk>, drawn: Drawn) -> Result<Box<dyn Store>, StoreError> {
        Self {
            planted: drawn.planted,
            salt: self.salt.or(Some(drawn.salt)),
            ..self.clone()
        }
        .open(disk)
    }

    fn keeps_visible(&self) -> bool {
        true
    }
}

/// Offsets in a segment have 32 bits, and a frame of up to 1 GiB may still be added to a segment of this length.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// A store has about this many segments before they grow.
const SEGMENTS_WANTED: u64 = 128;

struct SeglogStore {
    disk: Arc<dyn Disk>,
    settings: Seglog,
    salt: u64,
    view: IndexView,
    usage: Usage,
    /// Finished segments with their lengths.
    sealed: BTreeMap<u32, u64>,
    /// The segment that grows, and where its next frame goes.
    active: Arc<Segment>,
    end: u64,
    durable: Seq,
    /// Up to here a finished segment was synced, while another sync was under way whose failure would tell more.
    sealed_seq: Seq,
    syncs_under_way: u32,
    fenced: bool,
    since_checkpoint: u64,
    checkpoint_bytes: u64,
    moving: Option<Moving>,
    unmovable: BTreeSet<u32>,
    buffer: Vec<u8>,
    sights: Sights,
    mark: Mark,
    recovered: Recovered,
    _lock: DiskLock,
}

impl SeglogStore {
    fn new(
        disk: Arc<dyn Disk>,
        settings: &Seglog,
        salt: u64,
        lock: DiskLock,
        (active, end): (Arc<Segment>, u64),
    ) -> Self {
        let mut view = IndexView {
            cache: Arc::new(ReadCache::planted(settings.planted)),
            ..IndexView::default()
        };
        view.segments.insert(active.number(), active.clone());
        Self {
            disk,
            settings: settings.clone(),
            salt,
            view,
            usage: Usage {
                planted: settings.planted,
                ..Usage::default()
            },
            sealed: BTreeMap::new(),
            active,
            end,
            durable: Seq(0),
            sealed_seq: Seq(0),
            syncs_under_way: 0,
            fenced: false,
            since_checkpoint: 0,
            checkpoint_bytes: 0,
            moving: None,
            unmovable: BTreeSet::new(),
            buffer: Vec::new(),
            sights: Sights::default(),
            mark: Mark::new(salt),
            recovered: Recovered::default(),
            _lock: lock,
        }
    }

    fn check_fence(&self) -> Result<(), StoreError> {
        if self.fenced {
            Err(StoreError::Fenced)
        } else {
            Ok(())
        }
    }

    /// After an error nobody knows what is on the disk.
    fn fencing<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.fenced |= result.is_err();
        result
    }

    /// Adds the frame whose records are in the buffer, and takes them in.
    fn write_frame(&mut self, kind: FrameKind) -> Result<Seq, StoreError> {
        let seq = Seq(self.view.seq.0 + 1);
        let room = self.segment_target().saturating_sub(self.end);
        let mut before = None;
        if self.end > segment::HEAD_BYTES && self.buffer.len() as u64 > room {
            before = Some(self.active.clone());
            let rolled = self.roll();
            self.fencing(rolled)?;
        }
        let at = (self.active.number(), self.end);
        let indexed = match before.filter(|_| self.settings.planted.has(Slip::StaleSegmentIndexed)) {
            Some(before) => before,
            None => self.active.clone(),
        };
        frame::finish(&mut self.buffer, kind, seq, self.durable, self.salt, at)?;
        let written = self.active.write(self.end, &self.buffer);
        self.fencing(written)?;
        let first = self.end + frame::HEAD_BYTES as u64;
        for (at, decoded) in frame::records(&self.buffer[frame::HEAD_BYTES..], first) {
            if let Some((record, length)) = decoded {
                let place = match compaction::place_of(&indexed, at, length) {
                    Ok(place) => place,
                    Err(error) => {
                        self.fenced = true;
                        return Err(error);
                    }
                };
                self.view.index.apply(&mut self.usage, kind, &record, place);
            }
        }
        let length = self.buffer.len() as u64;
        self.end += length;
        self.since_checkpoint += length;
        self.view.seq = seq;
        Ok(seq)
    }

    fn segment_target(&self) -> u64 {
        let sealed: u64 = self.sealed.values().sum();
        (sealed / SEGMENTS_WANTED).clamp(self.settings.segment_bytes, SEGMENT_BYTES_MAX)
    }

    /// Finishes the segment and begins the next. The old one is durable before the new one exists.
    fn roll(&mut self) -> Result<(), StoreError> {
        if !self.settings.planted.has(Slip::SealedUnsynced) {
            self.active.sync()?;
        }
        self.sealed_seq = self.view.seq;
        if self.syncs_under_way == 0 {
            self.durable = self.view.seq;
        }
        let number = self.active.number() + 1;
        if number > SEGMENT_MAX {
            return Err(StoreError::Invalid(
                "a store of more segments than can be numbered",
            ));
        }
        let head = SegmentHead {
            number,
            salt: self.salt,
            before: match self.settings.planted.has(Slip::HeadBehindDurable) {
                true => self.durable,
                false => self.view.seq,
            },
        };
        let next = Arc::new(Segment::create(&*self.disk, head, self.settings.planted)?);
        let length = match self.settings.planted.has(Slip::SealedShort) {
            true => segment::HEAD_BYTES,
            false => self.end,
        };
        self.sealed.insert(self.active.number(), length);
        self.view.segments.insert(number, next.clone());
        self.active = next;
        self.sights.note(Point::SegmentRolled);
        self.end = segment::HEAD_BYTES;
        Ok(())
    }

    fn sync_now(&mut self) -> Result<(), StoreError> {
        self.check_fence()?;
        if self.durable < self.view.seq {
            let synced = self.active.sync();
            self.fencing(synced)?;
            self.durable = self.view.seq;
            self.mark.write(&*self.disk, self.durable);
        }
        Ok(())
    }

    fn checkpoint_due(&self) -> u64 {
        self.settings
            .checkpoint_bytes
            .max(self.checkpoint_bytes.saturating_mul(4))
    }
}

impl Read for SeglogStore {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.view.get(key)
    }

    fn contains(&self, key: &Key) -> Result<bool, StoreError> {
        self.view.contains(key)
    }

    fn scan(
        &self,
        from: &Key,
        to: &Key,
        reverse: bool,
        visit: &mut dyn FnMut(Key, Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.view.scan(from, to, reverse, visit)
    }
}

impl Store for SeglogStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(Box::new(self.view.clone()))
    }

    fn commit(&mut self, batch: &StoreBatch) -> Result<Seq, StoreError> {
        self.check_fence()?;
        self.sights
            .note_if(Point::CommitDuringSync, self.syncs_under_way > 0);
        frame::begin(&mut self.buffer);
        encode::encode_batch(&mut self.buffer, batch);
        self.write_frame(FrameKind::Commit)
    }

    fn begin_sync(&mut self) -> Result<Option<SyncJob>, StoreError> {
        self.check_fence()?;
        if self.durable == self.view.seq {
            return Ok(None);
        }
        self.syncs_under_way += 1;
        let segment = self.active.clone();
        if self.settings.planted.has(Slip::FailedSyncRetried) {
            let again = move || segment.sync().or_else(|_| segment.sync());
            return Ok(Some(SyncJob::new(self.view.seq, again)));
        }
        Ok(Some(SyncJob::new(self.view.seq, move || segment.sync())))
    }

    fn end_sync(&mut self, done: SyncDone) -> Result<Seq, StoreError> {
        self.check_fence()?;
        self.syncs_under_way = self.syncs_under_way.saturating_sub(1);
        let outcome = done.into_outcome();
        let outcome = if self.settings.planted.has(Slip::FailedCounts) {
            outcome.or(Ok(self.view.seq))
        } else {
            outcome
        };
        self.sights.note_if(Point::SyncFenced, outcome.is_err());
        let seq = self.fencing(outcome)?;
        self.durable = self.durable.max(seq);
        if self.settings.planted.has(Slip::SyncCoversLater) {
            self.durable = self.view.seq;
        }
        if self.syncs_under_way == 0 {
            self.durable = self.durable.max(self.sealed_seq);
        }
        let marked = match self.settings.planted.has(Slip::MarkAheadOfSync) {
            true => self.view.seq,
            false => self.durable,
        };
        if !self.settings.planted.has(Slip::MarkWithIndex) {
            self.mark.write(&*self.disk, marked);
        }
        Ok(self.durable)
    }

    fn seq(&self) -> Seq {
        self.view.seq
    }

    fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    fn space(&self) -> Option<Space> {
        let sealed: u64 = self.sealed.values().sum();
        Some(Space {
            bytes: sealed + self.end,
            wanted_bytes: self.usage.segments.values().map(|live| live.bytes).sum(),
            is_shrinking: !self.settings.is_still && (self.moving.is_some() || self.next_to_move().is_some()),
        })
    }

    fn take_sights(&mut self) -> Sights {
        self.sights.take()
    }

    fn durable(&self) -> Seq {
        self.durable
    }

    fn maintain(&mut self, budget_bytes: u64) -> Result<bool, StoreError> {
        self.check_fence()?;
        if self.settings.is_still {
            return Ok(false);
        }
        self.maintain_within(budget_bytes)
    }

    fn check(&self) -> Result<(), StoreError> {
        self.check_fence()?;
        for segment in self.view.segments.values() {
            recovery::check_head(segment, self.salt)?;
            let mut frames = Frames::new(segment.clone(), self.salt, segment::HEAD_BYTES)?;
            salvage::check_frames(segment, &mut frames)?;
        }
        // What was read before counts for nothing.
        let view = IndexView {
            cache: Arc::default(),
            ..self.view.clone()
        };
        view.each_value(&mut |_, value| value.map(drop))
    }

    fn close(mut self: Box<Self>) -> Result<(), StoreError> {
        self.check_fence()?;
        if self.since_checkpoint > 0 && !self.settings.is_still {
            self.checkpoint()?;
        }
        Ok(())
    }
}
