//! What goes wrong at the multiplexer, and whose fault it is.

use thiserror::Error;

use crate::wire::compact::DecodeError;

/// The peer broke the protocol. The whole stream is to be dropped, with all channels.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MuxError {
    /// A frame cannot be read.
    #[error("the peer sent a frame that cannot be read: {0}")]
    Frame(#[from] DecodeError),
    /// An open with an id that is 0, in use, or not the next one.
    #[error("the peer opened a channel under the invalid id {id}")]
    OpenId {
        /// The id.
        id: u64,
    },
    /// A reject for something that we did not ask for.
    #[error("the peer rejected channel {id}, which does not wait for an answer")]
    RejectId {
        /// The id.
        id: u64,
    },
    /// Batches within batches within batches.
    #[error("the peer nested batches more than {limit} deep")]
    Nesting {
        /// The allowed depth.
        limit: usize,
    },
}

/// A channel cannot be opened. The fault of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenChannelError {
    /// We have a channel of this protocol and id.
    #[error("the channel is open already")]
    Duplicate,
    /// There are as many channels as the settings allow.
    #[error("{limit} channels are open already")]
    TooMany {
        /// The allowed number.
        limit: usize,
    },
    /// The protocol name, id or handshake do not fit in a frame.
    #[error("an open of {size} bytes does not fit in a frame")]
    TooLarge {
        /// Bytes of the message.
        size: usize,
    },
    /// The stream has ended.
    #[error("the stream has ended")]
    Ended,
}

/// A message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MuxSendError {
    /// The channel is closed. That may have happened a moment ago, and is nobody's fault.
    #[error("the channel is closed")]
    Closed,
    /// The message does not fit in a frame. The fault of the caller.
    #[error("a message of {size} bytes does not fit in a frame")]
    TooLarge {
        /// Bytes of the message.
        size: usize,
    },
}
