//! Counts of what a database does.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::engine::EngineStats;

/// Counts since a database was opened, for whoever watches it. None of them ever falls.
///
/// Connections, blocks and bytes that come and go are those of all cores of the database; checkpoints and compactions those
/// of its store, which may hold other databases, too.
///
/// ```
/// # use autobee::{Autobee, Corestore};
/// # use autobee::apply::OrderOnly;
/// # use autobee::env::memory::MemoryEnv;
/// # let env = MemoryEnv::new(1);
/// # env.run(async {
/// # let db = Autobee::builder(Corestore::open_default(env.clone()).await?).apply(OrderOnly).open().await?;
/// db.append(b"hello").await?;
/// let stats = db.stats();
/// assert_eq!((stats.appended_blocks, stats.appended_bytes, stats.applies), (1, 5, 1));
/// assert!(stats.fields().contains(&("appended_bytes", 5)));
/// # Ok::<(), autobee::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls of apply.
    pub applies: u64,
    /// Times that a part of the order was taken back.
    pub undos: u64,
    /// Batches that were taken back.
    pub undone: u64,
    /// Calls of apply that refused a stranger's batch.
    pub refused: u64,
    /// Times that the database went on from the trees of another writer, see [`FastForward`](super::FastForward).
    pub fast_forwards: u64,
    /// Own blocks that were appended by callers; acknowledgements do not count.
    pub appended_blocks: u64,
    /// Bytes of their values.
    pub appended_bytes: u64,
    /// Blocks that came from peers, whether they were wanted or not.
    pub received_blocks: u64,
    /// Bytes that came from peers, sealed.
    pub received_bytes: u64,
    /// Blocks that went to peers.
    pub sent_blocks: u64,
    /// Bytes that went to peers, sealed.
    pub sent_bytes: u64,
    /// Connections that were begun.
    pub connections_opened: u64,
    /// Connections that ended.
    pub connections_closed: u64,
    /// Checkpoints of the store's index.
    pub checkpoints: u64,
    /// Compactions of the store.
    pub compactions: u64,
    /// Failures that were told as [`Event::Error`](super::Event::Error), whether anybody listened or not.
    pub errors: u64,
}

impl Stats {
    /// All counts with their names, to be exported.
    #[must_use]
    pub const fn fields(&self) -> [(&'static str, u64); 16] {
        [
            ("applies", self.applies),
            ("undos", self.undos),
            ("undone", self.undone),
            ("refused", self.refused),
            ("fast_forwards", self.fast_forwards),
            ("appended_blocks", self.appended_blocks),
            ("appended_bytes", self.appended_bytes),
            ("received_blocks", self.received_blocks),
            ("received_bytes", self.received_bytes),
            ("sent_blocks", self.sent_blocks),
            ("sent_bytes", self.sent_bytes),
            ("connections_opened", self.connections_opened),
            ("connections_closed", self.connections_closed),
            ("checkpoints", self.checkpoints),
            ("compactions", self.compactions),
            ("errors", self.errors),
        ]
    }
}

impl From<EngineStats> for Stats {
    /// Of an engine alone: without store and peers.
    fn from(engine: EngineStats) -> Self {
        Self {
            applies: engine.applies,
            undos: engine.undos,
            fast_forwards: engine.fast_forwards,
            undone: engine.undone,
            refused: engine.refused,
            ..Self::default()
        }
    }
}

/// Counts that only the handles and the shell see.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) appended_blocks: AtomicU64,
    pub(super) appended_bytes: AtomicU64,
    pub(super) errors: AtomicU64,
}

impl Counters {
    /// Own values were appended.
    pub(super) fn appended(&self, values: &[Bytes]) {
        let bytes: usize = values.iter().map(Bytes::len).sum();
        self.appended_blocks
            .fetch_add(values.len() as u64, Ordering::Relaxed);
        self.appended_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
