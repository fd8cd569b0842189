//! Messages of a wakeup channel, in fields and in bytes.
//!
//! Source: spec/replication.md 10 (package protomux-wakeup 2.9).

use crate::crypto::Hash;
use crate::wire::Link;
use crate::wire::compact::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder};

/// The name of the protocol.
pub const PROTOCOL: &str = "wakeup";

/// The handshake of a wakeup channel: what a side says when it opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WakeupHandshake {
    /// Version of the protocol: 0. Nobody checks it.
    pub version: u64,
    /// The proof that it knows the key of the topic, see [`super::super::capability::wakeup`].
    pub capability: Hash,
    /// The side is using the topic now.
    pub active: bool,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WakeupMessage {
    /// Asks for an announcement.
    Lookup {
        /// A state that the asker has already. The original never sends it.
        hash: Option<Hash>,
    },
    /// Cores that the sender has, each up to a length. The lengths are hints.
    Announce(Vec<Link>),
    /// Whether the sender is using the topic.
    Info {
        /// It is.
        active: bool,
    },
}

impl WakeupMessage {
    /// The number of the message in the list of the protocol.
    #[must_use]
    pub const fn kind(&self) -> u64 {
        match self {
            Self::Lookup { .. } => 0,
            Self::Announce(_) => 1,
            Self::Info { .. } => 2,
        }
    }

    /// The bytes after the number.
    ///
    /// # Errors
    ///
    /// When a length is above `2^53 - 1`, or there are more than 1,048,576 cores. That is a fault of ours.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut to = Encoder::new();
        match self {
            Self::Lookup { hash: None } => {
                to.uint(0);
            }
            Self::Lookup { hash: Some(hash) } => hash.encode(to.uint(1)),
            Self::Announce(cores) => {
                to.array(cores, Link::encode);
            }
            Self::Info { active } => {
                to.uint(u64::from(*active));
            }
        }
        to.finish()
    }

    /// Reads a message. None when the number is not of this protocol, which is not an error.
    ///
    /// # Errors
    ///
    /// When the bytes are not such a message: the peer is to blame, and the whole stream is to be dropped.
    pub fn decode(kind: u64, payload: &[u8]) -> Result<Option<Self>, DecodeError> {
        let from = &mut Decoder::new(payload);
        Ok(Some(match kind {
            0 => Self::Lookup {
                hash: if from.uint()? & 1 != 0 {
                    Some(Hash::decode(from)?)
                } else {
                    None
                },
            },
            1 => Self::Announce(from.array(Link::decode)?),
            2 => Self::Info {
                active: from.uint()? & 1 != 0,
            },
            _ => return Ok(None),
        }))
    }
}

impl Encode for WakeupHandshake {
    fn encode(&self, to: &mut Encoder) {
        to.uint(self.version);
        self.capability.encode(to);
        to.uint(u64::from(self.active));
    }
}

impl Decode for WakeupHandshake {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            version: from.uint()?,
            capability: Hash::decode(from)?,
            active: from.uint()? & 1 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_read_is_written_again(kind in 0u64..4, bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(Some(message)) = WakeupMessage::decode(kind, &bytes) {
                let written = message.encode().unwrap();
                prop_assert_eq!(message.kind(), kind);
                prop_assert_eq!(WakeupMessage::decode(kind, &written), Ok(Some(message)));
            }
        }
    }
}
