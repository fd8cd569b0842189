//! How long to wait for what is not here.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::env::{Clock, Mono, watch};

/// The time that a read may wait for a block that is not stored here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    Local,
    /// At most so long.
    For(Duration),
    /// Until it comes, or the session is closed.
    Forever,
}

impl Default for Wait {
    /// Ten seconds: nothing hangs because everybody is offline.
    fn default() -> Self {
        Self::For(Duration::from_secs(10))
    }
}

/// The end of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    Changed,
    TimedOut,
    Closed,
}

impl Wait {
    /// The end of the wait; none when there is none.
    pub(super) fn deadline(self, clock: &impl Clock) -> Option<Mono> {
        match self {
            Self::Local => Some(clock.now()),
            Self::For(duration) => Some(clock.now() + duration),
            Self::Forever => None,
        }
    }
}

/// Waits for a change, but not past the deadline.
pub(super) async fn changed(
    receiver: &mut watch::Receiver<u64>,
    clock: &impl Clock,
    deadline: Option<Mono>,
) -> Woken {
    let woken = |outcome: Result<(), _>| {
        if outcome.is_ok() {
            Woken::Changed
        } else {
            Woken::Closed
        }
    };
    let mut change = pin!(receiver.changed());
    let Some(at) = deadline else {
        return woken(change.await);
    };
    let mut sleep = pin!(clock.sleep_until(at));
    poll_fn(|context| {
        if let Poll::Ready(outcome) = change.as_mut().poll(context) {
            return Poll::Ready(woken(outcome));
        }
        sleep.as_mut().poll(context).map(|()| Woken::TimedOut)
    })
    .await
}
