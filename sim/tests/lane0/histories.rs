//! Histories that seeds draw, and what they find.

use autobee_sim::history::{HistoryReport, PeerHistory};

#[test]
fn histories_are_what_the_model_says() {
    let mut total = HistoryReport::default();
    for seed in 0..100 {
        let report = PeerHistory::generate(seed).play();
        let report = report.unwrap_or_else(|failure| panic!("history {seed}: {failure}"));
        total.comparisons += report.comparisons;
        total.weights += report.weights;
        total.settled += report.settled;
        total.refused += report.refused;
        total.withdrawn += report.withdrawn;
    }
    let HistoryReport {
        comparisons,
        weights,
        settled,
        refused,
        withdrawn,
        ..
    } = total;
    assert!(
        comparisons > 3_000 && weights > 20 && settled > 50 && refused > 20 && withdrawn > 20,
        "{total:?}"
    );
}

#[test]
fn a_history_is_read_as_it_is_written_and_played_as_before() {
    for seed in 0..20 {
        let history = PeerHistory::generate(seed);
        let again = PeerHistory::parse(&history.to_toml()).unwrap();
        assert_eq!(again, history);
        assert_eq!(again.play(), history.play());
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    let parse = |text: &str| PeerHistory::parse(text).unwrap_err().to_string();
    assert!(parse("peer = []").contains("0 peers"));
    let step = parse("[[peer]]\n[[step]]\nwhat = \"sync\"\npeer = 0\nwith = 3\n");
    assert_eq!(step, "step 0: there is no peer 3");
    let named = "[[peer]]\n[[step]]\nwhat = \"append\"\npeer = 0\nops = [{ ack = \"p1\" }]\n";
    assert_eq!(parse(named), "step 0: there is no peer p1");
    let planted = parse("planted = [\"skipped_und\"]\n[[peer]]\n");
    assert!(planted.contains("is skipped_undo meant?"), "{planted}");
    assert!(parse("[[peer]]\nwindow = 3\n").contains("window"));
}

/// The first history that finds a slip, and the invariant that it breaks.
fn found(slip: &str, seed: u64, invariant: &str) {
    let history = PeerHistory::generate(seed);
    assert_eq!(history.play().map(|_| ()), Ok(()), "without the slip");
    let history = PeerHistory {
        planted: vec![slip.into()],
        ..history
    };
    let failure = history.play_caught().unwrap_err();
    assert_eq!(failure.invariant, invariant, "{failure}");
}

#[test]
fn of_two_grants_the_first_is_attested() {
    found("second_grant_unattested", 507, "weights reached");
}

#[test]
fn parked_batches_that_wait_for_each_other() {
    found("parked_wait_for_each_other", 565, "order");
}

#[test]
fn a_batch_that_left_and_keeps_its_picks() {
    found("left_batch_keeps_its_picks", 2642, "order");
}

#[test]
fn removed_writers_that_are_not_waited_for() {
    found("settled_without_removed_writers", 6, "settled stays");
}

#[test]
fn a_failing_history_shrinks() {
    let history = PeerHistory {
        planted: vec!["parked_wait_for_each_other".into()],
        ..PeerHistory::generate(565)
    };
    let failure = history.play_caught().unwrap_err();
    let shrunk = history.shrink(failure.invariant).history;
    assert!(
        shrunk.steps.len() <= history.steps.len() / 2,
        "{}",
        shrunk.to_toml()
    );
    assert_eq!(shrunk.play_caught().unwrap_err().invariant, failure.invariant);
}

/// Its record was that of a guest, which is in nobody's count of those who may still write.
#[test]
fn a_creator_that_removes_itself_at_once_was_a_member() {
    for safe in [false, true] {
        let text = "[[peer]]\n[[peer]]\n[[step]]\nwhat = \"append\"\npeer = 0\n\
            ops = [{ addWriter = \"p1\", weight = 2 }, { removeWriter = \"p0\" }]\n";
        let history = PeerHistory {
            safe,
            ..PeerHistory::parse(text).unwrap()
        };
        let report = history.play();
        assert!(
            report.as_ref().is_ok_and(|report| report.entries > 4),
            "{report:?}"
        );
    }
}
