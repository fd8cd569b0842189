//! Databases that processes of ours and of the original write together, over TCP on this machine.
//!
//! The original is not to be had as a package: `AUTOBEE_JS` names a checkout of it with what it needs installed.

use std::path::PathBuf;

use autobee_sim::{Scenario, Seeds, Stream, TraceSink};
use serde_json::Value;

use crate::group::{Engine, Group};
use crate::peer::Peer;
use crate::plan::{keys, pulled_apart, unplayable};
use crate::proxy::Proxy;
use crate::{View, node};

/// Random histories; `AUTOBEE_HISTORIES` says how many.
const HISTORIES: u64 = 100;

/// The folder of the original. None, after saying so, without one.
fn original() -> Option<Engine> {
    let folder = std::env::var_os("AUTOBEE_JS");
    if folder.is_none() {
        node::skipped("AUTOBEE_JS names no checkout of Autobee");
    }
    folder.map(|folder| Engine::Original(PathBuf::from(folder)))
}

/// What one step of a history says, drawn.
fn step(stream: &mut Stream, at_ms: u64, replicas: u64) -> String {
    let who = stream.below(replicas);
    let key = stream.below(4);
    let event = |what: &str| format!("[[event]]\nat_ms = {at_ms}\n{what}\n");
    match stream.below(16) {
        0 => {
            let island: Vec<u64> = (0..replicas).filter(|_| stream.below(2) == 0).collect();
            let others: Vec<u64> = (0..replicas)
                .filter(|replica| !island.contains(replica))
                .collect();
            event(&format!("do = \"partition\"\ngroups = [{island:?}, {others:?}]"))
        }
        1 => event("do = \"heal\""),
        2 => event(&format!("do = \"crash\"\nreplica = {who}\nmode = \"kill\"")),
        3 | 4 => event(&format!("do = \"restart\"\nreplica = {who}")),
        5 => event(&format!(
            "do = \"reset\"\na = {who}\nb = {}",
            (who + 1) % replicas
        )),
        6 if who > 0 => event(&format!("do = \"remove\"\nby = 0\ntarget = {who}")),
        7 | 8 if who > 0 => {
            let weight = stream.below(4);
            event(&format!(
                "do = \"add\"\nby = 0\ntarget = {who}\nweight = {weight}"
            ))
        }
        9 => format!("[[append]]\nat_ms = {at_ms}\nreplica = {who}\nops = [{{ del = \"k{key}\" }}]\n"),
        10 => format!(
            "[[append]]\nat_ms = {at_ms}\nreplica = {who}\nops = [{{ put = [\"k{key}\", \"{at_ms}\"] }}, {{ put = [\"k9\", \"{at_ms}\"] }}]\n"
        ),
        _ => format!(
            "[[append]]\nat_ms = {at_ms}\nreplica = {who}\nops = [{{ put = [\"k{key}\", \"v{at_ms}\"] }}]\n"
        ),
    }
}

fn history(seed: u64) -> Scenario {
    let stream = &mut Seeds::new(seed).stream("history", &["steps"]);
    let replicas = stream.between(2, 4);
    let weight = stream.below(4);
    let mut text = format!("about = \"history {seed}\"\nreplicas = {replicas}\nwriter_weight = {weight}\n");
    for number in 1..=stream.between(6, 14) {
        text.push_str(&step(stream, number * 10, replicas));
    }
    Scenario::parse(&format!("history-{seed}"), &text).unwrap()
}

