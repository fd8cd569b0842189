//! Traces, read back: one [`TraceLine`] for each line, and what can be told of them in words.
//!
//! What is shown of a run (an explanation, a difference, a report, another format) is made of these lines alone, so that it
//! can also be made of a file that another process wrote.

mod causal;
mod format;
mod words;

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use thiserror::Error;

pub use causal::{Clocks, cone};
pub use format::{Format, SHIVIZ_PARSER, write};
pub use words::{columns, milliseconds, said};

/// One line of a trace.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceLine {
    /// Which line it is, from 1.
    pub number: u64,
    /// Virtual time, in nanoseconds.
    pub at: u64,
    /// What kind of thing happened.
    pub event: String,
    /// The other fields, in the order of the line.
    pub fields: Vec<(String, Value)>,
}

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// What an engine did.
    Engine,
    /// Connections and what they carried.
    Network,
    /// Calls to disks.
    Disk,
    /// What the scenario let happen, and what was forced.
    Faults,
    /// What the scheduler does.
    Scheduler,
}

/// A line that is none of a trace.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {number} is no line of a trace: {why}")]
pub struct TraceError {
    /// Which line, from 1.
    pub number: u64,
    /// What is wrong with it.
    pub why: String,
}

impl TraceLine {
    /// Reads a line of JSON.
    ///
    /// # Errors
    ///
    /// When it is no object, or has no time or no kind.
    pub fn parse(number: u64, line: &str) -> Result<Self, TraceError> {
        let wrong = |why: String| TraceError { number, why };
        let EventFields(mut fields) = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        let mut take = |name: &str| {
            let position = fields.iter().position(|(field, _)| field == name);
            position.map(|position| fields.remove(position).1)
        };
        let at = take("t").and_then(|at| at.as_u64());
        let event = take("e").and_then(|event| event.as_str().map(ToOwned::to_owned));
        Ok(Self {
            number,
            at: at.ok_or_else(|| wrong("no time `t`".into()))?,
            event: event.ok_or_else(|| wrong("no kind `e`".into()))?,
            fields,
        })
    }

    /// A field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        let mut fields = self.fields.iter();
        fields.find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// A field that is a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// A field that is a number.
    #[must_use]
    pub fn count(&self, name: &str) -> Option<u64> {
        self.get(name)?.as_u64()
    }

    /// The replica at which it happened.
    #[must_use]
    pub fn replica(&self) -> Option<&str> {
        self.text("r")
    }

    /// What an engine did, by its name; none for other lines.
    #[must_use]
    pub fn deed(&self) -> Option<&str> {
        self.text("what").filter(|_| self.event == "engine")
    }

    /// What it is about.
    #[must_use]
    pub fn topic(&self) -> Topic {
        match &*self.event {
            "engine" => Topic::Engine,
            "disk" => Topic::Disk,
            "dial" | "dial_refused" | "dial_timeout" | "open" | "arrive" | "deliver" | "held" | "fin"
            | "reset" | "close" => Topic::Network,
            "timer" | "poll" => Topic::Scheduler,
            _ => Topic::Faults,
        }
    }
}

impl fmt::Display for TraceLine {
    /// The line as it stands in the trace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{\"t\":{},\"e\":{}", self.at, Value::from(&*self.event))?;
        for (name, value) in &self.fields {
            write!(f, ",{}:{value}", Value::from(&**name))?;
        }
        f.write_str("}")
    }
}

/// Reads a whole trace. A last line that was torn is left out.
///
/// # Errors
///
/// When another line is none of a trace.
pub fn read(text: &str) -> Result<Vec<TraceLine>, TraceError> {
    let mut lines = Vec::new();
    let count = text.lines().count();
    for (position, line) in text.lines().enumerate() {
        match TraceLine::parse(position as u64 + 1, line) {
            Ok(line) => lines.push(line),
            Err(_) if position + 1 == count && !text.ends_with('\n') => {}
            Err(error) => return Err(error),
        }
    }
    Ok(lines)
}

/// The fields of an object in their order.
struct EventFields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for EventFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = EventFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EventFields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(EventFields(fields))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_as_they_were() {
        let text = "{\"t\":12,\"e\":\"deliver\",\"r\":\"r1\",\"from\":\"r0\",\"conn\":3,\"bytes\":9,\"hash\":18446744073709551615}";
        let line = TraceLine::parse(7, text).unwrap();
        assert_eq!(line.to_string(), text);
        assert_eq!((line.number, line.at, line.replica()), (7, 12, Some("r1")));
        assert_eq!(line.topic(), Topic::Network);
    }

    #[test]
    fn a_torn_end_is_left_out_and_other_damage_is_named() {
        let good = "{\"t\":1,\"e\":\"timer\"}\n";
        assert_eq!(read(&format!("{good}{{\"t\":2,")).unwrap().len(), 1);
        let error = read(&format!("{good}nonsense\n{good}")).unwrap_err();
        assert_eq!(error.number, 2);
        assert_eq!(read("{\"e\":\"timer\"}\n").unwrap_err().why, "no time `t`");
    }
}
