//! Futures that are drawn anew from moments of a run.

use std::time::Duration;

use autobee_sim::events::TraceLine;
use autobee_sim::explain::Observed;
use autobee_sim::{Reseed, Scenario, TraceSink, WhyError, WhyLimits, run, why};

/// Two replicas that tie again and again, of which one orders ties as they come.
fn scenario(planted: &str) -> Scenario {
    let text = format!(
        "about = \"\"\nreplicas = 3\ncrypto = \"stand-in\"\nplanted = [{planted}]\nconverge_ms = 5000\n\
         [[workload]]\nreplicas = [1, 2]\nappends = 6\nto_ms = 1500\n"
    );
    Scenario::parse("futures", &text).unwrap()
}

#[test]
fn another_future_begins_at_its_moment_and_nowhere_else() {
    let scenario = scenario("").explicit(3);
    let lines = |reseed| {
        let observed = Observed::run_from(&scenario, 3, reseed);
        observed
            .lines()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let plain = lines(None);
    assert_eq!(
        run(&scenario, 3, TraceSink::Discard).unwrap().events,
        plain.len() as u64
    );
    let at = Duration::from_millis(700);
    let other = lines(Some(Reseed { at, seed: 99 }));
    let common = plain.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let turned = &other[common];
    assert!(turned.contains("\"reseed\""), "{turned}");
    let time = |line: &str| TraceLine::parse(1, line).unwrap().at;
    assert!(time(&plain[common]) >= 700_000_000 && time(&plain[common - 1]) < 700_000_000);
    assert_ne!(plain[common..], other[common + 1..]);
}

#[test]
fn the_moment_is_between_a_good_future_and_bad_ones() {
    let limits = WhyLimits {
        runs: 200,
        futures: 4,
        threads: 1,
    };
    assert_eq!(why(&scenario(""), 3, limits, |_| ()), Err(WhyError::Passes));
    let bad = scenario("\"skipped_undo\"");
    let found = why(&bad, 3, limits, |_| ()).unwrap();
    assert!(found.runs <= 200 && found.is_exact, "{found:?}");
    assert!(found.avoidable_ns.is_none_or(|from| from < found.inevitable_ns));
    assert!(found.inevitable_ns <= found.found_ms * 1_000_000 + 1_000_000);
}
