//! Checks in which nothing would be tested fail, and operations that no apply is handed are counted.

use autobee_sim::{Check, Faults, check};
use proptest::prelude::*;

use super::{Letters, failure, has_all, last_wins, output};

fn last(ops: impl Strategy<Value = Vec<u8>> + 'static) -> Check {
    check(|| Letters(last_wins)).ops(ops)
}

#[test]
fn no_seed_is_a_failure() {
    #[expect(clippy::reversed_empty_ranges, reason = "the mistake")]
    for seeds in [0..0, 5..3] {
        let text = failure(last(Just(vec![1])).seeds(seeds));
        has_all(&text, &["are none: nothing would be tested"]);
    }
}

#[test]
fn no_entry_is_a_failure() {
    let text = failure(last(Just(Vec::new())).seeds(0..3));
    has_all(
        &text,
        &[
            "apply was handed no entry in 3 seeds: nothing was tested",
            "ops were empty",
        ],
    );
}

/// Run by the test below, in a process of its own.
#[test]
fn some_are_empty() {
    let ops = prop_oneof![Just(Vec::new()), Just(vec![1]), Just(vec![2, 3])];
    last(ops).seeds(0..3).name("some").run();
}

#[test]
fn empty_operations_are_counted() {
    let text = output("nothing::some_are_empty", &[]);
    has_all(&text, &["some: 3 seeds in", " ops were empty"]);
}

#[test]
fn large_operations_get_through() {
    let large = || any::<u8>().prop_map(|byte| vec![byte; 1 << 20]);
    last(large()).seeds(0..1).run();
    last(large()).faults(Faults::none()).seeds(1..2).run();
}

#[test]
fn an_operation_that_is_too_large_is_refused() {
    let text = failure(last(Just(vec![0; (1 << 20) + 1])));
    has_all(&text, &["has 1048577 bytes", "up to 1048576"]);
}
