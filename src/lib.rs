//! Autobee: a multi-writer, peer-to-peer key-value database.
//!
//! Every peer appends to its own signed log (a Hypercore). An `apply` function that the user supplies merges all
//! logs, deterministically, into one B-tree view (a Hyperbee) that is the same at every peer.
//!
//! The engine is written once against the traits of [`mod@env`] and runs in two worlds: production (tokio, files,
//! sockets) and a seeded simulator (package `autobee-sim`).
//!
//! What an application needs stands here, at the root; what another world has to bring, in [`mod@env`]. The feature
//! `internals` opens the modules behind it, for the simulator, the tests and whoever looks inside: nothing there is promised
//! to stay.
//!
//! Arrows between modules point down only:
//!
//! ```text
//! db -> engine -> apply -> (bee | replication) -> hypercore -> store -> env
//!                                                   wire, crypto (import nothing of ours)
//! ```

#![cfg_attr(
    not(feature = "internals"),
    expect(
        clippy::wrong_self_convention,
        dead_code,
        unreachable_pub,
        unused_imports,
        reason = "what only `internals` opens is used by nobody without it; the lints look at it with the feature"
    )
)]

pub mod env;
mod error;

#[cfg(not(feature = "internals"))]
mod apply;
#[cfg(feature = "internals")]
pub mod apply;
#[cfg(not(feature = "internals"))]
mod bee;
#[cfg(feature = "internals")]
pub mod bee;
#[cfg(not(feature = "internals"))]
mod crypto;
#[cfg(feature = "internals")]
pub mod crypto;
#[cfg(not(feature = "internals"))]
mod db;
#[cfg(feature = "internals")]
pub mod db;
#[cfg(not(feature = "internals"))]
mod engine;
#[cfg(feature = "internals")]
pub mod engine;
#[cfg(not(feature = "internals"))]
mod hypercore;
#[cfg(feature = "internals")]
pub mod hypercore;
#[cfg(not(feature = "internals"))]
mod replication;
#[cfg(feature = "internals")]
pub mod replication;
#[cfg(not(feature = "internals"))]
mod store;
#[cfg(feature = "internals")]
pub mod store;
#[cfg(not(feature = "internals"))]
mod wire;
#[cfg(feature = "internals")]
pub mod wire;

#[doc(hidden)]
pub use db::sim_hooks;

// The database.
#[doc(inline)]
pub use db::{
    Ahead, AppendOptions, Appended, Autobee, Builder, Changes, CloseReason, ConnectError, ConnectionState,
    CoreLength, Durability, Event, Events, HealGather, Held, KeptConnection, ListenState, Listening,
    LocalWriter, Misbehaviour, OrderedEntry, Outcome, PeerProgress, Pending, Progress, Rebuild,
    RetrySettings, Role, Session, Settings, Stalled, Stats, Status, Unconfirmed, Update, View, ViewChange,
    ViewEntries, ViewEvent, ViewWatch, WriterProgress, WriterStatus,
};
#[doc(inline)]
pub use error::{Error, ErrorKind};

// What an application brings, and is handed.
#[doc(inline)]
pub use apply::{Apply, ApplyError, ApplyView, ApplyWrite, Entry, Host, HostError, OrderOnly, WriterOptions};
#[doc(inline)]
pub use bee::Range;
pub use bytes::Bytes;
#[doc(inline)]
pub use crypto::{CoreKey, DiscoveryKey, KeyPair, KeyParseError, PublicKey, Seed};
#[doc(inline)]
pub use engine::MissingBlock;
#[doc(inline)]
pub use wire::oplog::{ValueOptions, decode_value, encode_value};
#[doc(inline)]
pub use wire::{Index, Length, Link, Rules, Timestamp, Weight};

// The store, and its logs without a database.
#[doc(inline)]
pub use bee::StoredBee;
#[doc(inline)]
pub use hypercore::{
    Core, CoreError, CoreOptions, CoreSnapshot, Corestore, CorestoreOptions, Download, DownloadRange,
    Encryption, SessionOptions, Transaction, Wait,
};
#[doc(inline)]
pub use replication::session::{Replication, ReplicationSession, SessionSettings};
#[doc(inline)]
pub use store::{Recovered, Seglog, StoreHandle};

// The world.
#[cfg(feature = "tokio")]
#[doc(inline)]
pub use env::native::NativeEnv;

/// A database of the native world.
#[cfg(feature = "tokio")]
pub type NativeAutobee = Autobee<NativeEnv>;

/// The examples of the README, as tests.
#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// The examples of the page for those who come from JavaScript, as tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/from-javascript.md")]
struct FromJavaScript;
