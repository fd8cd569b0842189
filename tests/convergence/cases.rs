//! Histories that once were hard, by hand. `A` is the creator.

use autobee_sim::model::ModelBatch;
use autobee_sim::workload::Op;

use super::history::{Peer, RULES, batch, claim, deliver, optimistic, writer};

const A: u8 = 0;
const B: u8 = 1;
const C: u8 = 2;
const S: u8 = 3;

/// All orders in which each writer's batches stay in theirs give the same, and it is this.
fn always(batches: &[ModelBatch], expected: &[usize]) {
    let mut deliveries = vec![Vec::new()];
    for _ in batches {
        let mut longer = Vec::new();
        for delivery in &deliveries {
            for at in 0..batches.len() {
                let of = |other: &usize| batches[*other].writer == batches[at].writer;
                let next = (0..batches.len()).filter(of).find(|at| !delivery.contains(at));
                if next == Some(at) {
                    longer.push([delivery.as_slice(), &[at]].concat());
                }
            }
        }
        deliveries = longer;
    }
    for delivery in deliveries {
        assert_eq!(deliver(batches, &delivery), expected, "delivered as {delivery:?}");
    }
}

/// ```text
/// A1 adds B -- B1 (light) -- S1 (a stranger's, links B1, is refused)
///          \-- A2
/// ```
/// B1 must not come before A2 because a refused batch names it.
#[test]
fn a_refused_stranger_pulls_nothing_forward_and_leaves_no_trace() {
    let reject = Op {
        reject: true,
        ..Op::default()
    };
    let batches = [
        batch(A, 1, 1, &[], &Op::add_writer(writer(B), 0)),
        batch(B, 1, 9, &[(A, 1)], &Op::put("b", "1")),
        batch(A, 2, 5, &[(A, 1)], &Op::put("a", "2")),
        optimistic(batch(S, 1, 0, &[(B, 1)], &reject)),
    ];
    always(&batches, &[0, 2, 1]);
    let mut peer = Peer::new(&RULES, &batches);
    for at in [0, 1, 2, 3] {
        peer.receive(at);
    }
    peer.update();
    let system = &peer.linearizer.state().system;
    assert!(system.record(&writer(S)).is_none());
    assert!(system.heads().get(&writer(S)).is_none());
    assert_eq!(peer.linearizer.outside().count(), 1);
}

/// An accepted one does pull.
#[test]
fn an_accepted_stranger_is_a_candidate_of_weight_zero() {
    let batches = [
        batch(A, 1, 1, &[], &Op::add_writer(writer(B), 0)),
        batch(B, 1, 9, &[(A, 1)], &Op::put("b", "1")),
        optimistic(batch(S, 1, 3, &[(B, 1)], &Op::put("s", "1"))),
    ];
    always(&batches, &[0, 1, 2]);
}

/// ```text
/// A1 adds B -- B1 adds C -- C1
///          \-- A2 removes B
/// ```
/// A2 is heavier than B1, so B1 comes behind its writer's removal and its grant is never made: C1 is no member's.
#[test]
fn a_grant_that_a_reorder_takes_away_takes_its_writer_along() {
    let batches = [
        batch(A, 1, 1, &[], &Op::add_writer(writer(B), 0)),
        batch(B, 1, 2, &[(A, 1)], &Op::add_writer(writer(C), 0)),
        batch(C, 1, 3, &[(B, 1)], &Op::put("c", "1")),
        batch(A, 2, 4, &[(A, 1)], &Op::remove_writer(writer(B))),
    ];
    always(&batches, &[0, 3, 1]);
    let mut peer = Peer::new(&RULES, &batches);
    for at in [0, 1, 2] {
        peer.receive(at);
    }
    peer.update();
    assert_eq!(
        peer.linearizer.len(),
        3,
        "before the removal arrives C is a member"
    );
    peer.receive(3);
    assert_eq!(peer.update().shared, 1);
    assert!(!peer.linearizer.state().system.is_writer(&writer(C)));
}

