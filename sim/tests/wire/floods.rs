//! Hostile nodes that send without end, and mostly never read what is answered.

use std::sync::Arc;
use std::time::Duration;

use autobee::crypto::CoreKey;
use autobee::hypercore::proof::{BlockRequest, Request, UpgradeRequest};
use autobee::replication::message::{BitfieldMessage, Message, RangeMessage, RequestMessage, Want};
use autobee::replication::mux::OpenChannel;
use autobee::replication::replicator::PeerFault;
use autobee::replication::session::Misbehaviour;
use autobee::replication::wakeup;
use autobee::wire::{Length, Link};
use autobee_sim::hostile::HostileStream;

use crate::hostile::{SHORT, endure, found_out, limited, sync, world};
use crate::mallory::Attack;
use crate::nodes::{key_of, lock};

/// Sends the same again and again, as fast as it is taken.
#[derive(Clone)]
struct Flood<F> {
    make: F,
    count: u64,
    reads: bool,
}

impl<F: Fn(&mut HostileStream, u64) + Clone + Send + 'static> Attack for Flood<F> {
    fn opened(&mut self, line: &mut HostileStream) {
        line.send(&sync(0, 0, 0));
    }

    fn room(&mut self, line: &mut HostileStream) -> bool {
        line.connection.cork();
        for _ in 0..500 {
            (self.make)(line, self.count);
            self.count += 1;
        }
        line.connection.uncork();
        true
    }

    fn reads(&self) -> bool {
        self.reads
    }
}

fn flood<F: Fn(&mut HostileStream, u64) + Clone + Send + 'static>(make: F) -> Flood<F> {
    Flood {
        make,
        count: 1,
        reads: false,
    }
}

fn is_flood(what: &Misbehaviour) -> bool {
    matches!(
        what,
        Misbehaviour::Replication {
            fault: PeerFault::Flood { .. },
            ..
        }
    )
}

pub(crate) fn request(id: u64, request: Request) -> Message {
    Message::Request(RequestMessage {
        id,
        request,
        ..RequestMessage::default()
    })
}

#[test]
fn requests_whose_answers_are_not_read_are_a_flood() {
    let ask = |line: &mut HostileStream, id| {
        let block = Some(BlockRequest {
            index: id % 40,
            nodes: 0,
        });
        line.send(&request(
            id,
            Request {
                block,
                ..Request::default()
            },
        ));
    };
    found_out("alice", move || flood(ask), is_flood);
    found_out("bob", move || flood(ask), is_flood);
}

#[test]
fn requests_that_nobody_could_prove_are_found_out() {
    let ask = |line: &mut HostileStream, id| {
        let upgrade = Some(UpgradeRequest {
            start: 1 << 40,
            length: id,
        });
        line.send(&request(
            id,
            Request {
                upgrade,
                ..Request::default()
            },
        ));
    };
    let new = move || Flood {
        make: ask,
        count: 1,
        reads: true,
    };
    found_out("alice", new, |what| {
        matches!(what, Misbehaviour::Replication { .. })
    });
}

#[test]
fn wants_whose_answers_are_not_read_are_a_flood() {
    found_out(
        "alice",
        || {
            flood(|line, count| {
                line.send(&Message::Want(Want {
                    start: count * 32,
                    length: 32,
                    any: false,
                }));
            })
        },
        is_flood,
    );
}

#[test]
fn announcements_without_end_cost_little() {
    let new = || {
        flood(|line: &mut HostileStream, count| match count % 4 {
            0 => line.send(&Message::Range(RangeMessage {
                drop: false,
                start: 1 + count % 7,
                length: 1 << 50,
            })),
            1 => line.send(&Message::Range(RangeMessage {
                drop: true,
                start: count % 5,
                length: 1 << 50,
            })),
            2 => line.send(&Message::Range(RangeMessage {
                drop: false,
                start: count << 20,
                length: 1,
            })),
            _ => line.send(&Message::Bitfield(BitfieldMessage {
                start: (count << 20) & !31,
                words: vec![u32::MAX; 4],
            })),
        })
    };
    for target in ["alice", "bob"] {
        found_out(target, new, |what| {
            let fault = PeerFault::Announcements { pages: 1 << 20 };
            what.to_string().ends_with(&fault.to_string())
        });
    }
}

#[test]
fn syncs_without_end_are_held_back() {
    let (_, account) = limited("alice", Duration::from_secs(3), || {
        flood(|line, count| line.send(&sync(0, count % 3, 0)))
    });
    assert!(lock(&account).sent > 0);
}

