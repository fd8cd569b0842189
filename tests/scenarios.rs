//! The scenario files as tests: they converge, they repeat to the byte, and they do so under two schedulers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use autobee::crypto::hash;
use autobee_sim::{Report, Scenario, TraceSink, run, sweep};

#[test]
fn every_fast_scenario_converges() {
    for file in files("fast") {
        let scenario = Scenario::load(&file).unwrap();
        let report = run(&scenario, 1, TraceSink::Discard).unwrap();
        assert!(report.converged, "{}: {:?}", file.display(), report.violations);
        assert_eq!(report.states.len(), scenario.replicas);
        assert!(
            report.entries > scenario.replicas,
            "{}: nothing happened",
            file.display()
        );
    }
}

#[test]
fn regressions_stay_fixed() {
    for file in files("regress") {
        let scenario = Scenario::load(&file).unwrap();
        for (seed, result) in sweep(&scenario, 0..4, 2, |_| ()) {
            let report = result.unwrap();
            assert!(
                report.converged,
                "{} seed {seed}: {:?}",
                file.display(),
                report.violations
            );
        }
    }
}

/// A scenario that the shrinker made has the seed of its failure in its name.
#[test]
fn regressions_stay_fixed_with_the_seeds_that_found_them() {
    for file in files("regress") {
        let scenario = Scenario::load(&file).unwrap();
        if let Some(seed) = scenario.own_seed() {
            let report = run(&scenario, seed, TraceSink::Discard).unwrap();
            assert!(
                report.converged,
                "{} seed {seed}: {:?}",
                file.display(),
                report.violations
            );
        }
    }
}

/// On slow disks many a power cut comes between a signature and its sync. Who sends before it syncs then signs two logs of
/// one length, and peers that saw the lost one never agree with it again.
#[test]
fn a_writer_that_sends_before_it_syncs_is_found_out() {
    let mut scenario = load("power_loss");
    scenario.disk.latency.sync_us = 100_000;
    let failed = |scenario: &Scenario| {
        let reports = sweep(scenario, 0..8, 2, |_| ()).into_iter();
        reports
            .filter(|(_, result)| !result.as_ref().unwrap().converged)
            .count()
    };
    assert_eq!(failed(&scenario), 0, "slow disks alone do no harm");
    scenario.planted.insert("unsynced_offer".into());
    assert!(failed(&scenario) > 0, "nobody noticed");
}

#[test]
fn the_same_seed_gives_the_same_report_and_the_same_trace() {
    let scenario = load("power_loss");
    let [(first, first_trace), (second, second_trace)] = [traced(&scenario, 42), traced(&scenario, 42)];
    assert_eq!(first, second);
    assert!(first_trace == second_trace, "the traces differ");
    assert_ne!(first.trace_hash, traced(&scenario, 43).0.trace_hash);
}

#[test]
fn the_trace_hash_is_the_hash_of_the_trace() {
    let (report, trace) = traced(&load("partition_heal"), 7);
    assert_eq!(report.trace_hash, hash(&[&trace]).to_hex());
    assert_eq!(
        report.events,
        trace.iter().filter(|byte| **byte == b'\n').count() as u64
    );
    for line in trace.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        serde_json::from_slice::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn threads_do_not_change_what_a_seed_gives() {
    let scenario = load("removal_race");
    let reports = |threads| -> Vec<Report> {
        sweep(&scenario, 0..6, threads, |_| ())
            .into_iter()
            .map(|(_, result)| result.unwrap())
            .collect()
    };
    assert_eq!(reports(1), reports(4));
}

#[test]
fn every_listed_field_is_in_the_report() {
    let report = serde_json::to_value(run(&load("skewed_clocks"), 3, TraceSink::Discard).unwrap()).unwrap();
    for field in [
        "scenario",
        "seed",
        "replicas",
        "entries",
        "converged",
        "trace_hash",
        "events",
        "sim_ms",
        "states",
    ] {
        assert!(report.get(field).is_some(), "{field} in {report}");
    }
    for field in ["replica", "order_hash", "view_hash"] {
        assert!(
            report["states"][0].get(field).is_some(),
            "{field} in {}",
            report["states"][0]
        );
    }
}

/// The same engine, network and disks; the tasks are scheduled by somebody else.
#[cfg(madsim)]
#[test]
fn madsim_comes_to_the_same_verdict() {
    for name in ["partition_heal", "power_loss", "removal_race"] {
        let scenario = load(name);
        let [first, second] =
            [0, 0].map(|seed| autobee_sim::run_on_madsim(&scenario, seed, TraceSink::Discard).unwrap());
        assert!(first.converged, "{name}: {:?}", first.violations);
        assert_eq!(first, second, "{name}: the same seed twice");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: cases(), ..Default::default() })]

    /// Partitions, cuts, crashes, power cuts, clock jumps, removals and grants, at any time and in any number.
    #[test]
    fn whatever_happens_replicas_agree_when_it_is_over(bytes in proptest::collection::vec(0_u8.., 0..48)) {
        let (scenario, seed) = Scenario::draw(&bytes);
        let report = run(&scenario, seed, TraceSink::Discard).unwrap();
        proptest::prop_assert!(report.converged, "seed {seed}: {:#?}\n{}", report.violations, scenario.to_toml());
    }
}

/// A run takes longer than most properties: fewer cases unless asked for.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(48)
}

fn traced(scenario: &Scenario, seed: u64) -> (Report, Vec<u8>) {
    let trace = Shared::default();
    let report = run(scenario, seed, TraceSink::Write(Box::new(trace.clone()))).unwrap();
    let bytes = trace.0.lock().unwrap().clone();
    (report, bytes)
}

fn load(name: &str) -> Scenario {
    Scenario::load(&folder("fast").join(name).with_extension("toml")).unwrap()
}

fn files(name: &str) -> Vec<PathBuf> {
    #[expect(
        clippy::disallowed_methods,
        reason = "scenario files lie outside the simulated world"
    )]
    let entries = std::fs::read_dir(folder(name)).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "toml"));
    files.sort();
    files
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name)
}

/// A writer whose bytes can be looked at afterwards.
#[derive(Clone, Default)]
struct Shared(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
