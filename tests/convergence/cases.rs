//! Histories that once were hard, by hand. `A` is the creator.

use autobee_sim::model::{ModelBatch, ModelRules};
use autobee_sim::workload::Op;

use super::history::{Peer, RULES, SAFE, batch, claim, deliver_under, optimistic, writer};

const A: u8 = 0;
const B: u8 = 1;
const C: u8 = 2;
const S: u8 = 3;

/// All orders in which each writer's batches stay in theirs give the same, and it is this.
fn always(batches: &[ModelBatch], expected: &[usize]) {
    always_under(&RULES, batches, expected);
}

/// The same under these rules.
fn always_under(rules: &ModelRules<'_>, batches: &[ModelBatch], expected: &[usize]) {
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
        let order = deliver_under(rules, batches, &delivery);
        assert_eq!(order, expected, "delivered as {delivery:?}");
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

// Safe rules.

/// ```text
/// A1 -- S1 (accepted) -- A2 links S1
///  \-- A3
/// ```
/// Nobody takes part before a member's batch names it; then apply decides.
#[test]
fn under_safe_rules_a_stranger_waits_for_a_member_that_links_it() {
    let stranger = || optimistic(batch(S, 1, 2, &[(A, 1)], &Op::put("s", "1")));
    let alone = [batch(A, 1, 1, &[], &Op::put("a", "1")), stranger()];
    always_under(&SAFE, &alone, &[0]);
    always(&alone, &[0, 1]);
    let linked = [
        batch(A, 1, 1, &[], &Op::put("a", "1")),
        stranger(),
        batch(A, 2, 4, &[(S, 1)], &Op::default()),
    ];
    always_under(&SAFE, &linked, &[0, 1, 2]);
}

/// What was accepted makes nobody a member: the next batch waits again, and so does one of somebody who was only named.
#[test]
fn under_safe_rules_acceptance_is_no_membership() {
    let acked = Op {
        ack: Some(writer(C).to_hex()),
        ..Op::default()
    };
    let batches = [
        batch(A, 1, 1, &[], &Op::put("a", "1")),
        optimistic(batch(S, 1, 2, &[(A, 1)], &Op::put("s", "1"))),
        batch(A, 2, 4, &[(S, 1)], &acked),
        optimistic(batch(S, 2, 5, &[(A, 2)], &Op::put("s", "2"))),
        batch(C, 1, 6, &[(A, 2)], &Op::put("c", "1")),
    ];
    always_under(&SAFE, &batches, &[0, 1, 2]);
    always(&batches, &[0, 1, 2, 3, 4]);
}

/// Whoever is no member cannot let anybody in, himself included, nor remove anybody.
#[test]
fn under_safe_rules_strangers_do_not_change_membership() {
    for op in [
        Op::add_writer(writer(S), 2),
        Op::add_writer(writer(C), 2),
        Op::remove_writer(writer(B)),
    ] {
        let batches = [
            batch(A, 1, 1, &[], &Op::add_writer(writer(B), 1)),
            optimistic(batch(S, 1, 2, &[(A, 1)], &op)),
            batch(A, 2, 4, &[(S, 1)], &Op::put("a", "2")),
            batch(B, 1, 5, &[(A, 2)], &Op::put("b", "1")),
        ];
        always_under(&SAFE, &batches, &[0, 2, 3]);
    }
}

/// A guest that a member removes is refused from then on, and one that a member adds is a member.
#[test]
fn under_safe_rules_members_decide_about_guests() {
    let history = |op: &Op| {
        [
            batch(A, 1, 1, &[], &Op::put("a", "1")),
            optimistic(batch(S, 1, 2, &[(A, 1)], &Op::put("s", "1"))),
            batch(A, 2, 4, &[(S, 1)], op),
            optimistic(batch(S, 2, 5, &[(A, 2)], &Op::put("s", "2"))),
            batch(A, 3, 6, &[(S, 2)], &Op::default()),
        ]
    };
    always_under(&SAFE, &history(&Op::remove_writer(writer(S))), &[0, 1, 2, 4]);
    always_under(&SAFE, &history(&Op::add_writer(writer(S), 0)), &[0, 1, 2, 3, 4]);
}

/// ```text
/// A1 adds B -- A2 adds S -- A3
///                     \-- S1   \-- B1 -- B2, which say that they are older than all
/// ```
#[test]
fn under_safe_rules_nobody_is_older_than_what_he_links() {
    let batches = [
        batch(A, 1, 1, &[], &Op::add_writer(writer(B), 0)),
        batch(A, 2, 2, &[], &Op::add_writer(writer(S), 0)),
        batch(A, 3, 10, &[], &Op::put("a", "3")),
        batch(S, 1, 5, &[(A, 2)], &Op::put("s", "1")),
        batch(B, 1, 0, &[(A, 3)], &Op::put("b", "1")),
        batch(B, 2, 0, &[], &Op::put("b", "2")),
    ];
    always_under(&SAFE, &batches, &[0, 1, 2, 3, 4, 5]);
    always(&batches, &[0, 1, 2, 4, 5, 3]);
}

/// The weight with which a batch stands in the order of all of them, in whatever order they come.
fn weight_of(rules: &ModelRules<'_>, batches: &[ModelBatch], at: usize) -> u64 {
    let delivery: Vec<usize> = (0..batches.len()).collect();
    deliver_under(rules, batches, &delivery);
    let mut peer = Peer::new(rules, batches);
    for at in delivery {
        peer.receive(at);
    }
    peer.update();
    peer.check();
    let order = peer.order();
    order.iter().find(|(entry, _)| *entry == at).unwrap().1.0
}

/// ```text
/// A1 adds B -- A2 adds C -- A3 raises B -- A4 attests that
///                     \-- C1, which attests it, too
/// B1 claims it, with some of that in its past
/// ```
#[test]
fn under_safe_rules_a_claim_needs_its_backer_and_its_grant_in_its_past() {
    let history = |links: &[(u8, u64)], backer| {
        [
            batch(A, 1, 1, &[], &Op::add_writer(writer(B), 1)),
            batch(A, 2, 2, &[], &Op::add_writer(writer(C), 2)),
            batch(C, 1, 3, &[(A, 2)], &Op::put("c", "1")),
            batch(A, 3, 4, &[], &Op::add_writer(writer(B), 2)),
            batch(A, 4, 5, &[], &Op::put("a", "4")),
            claim(batch(B, 1, 6, links, &Op::put("b", "1")), 2, backer),
        ]
    };
    for (links, backer, safe, interop) in [
        (&[(A, 4)][..], (A, 4), 2, 2),
        // Neither backer nor grant comes before it.
        (&[(A, 1)], (A, 4), 0, 2),
        // The backer does, and the grant does not: C1 can attest anything.
        (&[(C, 1)], (C, 1), 0, 2),
        // The grant does, and the backer does not.
        (&[(A, 3)], (A, 4), 0, 2),
        (&[(A, 3), (C, 1)], (C, 1), 2, 2),
    ] {
        let batches = history(links, backer);
        assert_eq!(weight_of(&SAFE, &batches, 5), safe, "{links:?} {backer:?}");
        assert_eq!(weight_of(&RULES, &batches, 5), interop, "{links:?} {backer:?}");
    }
}

/// Two grants of the same weight, of which the writer knows the one that the order has second.
#[test]
fn under_safe_rules_each_grant_counts_also_one_that_raises_nothing() {
    let batches = [
        batch(A, 1, 1, &[], &Op::add_writer(writer(B), 2)),
        batch(A, 2, 2, &[], &Op::add_writer(writer(C), 1)),
        batch(A, 3, 3, &[], &Op::add_writer(writer(C), 2)),
        batch(B, 1, 4, &[(A, 2)], &Op::add_writer(writer(C), 2)),
        claim(batch(C, 1, 5, &[(B, 1)], &Op::put("c", "1")), 2, (B, 1)),
        batch(A, 4, 6, &[], &Op::put("a", "4")),
    ];
    assert_eq!(weight_of(&SAFE, &batches, 4), 2);
    // One of a lower weight is not enough.
    let mut lower = batches;
    lower[3] = batch(B, 1, 4, &[(A, 2)], &Op::add_writer(writer(C), 1));
    assert_eq!(weight_of(&SAFE, &lower, 4), 0);
}

/// As many grants as are kept, each of a lower ceiling than the one that the claim needs.
#[test]
fn under_safe_rules_low_grants_keep_no_high_one_out() {
    let mut batches = vec![batch(A, 1, 1, &[], &Op::add_writer(writer(B), 2))];
    for low in 1..=16 {
        let links: &[_] = if low == 1 { &[(A, 1)] } else { &[] };
        batches.push(batch(B, low, 1 + low, links, &Op::add_writer(writer(C), low)));
    }
    batches.push(batch(A, 2, 20, &[(B, 16)], &Op::add_writer(writer(C), 20)));
    batches.push(batch(B, 17, 21, &[(A, 2)], &Op::put("b", "1")));
    batches.push(claim(
        batch(C, 1, 22, &[(B, 17)], &Op::put("c", "1")),
        20,
        (B, 17),
    ));
    assert_eq!(weight_of(&SAFE, &batches, 19), 20);
}

/// A stranger's entry with a late date, which a member links and apply refuses: whoever goes on from the state behind that
/// finds the date there.
#[test]
fn under_safe_rules_the_state_has_the_latest_date_also_of_what_was_refused() {
    let reject = Op {
        reject: true,
        ..Op::default()
    };
    let batches = [
        batch(A, 1, 1, &[], &Op::put("a", "1")),
        optimistic(batch(S, 1, 50, &[(A, 1)], &reject)),
        batch(A, 2, 2, &[(S, 1)], &Op::put("a", "2")),
    ];
    for (rules, latest) in [(&SAFE, 50), (&RULES, 2)] {
        let mut peer = Peer::new(rules, &batches);
        for at in 0..batches.len() {
            peer.receive(at);
        }
        peer.update();
        peer.check();
        let system = &peer.linearizer.state().system;
        assert!(system.record(&writer(S)).is_none());
        assert_eq!(system.timestamp().0, latest);
    }
}
