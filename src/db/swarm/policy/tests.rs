use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::db::RetrySettings;

fn key(n: u8) -> PublicKey {
    PublicKey::new([n; 32])
}

fn settings(connections_max: usize) -> SwarmSettings {
    SwarmSettings::with(|settings| {
        settings.retry = RetrySettings::with(|retry| {
            retry.pause_ms_min = 100;
            retry.pause_ms_max = 1_000;
        });
        settings.connections_max = connections_max;
        settings.dials_max = 3;
        settings.peers_max = 6;
        settings.tries_max = 4;
        settings.dial_ms = 500;
        settings.turn_ms = 2_000;
    })
}

const fn at(ms: u64) -> Mono {
    Mono(ms * 1_000_000)
}

fn kept(verdict: Verdict) -> (LinkId, Option<(PublicKey, LinkId)>) {
    match verdict {
        Verdict::Keep { id, closes } => (id, closes),
        other => panic!("{other:?}"),
    }
}

// One peer.

#[test]
fn a_peer_is_dialled_when_it_is_found_and_again_after_pauses_that_grow() {
    let mut policy = Policy::new(key(5), settings(8));
    policy.found(key(5));
    assert_eq!((policy.known(), policy.next_dial()), (0, None), "not itself");
    policy.found(key(1));
    let mut now = at(0);
    for longest in [100, 200, 400] {
        let dials = policy.dial(now);
        assert_eq!(dials.len(), 1);
        assert_eq!(policy.dial(now), [], "one dial at a time");
        policy.failed(&key(1), dials[0].1, now, [0xff; 8]);
        let next = policy.next_dial().unwrap();
        assert!(
            (now + Duration::from_millis(longest / 2)..=now + Duration::from_millis(longest)).contains(&next)
        );
        assert_eq!(policy.dial(Mono(next.0 - 1)), []);
        now = next;
    }
    let dials = policy.dial(now);
    policy.failed(&key(1), dials[0].1, now, [0; 8]);
    assert_eq!(
        (policy.known(), policy.next_dial()),
        (0, None),
        "after four it is forgotten"
    );
    policy.found(key(1));
    assert_eq!(policy.next_dial(), Some(Mono(0)), "until it is found again");
}

#[test]
fn a_connection_that_lasted_begins_the_pauses_from_the_start() {
    let mut policy = Policy::new(key(5), settings(8));
    policy.found(key(1));
    let mut now = at(0);
    for lasted in [0, 0, 999, 1_000] {
        let (_, id) = policy.dial(now)[0];
        assert!(policy.dialled(&key(1), id, now));
        let end = now + Duration::from_millis(lasted);
        policy.ended(&key(1), id, end, true, [0; 8]);
        now = policy.next_dial().unwrap();
        if lasted == 1_000 {
            assert_eq!(now, end + Duration::from_millis(50));
        }
    }
    // One on which nobody agreed is none, however long it took.
    let (_, id) = policy.dial(now)[0];
    assert!(policy.dialled(&key(1), id, now));
    policy.ended(&key(1), id, now + Duration::from_secs(9), false, [0; 8]);
    let end = now + Duration::from_secs(9);
    assert_eq!(policy.next_dial(), Some(end + Duration::from_millis(100)));
}

#[test]
fn who_is_unknown_is_accepted_and_not_dialled_later() {
    let mut policy = Policy::new(key(5), settings(8));
    let (id, closes) = kept(policy.accepted(key(1), at(0)));
    assert_eq!(closes, None);
    policy.ended(&key(1), id, at(10), true, [0; 8]);
    assert_eq!((policy.known(), policy.dial(at(9_999))), (0, Vec::new()));
    assert_eq!(policy.accepted(key(5), at(0)), Verdict::Duplicate, "not itself");
}

