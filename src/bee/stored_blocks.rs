//! Blocks of cores of a store, by key.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{BlockError, Blocks};
use crate::crypto::CoreKey;
use crate::env::{BoxFuture, Env};
use crate::hypercore::{Core, CoreError, CoreOptions, Corestore, Download, DownloadRange, Encryption, Wait};
use crate::store::StoreError;
use crate::wire::Index;

/// What becomes of a tree that a damaged block belongs to.
const DROPPED: &str = "the tree is made anew when the database is opened again";

/// Blocks of cores of a store. Sessions of the cores that were asked for stay open until they are let go.
pub struct StoredBlocks<E: Env> {
    store: Corestore<E>,
    encryption: Option<Encryption>,
    /// Cores that this device writes are whole: a block of theirs that is not here was damaged.
    own_are_whole: bool,
    open: Mutex<BTreeMap<CoreKey, Arc<Core<E>>>>,
}

impl<E: Env> StoredBlocks<E> {
    /// Blocks of the cores of `store`, none of which is open. Those that are opened later are encrypted like this.
    #[must_use]
    pub fn new(store: Corestore<E>, encryption: Option<Encryption>) -> Self {
        Self {
            store,
            encryption,
            own_are_whole: false,
            open: Mutex::default(),
        }
    }

    /// Has a block of a core that this device writes count as damaged when it is not here: nobody clears any, and nobody else
    /// has them.
    #[must_use]
    pub(crate) const fn own_are_whole(mut self) -> Self {
        self.own_are_whole = true;
        self
    }

    /// Reads blocks of a core in this session from now on.
    pub fn add(&self, core: Arc<Core<E>>) {
        self.open().insert(core.key(), core);
    }

    /// Waits until a block is here.
    ///
    /// # Errors
    ///
    /// When it does not come, or the store fails.
    pub async fn fetch(&self, key: &CoreKey, index: Index, wait: Wait) -> Result<(), CoreError> {
        self.opened(key).await?.get(index, wait).await?;
        Ok(())
    }

    /// Reads blocks of a core from now on, whether they are here or not.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub(crate) async fn open_core(&self, key: &CoreKey) -> Result<(), CoreError> {
        self.opened(key).await.map(|_| ())
    }

    /// Asks peers for blocks of a core that is open here; none when it is not.
    ///
    /// # Errors
    ///
    /// When the core is closed.
    pub(crate) fn download(
        &self,
        key: &CoreKey,
        range: DownloadRange,
    ) -> Result<Option<Download<E>>, CoreError> {
        self.session(key).map(|core| core.download(range)).transpose()
    }

    fn opened<'a>(&'a self, key: &'a CoreKey) -> BoxFuture<'a, Result<Arc<Core<E>>, CoreError>> {
        Box::pin(async move {
            if let Some(core) = self.session(key) {
                return Ok(core);
            }
            let mut options = CoreOptions::key(*key);
            options.session.encryption.clone_from(&self.encryption);
            let core = Arc::new(self.store.get(options).await?);
            self.add(Arc::clone(&core));
            Ok(core)
        })
    }

    /// True when a session of the core is open here.
    pub(crate) fn has(&self, key: &CoreKey) -> bool {
        self.open().contains_key(key)
    }

    /// Lets go of the session of a core.
    pub(crate) fn close(&self, key: &CoreKey) {
        // Not under the lock: the last session of a core unloads it.
        let session = self.open().remove(key);
        drop(session);
    }

    /// Deletes a block that was fetched, if its core is open here.
    pub(crate) fn forget(&self, key: &CoreKey, index: Index) {
        if let Some(core) = self.session(key) {
            // It can be fetched again, and is in nobody's way if it stays.
            let _ = core.clear(index..Index(index.0.saturating_add(1)));
        }
    }

    /// True of a core that this device writes, where those are whole.
    fn is_own(&self, core: &Core<E>) -> bool {
        self.own_are_whole && core.key_pair().is_ok_and(|pair| pair.is_some())
    }

    /// True when a block that is not here was damaged once.
    fn was_dropped(&self, core: &Core<E>, index: Index) -> bool {
        self.is_own(core) && core.length().is_ok_and(|length| index.0 < length.0)
    }

    fn session(&self, key: &CoreKey) -> Option<Arc<Core<E>>> {
        self.open().get(key).cloned()
    }

    /// Also after a panic elsewhere: entries are only added or removed.
    fn open(&self) -> MutexGuard<'_, BTreeMap<CoreKey, Arc<Core<E>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Env> Blocks for StoredBlocks<E> {
    fn block(&self, core: &CoreKey, index: Index) -> Result<Bytes, BlockError> {
        let session = self.session(core).ok_or(BlockError::Missing)?;
        match session.get_local(index) {
            Ok(Some(block)) => Ok(block),
            Ok(None) if self.was_dropped(&session, index) => Err(BlockError::Damaged(DROPPED.into())),
            Ok(None) => Err(BlockError::Missing),
            Err(CoreError::Closed) => Err(BlockError::Closed),
            Err(error @ CoreError::Store(StoreError::Corrupt(_))) => {
                // Whoever made it has it.
                let comes_again = session.drop_rotten(index.0, &error) && !self.is_own(&session);
                Err(if comes_again {
                    BlockError::Missing
                } else {
                    BlockError::Damaged(format!("{error}; {DROPPED}"))
                })
            }
            Err(error) => Err(BlockError::Failed(error.to_string())),
        }
    }
}

impl<E: Env> fmt::Debug for StoredBlocks<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.open().keys()).finish()
    }
}
