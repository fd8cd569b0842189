//! The clocks of this machine.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the native world is the door to the machine's clocks"
)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::env::{Clock, Mono, Wall};

/// The clocks of this machine. Counts from when it was made.
#[derive(Debug, Clone, Copy)]
pub struct NativeClock {
    start: Instant,
}

impl NativeClock {
    /// A clock that starts now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for NativeClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for NativeClock {
    fn now(&self) -> Mono {
        Mono::default() + self.start.elapsed()
    }

    fn wall(&self) -> Wall {
        // A machine set to before 1970 is taken to be at 1970.
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    async fn sleep_until(&self, at: Mono) {
        let missing = at.since(self.now());
        if !missing.is_zero() {
            tokio::time::sleep(missing).await;
        }
    }
}
