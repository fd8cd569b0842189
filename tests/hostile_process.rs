//! Attacks on a database in a process of its own, over TCP: what they may cost in memory, on the disk, and in time.
//!
//! The quick forms run by default; with `AUTOBEE_ATTACKS=long` the attacks have the size and the settings that people
//! reported.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "processes of this machine, and their time"
)]
#![cfg(feature = "tokio")]

#[path = "process/attacker.rs"]
mod attacker;
#[path = "process/peer.rs"]
mod peer;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use attacker::Attacker;
use peer::Peer;
use serde_json::Value;
use tokio::runtime::Runtime;

const MIB: u64 = 1 << 20;

/// Ten thousand claims of strangers, or as many as a short test has time for: each is refused, and nothing stays of it.
#[test]
fn refused_claims_cost_little() {
    let logs = if is_long() { 313 } else { 24 };
    refused("claims", logs, 32, true);
}

#[test]
fn refused_entries_cost_little() {
    let logs = if is_long() { 64 } else { 8 };
    refused("refused", logs, 250, false);
}

fn refused(name: &str, logs: usize, blocks: u64, has_claims: bool) {
    let mut victim = Victim::start(name, &[]);
    let calm = victim.puts(30);
    let memory = victim.memory();
    let runtime = Runtime::new().unwrap();
    let attacker = runtime.block_on(async {
        let attacker = Attacker::new(&victim.key()).await;
        let backer = attacker.log("backer").await;
        attacker.write(&backer, 1, 10, None).await;
        for number in 0..logs {
            let log = attacker.log(&format!("log {number}")).await;
            let backer = has_claims.then_some(&backer);
            attacker.write(&log, blocks, 10, backer).await;
        }
        attacker.connect(&victim.address()).await;
        attacker
    });
    // While they come, and once they are all here.
    let time = if is_long() { 120 } else { 3 };
    victim.puts_for(Duration::from_secs(time), calm);
    assert!(attacker.sent() > 20_000, "{} bytes were fetched", attacker.sent());
    victim.memory_is_within(memory, 48 * MIB);
    let own = victim.is_only_writer();
    let took = victim.restart();
    assert!(took < Duration::from_secs(15), "opened again in {took:?}");
    assert_eq!(victim.is_only_writer(), own);
    drop(attacker);
}

/// Somebody who comes again and again, with as many logs as are looked at, which are others each time.
#[test]
fn logs_of_those_who_went_away_are_forgotten() {
    let (rounds, quiet, pause) = if is_long() {
        (10, "30000", 60)
    } else {
        (4, "1000", 4)
    };
    let mut victim = Victim::start("rotate", &["--stranger-quiet-ms", quiet]);
    let calm = victim.puts(30);
    let memory = victim.memory();
    let runtime = Runtime::new().unwrap();
    let mut keys = Vec::new();
    for _ in 0..rounds {
        let attacker = runtime.block_on(async {
            let attacker = Attacker::new(&victim.key()).await;
            for number in 0..64 {
                let log = attacker.log(&format!("log {number}")).await;
                attacker.write(&log, 8, 2_000, None).await;
                keys.push(log.key());
            }
            attacker.connect(&victim.address()).await;
            attacker
        });
        victim.puts_for(Duration::from_secs(pause), calm);
        attacker.leave();
    }
    victim.memory_is_within(memory, 64 * MIB);
    victim.peer.take().unwrap().quit();
    let stored = runtime.block_on(attacker::stored(&victim.dir, &keys));
    assert!(
        stored <= 64,
        "{stored} of {} logs are stored after {rounds} rounds",
        keys.len()
    );
}

