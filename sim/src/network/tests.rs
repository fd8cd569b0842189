//! The network state machine, driven by hand: a waiter is a text.

use std::io::ErrorKind;
use std::task::Poll;
use std::time::Duration;

use autobee::env::PeerAddr;
use proptest::prelude::*;

use super::kernel::{EndId, Kernel};
use super::path::{LatencyShape, PathConfig};
use crate::replica::ReplicaId;
use crate::seed::Seeds;

const MS: u64 = 1_000_000;
const DIAL_LIMIT: Duration = Duration::from_secs(3);

/// 5 ms each way, no bandwidth, no chops: every time can be computed by hand.
const PLAIN: PathConfig = PathConfig {
    latency_us_min: 5_000,
    latency_us_max: 5_000,
    spike_64k: 0,
    spike_us_max: 0,
    bytes_per_ms: 0,
    window: 16,
    chop_64k: 0,
    read_max: 0,
    corrupt_64k: 0,
    tear_64k: 0,
    latency_shape: LatencyShape::Uniform,
    offset_us_max: 0,
    refuse_64k: 0,
    hang_64k: 0,
};

struct Net {
    kernel: Kernel<&'static str>,
    a: ReplicaId,
    b: ReplicaId,
}

impl Net {
    fn new(path: PathConfig) -> Self {
        Self::seeded(1, path)
    }

    fn seeded(seed: u64, path: PathConfig) -> Self {
        let mut kernel = Kernel::new(Seeds::new(seed), path, DIAL_LIMIT);
        let [a, b] = ["a", "b"].map(|name| kernel.add_replica(name.into()));
        Self { kernel, a, b }
    }

    /// `a` dials, `b` accepts; takes 15 ms.
    fn connect(&mut self) -> (EndId, EndId) {
        let _ = self.kernel.listen(self.b, &PeerAddr::new("b"));
        let dial = self.kernel.dial(self.a, &PeerAddr::new("b")).unwrap();
        self.wait(15);
        let Poll::Ready(Ok(here)) = self.kernel.dialled(dial, || "dial") else {
            panic!("the dial is not done")
        };
        let Poll::Ready(Ok((there, _))) = self.kernel.accept(self.b, 1, || "accept") else {
            panic!("nothing to accept")
        };
        (here, there)
    }

    fn wait(&mut self, ms: u64) {
        let until = self.kernel.now + ms * MS;
        self.kernel.advance(until);
    }

    fn write(&mut self, end: EndId, bytes: &[u8]) -> Result<usize, Option<ErrorKind>> {
        outcome(self.kernel.write(end, bytes, || "write"))
    }

    fn read(&mut self, end: EndId, most: usize) -> Result<Vec<u8>, Option<ErrorKind>> {
        let mut out = vec![0; most];
        let size = outcome(self.kernel.read(end, &mut out, || "read"))?;
        out.truncate(size);
        Ok(out)
    }

    fn woken(&mut self) -> Vec<&'static str> {
        self.kernel.take_wakes()
    }
}

/// `Err(None)` is "not yet".
fn outcome<T>(poll: Poll<std::io::Result<T>>) -> Result<T, Option<ErrorKind>> {
    match poll {
        Poll::Ready(result) => result.map_err(|error| Some(error.kind())),
        Poll::Pending => Err(None),
    }
}

const PENDING: Option<ErrorKind> = None;
const RESET: Option<ErrorKind> = Some(ErrorKind::ConnectionReset);

