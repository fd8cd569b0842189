//! Messages of a replication channel (`hypercore/alpha`), in fields and in bytes.
//!
//! Decoding allocates no more than a small multiple of the message, ignores unknown flags and bytes after the end, and
//! refuses everything that the original refuses.
//!
//! Source: spec/replication.md 5 (package hypercore 11.37). Requests and data have their codec with the proofs, in
//! [`crate::hypercore::proof`].

use bytes::Bytes;

use crate::crypto::Hash;
pub use crate::hypercore::proof::{DataMessage, RequestMessage};
use crate::wire::compact::{
    ARRAY_COUNT_MAX, Decode, DecodeError, DecodeErrorKind, Decoder, Encode, EncodeError, Encoder,
};

/// The name of the protocol.
pub const PROTOCOL: &str = "hypercore/alpha";

/// The largest range that one want may span, in blocks, and the most blocks that one bitfield announces.
pub const WANT_MAX: u64 = 1 << 21;

/// What a side says when it opens the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// This side understands seeks in requests.
    pub seeks: bool,
    /// The proof that it knows the key of the core, see [`super::capability::replication`].
    pub capability: Hash,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Where the sender stands.
    Sync(Sync),
    /// The sender wants something proven.
    Request(RequestMessage),
    /// The sender does not want an answer any more.
    Cancel {
        /// Number of the request.
        request: u64,
    },
    /// An answer, with proof.
    Data(Box<DataMessage>),
    /// An answer without.
    NoData(NoData),
    /// The sender wants to be told of blocks in a range.
    Want(Want),
    /// It does not any more.
    Unwant(Want),
    /// Which blocks the sender has.
    Bitfield(Bitfield),
    /// The same for one run of blocks.
    Range(Range),
    /// Something outside of the protocol.
    Extension(Extension),
}

/// Where a side stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sync {
    /// How often its log was truncated.
    pub fork: u64,
    /// Its length in blocks.
    pub length: u64,
    /// Our length as it has last heard it, if our fork is its own; else 0.
    pub remote_length: u64,
    /// It can prove the upgrade from our length to its own.
    pub can_upgrade: bool,
    /// It answers requests.
    pub uploading: bool,
    /// It wants blocks, now or soon.
    pub downloading: bool,
    /// It has a manifest to give.
    pub has_manifest: bool,
    /// It takes blocks that it did not ask for.
    pub allow_push: bool,
}

/// An answer without proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoData {
    /// Number of the request.
    pub request: u64,
    /// Why there is none. 0 makes the original ask again without end: use the constants.
    pub reason: u64,
}

impl NoData {
    /// The block, or the fork, is not there.
    pub const NOT_AVAILABLE: u64 = 1;
    /// The request cannot be proven.
    pub const INVALID_REQUEST: u64 = 2;
}

/// A range about which the sender wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Want {
    /// First block.
    pub start: u64,
    /// Number of blocks.
    pub length: u64,
    /// One block of the range is enough.
    pub any: bool,
}

/// Which blocks a side has, from some block on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitfield {
    /// First block: a multiple of 32, or the message is to be ignored.
    pub start: u64,
    /// Bit `i % 32` of word `i / 32` is block `start + i`. What is not set is not there.
    pub words: Vec<u32>,
}

/// A run of blocks that a side has, or has no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// It has them no longer.
    pub drop: bool,
    /// First block.
    pub start: u64,
    /// Number of blocks.
    pub length: u64,
}

/// Something outside of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Its name. Empty: the same as in the last such message on this channel.
    pub name: String,
    /// The rest.
    pub message: Bytes,
}

impl Message {
    /// The number of the message in the list of the protocol.
    #[must_use]
    pub const fn kind(&self) -> u64 {
        match self {
            Self::Sync(_) => 0,
            Self::Request(_) => 1,
            Self::Cancel { .. } => 2,
            Self::Data(_) => 3,
            Self::NoData(_) => 4,
            Self::Want(_) => 5,
            Self::Unwant(_) => 6,
            Self::Bitfield(_) => 7,
            Self::Range(_) => 8,
            Self::Extension(_) => 9,
        }
    }

    /// The bytes after the number.
    ///
    /// # Errors
    ///
    /// When a number is above `2^53 - 1`, or a list too long. That is a fault of ours.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        match self {
            Self::Sync(sync) => sync.to_bytes(),
            Self::Request(request) => request.to_bytes(),
            Self::Cancel { request } => request.to_bytes(),
            Self::Data(data) => data.to_bytes(),
            Self::NoData(none) => none.to_bytes(),
            Self::Want(want) | Self::Unwant(want) => want.to_bytes(),
            Self::Bitfield(bitfield) => bitfield.to_bytes(),
            Self::Range(range) => range.to_bytes(),
            Self::Extension(extension) => extension.to_bytes(),
        }
    }

    /// Reads a message. None when the number is not of this protocol, which is not an error.
    ///
    /// # Errors
    ///
    /// When the bytes are not such a message: the peer is to blame, and the whole stream is to be dropped.
    pub fn decode(kind: u64, payload: &[u8]) -> Result<Option<Self>, DecodeError> {
        let from = &mut Decoder::new(payload);
        Ok(Some(match kind {
            0 => Self::Sync(Sync::decode(from)?),
            1 => Self::Request(RequestMessage::decode(from)?),
            2 => Self::Cancel {
                request: from.uint()?,
            },
            3 => Self::Data(Box::new(DataMessage::decode(from)?)),
            4 => Self::NoData(NoData::decode(from)?),
            5 => Self::Want(Want::decode(from)?),
            6 => Self::Unwant(Want::decode(from)?),
            7 => Self::Bitfield(Bitfield::decode(from)?),
            8 => Self::Range(Range::decode(from)?),
            9 => Self::Extension(Extension::decode(from)?),
            _ => return Ok(None),
        }))
    }
}

