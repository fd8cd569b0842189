//! Replicators in a network of queues, with logs in memory.

mod ahead;
mod distrust;
mod small;

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::crypto::{Ed25519, Hash, KeyPair, PublicKey, Seed, Sign, Signature, Verify};
use crate::hypercore;
use crate::hypercore::log::Log;
use crate::replication::core::MemoryCore;
use crate::replication::message::{
    BitfieldMessage, DataMessage, NoData, RangeMessage, RequestMessage, Sync, Want,
};
use crate::wire::{Index, Length};

/// Signatures that cost nothing.
#[derive(Debug, Clone, Copy)]
struct Cheap;

impl Verify for Cheap {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        let hash = crate::crypto::hash(&[key.as_bytes(), message]);
        signature.as_bytes()[..32] == hash.as_bytes()[..]
    }
}

impl Sign for Cheap {
    fn key_pair(&self, seed: &Seed) -> KeyPair {
        Ed25519.key_pair(seed)
    }

    fn sign(&self, secret: &crate::crypto::SecretKey, message: &[u8]) -> Signature {
        let hash: Hash = crate::crypto::hash(&[secret.public().as_bytes(), message]);
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(hash.as_bytes());
        Signature::new(bytes)
    }
}

struct Node {
    log: MemoryCore<Cheap>,
    replicator: Replicator,
    events: Vec<ReplicatorEvent>,
}

/// One direction of a channel.
struct Link {
    from: usize,
    to: usize,
    id: PeerId,
    queue: VecDeque<Message>,
    up: bool,
    /// When nothing was left to pull, and the next timeout then.
    drained: Option<(Mono, Option<Mono>)>,
}

struct Net {
    nodes: Vec<Node>,
    links: Vec<Link>,
    now: Mono,
    delivered: usize,
}

impl Net {
    /// The first node owns the core.
    fn new(nodes: usize, blocks: u64) -> Self {
        let mut owner = Log::create(Cheap.key_pair(&Seed::new([9; 32])));
        owner.append(&Cheap, (0..blocks).map(block)).unwrap();
        let key = owner.key();
        let mut logs = vec![owner];
        logs.resize_with(nodes, || Log::replica(key));
        let nodes = logs
            .into_iter()
            .map(|log| MemoryCore::new(log, Cheap))
            .map(|log| Node {
                replicator: Replicator::new(&log, ReplicatorSettings::default()).unwrap(),
                log,
                events: Vec::new(),
            });
        Self {
            nodes: nodes.collect(),
            links: Vec::new(),
            now: Mono(1),
            delivered: 0,
        }
    }

    fn is_synced(&mut self, node: usize, peer: PeerId) -> bool {
        let Node { log, replicator, .. } = &mut self.nodes[node];
        replicator.is_synced(peer, log).unwrap()
    }

    fn connect(&mut self, a: usize, b: usize) -> PeerId {
        let id = PeerId(self.links.len() as u64);
        for (from, to) in [(a, b), (b, a)] {
            let node = &mut self.nodes[from];
            node.replicator.open(id, true, &node.log).unwrap();
            self.links.push(Link {
                from,
                to,
                id,
                queue: VecDeque::new(),
                up: true,
                drained: None,
            });
        }
        id
    }

    fn disconnect(&mut self, id: PeerId) {
        for link in self.links.iter_mut().filter(|link| link.id == id && link.up) {
            link.up = false;
            link.queue.clear();
            self.nodes[link.from].replicator.close(id);
        }
    }

    /// Moves one message into the queue of the link, if there is any.
    fn pull(&mut self, link: usize) -> bool {
        let link = &mut self.links[link];
        let node = &mut self.nodes[link.from];
        let is_ready = node.replicator.ready.contains(&link.id);
        let message = if link.up {
            node.replicator.pull(link.id, &node.log, self.now).unwrap()
        } else {
            None
        };
        let replicator = &node.replicator;
        if let (Some((at, timeout)), Some(message)) = (link.drained, &message) {
            // A second peer may be asked once the first one is slow.
            let block = match message {
                Message::Request(request) => request.request.block,
                _ => None,
            };
            let is_second = block.is_some_and(|block| replicator.requests.of_block(block.index).count() > 1);
            let is_timed = self.now.since(at) > Duration::from_millis(10)
                || timeout.is_some_and(|timeout| timeout <= self.now)
                || is_second;
            assert!(is_ready || is_timed, "nobody was told of {message:?}");
        }
        link.drained = message
            .is_none()
            .then(|| (self.now, replicator.next_timeout(self.now)));
        if message.is_none() && is_ready {
            // What a session reports, which looks whenever it is woken.
            node.replicator.is_synced(link.id, &node.log).unwrap();
        }
        link.queue.extend(message.clone());
        message.is_some()
    }

