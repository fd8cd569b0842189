//! One connection to a peer.

use std::io;

use thiserror::Error;

use crate::crypto::PublicKey;
use crate::hypercore::CoreError;
use crate::replication::session::{self, End, Misbehaviour, Progress};

/// Why a connection ended.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The session was closed here, or the database was.
    #[error("the session was closed")]
    Closed,
    /// The peer ended the stream in good order.
    #[error("the peer ended the stream")]
    PeerEnded,
    /// Nothing came from the peer for too long.
    #[error("the peer was silent for too long")]
    TimedOut,
    /// The stream broke: a reset, an unreachable peer.
    #[error("the stream failed: {0}")]
    StreamFailed(io::ErrorKind),
    /// The peer is one that is not admitted, see [`Builder::admit`](super::Builder::admit).
    #[error("the peer {0} is not admitted")]
    Refused(PublicKey),
    /// The function that decides whom to admit panicked, with these words: see [`Builder::admit`](super::Builder::admit).
    #[error("the function that admits peers panicked: {0}")]
    AdmitPanicked(String),
    /// As many connections run as may: so many.
    #[error("there are {0} connections already")]
    TooMany(usize),
    /// So many bytes of a frame that did not come to its end had to make room for others.
    #[error("{0} bytes of an unfinished frame of the peer had to make room for others")]
    Crowded(usize),
    /// The peer broke the protocol.
    #[error("the peer misbehaved: {0}")]
    PeerMisbehaved(Misbehaviour),
    /// The store here failed.
    #[error("the store failed: {0}")]
    StoreFailed(CoreError),
}

/// A running connection. Dropping it lets the connection run on; it ends with [`Session::close`], with the stream, or
/// with the database.
#[derive(Debug, Clone)]
pub struct Session {
    session: session::ReplicationSession,
}

impl Session {
    pub(super) const fn new(session: session::ReplicationSession) -> Self {
        Self { session }
    }

    /// What it is to the replication.
    pub(super) const fn inner(&self) -> &session::ReplicationSession {
        &self.session
    }

    // How far it is.

    /// How much came and went, and how much the peer has that is not here.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.session.progress()
    }

    /// The static key of the peer, once the handshake is done.
    #[must_use]
    pub fn remote(&self) -> Option<PublicKey> {
        self.progress().remote
    }

    /// Waits until the progress is as wanted. False when the connection ended before.
    pub async fn reached(&self, wanted: impl FnMut(&Progress) -> bool) -> bool {
        self.session.reached(wanted).await
    }

    /// Waits until everything is here that the peer has of the cores that both sides replicate now, as far as it is to be
    /// here: of a stranger's core that is only so much, see [`Settings`](super::Settings). False when the connection ended
    /// before. Of writers that were not known yet, more may come.
    pub async fn synced(&self) -> bool {
        self.reached(|progress| progress.is_synced).await
    }

    /// What the peer did wrong about a core, if it did: nothing more of that core is exchanged with it, and the connection
    /// goes on for others.
    #[must_use]
    pub fn blame(&self) -> Option<Misbehaviour> {
        self.session.blame()
    }

    // The end.

    /// Waits for the end of the connection and says why it ended.
    pub async fn ended(&self) -> CloseReason {
        self.session.ended().await.into()
    }

    /// Why the connection ended; none while it runs.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.session.end().map(Into::into)
    }

    /// Ends the connection. What is on its way to the peer still goes out.
    pub fn close(&self) {
        self.session.close();
    }
}

impl From<End> for CloseReason {
    fn from(end: End) -> Self {
        match end {
            End::Closed => Self::Closed,
            End::PeerEnded => Self::PeerEnded,
            End::StreamFailed(io::ErrorKind::TimedOut) => Self::TimedOut,
            End::StreamFailed(kind) => Self::StreamFailed(kind),
            End::Refused(key) => Self::Refused(key),
            End::AdmitPanicked(words) => Self::AdmitPanicked(words),
            End::Full(sessions) => Self::TooMany(sessions),
            End::Crowded(bytes) => Self::Crowded(bytes),
            End::Misbehaved(what) => Self::PeerMisbehaved(what),
            End::Store(error) => Self::StoreFailed(error),
        }
    }
}
