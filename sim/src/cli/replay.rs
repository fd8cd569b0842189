//! `replay`: whether a kept failure still fails, and where this build leaves the recorded run.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use autobee_sim::{Scenario, TraceSink, fails_by, failure, run_caught};
use serde_json::json;

use super::record::{FILE, FailureRecord, PLAN, RunRecord, SHRUNK, TRACE};
use super::shrink::quietly;
use super::{CliError, files, reproduce};

pub(super) fn replay(path: &Path, as_json: bool) -> Result<(), CliError> {
    let (folder, file) = choose(path)?;
    let record = FailureRecord::load(&folder)?;
    let scenario = Scenario::load(&file).map_err(|error| CliError::Usage(error.to_string()))?;
    let is_small = file.file_name().is_some_and(|name| name == SHRUNK);
    let recorded = match &record.shrunk {
        Some(shrunk) if is_small => &shrunk.run,
        _ => &record.run,
    };
    // The trace is that of the smaller scenario.
    let is_traced = is_small == record.shrunk.is_some();
    let trace = if is_traced {
        files::read(&folder.join(TRACE)).unwrap_or_default()
    } else {
        Vec::new()
    };
    let compared = TraceComparison::new(trace);
    let sink = TraceSink::Write(Box::new(compared.clone()));
    let result = quietly(|| run_caught(&scenario, record.seed, sink));
    let run = RunRecord::new(&result);
    let name = failure(&result);
    let verdict = match &name {
        None => "passes",
        Some(_) if fails_by(&result, &record.invariant) => "fails by the same",
        Some(_) => "fails by another",
    };
    let is_same_run = run.trace_hash.is_some() && run.trace_hash == recorded.trace_hash;
    let leaves = if is_same_run { None } else { compared.difference() };
    if as_json {
        println!(
            "{}",
            json!({
                "file": file.display().to_string(),
                "seed": record.seed,
                "recorded": record.invariant,
                "now": name,
                "verdict": verdict,
                "same_run": is_same_run,
                "leaves": leaves.as_ref().map(|(line, recorded, now)| json!({
                    "line": line, "recorded": recorded, "now": now,
                })),
                "violations": run.violations,
                "error": run.error,
                "commit": record.commit,
            })
        );
    } else {
        println!(
            "{} seed {}: {}",
            file.display(),
            record.seed,
            in_words(verdict, &record, name.as_deref())
        );
        for violation in &run.violations {
            println!("  {}: {}", violation.invariant, violation.what);
        }
        if let Some(error) = &run.error {
            println!("  {error}");
        }
        match leaves {
            None if is_same_run => println!("the run is the recorded one, event for event"),
            None => println!("the run is not the recorded one; there is no trace to compare it with"),
            Some((line, recorded, now)) => {
                println!("the run leaves the recorded one at line {line}:");
                println!("  recorded: {recorded}");
                println!("  now:      {now}");
            }
        }
    }
    if name.is_none() {
        return Ok(());
    }
    eprintln!("{}", reproduce(&file, record.seed));
    Err(CliError::Bad)
}

fn in_words(verdict: &str, record: &FailureRecord, now: Option<&str>) -> String {
    match now {
        None => format!("no longer fails (it failed by `{}`)", record.invariant),
        Some(now) if verdict == "fails by another" => {
            format!(
                "fails by another invariant: `{now}`, and not by `{}`",
                record.invariant
            )
        }
        Some(_) => format!("still fails by `{}`", record.invariant),
    }
}

/// The folder of a failure and the scenario in it that is meant.
fn choose(path: &Path) -> Result<(PathBuf, PathBuf), CliError> {
    let folder = if path.is_dir() {
        path.to_owned()
    } else {
        path.parent().unwrap_or_else(|| Path::new("")).to_owned()
    };
    if !folder.join(FILE).is_file() {
        return Err(CliError::Usage(format!(
            "{}: no failure is kept there (no {FILE}); `cargo sim run` runs a scenario",
            path.display()
        )));
    }
    let is_scenario = path.extension().is_some_and(|ending| ending == "toml");
    if path.is_file() && is_scenario {
        return Ok((folder, path.to_owned()));
    }
    let small = folder.join(SHRUNK);
    let file = if small.is_file() { small } else { folder.join(PLAN) };
    Ok((folder, file))
}

/// Compares a trace, while it is made, with a recorded one.
#[derive(Clone)]
struct TraceComparison(Arc<Mutex<Comparison>>);

struct Comparison {
    recorded: Vec<u8>,
    /// Where the next recorded line begins.
    at: usize,
    line: u64,
    difference: Option<(u64, String, String)>,
}

impl TraceComparison {
    fn new(recorded: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Comparison {
            recorded,
            at: 0,
            line: 0,
            difference: None,
        })))
    }

    /// The first line that differs, counted from 1: its number, as recorded, and as it is.
    fn difference(&self) -> Option<(u64, String, String)> {
        let comparison = self.lock();
        if comparison.recorded.is_empty() {
            return None;
        }
        comparison.difference.clone().or_else(|| {
            let line = comparison.next();
            let is_over = line.is_empty();
            (!is_over).then(|| (comparison.line + 1, text(line), "(the run is over)".into()))
        })
    }

    fn lock(&self) -> MutexGuard<'_, Comparison> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Comparison {
    /// The next recorded line, with its end.
    fn next(&self) -> &[u8] {
        let rest = self.recorded.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n');
        &rest[..end.map_or(rest.len(), |end| end + 1)]
    }
}

impl Write for TraceComparison {
    /// Takes one whole line at a time, as traces write them.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut comparison = self.lock();
        if comparison.difference.is_none() {
            let recorded = comparison.next();
            if recorded == line {
                comparison.at += line.len();
                comparison.line += 1;
            } else {
                let recorded = if recorded.is_empty() {
                    "(the run is over)".into()
                } else {
                    text(recorded)
                };
                comparison.difference = Some((comparison.line + 1, recorded, text(line)));
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(recorded: &str, lines: &[&str]) -> Option<(u64, String, String)> {
        let mut compared = TraceComparison::new(recorded.into());
        for line in lines {
            compared.write_all(line.as_bytes()).unwrap();
        }
        compared.difference()
    }

    #[test]
    fn the_first_line_that_differs_is_named() {
        assert_eq!(difference("a\nb\n", &["a\n", "b\n"]), None);
        let differs = |line, recorded: &str, now: &str| Some((line, recorded.into(), now.into()));
        assert_eq!(
            difference("a\nb\nc\n", &["a\n", "x\n", "c\n"]),
            differs(2, "b", "x")
        );
        assert_eq!(
            difference("a\nb\n", &["a\n"]),
            differs(2, "b", "(the run is over)")
        );
        assert_eq!(
            difference("a\n", &["a\n", "b\n"]),
            differs(2, "(the run is over)", "b")
        );
    }
}
