//! One commit as it stands in a segment.
//!
//! ```text
//! magic 4 | crc 4 | length of the records 4 | seq 8 | durable 8 | records
//! ```
//!
//! Little endian. The checksum covers all after it, and also the salt of the store, the number of the segment and the
//! place in it: bytes that a stranger put into a block can not pass for a frame, nor can a frame that was written
//! elsewhere. `durable` is the highest commit that was known to be durable when the frame was written: with it a tail
//! that a crash tore off can be told from damage.

use std::sync::Arc;

use super::super::{Seq, StoreError};
use super::record::Record;
use super::segment::Segment;
use crate::env::{Planted, Slip};

/// Bytes before the records.
pub(super) const HEAD_BYTES: usize = 28;

/// Whose the records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// Changes of a commit.
    Commit,
    /// Copies of what was elsewhere. Nothing changes by them.
    Move,
}

impl FrameKind {
    const fn magic(self) -> [u8; 4] {
        match self {
            Self::Commit => *b"aBc\x01",
            Self::Move => *b"aBm\x01",
        }
    }

    fn of(magic: [u8; 4]) -> Option<Self> {
        [Self::Commit, Self::Move]
            .into_iter()
            .find(|kind| kind.magic() == magic)
    }
}

/// The head of a frame: what it says before its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) kind: FrameKind,
    pub(super) seq: Seq,
    pub(super) durable: Seq,
    length: u32,
    crc: u32,
}

impl FrameHead {
    fn decode(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (crc, rest) = rest.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (seq, rest) = rest.split_first_chunk::<8>()?;
        let (durable, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            kind: FrameKind::of(*magic)?,
            seq: Seq(u64::from_le_bytes(*seq)),
            durable: Seq(u64::from_le_bytes(*durable)),
            length: u32::from_le_bytes(*length),
            crc: u32::from_le_bytes(*crc),
        })
    }
}

/// Leaves room for the head of a frame whose records come behind.
pub(super) fn begin(out: &mut Vec<u8>) {
    out.clear();
    out.resize(HEAD_BYTES, 0);
}

/// Fills in the head. The frame will stand at `offset` of segment `segment`.
pub(super) fn finish(
    out: &mut [u8],
    kind: FrameKind,
    seq: Seq,
    durable: Seq,
    salt: u64,
    (segment, offset): (u32, u64),
) -> Result<(), StoreError> {
    let length = u32::try_from(out.len() - HEAD_BYTES);
    let length = length.ok().filter(|length| *length <= RECORDS_MAX);
    let length = length.ok_or(StoreError::Invalid("a batch of more than 1 GiB"))?;
    out[0..4].copy_from_slice(&kind.magic());
    out[8..12].copy_from_slice(&length.to_le_bytes());
    out[12..20].copy_from_slice(&seq.0.to_le_bytes());
    out[20..28].copy_from_slice(&durable.0.to_le_bytes());
    let crc = crc_at(salt, segment, offset, &out[8..]);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// The longest that the records of one frame may be together.
const RECORDS_MAX: u32 = 1 << 30;

fn crc_at(salt: u64, segment: u32, offset: u64, bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&salt.to_le_bytes());
    crc.update(&segment.to_le_bytes());
    crc.update(&offset.to_le_bytes());
    crc.update(bytes);
    crc.finalize()
}

/// Reads the frames of one segment, one after the other.
pub(super) struct Frames {
    segment: Arc<Segment>,
    salt: u64,
    /// Of the next frame.
    offset: u64,
    /// Of the file.
    end: u64,
    buffer: Vec<u8>,
    /// The place in the file of the first byte of the buffer.
    buffered_at: u64,
    planted: Planted,
}

/// A frame whose checksum fits.
pub(super) struct CheckedFrame<'a> {
    pub(super) head: FrameHead,
    pub(super) offset: u64,
    records: &'a [u8],
}

/// The content of a place in a segment.
pub(super) enum Found<'a> {
    Frame(CheckedFrame<'a>),
    /// The file ends here.
    End,
    /// Something else.
    Nothing,
}

