//! When what strangers wrote takes part in the order: each log in its announcer's turn, so many tries a second in all.
//!
//! What apply refuses leaves the set, and may be accepted at another time. So it is tried again once the order is another
//! one. As long as there are few of them that happens at once; else what trying them cost is counted, and the next one
//! waits until so much time went by that it costs so much a second at most.

use std::collections::BTreeMap;
use std::time::Duration;

use super::strangers::Announcer;
use crate::crypto::CoreKey;
use crate::engine::LetGo;
use crate::env::{Mono, Planted, Slip};
use crate::wire::{Length, Link};

/// Tries in one portion: nobody waits longer for a stranger.
const PORTION: u64 = 32;

/// So many logs are tried again at once.
const AT_ONCE: usize = 8;

/// Logs of strangers that are here, and not in the set as a whole.
#[derive(Debug)]
pub(super) struct Turns {
    outside: BTreeMap<CoreKey, Outside>,
    tries_max: u64,
    /// Tries that are left, in thousandths; below zero when one cost more than expected.
    left: i64,
    since: Mono,
    /// Counts orders: another one may change a verdict.
    epoch: u64,
    /// The order when it was counted last.
    head: Option<Link>,
    /// Whose turn it was.
    last: Announcer,
    /// What the engine says that tries cost, so far.
    paid: u64,
}

#[derive(Debug, Clone, Copy)]
struct Outside {
    /// Up to where it is in the set all the same.
    kept: Length,
    /// When it was tried last.
    epoch: Option<u64>,
    is_tried: bool,
}

impl Turns {
    pub(super) const fn new(tries_max: usize) -> Self {
        let tries_max = tries_max as u64;
        Self {
            outside: BTreeMap::new(),
            tries_max,
            left: thousandths(tries_max),
            since: Mono(0),
            epoch: 0,
            head: None,
            last: None,
            paid: 0,
        }
    }

    // What is so.

    /// True when something of the log is not in the set.
    pub(super) fn has(&self, core: &CoreKey) -> bool {
        self.outside.contains_key(core)
    }

    /// Up to where a log is in the set, if it is not as a whole.
    pub(super) fn kept(&self, core: &CoreKey) -> Option<Length> {
        self.outside.get(core).map(|outside| outside.kept)
    }

    /// All logs of which something is not in the set.
    pub(super) fn cores(&self) -> Vec<CoreKey> {
        self.outside.keys().copied().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.outside.is_empty()
    }

    /// True when few of them may be tried again.
    pub(super) fn are_few(&self) -> bool {
        let due = self.outside.values().filter(|outside| self.is_due(outside));
        let has_plenty = self.left > thousandths(self.tries_max) / 2;
        has_plenty && due.take(AT_ONCE + 1).count() <= AT_ONCE
    }

    /// When one of them can be tried again; none when none may.
    pub(super) fn wake_at(&self) -> Option<Mono> {
        if !self.outside.values().any(|outside| self.is_due(outside)) {
            return None;
        }
        // Not for each of them alone.
        let enough = thousandths(self.tries_max.min(PORTION));
        let lacks = u64::try_from(enough - self.left).unwrap_or_default();
        Some(self.since + Duration::from_millis(lacks.div_ceil(self.tries_max.max(1))))
    }

    // What happens.

    /// More of a stranger came: it is to have its turn.
    pub(super) fn wait(&mut self, core: CoreKey, kept: Length) {
        let outside = Outside {
            kept,
            epoch: None,
            is_tried: true,
        };
        let kept = self.outside.get(&core).map_or(kept, |outside| outside.kept);
        self.outside.insert(core, Outside { kept, ..outside });
    }

    /// Batches of a log left the set.
    pub(super) fn left(&mut self, gone: &LetGo, planted: Planted) {
        // What came meanwhile was not tried yet.
        let is_known = |outside: &Outside| outside.epoch.is_some() || planted.has(Slip::MeanwhileTried);
        let is_tried_all = self.outside.get(&gone.core).is_none_or(is_known);
        let outside = Outside {
            kept: gone.kept,
            epoch: Some(self.epoch).filter(|_| is_tried_all),
            is_tried: gone.is_tried || !is_tried_all,
        };
        self.outside.insert(gone.core, outside);
    }

    /// A log takes part as a whole, or is not here any more.
    pub(super) fn remove(&mut self, core: &CoreKey) -> bool {
        self.outside.remove(core).is_some()
    }

    /// The order is this one: what was refused before may be accepted.
    pub(super) fn ordered(&mut self, head: Link) {
        if self.head.replace(head) != Some(head) {
            self.epoch += 1;
        }
    }