    /// Delivers one message of the link, through its bytes.
    fn deliver(&mut self, link: usize) -> Option<Message> {
        let message = self.links[link].queue.pop_front()?;
        let bytes = message.encode().unwrap();
        assert_eq!(
            Message::decode(message.kind(), &bytes).unwrap().as_ref(),
            Some(&message)
        );
        let (id, to) = (self.links[link].id, &mut self.nodes[self.links[link].to]);
        to.replicator
            .receive(id, message.clone(), &mut to.log, self.now)
            .unwrap();
        to.events
            .extend(std::iter::from_fn(|| to.replicator.poll_event()));
        self.delivered += 1;
        Some(message)
    }

    /// Lets everybody talk until nobody has anything to say. Gives what was said, with the link.
    fn settle(&mut self) -> Vec<(usize, Message)> {
        let mut said = Vec::new();
        loop {
            let mut silent = true;
            for link in 0..self.links.len() {
                while self.pull(link) {
                    silent = false;
                }
                while let Some(message) = self.deliver(link) {
                    silent = false;
                    said.push((link, message));
                }
            }
            self.now = self.now + Duration::from_millis(1);
            if silent {
                self.assert_reported();
                return said;
            }
            assert!(
                said.len() < 20_000,
                "they talk for ever: {:?}",
                &said[said.len() - 12..]
            );
        }
    }

    /// What was reported last of each peer is so.
    fn assert_reported(&self) {
        for link in self.links.iter().filter(|link| link.up) {
            let Node { log, replicator, .. } = &self.nodes[link.from];
            let Some(peer) = replicator.peers.get(&link.id) else {
                continue;
            };
            let has_all = replicator.has_all_of(link.id, log).unwrap();
            assert_eq!(
                has_all, !peer.is_behind,
                "{:?} was reported otherwise by {}",
                link.id, link.from
            );
        }
    }

    fn download(&mut self, node: usize, start: u64, end: Option<u64>) -> RangeId {
        let node = &mut self.nodes[node];
        node.replicator.download(start, end, &node.log).unwrap()
    }

    fn read(&mut self, node: usize, index: u64, priority: u64) {
        let node = &mut self.nodes[node];
        node.replicator
            .want_block(index, priority, &node.log, self.now)
            .unwrap();
    }

    fn append(&mut self, count: u64) {
        let owner = &mut self.nodes[0];
        let length = owner.log.log.length().0;
        let fork = owner.log.log.fork();
        let blocks = (length..length + count).map(|index| block(index + 1000 * fork));
        owner.log.log.append(&Cheap, blocks).unwrap();
        owner.replicator.changed(&owner.log).unwrap();
    }

    fn truncate(&mut self, length: u64) {
        let owner = &mut self.nodes[0];
        owner.log.log.truncate(&Cheap, Length(length), None).unwrap();
        owner.replicator.truncated(length, &owner.log).unwrap();
    }

    fn clear(&mut self, node: usize, blocks: Range<u64>) {
        let node = &mut self.nodes[node];
        node.log.log.clear(Index(blocks.start), Index(blocks.end));
        node.replicator.cleared(blocks, &node.log).unwrap();
    }

    fn assert_copied(&self, node: usize) {
        let (owner, copy) = (&self.nodes[0].log.log, &self.nodes[node].log.log);
        assert_eq!(copy.head(), owner.head());
        assert_eq!(copy.contiguous_length(), owner.length());
    }
}

fn block(index: u64) -> Vec<u8> {
    index.to_le_bytes()[..usize::try_from(index % 9).unwrap()].to_vec()
}