/// A log that is larger than memory should be, in small blocks and in large ones.
#[test]
fn of_a_large_log_little_is_fetched() {
    let mebibytes = if is_long() { 400 } else { 48 };
    let mut victim = Victim::start("large", &[]);
    let calm = victim.puts(30);
    let memory = victim.memory();
    let runtime = Runtime::new().unwrap();
    let attacker = runtime.block_on(async {
        let attacker = Attacker::new(&victim.key()).await;
        let small = attacker.log("small").await;
        attacker
            .write(&small, mebibytes * 16, MIB as usize / 16, None)
            .await;
        let large = attacker.log("large").await;
        attacker
            .write(&large, mebibytes / 12, 12 * MIB as usize, None)
            .await;
        attacker.connect(&victim.address()).await;
        attacker
    });
    victim.puts_for(Duration::from_secs(6), calm);
    assert!(
        attacker.sent() < 4 * MIB,
        "{} bytes were fetched",
        attacker.sent()
    );
    victim.restart();
    runtime.block_on(attacker.connect(&victim.address()));
    victim.puts_for(Duration::from_secs(4), calm);
    assert!(
        attacker.sent() < 4 * MIB,
        "{} bytes were fetched after it was opened again",
        attacker.sent()
    );
    victim.memory_is_within(memory, 24 * MIB);
    let bytes = victim.disk();
    assert!(bytes < 8 * MIB, "{bytes} bytes are stored");
}

/// One that holds all slots, with a block in each now and then.
#[test]
fn an_honest_stranger_gets_its_turn() {
    let (quiet, pause) = if is_long() { (30_000, 10_000) } else { (2_000, 500) };
    let mut victim = Victim::start("slots", &["--stranger-quiet-ms", &quiet.to_string()]);
    let calm = victim.puts(30);
    let runtime = Runtime::new().unwrap();
    let attacker = runtime.block_on(async {
        let attacker = Attacker::new(&victim.key()).await;
        attacker.connect(&victim.address()).await;
        attacker
    });
    let trickle = async |attacker: &Attacker| {
        for number in 0..128 {
            let log = attacker.log(&format!("log {number}")).await;
            attacker.write(&log, 1, 10, None).await;
        }
    };
    runtime.block_on(trickle(&attacker));
    victim.puts_for(Duration::from_secs(1), calm);
    let honest = runtime.block_on(async {
        let honest = Attacker::new(&victim.key()).await;
        let log = honest.log("hello").await;
        honest.write_value(&log, r#"{"put":["hello","there"]}"#).await;
        honest.connect(&victim.address()).await;
        honest
    });
    let start = Instant::now();
    while victim.view()["hello"] != "there" {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "it is not let in within a minute"
        );
        runtime.block_on(trickle(&attacker));
        victim.puts_for(Duration::from_millis(pause), calm);
    }
    println!("let in after {:?}", start.elapsed());
    drop(honest);
}

/// Frames of 16 MiB that never come to their end.
#[test]
fn unfinished_frames_take_bounded_memory() {
    let (connections, time) = if is_long() { (60, 60) } else { (16, 4) };
    let mut victim = Victim::start("frames", &[]);
    let calm = victim.puts(30);
    let memory = victim.memory();
    let runtime = Runtime::new().unwrap();
    let mut open = runtime.block_on(async {
        let mut open = Vec::new();
        for number in 0..connections {
            open.push(attacker::unfinished(&victim.address(), number).await);
        }
        open
    });
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(time) {
        runtime.block_on(attacker::trickle(&mut open));
        victim.puts_for(Duration::from_secs(1), calm);
    }
    // 64 MiB of frames, and what grows of a buffer while it is copied.
    victim.memory_is_within(memory, 128 * MIB);
    if is_long() {
        let left = runtime.block_on(attacker::trickle(&mut open));
        assert_eq!(left, 0, "a byte a second is no rate");
    }
}

// The victim.

/// Whether the attacks have the size that was reported.
fn is_long() -> bool {
    std::env::var("AUTOBEE_ATTACKS").is_ok_and(|form| form == "long")
}

