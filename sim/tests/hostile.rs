//! Hostile peers beside replicas: that they do harm where nothing is in their way, and none where something is.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use autobee_sim::hostile::Deeds;
use autobee_sim::scenario::Hostility;
use autobee_sim::{Report, Scenario, TraceSink, run, sweep};

fn load(name: &str) -> Scenario {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/fast");
    Scenario::load(&folder.join(name).with_extension("toml")).unwrap()
}

fn reports(scenario: &Scenario) -> Vec<Report> {
    let reports = sweep(scenario, 0..4, 2, |_| ()).into_iter();
    reports
        .map(|(seed, result)| {
            let report = result.unwrap();
            assert!(report.converged, "seed {seed}: {:#?}", report.violations);
            report
        })
        .collect()
}

fn deeds(report: &Report, kind: Hostility) -> &Deeds {
    report.hostile.iter().find(|deeds| deeds.kind == kind).unwrap()
}

fn blamed(deeds: &Deeds, what: &str) -> u64 {
    deeds.blamed.get(what).copied().unwrap_or(0)
}

#[test]
fn floods_forgeries_garbage_and_empty_claims_are_found_out_and_stop_nobody() {
    for report in reports(&load("hostile_peers")) {
        let flood = deeds(&report, Hostility::Flood);
        assert!(flood.misdeeds > 10_000, "{flood:?}");
        assert!(
            blamed(flood, "flood") > 0 && blamed(flood, "announcements") > 0,
            "{flood:?}"
        );
        let forger = deeds(&report, Hostility::ForgedProof);
        assert!(forger.misdeeds > 0 && blamed(forger, "proof") > 0, "{forger:?}");
        // A block that it was asked for came from somebody else: all replicas agree.
        let withheld = deeds(&report, Hostility::Withheld);
        assert!(withheld.asked > 0 && withheld.misdeeds > 0, "{withheld:?}");
        let garbage = deeds(&report, Hostility::Garbage);
        assert!(blamed(garbage, "stream") > 0, "{garbage:?}");
    }
}

#[test]
fn old_frames_and_halves_of_frames_stop_nobody() {
    for report in reports(&load("hostile_replay")) {
        let replay = deeds(&report, Hostility::Replay);
        assert!(replay.streams > 4 && replay.misdeeds > 100, "{replay:?}");
        let truncated = deeds(&report, Hostility::Truncated);
        let ended = |how| truncated.ended.get(how).copied().unwrap_or(0);
        assert!(ended("stream failed") > 0, "{truncated:?}");
    }
    let mut scenario = load("hostile_replay");
    scenario.settings.insert("silence_ms_max".into(), 3_000.into());
    scenario.settings.insert("keep_alive_ms".into(), 1_000.into());
    let half_open: u64 = reports(&scenario)
        .iter()
        .filter_map(|report| deeds(report, Hostility::Truncated).ended.get("silent"))
        .sum();
    assert!(half_open > 0, "nobody was left in the middle of a frame");
}

/// The number of values that replicas of this scenario write, without hostile peers.
fn entries_without(scenario: &Scenario, seed: u64) -> usize {
    let scenario = Scenario {
        hostile: Vec::new(),
        ..scenario.clone()
    };
    run(&scenario, seed, TraceSink::Discard).unwrap().entries
}

#[test]
fn what_a_stranger_and_a_member_forge_is_judged_alike_everywhere() {
    let scenario = load("hostile_stranger");
    let mut more = 0;
    for report in reports(&scenario) {
        for kind in [Hostility::Stranger, Hostility::Member] {
            assert!(deeds(&report, kind).misdeeds >= 6, "{:?}", report.hostile);
        }
        more += report.entries - entries_without(&scenario, report.seed).min(report.entries);
    }
    assert!(more > 0, "nothing of what they wrote was ever taken");
}

#[test]
fn two_logs_under_one_key_split_the_group_and_stop_nobody() {
    let scenario = load("twins");
    let mut split = 0;
    for report in reports(&scenario) {
        for kind in [Hostility::Twin, Hostility::Equivocator] {
            assert!(deeds(&report, kind).misdeeds > 0, "{:?}", report.hostile);
        }
        let mut states: Vec<_> = report
            .states
            .iter()
            .map(|state| (&state.order_hash, &state.view_hash))
            .collect();
        states.sort();
        states.dedup();
        split += usize::from(states.len() > 1);
    }
    assert!(split > 0, "nobody ever saw two logs under one key");
}

#[test]
fn hostile_peers_do_the_same_under_the_same_seed() {
    for name in ["hostile_peers", "hostile_replay", "hostile_stranger", "twins"] {
        let scenario = load(name);
        let [first, second] = [7, 7].map(|seed| run(&scenario, seed, TraceSink::Discard).unwrap());
        assert_eq!(first, second, "{name}");
    }
}

/// Madsim schedules the tasks of hostile peers, too.
#[cfg(all(madsim, feature = "madsim"))]
#[test]
fn hostile_peers_run_under_madsim() {
    let scenario = load("hostile_peers");
    let report = autobee_sim::run_on_madsim(&scenario, 0, TraceSink::Discard).unwrap();
    assert!(report.converged, "{:?}", report.violations);
    assert!(blamed(deeds(&report, Hostility::ForgedProof), "proof") > 0);
}

/// Generated scenarios are not only drawn with faults of the network and with hostile peers: those strike.
#[test]
fn faults_of_generated_networks_strike() {
    let (mut strikes, mut kinds) = (BTreeMap::<&str, u64>::new(), BTreeMap::<Hostility, u64>::new());
    for seed in 0..60 {
        let scenario = Scenario::generate(seed);
        let report = run(&scenario, seed, TraceSink::Discard).unwrap();
        for fault in report.network.keys() {
            *strikes.entry(*fault).or_default() += 1;
        }
        for deeds in report.hostile.iter().filter(|deeds| deeds.streams > 0) {
            *kinds.entry(deeds.kind).or_default() += 1;
        }
    }
    println!("runs in which it struck: {strikes:?}, hostile peers that connected: {kinds:?}");
    for fault in [
        "torn",
        "corrupt",
        "reset",
        "reset before all was read",
        "held",
        "half open",
        "window full",
        "dial refused",
        "dial lost",
        "dial timed out",
    ] {
        assert!(strikes.contains_key(fault), "{fault} never struck: {strikes:?}");
    }
    assert!(kinds.len() >= 5, "{kinds:?}");
}

/// What fails with hostile peers and not without them. `AUTOBEE_HOSTILE_PLANS` says how many scenarios are tried.
#[test]
fn generated_scenarios_with_hostile_peers_hold_what_they_hold_without() {
    let wanted = std::env::var("AUTOBEE_HOSTILE_PLANS");
    let wanted = wanted.ok().and_then(|count| count.parse().ok()).unwrap_or(12);
    let plans = (0..).map(|seed| (seed, Scenario::generate(seed)));
    let mut failed = 0;
    for (seed, scenario) in plans.filter(|(_, plan)| !plan.hostile.is_empty()).take(wanted) {
        let report = run(&scenario, seed, TraceSink::Discard).unwrap();
        if report.converged {
            continue;
        }
        let without = Scenario {
            hostile: Vec::new(),
            ..scenario.clone()
        };
        if run(&without, seed, TraceSink::Discard).unwrap().converged {
            failed += 1;
            println!("seed {seed}: {:#?}\n{}", report.violations, scenario.to_toml());
        } else {
            println!(
                "seed {seed} fails without hostile peers, too: {:#?}",
                report.violations
            );
        }
    }
    assert_eq!(failed, 0);
}