fn requests(said: &[(usize, Message)]) -> impl Iterator<Item = (usize, &RequestMessage)> {
    said.iter().filter_map(|(link, message)| match message {
        Message::Request(request) => Some((*link, request)),
        _ => None,
    })
}

fn assert_no_trap(said: &[(usize, Message)]) {
    for (_, message) in said {
        if let Message::NoData(none) = message {
            assert_eq!(
                none.reason,
                NoData::NOT_AVAILABLE,
                "a request could not be proven"
            );
        }
    }
}

#[test]
fn a_whole_core_is_copied_and_followed() {
    let mut net = Net::new(2, 100);
    net.connect(0, 1);
    net.download(1, 0, None);
    let said = net.settle();
    net.assert_copied(1);
    assert_eq!(
        requests(&said)
            .filter(|(_, request)| request.request.block.is_some())
            .count(),
        100
    );
    assert_no_trap(&said);
    net.append(1);
    let said = net.settle();
    net.assert_copied(1);
    // The block comes with the upgrade.
    assert_eq!(requests(&said).count(), 1);
    net.append(20);
    assert_no_trap(&net.settle());
    net.assert_copied(1);
    let status = net.nodes[1].replicator.status(PeerId(0)).unwrap();
    assert!(net.is_synced(1, PeerId(0)) && status.in_flight == 0 && status.contiguous == 121);
}

#[test]
fn nobody_reads_and_only_the_length_is_copied() {
    let mut net = Net::new(2, 11);
    net.connect(0, 1);
    let said = net.settle();
    assert_eq!(net.nodes[1].log.log.length(), Length(11));
    assert_eq!(requests(&said).count(), 1);
    assert!(
        net.nodes[1]
            .events
            .iter()
            .any(|event| matches!(event, ReplicatorEvent::Upgraded { from: 0, to: 11 }))
    );
}

#[test]
fn one_block_is_read_with_few_nodes() {
    let mut net = Net::new(2, 11);
    net.connect(0, 1);
    net.settle();
    for (index, nodes) in [(1, 3), (0, 0), (10, 0)] {
        net.read(1, index, 1);
        let said = net.settle();
        let asked: Vec<_> = requests(&said).map(|(_, request)| request).collect();
        assert_eq!(asked.len(), 1);
        let block = asked[0].request.block.unwrap();
        assert_eq!((block.index, block.nodes, asked[0].priority), (index, nodes, 1));
        assert!(net.nodes[1].log.log.get(Index(index)).is_some());
    }
    assert!(!net.nodes[1].replicator.has_demand());
}

#[test]
fn a_range_ends() {
    let mut net = Net::new(2, 9);
    net.connect(0, 1);
    let id = net.download(1, 2, Some(6));
    net.settle();
    let log = &net.nodes[1].log.log;
    assert_eq!(
        (0..9)
            .filter(|index| log.get(Index(*index)).is_some())
            .collect::<Vec<_>>(),
        [2, 3, 4, 5]
    );
    assert!(
        net.nodes[1]
            .events
            .iter()
            .any(|event| matches!(event, ReplicatorEvent::RangeDone(done) if *done == id))
    );
}

#[test]
fn a_sparse_source_is_asked_what_it_has() {
    let mut net = Net::new(3, 600);
    let first = net.connect(0, 1);
    net.settle();
    let have = [0, 1, 2, 40, 41, 300, 520];
    for index in have {
        net.read(1, index, 0);
    }
    net.settle();
    net.disconnect(first);
    net.connect(1, 2);
    net.download(2, 0, None);
    net.read(2, 100, 1);
    let said = net.settle();
    assert_no_trap(&said);
    assert!(
        said.iter()
            .any(|(_, message)| matches!(message, Message::Want(_)))
    );
    let copy = |net: &Net| -> Vec<u64> {
        (0..600)
            .filter(|index| net.nodes[2].log.log.get(Index(*index)).is_some())
            .collect()
    };
    assert_eq!(copy(&net), have);
    // The rest comes as soon as somebody has it.
    net.connect(0, 2);
    assert_no_trap(&net.settle());
    net.assert_copied(2);
}

