//! Slips that the simulator has the engine make, each as small as a real one: its checks find every one of them.
//!
//! Each has a scenario that provokes it. Without the slip the same seeds find nothing, so it is the slip that is found.
//! Comparing replicas finds those whose effect differs from peer to peer; only the reference model finds those that every
//! peer makes alike.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use autobee_sim::{Report, Scenario, TraceSink, run};

/// By what a slip is found whose effect differs from peer to peer, whichever comes first.
const DIFFERENCE: &[&str] = &["equal sets", "convergence", "reference"];

/// Most seeds until a slip is found.
const SEEDS: u64 = 6;

#[test]
fn a_tie_that_the_first_to_come_wins() {
    found("planted/ties", "wrong_tie_break", DIFFERENCE);
}

#[test]
fn a_backer_that_is_not_followed() {
    found("planted/faulty_writer", "unfollowed_backer", &["reference"]);
}

#[test]
fn an_undo_that_is_skipped() {
    found("fast/partition_heal", "skipped_undo", DIFFERENCE);
}

#[test]
fn a_weight_that_is_read_live() {
    found("fast/partition_heal", "live_weight", DIFFERENCE);
}

#[test]
fn a_removed_writers_block_that_arrival_drops() {
    found("fast/removal_race", "dropped_removed", DIFFERENCE);
}

#[test]
fn a_drain_that_applies_before_its_links() {
    found("planted/slow_joiner", "early_drain", &["causal order"]);
}

#[test]
fn a_view_that_is_flushed_before_the_system() {
    found("planted/refused_values", "view_before_system", &["reference"]);
}

#[test]
fn an_own_entry_that_waited_and_is_applied_untold() {
    found("regress/clock_was_ahead", "outcome_untold", &["told"]);
}

#[test]
fn a_view_that_is_compared_with_the_one_before() {
    found("fast/views_compared", "compared_with_the_view_before", &["told"]);
}

#[test]
fn a_view_that_is_compared_behind_other_entries() {
    found("fast/views_compared", "compared_behind_other_entries", &["told"]);
}

#[test]
fn a_stranger_that_takes_part_without_a_member_under_safe_rules() {
    found("fast/safe_strangers", "safe_stranger_is_candidate", DIFFERENCE);
}

#[test]
fn a_stranger_that_acceptance_makes_a_member_under_safe_rules() {
    found("fast/safe_strangers", "acceptance_is_membership", DIFFERENCE);
}

#[test]
fn a_joiner_that_does_not_hear_of_the_rules() {
    found("fast/safe_strangers", "rules_unheard", DIFFERENCE);
}

#[test]
fn a_claim_that_counts_without_its_grant_under_safe_rules() {
    found("fast/safe_regrant", "claim_without_its_grant", DIFFERENCE);
}

#[test]
fn a_date_that_counts_though_what_is_linked_is_later() {
    found("fast/safe_hostile", "own_timestamp_counts", DIFFERENCE);
}

#[test]
fn nodes_of_a_log_that_was_cut_off_and_that_compaction_brings_back() {
    found("fast/cut_logs", "compaction_revives_deleted_nodes", &["cores"]);
}

#[test]
fn a_block_that_is_dropped_untold() {
    found("fast/cut_logs", "dropped_block_untold", &["side cores"]);
}

#[test]
fn a_limit_that_outlives_its_download() {
    found("fast/small_blocks", "limit_outlives_its_download", &["bounds"]);
}

#[test]
fn a_contradiction_that_ends_sessions_of_later() {
    found(
        "regress/opened_beside_a_contradiction",
        "conflict_ends_later_sessions",
        &["no failure"],
    );
}

#[test]
fn a_channel_that_was_left_and_still_counts() {
    found("fast/side_cores", "parted_channel_still_stands", &["synced"]);
}

#[test]
fn a_waiting_head_that_is_shown_with_the_one_before() {
    found("fast/heads_lost", "newest_waiting_head_early", &["honest peers"]);
}