#[test]
fn a_handshake_takes_three_ways() {
    let mut net = Net::new(PLAIN);
    net.kernel.listen(net.b, &PeerAddr::new("b")).unwrap();
    let dial = net.kernel.dial(net.a, &PeerAddr::new("b")).unwrap();
    net.wait(9);
    assert!(net.kernel.dialled(dial, || "dial").is_pending());
    assert!(net.kernel.accept(net.b, 1, || "accept").is_pending());
    net.wait(1);
    assert_eq!(net.woken(), ["dial"]);
    let Poll::Ready(Ok(here)) = net.kernel.dialled(dial, || "dial") else {
        panic!()
    };
    assert_eq!(net.write(here, b"hi"), Ok(2));
    net.wait(4);
    assert_eq!(net.woken(), [""; 0]);
    net.wait(1);
    assert_eq!(net.woken(), ["accept"]);
    let Poll::Ready(Ok((there, from))) = net.kernel.accept(net.b, 1, || "accept") else {
        panic!()
    };
    assert_eq!(from, PeerAddr::new("a:49152"));
    assert_eq!(net.read(there, 9), Ok(b"hi".to_vec()));
}

#[test]
fn a_dial_is_refused_or_times_out() {
    let mut net = Net::new(PLAIN);
    let to = PeerAddr::new("b");
    let refused = net.kernel.dial(net.a, &to).unwrap();
    net.wait(10);
    assert_eq!(
        outcome(net.kernel.dialled(refused, || "dial")),
        Err(Some(ErrorKind::ConnectionRefused))
    );
    net.kernel.listen(net.b, &to).unwrap();
    net.kernel.cut(net.b, net.a);
    let silent = net.kernel.dial(net.a, &to).unwrap();
    net.wait(2_999);
    assert!(net.kernel.dialled(silent, || "dial").is_pending());
    net.wait(1);
    assert_eq!(net.woken(), ["dial"]);
    assert_eq!(
        outcome(net.kernel.dialled(silent, || "dial")),
        Err(Some(ErrorKind::TimedOut))
    );
    let healed = net.kernel.dial(net.a, &to).unwrap();
    net.wait(2_000);
    net.kernel.heal();
    net.wait(5);
    assert!(net.kernel.dialled(healed, || "dial").is_ready());
    assert!(net.kernel.dial(net.a, &PeerAddr::new("nobody")).is_err());
}

#[test]
fn a_full_backlog_swallows_dials() {
    let mut net = Net::new(PLAIN);
    let to = PeerAddr::new("b");
    net.kernel.listen(net.b, &to).unwrap();
    for _ in 0..128 {
        net.kernel.dial(net.a, &to).unwrap();
    }
    net.wait(20);
    let late = net.kernel.dial(net.a, &to).unwrap();
    net.wait(500);
    assert!(net.kernel.dialled(late, || "dial").is_pending());
    assert!(net.kernel.accept(net.b, 1, || "accept").is_ready());
    net.wait(1_000);
    assert!(net.kernel.dialled(late, || "dial").is_ready());
}

#[test]
fn the_window_holds_the_writer_up() {
    let mut net = Net::new(PLAIN);
    let (here, there) = net.connect();
    assert_eq!(net.write(here, &[1; 20]), Ok(16));
    assert_eq!(net.write(here, &[2; 4]), Err(PENDING));
    net.wait(5);
    assert_eq!(net.write(here, &[2; 4]), Err(PENDING), "arrived is not read");
    assert_eq!(net.read(there, 3), Ok(vec![1; 3]));
    assert_eq!(net.woken(), ["write"]);
    assert_eq!(net.write(here, &[2; 4]), Ok(3));
}

#[test]
fn a_cut_way_back_keeps_the_window_shut() {
    let mut net = Net::new(PLAIN);
    let (here, there) = net.connect();
    assert_eq!(net.write(here, &[1; 16]), Ok(16));
    net.wait(5);
    assert_eq!(net.write(here, &[2; 1]), Err(PENDING));
    net.kernel.cut(net.b, net.a);
    assert_eq!(net.read(there, 16), Ok(vec![1; 16]));
    assert_eq!(net.woken(), [""; 0], "the writer cannot know");
    assert_eq!(net.write(here, &[2; 1]), Err(PENDING));
    net.kernel.heal();
    assert_eq!(net.woken(), ["write"]);
    assert_eq!(net.write(here, &[2; 1]), Ok(1));
}

