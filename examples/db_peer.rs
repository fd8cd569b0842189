//! A peer of a database over TCP: with itself, or with any other implementation.
//!
//! ```text
//! db_peer create --dir a --listen 127.0.0.1:0            prints the key and the port
//! db_peer join KEY --dir b --connect 127.0.0.1:PORT      prints the key of its own writer
//! ```
//!
//! What it creates has the rules of the original, so that peers in JavaScript can join it; with `--rules safe` they cannot: they
//! would ignore the rules, and silently diverge.
//!
//! Lines on stdin are commands:
//!
//! ```text
//! put K V                  sets a key; V is the rest of the line
//! del K                    takes a key out
//! batch K V [K V]...       sets keys with one batch of entries; no V has spaces
//! optimistic K V           as put, also by who is no member: peers whose apply takes it let this one in (under safe rules: hear it)
//! add WRITERKEY [WEIGHT]   lets a writer write, with a ceiling for its weight (1)
//! remove WRITERKEY         takes that back
//! rotate [KEY]             goes on in another log: a new one, or one that was the local writer's before
//! ff on|off                whether it goes on from the trees of any member that is far ahead (off)
//! state                    prints the view, the keys, and how long the logs are
//! stats                    prints how much was applied, undone, and passed over
//! dump                     prints the view, the order and the records of the writers
//! quit                     ends, as the end of stdin does
//! ```
//!
//! Every line on stdout is one JSON object with an `event`. Entries are JSON too, so that any other implementation can
//! apply them: `{"put":[key,value]}`, `{"del":key}`, `{"addWriter":hex,"weight":n}`, `{"removeWriter":hex}`. The store lies in `--dir`, or in
//! a directory that is removed at the end. A lost connection is dialled again.

#![expect(clippy::print_stdout, reason = "lines on stdout are what this program is for")]
#![expect(clippy::disallowed_methods, reason = "a program for this machine")]

