//! What is left of a damaged log: a report of what does not check out, and a copy of what does.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::{Damage, Key, Seq, Store, StoreBatch, StoreError};
use super::checkpoint::IndexCheckpoint;
use super::compaction::place_of;
use super::frame::{Found, Frames};
use super::index::Usage;
use super::mark;
use super::recovery::{check_head, segment_numbers};
use super::segment::{self, Segment};
use super::view::IndexView;
use crate::env::{Disk, Open};

/// The report of a look at every byte of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Files of the log.
    pub segments: u64,
    /// Commits that check out, housekeeping included.
    pub frames: u64,
    /// Values that can be read.
    pub values: u64,
    /// Bytes at the end that a crash left; the next opening cuts them.
    pub torn_bytes: u64,
    /// What does not check out.
    pub damages: Vec<Damage>,
}

impl Report {
    /// True when everything is as it was written.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damages.is_empty()
    }
}

/// The result of a salvage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Salvaged {
    /// What was found.
    pub report: Report,
    /// Values that could not be read.
    pub lost: Vec<Key>,
}

/// Reads and verifies every frame and every value of the log in `disk`, and goes on after damage. Changes nothing.
///
/// # Errors
///
/// The log is in use, was written by a newer version, or the disk cannot be read. Damage is no error but a part of the
/// report.
pub fn verify(disk: &dyn Disk) -> Result<Report, StoreError> {
    let _lock = super::super::lock(disk)?;
    let (view, mut report) = look(disk)?;
    view.each_value(&mut |_, value| match value {
        Ok(_) => {
            report.values += 1;
            Ok(())
        }
        Err(StoreError::Corrupt(damage)) => {
            report.damages.push(damage);
            Ok(())
        }
        Err(error) => Err(error),
    })?;
    Ok(report)
}

/// Copies all that can still be read of the log in `disk` into another store, and makes it durable there.
///
/// What was damaged is missing afterwards, and what was removed may be back where the damage hit the removal. A core
/// that this machine writes must not be written from a salvaged store: it may lack blocks that others have seen.
///
/// # Errors
///
/// As [`verify`]; and what the other store says.
pub fn salvage(disk: &dyn Disk, into: &mut dyn Store) -> Result<Salvaged, StoreError> {
    let _lock = super::super::lock(disk)?;
    let (view, report) = look(disk)?;
    let mut salvaged = Salvaged {
        report,
        ..Salvaged::default()
    };
    let mut batch = StoreBatch::default();
    view.each_value(&mut |key, value| {
        match value {
            Ok(value) => {
                salvaged.report.values += 1;
                batch.put(key, value);
            }
            Err(StoreError::Corrupt(damage)) => {
                salvaged.report.damages.push(damage);
                salvaged.lost.push(key);
            }
            Err(error) => return Err(error),
        }
        if batch.value_bytes() > BATCH_BYTES || batch.ops().len() > BATCH_OPS {
            into.commit(&std::mem::take(&mut batch))?;
        }
        Ok(())
    })?;
    if !batch.is_empty() {
        into.commit(&batch)?;
    }
    into.sync()?;
    Ok(salvaged)
}

const BATCH_BYTES: usize = 1024 * 1024;
const BATCH_OPS: usize = 10_000;

/// Verifies the frames of a segment up to its end.
pub(super) fn check_frames(segment: &Segment, frames: &mut Frames) -> Result<(), StoreError> {
    loop {
        match frames.next()? {
            Found::Frame(frame) => {
                for (at, decoded) in frame.records() {
                    if decoded.is_none() {
                        return Err(segment.corrupt(at, "a record does not check out"));
                    }
                }
            }
            Found::End => return Ok(()),
            Found::Nothing => return Err(segment.corrupt(frames.offset(), "a frame does not check out")),
        }
    }
}

