//! Telling peers of cores that they may not know of.
//!
//! A [`Topic`] is the wakeup channels of one key with all peers; a [`Coupler`] decides what a database announces there.
//!
//! Source: spec/replication.md 10 and 11 (packages protomux-wakeup 2.9, core-coupler 2.0).

mod coupler;
mod message;
mod topic;

pub use coupler::Coupler;
pub use message::{PROTOCOL, WakeupHandshake, WakeupMessage};
pub use topic::{ANNOUNCED, Topic, TopicEvent, TopicPeer};
