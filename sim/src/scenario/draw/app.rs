//! Misfortunes for the tests of apps: those that an app may meet, and that leave everything to be claimed.

use super::faults::{Faults, Kind};
use super::{Choices, EVENTS_MAX, network};
use crate::scenario::Scenario;

/// A class of misfortunes, as people call them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Replicas do not reach each other for a while.
    Partition,
    /// Paths are slow, lossy in the way of streams, and connections are reset.
    Network,
    /// Processes end and start again.
    Crash,
    /// Processes stand still for a while.
    Pause,
    /// The time of day is wrong, or runs too fast or too slow.
    Clock,
    /// Disks fail or are full.
    Disk,
    /// Replicas join when others have written for a while.
    Late,
}

impl Class {
    pub(crate) const ALL: [Self; 7] = [
        Self::Partition,
        Self::Network,
        Self::Crash,
        Self::Pause,
        Self::Clock,
        Self::Disk,
        Self::Late,
    ];

    /// None for what takes claims away, or asks membership to change in ways that an app may not have.
    const fn of(kind: Kind) -> Option<Self> {
        Some(match kind {
            Kind::Partition | Kind::Islands | Kind::Isolate | Kind::Cut | Kind::Flap | Kind::Swizzle => {
                Self::Partition
            }
            Kind::Reset | Kind::SlowPath => Self::Network,
            Kind::PowerLoss | Kind::Kill | Kind::Blackout | Kind::CrashLoop | Kind::Reopen => Self::Crash,
            Kind::Pause => Self::Pause,
            Kind::Skew | Kind::Drift => Self::Clock,
            Kind::DiskError | Kind::DiskFull => Self::Disk,
            Kind::Late => Self::Late,
            _ => return None,
        })
    }
}

/// Lets misfortunes of these classes befall a scenario, and gives it a network that fits them.
pub(crate) fn befall(
    choices: &mut Choices<'_>,
    scenario: &mut Scenario,
    span_ms: u64,
    is_wanted: impl Fn(Class) -> bool,
) {
    if is_wanted(Class::Network) {
        scenario.network = network(choices);
    }
    let is_any = Class::ALL.into_iter().any(&is_wanted);
    if scenario.replicas < 2 || !is_any {
        return;
    }
    let of = |kind| Class::of(kind).is_some_and(&is_wanted);
    let mut faults = Faults::of(choices, scenario, span_ms, of);
    for _ in 0..faults.choices.below(EVENTS_MAX / 2 + 1) {
        faults.draw();
    }
    scenario.event = faults.into_events();
    scenario.event.sort_by_key(|event| event.at_ms);
}
