//! Values that were written after others were seen.

use crate::world::{carry, head, is_removed, last_block, listing, run, story};

/// 21.63
#[test]
fn a_write_after_that_of_another() {
    story("a a-b b");
}

/// 21.64
#[test]
fn what_is_linked_comes_first() {
    story("a a-b b a-c b-c");
}

/// 21.65
#[test]
fn what_is_linked_comes_last() {
    run(async |world| {
        let all = world.members(3).await;
        world.play(&all, "a a-b b").await;
        let before = listing(&all[2]).await;
        carry(&world, 10, &all[1], &all[2]).await;
        assert_eq!(listing(&all[2]).await, before, "it waits");
        assert_eq!(all[2].status().missing, [head(&all[0])]);
        carry(&world, 11, &all[0], &all[2]).await;
        assert_eq!(all[2].order().unwrap().len(), 4);
        world.play(&all, "*").await;
    });
}

/// 21.66
#[test]
fn a_chain_of_three_writers() {
    story("a a-b b b-c c");
}

/// 21.67
#[test]
fn one_entry_links_two_heads() {
    run(async |world| {
        let all = world.members(3).await;
        world.play(&all, "a b a-b-c c").await;
        let mut heads = [head(&all[0]), head(&all[1])];
        let mut links = last_block(&all[2]).links;
        heads.sort();
        links.sort();
        assert_eq!(links, heads);
        world.play(&all, "*").await;
    });
}

/// 21.68
#[test]
fn first_writes_of_each() {
    story("a b c");
}

/// 21.69
#[test]
fn a_chain_of_four_arrives_in_reverse() {
    run(async |world| {
        let all = world.members(4).await;
        let reader = world.join(9, &all[0]).await;
        world.exchange(&[&all[0], &reader]).await;
        world.play(&all, "a a-b b b-c c c-d d").await;
        for (seed, db) in [(10, 3), (11, 2), (12, 1)] {
            carry(&world, seed, &all[db], &reader).await;
            assert_eq!(reader.order().unwrap().len(), 3);
        }
        carry(&world, 13, &all[0], &reader).await;
        assert_eq!(reader.order().unwrap(), all[3].order().unwrap());
    });
}

/// 21.70
#[test]
fn a_diamond() {
    story("a * b c b-d c-d d");
}

/// 21.71
#[test]
fn two_that_wait_for_the_same_go_on_together() {
    run(async |world| {
        let all = world.members(3).await;
        let reader = world.join(9, &all[0]).await;
        world.exchange(&[&all[0], &reader]).await;
        world.play(&all, "a * b c").await;
        carry(&world, 10, &all[1], &reader).await;
        carry(&world, 11, &all[2], &reader).await;
        assert_eq!(
            (reader.order().unwrap().len(), reader.status().missing.len()),
            (2, 1)
        );
        carry(&world, 12, &all[0], &reader).await;
        assert_eq!(
            (reader.order().unwrap().len(), reader.status().missing.len()),
            (5, 0)
        );
    });
}

/// 21.72
#[test]
fn a_writer_is_removed_whose_entry_is_linked() {
    run(async |world| {
        let all = world.members(3).await;
        world.play(&all, "b b-c a!b c *").await;
        assert!(all.iter().all(|db| is_removed(db, &all[1])));
        assert!(all[2].writable());
        world.play(&all, "c *").await;
    });
}

/// 21.73
#[test]
fn five_writes_in_turn() {
    story("a a-b b a-b a a-b b a-b a");
}
