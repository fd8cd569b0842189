//! What all sessions of a store did together.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of what all sessions of a store did since it was opened. Each number only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrafficCounts {
    /// Sessions that were started.
    pub opened: u64,
    /// Sessions that ended.
    pub closed: u64,
    /// Blocks that came, whether they were wanted or not.
    pub received_blocks: u64,
    /// Blocks that went.
    pub sent_blocks: u64,
    /// Bytes that came, sealed.
    pub received_bytes: u64,
    /// Bytes that went, sealed.
    pub sent_bytes: u64,
}

/// Counters that all sessions add to.
#[derive(Debug, Default)]
pub(super) struct TrafficCounters {
    pub(super) opened: AtomicU64,
    pub(super) closed: AtomicU64,
    pub(super) received_blocks: AtomicU64,
    pub(super) sent_blocks: AtomicU64,
    pub(super) received_bytes: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
}

impl TrafficCounters {
    pub(super) fn read(&self) -> TrafficCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TrafficCounts {
            // Before the others: nothing ended that was not started.
            closed: read(&self.closed),
            opened: read(&self.opened),
            received_blocks: read(&self.received_blocks),
            sent_blocks: read(&self.sent_blocks),
            received_bytes: read(&self.received_bytes),
            sent_bytes: read(&self.sent_bytes),
        }
    }
}

/// Counts on.
pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
