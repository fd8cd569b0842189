//! Opening: the checkpoint, then every frame behind it, up to where a crash tore the log off.
//!
//! What a crash leaves behind is cut and forgotten; what was durable and is not as it was is an error. Both look alike
//! where the log stops making sense. The difference is made by what stands behind: a segment is synced before the
//! next one is begun, and every frame says up to which commit all were durable when it was written. If anything
//! behind vouches for what is missing, it is damage.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;

use super::super::{Recovered, Seq, StoreError};
use super::cache::ReadCache;
use super::checkpoint::{self, IndexCheckpoint};
use super::frame::{CheckedFrame, Found, Frames};
use super::index::Usage;
use super::page::RecordPlace;
use super::segment::{self, Segment, SegmentHead};
use super::view::IndexView;
use super::{Seglog, SeglogStore, mark};
use crate::env::{Disk, DiskLock, Open, Planted, Point, Sights, Slip};

/// Opens the log of a directory, or begins one.
pub(super) fn open(
    disk: Arc<dyn Disk>,
    settings: &Seglog,
    lock: DiskLock,
) -> Result<SeglogStore, StoreError> {
    let mut numbers = segment_numbers(&*disk)?;
    remove_if_there(&*disk, checkpoint::NEW_NAME)?;
    let mut recovered = Recovered::default();
    let checkpoint = match IndexCheckpoint::read(&*disk) {
        // All of the log is there, so nothing is lost without it.
        Err(StoreError::Corrupt(damage)) if is_whole(&numbers) => {
            recovered.checkpoint = Some(damage);
            None
        }
        read => read?,
    };
    let start = checkpoint.unwrap_or_else(|| IndexCheckpoint {
        salt: settings.salt.unwrap_or(0),
        segment: 1,
        ..IndexCheckpoint::default()
    });
    drop_torn_creation(&*disk, &start, &mut numbers)?;
    if numbers.is_empty() && start.offset == 0 {
        if let Some(Seq(durable @ 1..)) = mark::marked(&*disk) {
            let what = format!("{durable} commits were durable here, and no segment is left");
            return Err(StoreError::corrupt(mark::NAME, 0, what));
        }
        return create(disk, settings, lock);
    }
    let mut sights = Sights::default();
    sights.note_if(Point::IndexRead, start.offset > 0);
    let mut recovery = Recovery::begin(&*disk, start, &numbers)?;
    recovery.planted = settings.planted;
    recovery.usage.planted = settings.planted;
    let last = numbers.last().copied().unwrap_or(0);
    let mut number = recovery.position.0;
    let (segment, end) = loop {
        let (segment, end) = recovery.read_segment(&*disk, number, number == last)?;
        if number == last {
            break (segment, end);
        }
        recovery.sealed.insert(number, end);
        number += 1;
    };
    // What is in the cache only, and the names, become durable before anything is built on them.
    if segment.length()? > end {
        sights.note(Point::TornTailCut);
        recovered.torn_bytes = segment.length()? - end;
        if !settings.planted.has(Slip::TornEndLeft) {
            segment.truncate(end)?;
        }
    }
    if !settings.planted.has(Slip::RecoveryUnsynced) {
        write_again(&segment, recovery.vouched_end..end)?;
        segment.sync()?;
        disk.sync_dir()
            .map_err(|error| StoreError::io("sync", "the directory", error))?;
    }
    let Recovery {
        view,
        usage,
        sealed,
        salt,
        read_bytes,
        ..
    } = recovery;
    let durable = view.seq;
    let marked = mark::read(&*disk, salt);
    let ahead = marked.filter(|marked| *marked > durable);
    recovered.missing = ahead.map(|marked| (Seq(durable.0 + 1), marked));
    let mut store = SeglogStore::new(disk, settings, salt, lock, (segment, end));
    store.view = IndexView {
        segments: store.view.segments.union(view.segments.clone()),
        ..view
    };
    store.view.cache = Arc::new(ReadCache::planted(settings.planted));
    store.usage = usage;
    store.sealed = sealed;
    store.durable = durable;
    store.sights = sights;
    store.recovered = recovered;
    store.since_checkpoint = read_bytes;
    // What an earlier process left in the cache is durable now. A mark that is ahead stays, until somebody has seen it.
    if !settings.is_still && marked.is_none_or(|marked| marked < durable) {
        store.mark.write(&*store.disk, durable);
    }
    Ok(store)
}

