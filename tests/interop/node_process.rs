//! A script of this folder that runs in Node, and is told what to do by a JSON object a line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::Value;

use crate::node;

/// The process, which ends when this is dropped.
pub(crate) struct NodeProcess {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl NodeProcess {
    /// Starts a script. None, after saying why, when this machine cannot.
    pub(crate) fn start(script: &str) -> Option<Self> {
        let mut command = node::command(script)?;
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Some(Self {
            input: process.stdin.take(),
            output: BufReader::new(process.stdout.take().unwrap()),
            process,
        })
    }

    /// Has it do something, while our side goes on.
    #[track_caller]
    pub(crate) fn ask(&mut self, command: &Value) -> Value {
        let answer = tokio::task::block_in_place(|| {
            writeln!(self.input.as_mut().unwrap(), "{command}").unwrap();
            let mut line = String::new();
            self.output.read_line(&mut line).unwrap();
            serde_json::from_str::<Value>(&line).unwrap_or_default()
        });
        assert!(
            answer.is_object() && answer["error"].is_null(),
            "{command}: {answer}"
        );
        answer
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        drop(self.input.take());
        if std::thread::panicking() {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}
