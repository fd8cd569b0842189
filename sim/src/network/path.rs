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
    /// Greatest latency without a spike, microseconds. An exponential latency is seldom above.
    pub latency_us_max: u64,
    /// How latencies spread between the two.
    pub latency_shape: LatencyShape,
    /// Latency on top that a path keeps for ever, drawn for each up to this, microseconds: some peers are far away.
    pub offset_us_max: u64,
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
    /// How often somebody who dials is refused though the other end listens.
    pub refuse_64k: u32,
    /// How often somebody who dials hears nothing.
    pub hang_64k: u32,
}

/// How latencies spread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LatencyShape {
    /// Each is as likely as any other.
    #[default]
    Uniform,
    /// The longer, the less likely: each quarter of the range halves what is left.
    Exponential,
    /// Near the least, and once in eight times near the greatest: a fast way and a slow one.
    Bimodal,
}

/// What becomes of a first message that should open a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DialOutcome {
    Heard,
    Refused,
    Lost,
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
    dial: Stream,
    /// Part of each latency, in millionths of what the configuration allows.
    offset_ppm: u64,
}

impl Default for PathConfig {
    /// A continent: 1 to 10 ms, rare spikes, 100 Mbit/s, 64 KiB windows, one read in sixteen short.
    fn default() -> Self {
        Self {
            latency_us_min: 1_000,
            latency_us_max: 10_000,
            latency_shape: LatencyShape::Uniform,
            offset_us_max: 0,
            spike_64k: 64,
            spike_us_max: 200_000,
            bytes_per_ms: 12_500,
            window: 65_536,
            chop_64k: 4_096,
            read_max: 0,
            corrupt_64k: 0,
            tear_64k: 0,
            refuse_64k: 0,
            hang_64k: 0,
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
            dial: seeds.stream("path dial", &[from, to]),
            offset_ppm: seeds.stream("path offset", &[from, to]).below(1_000_001),
        }
    }

    /// Draws from other streams from now on. What the path always takes on top stays.
    pub(super) fn reseed(&mut self, seeds: Seeds, from: &str, to: &str) {
        let fresh = Self::new(self.config, seeds, from, to);
        *self = Self {
            busy_until: self.busy_until,
            offset_ppm: self.offset_ppm,
            ..fresh
        };
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

    /// What becomes of a dial that came through.
    pub(super) fn dial(&mut self) -> DialOutcome {
        if self.config.refuse_64k > 0 && self.dial.chance(self.config.refuse_64k) {
            DialOutcome::Refused
        } else if self.config.hang_64k > 0 && self.dial.chance(self.config.hang_64k) {
            DialOutcome::Lost
        } else {
            DialOutcome::Heard
        }
    }

    fn draw_latency(&mut self) -> u64 {
        let config = &self.config;
        let min = config.latency_us_min.saturating_mul(1_000);
        let max = config.latency_us_max.saturating_mul(1_000);
        let range = max.saturating_sub(min);
        let mut nanos = match config.latency_shape {
            LatencyShape::Uniform => self.latency.between(min, max),
            // Integers alone: the logarithm of a float is not the same everywhere.
            LatencyShape::Exponential => {
                let half = range / 4;
                let halves = u64::from(self.latency.next_u64().trailing_zeros());
                min.saturating_add(half.saturating_mul(halves))
                    .saturating_add(self.latency.below(half.saturating_add(1)))
            }
            LatencyShape::Bimodal => {
                let within = self.latency.below(range / 8 + 1);
                if self.latency.chance(8_192) {
                    max - within
                } else {
                    min + within
                }
            }
        };
        let offset = u128::from(config.offset_us_max) * u128::from(self.offset_ppm) / 1_000;
        nanos = nanos.saturating_add(u64::try_from(offset).unwrap_or(u64::MAX));
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
    fn latencies_have_their_shape_and_a_path_keeps_its_offset() {
        let draw = |latency_shape, offset_us_max| {
            let mut path = path(PathConfig {
                latency_us_min: 1_000,
                latency_us_max: 9_000,
                latency_shape,
                offset_us_max,
                spike_64k: 0,
                ..PathConfig::default()
            });
            (0..4_000).map(|_| path.arrival(0)).collect::<Vec<u64>>()
        };
        let share = |of: &[u64], above: u64| of.iter().filter(|nanos| **nanos > above).count();
        let exponential = draw(LatencyShape::Exponential, 0);
        // Behind a quarter of the range a half, behind two a quarter, and so on.
        for (above, expected) in [(3_000_000, 2_000), (5_000_000, 1_000), (9_000_000, 250)] {
            let found = share(&exponential, above);
            assert!(found.abs_diff(expected) < expected / 3, "{found} above {above}");
        }
        let bimodal = draw(LatencyShape::Bimodal, 0);
        assert_eq!(share(&bimodal, 2_000_000), share(&bimodal, 7_999_999));
        assert!(share(&bimodal, 5_000_000).abs_diff(500) < 100);
        let (near, far) = (
            draw(LatencyShape::Uniform, 0),
            draw(LatencyShape::Uniform, 50_000),
        );
        let offset = far[0] - near[0];
        assert!(offset <= 50_000_000 && near.iter().zip(&far).all(|(near, far)| far - near == offset));
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