/// The state as far as it can be told, and what does not check out on the way to it.
fn look(disk: &dyn Disk) -> Result<(IndexView, Report), StoreError> {
    let mut look = Look::default();
    let checkpoint = look.noting(IndexCheckpoint::read(disk))?.flatten();
    let numbers = segment_numbers(disk)?;
    let mut start = (0, 0);
    let mut salt = None;
    if let Some(checkpoint) = checkpoint {
        look.view.index = checkpoint.index;
        look.view.seq = checkpoint.seq;
        look.usage = checkpoint.usage;
        start = (checkpoint.segment, checkpoint.offset);
        salt = Some(checkpoint.salt);
        look.note_missing(checkpoint.sealed.iter().map(|(number, _)| *number), &numbers);
    }
    if let (Some(first), Some(last)) = (numbers.first(), numbers.last()) {
        look.note_missing((*first).max(start.0)..=*last, &numbers);
    }
    for number in &numbers {
        look.read_segment(disk, *number, &mut salt, start, numbers.last() == Some(number))?;
    }
    let durable = salt.and_then(|salt| mark::read(disk, salt));
    if let (Some(durable), Some(last)) = (durable, numbers.last())
        && durable > look.view.seq
    {
        look.report.damages.push(Damage {
            file: segment::name_of(*last),
            offset: look
                .view
                .segments
                .get(last)
                .map_or(Ok(0), |segment| segment.length())?,
            what: format!(
                "commits {} to {} were durable and are missing",
                look.view.seq.0 + 1,
                durable.0
            ),
        });
    }
    Ok((look.view, look.report))
}

#[derive(Default)]
struct Look {
    view: IndexView,
    usage: Usage,
    report: Report,
}

impl Look {
    /// Damage goes into the report, other errors on.
    fn noting<T>(&mut self, result: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(StoreError::Corrupt(damage)) => {
                self.report.damages.push(damage);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn note_missing(&mut self, wanted: impl Iterator<Item = u32>, there: &BTreeSet<u32>) {
        for number in wanted.filter(|number| !there.contains(number)) {
            self.report.damages.push(Damage {
                file: segment::name_of(number),
                offset: 0,
                what: String::from("the segment is missing"),
            });
        }
    }

    fn read_segment(
        &mut self,
        disk: &dyn Disk,
        number: u32,
        salt: &mut Option<u64>,
        start: (u32, u64),
        last: bool,
    ) -> Result<(), StoreError> {
        let segment = Arc::new(Segment::open(disk, number, Open::Read)?);
        self.report.segments += 1;
        self.view.segments.insert(number, segment.clone());
        if salt.is_none() {
            *salt = segment.head()?.map(|head| head.salt);
        }
        if last && segment.length()? <= segment::HEAD_BYTES && segment.head()?.is_none() {
            self.report.torn_bytes += segment.length()?;
            return Ok(());
        }
        let salt = salt.unwrap_or(0);
        self.noting(check_head(&segment, salt))?;
        let mut frames = Frames::new(segment.clone(), salt, segment::HEAD_BYTES.min(segment.length()?))?;
        loop {
            match frames.next()? {
                Found::Frame(frame) => {
                    self.report.frames += 1;
                    let news = (number, frame.offset) >= start;
                    if news && frame.head.seq != Seq(self.view.seq.0 + 1) {
                        let what = format!("commit {} follows commit {}", frame.head.seq.0, self.view.seq.0);
                        self.report.damages.push(damage(&segment, frame.offset, what));
                    }
                    for (at, decoded) in frame.records() {
                        match decoded {
                            Some((record, length)) if news => {
                                let place = place_of(&segment, at, length)?;
                                self.view
                                    .index
                                    .apply(&mut self.usage, frame.head.kind, &record, place);
                            }
                            Some(_) => {}
                            None => self.report.damages.push(damage(
                                &segment,
                                at,
                                String::from("a record does not check out"),
                            )),
                        }
                    }
                    if news {
                        self.view.seq = frame.head.seq;
                    }
                }
                Found::End => return Ok(()),
                Found::Nothing => {
                    let at = frames.offset();
                    let more = frames.seek()?;
                    let news = (number, at) >= start;
                    if !more && last && news {
                        self.report.torn_bytes += frames.end() - at;
                    } else {
                        let what = String::from("a frame does not check out");
                        self.report.damages.push(damage(&segment, at, what));
                    }
                }
            }
        }
    }
}

fn damage(segment: &Segment, offset: u64, what: String) -> Damage {
    Damage {
        file: segment.name().to_owned(),
        offset,
        what,
    }
}
