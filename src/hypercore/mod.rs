//! The single-writer log: an append-only list of blocks under one signed Merkle tree.

pub mod bitfield;
mod change;
mod cores;
mod corestore;
mod download;
pub mod encryption;
mod error;
mod event;
pub mod flat_tree;
pub mod keys;
mod line;
pub mod log;
pub mod manifest;
pub mod merkle;
mod offer;
mod peer;
pub mod proof;
pub mod provisional_cores;
mod record;
mod session;
mod shown;
mod snapshot;
mod wait;

pub use change::Appended;
pub use cores::{Demand, DownloadRange};
pub use corestore::{CoreOptions, Corestore, CorestoreOptions, Transaction};
pub use download::Download;
pub use error::CoreError;
pub use event::{Event, Events, GroupEvent, GroupEvents};
pub use record::RecordError;
pub use session::{AppendOptions, Core, Encryption, NamedOptions, SessionOptions};
pub use shown::Offered;
pub use snapshot::CoreSnapshot;
pub use wait::Wait;
