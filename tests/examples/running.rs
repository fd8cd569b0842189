//! A program that runs, what it is told, and what it says.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::example;

/// How long something may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// A directory for a test, removed at the end.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("autobee-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Starts an example in this directory.
    pub(crate) fn start(&self, name: &str, words: &[&str]) -> Running {
        Running::start(name, words, &self.0)
    }

    /// Runs an example that ends by itself, with this input. Gives its exit code and all lines that it said.
    pub(crate) fn run(&self, name: &str, words: &[&str], input: &str) -> (i32, Vec<String>) {
        let mut running = self.start(name, words);
        running.say(input);
        running.end()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) struct Running {
    process: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Running {
    fn start(name: &str, words: &[&str], dir: &Path) -> Self {
        static BUILT: OnceLock<PathBuf> = OnceLock::new();
        let built = BUILT.get_or_init(|| example::build(&["blobs", "chat", "embed", "index", "metrics"]));
        let mut process = Command::new(example::program(built, name))
            .args(words)
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        forward(process.stdout.take().unwrap(), sender.clone());
        forward(process.stderr.take().unwrap(), sender);
        Self {
            input: process.stdin.take(),
            process,
            lines,
            said: Vec::new(),
        }
    }

    pub(crate) fn say(&mut self, line: &str) {
        // It may have ended by now, which what it says and its exit code tell.
        let _ = writeln!(self.input.as_mut().unwrap(), "{line}");
    }

    /// The next line with this in it.
    pub(crate) fn hear(&mut self, part: &str) -> String {
        self.hear_until(part).pop().unwrap()
    }

    /// The last word of the next line with this in it.
    pub(crate) fn hear_word(&mut self, part: &str) -> String {
        let line = self.hear(part);
        line.rsplit(' ').next().unwrap().to_owned()
    }

    /// The lines up to the next one with this in it.
    pub(crate) fn hear_until(&mut self, part: &str) -> Vec<String> {
        let mut heard = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("it did not say {part:?}, but {:#?}", self.said);
            };
            self.said.push(line.clone());
            heard.push(line);
            if heard.last().is_some_and(|line| line.contains(part)) {
                return heard;
            }
        }
    }

    /// All lines up to now.
    pub(crate) fn said(&self) -> &[String] {
        &self.said
    }

    /// Ends the input, and waits for the end. Gives the exit code and all lines.
    pub(crate) fn end(mut self) -> (i32, Vec<String>) {
        self.input = None;
        self.ended()
    }

    /// Presses Ctrl-C, and waits for the end.
    #[cfg(unix)]
    pub(crate) fn interrupt(self) -> (i32, Vec<String>) {
        let id = self.process.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-INT", &id])
                .status()
                .unwrap()
                .success()
        );
        self.ended()
    }

    fn ended(mut self) -> (i32, Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.said.push(line),
                // Nobody is left who could say something.
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it did not end, and said {:#?}", self.said),
            }
        }
        let status = self.process.wait().unwrap();
        // None for a process that a signal ended.
        (status.code().unwrap_or(-1), std::mem::take(&mut self.said))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn forward(from: impl Read + Send + 'static, to: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            if line.is_ok_and(|line| to.send(line).is_ok()) {
                continue;
            }
            return;
        }
    });
}

/// One of the lines has this in it.
#[track_caller]
pub(crate) fn assert_says(lines: &[String], part: &str) {
    assert!(
        lines.iter().any(|line| line.contains(part)),
        "{part:?} is not in {lines:#?}"
    );
}

/// Waits until something is so that nobody tells.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: it is not so");
        std::thread::sleep(Duration::from_millis(10));
    }
}