/// What all replicas show, and what the simulator, whose engines are all ours and are held against the model, comes to.
#[test]
fn random_histories_come_to_what_the_model_says() {
    let Some(original) = original() else { return };
    let wanted = std::env::var("AUTOBEE_HISTORIES");
    let wanted = wanted.map_or(HISTORIES, |wanted| wanted.parse().unwrap());
    let mut differ = Vec::new();
    for seed in 0..wanted {
        let scenario = pulled_apart(&history(seed), seed);
        assert_eq!(unplayable(&scenario), None);
        let engines = match seed % 3 {
            0 => vec![Engine::Ours, original.clone()],
            1 => vec![original.clone(), Engine::Ours],
            _ => vec![original.clone(), Engine::Ours, Engine::Ours],
        };
        let report = autobee_sim::run(&scenario, seed, TraceSink::Discard).unwrap();
        assert!(report.converged, "{seed}: {:?}", report.violations);
        let keys = keys(&scenario);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let simulated = report.states[0].view.iter();
        let simulated: View = simulated
            .map(|(key, value)| (text(key), text(value)))
            .filter(|(key, _)| keys.contains(key))
            .collect();
        let mut played = Group::play(&scenario, &engines);
        played.retain(|key, _| keys.contains(key));
        if played != simulated {
            differ.push((seed, played, simulated));
        }
    }
    assert!(differ.is_empty(), "{differ:#?}");
}

/// Two processes, of which the second one dials the first.
struct Two {
    peers: Vec<Peer>,
    engines: [Engine; 2],
    more: Vec<String>,
    key: String,
    way: Proxy,
    dir: PathBuf,
}

impl Two {
    fn new(name: &str, engines: [&Engine; 2], more: &[&str]) -> Self {
        let mut two = Self {
            peers: Vec::new(),
            engines: engines.map(Clone::clone),
            more: more.iter().map(ToString::to_string).collect(),
            key: String::new(),
            way: Proxy::new(),
            dir: std::env::temp_dir().join(format!("autobee-live-{name}-{}", std::process::id())),
        };
        let first = two.start(0);
        two.key = first.word("key");
        two.way.leads_to(Some(first.address()));
        let second = two.start(1);
        two.peers = vec![first, second];
        two
    }

