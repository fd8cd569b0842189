//! Weights, and the attestations that prove them. A claim above every grant (21.105) needs faulty writers:
//! tests/database/attestations/database.rs has it.

use crate::world::{last_block, run, weights};

/// 21.103
#[test]
fn the_first_block_of_a_granted_writer_carries_a_witness() {
    run(async |world| {
        let all = world.peers(3).await;
        world.play(&all, "a>b2 * b").await;
        let witness = last_block(&all[1]).witness.unwrap();
        assert_eq!((witness.weight.0, witness.backer.key), (2, all[0].local()));
        world.play(&all, "*").await;
        for db in &all {
            assert_eq!(weights(db, &all[1]), [2]);
        }
    });
}

/// 21.104
///
/// ```text
/// a: add c, add b -- c: write, which vouches for b; remove a -- b: write
/// ```
#[test]
fn a_bystander_vouches_when_the_granter_is_gone() {
    run(async |world| {
        let all = world.peers(3).await;
        world.play(&all, "a>c2 a>b2 * c c!a * b").await;
        let witness = last_block(&all[1]).witness.unwrap();
        assert_eq!(witness.backer.key, all[2].local());
        world.play(&all, "*").await;
        for db in &all {
            assert_eq!(weights(db, &all[1]), [2]);
        }
    });
}
