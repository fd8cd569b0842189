//! What happened, as JSON lines, and a rolling hash over exactly these bytes.
//!
//! Two runs are equal when their hashes are: every line bears the virtual time, and lines hold integers and texts only,
//! in a fixed order.

mod disk;
mod engine;
mod line;

use std::fmt;
use std::io::Write;

use autobee::crypto::Hash;
use blake2::{Blake2b256, Digest as _};

pub(crate) use disk::write_disk_event;
pub(crate) use engine::{CoreNames, write_engine_event};
pub use line::Line;

/// Where the lines go, besides into the hash.
#[derive(Default)]
pub enum TraceSink {
    /// Nowhere.
    #[default]
    Discard,
    /// Into memory: see [`Trace::collected`].
    Collect(Vec<u8>),
    /// Into a writer, a line at a time.
    Write(Box<dyn Write + Send>),
}

/// The trace of one run.
#[derive(Debug)]
pub struct Trace {
    hasher: Blake2b256,
    line: Vec<u8>,
    events: u64,
    sink: TraceSink,
    error: Option<std::io::Error>,
}

impl Trace {
    /// An empty trace.
    #[must_use]
    pub fn new(sink: TraceSink) -> Self {
        Self {
            hasher: Blake2b256::new(),
            line: Vec::with_capacity(256),
            events: 0,
            sink,
            error: None,
        }
    }

    /// Starts a line: at `now` (virtual nanoseconds), `event` happened. It counts when the [`Line`] is dropped.
    pub fn event(&mut self, now: u64, event: &'static str) -> Line<'_> {
        Line::start(self, now, event)
    }

    /// Number of lines so far.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// BLAKE2b-256 of all lines so far.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::new(self.hasher.clone().finalize().into())
    }

    /// The bytes of all lines, for [`TraceSink::Collect`]; otherwise empty.
    #[must_use]
    pub fn collected(&self) -> &[u8] {
        match &self.sink {
            TraceSink::Collect(bytes) => bytes,
            TraceSink::Discard | TraceSink::Write(_) => &[],
        }
    }

    /// Flushes the writer, and gives the first error that writing met.
    pub fn finish(&mut self) -> std::io::Result<()> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        match &mut self.sink {
            TraceSink::Write(writer) => writer.flush(),
            TraceSink::Discard | TraceSink::Collect(_) => Ok(()),
        }
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.line
    }

    fn end_line(&mut self) {
        self.hasher.update(&self.line);
        self.events += 1;
        match &mut self.sink {
            TraceSink::Discard => {}
            TraceSink::Collect(bytes) => bytes.extend_from_slice(&self.line),
            TraceSink::Write(writer) => {
                if self.error.is_none()
                    && let Err(error) = writer.write_all(&self.line)
                {
                    self.error = Some(error);
                }
            }
        }
        self.line.clear();
    }
}

impl fmt::Debug for TraceSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discard => "Discard",
            Self::Collect(_) => "Collect",
            Self::Write(_) => "Write",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_over_the_bytes() {
        let mut trace = Trace::new(TraceSink::Collect(Vec::new()));
        trace
            .event(0, "dial")
            .text("r", "a")
            .number("to", 7)
            .signed("skew", -3)
            .flag("cut", true);
        trace
            .event(u64::MAX, "quote \u{1}")
            .text("text", "a\"b\\c\n\u{e9}");
        assert_eq!(
            std::str::from_utf8(trace.collected()).unwrap(),
            "{\"t\":0,\"e\":\"dial\",\"r\":\"a\",\"to\":7,\"skew\":-3,\"cut\":true}\n\
             {\"t\":18446744073709551615,\"e\":\"quote \\u0001\",\"text\":\"a\\\"b\\\\c\\n\u{e9}\"}\n"
        );
        let expected: [u8; 32] = Blake2b256::digest(trace.collected()).into();
        assert_eq!(trace.hash(), Hash::new(expected));
        assert_eq!(trace.events(), 2);
        for line in trace
            .collected()
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            serde_json::from_slice::<serde_json::Value>(line).unwrap();
        }
    }

    #[test]
    fn a_failing_writer_shows_at_the_end() {
        let mut trace = Trace::new(TraceSink::Write(Box::new(std::io::Cursor::new([0_u8; 4]))));
        drop(trace.event(1, "x"));
        drop(trace.event(2, "y"));
        assert_eq!(trace.events(), 2);
        assert!(trace.finish().is_err());
        assert!(trace.finish().is_ok());
    }
}
