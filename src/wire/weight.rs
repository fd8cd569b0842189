//! How much a writer counts when the order is made.

use std::fmt;

use super::{Decode, DecodeError, Decoder, Encode, Encoder};

/// The standing of a writer, or the ceiling that was granted to it. Zero is a stranger's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(pub u64);

impl Weight {
    /// Of somebody who was never granted anything.
    pub const ZERO: Self = Self(0);
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Encode for Weight {
    fn encode(&self, to: &mut Encoder) {
        to.uint(self.0);
    }
}

impl Decode for Weight {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        from.uint().map(Self)
    }
}
