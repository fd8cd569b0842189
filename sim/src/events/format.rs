//! Traces in formats that other programs read.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::{Clocks, Topic, TraceLine, columns, said};

/// How a trace is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One line of columns for each event, for terminals.
    Columns,
    /// JSON lines, as the run made them.
    Json,
    /// Trace events of Chrome, which Perfetto opens.
    Perfetto,
    /// A log of vector clocks for ShiViz, to be parsed by [`SHIVIZ_PARSER`].
    Shiviz,
}

/// The regular expression with which ShiViz reads a log of ours.
pub const SHIVIZ_PARSER: &str = r"(?<host>\S+) (?<clock>{.*})\n(?<event>.*)";

/// Writes lines in a format. `latency` is the least time of a path, in nanoseconds.
///
/// # Errors
///
/// What the writer says.
pub fn write(out: &mut dyn Write, lines: &[TraceLine], format: Format, latency: u64) -> io::Result<()> {
    match format {
        Format::Columns => lines
            .iter()
            .try_for_each(|line| writeln!(out, "{}", columns(line))),
        Format::Json => lines.iter().try_for_each(|line| writeln!(out, "{line}")),
        Format::Perfetto => perfetto(out, lines),
        Format::Shiviz => shiviz(out, lines, latency),
    }
}

fn shiviz(out: &mut dyn Write, lines: &[TraceLine], latency: u64) -> io::Result<()> {
    let clocks = Clocks::new(lines, latency);
    for (position, line) in lines.iter().enumerate() {
        let (Some(name), Some(clock)) = (line.replica(), clocks.of(position)) else {
            continue;
        };
        let clock: Vec<String> = clock
            .iter()
            .map(|(name, count)| format!("\"{name}\":{count}"))
            .collect();
        let words = said(line).replace('\n', " ");
        writeln!(out, "{name} {{{}}}\n{words}", clock.join(", "))?;
    }
    Ok(())
}

/// A process for each replica, and one for what concerns all; threads for topics; arrows for bytes that arrive.
fn perfetto(out: &mut dyn Write, lines: &[TraceLine]) -> io::Result<()> {
    let mut names: Vec<&str> = lines.iter().filter_map(TraceLine::replica).collect();
    names.sort_unstable();
    names.dedup();
    let process = |name: Option<&str>| {
        let position = names.iter().position(|known| Some(*known) == name);
        position.map_or(0, |position| position + 1)
    };
    writeln!(out, "{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
    let meta = |number: usize, name: &str| json!({ "ph": "M", "name": "process_name", "pid": number, "tid": 0, "args": { "name": name } });
    write!(out, "{}", meta(0, "world"))?;
    for (number, name) in names.iter().enumerate() {
        write!(out, ",\n{}", meta(number + 1, name))?;
    }
    let mut downs: BTreeMap<usize, u64> = BTreeMap::new();
    let mut split: Option<(u64, String)> = None;
    let end = lines.last().map_or(0, |line| line.at);
    let slice = |number: usize, name: &str, from: u64, to: u64| {
        json!({
            "ph": "X", "name": name, "cat": "faults", "pid": number, "tid": 3,
            "ts": micros(from), "dur": micros(to.saturating_sub(from)),
        })
    };
    for line in lines {
        let number = process(line.replica());
        match &*line.event {
            "timer" | "poll" => continue,
            "crash" => {
                downs.insert(number, line.at);
            }
            "restart" => {
                for who in line.text("who").unwrap_or_default().split(',') {
                    if let Some(since) = downs.remove(&process(Some(who))) {
                        write!(out, ",\n{}", slice(process(Some(who)), "down", since, line.at))?;
                    }
                }
            }
            "partition" | "heal" => {
                if let Some((since, who)) = split.take() {
                    write!(
                        out,
                        ",\n{}",
                        slice(0, &format!("partition {who}"), since, line.at)
                    )?;
                }
                if line.event == "partition" {
                    split = Some((line.at, line.text("who").unwrap_or_default().to_owned()));
                }
            }
            "deliver" => {
                // Both ends of the arrow stand where the bytes arrive: the trace does not say when they were sent.
                let from = process(line.text("from"));
                for (phase, of) in [("s", from), ("f", number)] {
                    let arrow = json!({
                        "ph": phase, "bp": "e", "name": "bytes", "cat": "network", "id": line.number,
                        "pid": of, "tid": 2, "ts": micros(line.at),
                    });
                    write!(out, ",\n{arrow}")?;
                }
            }
            _ => {}
        }
        let thread = match line.topic() {
            Topic::Engine => 1,
            Topic::Network => 2,
            Topic::Faults => 3,
            Topic::Disk => 4,
            Topic::Scheduler => 5,
        };
        let args: serde_json::Map<String, Value> = line.fields.iter().cloned().collect();
        let event = json!({
            "ph": "X", "dur": 1, "name": said(line), "cat": line.event, "pid": number, "tid": thread,
            "ts": micros(line.at), "args": args,
        });
        write!(out, ",\n{event}")?;
        if line.deed() == Some("drained") {
            let count = json!({
                "ph": "C", "name": "batches in the order", "pid": number, "tid": 0, "ts": micros(line.at),
                "args": { "batches": line.count("batches") },
            });
            write!(out, ",\n{count}")?;
        }
    }
    for (number, since) in downs {
        write!(out, ",\n{}", slice(number, "down", since, end))?;
    }
    if let Some((since, who)) = split {
        write!(out, ",\n{}", slice(0, &format!("partition {who}"), since, end))?;
    }
    writeln!(out, "\n]}}")
}

/// Trace events count microseconds.
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format) -> String {
        let text = "{\"t\":0,\"e\":\"partition\",\"who\":\"a,b\"}
{\"t\":1000,\"e\":\"engine\",\"r\":\"a\",\"what\":\"appended\",\"core\":\"a\",\"length\":1,\"values\":1}
{\"t\":2000,\"e\":\"deliver\",\"r\":\"b\",\"from\":\"a\",\"conn\":1,\"bytes\":2,\"hash\":3}
{\"t\":3000,\"e\":\"crash\",\"r\":\"b\",\"how\":\"kill\",\"incarnation\":1}
{\"t\":4000,\"e\":\"timer\",\"r\":\"a\"}
";
        let lines = super::super::read(text).unwrap();
        let mut out = Vec::new();
        write(&mut out, &lines, format, 500).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn perfetto_gets_processes_arrows_and_slices() {
        let value: Value = serde_json::from_str(&written(Format::Perfetto)).unwrap();
        let events = value["traceEvents"].as_array().unwrap();
        let of = |phase: &str| events.iter().filter(|event| event["ph"] == phase).count();
        assert_eq!((of("M"), of("s"), of("f")), (3, 1, 1));
        let slices: Vec<&str> = events
            .iter()
            .filter(|event| event["ph"] == "X")
            .filter_map(|event| event["name"].as_str())
            .collect();
        assert!(
            slices.contains(&"down") && slices.contains(&"partition a,b"),
            "{slices:?}"
        );
    }

    #[test]
    fn shiviz_gets_clocks() {
        let expected = "a {\"a\":1}\nappended a@1 values=1\nb {\"a\":1, \"b\":1}\ngets 2 bytes from a on connection 1\n\
                        b {\"a\":1, \"b\":2}\ncrash: kill\n";
        assert_eq!(written(Format::Shiviz), expected);
    }

    #[test]
    fn json_is_what_was_read_and_columns_are_lines() {
        assert_eq!(written(Format::Json).lines().count(), 5);
        assert_eq!(written(Format::Columns).lines().count(), 5);
    }
}