fn create(disk: Arc<dyn Disk>, settings: &Seglog, lock: DiskLock) -> Result<SeglogStore, StoreError> {
    let salt = settings.salt.unwrap_or(0);
    let head = SegmentHead {
        number: 1,
        salt,
        before: Seq(0),
    };
    let segment = Arc::new(Segment::create(&*disk, head, settings.planted)?);
    let end = segment::HEAD_BYTES;
    Ok(SeglogStore::new(disk, settings, salt, lock, (segment, end)))
}

/// True when no segment is missing from the first one on.
fn is_whole(numbers: &BTreeSet<u32>) -> bool {
    !numbers.is_empty() && numbers.iter().copied().eq((1..).take(numbers.len()))
}

/// The numbers of all segments of a directory.
pub(super) fn segment_numbers(disk: &dyn Disk) -> Result<BTreeSet<u32>, StoreError> {
    let names = disk
        .list()
        .map_err(|error| StoreError::io("list", "the directory", error))?;
    Ok(names.iter().filter_map(|name| segment::number_of(name)).collect())
}

/// A crash while a segment was created leaves a file without a whole head. Nothing was ever in it: the head is synced
/// before the first frame is written.
fn drop_torn_creation(
    disk: &dyn Disk,
    start: &IndexCheckpoint,
    numbers: &mut BTreeSet<u32>,
) -> Result<(), StoreError> {
    let Some(last) = numbers.last().copied() else {
        return Ok(());
    };
    if last < start.segment || (last == start.segment && start.offset > 0) {
        return Ok(());
    }
    let segment = Segment::open(disk, last, Open::Read)?;
    if segment.head()?.is_some() {
        return Ok(());
    }
    if segment.length()? > segment::HEAD_BYTES {
        return Err(segment.corrupt(0, "the head of the segment does not check out"));
    }
    drop(segment);
    remove_if_there(disk, &segment::name_of(last))?;
    numbers.remove(&last);
    Ok(())
}

fn remove_if_there(disk: &dyn Disk, name: &str) -> Result<(), StoreError> {
    match disk.remove(name) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io("remove", name, error)),
        _ => Ok(()),
    }
}

/// Bytes that are read and written at once.
const AGAIN_BYTES: u64 = 1024 * 1024;

/// Writes back what is there. An earlier process may have ended because a sync failed: then the cache has bytes that the
/// disk has not, and that no further sync would write, since they count as written.
fn write_again(segment: &Segment, range: Range<u64>) -> Result<(), StoreError> {
    let mut at = range.start;
    while at < range.end {
        let length = AGAIN_BYTES.min(range.end - at);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        segment.read(at, &mut bytes)?;
        segment.write(at, &bytes)?;
        at += length;
    }
    Ok(())
}

struct Recovery {
    /// How far into the last segment some later frame, or a checkpoint, says that all was durable.
    vouched_end: u64,
    view: IndexView,
    usage: Usage,
    sealed: BTreeMap<u32, u64>,
    salt: u64,
    /// Segment and offset where the next frame is expected.
    position: (u32, u64),
    read_bytes: u64,
    planted: Planted,
}

impl Recovery {
    /// Checks that all files that the checkpoint builds on are there and long enough.
    fn begin(disk: &dyn Disk, start: IndexCheckpoint, numbers: &BTreeSet<u32>) -> Result<Self, StoreError> {
        let mut view = IndexView {
            index: start.index,
            seq: start.seq,
            ..IndexView::default()
        };
        let sealed: BTreeMap<u32, u64> = start.sealed.into_iter().collect();
        for (number, length) in &sealed {
            if !numbers.contains(number) {
                let what = "the segment is missing";
                return Err(StoreError::corrupt(&segment::name_of(*number), 0, what));
            }
            let segment = Segment::open(disk, *number, Open::Read)?;
            check_head(&segment, start.salt)?;
            let found = segment.length()?;
            if found < *length {
                return Err(segment.corrupt(found, format!("the file ends here instead of at {length}")));
            }
            view.segments.insert(*number, Arc::new(segment));
        }
        // What compaction gave up, and did not get to remove.
        for number in numbers.iter().filter(|number| **number < start.segment) {
            if !sealed.contains_key(number) {
                remove_if_there(disk, &segment::name_of(*number))?;
            }
        }
        let last = numbers.last().copied().unwrap_or(0).max(start.segment);
        if let Some(missing) = (start.segment..=last).find(|number| !numbers.contains(number)) {
            let what = "the segment is missing";
            return Err(StoreError::corrupt(&segment::name_of(missing), 0, what));
        }
        // A log without a checkpoint begins with its first segment, which says what salt it has.
        let salt = match start.offset {
            0 => match Segment::open(disk, start.segment, Open::Read)?.head()? {
                Some(head) => head.salt,
                None => start.salt,
            },
            _ => start.salt,
        };
        Ok(Self {
            vouched_end: 0,
            view,
            usage: start.usage,
            sealed,
            salt,
            position: (start.segment, start.offset.max(segment::HEAD_BYTES)),
            read_bytes: 0,
            planted: Planted::default(),
        })
    }

