//! A hostile node among honest ones: it is found out or limited, the others go on, and nothing grows.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use autobee::crypto::CoreKey;
use autobee::env::{Env as _, Spawn as _};
use autobee::replication::message::{Message, Sync};
use autobee::replication::session::{End, Misbehaviour};
use autobee_sim::PathConfig;
use autobee_sim::hostile::HostileStream;

use crate::mallory::{Account, Attack, attack};
use crate::nodes::{NEAR, Net, Plan, key_of, lock, numbered};

/// What a session may hold for a peer that does not read: what is made at one time, and what it grows by while it is cut.
pub(crate) const UNSENT_MAX: usize = 1024 * 1024;

/// The owner, an honest copy, and a hostile node that dials one of them.
pub(crate) fn world<A: Attack>(
    target: &'static str,
    new: impl Fn() -> A + Clone + Send + std::marker::Sync + 'static,
) -> (Net, Arc<Mutex<Account>>) {
    let mut net = Net::new(1, NEAR);
    net.add(
        "alice",
        Plan {
            writes: vec!["log"],
            ..Plan::default()
        },
    );
    net.add(
        "bob",
        Plan {
            copies: vec!["log"],
            dials: vec!["alice"],
            ..Plan::default()
        },
    );
    net.start();
    net.append("alice", "log", numbered(0..40));
    net.world.run_for(Duration::from_secs(1)).unwrap();
    let account = Arc::new(Mutex::new(Account::default()));
    let id = net.world.add_replica("mallory").unwrap();
    let env = net.world.env(id);
    // A flood costs its sender something.
    for name in ["alice", "bob"] {
        let path = PathConfig {
            bytes_per_ms: 50,
            ..NEAR
        };
        net.world.set_path(id, net.id(name), path);
    }
    let key = key_of(&env, "log");
    env.spawn().spawn(
        "attack",
        attack(env.clone(), target, key, new, Arc::clone(&account)),
    );
    (net, account)
}

/// Runs for a while under attack; the honest ones go on, and hold little.
pub(crate) fn endure(net: &Net, time: Duration) {
    let end = net.world.now() + time;
    let mut next = 40;
    while net.world.now() < end {
        net.append("alice", "log", numbered(next..next + 3));
        next += 3;
        net.converge(&["bob"], "alice", "log", Duration::from_secs(10));
        net.world.run_for(time / 8).unwrap();
    }
    for name in ["alice", "bob"] {
        let peak = net.life(name).peak;
        assert!(peak.unsent <= UNSENT_MAX, "{name}: {peak:?}");
        assert!(peak.unanswered <= 1024 + 512, "{name}: {peak:?}");
    }
    let honest = net.session("bob", "alice").unwrap();
    assert!(honest.end().is_none() && honest.blame().is_none(), "{honest:?}");
}

/// How the first session with the hostile node ended.
pub(crate) fn ending(net: &Net, target: &str) -> Option<End> {
    let life = net.life(target);
    let mut hostile = life.sessions.iter().filter(|(peer, _)| peer == "mallory");
    hostile.next().and_then(|(_, session)| session.end())
}

pub(crate) fn found_out<A: Attack>(
    target: &'static str,
    new: impl Fn() -> A + Clone + Send + std::marker::Sync + 'static,
    is_right: impl Fn(&Misbehaviour) -> bool,
) {
    let (net, _) = world(target, new);
    endure(&net, Duration::from_secs(20));
    match ending(&net, target) {
        Some(End::Misbehaved(what)) if is_right(&what) => {}
        other => panic!("{other:?}"),
    }
}

pub(crate) fn limited<A: Attack>(
    target: &'static str,
    time: Duration,
    new: impl Fn() -> A + Clone + Send + std::marker::Sync + 'static,
) -> (Net, Arc<Mutex<Account>>) {
    let (net, account) = world(target, new);
    endure(&net, time);
    (net, account)
}

pub(crate) const SHORT: Duration = Duration::from_secs(20);
pub(crate) const LONG: Duration = Duration::from_secs(200);

pub(crate) fn sync(fork: u64, length: u64, remote_length: u64) -> Message {
    Message::Sync(Sync {
        fork,
        length,
        remote_length,
        can_upgrade: true,
        uploading: true,
        downloading: true,
        has_manifest: true,
        allow_push: false,
    })
}

// Handshakes.

#[derive(Clone)]
struct WrongKey;
impl Attack for WrongKey {
    fn connected(&mut self, line: &mut HostileStream) {
        line.offer_proving(CoreKey::new([7; 32]));
    }
}

#[test]
fn who_does_not_know_the_key_is_found_out() {
    found_out(
        "alice",
        || WrongKey,
        |what| matches!(what, Misbehaviour::Capability { .. }),
    );
}

#[derive(Clone)]
struct Drip(u64, Vec<u8>);
impl Attack for Drip {
    fn drip(&self) -> Option<(Duration, Vec<u8>)> {
        Some((Duration::from_millis(self.0), self.1.clone()))
    }
}

#[test]
fn a_handshake_of_single_bytes_is_not_waited_for() {
    let (net, account) = limited("alice", LONG, || {
        Drip(3_000, [vec![32, 0, 0], vec![9; 90]].concat())
    });
    assert!(matches!(
        ending(&net, "alice"),
        Some(End::StreamFailed(std::io::ErrorKind::TimedOut))
    ));
    assert!(lock(&account).streams > 5, "each ends");
}

#[test]
fn garbage_for_a_handshake_is_found_out() {
    found_out(
        "alice",
        || Drip(100, [vec![4, 0, 0], vec![9; 90]].concat()),
        |what| matches!(what, Misbehaviour::Stream(_)),
    );
}

/// Something raw after the handshake, and then a byte now and then.
#[derive(Clone)]
struct Raw(Vec<u8>);
impl Attack for Raw {
    fn connected(&mut self, line: &mut HostileStream) {
        line.raw.extend(self.0.iter());
    }
}

#[test]
fn frames_that_do_not_open_are_found_out() {
    for bytes in [[vec![20, 0, 0], vec![9; 20]].concat(), vec![0, 0, 0]] {
        found_out(
            "alice",
            move || Raw(bytes.clone()),
            |what| matches!(what, Misbehaviour::Stream(_)),
        );
    }
}

#[test]
fn a_header_of_a_frame_above_the_bound_is_found_out() {
    // Before the handshake is done only short frames are taken.
    found_out(
        "alice",
        || Drip(3_000, vec![0xff, 0xff, 0xff]),
        |what| matches!(what, Misbehaviour::Stream(_)),
    );
}

#[test]
fn the_largest_frame_that_never_ends_is_waited_for_in_vain() {
    let (net, _) = limited("alice", LONG, || Raw(vec![0xff, 0xff, 0xff]));
    assert!(ending(&net, "alice").is_none_or(|end| matches!(end, End::StreamFailed(_) | End::Misbehaved(_))));
}