    /// Time went by.
    pub(super) fn pass(&mut self, now: Mono) {
        let passed = u64::try_from(now.since(self.since).as_millis()).unwrap_or(u64::MAX);
        if passed > 0 {
            self.since = now;
            let more = thousandths(passed.saturating_mul(self.tries_max)) / 1000;
            self.left = self.left.saturating_add(more).min(thousandths(self.tries_max));
        }
    }

    /// What trying strangers cost in all, as the engine counts it.
    pub(super) fn pay(&mut self, tried: u64) {
        let more = tried.saturating_sub(self.paid);
        self.paid = tried;
        self.spend(more);
    }

    /// So many batches are tried.
    pub(super) fn spend(&mut self, tries: u64) {
        self.left = self.left.saturating_sub(thousandths(tries));
    }

    // What follows.

    /// The next log whose turn it is; none when it is nobody's now.
    pub(super) fn next(&mut self, by: impl Fn(&CoreKey) -> Announcer) -> Option<CoreKey> {
        if self.left <= 0 {
            return None;
        }
        let due = self.outside.iter().filter(|(_, outside)| self.is_due(outside));
        // Of each announcer the one that waits for longest.
        let mut first: BTreeMap<Announcer, (Option<u64>, CoreKey)> = BTreeMap::new();
        for (core, outside) in due {
            let place = (outside.epoch, *core);
            let of = first.entry(by(core)).or_insert(place);
            *of = place.min(*of);
        }
        let later = first.iter().find(|(by, _)| **by > self.last);
        let (by, (_, core)) = later.or_else(|| first.first_key_value())?;
        let core = *core;
        self.last = *by;
        self.outside.remove(&core);
        Some(core)
    }

    /// A portion is over: others get their turn.
    pub(super) const fn is_portion(spent: u64) -> bool {
        spent >= PORTION
    }

    fn is_due(&self, outside: &Outside) -> bool {
        outside.is_tried && outside.epoch.is_none_or(|epoch| epoch < self.epoch)
    }
}

const fn thousandths(tries: u64) -> i64 {
    let most = i64::MAX as u64 / 4;
    let tries = tries.saturating_mul(1000);
    (if tries < most { tries } else { most }) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::wakeup::TopicPeer;

    fn core(name: u8) -> CoreKey {
        CoreKey::new([name; 32])
    }

    fn head(length: u64) -> Link {
        Link {
            key: core(0),
            length: Length(length),
        }
    }

    fn gone(name: u8) -> LetGo {
        LetGo {
            core: core(name),
            kept: Length(0),
            is_tried: true,
        }
    }

    #[test]
    fn what_was_refused_is_tried_again_when_the_order_is_another_one() {
        let mut turns = Turns::new(100);
        turns.ordered(head(1));
        turns.wait(core(1), Length(0));
        assert_eq!(turns.next(|_| None), Some(core(1)));
        turns.left(&gone(1), Planted::default());
        assert_eq!(turns.next(|_| None), None, "nothing changed");
        assert_eq!(turns.wake_at(), None);
        turns.ordered(head(1));
        assert_eq!(turns.next(|_| None), None);
        turns.ordered(head(2));
        assert_eq!(turns.next(|_| None), Some(core(1)));
        let untried = LetGo {
            is_tried: false,
            ..gone(1)
        };
        turns.left(&untried, Planted::default());
        turns.ordered(head(3));
        assert_eq!(turns.next(|_| None), None, "only a record helps");
    }

    #[test]
    fn tries_are_so_many_a_second_and_announcers_take_turns() {
        let mut turns = Turns::new(100);
        for name in 1..=20 {
            turns.wait(core(name), Length(0));
        }
        let by = |key: &CoreKey| (*key == core(20)).then_some(TopicPeer(1));
        let mut tried = Vec::new();
        while let Some(next) = turns.next(by) {
            turns.left(&gone(next.as_bytes()[0]), Planted::default());
            turns.spend(40);
            tried.push(next.as_bytes()[0]);
        }
        assert_eq!(
            tried,
            [20, 1, 2],
            "the one of the other announcer is not the last"
        );
        assert_eq!(turns.wake_at(), Some(Mono(0) + Duration::from_millis(520)));
        turns.pass(Mono(0) + Duration::from_millis(520));
        assert_eq!(turns.next(by), Some(core(3)));
        // Who stayed away gets no more than a second's worth.
        turns.pass(Mono(0) + Duration::from_secs(1000));
        turns.spend(99);
        assert!(turns.next(by).is_some());
        turns.pay(2);
        assert_eq!(turns.next(by), None);
        turns.pay(2);
        assert_eq!(turns.left, -1000, "what is paid is paid once");
    }
}
