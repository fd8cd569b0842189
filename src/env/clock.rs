//! Time as values: one clock that only moves forward, one that may jump.

use std::future::Future;
use std::ops::Add;
use std::time::Duration;

/// Nanoseconds since this process (or, in a simulation, this incarnation of a replica) started. Never goes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

/// Milliseconds since 1970-01-01 UTC, as the machine believes. May jump both ways; it stamps own entries and bounds
/// how far ahead a remote entry may be, nothing else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub u64);

impl Mono {
    /// Time since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Self;

    /// Saturates at the end of time, 584 years after the start.
    fn add(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

/// The clock of a world.
pub trait Clock: Clone + Send + Sync + 'static {
    /// Time since the start.
    fn now(&self) -> Mono;

    /// Time of day.
    fn wall(&self) -> Wall;

    /// Completes at `at` or later; at once when `at` has passed.
    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + Send;

    /// Completes after `duration` or later.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send {
        self.sleep_until(self.now() + duration)
    }
}
