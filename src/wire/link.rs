//! Positions in a core, and references to them.

use std::fmt;

use super::{Decode, DecodeError, Decoder, Encode, Encoder};
use crate::crypto::CoreKey;

/// A number of blocks, counted from the start of a core. A reference by length names block `length - 1` and
/// everything before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Length(pub u64);

/// The position of one block, counted from zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u64);

impl Length {
    /// The empty core.
    pub const ZERO: Self = Self(0);

    /// The last block that a core of this length has; none for an empty one.
    #[must_use]
    pub const fn last(self) -> Option<Index> {
        match self.0 {
            0 => None,
            length => Some(Index(length - 1)),
        }
    }
}

impl Index {
    /// The length of a core that ends with this block.
    #[must_use]
    pub const fn end(self) -> Length {
        Length(self.0 + 1)
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A causal reference: the first `length` blocks of the core `key`.
///
/// Source: spec/autobee.md 2.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// The core.
    pub key: CoreKey,
    /// How many of its blocks.
    pub length: Length,
}

impl Encode for Link {
    fn encode(&self, to: &mut Encoder) {
        self.key.encode(to);
        self.length.encode(to);
    }
}

impl Decode for Link {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            key: CoreKey::decode(from)?,
            length: Length::decode(from)?,
        })
    }
}

impl Encode for Length {
    fn encode(&self, to: &mut Encoder) {
        to.uint(self.0);
    }
}

impl Decode for Length {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        from.uint().map(Self)
    }
}