#[test]
fn a_cut_holds_and_a_heal_delivers_in_order() {
    let mut net = Net::new(PLAIN);
    let (here, there) = net.connect();
    net.write(here, b"one ").unwrap();
    net.kernel.cut(net.a, net.b);
    net.wait(1_000);
    net.write(here, b"two ").unwrap();
    net.kernel.shutdown(here).unwrap();
    net.write(there, b"back").unwrap();
    net.wait(1_000);
    assert_eq!(net.read(there, 9), Err(PENDING));
    assert_eq!(net.read(here, 9), Ok(b"back".to_vec()), "the way back is open");
    net.kernel.heal();
    net.wait(4);
    assert_eq!(net.read(there, 9), Err(PENDING));
    net.wait(1);
    assert_eq!(net.read(there, 9), Ok(b"one two ".to_vec()));
    assert_eq!(net.read(there, 9), Ok(Vec::new()));
}

#[test]
fn partitions_are_sets() {
    let mut net = Net::new(PLAIN);
    let c = net.kernel.add_replica("c".into());
    let (a, b) = (net.a, net.b);
    let ways =
        |net: &Net| [(a, b), (b, a), (a, c), (c, a), (b, c), (a, a)].map(|(x, y)| net.kernel.passable(x, y));
    net.kernel.partition(&[vec![a, b], vec![c]]);
    assert_eq!(ways(&net), [true, true, false, false, false, true]);
    net.kernel.heal();
    net.kernel.partition(&[vec![b]]);
    assert_eq!(
        ways(&net),
        [false, false, false, false, false, true],
        "who is in no group is alone"
    );
    net.kernel.partition(&[vec![a, b, c]]);
    assert_eq!(ways(&net), [true; 6], "a partition replaces the former");
    net.kernel.cut(a, b);
    net.kernel.cut(a, a);
    net.kernel.partition(&[vec![a, b], vec![c]]);
    assert_eq!(
        ways(&net),
        [false, true, false, false, false, true],
        "and leaves cuts"
    );
    net.kernel.open(a, b);
    assert_eq!(ways(&net), [true, true, false, false, false, true]);
    net.kernel.heal();
    assert_eq!(ways(&net), [true; 6]);
}

#[test]
fn a_close_resets_and_a_shutdown_ends() {
    let mut net = Net::new(PLAIN);
    let (here, there) = net.connect();
    assert_eq!(net.read(there, 1), Err(PENDING));
    net.kernel.close(here);
    net.wait(5);
    assert_eq!(net.woken(), ["read"]);
    assert_eq!(net.read(there, 1), Err(RESET));
    assert_eq!(net.write(there, b"x"), Err(RESET));
    net.kernel.close(there);
    assert!(net.kernel.connections.is_empty());

    let (here, there) = net.connect();
    net.kernel.shutdown(here).unwrap();
    net.kernel.close(here);
    net.wait(5);
    assert_eq!(net.read(there, 1), Ok(Vec::new()));
    assert_eq!(net.write(there, b"x"), Ok(1), "the machine has not answered yet");
    net.wait(10);
    assert_eq!(net.write(there, b"x"), Err(RESET));
    net.kernel.close(there);
    assert!(net.kernel.connections.is_empty());
}

#[test]
fn unread_bytes_turn_an_end_into_a_reset() {
    let mut net = Net::new(PLAIN);
    let (here, there) = net.connect();
    net.write(there, b"unread").unwrap();
    net.wait(5);
    net.kernel.shutdown(here).unwrap();
    net.kernel.close(here);
    net.wait(5);
    assert!(matches!(net.read(there, 1), Err(RESET) | Ok(_)));
    net.wait(5);
    assert_eq!(net.write(there, b"x"), Err(RESET));
}

