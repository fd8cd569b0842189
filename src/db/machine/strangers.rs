//! Which strangers' cores are fetched: a bounded number at a time, each in its turn.
//!
//! Whoever is no member may have written optimistically, so cores are fetched that peers announce, and that batches of
//! strangers link. Nobody can tell beforehand which of them exist. So each gets one of a number of slots, and gives it up
//! when somebody waits and nothing came of it for a while, when it had it for half as long again, or when the peer that
//! announced it is gone. Those who wait are taken from their announcers in turn: who announces a thousand keys waits
//! for his own alone.
//!
//! What was fetched of a stranger that gave up its slot is forgotten.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use crate::crypto::CoreKey;
use crate::env::Mono;
use crate::replication::wakeup::TopicPeer;

/// Cores of one announcer that wait. More are forgotten.
pub(in crate::db) const WAITING_MAX: usize = 1024;

/// Who named a core: a peer, or something on this side.
pub(super) type Announcer = Option<TopicPeer>;

/// Slots, and who waits for one.
#[derive(Debug)]
pub(super) struct Strangers {
    slots_max: usize,
    waiting_max: usize,
    quiet: Duration,
    slots: BTreeMap<CoreKey, Slot>,
    waiting: BTreeMap<Announcer, StrangerQueue>,
    /// Whose turn it was.
    last: Announcer,
}

#[derive(Debug)]
struct Slot {
    by: Announcer,
    /// When it got its slot.
    opened: Mono,
    /// When it got its slot, or gave a block.
    since: Mono,
    /// Who announced it is gone.
    is_given_up: bool,
}

#[derive(Debug, Default)]
struct StrangerQueue {
    order: VecDeque<CoreKey>,
    known: BTreeSet<CoreKey>,
}

/// A core that gets a slot, and the one that had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) opens: CoreKey,
    pub(super) closes: Option<CoreKey>,
}

impl Strangers {
    pub(super) const fn new(slots_max: usize, quiet: Duration) -> Self {
        Self {
            slots_max,
            waiting_max: WAITING_MAX,
            quiet,
            slots: BTreeMap::new(),
            waiting: BTreeMap::new(),
            last: None,
        }
    }

    /// With so many cores of one announcer that may wait, [`WAITING_MAX`] unless told.
    pub(super) const fn holding(mut self, waiting_max: usize) -> Self {
        self.waiting_max = waiting_max;
        self
    }

    /// Cores that have a slot, and cores that wait for one.
    pub(super) fn counts(&self) -> (usize, usize) {
        let waiting = self.waiting.values().map(|queue| queue.order.len()).sum();
        (self.slots.len(), waiting)
    }

    /// The peers that named what waits or has a slot.
    pub(super) fn announcers(&self) -> BTreeSet<TopicPeer> {
        let slots = self.slots.values().map(|slot| slot.by);
        self.waiting.keys().copied().chain(slots).flatten().collect()
    }

    // What happens.

    /// These wait for a slot, if they do not have one.
    pub(super) fn announce(&mut self, by: Announcer, cores: impl IntoIterator<Item = CoreKey>) {
        let queue = self.waiting.entry(by).or_default();
        for core in cores {
            if queue.order.len() < self.waiting_max
                && !self.slots.contains_key(&core)
                && queue.known.insert(core)
            {
                queue.order.push_back(core);
            }
        }
        if queue.order.is_empty() {
            self.waiting.remove(&by);
        }
    }

    /// It was fetched before.
    pub(super) fn occupy(&mut self, core: CoreKey, now: Mono) {
        self.slots.insert(core, Slot::new(None, now));
    }

    /// Blocks of a core came.
    pub(super) fn gave(&mut self, core: &CoreKey, now: Mono) {
        if let Some(slot) = self.slots.get_mut(core) {
            slot.since = now;
        }
    }

