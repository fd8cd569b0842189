//! Who may write: adding, removing, and what becomes of logs.

use autobee::db::{Event, Pending};
use autobee::hypercore::{CoreOptions, Wait};
use autobee::wire::Index;
use autobee_sim::workload::Op;

use crate::world::{Raw, add, connect, get, have, is_removed, length, put, remove, run};

/// 21.106
#[test]
fn an_added_writer_may_write() {
    run(async |world| {
        let all = world.peers(2).await;
        world.play(&all, "a>b2 *").await;
        assert!(all[1].writable());
        assert_eq!(all[0].writer(&all[1].local()).unwrap().key, all[1].local());
        world.play(&all, "b *").await;
    });
}

/// 21.107
#[test]
fn adding_twice_does_no_harm() {
    run(async |world| {
        let all = world.peers(2).await;
        world.play(&all, "a>b2 a>b2 * b a>b2 *").await;
        assert!(all[1].writable() && !is_removed(&all[0], &all[1]));
    });
}

/// 21.108
#[test]
fn a_removed_writer_may_not_write() {
    run(async |world| {
        let all = world.members(2).await;
        world.play(&all, "a!b *").await;
        assert!(!all[1].writable() && is_removed(&all[1], &all[1]));
        assert!(all[1].append("x").await.is_err());
    });
}

/// 21.109
#[test]
fn removing_an_unknown_writer_does_nothing() {
    run(async |world| {
        let all = world.peers(2).await;
        world.play(&all, "a!b *").await;
        assert!(!all[1].writable());
        let record = all[0].writer(&all[1].local());
        assert!(record.is_none_or(|record| record.is_removed));
    });
}

/// 21.110
#[test]
fn a_removed_writer_is_added_again() {
    run(async |world| {
        let all = world.members(2).await;
        world.play(&all, "b * a!b * a>b2 * b *").await;
        assert!(all[1].writable() && !is_removed(&all[0], &all[1]));
    });
}

/// 21.111
#[test]
fn one_batch_adds_two() {
    run(async |world| {
        let all = world.peers(3).await;
        let adds = [&all[1], &all[2]].map(|db| Op::add_writer(db.local(), 2).to_value().into());
        all[0].append_batch(adds.into()).await.unwrap();
        world.play(&all, "*").await;
        assert!(all[1].writable() && all[2].writable());
    });
}

/// 21.112
#[test]
fn permissions_survive_a_restart() {
    run(async |world| {
        let all = world.members(3).await;
        world.play(&all, "b a!c *").await;
        for (seed, db, writable) in [(1, &all[0], true), (2, &all[1], true), (3, &all[2], false)] {
            let (records, key) = (db.writers(), db.local());
            db.close().await.unwrap();
            let db = world.create(seed).await;
            assert_eq!(
                (db.local(), db.writers(), db.writable()),
                (key, records, writable)
            );
        }
    });
}

/// 21.113
#[test]
fn a_writer_removes_itself() {
    run(async |world| {
        let all = world.members(2).await;
        world.play(&all, "b!b").await;
        assert!(!all[1].writable());
        world.play(&all, "*").await;
        assert!(is_removed(&all[0], &all[1]) && all[0].writable());
    });
}

/// 21.115
#[test]
fn only_who_was_told_may_write() {
    run(async |world| {
        let all = world.peers(3).await;
        world.play(&all, "a>b2 a>c2 a-b").await;
        assert!(all[1].writable() && !all[2].writable());
        world.play(&all, "b-c").await;
        assert!(all[2].writable());
    });
}

/// 21.117
#[test]
fn five_times_added_and_removed() {
    run(async |world| {
        let all = world.peers(2).await;
        for _ in 0..5 {
            world.play(&all, "a>b2 *").await;
            assert!(all[1].writable() && !is_removed(&all[0], &all[1]));
            world.play(&all, "a!b *").await;
            assert!(!all[1].writable() && is_removed(&all[0], &all[1]));
        }
    });
}

/// 21.118
#[test]
fn a_record_grows_with_the_log() {
    run(async |world| {
        let db = world.create(1).await;
        for number in 1..=5 {
            put(&db, "x", "1").await;
            assert_eq!(db.writer(&db.local()).unwrap().length.0, number);
        }
    });
}

/// 21.119
#[test]
fn a_writer_is_added_as_an_indexer() {
    run(async |world| {
        let all = world.peers(2).await;
        let op = Op {
            weight: None,
            ..Op::add_writer(all[1].local(), 0)
        };
        all[0].append(op.to_value()).await.unwrap();
        world.play(&all, "*").await;
        assert_eq!(all[1].writer(&all[1].local()).unwrap().max_weight.0, 2);
        assert!(all[1].is_indexer());
    });
}