impl<'a> CheckedFrame<'a> {
    /// The records with their offsets in the segment and their lengths; none where one does not check out.
    pub(super) fn records(&self) -> impl Iterator<Item = (u64, Option<(Record<'a>, usize)>)> + use<'a> {
        records(self.records, self.offset + HEAD_BYTES as u64)
    }
}

/// The records that `bytes` hold, the first of which stands at `offset` of the segment.
pub(super) fn records(
    bytes: &[u8],
    mut offset: u64,
) -> impl Iterator<Item = (u64, Option<(Record<'_>, usize)>)> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let at = offset;
        let decoded = Record::decode(rest);
        match &decoded {
            Some((_, length)) => {
                rest = &rest[*length..];
                offset += *length as u64;
            }
            None => rest = &[],
        }
        Some((at, decoded))
    })
}

const READ_BYTES: usize = 256 * 1024;

impl Frames {
    /// Frames from `offset` on.
    pub(super) fn new(segment: Arc<Segment>, salt: u64, offset: u64) -> Result<Self, StoreError> {
        let end = segment.length()?;
        Ok(Self {
            segment,
            salt,
            offset,
            end,
            buffer: Vec::new(),
            buffered_at: offset,
            planted: Planted::default(),
        })
    }

    /// Has it make slips.
    pub(super) const fn plant(&mut self, planted: Planted) {
        self.planted = planted;
    }

    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// The next frame; stays where it is when there is none.
    pub(super) fn next(&mut self) -> Result<Found<'_>, StoreError> {
        if self.offset >= self.end {
            return Ok(Found::End);
        }
        let Some((head, length)) = self.check(self.offset)? else {
            return Ok(Found::Nothing);
        };
        let offset = self.offset;
        self.offset += length as u64;
        let start = self.within(offset);
        Ok(Found::Frame(CheckedFrame {
            head,
            offset,
            records: &self.buffer[start + HEAD_BYTES..start + length],
        }))
    }

    /// Moves on to the next place behind this one where a frame checks out; false when there is none.
    ///
    /// Takes time in proportion to the bytes behind this place, whatever they are: a peer can fill a block with heads of
    /// frames that reach to its end, so the checksum of a long one is put together from sums over what lies before its two
    /// ends.
    pub(super) fn seek(&mut self) -> Result<bool, StoreError> {
        let mut sums = None;
        let mut at = self.offset + 1;
        while at < self.end {
            let is_frame = match self.head_at(at)? {
                None => false,
                Some((_, length)) if length <= SHORT_BYTES => self.check(at)?.is_some(),
                Some((head, length)) => {
                    if sums.is_none() {
                        sums = Some(Sums::over(self.segment.clone(), at, self.end)?);
                    }
                    match &sums {
                        Some(sums) => {
                            let seed = crc_at(self.salt, self.segment.number(), at, &[]);
                            let end = at + length as u64;
                            sums.crc(seed, at + 8..end)? == head.crc
                        }
                        None => false,
                    }
                }
            };
            if is_frame {
                self.offset = at;
                return Ok(true);
            }
            at += 1;
        }
        self.offset = self.end;
        Ok(false)
    }

    /// What may be the head of a frame at `offset` that ends within the file, and the frame's whole length.
    fn head_at(&mut self, offset: u64) -> Result<Option<(FrameHead, usize)>, StoreError> {
        if !self.fill(offset, HEAD_BYTES)? {
            return Ok(None);
        }
        let start = self.within(offset);
        let head = self.buffer[start..]
            .first_chunk::<HEAD_BYTES>()
            .and_then(FrameHead::decode);
        Ok(head
            .filter(|head| head.length <= RECORDS_MAX)
            .map(|head| (head, HEAD_BYTES + head.length as usize))
            .filter(|(_, length)| offset + *length as u64 <= self.end))
    }

