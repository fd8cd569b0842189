//! One directed path between two replicas: how long it takes, how much it carries.

use serde::{Deserialize, Serialize};

use crate::seed::{Seeds, Stream};

/// How a path behaves. Probabilities are in 65,536.
///
/// ```
/// use autobee_sim::PathConfig;
///
/// let slow = PathConfig { latency_us_min: 80_000, latency_us_max: 120_000, ..PathConfig::default() };
/// assert_eq!(slow.window, 65_536);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PathConfig {
    /// Least latency, microseconds.
    pub latency_us_min: u64,
    /// Greatest latency without a spike, microseconds.
    pub latency_us_max: u64,
    /// How often a segment meets a spike.
    pub spike_64k: u32,
    /// Greatest extra latency of a spike, microseconds.
    pub spike_us_max: u64,
    /// Bytes a millisecond, over all streams of the path; 0 = no bound.
    pub bytes_per_ms: u64,
    /// Bytes of one stream that may be under way or unread before its writer must wait. At least 1.
    pub window: usize,
    /// How often a read or a write is cut to fewer bytes than it could have had.
    pub chop_64k: u32,
    /// Bytes that one read gives at most; 0 = no bound.
    pub read_max: usize,
    /// How often a segment arrives with one bit flipped.
    pub corrupt_64k: u32,
    /// How often a stream is reset in the middle of a segment: its first bytes arrive, and nothing after them.
    pub tear_64k: u32,
}

/// A path with its state.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) config: PathConfig,
    busy_until: u64,
    latency: Stream,
    chop: Stream,
    corrupt: Stream,
    tear: Stream,
}

impl Default for PathConfig {
    /// A continent: 1 to 10 ms, rare spikes, 100 Mbit/s, 64 KiB windows, one read in sixteen short.
    fn default() -> Self {
        Self {
            latency_us_min: 1_000,
            latency_us_max: 10_000,
            spike_64k: 64,
            spike_us_max: 200_000,
            bytes_per_ms: 12_500,
            window: 65_536,
            chop_64k: 4_096,
            read_max: 0,
            corrupt_64k: 0,
            tear_64k: 0,
        }
    }
}

impl Path {
    pub(super) fn new(config: PathConfig, seeds: Seeds, from: &str, to: &str) -> Self {
        Self {
            config,
            busy_until: 0,
            latency: seeds.stream("path latency", &[from, to]),
            chop: seeds.stream("path chop", &[from, to]),
            corrupt: seeds.stream("path corruption", &[from, to]),
            tear: seeds.stream("path tear", &[from, to]),
        }
    }

    /// When something without a size, sent at `now`, arrives.
    pub(super) fn arrival(&mut self, now: u64) -> u64 {
        now.saturating_add(self.draw_latency())
    }

    /// When `bytes`, sent at `now`, arrive.
    pub(super) fn arrival_of(&mut self, now: u64, bytes: usize) -> u64 {
        let mut sent = now;
        if self.config.bytes_per_ms > 0 {
            let nanos = u128::from(bytes as u64) * 1_000_000 / u128::from(self.config.bytes_per_ms);
            sent = self
                .busy_until
                .max(now)
                .saturating_add(u64::try_from(nanos).unwrap_or(u64::MAX));
            self.busy_until = sent;
        }
        sent.saturating_add(self.draw_latency())
    }

    /// How many of `bytes` (at least 1) one read or write carries.
    pub(super) fn chop(&mut self, bytes: usize) -> usize {
        if self.config.chop_64k == 0 || bytes < 2 || !self.chop.chance(self.config.chop_64k) {
            return bytes;
        }
        1 + self.chop.index(bytes)
    }

    /// How many of `bytes` (at least 1) one read gives.
    pub(super) fn read(&mut self, bytes: usize) -> usize {
        match self.config.read_max {
            0 => self.chop(bytes),
            most => self.chop(bytes.min(most)),
        }
    }

    /// How many of `bytes` (at least 1) arrive before the stream is reset, if it is.
    pub(super) fn tear(&mut self, bytes: usize) -> Option<usize> {
        (self.config.tear_64k > 0 && self.tear.chance(self.config.tear_64k)).then(|| self.tear.index(bytes))
    }

    /// How many of `segments` that are under way outlive the death of their sender.
    pub(super) fn survivors(&mut self, segments: usize) -> usize {
        if segments == 0 {
            0
        } else {
            self.chop.index(segments + 1)
        }
    }

    /// Whether a reset makes its receiver lose what it has not read.
    pub(super) fn reset_loses_unread(&mut self) -> bool {
        self.chop.chance(32_768)
    }

    /// The bit that arrives flipped, if one does.
    pub(super) fn corrupt(&mut self, bytes: usize) -> Option<(usize, u8)> {
        if self.config.corrupt_64k == 0 || !self.corrupt.chance(self.config.corrupt_64k) {
            return None;
        }
        Some((self.corrupt.index(bytes), 1 << self.corrupt.below(8)))
    }

    fn draw_latency(&mut self) -> u64 {
        let config = &self.config;
        let min = config.latency_us_min.saturating_mul(1_000);
        let max = config.latency_us_max.saturating_mul(1_000);
        let mut nanos = self.latency.between(min, max);
        if config.spike_64k > 0 && self.latency.chance(config.spike_64k) {
            nanos = nanos.saturating_add(self.latency.below(config.spike_us_max.saturating_mul(1_000)));
        }
        nanos
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(config: PathConfig) -> Path {
        Path::new(config, Seeds::new(5), "a", "b")
    }

    #[test]
    fn latency_stays_in_its_range() {
        let mut path = path(PathConfig {
            spike_64k: 0,
            ..PathConfig::default()
        });
        for _ in 0..1_000 {
            assert!((1_000_000..=10_000_000).contains(&path.arrival(0)));
        }
    }

    #[test]
    fn bandwidth_adds_up() {
        let mut path = path(PathConfig {
            latency_us_min: 0,
            latency_us_max: 0,
            spike_64k: 0,
            bytes_per_ms: 10,
            ..PathConfig::default()
        });
        assert_eq!(path.arrival_of(0, 20), 2_000_000);
        assert_eq!(path.arrival_of(0, 10), 3_000_000);
        assert_eq!(path.arrival_of(9_000_000, 10), 10_000_000);
    }

    #[test]
    fn chops_keep_at_least_one_byte() {
        let mut path = path(PathConfig {
            chop_64k: 65_536,
            ..PathConfig::default()
        });
        let sizes: Vec<usize> = (0..500).map(|_| path.chop(10)).collect();
        assert!(sizes.iter().all(|size| (1..=10).contains(size)));
        assert!(sizes.contains(&1) && sizes.contains(&10));
    }
}