#[test]
fn a_move_that_nobody_answers_any_more() {
    found(
        "fast/moves_abandoned",
        "move_outlives_its_request",
        &["side cores"],
    );
}

#[test]
fn a_block_of_a_tree_that_is_waited_for_once() {
    found(
        "fast/tree_blocks_awaited",
        "wait_for_a_tree_block_given_up",
        &["convergence"],
    );
}

#[test]
fn a_list_of_cores_that_is_looked_for_in_another_block() {
    found(
        "fast/values_awaited",
        "core_list_sought_in_the_first_block",
        &["reopened"],
    );
}

#[test]
fn damaged_trees_that_an_opening_goes_on_with() {
    found("fast/damaged_trees", "damaged_trees_kept", &["rebuilt"]);
}

#[test]
fn versions_of_others_trees_that_are_taken_up_from_the_start() {
    found_with(
        3,
        "regress/moved_and_gone_back-850",
        "versions_elsewhere_taken_up",
        "convergence",
    );
}

#[test]
fn a_contradicted_log_that_who_joins_does_not_get() {
    found(
        "fast/contradicted_log_joined",
        "contradicted_log_is_not_served",
        &["contradictions"],
    );
}

#[test]
fn a_contradiction_that_who_joins_does_not_hear_of() {
    found(
        "fast/contradicted_log_joined",
        "contradiction_not_shown_to_later_peers",
        &["contradictions"],
    );
}

#[test]
fn one_side_of_a_contradiction() {
    found("fast/twins", "own_side_shown_alone", &["contradictions"]);
}

#[test]
fn a_flush_that_waits_for_what_is_stalled() {
    found(
        "regress/sparse_log_compared",
        "flush_waits_for_stalled_logs",
        &["answers"],
    );
}

#[test]
fn a_dropped_block_that_ends_upgrades() {
    let scenario = "regress/upgrade_behind_a_dropped_block-7597";
    found_with(7597, scenario, "dropped_block_ends_upgrades", "side cores");
}

#[test]
fn an_own_batch_that_its_log_does_not_take_and_that_stops_the_peer() {
    let scenario = "fast/twin_while_appending";
    found_with(7, scenario, "refused_own_batch_stops_the_peer", "no failure");
}

#[cfg(feature = "tokio")]
#[test]
fn production_plants_nothing() {
    use autobee::env::{Env, native::NativeEnv};
    const { assert!(!<NativeEnv as Env>::SIM, "nobody asks it for slips") };
}

/// Asserts that the scenario finds nothing without the slip, and that soon one of these invariants fails with it.
#[track_caller]
fn found(scenario: &str, slip: &str, invariants: &[&str]) {
    let mut scenario = load(scenario);
    for seed in 0..SEEDS {
        let Report { violations, .. } = run(&scenario, seed, TraceSink::Discard).unwrap();
        assert!(
            violations.is_empty(),
            "seed {seed} without {slip}: {violations:?}"
        );
    }
    scenario.planted.insert(slip.into());
    let mut findings = (0..SEEDS).map(|seed| run(&scenario, seed, TraceSink::Discard).unwrap().violations);
    let is_found = findings.any(|violations| {
        violations
            .iter()
            .any(|found| invariants.contains(&found.invariant))
    });
    assert!(is_found, "{SEEDS} seeds did not find {slip} by {invariants:?}");
}

/// The same of one seed, which takes the rare path that the slip is on.
#[track_caller]
fn found_with(seed: u64, scenario: &str, slip: &str, invariant: &str) {
    let mut scenario = load(scenario);
    let Report { violations, .. } = run(&scenario, seed, TraceSink::Discard).unwrap();
    assert!(violations.is_empty(), "{violations:?}");
    scenario.planted.insert(slip.into());
    let Report { violations, .. } = run(&scenario, seed, TraceSink::Discard).unwrap();
    assert!(
        violations.iter().any(|found| found.invariant == invariant),
        "{violations:?}"
    );
}

fn load(name: &str) -> Scenario {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    Scenario::load(&path.join(name).with_extension("toml")).unwrap()
}
