//! Boards converge, and no card is in two lists: at any replica, at any time, through all that befalls them.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and shows what it saw"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use autobee::Apply;
use autobee_board::{Board, Hasty, Indexed, List, Op};
use autobee_sim::{Check, Faults, View, check};
use proptest::prelude::*;

fn list() -> impl Strategy<Value = List> {
    (0..List::ALL.len()).prop_map(|number| List::ALL[number])
}

fn op() -> impl Strategy<Value = Op> {
    let card = || 0..5_u8;
    prop_oneof![
        (card(), list()).prop_map(|(card, list)| Op::Add { card, list }),
        (card(), list()).prop_map(|(card, to)| Op::Move { card, to }),
        card().prop_map(|card| Op::Remove { card }),
    ]
}

async fn no_card_twice(view: &View) -> Result<(), String> {
    for card in 0..5 {
        let mut lists = Vec::new();
        for list in List::ALL {
            if view.get(&list.key(card)).await?.is_some() {
                lists.push(list);
            }
        }
        if lists.len() > 1 {
            return Err(format!("card {card} is in {lists:?}"));
        }
    }
    Ok(())
}

fn boards<A: Apply>(board: fn() -> A) -> Check<Op> {
    check(board)
        .typed_ops(op(), |op| op.to_bytes())
        .always("no card twice", no_card_twice)
        .replicas(2..=5)
        .faults(Faults::all())
        .seeds(0..100)
}

#[test]
fn boards_converge() {
    boards(Board::default).run();
}

/// What the check says of a board with a mistake.
fn says(check: Check<Op>) -> String {
    let panic = catch_unwind(AssertUnwindSafe(|| check.run())).expect_err("the mistake must be found");
    let text = panic
        .downcast_ref::<String>()
        .expect("it fails with words")
        .clone();
    println!("{text}");
    text
}

#[test]
fn a_hasty_board_has_a_card_twice() {
    let text = says(boards(Hasty::default).name("hasty"));
    assert!(text.contains("always \"no card twice\""), "{text}");
    assert!(text.contains("is in ["), "{text}");
}

#[test]
fn an_indexed_board_depends_on_what_it_saw() {
    let text = says(boards(Indexed::default).name("indexed"));
    assert!(text.contains("a function of what it is handed"), "{text}");
    assert!(text.contains("remembers something"), "{text}");
}