#[test]
fn a_block_is_passed_on_as_soon_as_it_is_there() {
    let mut net = Net::new(3, 300);
    net.connect(0, 1);
    net.connect(1, 2);
    net.download(1, 0, None);
    net.download(2, 0, None);
    assert_no_trap(&net.settle());
    net.assert_copied(2);
    net.append(5);
    assert_no_trap(&net.settle());
    net.assert_copied(2);
}

#[test]
fn a_higher_fork_is_followed_and_what_is_shared_stays() {
    let mut net = Net::new(2, 8);
    net.connect(0, 1);
    net.download(1, 0, None);
    net.settle();
    net.truncate(5);
    net.append(7);
    let said = net.settle();
    assert_no_trap(&said);
    net.assert_copied(1);
    assert!(net.nodes[1].events.iter().any(|event| matches!(
        event,
        ReplicatorEvent::Rewound {
            kept: 5,
            old_length: 8,
            fork: 1
        }
    )));
    let fetched: BTreeSet<u64> = requests(&said)
        .filter_map(|(_, request)| request.request.block)
        .map(|block| block.index)
        .collect();
    assert!(fetched.iter().all(|index| *index >= 5), "{fetched:?}");
}

#[test]
fn a_lost_peer_is_replaced() {
    let mut net = Net::new(3, 200);
    let first = net.connect(0, 1);
    net.connect(0, 2);
    net.download(2, 0, None);
    net.settle();
    net.connect(1, 2);
    net.download(1, 0, None);
    for link in 0..net.links.len() {
        while net.pull(link) {}
    }
    for _ in 0..20 {
        for link in 0..net.links.len() {
            net.deliver(link);
            net.pull(link);
        }
    }
    assert!(net.nodes[1].replicator.status(first).unwrap().in_flight > 0);
    net.disconnect(first);
    assert_no_trap(&net.settle());
    net.assert_copied(1);
}

#[test]
fn a_silent_peer_loses_its_requests() {
    let mut net = Net::new(3, 50);
    let silent = net.connect(0, 1);
    net.settle();
    net.connect(0, 2);
    net.download(2, 0, None);
    net.settle();
    net.download(1, 0, None);
    // Requests go out, and nothing comes back.
    while net.pull(1) {}
    net.links[1].queue.clear();
    let timeout = net.nodes[1].replicator.next_timeout(net.now).unwrap();
    net.connect(2, 1);
    net.now = timeout;
    net.nodes[1].replicator.tick(timeout);
    assert_eq!(net.nodes[1].replicator.status(silent).unwrap().in_flight, 0);
    assert_no_trap(&net.settle());
    net.assert_copied(1);
}

#[test]
fn the_faster_peer_does_more() {
    let mut net = Net::new(3, 400);
    net.connect(0, 2);
    net.download(2, 0, None);
    net.settle();
    let slow = net.connect(0, 1);
    net.settle();
    net.connect(2, 1);
    net.download(1, 0, None);
    let (mut from_slow, mut from_fast) = (0, 0);
    for step in 0..100_000 {
        for link in 0..net.links.len() {
            while net.pull(link) {}
            let is_slow = net.links[link].id == slow && net.links[link].from == 0;
            if is_slow && step % 50 != 0 {
                continue;
            }
            if let Some(Message::Data(_)) = net.deliver(link) {
                *if is_slow { &mut from_slow } else { &mut from_fast } += 1;
            }
        }
        net.now = net.now + Duration::from_millis(2);
        if net.nodes[1].log.log.contiguous_length() == Length(400) {
            break;
        }
    }
    net.assert_copied(1);
    assert!(from_fast > 5 * from_slow, "fast {from_fast}, slow {from_slow}");
    // It did not wait for the slow one at the end.
    assert!(net.now.since(Mono(0)) < Duration::from_secs(6), "{:?}", net.now);
}

#[test]
fn a_cancelled_read_is_taken_back() {
    let mut net = Net::new(2, 30);
    net.connect(0, 1);
    net.settle();
    net.read(1, 7, 1);
    while net.pull(1) {}
    net.nodes[1].replicator.forget_block(7);
    let said = net.settle();
    assert!(
        said.iter()
            .any(|(_, message)| matches!(message, Message::Cancel { request: 1 }))
    );
    assert_eq!(net.nodes[1].replicator.in_flight(), 0);
    assert!(
        !said
            .iter()
            .any(|(_, message)| matches!(message, Message::Data(_)))
    );
}

