//! serve and sync with peers that are found: on a DHT of this machine that Node runs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::node;
use crate::run::Place;

#[test]
fn two_directories_find_each_other() {
    let Some(mut command) = node::command("swarm.js") else {
        return;
    };
    let mut dht = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = dht.stdin.take().unwrap();
    writeln!(input, "{}", json!({ "command": "dht" })).unwrap();
    let mut line = String::new();
    BufReader::new(dht.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let port = serde_json::from_str::<Value>(&line).unwrap()["port"].clone();

    let place = Place::new();
    let key = place.create("a");
    place.good("put from a --dir a");
    place.good(&format!("join b {key}"));
    let swarm = format!("--swarm --dht 127.0.0.1:{port}");
    let mut serving = place.serve("a", &format!(" {swarm}"));
    let synced = place.json(&format!("sync {swarm} --dir b"));
    assert_eq!(
        (&synced["caughtUp"], &synced["notTaken"]),
        (&json!(true), &json!(0))
    );
    assert!(serving.hear("connected")["peer"].is_string());
    assert_eq!(place.good("get from --dir b"), "a\n");
    assert_eq!(serving.end("-INT"), 130);
    place.bad(
        &format!("sync {swarm} --timeout 3 --dir b"),
        8,
        &["no peer was found yet"],
    );
    drop(input);
    dht.wait().unwrap();
}