#[test]
fn a_killed_process_resets_and_a_dark_machine_is_silent() {
    let mut net = Net::new(PLAIN);
    let (here, _) = net.connect();
    net.kernel.kill(net.b);
    net.wait(5);
    assert_eq!(net.read(here, 1), Err(RESET));
    net.kernel.close(here);

    let (here, _) = net.connect();
    net.kernel.power_off(net.b);
    net.wait(60_000);
    assert_eq!(net.read(here, 1), Err(PENDING), "half-open");
    assert_eq!(net.write(here, &[0; 20]), Ok(16));
    assert_eq!(net.write(here, &[0; 20]), Err(PENDING));
    let dial = net.kernel.dial(net.a, &PeerAddr::new("b")).unwrap();
    net.wait(3_000);
    assert_eq!(
        outcome(net.kernel.dialled(dial, || "dial")),
        Err(Some(ErrorKind::TimedOut))
    );
    net.kernel.power_on(net.b);
    net.wait(10);
    assert_eq!(net.read(here, 1), Err(RESET), "it came back, and knows nothing");
}

#[test]
fn a_forgotten_stream_is_reset_at_both_ends() {
    let mut net = Net::new(PLAIN);
    let (here, there) = net.connect();
    net.kernel.reset_between(net.b, net.a);
    assert_eq!(net.read(here, 1), Err(RESET));
    assert_eq!(net.read(there, 1), Err(RESET));
}

#[test]
fn nothing_is_read_behind_what_was_lost_with_a_stream() {
    let mut torn = 0;
    for seed in 0..64 {
        let torn_path = PathConfig {
            tear_64k: 20_000,
            ..PLAIN
        };
        let mut net = Net::seeded(seed, torn_path);
        let (here, there) = net.connect();
        let sent: Vec<u8> = (0..16).collect();
        for bytes in sent.chunks(4) {
            let _ = net.write(here, bytes);
        }
        // Whose machine is dark is not told of the reset, and what it sent goes on.
        net.kernel.power_off(net.a);
        net.wait(100);
        let mut read = Vec::new();
        while let Ok(bytes) = net.read(there, 16) {
            read.extend(bytes);
        }
        torn += usize::from(net.read(there, 1) == Err(RESET));
        assert!(sent.starts_with(&read), "{read:?}");
    }
    assert!(torn > 0);
}

#[test]
fn nothing_is_left_when_all_is_closed() {
    let mut net = Net::new(PLAIN);
    let dial = net.kernel.dial(net.a, &PeerAddr::new("b")).unwrap();
    net.kernel.cancel_dial(dial);
    let (here, there) = net.connect();
    let _unaccepted = net.kernel.dial(net.a, &PeerAddr::new("b")).unwrap();
    net.wait(20);
    net.kernel.unlisten(net.b, 1);
    net.kernel.kill(net.a);
    net.kernel.close(there);
    net.kernel.close(here);
    net.wait(60_000);
    assert!(net.kernel.connections.is_empty() && net.kernel.dials.is_empty());
    assert_eq!(net.kernel.next_at(), None);
}

#[test]
fn corruption_flips_one_bit() {
    let mut net = Net::new(PathConfig {
        corrupt_64k: 65_536,
        ..PLAIN
    });
    let (here, there) = net.connect();
    net.write(here, &[0; 16]).unwrap();
    net.wait(5);
    let ones: u32 = net
        .read(there, 16)
        .unwrap()
        .iter()
        .map(|byte| byte.count_ones())
        .sum();
    assert_eq!(ones, 1);
}

#[test]
fn a_read_gives_no_more_than_the_path_allows() {
    let mut net = Net::new(PathConfig { read_max: 1, ..PLAIN });
    let (here, there) = net.connect();
    net.write(here, b"abc").unwrap();
    net.wait(5);
    for byte in [b"a", b"b", b"c"] {
        assert_eq!(net.read(there, 16), Ok(byte.to_vec()));
    }
    assert_eq!(net.read(there, 16), Err(PENDING));
}

