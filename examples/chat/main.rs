//! A chat room that several people write to, each in a process of their own, over TCP.
//!
//! It shows how somebody is let in by a member, how a program follows the view as it grows, and what it has to say when the
//! order changes: lines that were written while two were apart go where everybody has them, which may be before lines that
//! were shown already.
//!
//! ```text
//! cargo run --example chat -- DIR NAME [--join KEY] [--listen ADDRESS] [--connect ADDRESS]...
//! ```
//!
//! The first one makes the room in a directory; others join by its key, in directories of their own. Whoever is in types
//! `/add KEY` to let somebody write. Without `--join`, a directory that has a room opens it again.
//!
//! What Ada sees; keys are cut here. Bob was away when both wrote, so his line comes late, and goes before hers:
//!
//! ```text
//! * the room is e39b9b64..
//! * others are welcome at 127.0.0.1:4977
//! /add fbc3c596..
//! * fbc3c596 may write now
//!    1 bob: hello
//! welcome
//!    2 ada: welcome
//! anyone?
//!    3 ada: anyone?
//! +  3 bob: on the train  (goes before "ada: anyone?")
//!    5 bob: there now
//! ```

#![expect(
    clippy::disallowed_methods,
    reason = "a program for this machine, with a thread for what is typed and tasks of its own"
)]

mod room;
#[path = "../support/terminal.rs"]
mod terminal;

use std::pin::pin;
use std::process::ExitCode;

use autobee::{
    Autobee, CoreKey, Corestore, ErrorKind, Event, KeptConnection, NativeAutobee, NativeEnv, Outcome, Range,
};

use room::{COUNT, LINES, Line, NAMES, Op, Room, count, short, told, writer_key};
use terminal::{complain, say, typed};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "usage: chat DIR NAME [--join KEY] [--listen ADDRESS] [--connect ADDRESS]...";

const HELP: &str =
    "* a line is said; /add KEY lets somebody write, /log shows the room, /who its people, /quit leaves";

/// Lines of before that are shown at the start.
const SHOWN: u64 = 20;

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            complain("chat", &format!("{error}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain("chat", &error.to_string());
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<()> {
    let store = Corestore::open_default(NativeEnv::new(&options.dir)?).await?;
    // Nobody is heard whom no member has added.
    let mut builder = Autobee::builder(store).apply(Room).optimistic(false);
    if let Some(key) = options.key {
        builder = builder.key(key);
    }
    let room = builder.open().await?;
    let done = stay(&room, options).await;
    room.close().await?;
    done
}

/// Runs the room until the input ends, `/quit`, or Ctrl-C.
async fn stay(room: &NativeAutobee, options: &Options) -> Result<()> {
    say(format!("* the room is {}", room.key()));
    // Both before anybody is connected, so that no line is shown twice or not at all.
    let mut changes = room.watch(Range::prefix("line"));
    let mut events = room.events();
    let mut lines = show_last(room).await?;

    let _listening = match &options.listen {
        Some(address) => {
            let listening = room.listen(address).await?;
            say(format!("* others are welcome at {}", listening.local_addr()));
            Some(listening)
        }
        None => None,
    };
    for address in &options.connect {
        tokio::spawn(tell_of(room.keep_connected(address)?));
    }
    if room.writable() {
        enter(room, &options.name).await?;
    } else {
        say(format!(
            "* you may read; to let you write, somebody who is in types: /add {}",
            room.local()
        ));
    }

    let mut typed = typed();
    // One for the whole time: what is pressed while something else is done is not lost.
    let mut stop = pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            biased;
            stopped = &mut stop => return Ok(stopped?),
            line = typed.recv() => match line {
                Some(line) => if !obey(room, line.trim_end()).await? { return Ok(()) },
                None => return Ok(()),
            },
            event = changes.next() => told(&event?.changes, &mut lines).iter().for_each(say),
            event = events.next() => match event? {
                Event::Writable => {
                    say("* you may write now");
                    enter(room, &options.name).await?;
                }
                Event::Unwritable => say("* you may not write any more"),
                Event::Writer(key) if key != room.local() => say(format!("* {} may write now", name(room, &key).await?)),
                // An own entry may be refused when it is written, or later, when another one turns out to come first.
                Event::Outcome { outcome: Outcome::Rejected(why), .. } => say(format!("* not taken: {why}")),
                Event::Interrupt { reason } => return Err(reason.into()),
                Event::Error { what } => say(format!("* {what}")),
                _ => {}
            }
        }
    }
}

