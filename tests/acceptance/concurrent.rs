//! Forks and merges.

use crate::world::{length, run};

/// 21.46
///
/// ```text
/// a: add b, add c, write, merge    b: write    c: write
/// ```
#[test]
fn three_fork_and_one_merges() {
    run(async |world| {
        let all = world.members(3).await;
        world.play(&all, "a b c * a *").await;
        assert!(all.iter().all(|db| db.writable()));
        assert_eq!(all.iter().map(length).collect::<Vec<_>>(), [4, 1, 1]);
    });
}

/// 21.47
///
/// ```text
/// a: write, add b, then three times: write | exchange
/// b:                                 write | exchange
/// ```
#[test]
fn three_rounds_of_fork_and_merge() {
    run(async |world| {
        let all = world.peers(2).await;
        world.play(&all, "a a>b2 *").await;
        for round in 1..=3 {
            world.play(&all, "a b *").await;
            assert_eq!(all.iter().map(length).collect::<Vec<_>>(), [2 + round, round]);
        }
    });
}
