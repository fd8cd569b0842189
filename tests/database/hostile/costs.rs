//! What strangers cost the engine, in calls of apply and in moves over entries.

use std::collections::BTreeSet;

use autobee::crypto::CoreKey;
use autobee::hypercore::manifest::Manifest;
use autobee::wire::oplog::OplogBlock;
use autobee::wire::{Encode as _, Index, Length, Link, Timestamp};
use autobee_sim::workload::Op;
use bytes::Bytes;

use super::strangers::{Local, pair};

/// What is refused costs one try where it comes in, and nothing behind that.
#[test]
fn tries_of_refused_claims_grow_with_what_is_taken() {
    let mut costs = Vec::new();
    for count in [100, 200, 400] {
        let mut local = Local::new();
        local.append(&Op::put("a", "1"));
        let (backer, claims) = (local.backer(), local.claims(7, count));
        local.feed(&backer);
        local.feed(&claims);
        let before = local.engine.tried();
        local.drain();
        costs.push(local.engine.tried() - before);
        let gone = local.engine.let_go(&mut BTreeSet::new());
        assert_eq!(gone.len(), 2, "both logs leave");
        assert_eq!((local.engine.held().ready, local.engine.held().blocks), (1, 1));
        assert_eq!(local.engine.fed_from(&claims.0), Length(0));
        let applies = local.engine.stats().applies;
        for number in 0..10 {
            local.append(&Op::put("b", number.to_string()));
        }
        assert_eq!(local.engine.stats().applies, applies + 10);

        // It comes back where it was, and only new places of the order are looked at.
        local.feed(&backer);
        local.feed(&claims);
        let before = local.engine.stats();
        local.drain();
        let again = local.engine.stats().applies - before.applies;
        // Behind the entry that was there, and behind each of the ten.
        assert!(again <= 11 * (count + 1), "{again}");
        assert_eq!(local.engine.batches(), 11);
    }
    assert!(
        costs[1] < costs[0] * 5 / 2 && costs[2] < costs[1] * 5 / 2,
        "{costs:?}"
    );
}

/// Batches of strangers that link each other go together; what a member links stays, whatever apply says.
#[test]
fn what_a_member_needs_stays_in_the_set() {
    let mut local = Local::new();
    local.append(&Op::put("a", "1"));
    let kept = local.claims(7, 4);
    let backer = local.backer();
    let other = local.claims(8, 3);
    for log in [&kept, &backer, &other] {
        local.feed(log);
    }
    let member = pair(3);
    let member_key = Manifest::single(member.public).key();
    local.append(&Op::add_writer(member_key, 2));
    let block = OplogBlock {
        timestamp: Timestamp(2_000_000),
        links: vec![Link {
            key: kept.0,
            length: Length(2),
        }],
        value: Some(Op::put("m", "1").to_value().into()),
        ..OplogBlock::default()
    };
    // One that waits for what is not here needs it as much.
    let waiting = OplogBlock {
        links: vec![
            Link {
                key: other.0,
                length: Length(1),
            },
            Link {
                key: CoreKey::new([99; 32]),
                length: Length(1),
            },
        ],
        ..block.clone()
    };
    let blocks = [block, waiting].map(|block| Bytes::from(block.to_bytes().unwrap()));
    local.engine.ingest(member_key, Index(0), &blocks);
    local.drain();
    let gone = local.engine.let_go(&mut BTreeSet::new());
    let gone: Vec<_> = gone.iter().map(|gone| (gone.core, gone.kept)).collect();
    let mut expected = vec![(kept.0, Length(2)), (other.0, Length(1))];
    expected.sort();
    assert_eq!(gone, expected, "the backer is needed by both");
    assert_eq!(local.engine.needed(&kept.0), Length(2));
    assert_eq!(local.engine.batches(), 3);
    let again = local.engine.let_go(&mut BTreeSet::new());
    assert!(again.is_empty());
    for number in 0..5 {
        local.append(&Op::put("b", number.to_string()));
        assert!(local.engine.let_go(&mut BTreeSet::new()).is_empty());
    }
    assert_eq!(local.engine.batches(), 8);
}

/// What a member claims beyond its ceiling is in everybody's set for good. It costs a way over the entries for each of them,
/// and between two portions of that others have their turn.
#[test]
fn claims_of_members_beyond_their_ceilings_cost_their_square() {
    for count in [50, 100, 200] {
        for is_linked in [false, true] {
            let mut local = Local::new();
            local.append(&Op::put("a", "1"));
            let logs = if is_linked {
                local.linked_claims([7, 9], count / 2).to_vec()
            } else {
                vec![local.member_claims(7, count)]
            };
            let late = local.late(8);
            local.now += 10_000_000;
            local.feed(&local.backer());
            // In turns, as they come from two peers.
            for length in 1..=logs[0].1.len() {
                for (key, blocks) in &logs {
                    local.feed(&(*key, blocks[..length].to_vec()));
                }
            }
            for log in [None, Some(late)] {
                log.iter().for_each(|log| local.feed(log));
                let before = local.engine.stats();
                let mut portions = 1;
                while local.engine.drain(Timestamp(local.now), 256).unwrap().more {
                    portions += 1;
                }
                let after = local.engine.stats();
                let (steps, applies) = (after.steps - before.steps, after.applies - before.applies);
                assert!(
                    steps < 4 * count * count && applies <= 4 * count,
                    "{steps} steps and {applies} calls of apply for {count} claims, linked: {is_linked}"
                );
                // A portion has 4096 steps, and the way that it is on.
                assert!(portions > steps / (4096 + 2 * count), "{portions} portions");
            }
            let order = local.engine.order().len() as u64;
            assert_eq!(order, count + 4 + u64::from(is_linked));
        }
    }
}
