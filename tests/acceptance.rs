//! What the tests of the original assert, in our words: each item of the acceptance list (spec/autobee.md 21), at the
//! public handle, between machines in memory that speak the real protocol.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "acceptance/basic.rs"]
mod basic;
#[path = "acceptance/batch.rs"]
mod batch;
#[path = "acceptance/concurrent.rs"]
mod concurrent;
#[path = "acceptance/consistency.rs"]
mod consistency;
#[path = "acceptance/encryption.rs"]
mod encryption;
#[path = "acceptance/generated.rs"]
mod generated;
#[path = "acceptance/links.rs"]
mod links;
#[path = "acceptance/optimistic.rs"]
mod optimistic;
#[path = "acceptance/updates.rs"]
mod updates;
#[path = "acceptance/wakeup.rs"]
mod wakeup;
#[path = "acceptance/witness.rs"]
mod witness;
#[path = "acceptance/world.rs"]
mod world;
#[path = "acceptance/writers.rs"]
mod writers;
