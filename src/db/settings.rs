//! Local policy: limits and waits. Nothing here changes the result; what does is fixed when a database is created.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What an append waits for. Whatever it is, no peer sees a block before it is durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// The blocks are written: they survive the end of the process, not the loss of power.
    Visible,
    /// The blocks are synced: they survive the loss of power, if the disk keeps its word.
    #[default]
    Durable,
}

/// Bounds of one open database. Every queue, wait and buffer has its limit here.
///
/// ```
/// let settings = autobee::Settings { append_values_max: 64, ..Default::default() };
/// assert_eq!(settings.append_values_max, 64);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What an append waits for before it returns.
    pub durability: Durability,
    /// Values that one append may hold. A batch of more than 1024 is refused by every peer.
    pub append_values_max: usize,
    /// Bytes that one value may have.
    pub value_bytes_max: usize,
    /// Cores of strangers that are fetched, in the hope of an optimistic batch.
    pub stranger_cores_max: usize,
    /// Bytes that one message of a peer may have.
    pub frame_bytes_max: usize,
    /// Bytes that wait to be sent to one peer before it is asked for nothing more.
    pub outbox_bytes_max: usize,
    /// Batches that are applied before other tasks get their turn.
    pub drain_applies_max: usize,
    /// Memory for decoded blocks and nodes of the view, in bytes.
    pub view_cache_bytes_max: usize,
    /// How long nothing is sent to a peer before it is told that this end is still there, in milliseconds.
    pub keep_alive_ms: u64,
    /// How long nothing comes from a peer before it is given up, in milliseconds. More than twice the keep-alive.
    pub silence_ms_max: u64,
    /// How long a read waits for a block that is still at a peer, in milliseconds.
    pub read_wait_ms: u64,
}

impl Settings {
    /// [`Settings::keep_alive_ms`] as a duration.
    #[must_use]
    pub const fn keep_alive(&self) -> Duration {
        Duration::from_millis(self.keep_alive_ms)
    }

    /// [`Settings::silence_ms_max`] as a duration.
    #[must_use]
    pub const fn silence_max(&self) -> Duration {
        Duration::from_millis(self.silence_ms_max)
    }

    /// [`Settings::read_wait_ms`] as a duration.
    #[must_use]
    pub const fn read_wait(&self) -> Duration {
        Duration::from_millis(self.read_wait_ms)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            durability: Durability::Durable,
            append_values_max: 1024,
            value_bytes_max: 1 << 23,
            stranger_cores_max: 64,
            frame_bytes_max: 1 << 26,
            outbox_bytes_max: 1 << 26,
            drain_applies_max: 4096,
            view_cache_bytes_max: 64 << 20,
            keep_alive_ms: 5_000,
            silence_ms_max: 15_000,
            read_wait_ms: 5_000,
        }
    }
}
