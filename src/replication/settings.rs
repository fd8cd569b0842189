//! Bounds and times of replication. Every one has a default and a unit.

use std::time::Duration;

use crate::env::{Env, knob};

/// Bounds and times of the replication of one core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicatorSettings {
    /// Requests that may be on their way to one peer. The original sends at most 48 over TCP.
    pub requests_in_flight: usize,
    /// Bytes of blocks that may be on their way from one peer, by the average size of blocks. At least one request is
    /// always allowed.
    pub bytes_in_flight: u64,
    /// With several peers, how much work a slow one may have in front of it.
    pub queue_time: Duration,
    /// How many peers one block may be asked from at one time, when the first is slow.
    pub peers_per_block: usize,
    /// How long a peer may answer none of our requests before they go to others.
    pub answer_timeout: Duration,
    /// Requests of one peer that may wait for their answers. More are a flood.
    pub requests_queued: usize,
    /// Wants of one peer that may wait for their answers. More are a flood.
    pub wants_queued: usize,
    /// Requests of one peer that cannot be proven, before it is given up.
    pub invalid_requests: u32,
    /// Answers without data of one peer, counted apart by their reason, before it is asked no more.
    pub no_data: u32,
    /// Answers of one peer to something that was not asked, before it is asked no more.
    pub misfits: u32,
    /// Memory for what one peer says it has beyond its contiguous length, in pages of 4,096 blocks and 512 bytes. What
    /// does not fit is forgotten, and asked for again when needed.
    pub announced_pages: usize,
    /// Pages that runs announced by one peer may touch beyond the first of each, before it is a flood. What was touched
    /// counts no more after half a minute.
    pub announced_work: u64,
    /// Runs of blocks that may wait to be announced to one peer.
    pub announcements: usize,
    /// Messages about one core that are made for a peer before it is another core's turn.
    pub pull_messages: usize,
    /// Bytes of blocks that are made for a peer before it is another core's turn.
    pub pull_bytes: usize,
    /// Whether longer lengths and other forks of peers are taken over. False for a core that is written here, unless it
    /// may be longer at peers: a log that was written elsewhere with the same key pair, or of which this is an older copy.
    pub follow: bool,
    /// Whether the log is written here: then it is made sure that peers have the same.
    pub is_owner: bool,
}

impl ReplicatorSettings {
    /// The numbers that a simulator chose for this run; elsewhere they stay as they are.
    #[must_use]
    pub fn tuned<E: Env>(mut self, env: &E) -> Self {
        if E::SIM {
            let queue_ms = u64::try_from(self.queue_time.as_millis()).unwrap_or(u64::MAX);
            self.queue_time = Duration::from_millis(knob::REPLICATOR_QUEUE_MS.of(env, queue_ms));
            self.peers_per_block = knob::REPLICATOR_PEERS_PER_BLOCK.size(env, self.peers_per_block);
            self.announcements = knob::REPLICATOR_ANNOUNCEMENTS.size(env, self.announcements);
            self.pull_messages = knob::SESSION_PULL_MESSAGES.size(env, self.pull_messages);
            self.pull_bytes = knob::SESSION_PULL_BYTES.size(env, self.pull_bytes);
        }
        self
    }
}

impl Default for ReplicatorSettings {
    fn default() -> Self {
        Self {
            requests_in_flight: 512,
            bytes_in_flight: 8 * 1024 * 1024,
            queue_time: Duration::from_secs(1),
            peers_per_block: 3,
            answer_timeout: Duration::from_secs(30),
            requests_queued: 1024,
            wants_queued: 512,
            invalid_requests: 64,
            no_data: 32,
            misfits: 8,
            announced_pages: 2048,
            announced_work: 1 << 20,
            announcements: 1024,
            pull_messages: 32,
            pull_bytes: 64 * 1024,
            follow: true,
            is_owner: false,
        }
    }
}
