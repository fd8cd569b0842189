//! `examples/embed.rs` and `examples/metrics.rs`.

use crate::running::{Place, assert_says};

#[test]
#[cfg(unix)]
fn a_database_is_embedded_and_ends_in_good_order() {
    let place = Place::new("embed");
    let mut one = place.start("embed", &["one", "127.0.0.1:0"]);
    let said = one.hear("the key is");
    let (key, address) = said
        .trim_start_matches("the key is ")
        .split_once(", and peers are welcome at ")
        .unwrap();
    let mut two = place.start("embed", &["two", "127.0.0.1:0", key, address]);
    two.hear(&format!("the key is {key}"));
    // It has what the other one wrote, and each waits for Ctrl-C by now.
    two.hear("lines: 1");
    one.hear("lines: 1");
    for (name, running) in [("two", two), ("one", one)] {
        let (code, lines) = running.interrupt();
        assert_eq!(code, 0, "{name}: {lines:?}");
    }
}

#[test]
fn a_directory_and_an_address_are_needed() {
    let place = Place::new("embed-bad");
    let (code, lines) = place.run("embed", &[], "");
    assert_eq!(code, 1);
    assert_says(&lines, "usage: embed DIR LISTEN");
}

#[test]
fn counts_are_exported() {
    let place = Place::new("metrics");
    let (code, lines) = place.run("metrics", &[], "");
    assert_eq!(code, 0, "{lines:?}");
    for count in [
        "autobee_appended_blocks{database=\"writer\"} 100",
        "autobee_appended_blocks{database=\"reader\"} 0",
        "autobee_connections_opened{database=\"reader\"} 1",
    ] {
        assert_says(&lines, count);
    }
}
