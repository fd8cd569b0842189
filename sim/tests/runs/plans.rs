//! What a seed draws, written out, swept and shrunk.

use autobee_sim::{Scenario, TraceSink, fails_by, failure, run, run_caught, shrink, sweep};

#[test]
fn what_a_seed_draws_can_be_written_out() {
    let scenario = Scenario::parse(
        "drawn",
        r#"
            about = "two workloads, of which one removes and refuses, and events at the times of appends"
            replicas = 3
            crypto = "stand-in"
            [[append]]
            at_ms = 500
            replica = 1
            ops = [{ put = ["a", "b"] }]
            [[workload]]
            replicas = [0, 1]
            appends = 6
            refused = 4
            anchors = 5
            to_ms = 1000
            [[workload]]
            replicas = [2]
            appends = 4
            key_bytes_max = 40
            value_bytes_max = 900
            to_ms = 10
            [[event]]
            at_ms = 5
            do = "partition"
            groups = [[0], [1, 2]]
        "#,
    )
    .unwrap();
    for seed in 0..3 {
        let explicit = scenario.explicit(seed);
        assert_eq!((explicit.workload.len(), explicit.append.len()), (0, 17));
        let written = Scenario::parse("drawn", &explicit.to_toml()).unwrap();
        assert_eq!(written, explicit);
        let [drawn, written] =
            [&scenario, &written].map(|scenario| run(scenario, seed, TraceSink::Discard).unwrap());
        assert_eq!(drawn, written);
    }
}

#[test]
fn results_of_many_runs_are_without_views() {
    let scenario = r#"about = "one writes"
replicas = 2
crypto = "stand-in"

[[append]]
at_ms = 100
replica = 0
ops = [{ put = ["key", "value"] }]
"#;
    let scenario = Scenario::parse("views", scenario).unwrap();
    let whole = run(&scenario, 1, TraceSink::Discard).unwrap();
    assert!(whole.converged && !whole.states[0].view.is_empty());
    let swept = sweep(&scenario, 1..2, 1, |_| {}).remove(0).1.unwrap();
    let caught = run_caught(&scenario, 1, TraceSink::Discard).unwrap();
    for report in [swept, caught] {
        assert!(report.states.iter().all(|state| state.view.is_empty()));
        assert_eq!(report.states[0].view_hash, whole.states[0].view_hash);
    }
}

/// Five replicas write through a partition, and the engine skips an undo.
#[test]
fn a_slip_of_the_engine_is_shrunk_to_a_few_values() {
    let mut scenario = Scenario::parse(
        "slip",
        include_str!("../../../scenarios/fast/partition_heal.toml"),
    )
    .unwrap();
    scenario.planted.insert("skipped_undo".into());
    let seed = 0;
    let failed = run_caught(&scenario, seed, TraceSink::Discard);
    let name = failure(&failed).expect("the slip is found");
    let same = |candidate: &Scenario| fails_by(&run_caught(candidate, seed, TraceSink::Discard), &name);
    let small = shrink(&scenario, seed, same, |runs| runs < 600);
    assert!(same(&small.scenario));
    assert!(
        small.scenario.operations() < 20 && small.scenario.event.len() < 2,
        "{} runs: {}",
        small.runs,
        small.scenario.to_toml()
    );
    let written = Scenario::parse("other", &small.scenario.to_toml()).unwrap();
    assert_eq!(written, small.scenario);
}