#[test]
fn of_two_dials_that_meet_the_one_of_the_larger_key_stays() {
    let mut smaller = Policy::new(key(1), settings(8));
    smaller.found(key(2));
    let (_, given_up) = smaller.dial(at(0))[0];
    let (_, closes) = kept(smaller.accepted(key(2), at(1)));
    assert_eq!(closes, Some((key(2), given_up)));
    assert!(!smaller.dialled(&key(2), given_up, at(2)), "it came too late");

    let mut larger = Policy::new(key(2), settings(8));
    larger.found(key(1));
    let (_, id) = larger.dial(at(0))[0];
    assert_eq!(larger.accepted(key(1), at(1)), Verdict::Duplicate);
    assert!(larger.dialled(&key(1), id, at(2)));
    assert_eq!(
        larger.accepted(key(1), at(3)),
        Verdict::Duplicate,
        "it was on its way"
    );
    let (_, closes) = kept(larger.accepted(key(1), at(502)));
    assert_eq!(
        closes,
        Some((key(1), id)),
        "it dials again: it lost the other one"
    );
    let (_, closes) = kept(larger.accepted(key(1), at(503)));
    assert!(closes.is_some(), "and again");
}

#[test]
fn who_is_full_makes_room_for_a_newcomer_now_and_then() {
    let mut policy = Policy::new(key(9), settings(3));
    for found in 1..=5 {
        policy.found(key(found));
    }
    let dials = policy.dial(at(0));
    assert_eq!(dials.len(), 2, "half of them, rounded up");
    for (peer, id) in &dials {
        assert!(policy.dialled(peer, *id, at(0)));
    }
    let (oldest, _) = kept(policy.accepted(key(7), at(1)));
    assert_eq!(policy.accepted(key(8), at(2)), Verdict::Full);
    let (_, closes) = kept(policy.accepted(key(8), at(2_001)));
    assert_eq!(closes, Some((key(7), oldest)));
    assert_eq!(
        policy.accepted(key(7), at(4_000)),
        Verdict::Full,
        "one in a while"
    );
    assert!(kept(policy.accepted(key(7), at(4_001))).1.is_some());
    assert_eq!(policy.connected(), 3);
}

#[test]
fn those_who_dial_in_do_not_take_all_places() {
    let mut policy = Policy::new(key(50), settings(4));
    for other in 60..64 {
        kept(policy.accepted(key(other), at(0)));
    }
    assert_eq!(policy.connected(), 4, "nobody waits to be dialled");
    policy.found(key(1));
    assert_eq!(policy.dial(at(1)), []);
    assert_eq!(policy.next_dial(), Some(at(2_000)));
    assert_eq!(policy.turn(at(2_000)).map(|(closed, _)| closed), Some(key(60)));
    assert_eq!(
        policy.accepted(key(70), at(2_000)),
        Verdict::Full,
        "it is kept for the dial"
    );
    let dials = policy.dial(at(2_000));
    assert_eq!(dials.len(), 1);
    assert!(policy.dialled(&dials[0].0, dials[0].1, at(2_001)));
}