    /// Frees the slots of those who are none any more.
    pub(super) fn retain(&mut self, is_stranger: impl Fn(&CoreKey) -> bool) {
        self.slots.retain(|core, _| is_stranger(core));
    }

    /// Forgets peers that are gone.
    pub(super) fn retain_peers(&mut self, is_here: impl Fn(TopicPeer) -> bool) {
        let is_here = |by: &Announcer| by.is_none_or(&is_here);
        self.waiting.retain(|by, _| is_here(by));
        for slot in self.slots.values_mut().filter(|slot| !is_here(&slot.by)) {
            slot.is_given_up = true;
        }
    }

    // What follows.

    /// Who announced a core that has a slot.
    pub(super) fn announcer(&self, core: &CoreKey) -> Announcer {
        self.slots.get(core).and_then(|slot| slot.by)
    }

    /// True when it has a slot.
    pub(super) fn has(&self, core: &CoreKey) -> bool {
        self.slots.contains_key(core)
    }

    /// The next one that gets a slot; none when nobody waits, or no slot is free yet.
    pub(super) fn next(&mut self, now: Mono, is_known: impl Fn(&CoreKey) -> bool) -> Option<Turn> {
        loop {
            let by = self.whose_turn()?;
            let core = *self.waiting.get(&by)?.order.front()?;
            let is_needless = self.slots.contains_key(&core) || is_known(&core);
            let closes = if is_needless || self.slots.len() < self.slots_max {
                None
            } else {
                Some(self.free(now)?)
            };
            self.take(by, &core);
            if is_needless {
                continue;
            }
            if let Some(closes) = &closes {
                self.slots.remove(closes);
            }
            self.last = by;
            self.slots.insert(core, Slot::new(by, now));
            return Some(Turn { opens: core, closes });
        }
    }

    /// True when more cores have slots than there are.
    pub(super) fn is_over(&self) -> bool {
        self.slots.len() > self.slots_max
    }

    /// A core that has to go because more have slots than there are: all that were here when the database was opened got
    /// one, and which of them members need was not known yet.
    pub(super) fn surplus(&mut self) -> Option<CoreKey> {
        if !self.is_over() {
            return None;
        }
        let slots = self.slots.iter();
        let (_, core) = slots
            .map(|(core, slot)| (slot.free_at(self.quiet), *core))
            .min()?;
        self.slots.remove(&core);
        Some(core)
    }

    /// When the next slot is free; none when nobody waits.
    pub(super) fn next_at(&self) -> Option<Mono> {
        self.whose_turn()?;
        self.slots.values().map(|slot| slot.free_at(self.quiet)).min()
    }

    fn whose_turn(&self) -> Option<Announcer> {
        let later = (Bound::Excluded(self.last), Bound::Unbounded);
        let next = self.waiting.range(later).next();
        next.or_else(|| self.waiting.first_key_value()).map(|(by, _)| *by)
    }

    fn take(&mut self, by: Announcer, core: &CoreKey) {
        if let Some(queue) = self.waiting.get_mut(&by) {
            queue.order.pop_front();
            queue.known.remove(core);
            if queue.order.is_empty() {
                self.waiting.remove(&by);
            }
        }
    }

    /// Whose slot has been free for longest.
    fn free(&self, now: Mono) -> Option<CoreKey> {
        let slots = self
            .slots
            .iter()
            .map(|(core, slot)| (slot.free_at(self.quiet), core));
        let (at, core) = slots.min()?;
        (at <= now).then_some(*core)
    }
}

impl Slot {
    const fn new(by: Announcer, since: Mono) -> Self {
        Self {
            by,
            opened: since,
            since,
            is_given_up: false,
        }
    }

