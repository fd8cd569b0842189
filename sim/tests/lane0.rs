//! Every order in which the blocks of small histories can come, through the whole machine of a database, against the
//! model.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "lane0/histories.rs"]
mod histories;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use autobee::Error;
use autobee::crypto::CoreKey;
use autobee::db::{Event, Stalled};
use autobee::engine::WINDOW_BATCHES;
use autobee::wire::{Length, Rules};
use autobee_sim::history::ModelAnswers;
use autobee_sim::in_parallel;
use autobee_sim::lane0::{HistoryBlock, Peer, PeerGroup, Reading, leading, orders};
use autobee_sim::workload::Op;

/// ```text
/// a: add b --+-- add c ------- remove c
/// b:         |     \--- put ------------\--- put
/// c:               \----- put --- put            the second one and the removal do not know each other
/// ```
fn a_removal_and_what_it_meets(rules: Rules) -> PeerGroup {
    let mut group = PeerGroup::under(rules, 3);
    let [b, c] = [1, 2].map(|peer| group.key(peer));
    group.append(0, &[Op::add_writer(b, 2)]);
    group.append(0, &[Op::add_writer(c, 1)]);
    group.receive_all(1, 0);
    group.receive_all(2, 0);
    group.append(1, &[Op::put("x", "b")]);
    group.append(2, &[Op::put("x", "c")]);
    group.append(0, &[Op::remove_writer(c)]);
    group.append(2, &[Op::put("y", "c")]);
    group.receive_all(1, 0);
    group.append(1, &[Op::put("y", "b")]);
    group
}

/// ```text
/// a: add b 2, c 1 in one batch --+------------------------------- add c 2
/// b:                             +-- put (claims 2) ---- remove c /
/// c:                             +-- put (claims 1) --/-- put
/// ```
fn claims_and_a_writer_that_comes_back(rules: Rules) -> PeerGroup {
    let mut group = PeerGroup::under(rules, 3);
    let [b, c] = [1, 2].map(|peer| group.key(peer));
    group.append(0, &[Op::add_writer(b, 2), Op::add_writer(c, 1)]);
    group.receive_all(1, 0);
    group.receive_all(2, 0);
    group.append(2, &[Op::put("x", "c")]);
    group.append(1, &[Op::put("x", "b")]);
    group.receive_all(1, 2);
    group.append(1, &[Op::remove_writer(c)]);
    group.append(2, &[Op::put("y", "c")]);
    group.receive_all(0, 2);
    group.receive_all(0, 1);
    group.append(0, &[Op::add_writer(c, 2)]);
    group
}

/// ```text
/// a: add b --+--------------------- put
/// c:         +-- put, optimistic --\--------- put
/// b:         +----------------------+-- ack --/      the acknowledgement is written by itself
/// ```
fn a_stranger_who_is_let_in(rules: Rules) -> PeerGroup {
    let mut group = PeerGroup::under(rules, 3);
    let [b, c] = [1, 2].map(|peer| group.key(peer));
    group.append(0, &[Op::add_writer(b, 2)]);
    group.receive_all(2, 0);
    group.receive_all(1, 0);
    let op = Op {
        put: Some(("x".into(), "c".into())),
        ..Op::ack(c)
    };
    group.append_optimistic(2, &[op]);
    group.receive_all(1, 2);
    assert_eq!(group.log(1).len(), 1, "nobody acknowledged it");
    group.append(0, &[Op::put("x", "a")]);
    group.receive_all(2, 1);
    group.append(2, &[Op::put("y", "c")]);
    group.receive_all(1, 0);
    group.append(1, &[Op::remove_writer(c)]);
    group
}

/// ```text
/// a: add b --+--------------------- put ------- remove c
/// c:         +-- put, optimistic --\-------- put, optimistic
/// b:         +----------------------+-- ack ---/-- ack          written by themselves
/// ```
fn a_stranger_who_stays_one(rules: Rules) -> PeerGroup {
    let mut group = PeerGroup::under(rules, 3);
    let [b, c] = [1, 2].map(|peer| group.key(peer));
    group.append(0, &[Op::add_writer(b, 2)]);
    group.receive_all(2, 0);
    group.receive_all(1, 0);
    group.append_optimistic(2, &[Op::put("x", "c")]);
    group.receive_all(1, 2);
    assert_eq!(group.log(1).len(), 1, "nobody acknowledged it");
    group.append(0, &[Op::put("x", "a")]);
    group.receive_all(2, 1);
    group.append_optimistic(2, &[Op::put("y", "c")]);
    group.receive_all(1, 2);
    assert_eq!(group.log(1).len(), 2, "nobody acknowledged the second one");
    group.append(0, &[Op::remove_writer(c)]);
    group
}

