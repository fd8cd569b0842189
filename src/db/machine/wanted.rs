//! Which cores are fetched, and what peers are told of those that are here.
//!
//! Fetched are the cores of members, those that their batches wait for, and a bounded number of strangers' cores
//! ([`Strangers`]), one after the other. What is looked at each time is what changed: a database has many writers of whom
//! few write.

use std::collections::{BTreeMap, BTreeSet};

use super::strangers::{Announcer, Strangers, Turn};
use crate::crypto::CoreKey;
use crate::env::{Mono, Planted, Slip};
use crate::replication::wakeup::TopicPeer;
use crate::wire::{Length, Link};

/// What is known of logs and of their writers at one moment.
pub(super) trait KnownLogs {
    /// Changes whenever there are other members.
    fn membership(&self) -> (usize, u64);
    /// The members whose logs are to be here.
    fn members(&self) -> Vec<CoreKey>;
    /// True for the creator and for who was ever a member.
    fn is_member(&self, core: &CoreKey) -> bool;
    /// What batches of members wait for, and is no member's.
    fn awaited(&self) -> BTreeSet<CoreKey>;
    /// True when members' batches need a log that is no member's, and that is here.
    fn is_needed(&self, core: &CoreKey) -> bool {
        _ = core;
        false
    }
    /// True when batches of strangers are tried.
    fn takes_strangers(&self) -> bool;
    /// What any batch waits for.
    fn missing(&self) -> Vec<CoreKey>;
    /// The log that is written here.
    fn local(&self) -> CoreKey;
    /// True when the log is open.
    fn is_open(&self, core: &CoreKey) -> bool;
    /// How much of a log peers may see.
    fn offered(&self, core: &CoreKey) -> Length;
    /// How much of a log is here; none when it is not open.
    fn here(&self, core: &CoreKey) -> Option<Length>;
    /// Slips that a simulator plants.
    fn planted(&self) -> Planted {
        Planted::default()
    }
}

/// What is to be opened, and what there is to tell.
pub(super) struct WantedLogs {
    /// Cores that are wanted, and that nobody opened yet.
    to_open: BTreeSet<CoreKey>,
    /// The core that is being opened.
    fetching: Option<CoreKey>,
    /// Cores that are fetched though no member mentions them, and those that could be.
    strangers: Strangers,
    /// The cores that peers are told of, with the length that they are told.
    coupled: BTreeMap<CoreKey, Length>,
    /// Those of which there may be more to tell.
    uncoupled: BTreeSet<CoreKey>,
    /// The membership that [`WantedLogs::choose`] looked at, and what could not be opened since.
    seen: Option<(usize, u64)>,
    unopened: BTreeSet<CoreKey>,
}

impl WantedLogs {
    pub(super) const fn new(strangers: Strangers) -> Self {
        Self {
            to_open: BTreeSet::new(),
            fetching: None,
            strangers,
            coupled: BTreeMap::new(),
            uncoupled: BTreeSet::new(),
            seen: None,
            unopened: BTreeSet::new(),
        }
    }

    // What is so.

    /// Cores that are to be opened, strangers that have a slot, and strangers that wait for one.
    pub(super) fn counts(&self) -> [usize; 3] {
        let (slots, waiting) = self.strangers.counts();
        let to_open = self.to_open.len() + usize::from(self.fetching.is_some());
        [to_open, slots, waiting]
    }

    /// True when a core is still to be here.
    pub(super) fn wants(&self, key: &CoreKey, known: &impl KnownLogs) -> bool {
        known.is_member(key)
            || self.strangers.has(key)
            || known.is_needed(key)
            || known.awaited().contains(key)
    }

    /// True when a core is fetched as that of a stranger.
    pub(super) fn is_stranger(&self, key: &CoreKey) -> bool {
        self.strangers.has(key)
    }

    /// Who announced the core of a stranger.
    pub(super) fn announcer(&self, key: &CoreKey) -> Announcer {
        self.strangers.announcer(key)
    }

    /// The peers that announced what waits or has a slot.
    pub(super) fn announcers(&self) -> BTreeSet<TopicPeer> {
        self.strangers.announcers()
    }

    /// When a stranger that waits can have a slot; none when nobody waits.
    pub(super) fn wake_at(&self) -> Option<Mono> {
        self.strangers.next_at()
    }

    // What happens.

    /// These cores were here before. Those that nobody asks for have slots.
    pub(super) fn occupy(&mut self, cores: &[CoreKey], known: &impl KnownLogs, now: Mono) {
        let awaited = known.awaited();
        for key in cores {
            let is_wanted = known.is_member(key) || known.is_needed(key) || awaited.contains(key);
            if *key != known.local() && !is_wanted {
                self.strangers.occupy(*key, now);
            }
        }
    }