    fn free_at(&self, quiet: Duration) -> Mono {
        if self.is_given_up {
            self.since
        } else {
            // Who gives a block now and then keeps it no longer for that.
            (self.since + quiet).min(self.opened + quiet + quiet / 2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_secs(10);

    fn core(name: u16) -> CoreKey {
        let mut key = [7; 32];
        key[..2].copy_from_slice(&name.to_be_bytes());
        CoreKey::new(key)
    }

    fn at(seconds: u64) -> Mono {
        Mono::default() + Duration::from_secs(seconds)
    }

    fn turns(strangers: &mut Strangers, now: Mono) -> Vec<(CoreKey, Option<CoreKey>)> {
        let turns = std::iter::from_fn(|| strangers.next(now, |_| false));
        turns.map(|turn| (turn.opens, turn.closes)).collect()
    }

    #[test]
    fn more_than_there_are_slots_for_go_again() {
        let mut strangers = Strangers::new(2, QUIET);
        for (name, seconds) in [(1, 3), (2, 1), (3, 2)] {
            strangers.occupy(core(name), at(seconds));
        }
        assert!(strangers.is_over());
        assert_eq!(strangers.surplus(), Some(core(2)));
        assert_eq!(strangers.surplus(), None);
        assert_eq!(strangers.counts(), (2, 0));
    }

    #[test]
    fn who_gives_nothing_makes_room_for_who_waits() {
        let mut strangers = Strangers::new(2, QUIET);
        strangers.announce(None, (1..=4).map(core));
        assert_eq!(turns(&mut strangers, at(0)), [(core(1), None), (core(2), None)]);
        strangers.gave(&core(1), at(3));
        assert_eq!(strangers.next_at(), Some(at(10)));
        assert_eq!(turns(&mut strangers, at(9)), []);
        assert_eq!(turns(&mut strangers, at(10)), [(core(3), Some(core(2)))]);
        assert_eq!(turns(&mut strangers, at(13)), [(core(4), Some(core(1)))]);
        assert_eq!(strangers.next_at(), None, "nobody waits");
        // It may come again, and a member needs no slot.
        strangers.announce(None, [core(1), core(3)]);
        strangers.retain(|stranger| *stranger != core(4));
        assert_eq!(turns(&mut strangers, at(13)), [(core(1), None)]);
    }

    #[test]
    fn who_gives_a_block_now_and_then_makes_room_too() {
        let mut strangers = Strangers::new(4, Duration::from_secs(30));
        let (dripping, honest) = (Some(TopicPeer(1)), Some(TopicPeer(2)));
        strangers.announce(dripping, (0..2_000).map(core));
        assert_eq!(turns(&mut strangers, at(0)).len(), 4);
        let mut admitted = None;
        strangers.announce(honest, [core(9_000)]);
        for now in (0..120).step_by(5) {
            let slots: Vec<_> = strangers.slots.keys().copied().collect();
            for slot in slots {
                strangers.gave(&slot, at(now));
            }
            for (opens, _) in turns(&mut strangers, at(now)) {
                admitted = admitted.or((opens == core(9_000)).then_some(now));
            }
        }
        assert!(admitted.is_some_and(|at| at <= 60), "{admitted:?}");
    }

    #[test]
    fn announcers_take_turns_and_what_those_announced_who_left_goes_first() {
        let (loud, quiet) = (Some(TopicPeer(1)), Some(TopicPeer(2)));
        let mut strangers = Strangers::new(3, QUIET);
        strangers.announce(loud, (0..5_000).map(core));
        strangers.announce(quiet, [core(9_000)]);
        assert_eq!(strangers.waiting[&loud].order.len(), WAITING_MAX);
        let first = turns(&mut strangers, at(0));
        assert_eq!(first, [core(0), core(9_000), core(1)].map(|core| (core, None)));
        strangers.announce(quiet, [core(9_001)]);
        assert_eq!(turns(&mut strangers, at(1)), []);
        strangers.retain_peers(|peer| Some(peer) != loud);
        assert_eq!(turns(&mut strangers, at(1)), [(core(9_001), Some(core(0)))]);
        assert_eq!(strangers.waiting.len(), 0);
    }
}
