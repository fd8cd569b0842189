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
mod tree;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

pub use salvage::{Report, Salvaged, salvage, verify};

use self::compaction::Moving;
use self::frame::{FrameKind, Frames};
use self::index::Usage;
use self::mark::Mark;
use self::page::SEGMENT_MAX;
use self::segment::{Segment, SegmentHead};
use self::view::IndexView;
use super::{
    Drawn, Key, Read, Recovered, Seq, Snapshot, Store, StoreBatch, StoreEngine, StoreError, SyncDone, SyncJob,
};
use crate::env::{Disk, DiskLock, Env, Planted, Point, Sights, Slip, knob};

/// The default engine.
///
/// ```
/// use autobee::env::memory::MemoryDisk;
/// use autobee::store::{Batch, DataPointer, Engine as _, Key, Seglog};
/// use std::sync::Arc;
///
/// let disk = Arc::new(MemoryDisk::default());
/// let key = Key::Block(DataPointer(1), 0);
/// let mut store = Seglog::default().open(disk.clone())?;
/// store.commit(Batch::default().put(key.clone(), &b"hello"[..]))?;
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
        let mut view = IndexView::default();
        view.segments.insert(active.number(), active.clone());
        Self {
            disk,
            settings: settings.clone(),
            salt,
            view,
            usage: Usage::default(),
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
            before: self.view.seq,
        };
        let next = Arc::new(Segment::create(&*self.disk, head, self.settings.planted)?);
        self.sealed.insert(self.active.number(), self.end);
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
        self.mark.write(&*self.disk, self.durable);
        Ok(self.durable)
    }

    fn seq(&self) -> Seq {
        self.view.seq
    }

    fn recovered(&self) -> &Recovered {
        &self.recovered
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

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use proptest::prelude::*;

    use super::super::DataPointer;
    use super::*;
    use crate::env::memory::MemoryDisk;
    use crate::env::{DiskFile, Open};

    fn small() -> Seglog {
        Seglog::default().segment_bytes(1024).checkpoint_bytes(1500)
    }

    /// A store of several segments and a checkpoint, with some log behind it.
    fn written(disk: &Arc<MemoryDisk>, close: bool) {
        let mut store = small().open(disk.clone()).unwrap();
        let data = DataPointer(1);
        for index in 0..30_u64 {
            let mut batch = StoreBatch::default();
            batch.put(Key::Block(data, index), vec![7; 60]);
            for depth in 0..=index.trailing_ones() {
                batch.put(Key::Tree(data, 2 * index + 1 - (1 << depth)), vec![1; 40]);
            }
            batch.put(Key::Head(data), vec![2; 300]);
            batch.delete_range(Key::Block(data, index / 2), Key::Block(data, index / 2 + 1));
            store.commit(&batch).unwrap();
            store.maintain(500).unwrap();
        }
        if close {
            store.close().unwrap();
        }
    }

    fn bytes_of(file: &dyn DiskFile) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(0, &mut bytes).unwrap();
        bytes
    }

    fn use_all(disk: &Arc<MemoryDisk>) {
        let _ = verify(&**disk);
        let Ok(mut store) = small().open(disk.clone()) else {
            return;
        };
        let _ = store.check();
        let _ = store.scan(
            &Key::StoreHead,
            &Key::Ext(vec![0xff].into()),
            true,
            &mut |_, _| ControlFlow::Continue(()),
        );
        let mut batch = StoreBatch::default();
        batch.delete_range(Key::Block(DataPointer(0), 0), Key::Mark(DataPointer(9), 0));
        batch.put(Key::Block(DataPointer(1), 3), vec![1; 3000]);
        let _ = store.commit(&batch);
        for _ in 0..5 {
            let _ = store.maintain(1 << 20);
        }
        let _ = store.close();
    }

    /// A log of ten durable commits in one segment, and where each ends.
    fn ten(disk: &Arc<MemoryDisk>) -> Vec<u64> {
        let mut store = Seglog::default().salt(9).open(disk.clone()).unwrap();
        let mut ends = Vec::new();
        for index in 0..10 {
            let key = Key::Block(DataPointer(1), index);
            store.commit(StoreBatch::default().put(key, vec![7; 50])).unwrap();
            store.sync().unwrap();
            ends.push(disk.open("00000001.segment", Open::Read).unwrap().len().unwrap());
        }
        ends
    }

    #[test]
    fn an_end_that_was_cut_off_is_said() {
        let disk = Arc::new(MemoryDisk::default());
        let ends = ten(&disk);
        let file = disk.open("00000001.segment", Open::Write).unwrap();
        file.truncate(ends[6] - 3).unwrap();
        let report = verify(&*disk).unwrap();
        assert_eq!(report.damages.len(), 1, "{report:?}");
        assert!(report.damages[0].what.contains("commits 7 to 10"), "{report:?}");
        let store = Seglog::default().open(disk.clone()).unwrap();
        let recovered = store.recovered();
        assert_eq!(recovered.missing, Some((Seq(7), Seq(10))));
        assert_eq!(recovered.torn_bytes, ends[6] - 3 - ends[5]);
        assert_eq!(recovered.checkpoint, None);
        assert_eq!(store.seq(), Seq(6));
    }

    #[test]
    fn what_was_never_durable_is_not_missed() {
        let disk = Arc::new(MemoryDisk::default());
        let ends = ten(&disk);
        let mut store = Seglog::default().open(disk.clone()).unwrap();
        let key = Key::Block(DataPointer(1), 10);
        store.commit(StoreBatch::default().put(key, vec![7; 50])).unwrap();
        drop(store);
        let file = disk.open("00000001.segment", Open::Write).unwrap();
        file.truncate(ends[9] + 5).unwrap();
        assert!(verify(&*disk).unwrap().is_sound());
        let store = Seglog::default().open(disk.clone()).unwrap();
        assert_eq!(store.recovered().missing, None);
        assert_eq!(store.recovered().torn_bytes, 5);
    }

    #[test]
    fn a_mark_that_does_not_check_out_says_nothing() {
        let disk = Arc::new(MemoryDisk::default());
        let ends = ten(&disk);
        let mark = disk.open(mark::NAME, Open::Write).unwrap();
        mark.write_at(17, &[IoSlice::new(&[0xff])]).unwrap();
        let file = disk.open("00000001.segment", Open::Write).unwrap();
        file.truncate(ends[6]).unwrap();
        let store = Seglog::default().open(disk.clone()).unwrap();
        assert_eq!(store.recovered(), &Recovered::default());
    }

    #[test]
    fn a_garbled_checkpoint_is_left_aside() {
        let disk = Arc::new(MemoryDisk::default());
        ten(&disk);
        let store = Seglog::default().open(disk.clone()).unwrap();
        store.close().unwrap();
        let file = disk.open(checkpoint::NAME, Open::Write).unwrap();
        for (offset, length) in [(0, 40), (14, 26), (30, 1), (5, 0)] {
            file.write_at(offset, &[IoSlice::new(&vec![0x55; length])])
                .unwrap();
            if length == 0 {
                file.truncate(offset).unwrap();
            }
            let store = Seglog::default().open(disk.clone()).unwrap();
            assert_eq!(store.seq(), Seq(10));
            assert!(store.recovered().checkpoint.is_some());
            let key = Key::Block(DataPointer(1), 4);
            assert_eq!(store.get(&key).unwrap().unwrap().len(), 50);
            drop(store);
            assert!(!verify(&*disk).unwrap().is_sound());
        }
        // The next one takes its place.
        let mut store = Seglog::default().open(disk.clone()).unwrap();
        store
            .commit(StoreBatch::default().put(Key::StoreHead, vec![1]))
            .unwrap();
        store.close().unwrap();
        let store = Seglog::default().open(disk).unwrap();
        assert_eq!((store.seq(), store.recovered()), (Seq(11), &Recovered::default()));
    }

    /// Where the log begins with a later segment, its state cannot be told without the checkpoint.
    #[test]
    fn a_garbled_checkpoint_without_the_first_segment_is_an_error() {
        let disk = Arc::new(MemoryDisk::default());
        written(&disk, true);
        assert!(!disk.list().unwrap().contains(&segment::name_of(1)));
        let file = disk.open(checkpoint::NAME, Open::Write).unwrap();
        file.write_at(20, &[IoSlice::new(&[0x55; 8])]).unwrap();
        assert!(matches!(
            small().open(disk).map(drop),
            Err(StoreError::Corrupt(damage)) if damage.file == checkpoint::NAME
        ));
    }

    /// A block of a peer that is full of heads of frames, behind the end of what was durable.
    #[test]
    fn a_torn_tail_of_heads_is_looked_through_once() {
        let mut block = vec![0_u8; 6 << 20];
        let size = block.len();
        for at in (0..size - 28).step_by(28) {
            block[at..at + 4].copy_from_slice(b"aBc\x01");
            let left = u32::try_from((size - at).saturating_sub(4096)).unwrap();
            block[at + 8..at + 12].copy_from_slice(&left.to_le_bytes());
            block[at + 20..at + 28].copy_from_slice(&u64::MAX.to_le_bytes());
        }
        let disk = Arc::new(MemoryDisk::default());
        let ends = ten(&disk);
        let mut store = Seglog::default().open(disk.clone()).unwrap();
        let key = Key::Block(DataPointer(2), 0);
        store.commit(StoreBatch::default().put(key, block)).unwrap();
        drop(store);
        let file = disk.open("00000001.segment", Open::Write).unwrap();
        file.truncate(file.len().unwrap() - 64).unwrap();
        let store = Seglog::default().open(disk.clone()).unwrap();
        assert_eq!(store.seq(), Seq(10));
        assert_eq!(
            disk.open("00000001.segment", Open::Read).unwrap().len().unwrap(),
            ends[9]
        );
    }

    /// Frames of any length are found behind anything.
    #[test]
    fn a_frame_behind_damage_is_found() {
        for size in [10, 900, 1_100, 70_000] {
            let disk = Arc::new(MemoryDisk::default());
            let ends = ten(&disk);
            let mut store = Seglog::default().open(disk.clone()).unwrap();
            for index in 0..2 {
                let key = Key::Block(DataPointer(2), index);
                store
                    .commit(StoreBatch::default().put(key, vec![5; size]))
                    .unwrap();
                store.sync().unwrap();
            }
            drop(store);
            let file = disk.open("00000001.segment", Open::Write).unwrap();
            // The first of the two is damaged; the second says that it was durable.
            file.write_at(ends[9] + 30, &[IoSlice::new(&[0xee])]).unwrap();
            assert!(
                matches!(
                    Seglog::default().open(disk).map(drop),
                    Err(StoreError::Corrupt(damage)) if damage.offset == ends[9]
                ),
                "{size}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        /// A checkpoint whose checksum fits and whose contents make no sense: errors, but no panic and no giant
        /// allocation.
        #[test]
        fn a_senseless_checkpoint_does_no_harm(edits in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
            let disk = Arc::new(MemoryDisk::default());
            written(&disk, true);
            let file = disk.open(checkpoint::NAME, Open::Write).unwrap();
            let mut bytes = bytes_of(&*file);
            let items = 12 + 8..bytes.len();
            for (at, byte) in edits {
                let at = items.start + at % items.len();
                bytes[at] = byte;
            }
            let crc = checkpoint::chunk_crc(1, 0, &bytes[items]);
            bytes[16..20].copy_from_slice(&crc.to_le_bytes());
            file.write_at(0, &[IoSlice::new(&bytes)]).unwrap();
            use_all(&disk);
        }

        /// The same for a frame of the log: one record's bytes changed, all checksums right.
        #[test]
        fn a_senseless_frame_does_no_harm(records in proptest::collection::vec((0..7_u8, 0..40_u64, 0..80_u64, any::<u64>()), 1..6)) {
            let disk = Arc::new(MemoryDisk::default());
            written(&disk, true);
            let mut store = small().open(disk.clone()).unwrap();
            let (seq, durable) = (store.seq(), store.durable());
            store.commit(StoreBatch::default().put(Key::StoreHead, vec![1])).unwrap();
            drop(store);
            let name = disk.list().unwrap().into_iter().rfind(|name| segment::number_of(name).is_some()).unwrap();
            let number = segment::number_of(&name).unwrap();
            let file = disk.open(&name, Open::Write).unwrap();
            let length = file.len().unwrap();
            let head_record = 28 + 1 + 1 + 1 + 1 + 4 + 1;
            let at = length - head_record;
            let mut out = Vec::new();
            frame::begin(&mut out);
            for (kind, low, high, any) in records {
                let data = DataPointer(any % 3);
                let node = [any.to_le_bytes()[0]; 40];
                match kind {
                    0 => record::encode_block(&mut out, data, low, [(0, &node[..])].into_iter(), None),
                    1 => record::encode_block(&mut out, data, any, std::iter::empty(), Some(&node)),
                    2 => record::encode_put(&mut out, &Key::Tree(data, any), &node[..3]),
                    3 => record::encode_put(&mut out, &Key::Block(data, low), &node),
                    4 => record::encode_delete(&mut out, &Key::Tree(data, any)),
                    5 => record::encode_delete_range(&mut out, &Key::Tree(data, low), &Key::Tree(data, high)),
                    _ => record::encode_delete_range(&mut out, &Key::Block(data, high), &Key::Block(data, low)),
                }
            }
            let kind = if seq.0 % 2 == 0 { FrameKind::Commit } else { FrameKind::Move };
            frame::finish(&mut out, kind, Seq(seq.0 + 1), durable, 0, (number, at)).unwrap();
            file.truncate(at).unwrap();
            file.write_at(at, &[IoSlice::new(&out)]).unwrap();
            let store = small().open(disk.clone()).unwrap();
            assert_eq!(store.seq(), Seq(seq.0 + 1), "the frame was taken");
            drop(store);
            use_all(&disk);
        }
    }
}
