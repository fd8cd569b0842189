//! Peers that lie, flood, or send anything at all.

use super::*;
use crate::env::Point;
use crate::hypercore::proof::Proof;

#[test]
fn wrong_data_pauses_one_peer_and_the_others_go_on() {
    let mut net = Net::new(3, 30);
    net.connect(0, 1);
    net.settle();
    net.connect(0, 2);
    net.download(2, 0, None);
    net.settle();
    let bad = net.connect(2, 1);
    net.download(1, 0, None);
    loop {
        let mut silent = true;
        for link in 0..net.links.len() {
            silent &= !net.pull(link);
            let liar = net.links[link].id == bad && net.links[link].from == 2;
            if liar
                && let Some(Message::Data(data)) = net.links[link].queue.front_mut()
                && let Some(block) = &mut data.proof.block
            {
                block.value = b"not what the writer wrote".to_vec().into();
            }
            silent &= net.deliver(link).is_none();
        }
        if silent {
            break;
        }
    }
    net.assert_copied(1);
    let paused = |event: &ReplicatorEvent| matches!(event, ReplicatorEvent::Paused { peer, fault: PeerFault::Proof(_) } if *peer == bad);
    assert!(net.nodes[1].events.iter().any(paused));
}

#[test]
fn an_answer_that_does_not_fit_leaves_no_comparison_behind() {
    let mut net = Net::new(2, 3);
    net.nodes[0].replicator.settings.is_owner = true;
    let id = net.connect(0, 1);
    net.download(1, 0, None);
    let compared = |net: &Net| net.nodes[0].replicator.peers[&id].compared;
    let mut steps = 0..1_000;
    let request = loop {
        if let Compared::Asked(request) = compared(&net) {
            break request;
        }
        assert!(steps.next().is_some(), "the owner asks what its peer has");
        for link in [0, 1] {
            net.pull(link);
            if !matches!(compared(&net), Compared::Asked(_)) {
                net.deliver(link);
            }
        }
    };
    let mut proof = net.nodes[1].log.log.prove(&hypercore::proof::Request {
        upgrade: Some(hypercore::proof::UpgradeRequest { start: 0, length: 3 }),
        ..Default::default()
    });
    let mut proof = proof.as_mut().unwrap().take().unwrap();
    proof.fork += 1;
    // The number is another request's from now on.
    net.links[0].queue.clear();
    net.links[1].queue.clear();
    net.links[1]
        .queue
        .push_back(Message::Data(Box::new(DataMessage { request, proof })));
    net.deliver(1);
    assert_eq!(compared(&net), Compared::Due);
}

#[test]
fn what_nobody_asked_for_is_dropped() {
    let mut net = Net::new(2, 3);
    net.connect(0, 1);
    net.settle();
    let proof = net.nodes[0].log.log.prove(&hypercore::proof::Request {
        block: Some(hypercore::proof::BlockRequest { index: 0, nodes: 1 }),
        ..Default::default()
    });
    for request in [0, 1, 77] {
        let proof = proof.clone().unwrap().unwrap();
        net.links[0]
            .queue
            .push_back(Message::Data(Box::new(DataMessage { request, proof })));
    }
    let said = net.settle();
    assert_eq!(said.len(), 3);
    assert!(net.nodes[1].log.log.get(Index(0)).is_none());
    assert!(!net.nodes[1].replicator.status(PeerId(0)).unwrap().paused);
}

#[test]
fn a_flood_and_nonsense_are_blamed() {
    for nonsense in [false, true] {
        let mut net = Net::new(2, 3);
        net.connect(0, 1);
        net.settle();
        for id in 1..2_000 {
            let mut request = RequestMessage {
                id,
                ..RequestMessage::default()
            };
            if nonsense {
                request.request.block = Some(hypercore::proof::BlockRequest { index: 0, nodes: 60 });
            }
            net.links[1].queue.push_back(Message::Request(request));
            net.deliver(1);
            if nonsense {
                net.pull(0);
                let node = &mut net.nodes[0];
                node.events
                    .extend(std::iter::from_fn(|| node.replicator.poll_event()));
            }
        }
        let close = |event: &ReplicatorEvent| matches!(event, ReplicatorEvent::Close { fault: Some(_), .. });
        assert!(net.nodes[0].events.iter().any(close), "{nonsense}");
    }
}