/// Takes the name that was asked for, unless it is the own one already.
async fn enter(room: &NativeAutobee, name: &str) -> Result<()> {
    let known = room.view().get(&writer_key(&room.local())).await?;
    if known.as_deref() != Some(name.as_bytes()) {
        room.append(Op::Name(name.to_owned()).to_text()).await?;
    }
    Ok(())
}

/// Does what was typed. False when it says to leave.
async fn obey(room: &NativeAutobee, line: &str) -> Result<bool> {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    let op = match command {
        "" => return Ok(true),
        "/quit" => return Ok(false),
        "/log" => {
            show_all(room).await?;
            return Ok(true);
        }
        "/who" => {
            show_names(room).await?;
            return Ok(true);
        }
        "/add" => match rest.trim().parse::<CoreKey>() {
            Ok(key) => Op::Add(key),
            Err(error) => {
                say(format!("* /add is followed by the key of somebody: {error}"));
                return Ok(true);
            }
        },
        _ if command.starts_with('/') => {
            say(HELP);
            return Ok(true);
        }
        _ => Op::Say(line.to_owned()),
    };
    let text = op.to_text();
    // What apply would refuse does not have to stay in the log for good.
    if let Err(why) = Op::parse(&text) {
        say(format!("* {why}"));
        return Ok(true);
    }
    match room.append(text).await {
        Err(error) if error.kind() == ErrorKind::Denied => say(format!("* not said: {error}")),
        done => _ = done?,
    }
    Ok(true)
}

/// Shows the end of the room. Gives how many lines it has.
async fn show_last(room: &NativeAutobee) -> Result<u64> {
    let view = room.view();
    let last = view.entries(Range::prefix(LINES).reverse().limit(SHOWN)).await?;
    last.iter().rev().for_each(|(key, value)| show(key, value));
    Ok(count(view.get(COUNT).await?.as_deref()))
}

async fn show_all(room: &NativeAutobee) -> Result<()> {
    let view = room.view();
    let mut lines = view.stream(Range::prefix(LINES));
    while let Some((key, value)) = lines.next().await? {
        show(&key, &value);
    }
    say(format!("* {} lines", count(view.get(COUNT).await?.as_deref())));
    Ok(())
}

fn show(key: &[u8], value: &[u8]) {
    if let Some(line) = Line::read(key, value) {
        say(format!("{:>4} {}", line.number, line.text));
    }
}

async fn show_names(room: &NativeAutobee) -> Result<()> {
    for (key, writer) in room.view().entries(Range::prefix(NAMES)).await? {
        let name = String::from_utf8_lossy(&key[NAMES.len()..]).into_owned();
        say(format!("* {name} is {}", String::from_utf8_lossy(&writer)));
    }
    Ok(())
}

async fn name(room: &NativeAutobee, writer: &CoreKey) -> Result<String> {
    let name = room.view().get(&writer_key(writer)).await?;
    Ok(name.map_or_else(
        || short(writer),
        |name| String::from_utf8_lossy(&name).into_owned(),
    ))
}

/// Says what becomes of a peer that is dialled, until the room is closed.
async fn tell_of(mut peer: KeptConnection) {
    let mut told = String::new();
    loop {
        let state = peer.state();
        let now = match (state.session, state.last_error) {
            (Some(_), _) => format!("* connected with {}", peer.address()),
            (None, Some(error)) => format!("* {error}; trying again"),
            (None, None) => String::new(),
        };
        if now != told && !now.is_empty() {
            say(&now);
            told = now;
        }
        if !peer.changed().await {
            return;
        }
    }
}

/// What was said on the command line.
#[derive(Default)]
struct Options {
    dir: String,
    name: String,
    key: Option<CoreKey>,
    listen: Option<String>,
    connect: Vec<String>,
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        let mut places = Vec::new();
        while let Some(word) = words.next() {
            if !word.starts_with("--") {
                places.push(word);
                continue;
            }
            let value = words
                .next()
                .ok_or_else(|| format!("{word} is followed by something"))?;
            match word.as_str() {
                "--join" => {
                    let key = value.parse::<CoreKey>();
                    options.key = Some(key.map_err(|error| format!("--join: {error}"))?);
                }
                "--listen" => options.listen = Some(value),
                "--connect" => options.connect.push(value),
                _ => return Err(format!("there is no {word}").into()),
            }
        }
        [options.dir, options.name] = places
            .try_into()
            .map_err(|_| "a directory and a name are needed")?;
        Op::parse(&Op::Name(options.name.clone()).to_text())?;
        Ok(options)
    }
}
