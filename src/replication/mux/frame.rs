//! One frame of the multiplexer, in fields.

use bytes::{Bytes, BytesMut};

use super::batch::{BatchReader, UINT_SIZE_MAX, put_uint};
use super::take_uint;
use crate::wire::compact::{DecodeError, Decoder, Encoder};

/// The channel of the multiplexer itself.
pub(super) const CONTROL: u64 = 0;

const BATCH: u64 = 0;
const OPEN: u64 = 1;
const REJECT: u64 = 2;
const CLOSE: u64 = 3;

/// A frame, or an item of a batch. Numbers of channels are those of the sender, but for rejects.
///
/// ```
/// use autobee::replication::mux::Frame;
///
/// let frame = Frame::Message { channel: 1, kind: 2, payload: "hi".into() };
/// assert_eq!(frame.encode(), &b"\x01\x02hi"[..]);
/// assert_eq!(Frame::decode(frame.encode())?, frame);
/// # Ok::<(), autobee::wire::compact::DecodeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The sender opens a channel.
    Open {
        /// Its number of the channel.
        local: u64,
        /// The name of the protocol. Malformed UTF-8 reads as replacement characters.
        protocol: String,
        /// The id within the protocol. Empty when there is none.
        id: Bytes,
        /// What the protocol says at the start.
        handshake: Bytes,
    },
    /// The sender does not want the channel that the receiver opened under this number of its own.
    Reject {
        /// The receiver's number of the channel.
        id: u64,
    },
    /// The sender closes the channel.
    Close {
        /// Its number of the channel.
        id: u64,
    },
    /// Several items.
    Batch {
        /// The channel of the first item.
        channel: u64,
        /// The items, still together.
        items: Bytes,
    },
    /// A control message that we do not know. Ignored.
    Unknown {
        /// Its number.
        kind: u64,
        /// The rest.
        payload: Bytes,
    },
    /// A message of a channel.
    Message {
        /// The sender's number of the channel.
        channel: u64,
        /// The number of the message in the list of the protocol.
        kind: u64,
        /// The rest.
        payload: Bytes,
    },
}

impl Frame {
    /// The frame as it is sent alone.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (channel, kind, payload) = self.parts();
        join(channel, kind, &payload)
    }

    /// Reads a frame.
    ///
    /// # Errors
    ///
    /// It ends too early, or holds a number above `2^53 - 1`.
    pub fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        let channel = take_uint(&mut bytes)?;
        Self::decode_item(channel, bytes)
    }

    /// The frames that a batch holds; any other frame holds itself. Batches within batches stay as they are.
    ///
    /// # Errors
    ///
    /// As [`Frame::decode`].
    pub fn into_items(self) -> Result<Vec<Self>, DecodeError> {
        let Self::Batch { channel, items } = self else {
            return Ok(vec![self]);
        };
        let mut reader = BatchReader::new(channel, items);
        let mut frames = Vec::new();
        while let Some((channel, item)) = reader.next_item()? {
            frames.push(Self::decode_item(channel, item)?);
        }
        Ok(frames)
    }

    /// Reads what follows the number of the channel.
    pub(super) fn decode_item(channel: u64, mut bytes: Bytes) -> Result<Self, DecodeError> {
        let kind = take_uint(&mut bytes)?;
        let payload = bytes;
        if channel != CONTROL {
            return Ok(Self::Message {
                channel,
                kind,
                payload,
            });
        }
        let mut decoder = Decoder::new(&payload);
        Ok(match kind {
            BATCH => Self::Batch {
                channel: decoder.uint()?,
                items: payload.slice_ref(decoder.rest()),
            },
            OPEN => Self::Open {
                local: decoder.uint()?,
                protocol: decoder.string()?.into_owned(),
                id: payload.slice_ref(decoder.buffer()?),
                handshake: payload.slice_ref(decoder.rest()),
            },
            REJECT => Self::Reject { id: decoder.uint()? },
            CLOSE => Self::Close { id: decoder.uint()? },
            _ => Self::Unknown { kind, payload },
        })
    }

    /// Channel, number and fields: what stands in a batch apart from each other.
    pub(super) fn parts(&self) -> (u64, u64, Bytes) {
        let mut fields = Encoder::new();
        let (channel, kind) = match self {
            Self::Open {
                local,
                protocol,
                id,
                handshake,
            } => {
                fields.uint(*local).string(protocol).buffer(id).raw(handshake);
                (CONTROL, OPEN)
            }
            Self::Reject { id } => {
                fields.uint(*id);
                (CONTROL, REJECT)
            }
            Self::Close { id } => {
                fields.uint(*id);
                (CONTROL, CLOSE)
            }
            Self::Batch { channel, items } => {
                fields.uint(*channel).raw(items);
                (CONTROL, BATCH)
            }
            Self::Unknown { kind, payload } => return (CONTROL, *kind, payload.clone()),
            Self::Message {
                channel,
                kind,
                payload,
            } => return (*channel, *kind, payload.clone()),
        };
        // Numbers and sizes of ours are far below what an integer can hold.
        (channel, kind, fields.finish().unwrap_or_default().into())
    }
}

/// A frame of its parts.
pub(super) fn join(channel: u64, kind: u64, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(payload.len() + 2 * UINT_SIZE_MAX);
    put_uint(&mut frame, channel);
    put_uint(&mut frame, kind);
    frame.extend_from_slice(payload);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_read_is_written_again(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(frame) = Frame::decode(bytes.into()) {
                prop_assert_eq!(Frame::decode(frame.encode()), Ok(frame));
            }
        }
    }
}