#[test]
fn who_knows_more_peers_than_it_may_dial_changes_from_one_to_another() {
    let mut policy = Policy::new(key(9), settings(1));
    policy.found(key(1));
    let mut now = at(0);
    let (_, id) = policy.dial(now)[0];
    assert!(policy.dialled(&key(1), id, now));
    assert_eq!(
        (policy.next_dial(), policy.turn(at(99_999))),
        (None, None),
        "nobody waits"
    );
    policy.found(key(2));
    policy.found(key(3));
    let mut met = vec![1];
    for _ in 0..5 {
        assert_eq!(policy.turn(now), None);
        assert_eq!(policy.next_dial(), Some(now + Duration::from_secs(2)));
        now = now + Duration::from_secs(2);
        let (closed, _) = policy.turn(now).unwrap();
        assert_eq!(closed, key(*met.last().unwrap()));
        let dials = policy.dial(now);
        assert_eq!(dials.len(), 1);
        assert!(policy.dialled(&dials[0].0, dials[0].1, now));
        met.push(dials[0].0.as_bytes()[0]);
    }
    assert_eq!(met, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn of_too_many_peers_those_are_forgotten_that_failed() {
    let mut policy = Policy::new(key(99), settings(8));
    for found in 1..=6 {
        policy.found(key(found));
    }
    policy.found(key(7));
    assert_eq!(policy.known(), 6);
    let (failing, id) = policy.dial(at(0))[1];
    policy.failed(&failing, id, at(1), [0; 8]);
    policy.found(key(7));
    policy.found(key(8));
    assert_eq!(policy.known(), 6);
    assert!(!policy.peers.contains_key(&failing) && policy.peers.contains_key(&key(7)));
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    SwarmSettings::default().check().unwrap();
    let changes: [fn(&mut SwarmSettings); 6] = [
        |settings| settings.connections_max = 0,
        |settings| settings.dials_max = 0,
        |settings| settings.peers_max = 0,
        |settings| settings.tries_max = 0,
        |settings| settings.dial_ms = 0,
        |settings| settings.retry.pause_ms_min = 0,
    ];
    for change in changes {
        assert!(SwarmSettings::with(change).check().is_err());
    }
}

// Anything in any order.

#[derive(Debug, Clone)]
enum Do {
    Find(u8),
    Dial,
    Reach(prop::sample::Index),
    Miss(prop::sample::Index),
    Accept(u8),
    End(prop::sample::Index, bool),
    Wait(u64),
}

fn anything() -> impl Strategy<Value = Do> {
    prop_oneof![
        (0u8..12).prop_map(Do::Find),
        Just(Do::Dial),
        any::<prop::sample::Index>().prop_map(Do::Reach),
        any::<prop::sample::Index>().prop_map(Do::Miss),
        (0u8..12).prop_map(Do::Accept),
        (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, agreed)| Do::End(which, agreed)),
        (0u64..3_000).prop_map(Do::Wait),
    ]
}

proptest! {
    /// What a shell has open by what it was told: never two connections with one peer, never more than may be.
    #[test]
    fn bounds_hold_whatever_happens(
        own in 0u8..12,
        connections_max in 1usize..5,
        steps in proptest::collection::vec((anything(), any::<u64>()), 0..200),
    ) {
        let settings = settings(connections_max);
        let mut policy = Policy::new(key(own), settings);
        let mut dials: BTreeMap<LinkId, PublicKey> = BTreeMap::new();
        // Given up by what they were told, but under way at a shell that is slow.
        let mut late: Vec<(LinkId, PublicKey)> = Vec::new();
        let mut open: BTreeMap<PublicKey, LinkId> = BTreeMap::new();
        let mut used: BTreeSet<LinkId> = BTreeSet::new();
        let mut now = at(0);
        for (step, chance) in steps {
            let chance = chance.to_le_bytes();
            match step {
                Do::Find(peer) => policy.found(key(peer)),
                Do::Dial => {
                    if let Some((peer, closed)) = policy.turn(now) {
                        prop_assert_eq!(open.remove(&peer), Some(closed));
                    }
                    for (peer, id) in policy.dial(now) {
                        prop_assert!(used.insert(id) && peer != key(own) && !open.contains_key(&peer));
                        prop_assert!(dials.values().all(|dialled| *dialled != peer));
                        dials.insert(id, peer);
                    }
                    let next = policy.next_dial();
                    prop_assert!(next.is_none_or(|next| next > now), "who may be dialled is");
                }
                Do::Reach(which) if !dials.is_empty() => {
                    let (id, peer) = dials.iter().nth(which.index(dials.len())).map(|(id, peer)| (*id, *peer)).unwrap();
                    dials.remove(&id);
                    if policy.dialled(&peer, id, now) {
                        prop_assert_eq!(open.insert(peer, id), None);
                    }
                }
                Do::Reach(which) if !late.is_empty() => {
                    let (id, peer) = late.remove(which.index(late.len()));
                    prop_assert!(!policy.dialled(&peer, id, now));
                }
                Do::Miss(which) if !dials.is_empty() => {
                    let (id, peer) = dials.iter().nth(which.index(dials.len())).map(|(id, peer)| (*id, *peer)).unwrap();
                    dials.remove(&id);
                    policy.failed(&peer, id, now, chance);
                }
                Do::Accept(peer) => match policy.accepted(key(peer), now) {
                    Verdict::Keep { id, closes } => {
                        prop_assert!(used.insert(id));
                        if let Some((other, closed)) = closes {
                            let dial = dials.remove(&closed);
                            late.extend(dial.map(|peer| (closed, peer)));
                            let was_open = open.get(&other) == Some(&closed);
                            prop_assert!(dial.is_some() != was_open);
                            if was_open {
                                open.remove(&other);
                            }
                        }
                        prop_assert_eq!(open.insert(key(peer), id), None, "one connection with a peer");
                    }
                    Verdict::Duplicate => {
                        let dialled = dials.values().any(|dialled| *dialled == key(peer));
                        prop_assert!(peer == own || own > peer && (dialled || open.contains_key(&key(peer))));
                    }
                    Verdict::Full => {
                        // The others are kept for those who wait to be dialled.
                        prop_assert!(open.len() >= connections_max - connections_max / 2);
                    }
                },
                Do::End(which, agreed) if !open.is_empty() => {
                    let (peer, id) = open.iter().nth(which.index(open.len())).map(|(peer, id)| (*peer, *id)).unwrap();
                    open.remove(&peer);
                    policy.ended(&peer, id, now, agreed, chance);
                }
                Do::Wait(ms) => now = now + Duration::from_millis(ms),
                Do::Reach(_) | Do::Miss(_) | Do::End(..) => {}
            }
            prop_assert!(open.len() <= connections_max);
            prop_assert!(dials.len() <= settings.dials_max);
            prop_assert_eq!((policy.connected(), policy.dialling()), (open.len(), dials.len()));
            prop_assert!(policy.known() <= settings.peers_max + connections_max);
        }
    }
}

// Several machines.

/// What is on its way between two of them.
#[derive(Debug, Clone)]
enum Way {
    /// A dial, to whom it is dialled: then the connection is there.
    Dial {
        from: usize,
        to: usize,
        id: LinkId,
        wire: usize,
    },
    /// The dialling side hears that it was reached.
    Reached {
        from: usize,
        to: usize,
        id: LinkId,
        wire: usize,
    },
    /// A side hears that the other one closed it.
    Closed { at: usize, of: usize, wire: usize },
}

/// Machines that know each other, and what is open at each: by peer, the wire and its name there.
struct PolicyNet {
    policies: Vec<Policy>,
    open: Vec<BTreeMap<usize, (usize, LinkId)>>,
    ways: Vec<Way>,
    wires: usize,
    now: Mono,
}

impl PolicyNet {
    fn new(machines: usize) -> Self {
        let policy = |own: usize| {
            let mut policy = Policy::new(key(own as u8), settings(16));
            (0..machines).for_each(|peer| policy.found(key(peer as u8)));
            policy
        };
        Self {
            policies: (0..machines).map(policy).collect(),
            open: vec![BTreeMap::new(); machines],
            ways: Vec::new(),
            wires: 0,
            now: at(0),
        }
    }

    fn dial(&mut self, from: usize) {
        for (peer, id) in self.policies[from].dial(self.now) {
            let to = usize::from(peer.as_bytes()[0]);
            let wire = self.wires;
            self.wires += 1;
            self.ways.push(Way::Dial { from, to, id, wire });
        }
    }

    /// One side closes a wire: the other one hears of it later, also when it only knows it as a dial.
    fn close(&mut self, other: usize, by: usize, wire: usize) {
        self.ways.push(Way::Closed {
            at: other,
            of: by,
            wire,
        });
    }

    fn deliver(&mut self, which: usize, chance: u64) {
        match self.ways.remove(which) {
            Way::Dial { from, to, id, wire } => {
                self.ways.push(Way::Reached { from, to, id, wire });
                match self.policies[to].accepted(key(from as u8), self.now) {
                    Verdict::Keep { id, closes } => {
                        if let Some((peer, closed)) = closes {
                            let peer = usize::from(peer.as_bytes()[0]);
                            // A dial that is given up closes its wire when it is reached.
                            if let Some((old, _)) = self.open[to].get(&peer).filter(|(_, id)| *id == closed) {
                                let old = *old;
                                self.open[to].remove(&peer);
                                self.close(peer, to, old);
                            }
                        }
                        assert!(self.open[to].insert(from, (wire, id)).is_none());
                    }
                    Verdict::Duplicate | Verdict::Full => self.close(from, to, wire),
                }
            }
            Way::Reached { from, to, id, wire } => {
                if self.policies[from].dialled(&key(to as u8), id, self.now) {
                    assert!(self.open[from].insert(to, (wire, id)).is_none());
                } else {
                    self.close(to, from, wire);
                }
            }
            Way::Closed { at, of, wire } => {
                // The news of a wire comes behind that it was made.
                let is_early = self.ways.iter().any(|way| {
                    matches!(way, Way::Reached { from, wire: reached, .. } if *from == at && *reached == wire)
                });
                if is_early {
                    self.ways.push(Way::Closed { at, of, wire });
                    return;
                }
                if let Some((open, id)) = self.open[at].get(&of).copied()
                    && open == wire
                {
                    self.open[at].remove(&of);
                    self.policies[at].ended(&key(of as u8), id, self.now, false, chance.to_le_bytes());
                }
            }
        }
    }

    /// Nothing is on its way, and everybody is connected with everybody by the same wire on both sides.
    fn is_settled(&self) -> bool {
        let machines = self.policies.len();
        self.ways.is_empty()
            && (0..machines).all(|a| {
                (0..machines).filter(|b| *b != a).all(|b| {
                    let (near, far) = (self.open[a].get(&b), self.open[b].get(&a));
                    near.is_some() && near.map(|(wire, _)| wire) == far.map(|(wire, _)| wire)
                })
            })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However dials cross, and whatever breaks at first, in the end there is one connection for each two, the same at both.
    #[test]
    fn all_come_to_one_connection_for_each_two(
        machines in 2usize..5,
        steps in proptest::collection::vec((any::<u32>(), any::<u64>()), 0..120),
    ) {
        let mut net = PolicyNet::new(machines);
        for (step, chance) in steps {
            let who = step as usize % machines;
            match step % 7 {
                0 | 1 => net.dial(who),
                2..=4 if !net.ways.is_empty() => net.deliver(chance as usize % net.ways.len(), chance),
                5 => net.now = net.now + Duration::from_millis(chance % 400),
                // A connection breaks, at one side first.
                _ => if let Some((peer, (wire, id))) = net.open[who].pop_first() {
                    net.policies[who].ended(&key(peer as u8), id, net.now, true, chance.to_le_bytes());
                    net.close(peer, who, wire);
                },
            }
        }
        for round in 0..400_u64 {
            if net.is_settled() {
                break;
            }
            while !net.ways.is_empty() {
                net.deliver(0, round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            }
            net.now = net.now + Duration::from_millis(50);
            // Peers are found again and again.
            for who in 0..machines {
                (0..machines).for_each(|peer| net.policies[who].found(key(peer as u8)));
                net.dial(who);
            }
        }
        prop_assert!(net.is_settled(), "{:?} {:?}", net.open, net.ways);
    }
}
