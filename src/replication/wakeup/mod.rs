//! Telling peers of cores that they may not know of.
//!
//! Source: spec/replication.md 10 and 11 (packages protomux-wakeup 2.9, core-coupler 2.0).

mod message;

pub use message::{Handshake, Message, PROTOCOL};
