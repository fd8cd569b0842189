//! One simulated process: which incarnation runs, what it owns, what its clock shows.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::disk::SimDisk;
use crate::env::SimEnv;
use crate::executor::ReplicaTask;

/// A replica of a world. Ids count from 0, in the order of creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(u32);

/// One life of a replica's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    pub(crate) replica: ReplicaId,
    pub(crate) incarnation: u32,
}

/// How a process ends against its will.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Crash {
    /// The process is killed: written bytes stay, streams are reset.
    Kill,
    /// The machine loses power: bytes that were not synced may be lost, peers hear nothing.
    PowerLoss,
}

/// What a replica runs whenever it starts.
pub(crate) type Program = Arc<dyn Fn(SimEnv) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// See the module.
pub(crate) struct Replica {
    pub(crate) name: Arc<str>,
    pub(crate) incarnation: u32,
    pub(crate) up: bool,
    pub(crate) paused: bool,
    pub(crate) clock: ReplicaClock,
    pub(crate) disk: SimDisk,
    pub(crate) program: Option<Program>,
    pub(crate) env: Option<SimEnv>,
    pub(crate) tasks: BTreeMap<u64, Arc<ReplicaTask>>,
    /// Tasks that are ready, but the replica is paused.
    pub(crate) parked: Vec<Arc<ReplicaTask>>,
}

/// What the clocks of a replica show.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ReplicaClock {
    /// Virtual time at which the incarnation started.
    pub(crate) started_at: u64,
    /// Milliseconds by which the time of day is ahead.
    pub(crate) skew_ms: i64,
    /// Millionths by which the time of day runs fast.
    pub(crate) drift_ppm: i64,
    /// Virtual time since which it drifts.
    pub(crate) drift_since: u64,
}

/// Time of day at the start of every world: 2023-11-14 22:13:20 UTC.
pub(crate) const WALL_EPOCH_MS: i64 = 1_700_000_000_000;

impl ReplicaId {
    /// The replica that was created as number `index`.
    ///
    /// A world has fewer than 2^32 replicas: a greater index names one that does not exist.
    pub(crate) fn new(index: usize) -> Self {
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// Its number, from 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl ReplicaClock {
    /// Milliseconds since 1970 at virtual time `now`.
    pub(crate) fn wall_ms(&self, now: u64) -> u64 {
        let true_ms = WALL_EPOCH_MS.saturating_add_unsigned(now / 1_000_000);
        let wall = true_ms
            .saturating_add(self.skew_ms)
            .saturating_add(self.drifted_ms(now));
        u64::try_from(wall).unwrap_or(0)
    }

    /// Sets the drift, and keeps what has drifted so far.
    pub(crate) fn set_drift(&mut self, now: u64, drift_ppm: i64) {
        self.skew_ms = self.skew_ms.saturating_add(self.drifted_ms(now));
        self.drift_ppm = drift_ppm;
        self.drift_since = now;
    }

    fn drifted_ms(&self, now: u64) -> i64 {
        let elapsed_ns = i128::from(now.saturating_sub(self.drift_since));
        let drifted = elapsed_ns * i128::from(self.drift_ppm) / 1_000_000_000_000;
        i64::try_from(drifted).unwrap_or(if drifted < 0 { i64::MIN } else { i64::MAX })
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "replica {}", self.0)
    }
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::PowerLoss => "power_loss",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_clocks_skew_and_drift() {
        let hour = 3_600_000_000_000;
        let mut clock = ReplicaClock::default();
        assert_eq!(clock.wall_ms(5_000_000), 1_700_000_000_005);
        clock.skew_ms = -5;
        assert_eq!(clock.wall_ms(5_000_000), 1_700_000_000_000);
        clock.set_drift(0, 100);
        assert_eq!(clock.wall_ms(hour), 1_700_003_600_000 - 5 + 360);
        clock.set_drift(hour, -100);
        assert_eq!(clock.wall_ms(2 * hour), 1_700_007_200_000 - 5);
        clock.skew_ms = i64::MIN;
        assert_eq!(clock.wall_ms(hour), 0);
    }
}
