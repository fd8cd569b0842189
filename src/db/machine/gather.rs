//! Gathering blocks of peers before they are ordered, so that a heal undoes seldom.
//!
//! While a peer is known to have more blocks of some log than are here, those that came wait for the others: until
//! nothing is on its way any more, until many wait, until nothing came for a while, or until the first one has waited too
//! long ([`HealGather`]). A single new entry never waits: when it is here, nothing is on its way.
//!
//! Nor do those of the only other writer that there is, as long as they come behind all that is in the order: a new peer
//! applies the history of a single writer while it comes in.
//!
//! Peers that just connected count as having more until they said what they have: who meets several at once orders what
//! they bring together.
//!
//! The more blocks wait, the more an undo between them and the next ones would cost, and the longer they may wait: a
//! heal of thousands is ordered once, and entries that trickle in while others are on their way are seen soon.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::db::HealGather;
use crate::env::{Mono, Planted, Point, Sights, Slip};

/// What went to the engine at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fed {
    pub(super) blocks: usize,
    pub(super) bytes: usize,
}

/// What waits, and for whom.
#[derive(Debug)]
pub(super) struct Gather {
    limits: HealGather,
    blocks: usize,
    bytes: usize,
    /// When the first and the last block that waits came. None: nothing waits.
    since: Option<(Mono, Mono)>,
    /// Somebody is to look at what waits.
    is_timed: bool,
    /// Nobody looks any more; for [`Slip::GatherOnce`].
    is_deaf: bool,
    /// Peers that just connected and have not said what they have, each with the time up to which they are waited for.
    newcomers: BTreeMap<u64, Mono>,
    planted: Planted,
    sights: Sights,
}

impl Gather {
    pub(super) fn new(limits: HealGather, planted: Planted) -> Self {
        Self {
            limits,
            blocks: 0,
            bytes: 0,
            since: None,
            is_timed: false,
            is_deaf: false,
            newcomers: BTreeMap::new(),
            planted,
            sights: Sights::default(),
        }
    }

    // What is so.

    /// True when blocks wait.
    pub(super) const fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// True when a peer that just connected has not said yet what it has.
    pub(super) fn has_newcomers(&self) -> bool {
        !self.newcomers.is_empty()
    }

    /// The points that it passed since the last call.
    pub(super) const fn take_sights(&mut self) -> Sights {
        self.sights.take()
    }

    // What happens.

    /// Blocks went to the engine. True when they wait for others: `may_undo` says that ordering them now may be to no
    /// avail.
    pub(super) fn take(&mut self, fed: Fed, may_undo: bool, now: Mono) -> bool {
        if self.limits.time_ms == 0 || !may_undo {
            return false;
        }
        self.blocks = self.blocks.saturating_add(fed.blocks);
        self.bytes = self.bytes.saturating_add(fed.bytes);
        let first = self.since.map_or(now, |(first, _)| first);
        self.since = Some((first, now));
        let waits = self.bytes < self.limits.bytes;
        self.sights.note_if(Point::GatherFull, !waits);
        waits
    }

    /// What waits is ordered now.
    pub(super) const fn release(&mut self) {
        (self.blocks, self.bytes, self.since) = (0, 0, None);
    }

    /// A peer connects: until it has said what it has, and has sent it, or for a short while, blocks of its are on their
    /// way. True when it is waited for.
    pub(super) fn meet(&mut self, peer: u64, now: Mono) -> bool {
        let is_awaited = self.limits.time_ms > 0;
        if is_awaited {
            let until = now + Duration::from_millis(self.limits.quiet_ms);
            self.newcomers.insert(peer, until);
        }
        is_awaited
    }

    /// A peer sent all that it has, or is gone. True when it was the last one that was waited for, and blocks wait.
    pub(super) fn peer_synced(&mut self, peer: u64) -> bool {
        let was_awaited = self.newcomers.remove(&peer).is_some();
        was_awaited && self.newcomers.is_empty() && self.is_waiting()
    }

    /// Waits for no peer any longer that had its time. True when none is left, one was, and blocks wait.
    pub(super) fn expire(&mut self, now: Mono) -> bool {
        let before = self.newcomers.len();
        self.newcomers.retain(|_, until| *until > now);
        self.newcomers.len() < before && self.newcomers.is_empty() && self.is_waiting()
    }

    // What follows.

    /// True when what waits has waited long enough; `is_early` when that is to be so in any case.
    pub(super) fn is_due(&mut self, now: Mono, is_early: bool) -> bool {
        let Some((first, _)) = self.since else {
            return false;
        };
        let is_due = is_early || self.gathered_at().is_some_and(|at| at <= now);
        if is_due {
            let is_longest = now.since(first) >= Duration::from_millis(self.limits.time_ms);
            self.sights.note_if(Point::GatherTimedOut, is_longest);
            self.sights.note_if(Point::GatherQuiet, !is_longest);
        }
        is_due
    }

