//! Replication with peers of the JavaScript stack: sans-IO machines, bytes and messages in, bytes and events out.
//!
//! From the socket up: [`noise`] agrees on keys, [`secretstream`] seals messages, [`frame`] cuts the byte stream,
//! [`stream`] joins the three into one encrypted stream, [`mux`] puts channels on it, and [`connection`] adds keep alives
//! and timeouts. Above a connection stand one [`replicator`] for each core, which speaks the messages of [`message`] with
//! all peers of that core, and one topic of [`wakeup`] for each database.
//!
//! Source: spec/replication.md, which describes the packages secret-stream 6.9, protomux 3.12, hypercore 11.37 and
//! protomux-wakeup 2.9. Nothing of this reads a clock, a socket or a random number: they come in as values, from
//! [`session`], which runs the machines on the streams of a world.

pub mod capability;
pub mod connection;
pub mod core;
pub mod frame;
pub mod have;
pub mod message;
pub mod mux;
pub mod noise;
pub mod replicator;
pub mod secretstream;
pub mod session;
pub mod settings;
pub mod stream;
pub mod wakeup;

/// Which side of the encrypted stream this is. It decides nothing but who speaks first in the handshake, and which
/// capabilities the two sides prove: once the stream is up both sides are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Sends the first message of the handshake; the dialling side by habit.
    Initiator,
    /// Answers it.
    Responder,
}

impl Role {
    /// The role of the other side.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }

    /// True for the initiator.
    #[must_use]
    pub const fn is_initiator(self) -> bool {
        matches!(self, Self::Initiator)
    }
}
