//! Blocks of older formats, read as the type 1 block that means the same (spec/hyperbee.md 3.2 and 3.3).
//!
//! Both formats store whole lists where type 1 stores logs. Each list that is not empty becomes one cohort of inserts,
//! and the node's log the one edit that runs it. Neither format is written.

use bytes::Bytes;

use crate::wire::compact::UINT_MAX;
use crate::wire::{Decode, DecodeError, DecodeErrorKind, Decoder, Index};

use super::block::{Block, BlockKind, CoreRecord, KeyRecord, NodeLogs, Previous, slice};
use super::pointer::{BlockEdit, EditKind, Pointer};

/// The degree of every Hyperbee 1.
const HYPERBEE1_DEGREE: u64 = 5;

/// The rest of a block of type 0.
pub(super) fn first(whole: &Bytes, from: &mut Decoder<'_>, seq: Index) -> Result<Block, DecodeError> {
    let mut block = Block::empty();
    block.kind = BlockKind::First;
    block.checkpoint = from.uint()?;
    block.batch_start = from.uint()?;
    block.batch_end = from.uint()?;
    let flags = from.uint()?;
    if flags & 1 != 0 {
        block.previous = Some(Previous {
            core: from.uint()?,
            seq: from.uint()?,
        });
    }
    let mut cohorts = Cohorts::new(seq);
    let mut tree = Vec::new();
    if flags & 2 != 0 {
        tree = from.array(|from| {
            let keys = from.array(Pointer::plain)?;
            let children = from.array(Pointer::plain)?;
            cohorts.node(from, &keys, &children)
        })?;
    }
    let mut keys = Vec::new();
    if flags & 4 != 0 {
        keys = from.array(|from| {
            Ok(KeyRecord {
                key: slice(whole, from)?,
                value: Some(slice(whole, from)?),
                value_pointer: None,
            })
        })?;
    }
    if flags & 8 != 0 {
        block.metadata = Some(from.array(CoreRecord::decode)?);
    }
    block.tree = Some(tree);
    block.keys = Some(keys);
    block.cohorts = Some(cohorts.lists);
    Ok(block)
}

/// A block of Hyperbee 1: a protobuf message, with the type byte as its first tag.
pub(super) fn hyperbee1(whole: &Bytes, seq: Index) -> Result<Block, DecodeError> {
    let mut block = Block::empty();
    block.kind = BlockKind::Legacy;
    block.degree = HYPERBEE1_DEGREE;
    block.previous = (seq.0 > 1).then(|| Previous {
        core: 0,
        seq: seq.0 - 1,
    });
    let mut cohorts = Cohorts::new(seq);
    let mut tree = Vec::new();
    let mut keys = Vec::new();
    if whole.len() > 1 {
        let mut index = None;
        let mut key = None;
        let mut value = None;
        let mut fields = LegacyFields::new(whole);
        while let Some(field) = fields.next(3)? {
            // A field that claims to go past the end is cut short here, and only here.
            let body = &whole[field.start..field.end.min(whole.len())];
            match field.tag {
                1 => index = Some(body),
                2 => key = Some(body),
                _ => value = Some(body),
            }
        }
        let (Some(index), Some(key)) = (index, key) else {
            return Err(invalid(0, "block of hyperbee 1 without index or key"));
        };
        keys.push(KeyRecord {
            key: whole.slice_ref(key),
            value: value.map(|value| whole.slice_ref(value)),
            value_pointer: None,
        });
        let mut levels = LegacyFields::new(index);
        while let Some(level) = levels.next(1)? {
            tree.push(node(level.body(index)?, &mut cohorts)?);
        }
    }
    block.tree = Some(tree);
    block.keys = Some(keys);
    block.values = Some(Vec::new());
    block.cohorts = Some(cohorts.lists);
    Ok(block)
}

/// One level of a Hyperbee 1 block: the node that it stands for.
fn node(level: &[u8], cohorts: &mut Cohorts) -> Result<NodeLogs, DecodeError> {
    let mut keys = Vec::new();
    let mut numbers = Vec::new();
    let mut fields = LegacyFields::new(level);
    while let Some(field) = fields.next(2)? {
        let mut packed = LegacyFields::new(field.body(level)?);
        let list = if field.tag == 1 { &mut keys } else { &mut numbers };
        while packed.position < packed.bytes.len() {
            list.push(packed.number()?);
        }
    }
    let keys: Vec<Pointer> = keys
        .into_iter()
        .map(|seq| Pointer {
            core: 0,
            seq,
            offset: 0,
        })
        .collect();
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(invalid(0, "child of hyperbee 1 without a level"));
    }
    let children: Vec<Pointer> = pairs
        .iter()
        .map(|&[seq, offset]| Pointer { core: 0, seq, offset })
        .collect();
    cohorts.node(&Decoder::new(level), &keys, &children)
}

