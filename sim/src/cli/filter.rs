//! Traces of which only some lines are written.

use std::io::{self, Write};

use clap::ValueEnum;

/// What a line of a trace is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LineTopic {
    /// What the engines did.
    Engine,
    /// Connections and what they carried.
    Network,
    /// Calls to disks.
    Disk,
    /// What the scenario let happen, and what was forced.
    Faults,
}

/// Passes the lines of these topics on.
pub(super) struct Filter<W> {
    topics: Vec<LineTopic>,
    out: W,
}

impl<W: Write> Filter<W> {
    pub(super) const fn new(topics: Vec<LineTopic>, out: W) -> Self {
        Self { topics, out }
    }
}

impl<W: Write> Write for Filter<W> {
    /// Takes one whole line at a time, as traces write them.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if topic(line).is_some_and(|topic| self.topics.contains(&topic)) {
            self.out.write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The topic of a line; none for what the scheduler does.
fn topic(line: &[u8]) -> Option<LineTopic> {
    const EVENT: &[u8] = b"\"e\":\"";
    let start = line.windows(EVENT.len()).position(|window| window == EVENT)? + EVENT.len();
    let event = line[start..].split(|byte| *byte == b'"').next()?;
    match event {
        b"engine" => Some(LineTopic::Engine),
        b"disk" => Some(LineTopic::Disk),
        b"dial" | b"open" | b"arrive" | b"deliver" | b"held" | b"fin" | b"reset" | b"close" | b"refused" => {
            Some(LineTopic::Network)
        }
        b"timer" | b"poll" => None,
        _ => Some(LineTopic::Faults),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_other_topics_are_dropped() {
        let lines = [
            "{\"t\":0,\"e\":\"note\",\"what\":\"scenario\"}\n",
            "{\"t\":1,\"e\":\"disk\",\"r\":\"r0\"}\n",
            "{\"t\":2,\"e\":\"engine\",\"what\":\"\\\"e\\\":\\\"disk\\\"\"}\n",
            "{\"t\":3,\"e\":\"timer\"}\n",
            "{\"t\":4,\"e\":\"deliver\"}\n",
        ];
        let kept = |topics: &[LineTopic]| {
            let mut filter = Filter::new(topics.to_vec(), Vec::new());
            for line in lines {
                filter.write_all(line.as_bytes()).unwrap();
            }
            String::from_utf8(filter.out).unwrap()
        };
        assert_eq!(kept(&[LineTopic::Engine]), lines[2]);
        assert_eq!(
            kept(&[LineTopic::Disk, LineTopic::Network]),
            [lines[1], lines[4]].concat()
        );
        assert_eq!(kept(&[LineTopic::Faults]), lines[0]);
        assert_eq!(kept(&[]), "");
    }
}
