//! What apply may ask of the engine besides writing the view: membership, anchors, a stop.

use thiserror::Error;

use crate::crypto::{CoreKey, DiscoveryKey};
use crate::wire::{Length, Link};

/// Options of a writer that is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterOptions {
    /// The ceiling of the writer's sort weight. 2 makes it an indexer, which is what adding a writer without options
    /// does; 0 is a full writer that sorts behind everybody concurrent.
    pub weight: u64,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { weight: 2 }
    }
}

/// A call that the host refuses.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HostError {
    /// Anchors are made for entries of the batch that is being applied, and for no others.
    #[error("anchor for block {length} of {key}, which is not in the batch being applied")]
    AnchorOutsideBatch {
        /// The writer that was named.
        key: CoreKey,
        /// The length that was named.
        length: Length,
    },
}

/// The engine, as apply sees it. All calls are synchronous and take effect when apply returns `Ok`.
pub trait Host: Send {
    /// Makes `key` a writer, or raises the ceiling of one. The last add or remove of a batch wins.
    fn add_writer(&mut self, key: CoreKey, options: WriterOptions);

    /// Removes a writer. Its entries that are ordered before stay applied; later ones are recorded only.
    fn remove_writer(&mut self, key: CoreKey);

    /// Acknowledges a writer without changing its ceiling. Admits a key that is not known yet.
    fn ack_writer(&mut self, key: CoreKey);

    /// Makes a one-block core that any peer can compute from this entry, for outsiders to link.
    fn create_anchor(&mut self, key: CoreKey, length: Length) -> Result<Link, HostError>;

    /// Stops applying on purpose, for example because the entries need a newer version of the program. Nothing of
    /// this batch lands; the database can be resumed by a reopen.
    fn interrupt(&mut self, reason: &str);

    /// True until the first batch of the database was applied.
    fn genesis(&self) -> bool;

    /// The key of the database.
    fn key(&self) -> CoreKey;

    /// The discovery key of the database.
    fn discovery_key(&self) -> DiscoveryKey;

    /// The key of the database in z-base-32.
    fn id(&self) -> String;

    /// The name that the database was opened under, for messages.
    fn name(&self) -> &str;

    /// How many batches were applied before this one.
    fn clock(&self) -> u64;
}