/// ```text
/// a: add b 0, c 2 in one batch --+------------------- put
/// b:                             +-- put -- put               light
/// c:                             +-- add b 1 -- put, del      heavy, late: moves in front
/// ```
fn light_ones_that_heavy_ones_overtake(rules: Rules) -> PeerGroup {
    let mut group = PeerGroup::under(rules, 3);
    let [b, c] = [1, 2].map(|peer| group.key(peer));
    group.append(0, &[Op::add_writer(b, 0), Op::add_writer(c, 2)]);
    group.receive_all(1, 0);
    group.receive_all(2, 0);
    group.append(1, &[Op::put("x", "b1")]);
    group.append(1, &[Op::put("x", "b2")]);
    group.append(0, &[Op::put("x", "a")]);
    group.append(2, &[Op::add_writer(b, 1)]);
    group.append(2, &[Op::put("y", "c")]);
    group
}

/// Hands a history over in every order there is, in several ways. Gives the number of orders, and of those that are not
/// the same to a machine.
fn every_order(group: &PeerGroup) -> (usize, usize) {
    let blocks = group.blocks();
    assert!((6..=7).contains(&blocks.len()), "{} blocks", blocks.len());
    let mut answers = ModelAnswers::new(group.key(0), group.rules());
    let mut expected = |lengths: &BTreeMap<CoreKey, Length>| {
        answers.of(lengths, |core| {
            let log = blocks.iter().filter(|block| block.core == *core);
            log.map(|block| block.bytes.clone()).collect()
        })
    };
    let whole = Reading::default();
    let readings = [
        whole,
        // In portions, and with one batch in memory: what comes before that makes it go back.
        Reading {
            applies_max: 1,
            window_batches: 1,
            ..whole
        },
    ];
    let waiting = Reading {
        gathers: true,
        ..whole
    };
    let mut seen = BTreeSet::new();
    let orders = orders(blocks.len());
    for order in &orders {
        let steps = leading(&blocks, order);
        if !seen.insert(steps.clone()) {
            continue;
        }
        for reading in &readings {
            let mut reader = group.reader(reading);
            for (at, lengths) in order.iter().zip(&steps) {
                reader.hand_over(&blocks[*at]);
                let answer = expected(lengths);
                let (entries, state) = &*answer;
                let context = || format!("{reading:?}, {order:?} up to {at}");
                assert_eq!(reader.order(), *entries, "order: {}", context());
                assert_eq!(reader.published_order(), *entries, "as read: {}", context());
                assert_eq!(reader.state(), *state, "state: {}", context());
                assert_eq!(reader.stopped(), None, "{}", context());
            }
        }
        let mut reader = group.reader(&waiting);
        for at in order {
            reader.hand_over(&blocks[*at]);
        }
        reader.wait();
        let answer = expected(steps.last().unwrap());
        let (entries, state) = &*answer;
        assert_eq!(reader.order(), *entries, "gathered: {order:?}");
        assert_eq!(reader.state(), *state, "gathered: {order:?}");
    }
    (orders.len(), seen.len())
}

