//! The example `db_peer` as users run it: processes that talk over TCP on this machine.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "processes of this machine, and their time"
)]
#![cfg(feature = "tokio")]

#[path = "../process/peer.rs"]
mod peer;

use std::time::{Duration, Instant};

use peer::Peer;
use serde_json::{Value, json};

/// How long peers may take to agree.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until all peers dump the same, and that is as wished. Gives it.
fn agreed(peers: &mut [&mut Peer], is_wished: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let dumps: Vec<Value> = peers.iter_mut().map(|peer| peer.dump()).collect();
        if dumps.iter().all(|dump| *dump == dumps[0]) && is_wished(&dumps[0]) {
            return dumps[0].clone();
        }
        assert!(start.elapsed() < PATIENCE, "no agreement: {dumps:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Gives a command, and what comes of it: the next line about this event.
fn ask(peer: &mut Peer, command: &str, event: &str) -> Value {
    peer.say(command);
    peer.hear(event)
}

fn record<'a>(dump: &'a Value, writer: &str) -> &'a Value {
    let writers = dump["writers"].as_array().unwrap();
    writers
        .iter()
        .find(|record| record["key"] == writer)
        .unwrap_or(&Value::Null)
}

#[test]
fn two_peers_share_a_database() {
    let mut creator = Peer::start(&["create", "--listen", "127.0.0.1:0"]);
    creator.tell("put greeting hello to all");
    let key = creator.word("key");
    assert_eq!(key, creator.word("local"));
    let mut joiner = Peer::start(&["join", &key, "--connect", &creator.address()]);
    let local = joiner.word("local");
    assert_eq!(joiner.word("key"), key);

    agreed(&mut [&mut creator, &mut joiner], |dump| {
        dump["view"] == json!({ "greeting": "hello to all" })
    });
    creator.tell(&format!("add {local} 2"));
    agreed(&mut [&mut creator, &mut joiner], |dump| {
        record(dump, &local)["maxWeight"] == 2
    });
    joiner.tell("put theirs 1");
    creator.tell("put ours 2");
    let dump = agreed(&mut [&mut creator, &mut joiner], |dump| {
        dump["view"] == json!({ "greeting": "hello to all", "ours": "2", "theirs": "1" })
    });
    assert_eq!(dump["order"].as_array().unwrap().len(), 4);
    assert_eq!(record(&dump, &local)["length"], 1);
    assert_eq!(record(&dump, &key)["isRemoved"], false);

    creator.tell(&format!("remove {local}"));
    agreed(&mut [&mut creator, &mut joiner], |dump| {
        record(dump, &local)["isRemoved"] == true
    });
    joiner.quit();
    creator.quit();
}