    /// A core is the local writer's from now on, and these are not any more.
    pub(super) fn set_local(
        &mut self,
        local: &CoreKey,
        others: &[CoreKey],
        known: &impl KnownLogs,
        now: Mono,
    ) {
        self.strangers.retain(|key| key != local);
        self.to_open.remove(local);
        self.uncoupled.insert(*local);
        self.occupy(others, known, now);
    }

    /// Somebody named a core: a peer, or something on this side.
    pub(super) fn announce(&mut self, by: Option<TopicPeer>, core: CoreKey) {
        self.strangers.announce(by, [core]);
    }

    /// Peers are gone.
    pub(super) fn forget(&mut self, gone: &BTreeSet<TopicPeer>) {
        self.strangers.retain_peers(|peer| !gone.contains(&peer));
    }

    /// A core changed, and perhaps gave blocks.
    pub(super) fn changed(&mut self, key: &CoreKey, has_given: bool, now: Mono) {
        self.uncoupled.insert(*key);
        if has_given {
            self.strangers.gave(key, now);
        }
    }

    /// The core that was to be opened is, or could not be: then it is tried again after the next drain.
    pub(super) fn fetched(&mut self, key: &CoreKey, is_here: bool) {
        self.fetching.take_if(|fetching| fetching == key);
        if !is_here {
            self.unopened.insert(*key);
        }
    }

    // What follows.

    /// The core that is to be opened next; none when there is none, or one is being opened.
    pub(super) fn next_fetch(&mut self) -> Option<CoreKey> {
        if self.fetching.is_none() {
            self.fetching = self.to_open.pop_first();
            return self.fetching;
        }
        None
    }

    /// Which cores are to be opened: those of members, what their batches wait for, and a bounded number of strangers',
    /// who may have written optimistically. Gives the strangers that got slots, and those that are to be closed for them.
    pub(super) fn choose(&mut self, known: &impl KnownLogs, now: Mono) -> Vec<Turn> {
        let now_seen = Some(known.membership());
        if std::mem::replace(&mut self.seen, now_seen) != now_seen {
            for key in known.members() {
                if !known.is_open(&key) {
                    self.to_open.insert(key);
                } else if !self.coupled.contains_key(&key) {
                    self.uncoupled.insert(key);
                }
            }
        }
        self.to_open.append(&mut self.unopened);
        let awaited = known.awaited();
        let awaited_go = known.planted().has(Slip::AwaitedUnopened);
        let unopened = awaited.iter().filter(|key| !known.is_open(key) && !awaited_go);
        self.to_open.extend(unopened);
        let is_wanted = |key: &CoreKey| known.is_member(key) || known.is_needed(key) || awaited.contains(key);
        self.strangers.retain(|key| !is_wanted(key));
        let mut turns = Vec::new();
        if known.takes_strangers() {
            let missing = known.missing().into_iter();
            let is_new = |key: &CoreKey| !awaited.contains(key) && !known.is_open(key);
            if !known.planted().has(Slip::LinkedUnfetched) {
                self.strangers.announce(None, missing.filter(is_new));
            }
            let is_known = |key: &CoreKey| known.is_open(key) || is_wanted(key);
            while let Some(turn) = self.strangers.next(now, is_known) {
                if let Some(closes) = &turn.closes {
                    self.to_open.remove(closes);
                }
                self.to_open.insert(turn.opens);
                turns.push(turn);
            }
        }
        if let Some(fetching) = &self.fetching {
            self.to_open.remove(fetching);
        }
        turns
    }

    /// True when more strangers have slots than there are.
    pub(super) fn is_over(&self) -> bool {
        self.strangers.is_over()
    }

    /// A stranger that gives up its slot though nobody waits for it.
    pub(super) fn surplus(&mut self) -> Option<CoreKey> {
        self.strangers.surplus()
    }

