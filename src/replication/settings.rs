//! Bounds and times of replication. Every one has a default and a unit.

use std::time::Duration;

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
    /// Whether longer lengths and other forks of peers are taken over. False for a core that only we write.
    pub follow: bool,
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
            follow: true,
        }
    }
}
