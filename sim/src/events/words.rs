//! Lines of a trace in words.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Topic, TraceLine};

/// Virtual time in milliseconds, with microseconds behind the point.
#[must_use]
pub fn milliseconds(nanos: u64) -> String {
    format!("{}.{:03}", nanos / 1_000_000, nanos / 1_000 % 1_000)
}

/// What a line says besides its time and its replica, in a few words.
#[must_use]
pub fn said(line: &TraceLine) -> String {
    let text = |name| line.text(name).unwrap_or("?");
    let count = |name| line.count(name).unwrap_or(0);
    match line.topic() {
        Topic::Engine => deed(line),
        Topic::Disk => {
            let fault = line.text("fault").map(|fault| format!(" fault={fault}"));
            let failed = line.get("ok") == Some(&Value::Bool(false));
            format!(
                "disk {} {} at={} bytes={}{}{}",
                text("op"),
                text("file"),
                count("at"),
                count("bytes"),
                fault.unwrap_or_default(),
                if failed { " FAILED" } else { "" }
            )
        }
        Topic::Network => match &*line.event {
            "deliver" => format!(
                "gets {} bytes from {} on connection {}",
                count("bytes"),
                text("from"),
                count("conn")
            ),
            "dial" => format!("dials {}", text("to")),
            "open" => format!("is connected to {}, connection {}", text("to"), count("conn")),
            _ => fields(line),
        },
        Topic::Faults => match &*line.event {
            "note" => text("what").to_owned(),
            "crash" => format!("crash: {}", text("how")),
            "partition" | "restart" | "pause" | "resume" | "cut" | "uncut" | "reset_between"
            | "mute_between" => {
                format!("{} {}", line.event, text("who"))
            }
            _ => fields(line),
        },
        Topic::Scheduler => fields(line),
    }
}

/// What an engine did, with entries as `name@length`.
fn deed(line: &TraceLine) -> String {
    let mut words = line.deed().unwrap_or("?").replace('_', " ");
    let log = line.text("core").or_else(|| line.text("local"));
    let length = line.count("length");
    match (log, length) {
        (Some(log), Some(length)) => {
            let _ = write!(words, " {log}@{length}");
        }
        (Some(log), None) => {
            let _ = write!(words, " {log}.log");
        }
        _ => {}
    }
    for (name, value) in &line.fields {
        if !matches!(&**name, "r" | "what" | "core" | "local" | "length") {
            let _ = write!(words, " {name}={}", plain(value));
        }
    }
    words
}

/// The kind, and all fields but the replica.
fn fields(line: &TraceLine) -> String {
    let mut words = line.event.clone();
    for (name, value) in line.fields.iter().filter(|(name, _)| name != "r") {
        let _ = write!(words, " {name}={}", plain(value));
    }
    words
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// One line of columns: number, time, replica, topic, words.
#[must_use]
pub fn columns(line: &TraceLine) -> String {
    let topic = match line.topic() {
        Topic::Engine => "engine",
        Topic::Network => "net",
        Topic::Disk => "disk",
        Topic::Faults => "fault",
        Topic::Scheduler => "sched",
    };
    format!(
        "{:>7} {:>12} {:<5} {topic:<6} {}",
        line.number,
        milliseconds(line.at),
        line.replica().unwrap_or("-"),
        said(line)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_named_by_log_and_length() {
        let text =
            "{\"t\":1234567,\"e\":\"engine\",\"r\":\"r1\",\"what\":\"taken\",\"core\":\"r0\",\"length\":4}";
        let line = TraceLine::parse(1, text).unwrap();
        assert_eq!(said(&line), "taken r0@4");
        assert_eq!(columns(&line), "      1        1.234 r1    engine taken r0@4");
    }
}
