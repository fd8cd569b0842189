//! A clock that stands still until it is moved.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::locked;
use crate::env::{Clock, Mono, Wall};

/// A clock that stands still until it is moved. Clones share the time.
#[derive(Debug, Clone, Default)]
pub struct MemoryClock {
    state: Arc<Mutex<Time>>,
}

#[derive(Debug, Default)]
struct Time {
    now: Mono,
    wall: Wall,
    next_sleeper: u64,
    sleepers: BTreeMap<(Mono, u64), Waker>,
}

impl MemoryClock {
    /// Moves both clocks on, and wakes who slept up to then.
    pub fn advance(&self, by: Duration) {
        let to = self.now() + by;
        self.advance_to(to);
    }

    /// Sets the time of day; it may jump both ways.
    pub fn set_wall(&self, wall: Wall) {
        locked(&self.state).wall = wall;
    }

    /// Moves to the next sleeper; false when nobody sleeps.
    pub(super) fn jump(&self) -> bool {
        let next = locked(&self.state).sleepers.keys().next().map(|(at, _)| *at);
        next.map(|at| self.advance_to(at)).is_some()
    }

    fn advance_to(&self, to: Mono) {
        let mut state = locked(&self.state);
        let millis = to.0 / 1_000_000 - (state.now.0 / 1_000_000).min(to.0 / 1_000_000);
        state.wall = Wall(state.wall.0.saturating_add(millis));
        state.now = state.now.max(to);
        let after = (Mono(state.now.0.saturating_add(1)), 0);
        let later = state.sleepers.split_off(&after);
        let woken = std::mem::replace(&mut state.sleepers, later);
        drop(state);
        for waker in woken.into_values() {
            waker.wake();
        }
    }
}

impl Clock for MemoryClock {
    fn now(&self) -> Mono {
        locked(&self.state).now
    }

    fn wall(&self) -> Wall {
        locked(&self.state).wall
    }

    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + Send {
        Sleep {
            state: self.state.clone(),
            at,
            id: None,
        }
    }
}

struct Sleep {
    state: Arc<Mutex<Time>>,
    at: Mono,
    id: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = self.state.clone();
        let mut state = locked(&shared);
        if state.now >= self.at {
            return Poll::Ready(());
        }
        let id = *self.id.get_or_insert_with(|| {
            state.next_sleeper += 1;
            state.next_sleeper
        });
        state.sleepers.insert((self.at, id), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            locked(&self.state).sleepers.remove(&(self.at, id));
        }
    }
}