#[test]
fn two_logs_of_one_owner_are_told_apart() {
    let mut net = Net::new(3, 8);
    net.nodes[2].log = {
        let mut log = Log::create(Cheap.key_pair(&Seed::new([9; 32])));
        log.append(&Cheap, (0..12).map(|index| block(index + 50)))
            .unwrap();
        MemoryCore::new(log, Cheap)
    };
    net.connect(0, 1);
    net.settle();
    let other = net.connect(1, 2);
    let said = net.settle();
    let check = |message: &Message| matches!(message, Message::Request(request) if request.id == 0);
    let answer = |message: &Message| matches!(message, Message::Data(data) if data.request == 0);
    assert_eq!(said.iter().filter(|(_, message)| check(message)).count(), 1);
    let proof = said.iter().find_map(|(_, message)| match message {
        Message::Data(data) if answer(message) => Some(data.proof.clone()),
        _ => None,
    });
    let paused =
        |event: &ReplicatorEvent| matches!(event, ReplicatorEvent::Paused { peer, .. } if *peer == other);
    assert!(net.nodes[1].events.iter().any(paused));
    assert!(proof.unwrap().upgrade.is_some());
    assert_eq!(net.nodes[1].log.log.length(), Length(8));
}

#[test]
fn a_silent_source_of_a_length_or_a_fork_is_not_waited_for() {
    let mut net = Net::new(3, 8);
    let silent = net.connect(1, 2);
    let claim = |fork, length| {
        Message::Sync(Sync {
            fork,
            length,
            remote_length: 0,
            can_upgrade: true,
            uploading: true,
            downloading: true,
            has_manifest: true,
            allow_push: false,
        })
    };
    for message in [claim(0, 1_000), claim(7, 9)] {
        let node = &mut net.nodes[1];
        node.replicator
            .receive(silent, message, &mut node.log, net.now)
            .unwrap();
        assert!(
            node.replicator
                .pull(silent, &node.log, net.now)
                .unwrap()
                .is_some()
        );
        while node
            .replicator
            .pull(silent, &node.log, net.now)
            .unwrap()
            .is_some()
        {}
    }
    assert!(net.nodes[1].replicator.in_flight() > 0);
    net.connect(0, 1);
    net.download(1, 0, None);
    net.now = net.now + Duration::from_secs(2);
    for _ in 0..20 {
        for link in [2, 3] {
            while net.pull(link) {}
            while net.deliver(link).is_some() {}
        }
    }
    net.assert_copied(1);
}

#[test]
fn who_says_again_and_again_that_it_moved_on_is_asked_now_and_then() {
    let mut net = Net::new(2, 8);
    let hostile = net.connect(1, 0);
    let claim = Sync {
        fork: 7,
        length: 9,
        remote_length: 0,
        can_upgrade: true,
        uploading: true,
        downloading: true,
        has_manifest: true,
        allow_push: false,
    };
    let manifest = net.nodes[0].log.log.manifest().cloned();
    let mut asked = 0;
    for _ in 0..5_000 {
        let node = &mut net.nodes[1];
        node.replicator
            .receive(hostile, Message::Sync(claim), &mut node.log, net.now)
            .unwrap();
        while let Some(message) = node.replicator.pull(hostile, &node.log, net.now).unwrap() {
            let Message::Request(request) = message else {
                continue;
            };
            asked += 1;
            let mut proof = Proof::empty(request.fork + 1);
            proof.manifest.clone_from(&manifest);
            let data = DataMessage {
                request: request.id,
                proof,
            };
            node.replicator
                .receive(hostile, Message::Data(Box::new(data)), &mut node.log, net.now)
                .unwrap();
        }
        net.now = net.now + Duration::from_millis(1);
        node.replicator.tick(net.now);
    }
    // Eight without a pause, then one a second.
    assert!((10..=16).contains(&asked), "{asked}");
}

#[test]
fn wide_announcements_again_and_again_are_blamed() {
    let mut net = Net::new(2, 3);
    net.connect(0, 1);
    let node = &mut net.nodes[0];
    let wide = RangeMessage {
        drop: false,
        start: 9,
        length: 1 << 40,
    };
    let messages = 2 * ReplicatorSettings::default().announced_work / 2048;
    for _ in 0..messages {
        node.replicator
            .receive(PeerId(0), Message::Range(wide), &mut node.log, net.now)
            .unwrap();
    }
    let blamed = std::iter::from_fn(|| node.replicator.poll_event()).any(|event| {
        matches!(
            event,
            ReplicatorEvent::Close {
                fault: Some(PeerFault::Announcements { .. }),
                ..
            }
        )
    });
    assert!(blamed);
}

proptest! {
    #[test]
    fn arbitrary_messages_never_panic(
        messages in proptest::collection::vec((any::<bool>(), message()), 0..60),
    ) {
        let mut net = Net::new(2, 20);
        net.connect(0, 1);
        net.settle();
        net.download(1, 0, None);
        net.append(5);
        for (side, message) in messages {
            net.links[usize::from(side)].queue.push_front(message);
            for link in 0..2 {
                net.deliver(link);
                net.pull(link);
            }
            for node in &net.nodes {
                prop_assert!(node.replicator.in_flight() <= 48);
            }
        }
        for index in net.nodes[1].log.log.nodes().keys() {
            prop_assert!(*index < 60);
        }
    }
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0u64..40, 1 => 0u64..=crate::wire::compact::UINT_MAX, 1 => Just(1 << 21)]
}

