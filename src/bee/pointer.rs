//! The smallest parts of a block: pointers, and the edits that carry them (spec/hyperbee.md 3.1).

use crate::wire::{Decode, DecodeError, Decoder, Encode, Encoder};

/// A place in another block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pointer {
    /// Number of the core; 0 is the core of the block itself.
    pub core: u64,
    /// The block.
    pub seq: u64,
    /// Position in that block's list.
    pub offset: u64,
}

/// The kind of an edit: what it does to a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditKind {
    /// Replaces the element at the index.
    Set,
    /// Inserts before the index.
    Insert,
    /// Removes the element at the index.
    Remove,
    /// Runs all edits of the cohort that is pointed at.
    Cohort,
    /// A number from 4 to 7 that has no effect.
    Unknown(u8),
}

/// One step that rebuilds a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockEdit {
    /// What it does.
    pub kind: EditKind,
    /// Where in the list.
    pub index: u8,
    /// The element, or the cohort.
    pub pointer: Option<Pointer>,
}

/// The pointer to a value that is stored apart from its key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ValuePointer {
    /// The block, and the position in its value list.
    pub at: Pointer,
    /// How many blocks before that one hold the start of the value. Reserved: always 0.
    pub split: u64,
}

impl Pointer {
    /// The three integers of a pointer of type 0.
    pub(super) fn plain(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            core: from.uint()?,
            seq: from.uint()?,
            offset: from.uint()?,
        })
    }

    /// Reads the parts that `present` has bits for: 1 core, 2 seq, 4 offset.
    fn parts(from: &mut Decoder<'_>, present: u8) -> Result<Self, DecodeError> {
        let mut part = |bit: u8| if present & bit == 0 { Ok(0) } else { from.uint() };
        Ok(Self {
            core: part(1)?,
            seq: part(2)?,
            offset: part(4)?,
        })
    }

    /// The bits of the parts that are not zero.
    fn presence(self) -> u8 {
        u8::from(self.core != 0) | u8::from(self.seq != 0) << 1 | u8::from(self.offset != 0) << 2
    }

    fn encode_parts(self, to: &mut Encoder) {
        for part in [self.core, self.seq, self.offset] {
            if part != 0 {
                to.uint(part);
            }
        }
    }
}

impl EditKind {
    /// The number of the kind.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Set => 0,
            Self::Insert => 1,
            Self::Remove => 2,
            Self::Cohort => 3,
            Self::Unknown(number) => number & 7,
        }
    }

    pub(super) const fn from_bits(bits: u8) -> Self {
        match bits & 7 {
            0 => Self::Set,
            1 => Self::Insert,
            2 => Self::Remove,
            3 => Self::Cohort,
            other => Self::Unknown(other),
        }
    }
}

impl Decode for BlockEdit {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let head = from.byte()?;
        let index = if head & 8 == 0 { 0 } else { from.byte()? };
        let pointer = if head & 16 == 0 {
            None
        } else {
            Some(Pointer::parts(from, head >> 5)?)
        };
        Ok(Self {
            kind: EditKind::from_bits(head),
            index,
            pointer,
        })
    }
}

impl Encode for BlockEdit {
    fn encode(&self, to: &mut Encoder) {
        let pointer = self.pointer.map_or(0, |pointer| 16 | pointer.presence() << 5);
        let head = self.kind.number() | u8::from(self.index != 0) << 3 | pointer;
        to.raw(&[head]);
        if self.index != 0 {
            to.raw(&[self.index]);
        }
        if let Some(pointer) = self.pointer {
            pointer.encode_parts(to);
        }
    }
}

/// The stand-alone form of the schema: the bits of the parts, then the parts.
impl Decode for Pointer {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let present = from.byte()?;
        Self::parts(from, present)
    }
}

impl Encode for Pointer {
    fn encode(&self, to: &mut Encoder) {
        to.raw(&[self.presence()]);
        self.encode_parts(to);
    }
}

impl ValuePointer {
    pub(super) fn parts(from: &mut Decoder<'_>, present: u8) -> Result<Self, DecodeError> {
        let at = Pointer::parts(from, present)?;
        let split = if present & 8 == 0 { 0 } else { from.uint()? };
        Ok(Self { at, split })
    }

    pub(super) fn presence(self) -> u8 {
        self.at.presence() | u8::from(self.split != 0) << 3
    }

    pub(super) fn encode_parts(self, to: &mut Encoder) {
        self.at.encode_parts(to);
        if self.split != 0 {
            to.uint(self.split);
        }
    }
}

/// The stand-alone form of the schema: the bits of the parts, then the parts.
impl Decode for ValuePointer {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let present = from.byte()?;
        Self::parts(from, present)
    }
}

impl Encode for ValuePointer {
    fn encode(&self, to: &mut Encoder) {
        to.raw(&[self.presence()]);
        self.encode_parts(to);
    }
}