    /// The frame at `offset`, and its whole length, if its checksum fits. It is in the buffer then.
    fn check(&mut self, offset: u64) -> Result<Option<(FrameHead, usize)>, StoreError> {
        let Some((head, length)) = self.head_at(offset)? else {
            return Ok(None);
        };
        let is_last = offset + length as u64 == self.end;
        if is_last && self.planted.has(Slip::LastFrameDropped) {
            return Ok(None);
        }
        if !self.fill(offset, length)? {
            return Ok(None);
        }
        let start = self.within(offset);
        let crc = crc_at(
            self.salt,
            self.segment.number(),
            offset,
            &self.buffer[start + 8..start + length],
        );
        let is_trusted = is_last && self.planted.has(Slip::LastFrameUnchecked);
        Ok((crc == head.crc || is_trusted).then_some((head, length)))
    }

    /// Where in the buffer a byte of the file is.
    fn within(&self, offset: u64) -> usize {
        usize::try_from(offset - self.buffered_at).unwrap_or(usize::MAX)
    }

    /// Gets so many bytes into the buffer; false when the file has not so many.
    fn fill(&mut self, offset: u64, length: usize) -> Result<bool, StoreError> {
        if offset.checked_add(length as u64).is_none_or(|end| end > self.end) {
            return Ok(false);
        }
        let start = self.within(offset);
        if start <= self.buffer.len() && self.buffer.len() - start >= length {
            return Ok(true);
        }
        let left = usize::try_from(self.end - offset).unwrap_or(usize::MAX);
        self.buffer.clear();
        self.buffer.resize(length.max(READ_BYTES).min(left), 0);
        self.buffered_at = offset;
        self.segment.read(offset, &mut self.buffer)?;
        Ok(true)
    }
}

/// A frame up to this length is checked by reading it.
const SHORT_BYTES: usize = 1024;

/// Bytes between two sums that are kept.
const STEP: u64 = 512;

/// Checksums over the beginnings of a part of a file, from which that of any piece of it follows.
struct Sums {
    segment: Arc<Segment>,
    start: u64,
    /// Over the first 0, 512, 1,024 bytes, and so on.
    sums: Vec<u32>,
}

impl Sums {
    fn over(segment: Arc<Segment>, start: u64, end: u64) -> Result<Self, StoreError> {
        let mut sums = vec![0];
        let mut crc = crc32fast::Hasher::new();
        let mut at = start;
        let mut buffer = Vec::new();
        while at < end {
            let size = usize::try_from(end - at).unwrap_or(READ_BYTES).min(READ_BYTES);
            buffer.resize(size, 0);
            segment.read(at, &mut buffer)?;
            for part in buffer.chunks(usize::try_from(STEP).unwrap_or(usize::MAX)) {
                crc.update(part);
                sums.push(crc.clone().finalize());
            }
            at += size as u64;
        }
        Ok(Self { segment, start, sums })
    }

    /// The checksum over what lies before a place.
    fn before(&self, at: u64) -> Result<u32, StoreError> {
        let whole = (at - self.start) / STEP;
        let sum = usize::try_from(whole).ok().and_then(|whole| self.sums.get(whole));
        let from = self.start + whole * STEP;
        let mut rest = [0; STEP as usize];
        let rest = &mut rest[..usize::try_from(at - from).unwrap_or(0)];
        self.segment.read(from, rest)?;
        let mut crc = crc32fast::Hasher::new_with_initial(sum.copied().unwrap_or_default());
        crc.update(rest);
        Ok(crc.finalize())
    }

    /// The checksum that goes on from `seed` over a piece. Appending bytes to a message is linear: what was before the
    /// piece cancels out.
    fn crc(&self, seed: u32, piece: std::ops::Range<u64>) -> Result<u32, StoreError> {
        let length = piece.end - piece.start;
        let before = self.before(piece.start)?;
        let mut crc = crc32fast::Hasher::new_with_initial_len(seed ^ before, 0);
        crc.combine(&crc32fast::Hasher::new_with_initial_len(
            self.before(piece.end)?,
            length,
        ));
        Ok(crc.finalize())
    }
}