fn message() -> impl Strategy<Value = Message> {
    let bits = || proptest::collection::vec(any::<bool>(), 5);
    prop_oneof![
        (number(), number(), number(), bits()).prop_map(|(fork, length, remote_length, bits)| Message::Sync(
            Sync {
                fork: fork / 16,
                length,
                remote_length,
                can_upgrade: bits[0],
                uploading: bits[1],
                downloading: bits[2],
                has_manifest: bits[3],
                allow_push: bits[4],
            }
        )),
        proptest::collection::vec(0u8..40, 0..16)
            .prop_filter_map("no request", |bytes| Message::decode(1, &bytes).ok()?),
        number().prop_map(|request| Message::Cancel { request }),
        data(),
        (number(), 0u64..3).prop_map(|(request, reason)| Message::NoData(NoData { request, reason })),
        (number(), number(), any::<bool>(), any::<bool>()).prop_map(|(start, length, any, undo)| {
            let want = Want { start, length, any };
            if undo {
                Message::Unwant(want)
            } else {
                Message::Want(want)
            }
        }),
        (number(), proptest::collection::vec(any::<u32>(), 0..4))
            .prop_map(|(start, words)| Message::Bitfield(BitfieldMessage { start, words })),
        (any::<bool>(), number(), number()).prop_map(|(drop, start, length)| Message::Range(RangeMessage {
            drop,
            start,
            length
        })),
    ]
}

fn data() -> impl Strategy<Value = Message> {
    use crate::hypercore::proof::{BlockProof, HashProof, SeekProof, UpgradeProof};

    let nodes = || {
        proptest::collection::vec((number(), number(), any::<[u8; 32]>()), 0..4).prop_map(|nodes| {
            let node = |(index, size, hash)| hypercore::merkle::Node {
                index,
                size,
                hash: Hash::new(hash),
            };
            nodes.into_iter().map(node).collect::<Vec<_>>()
        })
    };
    let upgrade =
        (number(), number(), nodes(), nodes()).prop_map(|(start, length, nodes, additional_nodes)| {
            UpgradeProof {
                start,
                length,
                nodes,
                additional_nodes,
                signature: None,
            }
        });
    (
        (0u64..6, 0u64..3),
        proptest::option::of((number(), nodes())),
        proptest::option::of((number(), nodes())),
        proptest::option::of((number(), nodes())),
        proptest::option::of(upgrade),
    )
        .prop_map(|((request, fork), block, hash, seek, upgrade)| {
            let proof = Proof {
                block: block.map(|(index, nodes)| BlockProof {
                    index,
                    value: "any".into(),
                    nodes,
                }),
                hash: hash.map(|(index, nodes)| HashProof { index, nodes }),
                seek: seek.map(|(bytes, nodes)| SeekProof { bytes, nodes }),
                upgrade,
                ..Proof::empty(fork)
            };
            Message::Data(Box::new(DataMessage { request, proof }))
        })
}

#[test]
fn who_drops_a_block_that_it_is_asked_for_says_so_before_it_answers() {
    // With the first request, which asks for the length and the manifest, too, and with one for a block alone.
    for has_length in [false, true] {
        let mut net = Net::new(2, 4);
        net.connect(0, 1);
        if has_length {
            net.settle();
        }
        net.download(1, 0, None);
        while net.pull(0) || net.deliver(0).is_some() || (!has_length && net.deliver(1).is_some()) {}
        while net.pull(1) {}
        // Nobody tells the replicator yet: the log was asked from elsewhere.
        net.nodes[0].log.log.clear(Index(0), Index(4));
        net.nodes[1].replicator.take_sights();
        let said = net.settle();
        let said: Vec<&Message> = said.iter().map(|(_, message)| message).collect();
        let answer = said.iter().position(|message| match message {
            Message::NoData(_) => true,
            Message::Data(data) => data.proof.block.is_none() && data.proof.upgrade.is_none(),
            _ => false,
        });
        let drop = said
            .iter()
            .position(|message| matches!(message, Message::Range(range) if range.drop));
        assert!(drop.is_some() && drop < answer, "{drop:?} {answer:?}");
        let sights = net.nodes[1].replicator.take_sights();
        assert!(!sights.has(Point::AnswerMisfit));
        // The blocks are gone, and the length is not.
        assert_eq!(net.nodes[1].log.log.length(), Length(4));
    }
}