    /// The cores that peers are to be told of, with their lengths, as far as these are news: those of members, and our own.
    pub(super) fn couple(&mut self, known: &impl KnownLogs) -> Vec<Link> {
        let mut news = Vec::new();
        self.uncoupled.retain(|key| {
            if *key != known.local() && !known.is_member(key) {
                return false;
            }
            let length = known.offered(key);
            if length > self.coupled.get(key).copied().unwrap_or_default() {
                news.push(Link { key: *key, length });
            }
            // The rest is told of once it is durable.
            known.here(key).is_some_and(|here| length < here)
        });
        self.coupled
            .extend(news.iter().map(|core| (core.key, core.length)));
        news
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// Logs by number, and who they are.
    #[derive(Debug, Clone, Default)]
    struct World {
        members: BTreeSet<CoreKey>,
        awaited: BTreeSet<CoreKey>,
        missing: BTreeSet<CoreKey>,
        open: BTreeMap<CoreKey, (Length, Length)>,
        refuses_strangers: bool,
    }

    impl KnownLogs for World {
        fn membership(&self) -> (usize, u64) {
            (self.members.len(), 0)
        }
        fn members(&self) -> Vec<CoreKey> {
            self.members.iter().copied().collect()
        }
        fn is_member(&self, core: &CoreKey) -> bool {
            self.members.contains(core)
        }
        fn awaited(&self) -> BTreeSet<CoreKey> {
            self.awaited.clone()
        }
        fn takes_strangers(&self) -> bool {
            !self.refuses_strangers
        }
        fn missing(&self) -> Vec<CoreKey> {
            self.missing.iter().copied().collect()
        }
        fn local(&self) -> CoreKey {
            core(0)
        }
        fn is_open(&self, core: &CoreKey) -> bool {
            self.open.contains_key(core)
        }
        fn offered(&self, core: &CoreKey) -> Length {
            self.open.get(core).map_or(Length::ZERO, |(offered, _)| *offered)
        }
        fn here(&self, core: &CoreKey) -> Option<Length> {
            self.open.get(core).map(|(_, here)| *here)
        }
    }

    fn core(number: u8) -> CoreKey {
        CoreKey::new([number; 32])
    }

    fn wanted(slots: usize) -> WantedLogs {
        WantedLogs::new(Strangers::new(slots, Duration::from_secs(10)))
    }

    #[test]
    fn members_and_what_they_wait_for_are_opened_one_after_the_other() {
        let mut world = World {
            members: [1, 2].map(core).into(),
            awaited: [core(3)].into(),
            refuses_strangers: true,
            ..World::default()
        };
        let mut wanted = wanted(1);
        wanted.announce(None, core(9));
        assert_eq!(wanted.choose(&world, Mono(0)), []);
        assert_eq!(wanted.next_fetch(), Some(core(1)));
        assert_eq!((wanted.next_fetch(), wanted.counts()[0]), (None, 3));
        wanted.choose(&world, Mono(0));
        wanted.fetched(&core(1), false);
        assert_eq!(wanted.next_fetch(), Some(core(2)));
        world.open.insert(core(2), (Length(0), Length(0)));
        wanted.fetched(&core(2), true);
        // What could not be opened has to wait for the next look.
        assert_eq!(wanted.next_fetch(), Some(core(3)));
        wanted.fetched(&core(3), true);
        assert_eq!(wanted.next_fetch(), None);
        wanted.choose(&world, Mono(0));
        assert_eq!(wanted.next_fetch(), Some(core(1)));
        assert!(wanted.wants(&core(1), &world) && !wanted.wants(&core(9), &world));
    }

    #[test]
    fn peers_are_told_of_members_once_it_is_durable_and_once_only() {
        let mut world = World {
            members: [core(1)].into(),
            open: [
                (core(1), (Length(1), Length(2))),
                (core(2), (Length(5), Length(5))),
            ]
            .into(),
            ..World::default()
        };
        let mut wanted = wanted(1);
        wanted.changed(&core(1), true, Mono(0));
        wanted.changed(&core(2), true, Mono(0));
        let link = |length| Link {
            key: core(1),
            length: Length(length),
        };
        assert_eq!(wanted.couple(&world), [link(1)]);
        assert_eq!(wanted.couple(&world), []);
        world.open.insert(core(1), (Length(2), Length(2)));
        assert_eq!(wanted.couple(&world), [link(2)]);
        assert_eq!(wanted.couple(&world), []);
    }

    proptest! {
        /// However members, strangers and openings come: at most as many strangers have slots as there are, each core is
        /// opened once at a time, and in the end all members are open.
        #[test]
        fn slots_are_bounded_and_members_are_always_opened(
            steps in proptest::collection::vec((0_u8..4, 1_u8..20), 1..80),
        ) {
            let mut world = World::default();
            let mut wanted = wanted(2);
            let mut fetching = BTreeSet::new();
            let mut now = Mono(0);
            for (step, number) in steps {
                match step {
                    0 => _ = world.members.insert(core(number)),
                    1 => wanted.announce(Some(TopicPeer(u64::from(number % 3))), core(number)),
                    2 => _ = world.missing.insert(core(number)),
                    _ => now = now + Duration::from_secs(u64::from(number)),
                }
                for turn in wanted.choose(&world, now) {
                    if let Some(closes) = turn.closes {
                        world.open.remove(&closes);
                    }
                }
                prop_assert!(wanted.counts()[1] <= 2);
                if let Some(key) = wanted.next_fetch() {
                    prop_assert!(fetching.insert(key) && fetching.len() == 1, "one at a time");
                }
                if number % 2 == 0 && let Some(key) = fetching.pop_first() {
                    let is_wanted = wanted.wants(&key, &world);
                    if is_wanted {
                        world.open.insert(key, (Length(0), Length(0)));
                    }
                    wanted.fetched(&key, true);
                }
            }
            while let Some(key) = fetching.pop_first().or_else(|| wanted.next_fetch()) {
                world.open.insert(key, (Length(0), Length(0)));
                wanted.fetched(&key, true);
            }
            prop_assert!(world.members.iter().all(|key| world.is_open(key)));
        }
    }
}