#[test]
fn a_torn_segment_is_the_last_of_its_stream() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let mut net = Net::new(PLAIN);
        let path = PathConfig {
            tear_64k: 65_536,
            ..PLAIN
        };
        net.kernel = Kernel::new(Seeds::new(seed), path, DIAL_LIMIT);
        let [a, b] = ["a", "b"].map(|name| net.kernel.add_replica(name.into()));
        (net.a, net.b) = (a, b);
        let (here, there) = net.connect();
        net.write(here, b"abcd").unwrap();
        net.write(here, b"more").unwrap();
        net.wait(5);
        assert_eq!(net.write(here, b"x"), Err(RESET));
        let read = net.read(there, 16);
        if let Ok(bytes) = &read {
            assert!(b"abcd".starts_with(bytes) && bytes.len() < 4);
            assert_eq!(net.read(there, 16), Err(RESET));
        }
        seen.insert(read.map_or(0, |bytes| bytes.len()));
    }
    assert_eq!(seen, [0, 1, 2, 3].into());
}

/// What a flapping network does between two reads.
#[derive(Debug, Clone)]
enum Flap {
    Cut(bool),
    Heal,
    Wait(u64),
    Write(usize),
    Read(usize),
}

fn flaps() -> impl Strategy<Value = Vec<Flap>> {
    let flap = prop_oneof![
        any::<bool>().prop_map(Flap::Cut),
        Just(Flap::Heal),
        (0..40_u64).prop_map(Flap::Wait),
        (1..50_usize).prop_map(Flap::Write),
        (1..50_usize).prop_map(Flap::Read),
    ];
    prop::collection::vec(flap, 0..200)
}

proptest! {
    /// Bytes never change, get lost or change places, whatever the ways between the ends do.
    #[test]
    fn flapping_ways_keep_the_bytes(flaps in flaps(), seed: u64, window in 1..40_usize) {
        let path = PathConfig {
            latency_us_min: 0,
            latency_us_max: 30_000,
            spike_64k: 8_000,
            spike_us_max: 100_000,
            bytes_per_ms: 3,
            window,
            chop_64k: 32_768,
            ..PLAIN
        };
        let mut net = Net::new(PLAIN);
        net.kernel = Kernel::new(Seeds::new(seed), path, DIAL_LIMIT);
        let [a, b] = ["a", "b"].map(|name| net.kernel.add_replica(name.into()));
        net.kernel.listen(b, &PeerAddr::new("b")).unwrap();
        let dial = net.kernel.dial(a, &PeerAddr::new("b")).unwrap();
        net.wait(1_000);
        let here = outcome(net.kernel.dialled(dial, || "dial")).unwrap();
        let (there, _) = outcome(net.kernel.accept(b, 1, || "accept")).unwrap();

        let (mut sent, mut read) = (0_u8, 0_u8);
        let mut check = |net: &mut Net, most| -> Result<bool, TestCaseError> {
            let Ok(bytes) = net.read(there, most) else { return Ok(false) };
            for byte in &bytes {
                prop_assert_eq!(*byte, read);
                read = read.wrapping_add(1);
            }
            Ok(bytes.is_empty())
        };
        let mut total = 0;
        for flap in flaps {
            match flap {
                Flap::Cut(forth) => net.kernel.cut(if forth { a } else { b }, if forth { b } else { a }),
                Flap::Heal => net.kernel.heal(),
                Flap::Wait(ms) => net.wait(ms),
                Flap::Write(size) => {
                    let bytes: Vec<u8> = (0..size).map(|at| sent.wrapping_add(at.to_le_bytes()[0])).collect();
                    if let Ok(written) = net.write(here, &bytes) {
                        sent = sent.wrapping_add(written.to_le_bytes()[0]);
                        total += written;
                    }
                }
                Flap::Read(most) => drop(check(&mut net, most)?),
            }
        }
        net.kernel.shutdown(here).unwrap();
        net.kernel.heal();
        net.wait(10_000);
        let mut over = false;
        for _ in 0..=total + 1 {
            over = over || check(&mut net, 7)?;
        }
        prop_assert!(over, "the end of file is there after all bytes");
        prop_assert_eq!(read, sent);
    }
}
