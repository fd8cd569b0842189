//! Autobee: a multi-writer, peer-to-peer key-value database.
//!
//! Every peer appends to its own signed log (a Hypercore). An `apply` function that the user supplies merges all
//! logs, deterministically, into one B-tree view (a Hyperbee) that is the same at every peer.
//!
//! ```
//! use autobee::{Apply, ApplyError, ApplyView, Autobee, Corestore, Entry, Event, Host, Role, WriterOptions};
//!
//! /// `add KEY` lets a device write; everything else is a line of a shared list.
//! struct SharedList;
//!
//! impl Apply for SharedList {
//!     async fn apply(&self, entries: &[Entry], view: &mut ApplyView, host: &mut dyn Host) -> Result<(), ApplyError> {
//!         let mut write = view.write();
//!         for entry in entries {
//!             match entry.value().strip_prefix(b"add ") {
//!                 Some(key) => {
//!                     let key = String::from_utf8_lossy(key).parse().map_err(|_| ApplyError::reject("no key"))?;
//!                     host.add_writer(key, WriterOptions::default());
//!                 }
//!                 None => write.put(entry.value(), b""),
//!             }
//!         }
//!         write.flush().await
//!     }
//! }
//!
//! # let env = autobee::env::memory::MemoryEnv::new(1);
//! # env.run(async {
//! # let (store, other_store) = (Corestore::open_default(env.clone()).await?, Corestore::open_default(env.sibling(2)).await?);
//! // A database in a store: `Corestore::open_default(NativeEnv::new("directory")?).await?` on a machine.
//! let laptop = Autobee::builder(store).apply(SharedList).open().await?;
//! laptop.append("milk").await?; // durable when it returns
//!
//! // Another device joins by the key. They replicate over any stream; over TCP see `listen` and `keep_connected`.
//! let phone = Autobee::builder(other_store).key(laptop.key()).apply(SharedList).open().await?;
//! let (near, far) = tokio::io::duplex(1 << 16);
//! laptop.replicate(near, Role::Initiator)?;
//! phone.replicate(far, Role::Responder)?;
//!
//! // A member lets it write.
//! let mut events = phone.events();
//! laptop.append(format!("add {}", phone.local())).await?;
//! while events.next().await? != Event::Writable {}
//! phone.append("bread").await?;
//! assert_eq!(phone.view().all().await?.len(), 2);
//! # phone.close().await?;
//! # laptop.close().await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap().unwrap();
//! ```
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

#[cfg(all(feature = "instances", not(test)))]
#[doc(hidden)]
pub mod instances;

#[doc(hidden)]
pub use db::sim_hooks;

// The database.
#[doc(inline)]
pub use db::{
    Ahead, AppendOptions, Appended, Autobee, Builder, Changes, CloseReason, ConnectError, ConnectionState,
    CoreLength, CustomView, Durability, Event, Events, HealGather, Held, JoinedSwarm, KeptConnection,
    ListenState, Listening, LocalWriter, Misbehaviour, OrderedEntry, Outcome, PeerProgress, Pending,
    Progress, Rebuild, RetrySettings, Role, Secured, Session, Settings, Stalled, Stats, Status, Swarm,
    SwarmEvent, SwarmPeer, SwarmProtection, SwarmSettings, SwarmState, SwarmStream, SwarmTopic,
    TICKET_ADDRESSES_MAX, TICKET_BYTES_MAX, Ticket, TicketError, Unconfirmed, Update, View, ViewChange,
    ViewEntries, ViewEvent, ViewWatch, WriterProgress, WriterStatus,
};
#[cfg(feature = "hyperswarm")]
#[doc(inline)]
pub use db::{Hyperswarm, HyperswarmSettings, HyperswarmTopic};
#[cfg(feature = "iroh")]
#[doc(inline)]
pub use db::{IrohPeer, IrohSettings, IrohStream, IrohSwarm, IrohTopic};
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

/// The examples of the page for those who come from JavaScript, as tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/from-javascript.md")]
struct FromJavaScript;

/// The examples of the recipes, as tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/how-to.md")]
struct HowTo;
