//! How sessions end, and whose doing it is.

use std::io;

use thiserror::Error;

use crate::crypto::{CoreKey, PublicKey};
use crate::hypercore::CoreError;
use crate::replication::connection::ConnectionError;
use crate::replication::replicator::PeerFault;
use crate::wire::compact::DecodeError;

/// The end of a session: why it ended.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum End {
    /// It was closed here.
    #[error("the session was closed")]
    Closed,
    /// The peer ended the stream in good order.
    #[error("the peer ended the stream")]
    PeerEnded,
    /// The stream broke: a reset, silence, an unreachable peer.
    #[error("the stream failed: {0}")]
    StreamFailed(io::ErrorKind),
    /// The peer is one that we do not talk to.
    #[error("the peer {0} is not admitted")]
    Refused(PublicKey),
    /// The function that decides whom to talk to panicked, with these words.
    #[error("the function that admits peers panicked: {0}")]
    AdmitPanicked(String),
    /// As many sessions run as may: [`super::SessionSettings::sessions_max`].
    #[error("there are {0} sessions already")]
    Full(usize),
    /// The frames of all peers that have not come to their end take as much memory as they may, and of them that of this
    /// peer was begun first: [`super::SessionSettings::unfinished_bytes_max`].
    #[error("{0} bytes of a frame that did not come to its end had to make room for others")]
    Crowded(usize),
    /// The peer broke the protocol.
    #[error("the peer misbehaved: {0}")]
    Misbehaved(#[from] Misbehaviour),
    /// Our store failed.
    #[error("the store failed: {0}")]
    Store(CoreError),
}

/// The misbehaviour of a peer.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// Its bytes or its frames are wrong.
    #[error(transparent)]
    Stream(ConnectionError),
    /// It opened a channel without knowing the key of the core.
    #[error("the peer does not know the key of core {core}")]
    Capability {
        /// The core.
        core: CoreKey,
    },
    /// It sent a message that cannot be read.
    #[error("the peer sent a message about core {core} that cannot be read: {error}")]
    Message {
        /// The core.
        core: CoreKey,
        /// What is wrong.
        error: DecodeError,
    },
    /// It sent a wakeup message that cannot be read.
    #[error("the peer sent a wakeup message that cannot be read: {0}")]
    Wakeup(DecodeError),
    /// What it sent contradicts the core, or is too much.
    #[error("core {core}: {fault}")]
    Replication {
        /// The core.
        core: CoreKey,
        /// What it did.
        fault: PeerFault,
    },
}

impl From<ConnectionError> for End {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Handshake { .. } | ConnectionError::Silent { .. } => {
                Self::StreamFailed(io::ErrorKind::TimedOut)
            }
            error => Self::Misbehaved(Misbehaviour::Stream(error)),
        }
    }
}