#[test]
fn a_peer_that_comes_back_with_its_directory_goes_on() {
    let dir = std::env::temp_dir().join(format!("db-peers-{}", std::process::id()));
    let dir = dir.to_str().unwrap();
    let mut creator = Peer::start(&["create", "--dir", dir, "--listen", "127.0.0.1:0"]);
    let key = creator.word("key");
    creator.tell("put a 1");
    creator.quit();

    let mut creator = Peer::start(&["create", "--dir", dir, "--listen", "127.0.0.1:0"]);
    assert_eq!(creator.word("key"), key);
    creator.tell("put b 2");
    let mut relay = Peer::start(&[
        "join",
        &key,
        "--connect",
        &creator.address(),
        "--listen",
        "127.0.0.1:0",
    ]);
    // The third one never meets the creator.
    let mut third = Peer::start(&["join", &key, "--connect", &relay.address()]);
    creator.tell(&format!("add {}", third.word("local")));
    agreed(&mut [&mut creator, &mut relay, &mut third], |dump| {
        dump["writers"].as_array().unwrap().len() == 2
    });
    third.tell("put c 3");
    agreed(&mut [&mut creator, &mut relay, &mut third], |dump| {
        dump["view"] == json!({ "a": "1", "b": "2", "c": "3" })
    });
    for peer in [third, relay, creator] {
        peer.quit();
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_peer_goes_on_in_another_log() {
    let mut creator = Peer::start(&["create", "--listen", "127.0.0.1:0"]);
    let key = creator.word("key");
    let mut joiner = Peer::start(&["join", &key, "--connect", &creator.address()]);
    creator.tell(&format!("add {}", joiner.word("local")));
    agreed(&mut [&mut creator, &mut joiner], |dump| {
        dump["writers"].as_array().unwrap().len() == 2
    });
    joiner.tell("batch a 1 b 2 c 3");
    joiner.tell("del b");
    let rotated = ask(&mut joiner, "rotate", "rotated");
    assert_eq!(rotated["writable"], false);
    let local = rotated["local"].as_str().unwrap().to_owned();
    assert_ne!(local, joiner.word("local"));
    creator.tell(&format!("add {local}"));
    agreed(&mut [&mut creator, &mut joiner], |dump| {
        record(dump, &local)["maxWeight"] == 1
    });
    joiner.tell("put d 4");
    agreed(&mut [&mut creator, &mut joiner], |dump| {
        dump["view"] == json!({ "a": "1", "c": "3", "d": "4" }) && record(dump, &local)["length"] == 1
    });
    let state = ask(&mut joiner, "state", "state");
    assert_eq!(
        (&state["local"], &state["localLength"]),
        (&json!(local), &json!(1))
    );
    assert_eq!((&state["key"], &state["writable"]), (&json!(key), &json!(true)));
    assert_eq!(state["writers"].as_array().unwrap().len(), 3);
    assert_eq!(state["view"]["d"], "4");

    // A stranger who writes anyway is let in.
    let mut stranger = Peer::start(&["join", &key, "--connect", &creator.address()]);
    stranger.tell("optimistic e 5");
    agreed(&mut [&mut creator, &mut joiner, &mut stranger], |dump| {
        dump["view"]["e"] == "5"
    });
}

#[test]
fn an_encrypted_database_is_shared_by_those_who_have_its_key() {
    let secret = "5e".repeat(32);
    let mut creator = Peer::start(&["create", "--encryption-key", &secret, "--listen", "127.0.0.1:0"]);
    creator.tell("put a 1");
    let (key, at) = (creator.word("key"), creator.address());
    let mut joiner = Peer::start(&["join", &key, "--encryption-key", &secret, "--connect", &at]);
    creator.tell(&format!("add {}", joiner.word("local")));
    agreed(&mut [&mut creator, &mut joiner], |dump| {
        dump["writers"].as_array().unwrap().len() == 2
    });
    joiner.tell("put b 2");
    agreed(&mut [&mut creator, &mut joiner], |dump| {
        dump["view"] == json!({ "a": "1", "b": "2" })
    });
}

/// Under safe rules who joins is told no rules, and has those of the creator; that JavaScript peers cannot is said in words.
#[test]
fn two_peers_share_a_database_with_safe_rules() {
    let mut creator = Peer::start(&["create", "--rules", "safe", "--listen", "127.0.0.1:0"]);
    assert!(creator.word("rules").contains("JavaScript peers cannot join"));
    let key = creator.word("key");
    creator.tell("put a 1");
    let mut joiner = Peer::start(&["join", &key, "--connect", &creator.address()]);
    agreed(&mut [&mut creator, &mut joiner], |dump| {
        dump["view"] == json!({ "a": "1" })
    });
    joiner.tell("optimistic b 2");
    let local = joiner.word("local");
    let dump = agreed(&mut [&mut creator, &mut joiner], |dump| {
        dump["view"] == json!({ "a": "1", "b": "2" })
    });
    assert_eq!(
        dump["order"].as_array().unwrap().len(),
        3,
        "with an acknowledgement"
    );
    assert_eq!(record(&dump, &local)["length"], 1);
    creator.tell(&format!("add {local}"));
    agreed(&mut [&mut creator, &mut joiner], |dump| {
        record(dump, &local)["maxWeight"] == 1
    });
}

#[test]
fn what_is_not_built_says_so() {
    for (words, kind) in [
        (&["create", "--rules", "kind"][..], "Invalid"),
        (&["create", "--encryption-key", "abc"], "Invalid"),
        (&["join"], "Invalid"),
    ] {
        let output = std::process::Command::new(peer::program())
            .args(words)
            .output()
            .unwrap();
        assert!(!output.status.success());
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        let wanted = (&json!("error"), &json!(kind));
        assert_eq!((&said["event"], &said["kind"]), wanted, "{said}");
    }
}