#[test]
fn the_largest_batch_of_the_smallest_messages_is_taken_apart_piece_by_piece() {
    #[derive(Clone)]
    struct Batch;
    impl Attack for Batch {
        fn room(&mut self, line: &mut HostileStream) -> bool {
            line.connection.cork();
            for _ in 0..100_000 {
                line.send_raw(99, &[]);
                line.send(&Message::Cancel { request: 1 });
            }
            line.connection.uncork();
            true
        }
    }
    let (_, account) = limited("alice", Duration::from_secs(30), || Batch);
    assert!(lock(&account).sent > 500_000);
}

#[test]
fn channels_that_nobody_knows_are_rejected_and_those_who_do_not_read_wait() {
    fn open(line: &mut HostileStream, count: u64) {
        let id = [[0; 24].as_slice(), &count.to_le_bytes()].concat();
        let _ = line.connection.open(&OpenChannel {
            protocol: "hypercore/alpha",
            aliases: &[],
            id: &id,
            handshake: &[1; 40],
            unique: false,
        });
    }
    // Rejects are small: it takes a while until enough of them wait.
    let (net, account) = limited("alice", Duration::from_secs(50), || flood(open));
    let sent = lock(&account).sent;
    net.world.run_for(Duration::from_secs(4)).unwrap();
    assert!(
        lock(&account).sent < sent + 65_536,
        "it goes on: {sent}, {}",
        lock(&account).sent
    );
    let (_, account) = limited("alice", Duration::from_secs(4), || Flood {
        make: open,
        count: 1,
        reads: true,
    });
    assert!(lock(&account).rejected > 1_000);
}

#[test]
fn lookups_whose_answers_are_not_read_wait() {
    #[derive(Clone)]
    struct Lookups;
    impl Attack for Lookups {
        fn connected(&mut self, line: &mut HostileStream) {
            line.join_topic();
        }
        fn room(&mut self, line: &mut HostileStream) -> bool {
            line.send_raw(0, &[0]);
            true
        }
        fn reads(&self) -> bool {
            false
        }
    }
    let (net, account) = world("alice", || Lookups);
    let topic = net
        .life("alice")
        .replication
        .as_ref()
        .unwrap()
        .wakeup(key_of(&net.world.env(net.id("alice")), "log"));
    for number in 0..2_000_u32 {
        topic.couple(writer(number), Length(1));
    }
    endure(&net, SHORT);
    assert!(lock(&account).sent > 0);
}

fn writer(number: u32) -> CoreKey {
    let mut key = [0xee; 32];
    key[..4].copy_from_slice(&number.to_le_bytes());
    CoreKey::new(key)
}

#[test]
fn bogus_writers_do_not_crowd_out_those_of_an_honest_peer() {
    #[derive(Clone)]
    struct Bogus(u32);
    impl Attack for Bogus {
        fn connected(&mut self, line: &mut HostileStream) {
            line.join_topic();
        }
        fn room(&mut self, line: &mut HostileStream) -> bool {
            let cores = (self.0..self.0 + 1_000).map(|number| Link {
                key: writer(number),
                length: Length(1),
            });
            self.0 += 1_000;
            let message = wakeup::WakeupMessage::Announce(cores.collect());
            line.send_raw(message.kind(), &message.encode().unwrap());
            self.0 < 100_000
        }
    }
    let (net, _) = world("alice", || Bogus(0));
    let key = key_of(&net.world.env(net.id("alice")), "log");
    let ours = Arc::new(net.life("alice").replication.as_ref().unwrap().wakeup(key));
    let theirs = net.life("bob").replication.as_ref().unwrap().wakeup(key);
    net.world.run_for(Duration::from_secs(5)).unwrap();
    let honest = CoreKey::new([3; 32]);
    theirs.couple(honest, Length(9));
    net.world.run_for(Duration::from_secs(5)).unwrap();
    let heard = net
        .world
        .block_on(net.id("alice"), async move { ours.announced().await })
        .unwrap();
    assert!(heard.len() <= 8_192, "{}", heard.len());
    assert!(heard.contains(&Link {
        key: honest,
        length: Length(9)
    }));
}

#[test]
fn forks_that_rise_without_end_cost_little() {
    let (_, account) = limited("bob", Duration::from_secs(5), || {
        flood(|line, count| line.send(&sync(count, 9, 0)))
    });
    assert!(lock(&account).sent > 0);
}
