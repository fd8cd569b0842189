//! What the network tells the trace.

use crate::replica::ReplicaId;
use crate::trace::Trace;

/// One thing that happened on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    /// `from` began to dial.
    Dial {
        dial: u64,
        from: ReplicaId,
        to: ReplicaId,
        port: u16,
    },
    /// A dial ended without a stream.
    DialFailed {
        dial: u64,
        from: ReplicaId,
        timed_out: bool,
    },
    /// The dialler has its stream.
    Open {
        dial: u64,
        connection: u64,
        from: ReplicaId,
        to: ReplicaId,
    },
    /// The stream waits to be accepted.
    Arrive { connection: u64, at: ReplicaId },
    /// Bytes became readable.
    Deliver {
        connection: u64,
        from: ReplicaId,
        to: ReplicaId,
        bytes: usize,
        hash: u64,
        corrupt: bool,
    },
    /// The end of file became readable.
    Fin {
        connection: u64,
        from: ReplicaId,
        to: ReplicaId,
    },
    /// A reset arrived.
    Reset { connection: u64, at: ReplicaId },
    /// What is due waits for a heal or for power.
    Held {
        connection: u64,
        from: ReplicaId,
        to: ReplicaId,
    },
    /// An end was closed by its owner.
    Close { connection: u64, at: ReplicaId },
}

impl Note {
    /// Writes the line of this note.
    pub(crate) fn write<'a>(self, now: u64, trace: &mut Trace, name: impl Fn(ReplicaId) -> &'a str) {
        match self {
            Self::Dial { dial, from, to, port } => {
                trace
                    .event(now, "dial")
                    .text("r", name(from))
                    .number("dial", dial)
                    .text("to", name(to))
                    .number("port", u64::from(port));
            }
            Self::DialFailed {
                dial,
                from,
                timed_out,
            } => {
                let event = if timed_out { "dial_timeout" } else { "dial_refused" };
                trace.event(now, event).text("r", name(from)).number("dial", dial);
            }
            Self::Open {
                dial,
                connection,
                from,
                to,
            } => {
                trace
                    .event(now, "open")
                    .text("r", name(from))
                    .number("dial", dial)
                    .number("conn", connection)
                    .text("to", name(to));
            }
            Self::Arrive { connection, at } => {
                trace
                    .event(now, "arrive")
                    .text("r", name(at))
                    .number("conn", connection);
            }
            Self::Deliver {
                connection,
                from,
                to,
                bytes,
                hash,
                corrupt,
            } => {
                let line = trace
                    .event(now, "deliver")
                    .text("r", name(to))
                    .text("from", name(from))
                    .number("conn", connection)
                    .number("bytes", bytes as u64)
                    .number("hash", hash);
                if corrupt {
                    line.flag("corrupt", true);
                }
            }
            Self::Fin { connection, from, to } => {
                trace
                    .event(now, "fin")
                    .text("r", name(to))
                    .text("from", name(from))
                    .number("conn", connection);
            }
            Self::Reset { connection, at } => {
                trace
                    .event(now, "reset")
                    .text("r", name(at))
                    .number("conn", connection);
            }
            Self::Held { connection, from, to } => {
                trace
                    .event(now, "held")
                    .text("r", name(to))
                    .text("from", name(from))
                    .number("conn", connection);
            }
            Self::Close { connection, at } => {
                trace
                    .event(now, "close")
                    .text("r", name(at))
                    .number("conn", connection);
            }
        }
    }
}

/// A fingerprint of `bytes` for the trace: fast, not cryptographic.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = (bytes.len() as u64).wrapping_mul(PRIME);
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    for word in words.iter().chain(std::iter::once(&last)) {
        hash = (hash ^ u64::from_le_bytes(*word))
            .wrapping_mul(PRIME)
            .rotate_left(29);
    }
    hash ^ (hash >> 32)
}
