//! Replicas that are processes, and what befalls them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use autobee_sim::Scenario;
use autobee_sim::scenario::{Action, Append};
use serde_json::Value;

use crate::View;
use crate::peer::Peer;
use crate::proxy::Proxy;

/// How long all that are connected may take to agree.
const PATIENCE: Duration = Duration::from_secs(120);

/// So long nobody may have anything to add: acknowledgements come by then.
const QUIET: Duration = Duration::from_millis(200);

const POLL: Duration = Duration::from_millis(40);

/// What a replica runs.
#[derive(Debug, Clone)]
pub(crate) enum Engine {
    /// `examples/db_peer.rs`.
    Ours,
    /// `tests/interop/autobee.js`, with the original in this folder.
    Original(PathBuf),
}

impl Engine {
    pub(crate) fn start(&self, words: &[&str]) -> Peer {
        match self {
            Self::Ours => Peer::start(words),
            Self::Original(folder) => {
                let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/autobee.js");
                Peer::start_as(
                    Command::new("node")
                        .arg(script)
                        .args(words)
                        .env("AUTOBEE_JS", folder),
                )
            }
        }
    }
}

pub(crate) struct Group<'a> {
    scenario: &'a Scenario,
    /// One for each replica, from the start again when there are more of those.
    engines: &'a [Engine],
    key: String,
    /// Those that run.
    peers: BTreeMap<usize, Peer>,
    /// Of each that ever ran.
    locals: BTreeMap<usize, String>,
    /// From the one with the lower number to the other.
    ways: BTreeMap<(usize, usize), Proxy>,
    islands: Option<Vec<Vec<usize>>>,
    dir: PathBuf,
}