#[test]
fn two_idle_sides_close() {
    let mut net = Net::new(2, 3);
    net.connect(0, 1);
    net.settle();
    net.nodes[0].replicator.set_downloading(false);
    net.nodes[1].replicator.set_downloading(false);
    net.settle();
    for node in &net.nodes {
        assert!(
            node.events
                .iter()
                .any(|event| matches!(event, ReplicatorEvent::Close { fault: None, .. }))
        );
    }
}

#[test]
fn a_byte_offset_is_found() {
    let mut net = Net::new(2, 40);
    net.connect(0, 1);
    net.settle();
    for bytes in [0, 1, 43, 100, 10_000] {
        let node = &mut net.nodes[1];
        node.replicator.want_seek(bytes, 0, &node.log).unwrap();
        node.events
            .extend(std::iter::from_fn(|| node.replicator.poll_event()));
        assert_no_trap(&net.settle());
        let owner = &net.nodes[0].log.log;
        let expected = match owner.head().tree.seek(bytes, 0, owner.nodes()).unwrap() {
            hypercore::merkle::Seek::Found { block, offset } => Some((block, offset)),
            _ => None,
        };
        let found = net.nodes[1].events.iter().rev().find_map(|event| match event {
            ReplicatorEvent::Sought {
                bytes: sought, found, ..
            } if *sought == bytes => Some(*found),
            _ => None,
        });
        assert_eq!(found, Some(expected), "{bytes}");
    }
}

#[test]
fn the_manifest_of_an_empty_core_is_fetched() {
    let mut net = Net::new(2, 0);
    net.connect(0, 1);
    net.settle();
    assert!(net.nodes[1].log.log.manifest().is_some());
}

