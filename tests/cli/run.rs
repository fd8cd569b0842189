//! Running the program, and looking at what it answers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_autobee");

/// A directory in which the program runs, removed at the end.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("autobee-cli-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// The program with these words, split at spaces.
    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(words.split(' '))
            .current_dir(&self.0)
            .env_remove("AUTOBEE_DIR")
            .env_remove("NO_COLOR")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, words: &str) -> Ran {
        Ran::of(&self.command(words).output().unwrap(), words)
    }

    /// The same with something on stdin.
    pub(crate) fn feed(&self, words: &str, input: &str) -> Ran {
        let mut command = self.command(words);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It may end before it read everything.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Ran::of(&child.wait_with_output().unwrap(), words)
    }

    /// A run that must succeed. Gives stdout.
    pub(crate) fn good(&self, words: &str) -> String {
        let ran = self.run(words);
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.out
    }

    /// A run that must succeed with one JSON object.
    pub(crate) fn json(&self, words: &str) -> Value {
        let out = self.good(&format!("{words} --json"));
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{words}: {error}: {out}"))
    }

    /// A run that must succeed with JSON objects, one a line.
    pub(crate) fn jsons(&self, words: &str) -> Vec<Value> {
        let out = self.good(&format!("{words} --json"));
        out.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// A run that must fail with this code, and with these words on stderr.
    pub(crate) fn bad(&self, words: &str, code: i32, said: &[&str]) {
        let ran = self.run(words);
        ran.is_bad(code, said);
    }

    /// Makes a database, and gives its key.
    pub(crate) fn create(&self, words: &str) -> String {
        self.json(&format!("create {words}"))["key"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Starts to serve a directory.
    pub(crate) fn serve(&self, dir: &str, more: &str) -> Serving {
        Serving::start(self.command(&format!("serve --json --dir {dir}{more}")))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    #[expect(dead_code, reason = "shown when a test fails")]
    pub(crate) words: String,
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: &Output, words: &str) -> Self {
        Self {
            words: words.to_owned(),
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub(crate) fn is_bad(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for words in said {
            assert!(self.err.contains(words), "{words:?} is not said: {self:?}");
        }
    }
}

/// A program that goes on until it is ended.
pub(crate) struct Serving {
    pub(crate) child: Child,
    output: BufReader<ChildStdout>,
    pub(crate) ready: Value,
}

impl Serving {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut serving = Self {
            child,
            output,
            ready: Value::Null,
        };
        serving.ready = serving.next();
        serving
    }

    /// The next line.
    pub(crate) fn next(&mut self) -> Value {
        let mut line = String::new();
        assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "it ended");
        serde_json::from_str(&line).unwrap()
    }

    /// The next line about this event.
    pub(crate) fn hear(&mut self, event: &str) -> Value {
        loop {
            let said = self.next();
            if said["event"] == event {
                return said;
            }
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ready["port"])
    }

    /// Ends it as Ctrl-C does, or as a system does; gives the exit code.
    pub(crate) fn end(mut self, signal: &str) -> i32 {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The files of a directory, with their bytes.
pub(crate) fn bytes_of(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}
