//! Batches, alone and among single values.

use autobee_sim::workload::Op;

use crate::world::{get, have, is_removed, last_block, run, story};

/// 21.18
#[test]
fn the_last_value_of_a_batch_wins() {
    run(async |world| {
        let db = world.create(1).await;
        let values = ["1", "2", "3"].map(|value| Op::put("k", value).to_value().into());
        db.append_batch(values.into()).await.unwrap();
        assert_eq!(get(&db, "k").await.unwrap(), "3");
        assert_eq!(get(&db, "n").await.unwrap(), "3");
    });
}

/// 21.19
#[test]
fn a_batch_reaches_a_second_writer() {
    story("a+3 a-b");
}

/// 21.20
#[test]
fn two_writers_append_batches_concurrently() {
    story("a+2 b+2");
}

/// 21.21
#[test]
fn one_writer_mixes_singles_and_batches() {
    story("a a+3 a a+2 a a-b");
}

/// 21.22
#[test]
fn a_batch_before_concurrent_singles() {
    story("a+3 a-b a b");
}

/// 21.23: each exchange compares.
#[test]
fn three_rounds_of_concurrent_batches() {
    story("a+2 b+2 a-b a+2 b+2 a-b a+2 b+2 a-b");
}

/// 21.24
#[test]
fn three_writers_append_batches() {
    story("a+2 b+2 c+2");
}

/// 21.25
#[test]
fn two_concurrent_batches_of_ten() {
    story("a+10 b+10");
}

/// 21.26
#[test]
fn batch_single_batch_against_one_batch() {
    story("a+2 a a+2 b+3");
}

/// 21.27
#[test]
fn three_sizes_and_staggered_exchanges() {
    story("a b+3 c+2 a-b a+2 b-c c b a-c");
}

/// 21.28
#[test]
fn a_writer_is_added_between_batches() {
    run(async |world| {
        let all = world.peers(3).await;
        world.play(&all, "a>b2 a-b a+2 b+2 a>c2 b+2 a+2 a-b-c").await;
        assert!(all[2].writable());
        world.play(&all, "c+2 a *").await;
        assert_eq!(all[0].order().unwrap().len(), 2 + 4 * 2 + 2 + 1);
    });
}

/// 21.29
#[test]
fn four_writers_in_a_ring() {
    story("a+2 b+3 c d+2 a-b b-c c-d d-a");
}

/// 21.30
#[test]
fn five_rounds_and_one_exchange() {
    story("a+2 b+2 a+2 b+2 a+2 b+2 a+2 b+2 a+2 b+2");
}

/// 21.31
#[test]
fn batches_that_link_each_other() {
    story("a+2 a-b b+2 b-c c+2 c-a a+2");
}

/// 21.32
#[test]
fn five_singles_against_a_batch_of_five() {
    story("a5 b+5");
}

/// 21.33
#[test]
fn three_batches_each_between_exchanges() {
    story("a+2 a+3 a+2 b+2 b+3 b+2 a-b a+2 a+3 a+2 b+2 b+3 b+2");
}

/// 21.34
#[test]
fn singles_and_batches_on_both_sides() {
    story("a b+2 a+2 b a b+3 a+3 b");
}

/// 21.35
#[test]
fn three_writers_several_batches_staggered() {
    story("a+2 a+2 b+3 c+2 a-b b+2 c+2 b-c a+2 c+3 a-c");
}

/// 21.36
#[test]
fn a_batch_of_one_is_a_single_value() {
    run(async |world| {
        let all = world.members(2).await;
        world.play(&all, "a+1 b+1 a-b").await;
        for block in all.iter().map(last_block) {
            assert_eq!((block.batch.before, block.batch.after), (0, 0));
        }
        assert_eq!(all[1].order().unwrap().len(), 3);
    });
}

/// 21.37
#[test]
fn a_writer_is_removed_while_it_appends_batches() {
    run(async |world| {
        let all = world.members(2).await;
        world.play(&all, "b+2 a-b a!b b+2 b+3").await;
        world.play(&all, "a-b").await;
        assert!(is_removed(&all[0], &all[1]) && is_removed(&all[1], &all[1]));
        assert!(!all[1].writable());
        assert_eq!(
            have(&all[0], &all[1].local()),
            7,
            "its log is followed all the same"
        );
    });
}

/// 21.38
#[test]
fn four_writers_with_large_batches() {
    story("a+8 b+12 c+6 d+10");
}

/// 21.39
#[test]
fn one_batch_of_twenty() {
    story("a+20 a-b");
}
