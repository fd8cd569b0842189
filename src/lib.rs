//! Autobee: a multi-writer, peer-to-peer key-value database.
//!
//! Every peer appends to its own signed log (a Hypercore). An `apply` function that the user supplies merges all
//! logs, deterministically, into one B-tree view (a Hyperbee) that is the same at every peer.
//!
//! The engine is written once against the traits of [`mod@env`] and runs in two worlds: production (tokio, files,
//! sockets) and a seeded simulator (package `autobee-sim`).
//!
//! Arrows between modules point down only:
//!
//! ```text
//! db -> engine -> apply -> (bee | replication) -> hypercore -> store -> env
//!                                                   wire, crypto (import nothing of ours)
//! ```

pub mod apply;
pub mod bee;
pub mod crypto;
pub mod db;
pub mod engine;
pub mod env;
mod error;
pub mod hypercore;
pub mod replication;
pub mod store;
pub mod wire;

#[doc(hidden)]
pub use db::sim_hooks;
pub use db::{Autobee, Role, Settings};
pub use error::{Error, ErrorKind};
pub use hypercore::Corestore;

/// The examples of the README, as tests.
#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// The examples of the page for those who come from JavaScript, as tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/from-javascript.md")]
struct FromJavaScript;