impl<'a> Group<'a> {
    /// Plays a scenario. Gives the view that all agree on in the end.
    pub(crate) fn play(scenario: &'a Scenario, engines: &'a [Engine]) -> View {
        let mut group = Self::start(scenario, engines);
        let mut steps: Vec<(u64, Result<&Action, &Append>)> = Vec::new();
        steps.extend(
            scenario
                .event
                .iter()
                .map(|event| (event.at_ms, Ok(&event.action))),
        );
        steps.extend(scenario.append.iter().map(|append| (append.at_ms, Err(append))));
        steps.sort_by_key(|(at_ms, _)| *at_ms);
        for (_, step) in steps {
            match step {
                Ok(action) => group.act(action),
                Err(append) => group.append(append),
            }
            group.settle();
        }
        group.act(&Action::Heal);
        for replica in 0..scenario.replicas {
            if group.locals.contains_key(&replica) && !group.peers.contains_key(&replica) {
                group.run(replica);
            }
        }
        let dump = group.settle();
        let entries = dump["view"].as_object().unwrap().iter();
        let view = entries.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()));
        let view = view.collect();
        group.end();
        view
    }

    fn start(scenario: &'a Scenario, engines: &'a [Engine]) -> Self {
        let name = format!("autobee-native-{}-{}", scenario.name, std::process::id());
        let mut group = Self {
            scenario,
            engines,
            key: String::new(),
            peers: BTreeMap::new(),
            locals: BTreeMap::new(),
            ways: BTreeMap::new(),
            islands: None,
            dir: std::env::temp_dir().join(name),
        };
        for low in 0..scenario.replicas {
            for high in low + 1..scenario.replicas {
                if scenario.connects(low, high) {
                    group.ways.insert((low, high), Proxy::new());
                }
            }
        }
        let joins = |replica: usize| {
            let mut events = scenario.event.iter();
            events.any(|event| matches!(event.action, Action::Join { replica: late } if late == replica))
        };
        for replica in (0..scenario.replicas).filter(|replica| !joins(*replica)) {
            group.run(replica);
        }
        for writer in scenario.writers().into_iter().filter(|writer| *writer != 0) {
            // Who joins later is added by an event.
            if let Some(local) = group.locals.get(&writer).cloned() {
                let weight = scenario.writer_weight;
                group.peer(0).tell(&format!("add {local} {weight}"));
            }
        }
        group.settle();
        group
    }

    fn peer(&mut self, replica: usize) -> &mut Peer {
        self.peers.get_mut(&replica).unwrap()
    }

    /// Starts the process of a replica, on what is in its directory.
    fn run(&mut self, replica: usize) {
        let dir = self.dir.join(format!("r{replica}"));
        let rules = if self.scenario.safe { "safe" } else { "interop" };
        let secret = "07".repeat(32);
        let mut words: Vec<&str> = match self.key.as_str() {
            "" => vec!["create"],
            key => vec!["join", key],
        };
        words.extend([
            "--dir",
            dir.to_str().unwrap(),
            "--listen",
            "127.0.0.1:0",
            "--rules",
            rules,
        ]);
        if self.scenario.encrypted {
            words.extend(["--encryption-key", &secret]);
        }
        for ((low, _), way) in &self.ways {
            if *low == replica {
                words.extend(["--connect", &way.address]);
            }
        }
        let peer = self.engines[replica % self.engines.len()].start(&words);
        for ((_, high), way) in &self.ways {
            if *high == replica {
                way.leads_to(Some(peer.address()));
            }
        }
        if self.key.is_empty() {
            self.key = peer.word("key");
        }
        self.locals.insert(replica, peer.word("local"));
        self.peers.insert(replica, peer);
    }

    fn stopped(&mut self, replica: usize) -> Option<Peer> {
        for ((_, high), way) in &self.ways {
            if *high == replica {
                way.leads_to(None);
            }
        }
        self.peers.remove(&replica)
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Partition { groups } => self.part(Some(groups.clone())),
            Action::Heal => self.part(None),
            Action::Reset { a, b } => {
                if let Some(way) = self.ways.get(&(*a.min(b), *a.max(b))) {
                    way.reset();
                }
            }
            Action::Join { replica } | Action::Restart { replica } => {
                if !self.peers.contains_key(replica) {
                    self.run(*replica);
                }
            }
            // Dropped, a process gets the signal that it cannot see.
            Action::Crash { replica, .. } => drop(self.stopped(*replica)),
            Action::Reopen { replica, .. } => {
                if let Some(peer) = self.stopped(*replica) {
                    peer.quit();
                    self.run(*replica);
                }
            }
            Action::Add { by, target, weight } => self.member(*by, *target, &format!("add {{}} {weight}")),
            Action::Remove { by, target } => self.member(*by, *target, "remove {}"),
            other => panic!("no process can play {other:?}"),
        }
    }

    fn part(&mut self, islands: Option<Vec<Vec<usize>>>) {
        self.islands = islands;
        for ((low, high), way) in &self.ways {
            way.cut(!self.reach(*low, *high));
        }
    }

    /// No partition is between them.
    fn reach(&self, a: usize, b: usize) -> bool {
        self.islands.as_ref().is_none_or(|islands| {
            islands
                .iter()
                .any(|island| island.contains(&a) && island.contains(&b))
        })
    }

    fn member(&mut self, by: usize, target: usize, command: &str) {
        let Some(local) = self.locals.get(&target).cloned() else {
            return;
        };
        if self.is_writable(by) {
            self.peer(by).tell(&command.replace("{}", &local));
        }
    }

    fn is_writable(&mut self, replica: usize) -> bool {
        let Some(peer) = self.peers.get_mut(&replica) else {
            return false;
        };
        peer.say("state");
        peer.hear("state")["writable"] == true
    }

    fn append(&mut self, append: &Append) {
        if !self.is_writable(append.replica) {
            return;
        }
        let puts: Option<Vec<String>> = append
            .ops
            .iter()
            .map(|op| op.put.as_ref().filter(|_| op.del.is_none()))
            .map(|put| put.map(|(key, value)| format!("{key} {value}")))
            .collect();
        let peer = self.peer(append.replica);
        match puts {
            Some(puts) if puts.len() > 1 => peer.tell(&format!("batch {}", puts.join(" "))),
            _ => {
                for op in &append.ops {
                    // One that does both leaves nothing under its key.
                    match (&op.del, &op.put) {
                        (Some(key), _) => peer.tell(&format!("del {key}")),
                        (_, Some((key, value))) => peer.tell(&format!("put {key} {value}")),
                        _ => panic!("no process can append {op:?}"),
                    }
                }
            }
        }
    }

    /// Waits until all that reach each other agree and have no more to add. Gives what the first of them shows.
    fn settle(&mut self) -> Value {
        let started = Instant::now();
        let mut quiet_since = Instant::now();
        let mut before = Value::Null;
        loop {
            let shown: BTreeMap<usize, Value> = self
                .peers
                .iter_mut()
                .map(|(replica, peer)| (*replica, peer.dump()))
                .collect();
            let agree = self.ways.keys().all(|(low, high)| {
                let both = shown.get(low).zip(shown.get(high));
                !self.reach(*low, *high) || both.is_none_or(|(low, high)| low == high)
            });
            let now: Value = shown.values().cloned().collect();
            if !agree || now != before {
                quiet_since = Instant::now();
                before = now;
            } else if quiet_since.elapsed() >= QUIET {
                return shown.into_values().next().unwrap_or_default();
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{}: no agreement: {before:#}",
                self.scenario.name
            );
            std::thread::sleep(POLL);
        }
    }

    fn end(mut self) {
        for (_, peer) in std::mem::take(&mut self.peers) {
            peer.quit();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
