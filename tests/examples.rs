//! The programs of `examples`: run as processes, and what their apply functions promise held against the faults of the
//! simulator. `board` and `notes`, which are packages, have their own tests, and the peers are run by the tests that need them. `swarm`
//! needs the feature `hyperswarm`, and is compiled only.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "processes of this machine, their files and their time; a test fails by panicking"
)]

#[path = "examples/blobs.rs"]
mod blobs;
#[path = "examples/chat.rs"]
mod chat;
#[path = "examples/embed.rs"]
mod embed;
#[path = "process/example.rs"]
mod example;
#[path = "examples/index.rs"]
mod index;
#[path = "examples/running.rs"]
mod running;
