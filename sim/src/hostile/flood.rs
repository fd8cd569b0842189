//! More than anybody asked for.

use std::time::Duration;

use autobee::crypto::CoreKey;
use autobee::env::{Clock as _, Entropy as _, Env, Mono};
use autobee::hypercore::proof::{BlockRequest, Request, UpgradeRequest};
use autobee::replication::message::{BitfieldMessage, Message, RangeMessage, RequestMessage, Want};
use autobee::replication::mux::OpenChannel;
use autobee::replication::wakeup;
use autobee::wire::{Length, Link};

use super::line::{Attack, HostileStream};
use super::withheld::sync;

/// Messages that come at once, and how soon more follow.
const BURST: u64 = 300;
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Requests for blocks, whose answers are not read.
    Requests,
    /// Requests that nobody can prove.
    Impossible,
    /// Wants of all pages, whose answers are not read.
    Wants,
    /// Runs of blocks that jump over pages.
    Announcements,
    /// Lengths that go up and down.
    Lengths,
    /// Cores of writers that do not exist.
    Writers,
    /// Channels of cores that nobody knows.
    Channels,
}

const ALL: [What; 7] = [
    What::Writers,
    What::Requests,
    What::Announcements,
    What::Impossible,
    What::Wants,
    What::Lengths,
    What::Channels,
];

/// Each stream is flooded with something else.
pub(super) struct Flood {
    what: What,
    salt: [u8; 16],
    count: u64,
    next_at: Mono,
}

impl Flood {
    pub(super) fn new<E: Env>(env: &E, attempt: u64) -> Self {
        let at = usize::try_from(attempt % ALL.len() as u64).unwrap_or(0);
        Self {
            what: ALL[at],
            salt: env.entropy().array(),
            count: 0,
            next_at: env.clock().now(),
        }
    }

    fn send<E: Env>(&mut self, line: &mut HostileStream<E>) {
        self.count += 1;
        let count = self.count;
        let request = |request: Request| {
            Message::Request(RequestMessage {
                id: count,
                request,
                ..RequestMessage::default()
            })
        };
        match self.what {
            What::Requests => line.send(&request(Request {
                block: Some(BlockRequest {
                    index: count % 8,
                    nodes: 0,
                }),
                ..Request::default()
            })),
            What::Impossible => line.send(&request(Request {
                upgrade: Some(UpgradeRequest {
                    start: 1 << 40,
                    length: count,
                }),
                ..Request::default()
            })),
            What::Wants => line.send(&Message::Want(Want {
                start: count * 32,
                length: 32,
                any: false,
            })),
            What::Announcements => line.send(&match count % 3 {
                0 => Message::Range(RangeMessage {
                    drop: count.is_multiple_of(2),
                    start: 1 + count % 7,
                    length: 1 << 50,
                }),
                1 => Message::Range(RangeMessage {
                    drop: false,
                    start: count << 20,
                    length: 1,
                }),
                _ => Message::Bitfield(BitfieldMessage {
                    start: (count << 20) & !31,
                    words: vec![u32::MAX; 4],
                }),
            }),
            What::Lengths => line.send(&sync(count % 2, count * 7 % 1_000, count % 3)),
            What::Writers => {
                let writers = wakeup::WakeupMessage::Announce((0..20).map(|at| self.writer(at)).collect());
                if let Ok(bytes) = writers.encode() {
                    line.send_raw(writers.kind(), &bytes);
                }
            }
            What::Channels => {
                let key = self.writer(0).key;
                // Too many are refused on this side already.
                let _ = line.connection.open(&OpenChannel {
                    protocol: "hypercore/alpha",
                    aliases: &[],
                    id: key.as_bytes(),
                    handshake: &[1; 40],
                    unique: false,
                });
            }
        }
    }

    fn writer(&self, number: u8) -> Link {
        let mut key = [number; 32];
        key[..16].copy_from_slice(&self.salt);
        key[16..24].copy_from_slice(&self.count.to_le_bytes());
        Link {
            key: CoreKey::new(key),
            length: Length(1),
        }
    }
}

impl<E: Env> Attack<E> for Flood {
    fn connected(&mut self, line: &mut HostileStream<E>) {
        if self.what == What::Writers {
            line.join_topic();
        } else {
            line.offer();
        }
    }

    fn opened(&mut self, line: &mut HostileStream<E>) {
        if self.what != What::Writers {
            line.send(&sync(0, 0, 0));
        }
    }

    fn room(&mut self, line: &mut HostileStream<E>) -> bool {
        let now = line.env().clock().now();
        if now < self.next_at {
            return false;
        }
        self.next_at = now + PAUSE;
        line.connection.cork();
        for _ in 0..BURST {
            self.send(line);
        }
        line.connection.uncork();
        true
    }

    fn next_at(&self) -> Option<Mono> {
        Some(self.next_at)
    }

    fn reads(&self) -> bool {
        !matches!(self.what, What::Requests | What::Wants)
    }

    fn misdeeds(&self) -> u64 {
        self.count
    }
}