    fn start(&self, at: usize) -> Peer {
        let dir = self.dir.join(at.to_string());
        let mut words = match self.key.as_str() {
            "" => vec!["create"],
            key => vec!["join", key],
        };
        words.extend(["--dir", dir.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
        if at == 1 {
            words.extend(["--connect", &self.way.address]);
        }
        words.extend(self.more.iter().map(String::as_str));
        self.engines[at].start(&words)
    }

    fn part(&self) {
        self.way.cut(true);
    }

    /// The second one ends, and comes back when the way is open.
    fn restart_second(&mut self) {
        self.peers.pop().unwrap().quit();
        let second = self.start(1);
        self.peers.push(second);
        self.way.cut(false);
    }

    fn restart_first(&mut self) {
        self.peers.remove(0).quit();
        let first = self.start(0);
        self.way.leads_to(Some(first.address()));
        self.peers.insert(0, first);
    }

    fn locals(&self) -> [String; 2] {
        [&self.peers[0], &self.peers[1]].map(|peer| peer.word("local"))
    }

    /// Waits until both show the same, and it is as wanted.
    fn until(&mut self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let mut shown = [Value::Null, Value::Null];
        for _ in 0..600 {
            shown = [0, 1].map(|at| self.peers[at].dump());
            // Of what the original went over it does not tell the order.
            if shown
                .iter()
                .any(|shown| shown["order"].to_string().contains("null"))
            {
                for shown in &mut shown {
                    shown["order"] = Value::Null;
                }
            }
            if shown[0] == shown[1] && is_wanted(&shown[0]) {
                let [first, _] = shown;
                return first;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{:#} and {:#}", shown[0], shown[1]);
    }

    fn member(&mut self, weight: u64) {
        let [_, second] = self.locals();
        self.peers[0].tell(&format!("add {second} {weight}"));
        let is_writable = |peer: &mut Peer| {
            peer.say("state");
            peer.hear("state")["writable"] == true
        };
        while !is_writable(&mut self.peers[1]) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn end(self) {
        for peer in self.peers {
            peer.quit();
        }
        let _ = std::fs::remove_dir_all(self.dir);
    }
}

/// Each with the other in both places.
fn pairs() -> Vec<(&'static str, [Engine; 2])> {
    let Some(original) = original() else {
        return Vec::new();
    };
    vec![
        ("ours creates", [Engine::Ours, original.clone()]),
        ("the original creates", [original, Engine::Ours]),
    ]
}

/// A stranger of the original is announced when it connects, and not when it writes later: so it does that first.
#[test]
fn a_stranger_is_let_in_by_what_it_says() {
    for (name, [first, second]) in pairs() {
        let mut two = Two::new("optimistic", [&first, &second], &[]);
        two.peers[0].tell("put a 1");
        two.until(|shown| shown["view"]["a"] == "1");
        two.peers[1].tell("optimistic b 2");
        two.restart_second();
        let shown = two.until(|shown| shown["view"]["b"] == "2");
        assert_eq!(shown["view"]["a"], "1", "{name}");
        // It has a record by now, and writes like anybody.
        two.peers[1].tell("put b 3");
        two.until(|shown| shown["view"]["b"] == "3");
        two.end();
    }
}

/// Ours goes on in another log. (What the original appends behind its own `setLocal` reaches nobody, also among its own.)
#[test]
fn a_writer_that_goes_on_in_another_log_is_followed() {
    for (_, engines) in pairs() {
        let mut two = Two::new("rotate", [&engines[0], &engines[1]], &[]);
        let ours = usize::from(matches!(engines[1], Engine::Ours));
        two.member(1);
        two.peers[ours].tell("put b 1");
        two.until(|shown| shown["view"]["b"] == "1");
        two.peers[ours].say("rotate");
        let rotated = two.peers[ours].hear("rotated")["local"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_ne!(rotated, two.locals()[ours]);
        two.peers[1 - ours].tell(&format!("add {rotated} 1"));
        two.until(|shown| shown["writers"].to_string().contains(&rotated));
        two.peers[ours].tell("put b 2");
        two.until(|shown| shown["view"]["b"] == "2");
        two.end();
    }
}

/// More than the 32 entries from which on a head is worth going forward to.
const ENTRIES: usize = 300;

#[test]
fn a_newcomer_goes_forward_onto_trees_of_the_other() {
    for (name, [first, second]) in pairs() {
        let mut two = Two::new("forward", [&first, &second], &["--ff", "on"]);
        two.part();
        for number in 0..ENTRIES {
            two.peers[0].tell(&format!("put k{} {number}", number % 7));
        }
        two.restart_second();
        let shown = two.until(|shown| shown["view"]["k5"] == "299");
        assert_eq!(shown["view"]["k1"], "295", "{name}");
        two.peers[1].say("stats");
        let stats = two.peers[1].hear("stats");
        assert_eq!(stats["fastForwards"], 1, "{name}: {stats}");
        two.member(1);
        two.peers[1].tell("put b 1");
        two.until(|shown| shown["view"]["b"] == "1");
        two.end();
    }
}

/// Either side ends and comes back, and is cut off while it writes.
#[test]
fn either_side_is_restarted() {
    for (name, [first, second]) in pairs() {
        let mut two = Two::new("restart", [&first, &second], &[]);
        two.member(2);
        two.peers[1].tell("put b 1");
        two.until(|shown| shown["view"]["b"] == "1");
        two.part();
        two.peers[0].tell("put a 1");
        two.peers[0].tell("put both 1");
        two.restart_second();
        let shown = two.until(|shown| shown["view"]["a"] == "1");
        assert_eq!(shown["view"]["both"], "1", "{name}");
        two.restart_first();
        two.peers[0].tell("put a 2");
        two.peers[1].tell("put b 2");
        two.until(|shown| shown["view"]["a"] == "2" && shown["view"]["b"] == "2");
        two.end();
    }
}

#[test]
fn both_write_what_the_other_decrypts() {
    for (name, [first, second]) in pairs() {
        if std::env::var_os("AUTOBEE_JS_CLEAR").is_some() {
            node::skipped("AUTOBEE_JS_CLEAR says that the checkout is without `autobee-encryption`");
            return;
        }
        let mut two = Two::new(
            "encrypted",
            [&first, &second],
            &["--encryption-key", &"07".repeat(32)],
        );
        two.member(1);
        two.peers[0].tell("put a 1");
        two.peers[1].tell("put b 2");
        let shown = two.until(|shown| shown["view"]["a"] == "1" && shown["view"]["b"] == "2");
        assert_eq!(shown["view"].as_object().unwrap().len(), 2, "{name}");
        two.end();
    }
}