// The program `autobee` and this one apply the same.
#[path = "../src/bin/autobee/entries.rs"]
mod entries;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use autobee::db::{AllMembers, FastForward};
use autobee::env::Entropy as _;
use autobee::env::native::NativeEntropy;
use autobee::{
    Autobee, ConnectError, CoreKey, Corestore, ErrorKind, KeptConnection, ListenState, Listening,
    LocalWriter, NativeAutobee, NativeEnv, RetrySettings, Rules, Settings,
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use entries::JsonEntries;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;
type Database = NativeAutobee;

const USAGE: &str = "db_peer create | join KEY, with [--dir DIR] [--listen ADDR] [--connect ADDR]... \
                     [--rules interop|safe] [--encryption-key HEX] [--ff on|off] [--stranger-quiet-ms MS]";

/// How long a lost peer is left alone before it is dialled again.
fn retry() -> RetrySettings {
    RetrySettings::with(|settings| (settings.pause_ms_min, settings.pause_ms_max) = (100, 5_000))
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Options::read(std::env::args().skip(1)) {
        Ok(options) => start(options).await,
        Err(error) => Err(error),
    };
    if let Err(error) = done {
        say(&failed(error.as_ref()));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// What is printed of an error.
fn failed(error: &(dyn Error + Send + Sync + 'static)) -> Value {
    let kind = match error.downcast_ref::<Unsupported>() {
        Some(_) => "Unsupported".to_owned(),
        None => match error.downcast_ref::<autobee::Error>() {
            Some(error) => format!("{:?}", error.kind()),
            None => "Invalid".to_owned(),
        },
    };
    json!({ "event": "error", "kind": kind, "message": error.to_string() })
}

async fn start(options: Options) -> Result<()> {
    let (dir, is_temporary) = match &options.dir {
        Some(dir) => (dir.clone(), false),
        None => (std::env::temp_dir().join(unique_name()), true),
    };
    let done = run(&options, dir.clone()).await;
    if is_temporary {
        // What the system cleans up in the end anyway.
        let _ = std::fs::remove_dir_all(dir);
    }
    done
}

async fn run(options: &Options, dir: PathBuf) -> Result<()> {
    let env = NativeEnv::new(dir)?;
    let rules = if options.is_safe {
        Rules::safe()
    } else {
        Rules::interop()
    };
    let store = Corestore::open_default(env).await?;
    let mut builder = Autobee::builder(store).apply(JsonEntries).rules(rules);
    builder = builder.fast_forward(forward(options.goes_forward));
    if let Some(key) = options.key {
        builder = builder.key(key);
    }
    if let Some(secret) = options.encryption_key {
        builder = builder.encryption_key(secret);
    }
    if let Some(stranger_quiet_ms) = options.stranger_quiet_ms {
        builder = builder.settings(Settings::with(|settings| {
            settings.stranger_quiet_ms = stranger_quiet_ms;
        }));
    }
    let database = builder.open().await?;
    let port = match &options.listen {
        Some(at) => {
            let listening = database.listen_with(at, retry()).await?;
            let port: u16 = listening
                .local_addr()
                .as_str()
                .rsplit(':')
                .next()
                .unwrap_or_default()
                .parse()?;
            tokio::spawn(tell_of_accepted(listening));
            Some(port)
        }
        None => None,
    };
    say(&json!({
        "event": "ready",
        "key": hex(&database.key()),
        "local": hex(&database.local()),
        "port": port,
        "writable": database.writable(),
        // None as long as a database that is joined has not said it. Safe ones are not for JavaScript peers, which is said in words.
        "rules": database.rules().map(|rules| rules.to_string()),
    }));
    for to in &options.connect {
        tokio::spawn(tell_of_kept(database.keep_connected_with(to, retry())?));
    }
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match obey(&database, line.trim()).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => say(&failed(error.as_ref())),
        }
    }
    database.close().await?;
    Ok(())
}

/// Says what happens at an address at which peers are accepted, until the database is closed.
async fn tell_of_accepted(mut listening: Listening) {
    let mut told = ListenState::default();
    while listening.changed().await {
        let state = listening.state();
        if state.last_error != told.last_error {
            say(&json!({ "event": "not-accepted", "reason": state.last_error }));
        }
        if let Some(session) = state.last.clone().filter(|_| state.accepted != told.accepted) {
            say(&json!({ "event": "connected" }));
            tokio::spawn(async move {
                say(&json!({ "event": "disconnected", "reason": session.ended().await.to_string() }));
            });
        }
        told = state;
    }
}

/// Says what becomes of a peer that is kept connected, until the database is closed.
async fn tell_of_kept(mut kept: KeptConnection) {
    let mut was_connected = false;
    while kept.changed().await {
        let state = kept.state();
        if state.is_connected() && !was_connected {
            say(&json!({ "event": "connected" }));
        }
        if let (true, Some(ConnectError::Ended { reason, .. })) = (was_connected, &state.last_error) {
            say(&json!({ "event": "disconnected", "reason": reason.to_string() }));
        }
        was_connected = state.is_connected();
    }
}

/// Does what a line says. False when it says to end.
async fn obey(database: &Database, line: &str) -> Result<bool> {
    let mut words = line.splitn(3, ' ');
    let (command, first, second) = (words.next().unwrap_or_default(), words.next(), words.next());
    let entry = match (command, first) {
        ("", _) => return Ok(true),
        ("quit", _) => return Ok(false),
        ("dump", _) => {
            say(&dump(database).await?);
            return Ok(true);
        }
        ("state", _) => {
            say(&state(database).await?);
            return Ok(true);
        }
        ("stats", _) => {
            let stats = database.stats();
            say(&json!({
                "event": "stats",
                "applies": stats.applies,
                "undos": stats.undos,
                "fastForwards": stats.fast_forwards,
            }));
            return Ok(true);
        }
        ("rotate", key) => {
            let local = match key {
                Some(key) => database.set_local(key.parse::<CoreKey>()?).await?,
                None => database.set_local(LocalWriter::New).await?,
            };
            say(&json!({ "event": "rotated", "local": hex(&local), "writable": database.writable() }));
            return Ok(true);
        }
        ("ff", Some(word @ ("on" | "off"))) => {
            database.set_fast_forward(forward(word == "on")).await?;
            return Ok(true);
        }
        ("batch", Some(_)) => {
            let words: Vec<&str> = line.split_whitespace().skip(1).collect();
            if !words.len().is_multiple_of(2) {
                return Err("a batch has a value for each key".into());
            }
            let pairs = words.chunks_exact(2);
            let entries = pairs.map(|pair| json!({ "put": pair }).to_string().into());
            let length = database.append_batch(entries.collect()).await?;
            say(&json!({ "event": "appended", "length": length.0 }));
            return Ok(true);
        }
        ("optimistic", Some(key)) => {
            let entry = json!({ "put": [key, second.unwrap_or_default()] });
            let length = database.append_optimistic(entry.to_string()).await?;
            say(&json!({ "event": "appended", "length": length.0 }));
            return Ok(true);
        }
        ("put", Some(key)) => json!({ "put": [key, second.unwrap_or_default()] }),
        ("del", Some(key)) => json!({ "del": key }),
        ("add", Some(writer)) => {
            let writer = hex(&writer.parse::<CoreKey>()?);
            match second {
                Some(weight) => json!({ "addWriter": writer, "weight": weight.parse::<u64>()? }),
                None => json!({ "addWriter": writer }),
            }
        }
        ("remove", Some(writer)) => json!({ "removeWriter": hex(&writer.parse::<CoreKey>()?) }),
        _ => return Err(format!("unknown command: {line}").into()),
    };
    let length = database.append(entry.to_string()).await?;
    say(&json!({ "event": "appended", "length": length.0 }));
    Ok(true)
}

/// From whose trees it goes on.
fn forward(is_on: bool) -> FastForward {
    if is_on {
        FastForward::trusting(AllMembers).liberal()
    } else {
        FastForward::off()
    }
}

/// The state of the database, in words that every implementation shares.
async fn dump(database: &Database) -> Result<Value> {
    database.update().await?;
    let entries = database.view().all().await?;
    let view: BTreeMap<String, String> = entries
        .iter()
        .map(|(key, value)| (text(key), text(value)))
        .collect();
    let order: Vec<Value> = match database.order() {
        Ok(order) => order
            .iter()
            .map(|entry| json!([hex(&entry.key), entry.length.0]))
            .collect(),
        // It went over them: what they were stands in trees that are not here as a whole.
        Err(error) if error.kind() == ErrorKind::Unavailable => vec![Value::Null],
        Err(error) => return Err(error.into()),
    };
    let writers: Vec<Value> = database
        .writers()
        .iter()
        .map(|writer| {
            json!({
                "key": hex(&writer.key),
                "length": writer.length.0,
                "weight": writer.weight.0,
                "maxWeight": writer.max_weight.0,
                "isRemoved": writer.is_removed,
            })
        })
        .collect();
    Ok(json!({ "event": "dump", "view": view, "order": order, "writers": writers }))
}

/// What the database is, in the words of the original's peer.
async fn state(database: &Database) -> Result<Value> {
    database.update().await?;
    let entries = database.view().all().await?;
    let view: BTreeMap<String, String> = entries
        .iter()
        .map(|(key, value)| (text(key), text(value)))
        .collect();
    let status = database.status();
    let length_of = |key: &CoreKey| {
        let progress = status.writers.iter().find(|writer| writer.key == *key);
        progress.map_or(0, |writer| writer.length.0)
    };
    let members = database.writers();
    let members = members
        .iter()
        .filter(|writer| !writer.is_removed && !writer.is_anchor);
    let writers: Vec<Value> = members
        .map(|writer| json!({ "key": hex(&writer.key), "length": length_of(&writer.key) }))
        .collect();
    Ok(json!({
        "event": "state",
        "key": hex(&database.key()),
        "discoveryKey": database.discovery_key().to_string(),
        "local": hex(&database.local()),
        "localLength": length_of(&database.local()),
        "writable": database.writable(),
        "writers": writers,
        "view": view,
    }))
}

/// Prints a line, whole, whoever else prints.
fn say(line: &Value) {
    println!("{line}");
}

fn hex(key: &CoreKey) -> String {
    key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 32 bytes in hex.
fn secret(word: &str) -> Result<[u8; 32]> {
    // Two spellings of keys are read; this has one.
    let key = word.parse::<CoreKey>().ok().filter(|_| word.len() == 64);
    let key = key.ok_or("an encryption key has 64 hexadecimal digits")?;
    Ok(*key.as_bytes())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn unique_name() -> String {
    let random: [u8; 8] = NativeEntropy.array();
    let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("db-peer-{name}")
}

/// What this program is asked for and cannot do yet.
#[derive(Debug)]
struct Unsupported(&'static str);

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Unsupported: {}", self.0)
    }
}

impl Error for Unsupported {}

/// What was said on the command line.
#[derive(Default)]
struct Options {
    /// The database to join; none to create one, or to open the one of the directory.
    key: Option<CoreKey>,
    encryption_key: Option<[u8; 32]>,
    /// A database that is made has safe rules, so that JavaScript peers cannot join.
    is_safe: bool,
    /// It goes on from the trees of any member that is far ahead, from the start.
    goes_forward: bool,
    dir: Option<PathBuf>,
    listen: Option<String>,
    connect: Vec<String>,
    /// How long a stranger may say nothing before it makes room for another one.
    stranger_quiet_ms: Option<u64>,
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        match words.next().as_deref() {
            Some("create") => {}
            Some("join") => options.key = Some(words.next().ok_or(USAGE)?.parse()?),
            _ => return Err(USAGE.into()),
        }
        while let Some(name) = words.next() {
            let value = words.next().ok_or(USAGE)?;
            match name.as_str() {
                "--listen" => options.listen = Some(value),
                "--connect" => options.connect.push(value),
                "--ff" if value == "on" => options.goes_forward = true,
                "--ff" if value == "off" => options.goes_forward = false,
                "--dir" => options.dir = Some(value.into()),
                "--rules" if value == "interop" => options.is_safe = false,
                "--rules" if value == "safe" => options.is_safe = true,
                "--stranger-quiet-ms" => options.stranger_quiet_ms = Some(value.parse()?),
                "--encryption-key" => options.encryption_key = Some(secret(&value)?),
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }
}