    /// When to look again; none when nothing waits.
    pub(super) fn wake_at(&mut self) -> Option<Mono> {
        let gathered = self.gathered_at().filter(|_| !self.is_deaf);
        self.is_timed |= gathered.is_some();
        gathered.into_iter().chain(self.newcomers.values().copied()).min()
    }

    /// It was looked at what waits, and all that was due is ordered.
    pub(super) const fn looked(&mut self) {
        self.is_deaf |= self.planted.has(Slip::GatherOnce) && self.is_timed && !self.is_waiting();
    }

    /// When what waits has waited long enough.
    fn gathered_at(&self) -> Option<Mono> {
        let (first, last) = self.since?;
        let grown = u64::try_from(self.blocks).unwrap_or(u64::MAX);
        let longest = grown.max(self.limits.quiet_ms).min(self.limits.time_ms);
        let latest = first + Duration::from_millis(longest);
        let quiet = Duration::from_millis(self.limits.quiet_ms).max(last.since(first) / 2);
        Some(latest.min(last + quiet))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FED: Fed = Fed { blocks: 1, bytes: 10 };

    fn at(ms: u64) -> Mono {
        Mono::default() + Duration::from_millis(ms)
    }

    fn gather(time_ms: u64, quiet_ms: u64, bytes: usize) -> Gather {
        let limits = HealGather {
            time_ms,
            quiet_ms,
            bytes,
        };
        Gather::new(limits, Planted::default())
    }

    #[test]
    fn what_undoes_nothing_waits_for_nobody() {
        let mut waiting = gather(5_000, 200, 1_000);
        assert!(!waiting.take(FED, false, at(0)));
        assert_eq!((waiting.wake_at(), waiting.is_waiting()), (None, false));
        let mut never = gather(0, 200, 1_000);
        assert!(!never.take(FED, true, at(0)) && !never.meet(1, at(0)));
    }

    #[test]
    fn it_waits_until_nothing_came_for_a_while_or_too_much_did() {
        let mut gather = gather(5_000, 200, 35);
        assert!(gather.take(FED, true, at(0)));
        assert_eq!(gather.wake_at(), Some(at(200)));
        assert!(!gather.is_due(at(199), false) && gather.is_due(at(200), false));
        assert!(gather.is_due(at(0), true), "a simulator may be early");
        assert!(gather.take(FED, true, at(100)) && gather.take(FED, true, at(190)));
        // A few blocks wait no longer than the quiet time in all.
        assert_eq!(gather.wake_at(), Some(at(200)));
        assert!(!gather.take(FED, true, at(195)), "that is more than may wait");
        gather.release();
        assert!(!gather.is_waiting() && !gather.is_due(at(9_999), true));
        assert_eq!(gather.wake_at(), None);
    }

    #[test]
    fn newcomers_are_heard_out_but_not_for_long() {
        let mut gather = gather(5_000, 200, 1_000);
        assert!(gather.meet(1, at(0)) && gather.meet(2, at(50)));
        assert_eq!(gather.wake_at(), Some(at(200)));
        assert!(gather.take(FED, true, at(60)));
        assert!(!gather.peer_synced(1), "another one is awaited");
        assert!(!gather.peer_synced(1), "it was heard out");
        assert!(!gather.expire(at(249)) && gather.has_newcomers());
        assert!(gather.expire(at(250)) && !gather.has_newcomers());
        assert!(!gather.peer_synced(2), "it had its time");
    }

    #[test]
    fn a_timer_that_runs_once_is_not_set_again() {
        let limits = HealGather::default();
        let mut gather = Gather::new(limits, Planted::new(|slip| slip == Slip::GatherOnce));
        assert!(gather.take(FED, true, at(0)) && gather.wake_at().is_some());
        gather.release();
        gather.looked();
        assert!(gather.take(FED, true, at(1)));
        assert_eq!(gather.wake_at(), None);
    }

    proptest! {
        /// Whatever comes whenever: what waits is due at some time, which is no later than the longest wait, and when it
        /// says that it is to be looked at, it is due or more came since.
        #[test]
        fn what_waits_is_never_forgotten(
            time_ms in 1_u64..2_000,
            quiet_ms in 0_u64..500,
            gaps in proptest::collection::vec((0_u64..300, 1_usize..200), 1..40),
        ) {
            let mut gather = gather(time_ms, quiet_ms, 1 << 20);
            let (mut now, mut first) = (0, None);
            for (gap, blocks) in gaps {
                now += gap;
                if gather.is_due(at(now), false) {
                    gather.release();
                    first = None;
                    prop_assert_eq!(gather.wake_at(), None);
                }
                let fed = Fed { blocks, bytes: 1 };
                prop_assert!(gather.take(fed, true, at(now)));
                let first = *first.get_or_insert(now);
                let due = gather.wake_at().unwrap();
                prop_assert!(due <= at(first + time_ms), "{:?} after {} + {}", due, first, time_ms);
                prop_assert!(gather.is_due(due.max(at(now)), false));
            }
        }
    }
}