/// Refused once, a member's later grant brings the batch back in.
#[test]
fn a_stranger_is_looked_at_again_after_every_pick() {
    let batches = [
        batch(A, 1, 1, &[], &Op::put("closed", "1")),
        optimistic(batch(
            S,
            1,
            2,
            &[(A, 1)],
            &Op {
                reject_if: Some("closed".into()),
                ..Op::default()
            },
        )),
        batch(
            A,
            2,
            3,
            &[(A, 1)],
            &Op {
                del: Some("closed".into()),
                ..Op::default()
            },
        ),
    ];
    always(&batches, &[0, 2, 1]);
}

/// Nobody comes before the creator, however early the date.
#[test]
fn a_stranger_cannot_be_first() {
    let batches = [
        batch(A, 1, 9, &[], &Op::put("a", "1")),
        optimistic(batch(S, 1, 1, &[], &Op::add_writer(writer(B), 2))),
    ];
    always(&batches, &[0, 1]);
}

/// ```text
/// A1 adds B (2) -- B1 claims 2, backed by A1
///              \-- A2 removes B, later
/// ```
/// Both orders explain themselves: before A2 the claim counts and B1 is early; behind A2 it does not and B1 is late.
#[test]
fn a_claim_and_a_concurrent_removal_have_two_fixpoints_of_which_one_is_taken() {
    let batches = [
        batch(A, 1, 1, &[], &Op::add_writer(writer(B), 2)),
        claim(batch(B, 1, 2, &[(A, 1)], &Op::put("b", "1")), 2, (A, 1)),
        batch(A, 2, 3, &[(A, 1)], &Op::remove_writer(writer(B))),
    ];
    always(&batches, &[0, 1, 2]);
    let late = [
        batches[0].clone(),
        claim(batch(B, 1, 4, &[(A, 1)], &Op::put("b", "1")), 2, (A, 1)),
        batches[2].clone(),
    ];
    always(&late, &[0, 2, 1]);
}

/// ```text
/// A1 adds C (2), A2 adds B (1) --- A3 removes C --- B1 adds C again (2)
///                              \-- C1 claims 2, late
/// ```
/// Behind B1 the claim counts, so C1 belongs before B1; before B1 it does not, so C1 belongs behind. The original
/// reorders for ever.
#[test]
fn a_removal_a_lighter_return_and_a_claim_have_no_fixpoint_but_an_order() {
    let batches = [
        batch(A, 1, 1, &[], &Op::add_writer(writer(C), 2)),
        batch(A, 2, 2, &[], &Op::add_writer(writer(B), 1)),
        batch(A, 3, 3, &[], &Op::remove_writer(writer(C))),
        batch(B, 1, 4, &[(A, 3)], &Op::add_writer(writer(C), 2)),
        claim(batch(C, 1, 9, &[(A, 2)], &Op::put("c", "1")), 2, (A, 1)),
    ];
    always(&batches, &[0, 1, 2, 3, 4]);
}

/// A backer orders like a link, also when its attestation is garbage, and also for those who pull the batch.
#[test]
fn a_backer_is_followed_by_descendants() {
    let mut bogus = claim(batch(B, 1, 1, &[], &Op::put("b", "1")), 2, (C, 1));
    bogus.claim.as_mut().unwrap().valid = false;
    let batches = [
        batch(A, 1, 1, &[], &Op::add_writer(writer(B), 0)),
        batch(A, 2, 2, &[], &Op::add_writer(writer(C), 0)),
        batch(C, 1, 9, &[(A, 2)], &Op::put("c", "1")),
        bogus,
        batch(A, 3, 5, &[(B, 1)], &Op::put("a", "3")),
    ];
    always(&batches, &[0, 1, 2, 3, 4]);
}

/// Apply that fails for a member is recorded and changes nothing else.
#[test]
fn a_member_that_apply_refuses_stays_in_the_order() {
    let batches = [
        batch(A, 1, 1, &[], &Op::put("a", "1")),
        optimistic(batch(S, 1, 2, &[(A, 1)], &Op::put("s", "1"))),
        optimistic(batch(
            S,
            2,
            3,
            &[],
            &Op {
                reject: true,
                ..Op::put("s", "2")
            },
        )),
    ];
    always(&batches, &[0, 1, 2]);
}