/// A creator in a process of its own.
struct Victim {
    peer: Option<Peer>,
    dir: PathBuf,
    words: Vec<String>,
    puts: u64,
}

/// How long own appends took.
#[derive(Debug, Clone, Copy)]
struct Times {
    median: Duration,
    worst: Duration,
}

impl Victim {
    fn start(name: &str, words: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("hostile-{name}-{}", std::process::id()));
        let mut all = vec![
            "create".to_owned(),
            "--listen".to_owned(),
            "127.0.0.1:0".to_owned(),
        ];
        all.extend(["--dir".to_owned(), dir.to_str().unwrap().to_owned()]);
        all.extend(words.iter().map(|word| (*word).to_owned()));
        let mut victim = Self {
            peer: None,
            dir,
            words: all,
            puts: 0,
        };
        victim.open();
        victim
    }

    fn open(&mut self) {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        self.peer = Some(Peer::start(&words));
    }

    /// Ends it, and starts it again on the same directory. Gives how long that took until it answered.
    fn restart(&mut self) -> Duration {
        self.peer.take().unwrap().quit();
        let start = Instant::now();
        self.open();
        start.elapsed()
    }

    fn peer(&mut self) -> &mut Peer {
        self.peer.as_mut().unwrap()
    }

    fn key(&self) -> String {
        self.peer.as_ref().unwrap().word("key")
    }

    fn address(&self) -> String {
        self.peer.as_ref().unwrap().address()
    }

    /// Appends so many entries, one after the other.
    fn puts(&mut self, count: u32) -> Times {
        let mut times = Vec::new();
        for _ in 0..count {
            self.puts += 1;
            let command = format!("put tick {}", self.puts);
            let start = Instant::now();
            self.peer().tell(&command);
            times.push(start.elapsed());
            std::thread::sleep(Duration::from_millis(20));
        }
        times.sort();
        Times {
            median: times[times.len() / 2],
            worst: times[times.len() - 1],
        }
    }

    /// The machine may be busy with others: the median tells.
    fn puts_cost_no_more_than(&mut self, calm: Times, count: u32) {
        let times = self.puts(count);
        println!("own appends: {times:?}, without an attack {calm:?}");
        assert!(
            times.median <= calm.median * 2 + Duration::from_millis(30),
            "own appends take {times:?}, without an attack {calm:?}"
        );
        assert!(
            times.worst < Duration::from_secs(3),
            "an own append took {:?}",
            times.worst
        );
    }

    fn puts_for(&mut self, time: Duration, calm: Times) {
        let start = Instant::now();
        while start.elapsed() < time {
            self.puts_cost_no_more_than(calm, 10);
        }
    }

    /// The most memory that it had up to now, where the system tells.
    fn memory(&self) -> Option<u64> {
        let process = self.peer.as_ref().unwrap().process.id();
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kibibytes << 10)
    }

    fn memory_is_within(&self, before: Option<u64>, more: u64) {
        match (before, self.memory()) {
            (Some(before), Some(now)) => {
                println!("memory: {} MiB, before {} MiB", now / MIB, before / MIB);
                assert!(now <= before + more, "{now} bytes of memory, before {before}");
            }
            _ => println!("skipped: nothing tells here how much memory a process has"),
        }
    }

    /// Bytes in its directory.
    fn disk(&self) -> u64 {
        let files = std::fs::read_dir(&self.dir).unwrap();
        files
            .map(|file| file.unwrap().metadata().map_or(0, |about| about.len()))
            .sum()
    }

    fn view(&mut self) -> Value {
        self.peer().dump()["view"].take()
    }

    /// The length of the order, in which there is nothing but what it wrote.
    fn is_only_writer(&mut self) -> usize {
        let dump = self.peer().dump();
        assert_eq!(
            dump["writers"].as_array().unwrap().len(),
            1,
            "{}",
            dump["writers"]
        );
        dump["order"].as_array().unwrap().len()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.peer = None;
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
