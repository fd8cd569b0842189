//! What the tests of the original assert, in our words: each item of the acceptance list (spec/autobee.md 21), at the
//! public handle, between machines in memory that speak the real protocol. Each test names its item.
//!
//! "Converge" there is `World::exchange` here: whoever meets has, when they part, the same listing of the view, the
//! same order with the same weights, and the same records.
//!
//! Elsewhere: a signed claim above every grant (105), in `tests/database/attestations/database.rs`.
//!
//! Not here, because there is no such thing here yet:
//!
//! * a local writer from a given key pair (2); rotation of the local writer (124, 125);
//! * fast-forward, boot heads and trust (50 to 62, 99);
//! * `getWriterViews` (123); the stored time of the last drain (101).
//!
//! Not here, because it cannot be said here: an encryption key that is a promise of nothing, and what follows (40, 41);
//! a session of an oplog that a failed read leaves open (44).
//!
//! Different here: sessions of writers that are caught up (127) or removed (129) stay open. Those tests assert what is
//! true here. (98) counts the cores of a connection, not couplers; (42) has a `flush` in the place of a boot.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "acceptance/basic.rs"]
mod basic;
#[path = "acceptance/batch.rs"]
mod batch;
#[path = "acceptance/close.rs"]
mod close;
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
mod support;
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
