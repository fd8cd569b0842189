//! What happens to a core, for whoever wants to know.

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::crypto::CoreKey;
use crate::wire::{Index, Length};

/// How many events a slow listener may be behind before it misses some.
pub(super) const BACKLOG: usize = 1_024;

/// A change of a core's main line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CoreEvent {
    /// It is longer.
    Append {
        /// The new length.
        length: Length,
    },
    /// It was cut off or rewritten. Blocks from `ancestors` on are not what they were.
    Truncate {
        /// Number of leading blocks that are the same.
        ancestors: Length,
        /// The new fork.
        fork: u64,
    },
    /// Blocks of it were dropped here. Its length is as before.
    Clear {
        /// The first block that is not here any more.
        start: Index,
        /// The first block after those.
        end: Index,
    },
    /// A block of it arrived from a peer.
    Download {
        /// The block.
        index: Index,
    },
    /// Its manifest is known now.
    Manifest,
    /// Two signatures of its owner contradict each other.
    Conflict {
        /// Length of both.
        length: Length,
        /// Fork of both.
        fork: u64,
    },
    /// The listener was too slow and missed this many events: look at the core again.
    Missed(u64),
}

/// A contradiction of a core's owner: it signed two logs of one length at one fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contradiction {
    /// Length of both.
    pub length: Length,
    /// Fork of both.
    pub fork: u64,
    /// Length of the log that was here when it was found. Nothing behind it was taken.
    pub blocks: Length,
}

/// A change of a core in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupEvent {
    /// The group.
    pub topic: [u8; 32],
    /// The core.
    pub key: CoreKey,
    /// Its new length.
    pub length: Length,
    /// Its fork.
    pub fork: u64,
}

/// Listens to one core.
#[derive(Debug)]
pub struct CoreEvents(pub(super) broadcast::Receiver<CoreEvent>);

/// Listens to the groups of a store.
#[derive(Debug)]
pub struct GroupEvents {
    pub(super) topic: Option<[u8; 32]>,
    pub(super) receiver: broadcast::Receiver<GroupEvent>,
}

impl CoreEvents {
    /// Waits for the next event. None when nobody can change the core any more.
    pub async fn next(&mut self) -> Option<CoreEvent> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(count)) => Some(CoreEvent::Missed(count)),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next event, if there is one already.
    pub fn try_next(&mut self) -> Option<CoreEvent> {
        match self.0.try_recv() {
            Ok(event) => Some(event),
            Err(TryRecvError::Lagged(count)) => Some(CoreEvent::Missed(count)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

impl GroupEvents {
    /// Waits for the next change. Changes that a slow listener missed are left out: ask the store for the updates since
    /// the last one seen. None when the store is closed.
    pub async fn next(&mut self) -> Option<GroupEvent> {
        loop {
            match self.receiver.recv().await {
                Ok(event) if self.topic.is_none_or(|topic| topic == event.topic) => return Some(event),
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}
