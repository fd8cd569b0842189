//! The shell of replication: cores of a store on real streams.
//!
//! A [`Replication`] belongs to a store and has a [`ReplicationSession`] for each stream. Every session is one task that reads,
//! writes and keeps time; every core that at least one peer replicates has a task that notices what its sessions want and
//! how it changed. Tasks meet in two places, each a lock that is never held across an await: the replicator of a core, and
//! the mailbox of a session. Everything is decided by the machines of the modules around; here bytes are moved.
//!
//! Source: spec/replication.md 12 (`corestore` and `hypercore`, `replicate`).

mod core;
mod counts;
mod driver;
mod end;
mod mailbox;
mod replication;
mod topic;

use std::fmt;
use std::sync::Arc;

pub use self::counts::TrafficCounts;
pub use self::end::{End, Misbehaviour};
use self::mailbox::Mailbox;
pub use self::replication::{Admit, Replication, SessionSettings};
pub use self::topic::Wakeup;
use super::Role;
use super::capability::HandshakeHash;
use crate::crypto::PublicKey;
use crate::env::watch;

/// A running replication on one stream. Dropping it lets it run on; it ends with [`ReplicationSession::close`], with the stream, or
/// with the [`Replication`].
#[derive(Clone)]
pub struct ReplicationSession {
    role: Role,
    mailbox: Arc<Mailbox>,
    progress: watch::Receiver<Progress>,
    ended: watch::Receiver<Option<End>>,
    blame: watch::Receiver<Option<Misbehaviour>>,
}

/// The progress of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// The peer, once the handshake is done.
    pub remote: Option<PublicKey>,
    /// What names the stream, once the handshake is done.
    pub stream: Option<HandshakeHash>,
    /// Cores that both sides replicate.
    pub cores: usize,
    /// Leading blocks that are here, over these cores, as far as the peer's cores reach.
    pub have: u64,
    /// Blocks of the peer's cores.
    pub want: u64,
    /// The peer has said where all these cores stand, and has nothing of them that is to be here and is not.
    pub is_synced: bool,
    /// Leading blocks that are here, over these cores.
    pub offered: u64,
    /// How many of these the peer is known to have. A change of this alone wakes nobody.
    pub taken: u64,
    /// Bytes that came, sealed.
    pub received: u64,
    /// Bytes that went, sealed.
    pub sent: u64,
    /// Bytes that wait until the peer reads them, sealed.
    pub unsent: usize,
    /// Requests and wants of the peer that wait for an answer.
    pub unanswered: usize,
}

impl ReplicationSession {
    /// Our side of the stream.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Waits until the progress is as wanted. False when the session ended before.
    pub async fn reached(&self, wanted: impl FnMut(&Progress) -> bool) -> bool {
        self.progress.clone().wait_for(wanted).await.is_ok()
    }

    /// Why the session ended. None while it runs.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.ended.borrow().clone()
    }

    /// Waits for the end of the session, and says why it ended.
    pub async fn ended(&self) -> End {
        let mut ended = self.ended.clone();
        // Without a reason when its world stopped.
        let _ = ended.wait_for(Option::is_some).await;
        self.end().unwrap_or(End::Closed)
    }

    /// The last thing for which a core is no longer replicated with the peer. The session goes on while there are others.
    #[must_use]
    pub fn blame(&self) -> Option<Misbehaviour> {
        self.blame.borrow().clone()
    }

    /// Ends the session. What is on its way to the peer still goes out.
    pub fn close(&self) {
        self.mailbox.close();
    }
}

impl fmt::Debug for ReplicationSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({:?}, {:?})", self.role, self.end())
    }
}
