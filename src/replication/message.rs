//! Messages of a replication channel (`hypercore/alpha`), in fields and in bytes.
//!
//! Decoding allocates no more than a small multiple of the message, ignores unknown flags and bytes after the end, and
//! refuses everything that the original refuses.
//!
//! Source: spec/replication.md 5 (package hypercore 11.37). Requests and data have their codec with the proofs, in
//! [`crate::hypercore::proof`].

use bytes::Bytes;

pub use crate::hypercore::proof::{DataMessage, RequestMessage};
use crate::wire::compact::{Decode as _, DecodeError, Decoder, Encode as _, EncodeError, Encoder};
pub use crate::wire::replication::{
    BitfieldMessage, Extension, NoData, OpenMessage, RangeMessage, Sync, Want,
};

/// The name of the protocol.
pub const PROTOCOL: &str = "hypercore/alpha";

/// The largest range that one want may span, in blocks, and the most blocks that one bitfield announces.
pub const WANT_MAX: u64 = 1 << 21;

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
    Bitfield(BitfieldMessage),
    /// The same for one run of blocks.
    Range(RangeMessage),
    /// Something outside of the protocol.
    Extension(Extension),
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
        self.encode_reusing(Vec::new())
    }

    /// As [`Message::encode`], in memory that was used before. What stands there is overwritten.
    ///
    /// # Errors
    ///
    /// As [`Message::encode`].
    pub fn encode_reusing(&self, memory: Vec<u8>) -> Result<Vec<u8>, EncodeError> {
        let mut to = Encoder::reusing(memory);
        match self {
            Self::Sync(sync) => sync.encode(&mut to),
            Self::Request(request) => request.encode(&mut to),
            Self::Cancel { request } => request.encode(&mut to),
            Self::Data(data) => data.encode(&mut to),
            Self::NoData(none) => none.encode(&mut to),
            Self::Want(want) | Self::Unwant(want) => want.encode(&mut to),
            Self::Bitfield(bitfield) => bitfield.encode(&mut to),
            Self::Range(range) => range.encode(&mut to),
            Self::Extension(extension) => extension.encode(&mut to),
        }
        to.finish()
    }

    /// As [`Message::decode`]. A large block goes on using the memory of the message.
    ///
    /// # Errors
    ///
    /// As [`Message::decode`].
    pub fn decode_shared(kind: u64, payload: &Bytes) -> Result<Option<Self>, DecodeError> {
        match kind {
            3 => Ok(Some(Self::Data(Box::new(DataMessage::decode_shared(payload)?)))),
            _ => Self::decode(kind, payload),
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
            7 => Self::Bitfield(BitfieldMessage::decode(from)?),
            8 => Self::Range(RangeMessage::decode(from)?),
            9 => Self::Extension(Extension::decode(from)?),
            _ => return Ok(None),
        }))
    }
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
