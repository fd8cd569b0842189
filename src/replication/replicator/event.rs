//! What replication tells the application and the shell.

use std::time::Duration;

use thiserror::Error;

use super::{PeerId, RangeId};
use crate::hypercore::proof::ProofError;

/// Why a peer is asked nothing more, or is to be dropped. All of it is the peer's fault.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum PeerFault {
    /// It sent a proof that is wrong.
    #[error("the peer sent a wrong proof: {0}")]
    Proof(#[from] ProofError),
    /// It keeps answering other things than were asked.
    #[error("the peer answered {count} requests with something else")]
    Misfit {
        /// How often.
        count: u32,
    },
    /// It announces what it then does not give.
    #[error("the peer answered {count} requests without data")]
    NoData {
        /// How often.
        count: u32,
    },
    /// It keeps asking for what cannot be proven.
    #[error("the peer sent {count} requests that cannot be proven")]
    InvalidRequests {
        /// How often.
        count: u32,
    },
    /// It announces wide runs of blocks again and again, and nothing else.
    #[error("the peer announced runs over more than {pages} pages of blocks in a short time")]
    Announcements {
        /// How many pages may be touched at once.
        pages: u64,
    },
    /// It sends requests or wants faster than it takes the answers, beyond the bounds.
    #[error("the peer has more than {limit} requests waiting for answers")]
    Flood {
        /// How many may wait.
        limit: usize,
    },
}

/// Something that the application or the shell may care for.
#[derive(Debug, Clone)]
pub enum ReplicatorEvent {
    /// The log became longer, by a verified upgrade.
    Upgraded {
        /// The length before.
        from: u64,
        /// The length now.
        to: u64,
    },
    /// A block was verified and stored.
    Block {
        /// Which.
        index: u64,
        /// Who gave it.
        peer: PeerId,
        /// Its size in bytes.
        bytes: usize,
    },
    /// The manifest became known.
    Manifest,
    /// The log moved to another fork.
    Rewound {
        /// Leading blocks that were kept.
        kept: u64,
        /// The length before.
        old_length: u64,
        /// The fork now.
        fork: u64,
    },
    /// A finite range is there as a whole.
    RangeDone(RangeId),
    /// The block with this byte offset, and the offset within it, are known. None: it is at or beyond the end.
    Sought {
        /// The byte offset, as asked.
        bytes: u64,
        /// The padding, as asked.
        padding: u64,
        /// Block and offset.
        found: Option<(u64, u64)>,
    },
    /// What a peer says of itself changed.
    Remote(PeerId),
    /// The peer is asked nothing more, because of this.
    Paused {
        /// Which.
        peer: PeerId,
        /// Why.
        fault: PeerFault,
    },
    /// The peer has another log of the core's owner than the one that is here. Its channel is to be closed for good, once it
    /// was shown both.
    Contradicted(PeerId),
    /// The channel is to be closed. Without a fault nobody wants it any more; with one the peer is hostile, and the whole
    /// stream may be dropped.
    Close {
        /// Which.
        peer: PeerId,
        /// Why.
        fault: Option<PeerFault>,
    },
}

/// What a peer says of itself, and how it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its fork.
    pub fork: u64,
    /// Its length in blocks.
    pub length: u64,
    /// Leading blocks that it has.
    pub contiguous: u64,
    /// It wants blocks.
    pub downloading: bool,
    /// Requests of ours that it has not answered.
    pub in_flight: usize,
    /// Requests and wants of it that wait for our answers.
    pub unanswered: usize,
    /// It is asked nothing more.
    pub paused: bool,
    /// Smoothed time for one answer.
    pub service: Option<Duration>,
}