/// Collects the cohorts that a block of an older format would have had.
struct Cohorts {
    seq: u64,
    lists: Vec<Vec<BlockEdit>>,
}

impl Cohorts {
    fn new(seq: Index) -> Self {
        Self {
            seq: seq.0,
            lists: Vec::new(),
        }
    }

    fn node(
        &mut self,
        from: &Decoder<'_>,
        keys: &[Pointer],
        children: &[Pointer],
    ) -> Result<NodeLogs, DecodeError> {
        Ok(NodeLogs {
            keys: self.log(from, keys)?,
            children: self.log(from, children)?,
        })
    }

    fn log(&mut self, from: &Decoder<'_>, list: &[Pointer]) -> Result<Vec<BlockEdit>, DecodeError> {
        if list.is_empty() {
            return Ok(Vec::new());
        }
        let offset = u64::try_from(self.lists.len()).unwrap_or(u64::MAX);
        let inserts = list.iter().enumerate().map(|(index, pointer)| {
            Ok(BlockEdit {
                kind: EditKind::Insert,
                index: u8::try_from(index).map_err(|_| from.error(TOO_WIDE))?,
                pointer: Some(*pointer),
            })
        });
        self.lists.push(inserts.collect::<Result<_, DecodeError>>()?);
        Ok(vec![BlockEdit {
            kind: EditKind::Cohort,
            index: 0,
            pointer: Some(Pointer {
                core: 0,
                seq: self.seq,
                offset,
            }),
        }])
    }
}

/// A list of an older block that no node of the current format could hold.
const TOO_WIDE: DecodeErrorKind = DecodeErrorKind::Invalid {
    what: "node of more than 256 elements",
};

/// A cursor over the fields of a protobuf message.
struct LegacyFields<'a> {
    bytes: &'a [u8],
    position: usize,
}

/// One field that is read as bytes, whatever its wire type says.
struct LegacyField {
    tag: u64,
    start: usize,
    end: usize,
}

impl LegacyField {
    fn body<'a>(&self, message: &'a [u8]) -> Result<&'a [u8], DecodeError> {
        message
            .get(self.start..self.end)
            .ok_or_else(|| invalid(self.start, "length in block of hyperbee 1"))
    }
}

impl<'a> LegacyFields<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The next field with a tag from 1 to `known`; the others are skipped by their wire type.
    fn next(&mut self, known: u64) -> Result<Option<LegacyField>, DecodeError> {
        while self.position < self.bytes.len() {
            let head = self.varint()?;
            let tag = head >> 3;
            if (1..=known).contains(&tag) {
                let size = self.size()?;
                let start = self.position;
                let end = start.saturating_add(size);
                self.position = end;
                return Ok(Some(LegacyField { tag, start, end }));
            }
            let skipped = match head & 7 {
                0 => self.varint().map(|_| 0)?,
                1 => 8,
                2 => self.size()?,
                5 => 4,
                _ => return Err(invalid(self.position, "wire type in block of hyperbee 1")),
            };
            self.position = self.position.saturating_add(skipped);
        }
        Ok(None)
    }

    fn size(&mut self) -> Result<usize, DecodeError> {
        Ok(usize::try_from(self.varint()?).unwrap_or(usize::MAX))
    }

    fn number(&mut self) -> Result<u64, DecodeError> {
        let number = self.varint()?;
        if number > UINT_MAX {
            return Err(invalid(self.position, "number above 2^53 - 1"));
        }
        Ok(number)
    }

    /// A varint of any length; what does not fit saturates.
    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value: u64 = 0;
        let mut shift: u32 = 0;
        loop {
            let byte = *self
                .bytes
                .get(self.position)
                .ok_or_else(|| invalid(self.position, "varint"))?;
            self.position += 1;
            let bits = u64::from(byte & 127);
            if bits != 0 {
                value = if shift >= 57 {
                    u64::MAX
                } else {
                    value.saturating_add(bits << shift)
                };
            }
            shift = shift.saturating_add(7);
            if byte < 128 {
                return Ok(value);
            }
        }
    }
}

const fn invalid(offset: usize, what: &'static str) -> DecodeError {
    DecodeError {
        kind: DecodeErrorKind::Invalid { what },
        offset,
    }
}
