//! Shrinking with a runner that is a plain function.

use std::collections::BTreeSet;

use super::{Shrunk, shrink};
use crate::scenario::{Action, Append, CrashMode, CryptoChoice, Event, Scenario, Topology};
use crate::workload::Op;

/// 70 appends of 3 values at 5 replicas, 12 events, and numbers that nothing needs.
fn large() -> Scenario {
    let mut scenario = Scenario::parse(
        "large",
        r#"
            about = "much happens"
            replicas = 5
            buggify = true
            encrypted = true
            topology = "ring"
            writer_weight = 5
            gather_ms = 7
            [settings]
            window_batches = 4
            drain_applies_max = 2
            heal_gather = { time_ms = 1, quiet_ms = 2 }
            [knobs]
            store_segment_bytes = 2048
            [network]
            bytes_per_ms = 10
            window = 300
            [disk]
            latency = { sync_us = 30000 }
        "#,
    )
    .unwrap();
    for number in 0..70_usize {
        let op = |position| {
            Op::put(
                format!("k{number}....."),
                format!("v{number}.{position}{}", "x".repeat(50)),
            )
        };
        scenario.append.push(Append {
            at_ms: (number as u64 * 7_919) % 6_007,
            replica: number % 5,
            optimistic: number % 11 == 0,
            left: None,
            ops: (0..3).map(op).collect(),
        });
    }
    for number in 0..6_usize {
        let replica = number % 5;
        let at_ms = 131 * number as u64;
        let crash = Action::Crash {
            replica,
            mode: CrashMode::Kill,
            lasting: false,
        };
        scenario.event.push(Event { at_ms, action: crash });
        let restart = Action::Restart { replica };
        scenario.event.push(Event {
            at_ms: at_ms + 50,
            action: restart,
        });
    }
    scenario
}

fn has_key(scenario: &Scenario, start: &str) -> bool {
    let mut ops = scenario.append.iter().flat_map(|append| &append.ops);
    ops.any(|op| op.put.as_ref().is_some_and(|(key, _)| key.starts_with(start)))
}

fn shrunk(scenario: &Scenario, same: impl Fn(&Scenario) -> bool) -> Shrunk {
    shrink(scenario, 0, same, |runs| runs < 3_000)
}

#[test]
fn what_the_failure_needs_stays_and_all_else_goes() {
    let scenario = large();
    let restarts = |scenario: &Scenario| {
        let mut events = scenario.event.iter();
        events.any(|event| matches!(event.action, Action::Restart { .. }))
    };
    let same = |scenario: &Scenario| {
        has_key(scenario, "k13") && has_key(scenario, "k61") && restarts(scenario) && scenario.encrypted
    };
    let Shrunk {
        scenario: small,
        is_minimal,
        runs,
        ..
    } = shrunk(&scenario, same);
    assert!(is_minimal && runs < 400, "{runs} runs");
    assert!(same(&small));
    assert_eq!(
        (small.operations(), small.append.len(), small.event.len()),
        (2, 2, 1)
    );
    assert!(small.encrypted && !small.buggify);
    assert_eq!(
        (small.topology, small.writer_weight, small.gather_ms),
        (Topology::Mesh, 2, None)
    );
    assert!(small.settings.is_empty() && small.knobs.is_empty());
    assert_eq!(small.network, crate::PathConfig::default());
    assert_eq!(small.disk, crate::disk::DiskFaults::default());
    assert_eq!(small.crypto, CryptoChoice::StandIn);
    assert!(
        small
            .append
            .iter()
            .all(|append| append.at_ms == 0 && !append.optimistic)
    );
    let sizes: Vec<usize> = small
        .append
        .iter()
        .flat_map(|append| &append.ops)
        .map(|op| op.to_value().len())
        .collect();
    assert!(sizes.iter().all(|size| *size < 40), "{sizes:?}");
}

#[test]
fn replicas_that_nothing_needs_go_and_the_others_move_up() {
    let mut scenario = large();
    scenario.event.push(Event {
        at_ms: 9,
        action: Action::Partition {
            groups: vec![vec![0, 1], vec![2, 3], vec![4]],
        },
    });
    // Somebody who is not the creator writes `k13`, and is parted from the creator.
    let same = |scenario: &Scenario| {
        let writes = |append: &&Append| {
            append
                .ops
                .iter()
                .any(|op| op.put.as_ref().is_some_and(|(key, _)| key.starts_with("k13")))
        };
        let Some(writer) = scenario.append.iter().find(writes).map(|append| append.replica) else {
            return false;
        };
        scenario.event.iter().any(|event| match &event.action {
            Action::Partition { groups } => {
                groups.len() > 1
                    && groups
                        .iter()
                        .any(|group| group.contains(&writer) && !group.contains(&0))
            }
            _ => false,
        })
    };
    assert!(same(&scenario));
    let small = shrunk(&scenario, same).scenario;
    assert_eq!((small.replicas, small.append.len(), small.event.len()), (2, 1, 1));
    assert_eq!(small.append[0].replica, 1);
    assert_eq!(
        small.event[0].action,
        Action::Partition {
            groups: vec![vec![0], vec![1]]
        }
    );
}

#[test]
fn the_same_input_gives_the_same_output_and_no_candidate_runs_twice() {
    let scenario = large();
    let run = || {
        let mut texts = BTreeSet::new();
        let mut runs = 0;
        let shrunk = shrink(
            &scenario,
            0,
            |scenario| {
                runs += 1;
                texts.insert(scenario.to_toml());
                scenario.append.len() + scenario.event.len() > 17
            },
            |_| true,
        );
        assert_eq!((texts.len() as u64, runs), (shrunk.runs, shrunk.runs));
        shrunk
    };
    let first = run();
    assert_eq!(first, run());
    assert_eq!(first.scenario.append.len() + first.scenario.event.len(), 18);
}

#[test]
fn a_budget_ends_it_and_a_scenario_that_does_not_fail_stays() {
    let scenario = large();
    let spent = shrink(&scenario, 0, |_| true, |runs| runs < 3);
    assert_eq!((spent.runs, spent.is_minimal), (3, false));
    let good = shrink(&scenario, 0, |_| false, |_| true);
    assert_eq!((good.scenario, good.runs), (scenario.explicit(0), 1));
}

proptest::proptest! {
    /// Whatever set of appends a failure needs, exactly that set is left.
    #[test]
    fn any_set_of_appends_is_found(needed in proptest::collection::btree_set(0_usize..70, 0..6)) {
        let same = |scenario: &Scenario| {
            needed.iter().all(|number| {
                let key = format!("k{number}");
                let mut ops = scenario.append.iter().flat_map(|append| &append.ops);
                ops.any(|op| op.put.as_ref().is_some_and(|(found, _)| found.trim_end_matches('.') == key))
            })
        };
        let found = shrunk(&large(), same);
        proptest::prop_assert!(found.is_minimal);
        proptest::prop_assert_eq!(found.scenario.operations(), needed.len());
        proptest::prop_assert!(found.scenario.event.is_empty());
    }
}
