//! The example `db_peer` as a process of its own.

#[path = "example.rs"]
mod example;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

pub(crate) struct Peer {
    pub(crate) process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub(crate) ready: Value,
}

impl Peer {
    pub(crate) fn start(words: &[&str]) -> Self {
        Self::start_as(Command::new(program()).args(words))
    }

    /// Starts another program that knows the same words.
    pub(crate) fn start_as(command: &mut Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut peer = Self {
            input: process.stdin.take().unwrap(),
            output: BufReader::new(process.stdout.take().unwrap()),
            process,
            ready: Value::Null,
        };
        peer.ready = peer.hear("ready");
        peer
    }

    pub(crate) fn word(&self, field: &str) -> String {
        self.ready[field].as_str().unwrap().to_owned()
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ready["port"])
    }

    /// The next line about this event. Errors fail the test.
    pub(crate) fn hear(&mut self, event: &str) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the peer ended");
            let said: Value = serde_json::from_str(&line).unwrap();
            assert_ne!(said["event"], "error", "{said}");
            if said["event"] == event {
                return said;
            }
        }
    }

    pub(crate) fn say(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }

    pub(crate) fn tell(&mut self, command: &str) {
        self.say(command);
        self.hear("appended");
    }

    pub(crate) fn dump(&mut self) -> Value {
        self.say("dump");
        self.hear("dump")
    }

    pub(crate) fn quit(mut self) {
        self.say("quit");
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The example, built as this test was.
pub(crate) fn program() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| example::build(&["db_peer"]));
    example::program(built, "db_peer")
}