impl Encode for Handshake {
    fn encode(&self, to: &mut Encoder) {
        to.uint(flags([self.seeks]));
        self.capability.encode(to);
    }
}

impl Decode for Handshake {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            seeks: from.uint()? & 1 != 0,
            capability: Hash::decode(from)?,
        })
    }
}

impl Encode for Sync {
    fn encode(&self, to: &mut Encoder) {
        let flags = flags([
            self.can_upgrade,
            self.uploading,
            self.downloading,
            self.has_manifest,
            self.allow_push,
        ]);
        to.uint(flags)
            .uint(self.fork)
            .uint(self.length)
            .uint(self.remote_length);
    }
}

impl Decode for Sync {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let flags = from.uint()?;
        Ok(Self {
            fork: from.uint()?,
            length: from.uint()?,
            remote_length: from.uint()?,
            can_upgrade: flags & 1 != 0,
            uploading: flags & 2 != 0,
            downloading: flags & 4 != 0,
            has_manifest: flags & 8 != 0,
            allow_push: flags & 16 != 0,
        })
    }
}

impl Encode for NoData {
    fn encode(&self, to: &mut Encoder) {
        to.uint(self.request).uint(flags([self.reason != 0]));
        if self.reason != 0 {
            to.uint(self.reason);
        }
    }
}

impl Decode for NoData {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let request = from.uint()?;
        let has_reason = from.remaining() > 0 && from.uint()? & 1 != 0;
        Ok(Self {
            request,
            reason: if has_reason { from.uint()? } else { 0 },
        })
    }
}

impl Encode for Want {
    fn encode(&self, to: &mut Encoder) {
        to.uint(self.start).uint(self.length);
        if self.any {
            to.uint(1);
        }
    }
}

impl Decode for Want {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            start: from.uint()?,
            length: from.uint()?,
            any: from.remaining() > 0 && from.uint()? & 1 != 0,
        })
    }
}

impl Encode for Bitfield {
    fn encode(&self, to: &mut Encoder) {
        to.uint(self.start);
        to.array(&self.words, |word, to| {
            to.raw(&word.to_le_bytes());
        });
    }
}

impl Decode for Bitfield {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let start = from.uint()?;
        let count = from.uint()?;
        if count > ARRAY_COUNT_MAX {
            return Err(from.error(DecodeErrorKind::ArrayTooLong { count }));
        }
        let bytes = from.take(count.saturating_mul(4))?;
        let (words, _) = bytes.as_chunks::<4>();
        Ok(Self {
            start,
            words: words.iter().map(|word| u32::from_le_bytes(*word)).collect(),
        })
    }
}

impl Encode for Range {
    fn encode(&self, to: &mut Encoder) {
        to.uint(flags([self.drop, self.length == 1])).uint(self.start);
        if self.length != 1 {
            to.uint(self.length);
        }
    }
}

impl Decode for Range {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let flags = from.uint()?;
        Ok(Self {
            drop: flags & 1 != 0,
            start: from.uint()?,
            length: if flags & 2 != 0 { 1 } else { from.uint()? },
        })
    }
}

impl Encode for Extension {
    fn encode(&self, to: &mut Encoder) {
        to.string(&self.name).raw(&self.message);
    }
}

impl Decode for Extension {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: from.string()?.into_owned(),
            message: Bytes::copy_from_slice(from.rest()),
        })
    }
}

/// Bit `i` for the `i`-th condition.
fn flags<const N: usize>(set: [bool; N]) -> u64 {
    set.into_iter()
        .rev()
        .fold(0, |bits, bit| bits << 1 | u64::from(bit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_read_is_written_again(kind in 0u64..11, bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(Some(message)) = Message::decode(kind, &bytes) {
                let written = message.encode().unwrap();
                prop_assert_eq!(message.kind(), kind);
                prop_assert_eq!(Message::decode(kind, &written), Ok(Some(message)));
            }
        }

        #[test]
        fn small_numbers_give_more_messages(kind in 0u64..10, bytes in proptest::collection::vec(0u8..8, 0..80)) {
            if let Ok(Some(message)) = Message::decode(kind, &bytes) {
                let written = message.encode().unwrap();
                prop_assert!(written.len() <= bytes.len() + 1);
                prop_assert_eq!(Message::decode(kind, &written), Ok(Some(message)));
            }
        }
    }
}
