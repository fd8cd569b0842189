//! The store under all cores, and how far it is durable.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::store::{Batch, Seq, Snapshot, Store, StoreError};

/// A store that many share. Commits run where they are made; a sync covers everything that was committed before it.
pub(super) struct Ledger {
    store: Mutex<Box<dyn Store>>,
    is_syncing: AtomicBool,
    /// Counts syncs that ended.
    syncs: watch::Sender<u64>,
}

impl Ledger {
    pub(super) fn new(store: Box<dyn Store>) -> Self {
        Self {
            store: Mutex::new(store),
            is_syncing: AtomicBool::new(false),
            syncs: watch::Sender::new(0),
        }
    }

    /// The state as it is now.
    pub(super) fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.lock().snapshot()
    }

    /// Makes the changes visible.
    pub(super) fn commit(&self, batch: &Batch) -> Result<Seq, StoreError> {
        self.lock().commit(batch)
    }

    /// The last commit.
    pub(super) fn seq(&self) -> Seq {
        self.lock().seq()
    }

    /// The last commit that survives a power cut.
    pub(super) fn durable(&self) -> Seq {
        self.lock().durable()
    }

    /// Waits until a commit survives a power cut. One sync covers all who wait.
    pub(super) async fn synced(&self, seq: Seq) -> Result<(), StoreError> {
        let mut syncs = self.syncs.subscribe();
        loop {
            syncs.mark_unchanged();
            let job = {
                let mut store = self.lock();
                if store.durable() >= seq {
                    return Ok(());
                }
                if self.is_syncing.swap(true, Ordering::SeqCst) {
                    None
                } else {
                    let job = store.begin_sync();
                    if !matches!(job, Ok(Some(_))) {
                        self.is_syncing.store(false, Ordering::SeqCst);
                    }
                    match job? {
                        Some(job) => Some(job),
                        None => return Ok(()),
                    }
                }
            };
            match job {
                Some(job) => {
                    let done = job.run();
                    let ended = self.lock().end_sync(done);
                    self.is_syncing.store(false, Ordering::SeqCst);
                    self.syncs.send_modify(|count| *count = count.wrapping_add(1));
                    ended?;
                }
                // Whoever syncs tells; the sender lives as long as this does.
                None => {
                    let _ = syncs.changed().await;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn Store>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