/// 21.120
///
/// ```text
/// a: remove b       b: write, write       c: write       then all meet
/// ```
#[test]
fn a_removal_meets_concurrent_writes() {
    run(async |world| {
        let all = world.members(3).await;
        world.play(&all, "b c * a!b b2 c").await;
        assert!(all[1].writable(), "it does not know yet");
        world.play(&all, "*").await;
        assert!(!all[1].writable());
        assert!(all.iter().all(|db| is_removed(db, &all[1])));
        assert!(all[2].writable() && !is_removed(&all[0], &all[2]));
        world.play(&all, "c *").await;
    });
}

/// 21.121
#[test]
fn a_third_one_adds_a_removed_writer_again() {
    run(async |world| {
        let all = world.members(3).await;
        world.play(&all, "b * a!b * c>b2 *").await;
        assert!(all[1].writable());
        put(&all[1], "back", "1").await;
        world.play(&all, "*").await;
        assert_eq!(get(&all[0], "back").await.unwrap(), "1");
    });
}

/// 21.122
#[test]
fn the_record_of_the_creator() {
    run(async |world| {
        let db = world.create(1).await;
        put(&db, "x", "1").await;
        let record = db.writer(&db.local()).unwrap();
        assert!(!record.is_removed && !record.is_anchor);
        assert_eq!(
            (record.key, record.length.0, record.max_weight.0),
            (db.key(), 1, 2)
        );
    });
}

/// 21.126
#[test]
fn both_sides_are_told_of_writers() {
    run(async |world| {
        let all = world.peers(2).await;
        let mut events = [all[0].events(), all[1].events()];
        world.play(&all, "a a>b2 *").await;
        for events in &mut events {
            let mut told = Vec::new();
            while told.len() < 2 {
                if let Event::Writer(key) = events.next().await.unwrap() {
                    told.push(key);
                }
            }
            assert_eq!(told, [all[0].local(), all[1].local()]);
        }
    });
}

/// 21.127, 21.131: sessions of writers that are caught up are not closed here; what the list is about holds all the same.
#[test]
fn a_caught_up_writer_stays_readable_and_is_followed_again() {
    run(async |world| {
        let all = world.peers(2).await;
        world.play(&all, "a>b1 * b3 *").await;
        world.wait(60).await;
        let local = all[1].local();
        assert_eq!(all[0].blocks(&local).len(), 3);
        connect(&all[0], &all[1]);
        put(&all[1], "again", "1").await;
        world.until(|| have(&all[0], &local) == 4).await;
        world.until(|| all[0].order().unwrap().len() == 5).await;
    });
}

/// 21.128
#[test]
fn the_log_of_an_indexer_stays_open() {
    run(async |world| {
        let all = world.members(2).await;
        world.play(&all, "b *").await;
        world.wait(60).await;
        assert!(all[0].cores().contains(&all[1].local()));
    });
}

/// 21.129: the log of a removed writer is not closed here: whether its blocks take part must not depend on who has them.
#[test]
fn the_log_of_a_removed_writer_is_followed() {
    run(async |world| {
        let all = world.members(2).await;
        connect(&all[0], &all[1]);
        remove(&all[0], all[1].local()).await;
        world.until(|| !all[1].writable()).await;
        world.wait(5).await;
        assert!(all[0].cores().contains(&all[1].local()));
    });
}

/// 21.130
#[test]
fn a_writer_of_whom_more_is_known_to_exist_is_pending() {
    run(async |world| {
        let all = world.members(2).await;
        world.play(&all, "b3").await;
        let raw = Raw::open(&world, 9).await;
        let log = raw.store.get(CoreOptions::key(all[1].local())).await.unwrap();
        let session = raw.connect(&all[1]).1;
        log.get(Index(0), Wait::Forever).await.unwrap();
        session.close();
        session.ended().await;
        let session = raw.connect(&all[0]).1;
        world.until(|| have(&all[0], &all[1].local()) == 1).await;
        session.close();
        world.wait(60).await;
        let status = all[0].status();
        let is_b = |writer: &&autobee::db::WriterProgress| writer.key == all[1].local();
        let writer = status.writers.iter().find(is_b).unwrap();
        assert_eq!(
            (writer.length.0, writer.pending.clone()),
            (3, Some(Pending::Blocks))
        );
        world.play(&all, "*").await;
        assert_eq!(have(&all[0], &all[1].local()), 3);
    });
}

/// 21.132
#[test]
fn a_late_joiner_gets_the_log_of_a_writer_that_is_gone() {
    run(async |world| {
        let all = world.peers(2).await;
        world.play(&all, "a>b1 * b3 *").await;
        all[1].close().await.unwrap();
        let late = world.join(9, &all[0]).await;
        world.exchange(&[&all[0], &late]).await;
        assert_eq!(have(&late, &all[1].local()), 3);
        assert_eq!((late.order().unwrap().len(), length(&late)), (4, 0));
        add(&all[0], &late, 1).await;
    });
}
