//! Gathering blocks of peers before they are ordered, so that a heal undoes seldom.
//!
//! While a peer is known to have more blocks of some log than are here, those that came wait for the others: until
//! nothing is on its way any more, until many wait, until nothing came for a while, or until the first one has waited too
//! long ([`HealGather`](super::HealGather)). A single new entry never waits: when it is here, nothing is on its way.
//!
//! Nor do those of the only other writer that there is, as long as they come behind all that is in the order: a new peer
//! applies the history of a single writer while it comes in.
//!
//! Peers that just connected count as having more until they said what they have: who meets several at once orders what
//! they bring together.
//!
//! The more blocks wait, the more an undo between them and the next ones would cost, and the longer they may wait: a
//! heal of thousands is ordered once, and entries that trickle in while others are on their way are seen soon.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Session;
use super::shared::{Shared, lock, unless};
use crate::crypto::CoreKey;
use crate::env::{Clock as _, Env, Mono, Point, Slip, Spawn as _};

/// What went to the engine at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fed {
    pub(super) blocks: usize,
    pub(super) bytes: usize,
}

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Gather {
    blocks: usize,
    bytes: usize,
    /// When the first and the last block that waits came. None: nothing waits.
    since: Option<(Mono, Mono)>,
    /// A task drains when the time is over.
    is_timed: bool,
    /// Peers that just connected and have not said what they have.
    newcomers: usize,
}

impl<E: Env> Shared<E> {
    /// New blocks of a core went to the engine: orders them, now or together with those on their way.
    pub(super) async fn gathered(self: &Arc<Self>, core: &CoreKey, fed: Fed) {
        let limits = self.settings.heal_gather;
        let waits = limits.time_ms > 0 && !self.env.buggify("no_gathering") && self.may_undo(core) && {
            let now = self.env.clock().now();
            let mut gather = lock(&self.gather);
            gather.blocks = gather.blocks.saturating_add(fed.blocks);
            gather.bytes = gather.bytes.saturating_add(fed.bytes);
            let first = gather.since.map_or(now, |(first, _)| first);
            gather.since = Some((first, now));
            let waits = gather.bytes < limits.bytes;
            self.env.sometimes(Point::GatherFull, !waits);
            if waits && !std::mem::replace(&mut gather.is_timed, true) {
                self.env
                    .spawn()
                    .spawn("gather", drain_later(Arc::downgrade(self)));
            }
            waits
        };
        if !waits {
            self.drain_gathered().await;
        }
    }

    /// Takes note of a peer that connects: until it has said what it has, and has sent it, or for a short while, blocks
    /// of its are on their way.
    pub(super) fn greet(self: &Arc<Self>, session: &Session) {
        let limits = self.settings.heal_gather;
        if limits.time_ms == 0 {
            return;
        }
        lock(&self.gather).newcomers += 1;
        let (shared, session, clock) = (Arc::downgrade(self), session.clone(), self.env.clock().clone());
        self.env.spawn().spawn("greet a peer", async move {
            let quiet = clock.sleep(Duration::from_millis(limits.quiet_ms));
            let _ = unless(session.synced(), quiet).await;
            if let Some(shared) = shared.upgrade() {
                shared.greeted().await;
            }
        });
    }

    async fn greeted(self: &Arc<Self>) {
        let was_last = {
            let mut gather = lock(&self.gather);
            gather.newcomers = gather.newcomers.saturating_sub(1);
            gather.newcomers == 0 && gather.since.is_some()
        };
        if was_last && lock(&self.state).cores.filling().next().is_none() {
            self.drain_gathered().await;
        }
    }

    /// True when more blocks are on their way, and ordering what is here before they are may be to no avail.
    fn may_undo(&self, core: &CoreKey) -> bool {
        let (is_waiting, has_newcomers) = {
            let gather = lock(&self.gather);
            (gather.since.is_some(), gather.newcomers > 0)
        };
        let state = lock(&self.state);
        let mut filling = state.cores.filling().peekable();
        // What the only other writer sends, and goes on where the order ends, is not undone by the rest of it.
        (has_newcomers || filling.peek().is_some())
            && (is_waiting
                || filling.any(|key| key != *core)
                || !state.engine.is_continued_by(core, &self.local))
    }

    async fn drain_gathered(self: &Arc<Self>) {
        let is_reset_late = self.store.planted().has(Slip::GatherResetLate);
        let reset = || {
            let mut gather = lock(&self.gather);
            (gather.blocks, gather.bytes, gather.since) = (0, 0, None);
        };
        reset();
        // What went wrong with applying is kept in the engine.
        let _ = Box::pin(self.drain()).await;
        if is_reset_late {
            reset();
        }
    }

    /// When what waits has waited long enough; none when nothing waits.
    fn gathered_at(&self, gather: &Gather) -> Option<Mono> {
        let limits = self.settings.heal_gather;
        let (first, last) = gather.since?;
        let grown = u64::try_from(gather.blocks).unwrap_or(u64::MAX);
        let longest = grown.max(limits.quiet_ms).min(limits.time_ms);
        let latest = first + Duration::from_millis(longest);
        let quiet = Duration::from_millis(limits.quiet_ms).max(last.since(first) / 2);
        Some(latest.min(last + quiet))
    }

    /// Drains if it is time, and says when to look again; none when nothing waits.
    async fn look_at_gathered(self: &Arc<Self>) -> Option<Mono> {
        let limits = self.settings.heal_gather;
        let is_due = {
            let gather = lock(&self.gather);
            let at = self.gathered_at(&gather);
            let is_due =
                at.is_some_and(|at| at <= self.env.clock().now() || self.env.buggify("early_gathering"));
            if let Some((first, _)) = gather.since.filter(|_| is_due) {
                let waited = self.env.clock().now().since(first);
                let is_longest = waited >= Duration::from_millis(limits.time_ms);
                self.env.sometimes(Point::GatherTimedOut, is_longest);
                self.env.sometimes(Point::GatherQuiet, !is_longest);
            }
            is_due
        };
        if is_due {
            self.drain_gathered().await;
        }
        let mut gather = lock(&self.gather);
        let at = self.gathered_at(&gather);
        gather.is_timed = at.is_some() || self.store.planted().has(Slip::GatherOnce);
        at
    }
}

async fn drain_later<E: Env>(shared: Weak<Shared<E>>) {
    loop {
        let Some(shared) = shared.upgrade() else { return };
        let Some(at) = shared.look_at_gathered().await else {
            return;
        };
        let clock = shared.env.clock().clone();
        drop(shared);
        clock.sleep_until(at).await;
    }
}
