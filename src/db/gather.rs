//! Gathering blocks of peers before they are ordered, so that a heal undoes seldom.
//!
//! While a peer is known to have more blocks of some log than are here, those that came wait for the others: until
//! nothing is on its way any more, until so many wait, or until the first one has waited so long
//! ([`HealGather`](super::HealGather)). A single new entry never waits: when it is here, nothing is on its way.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::shared::{Shared, lock};
use crate::env::{Clock as _, Env, Spawn as _};

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// Times that blocks came since the last drain.
    arrivals: usize,
    /// A task drains when the time is over.
    is_timed: bool,
}

impl<E: Env> Shared<E> {
    /// Blocks of a peer went to the engine: orders them, now or together with those on their way.
    pub(super) async fn gathered(self: &Arc<Self>) {
        let limits = self.settings.heal_gather;
        let waits = {
            let is_filling = lock(&self.state).cores.is_filling();
            let mut gather = lock(&self.gather);
            gather.arrivals += 1;
            let waits = is_filling && limits.time_ms > 0 && gather.arrivals < limits.blocks;
            if waits && !std::mem::replace(&mut gather.is_timed, true) {
                self.env.spawn().spawn(
                    "gather",
                    drain_later(Arc::downgrade(self), Duration::from_millis(limits.time_ms)),
                );
            }
            waits
        };
        if !waits {
            self.drain_gathered().await;
        }
    }

    async fn drain_gathered(self: &Arc<Self>) {
        lock(&self.gather).arrivals = 0;
        // What went wrong with applying is kept in the engine.
        let _ = Box::pin(self.drain()).await;
    }
}

async fn drain_later<E: Env>(shared: Weak<Shared<E>>, wait: Duration) {
    let Some(clock) = shared.upgrade().map(|shared| shared.env.clock().clone()) else {
        return;
    };
    clock.sleep(wait).await;
    let Some(shared) = shared.upgrade() else { return };
    let is_waiting = {
        let mut gather = lock(&shared.gather);
        gather.is_timed = false;
        gather.arrivals > 0
    };
    if is_waiting {
        shared.drain_gathered().await;
    }
}