#[derive(Debug, Clone)]
enum Act {
    Append(u64),
    Truncate(u64),
    Clear(usize, u64, u64),
    Download(usize, u64, Option<u64>),
    Read(usize, u64),
    Forget(usize, u64),
    Connect(usize, usize),
    Disconnect(u64),
    Talk(Vec<usize>),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (1u64..40).prop_map(Act::Append),
        1 => (0u64..60).prop_map(Act::Truncate),
        1 => (0usize..4, 0u64..60, 1u64..9).prop_map(|(node, start, count)| Act::Clear(node, start, count)),
        2 => (1usize..4, 0u64..40, proptest::option::of(0u64..60)).prop_map(|(n, s, e)| Act::Download(n, s, e)),
        2 => (1usize..4, 0u64..60).prop_map(|(node, index)| Act::Read(node, index)),
        1 => (1usize..4, 0u64..60).prop_map(|(node, index)| Act::Forget(node, index)),
        3 => (0usize..4, 0usize..4).prop_map(|(a, b)| Act::Connect(a, b)),
        1 => (0u64..10).prop_map(Act::Disconnect),
        8 => proptest::collection::vec(0usize..20, 0..60).prop_map(Act::Talk),
        1 => (0u64..40_000).prop_map(Act::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever happens in between: nobody asks what cannot be proven, nobody is blamed, and in the end everybody who is
    /// connected has everything.
    #[test]
    fn any_history_converges_without_blame(acts in proptest::collection::vec(act(), 0..50)) {
        let mut net = Net::new(4, 3);
        let mut said = Vec::new();
        for act in acts {
            match act {
                Act::Append(count) => net.append(count),
                Act::Truncate(length) if length < net.nodes[0].log.log.length().0 => net.truncate(length),
                Act::Clear(node, start, count) if node > 0 => {
                    let length = net.nodes[node].log.log.length().0;
                    net.clear(node, start.min(length)..(start + count).min(length));
                }
                Act::Download(node, start, end) => drop(net.download(node, start, end)),
                Act::Read(node, index) => net.read(node, index, 1),
                Act::Forget(node, index) => net.nodes[node].replicator.forget_block(index),
                Act::Connect(a, b) if a != b => drop(net.connect(a, b)),
                Act::Disconnect(id) => net.disconnect(PeerId(id * 2)),
                Act::Talk(links) => {
                    for link in links {
                        if !net.links.is_empty() {
                            let link = link % net.links.len();
                            net.pull(link);
                            said.extend(net.deliver(link).map(|message| (link, message)));
                        }
                    }
                }
                Act::Wait(millis) => {
                    net.now = net.now + Duration::from_millis(millis);
                    for node in &mut net.nodes {
                        node.replicator.tick(net.now);
                    }
                }
                _ => {}
            }
        }
        for node in 1..4 {
            net.connect(0, node);
            net.download(node, 0, None);
        }
        said.extend(net.settle());
        // Those who rest after a silence.
        for _ in 0..12 {
            let next = net.nodes.iter().filter_map(|node| node.replicator.next_timeout(net.now)).max();
            if let Some(next) = next {
                net.now = next;
                for node in &mut net.nodes {
                    node.replicator.tick(next);
                }
                said.extend(net.settle());
            }
        }
        for (_, message) in &said {
            if let Message::NoData(none) = message {
                prop_assert_eq!(none.reason, NoData::NOT_AVAILABLE, "a request could not be proven");
            }
        }
        for node in &net.nodes {
            for event in &node.events {
                let blamed = matches!(event, ReplicatorEvent::Paused { .. } | ReplicatorEvent::Close { .. });
                prop_assert!(!blamed, "{:?}", event);
            }
        }
        for node in 1..4 {
            if net.nodes[0].log.log.length().0 > 0 {
                net.assert_copied(node);
            }
        }
    }
}

#[test]
fn an_answer_about_a_fork_that_was_left_says_nothing_of_the_new_one() {
    let mut net = Net::new(2, 40);
    net.connect(0, 1);
    net.settle();
    net.download(1, 0, None);
    while net.pull(1) {}
    net.truncate(20);
    net.append(30);
    net.settle();
    net.assert_copied(1);
}

#[test]
fn a_source_that_goes_on_to_another_fork_before_it_answers_is_not_blamed() {
    let mut net = Net::new(2, 10);
    net.connect(0, 1);
    net.download(1, 0, None);
    let mut void = 0;
    for _ in 0..8 {
        while net.pull(0) || net.deliver(0).is_some() {}
        while net.pull(1) {}
        net.truncate(5);
        net.append(5);
        while net.deliver(1).is_some() {}
        while net.pull(0) {}
        while let Some(message) = net.deliver(0) {
            let is_alone = |data: &DataMessage| data.proof.manifest.is_some() && data.proof.upgrade.is_none();
            void += usize::from(matches!(message, Message::Data(data) if is_alone(&data)));
        }
    }
    assert_eq!(void, 8);
    let events = &net.nodes[1].events;
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, ReplicatorEvent::Paused { .. })),
        "{events:?}"
    );
    net.settle();
    net.assert_copied(1);
}

#[test]
fn who_could_not_prove_an_upgrade_says_when_it_can() {
    let mut net = Net::new(3, 4);
    let first = net.connect(0, 2);
    net.download(2, 0, None);
    net.settle();
    net.disconnect(first);
    net.append(6);
    net.connect(0, 1);
    net.settle();
    // The length without a block: the root of four blocks is none of ten.
    net.connect(1, 2);
    net.settle();
    assert_eq!(net.nodes[2].log.log.length(), Length(4));
    net.download(1, 0, None);
    net.settle();
    net.assert_copied(2);
}

#[test]
fn a_linear_download_asks_in_order() {
    for is_linear in [false, true] {
        let mut net = Net::new(2, 100);
        let range = hypercore::DownloadRange {
            start: Index(3),
            end: None,
            is_linear,
        };
        let demand = hypercore::Demand {
            ranges: [(0, range)].into(),
            ..hypercore::Demand::default()
        };
        let node = &mut net.nodes[1];
        node.replicator.set_demand(&demand, &node.log, net.now).unwrap();
        net.connect(0, 1);
        let said = net.settle();
        let asked: Vec<u64> = requests(&said)
            .filter_map(|(_, request)| Some(request.request.block?.index))
            .collect();
        assert_eq!(asked.len(), 97);
        assert_eq!(asked.is_sorted() && asked[0] == 3, is_linear, "{asked:?}");
    }
}