/// A history with its name.
type NamedHistory = (&'static str, fn(Rules) -> PeerGroup);

#[test]
fn every_delivery_order_of_small_histories_comes_to_what_the_model_says() {
    let histories: [NamedHistory; 3] = [
        ("a removal and what it meets", a_removal_and_what_it_meets),
        (
            "claims and a writer that comes back",
            claims_and_a_writer_that_comes_back,
        ),
        (
            "light ones that heavy ones overtake",
            light_ones_that_heavy_ones_overtake,
        ),
    ];
    let interop: NamedHistory = ("a stranger", a_stranger_who_is_let_in);
    let safe: NamedHistory = ("a stranger", a_stranger_who_stays_one);
    let all_of = |rules, stranger| {
        histories
            .into_iter()
            .chain([stranger])
            .map(move |one| (rules, one))
    };
    let jobs: Vec<(Rules, NamedHistory)> = all_of(Rules::interop(), interop)
        .chain(all_of(Rules::safe(), safe))
        .collect();
    let counts = in_parallel(jobs.len(), 2, |job| {
        let (rules, (_, history)) = jobs[job];
        ControlFlow::Continue(every_order(&history(rules)))
    });
    assert_eq!(counts.len(), jobs.len());
    let (mut all, mut distinct) = (0, 0);
    for (job, (orders, different)) in counts {
        let (rules, (name, _)) = jobs[job];
        let rules = rules.name();
        println!("{name} ({rules}): {orders} orders, {different} of them different to a machine");
        (all, distinct) = (all + orders, distinct + different);
    }
    println!("{all} delivery orders in all, {distinct} of them different to a machine");
    assert_eq!(WINDOW_BATCHES, Reading::default().window_batches);
    assert!(all >= 2 * (3 * 5_040 + 720), "{all}");
}

/// The order of what a writer holds is what the model says too, after it wrote between what it heard.
#[test]
fn writers_agree_with_readers() {
    let histories: [fn(Rules) -> PeerGroup; 4] = [
        a_removal_and_what_it_meets,
        claims_and_a_writer_that_comes_back,
        a_stranger_who_stays_one,
        light_ones_that_heavy_ones_overtake,
    ];
    let safe = histories.map(|history| history(Rules::safe()));
    let interop = [
        a_removal_and_what_it_meets(Rules::interop()),
        claims_and_a_writer_that_comes_back(Rules::interop()),
        a_stranger_who_is_let_in(Rules::interop()),
        light_ones_that_heavy_ones_overtake(Rules::interop()),
    ];
    for mut group in safe.into_iter().chain(interop) {
        for (peer, from) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
            group.receive_all(peer, from);
        }
        let mut reader = group.reader(&Reading::default());
        for block in group.blocks() {
            reader.hand_over(&block);
        }
        for peer in 0..3 {
            // An acknowledgement may have been written since.
            let known: usize = (0..3).map(|of| group.peer(peer).log(&group.key(of)).len()).sum();
            if known == group.blocks().len() {
                assert_eq!(group.peer(peer).order(), reader.order(), "{peer}");
                assert_eq!(group.peer(peer).state(), reader.state(), "{peer}");
            }
        }
    }
}

#[test]
fn a_log_that_cannot_be_read_is_shown_and_others_go_on() {
    let group = a_removal_and_what_it_meets(Rules::safe());
    let mut reader = group.reader(&Reading::default());
    let [a, b] = [0, 1].map(|peer| group.key(peer));
    for block in group.log(0) {
        reader.hand_over(&block);
    }
    let blocks = group.log(1);
    reader.hand_over(&blocks[0]);
    let before = reader.order();
    assert_eq!((before.len(), reader.machine().stalled(&b)), (4, None));
    reader.fail_log(&b);
    reader.hand_over(&blocks[1]);
    let stalled = reader.machine().stalled(&b);
    assert!(matches!(stalled, Some(Stalled::Unreadable { .. })), "{stalled:?}");
    assert_eq!((reader.order(), reader.machine().stalled(&a)), (before, None));
    for block in group.log(2) {
        reader.hand_over(&block);
    }
    assert_eq!((reader.order().len(), reader.stopped()), (6, None));
}

#[test]
fn a_batch_that_cannot_be_written_stops_the_peer_and_was_never_acknowledged() {
    let mut group = PeerGroup::new(2);
    let b = group.key(1);
    group.append(0, &[Op::add_writer(b, 2)]);
    let (log, state) = (group.log(0), group.peer(0).state());
    let writer = group.peer_mut(0);
    writer.fail_commit();
    let refused = writer.try_append(vec![Op::put("x", "1").to_value().into()], false);
    assert!(matches!(refused, Err(Error::Disk { .. })), "{refused:?}");
    assert!(writer.stopped().unwrap().contains("could not be written"));
    let refused = writer.try_append(vec![Op::put("x", "2").to_value().into()], false);
    assert!(matches!(refused, Err(Error::Interrupted { .. })), "{refused:?}");
    assert_eq!(group.log(0), log);
    // Who reads the log sees nothing of it.
    let mut reader = group.reader(&Reading::default());
    for block in &log {
        reader.hand_over(block);
    }
    assert_eq!(reader.state(), state);
}

