//! One connection to a peer.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use thiserror::Error;

use super::shell::unless;
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
#[derive(Clone)]
pub struct Session {
    session: session::ReplicationSession,
    patience: Patience,
}

/// Waits for as long as a peer may have nothing in common with this one before it is taken that it has nothing.
pub(super) type Patience = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.session.fmt(f)
    }
}

impl Session {
    pub(super) const fn new(session: session::ReplicationSession, patience: Patience) -> Self {
        Self { session, patience }
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
    /// here: of a stranger's core that is only so much, see [`Settings`](super::Settings). Of writers that were not known yet,
    /// more may come.
    ///
    /// False when the connection ended before, and when the peer has no core in common with this one, and got none for
    /// [`Settings::read_wait_ms`](super::Settings::read_wait_ms), counted from when both sides had agreed on keys: it has another
    /// database, or nothing of this one yet. Then the connection goes on: [`Session::close_reason`] says nothing,
    /// [`Progress::cores`] is 0, and what the peer gets later is exchanged all the same.
    pub async fn synced(&self) -> bool {
        let mut is_synced = false;
        loop {
            let agreed = |progress: &Progress| progress.remote.is_some();
            if !self.reached(agreed).await {
                return false;
            }
            let has_cores = self.reached(|progress| progress.cores > 0);
            if unless(has_cores, (self.patience)()).await != Some(true) {
                return false;
            }
            let is_over = self.reached(|progress| {
                is_synced |= progress.is_synced;
                is_synced || progress.cores == 0
            });
            if !is_over.await || is_synced {
                return is_synced;
            }
        }
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