    /// Takes in the frames of a segment. Gives it, and where its frames end.
    fn read_segment(
        &mut self,
        disk: &dyn Disk,
        number: u32,
        last: bool,
    ) -> Result<(Arc<Segment>, u64), StoreError> {
        let how = if last { Open::Write } else { Open::Read };
        let segment = Arc::new(Segment::open(disk, number, how)?);
        let head = check_head(&segment, self.salt)?;
        let offset = match self.position {
            (first, offset) if first == number => offset,
            _ if head.before == self.view.seq => segment::HEAD_BYTES,
            _ => {
                let what = format!(
                    "the segment goes on after commit {}, not {}",
                    head.before.0, self.view.seq.0
                );
                return Err(segment.corrupt(0, what));
            }
        };
        self.view.segments.insert(number, segment.clone());
        // The head is written again only where no frame shows that it was durable.
        self.vouched_end = if offset == segment::HEAD_BYTES { 0 } else { offset };
        let mut unvouched = VecDeque::new();
        let mut frames = Frames::new(segment.clone(), self.salt, offset)?;
        if last {
            frames.plant(self.planted);
        }
        if frames.end() < offset {
            return Err(segment.corrupt(
                frames.end(),
                format!("the file ends here instead of at {offset} or later"),
            ));
        }
        loop {
            match frames.next()? {
                Found::Frame(frame) => {
                    self.take(&segment, &frame)?;
                    unvouched.push_back((frame.head.seq, frame.offset));
                    while unvouched
                        .front()
                        .is_some_and(|(seq, _)| *seq <= frame.head.durable)
                    {
                        unvouched.pop_front();
                    }
                    self.vouched_end = unvouched.front().map_or(frame.offset, |(_, offset)| *offset);
                    if self.planted.has(Slip::LastFrameAgain) {
                        self.vouched_end = frame.offset;
                    }
                }
                Found::End => break,
                Found::Nothing if last => {
                    let cut = frames.offset();
                    self.check_torn(&segment, &mut frames)?;
                    self.read_bytes += cut - offset;
                    return Ok((segment, cut));
                }
                Found::Nothing => {
                    let at = frames.offset();
                    return Err(segment.corrupt(
                        at,
                        format!("the frame of commit {} is damaged", self.view.seq.0 + 1),
                    ));
                }
            }
        }
        self.read_bytes += frames.end() - offset;
        Ok((segment, frames.end()))
    }

    fn take(&mut self, segment: &Segment, frame: &CheckedFrame<'_>) -> Result<(), StoreError> {
        let expected = Seq(self.view.seq.0 + 1);
        if frame.head.seq != expected {
            let what = format!("commit {} stands where {} belongs", frame.head.seq.0, expected.0);
            return Err(segment.corrupt(frame.offset, what));
        }
        for (at, decoded) in frame.records() {
            let decoded = decoded.and_then(|(record, length)| {
                let place = RecordPlace::new(
                    segment.number(),
                    u32::try_from(at).ok()?,
                    u32::try_from(length).ok()?,
                );
                Some((record, place))
            });
            let Some((record, place)) = decoded else {
                return Err(segment.corrupt(
                    at,
                    format!("a record of commit {} does not check out", expected.0),
                ));
            };
            self.view
                .index
                .apply(&mut self.usage, frame.head.kind, &record, place);
        }
        self.view.seq = expected;
        Ok(())
    }

    /// The log stops making sense here. If anything behind says that the next commit was durable, it is damage.
    fn check_torn(&self, segment: &Segment, frames: &mut Frames) -> Result<(), StoreError> {
        let cut = frames.offset();
        let missing = Seq(self.view.seq.0 + 1);
        while frames.seek()? {
            if let Found::Frame(frame) = frames.next()?
                && frame.head.durable >= missing
            {
                return Err(segment.corrupt(cut, format!("the frame of commit {} is damaged", missing.0)));
            }
        }
        Ok(())
    }
}

/// The head of a segment that must have one.
pub(super) fn check_head(segment: &Segment, salt: u64) -> Result<SegmentHead, StoreError> {
    match segment.head()? {
        Some(head) if head.number == segment.number() && head.salt == salt => Ok(head),
        Some(_) => Err(segment.corrupt(0, "the head is that of another segment")),
        None => Err(segment.corrupt(0, "the head of the segment does not check out")),
    }
}