/// In portions of one apply, and with one batch in memory, as well as with all of it.
const READINGS: [Reading; 2] = [
    Reading::usual(),
    Reading {
        applies_max: 1,
        window_batches: 1,
        ..Reading::usual()
    },
];

fn put(key: &str, value: &str) -> Vec<bytes::Bytes> {
    vec![Op::put(key, value).to_value().into()]
}

#[test]
fn an_append_is_refused_that_meets_a_contradiction_and_the_peer_goes_on_without_it() {
    for reading in READINGS {
        for is_found_by_the_commit in [true, false] {
            let mut group = PeerGroup::reading(Rules::interop(), 2, &reading);
            let [a, b] = [0, 1].map(|peer| group.key(peer));
            group.append(0, &[Op::add_writer(b, 2)]);
            for number in 0..4 {
                group.append(0, &[Op::put("x", number.to_string())]);
            }
            group.receive_all(1, 0);
            group.append(1, &[Op::put("y", "1")]);
            group.receive_all(0, 1);
            let log = group.log(0);
            let peer = group.peer_mut(0);
            let (order, state) = (peer.order(), peer.state());
            let refused = if is_found_by_the_commit {
                peer.contradict_commit();
                peer.try_append(put("x", "lost"), false)
            } else {
                peer.append_while(put("x", "lost"), false, Peer::contradict)
            };
            assert!(
                matches!(refused, Err(Error::Contradicted { local, .. }) if local == a),
                "{refused:?}"
            );
            assert_eq!((peer.stopped(), peer.order(), peer.state()), (None, order, state));
            let is_told = |event: &&Event| matches!(event, Event::Contradicted { .. });
            assert_eq!(peer.events().iter().filter(is_told).count(), 1);
            let refused = peer.try_append(put("x", "2"), false);
            assert!(matches!(refused, Err(Error::Contradicted { .. })), "{refused:?}");
            assert_eq!(group.log(0), log);
            group.append(1, &[Op::put("z", "1")]);
            group.receive_all(0, 1);
            let mut reader = group.reader(&Reading::default());
            for block in log.iter().chain(&group.log(1)) {
                reader.hand_over(block);
            }
            let peer = group.peer_mut(0);
            assert_eq!(
                (peer.stopped(), peer.order()),
                (None, reader.order()),
                "{reading:?}"
            );
            assert_eq!(
                (peer.state(), peer.published_order()),
                (reader.state(), reader.order())
            );
        }
    }
}

/// Another device with the same key pair wrote the entry that is being written here, and it comes first.
#[test]
fn an_append_is_refused_whose_place_an_own_entry_takes_that_comes_meanwhile() {
    for reading in READINGS {
        let mut group = PeerGroup::reading(Rules::interop(), 2, &reading);
        let b = group.key(1);
        group.append(0, &[Op::add_writer(b, 2)]);
        group.receive_all(1, 0);
        group.append(1, &[Op::put("x", "1")]);
        let mut other = group.second_device(1);
        for block in group.log(0).iter().chain(&group.log(1)) {
            other.hand_over(block);
        }
        other.append(put("y", "there"), false);
        let bytes = other.log(&b).pop().unwrap();
        let block = HistoryBlock {
            core: b,
            index: 1,
            bytes,
        };
        let peer = group.peer_mut(1);
        let refused = peer.append_while(put("z", "here"), false, |peer| peer.hand_over(&block));
        assert!(matches!(refused, Err(Error::Unconfirmed { .. })), "{refused:?}");
        assert_eq!(
            (peer.stopped(), peer.order(), peer.state()),
            (None, other.order(), other.state())
        );
        let length = peer.try_append(put("z", "here"), false);
        assert!(matches!(length, Ok(Length(3))), "{length:?}");
        let mut reader = group.reader(&Reading::default());
        for block in group.blocks() {
            reader.hand_over(&block);
        }
        let peer = group.peer(1);
        assert_eq!(
            (peer.order(), peer.state()),
            (reader.order(), reader.state()),
            "{reading:?}"
        );
    }
}
