//! What is read, and when: snapshots, conflicts, undos, restarts.

use crate::world::{get, head, listing, put, run, story};

/// 21.81, 21.82
#[test]
fn what_was_written_is_read() {
    run(async |world| {
        let db = world.create(1).await;
        for value in ["1", "2", "3"] {
            put(&db, "k", value).await;
            assert_eq!(get(&db, "k").await.unwrap(), value);
        }
    });
}

/// 21.83
#[test]
fn two_peers_read_the_same() {
    run(async |world| {
        let all = world.members(2).await;
        put(&all[0], "k", "1").await;
        world.play(&all, "*").await;
        assert_eq!(get(&all[1], "k").await.unwrap(), "1");
    });
}

/// 21.84, 21.90
#[test]
fn a_snapshot_stays_and_a_new_one_is_newer() {
    run(async |world| {
        let db = world.create(1).await;
        put(&db, "k", "1").await;
        let (before, entries) = (db.view(), listing(&db).await);
        put(&db, "k", "2").await;
        assert_ne!(db.view().head(), before.head());
        assert_eq!(before.all().await.unwrap(), entries);
        assert_ne!(listing(&db).await, entries);
    });
}

/// 21.85
#[test]
fn concurrent_writes_lead_to_one_view() {
    story("a2 b2");
}

/// 21.86
#[test]
fn five_rounds() {
    story("a b a-b a b a-b a b a-b a b a-b a b a-b");
}

/// 21.87
///
/// ```text
/// c: write | a, b: write, meet, write, meet | all meet: what c wrote first belongs before
/// ```
#[test]
fn a_late_writer_makes_the_others_undo() {
    run(async |world| {
        let all = world.members(3).await;
        world.play(&all, "c a b a-b a b a-b *").await;
        let undos = all.iter().map(|db| db.stats().undos).sum::<u64>();
        assert!(undos > 0, "nothing is tested here");
        for db in &all {
            assert_eq!(listing(db).await.len(), listing(&all[0]).await.len());
            assert_eq!(get(db, "n").await.unwrap(), "7");
        }
    });
}

/// 21.88
#[test]
fn one_of_two_conflicting_writes_wins_everywhere() {
    run(async |world| {
        let all = world.members(2).await;
        put(&all[0], "k", "a").await;
        put(&all[1], "k", "b").await;
        world.play(&all, "*").await;
        let last = all[0].order().unwrap().last().unwrap().key;
        let winner = if last == all[0].local() { "a" } else { "b" };
        for db in &all {
            assert_eq!(get(db, "k").await.unwrap(), winner);
        }
    });
}

/// 21.89
#[test]
fn undone_again_and_again() {
    story("c a b a-b a b * b c b-c b a2 * a c2 a-c a b3 *");
}

/// 21.91
#[test]
fn ten_each_and_one_exchange() {
    story("a b a b a b a b a b a b a b a b a b a b");
}

/// 21.92
#[test]
fn a_restart_after_an_undo() {
    run(async |world| {
        let all = world.members(2).await;
        world.play(&all, "a2 b2 a-b a3 b3 a-b").await;
        let undos = all.iter().map(|db| db.stats().undos).sum::<u64>();
        assert!(undos > 0, "nothing is tested here");
        let mut again = Vec::new();
        for (seed, db) in [(1, &all[0]), (2, &all[1])] {
            let before = (listing(db).await, db.order().unwrap());
            db.close().await.unwrap();
            let db = world.create(seed).await;
            assert_eq!((listing(&db).await, db.order().unwrap()), before);
            again.push(db);
        }
        world.play(&again, "* a b *").await;
        assert_eq!(again[0].order().unwrap().len(), 13);
    });
}

/// 21.93
#[test]
fn four_peers_staggered() {
    story("a b c d a-b c-d a c b-c b d a-d c");
}

/// 21.94
#[test]
fn three_overwrite_one_key() {
    run(async |world| {
        let all = world.members(3).await;
        for (round, meet) in ["a-b", "b-c", "a-c"].into_iter().enumerate() {
            for (at, db) in all.iter().enumerate() {
                put(db, "k", &format!("{round} {at}")).await;
            }
            world.play(&all, meet).await;
        }
        world.play(&all, "*").await;
        assert!(get(&all[0], "k").await.unwrap().starts_with('2'));
    });
}

/// 21.95
#[test]
fn three_read_the_same_after_partial_exchanges() {
    story("a2 a-b b2 b-c c2 a b-c a-c");
}

/// 21.96
#[test]
fn three_write_at_a_time() {
    run(async |world| {
        let all = world.members(3).await;
        world.play(&all, "a b c").await;
        let heads = all.iter().map(head).collect::<Vec<_>>();
        world.play(&all, "*").await;
        let order = all[0].order().unwrap();
        for head in heads {
            assert!(
                order
                    .iter()
                    .any(|entry| (entry.key, entry.length) == (head.key, head.length))
            );
        }
    });
}
