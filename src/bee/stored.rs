//! A tree whose blocks lie in cores of a store.
//!
//! The kernel never waits; this shell does. A block that is still at a peer is waited for, within bounds, and the
//! operation runs again. Writers take turns, so that two of them neither block each other for ever nor lose a write; a
//! failed append leaves the tree as it was.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use super::{BatchOptions, BeeError, Blocks, Range, StoredBlocks, Tree, TreeEntry};
use crate::env::Env;
use crate::hypercore::{Core, CoreError, Corestore, Wait};
use crate::wire::Link;

/// A read or a write of a stored tree failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoredBeeError {
    /// The tree could not be read, or what was asked cannot be written.
    #[error(transparent)]
    Bee(#[from] BeeError),
    /// A core could not be read or written.
    #[error(transparent)]
    Core(#[from] CoreError),
}

/// A tree that is written to one core, and may reach into others.
///
/// ```
/// use autobee::Corestore;
/// use autobee::bee::{Bee, BeeSettings, StoredBee};
/// use autobee::env::memory::MemoryEnv;
/// use autobee::hypercore::{CoreOptions, Wait};
///
/// let env = MemoryEnv::new(1);
/// let value = env.run(async {
///     let store = Corestore::open_default(env.clone()).await.unwrap();
///     let core = store.get(CoreOptions::name("bee")).await.unwrap();
///     let bee = Bee::new(BeeSettings::default()).unwrap();
///     let bee = StoredBee::open(&bee, store, core, None).unwrap();
///     bee.write(Wait::Local, |batch, blocks| batch.put(blocks, b"key", b"value"))
///         .await
///         .unwrap();
///     bee.get(b"key", Wait::Local).await.unwrap()
/// });
/// assert_eq!(value.unwrap().unwrap().value, Some("value".into()));
/// ```
pub struct StoredBee<E: Env> {
    core: Arc<Core<E>>,
    blocks: StoredBlocks<E>,
    tree: Mutex<Tree>,
    /// Held by the writer whose turn it is.
    turn: tokio::sync::Mutex<()>,
}

impl<E: Env> StoredBee<E> {
    /// The tree with this head, or the newest one of the core. Nothing else may append to the core.
    ///
    /// # Errors
    ///
    /// When the core is closed.
    pub fn open(
        bee: &super::Bee,
        store: Corestore<E>,
        core: Core<E>,
        head: Option<Link>,
    ) -> Result<Self, StoredBeeError> {
        let newest = Link {
            key: core.key(),
            length: core.length()?,
        };
        let tree = Mutex::new(bee.tree(head.unwrap_or(newest)));
        let turn = tokio::sync::Mutex::new(());
        let core = Arc::new(core);
        let blocks = StoredBlocks::new(store, None);
        blocks.add(Arc::clone(&core));
        Ok(Self {
            core,
            blocks,
            tree,
            turn,
        })
    }

    /// The tree as it is now, for ever.
    #[must_use]
    pub fn snapshot(&self) -> Tree {
        lock(&self.tree).clone()
    }

    /// The record under `key`. Each block that is not here is waited for as `wait` says.
    ///
    /// # Errors
    ///
    /// `Unavailable` when a block did not come; what the disk says.
    pub async fn get(&self, key: &[u8], wait: Wait) -> Result<Option<TreeEntry>, StoredBeeError> {
        self.read(wait, |tree, blocks| tree.get(blocks, key)).await
    }

    /// The records of a range, in its order.
    ///
    /// # Errors
    ///
    /// As [`StoredBee::get`].
    pub async fn range(&self, range: Range, wait: Wait) -> Result<Vec<TreeEntry>, StoredBeeError> {
        self.read(wait, |tree, blocks| {
            tree.range(range.clone()).iter(blocks).collect()
        })
        .await
    }

    /// Runs a read of the tree as it is now, again from its start for each block that has to be fetched.
    ///
    /// # Errors
    ///
    /// As [`StoredBee::get`].
    pub async fn read<T>(
        &self,
        wait: Wait,
        mut read: impl FnMut(&Tree, &dyn Blocks) -> Result<T, BeeError>,
    ) -> Result<T, StoredBeeError> {
        let tree = self.snapshot();
        loop {
            match read(&tree, &self.blocks) {
                Err(BeeError::Unavailable { core, index }) => self.blocks.fetch(&core, index, wait).await?,
                outcome => return Ok(outcome?),
            }
        }
    }

    /// Writes a batch, durable when it returns. `fill` runs again from its start, on a new batch, for each block that
    /// has to be fetched. Other writers wait for their turn.
    ///
    /// # Errors
    ///
    /// As [`StoredBee::get`], and when the core cannot be appended to. The tree is as it was then.
    pub async fn write<T>(
        &self,
        wait: Wait,
        mut fill: impl FnMut(&mut super::TreeBatch, &dyn Blocks) -> Result<T, BeeError>,
    ) -> Result<T, StoredBeeError> {
        let _turn = self.turn.lock().await;
        loop {
            let length = self.core.length()?;
            let mut batch = self
                .snapshot()
                .batch(&self.core.key(), length, BatchOptions::default());
            let blocks = &self.blocks;
            let filled = fill(&mut batch, blocks).and_then(|value| Ok((value, batch.finish(blocks)?)));
            match filled {
                Err(BeeError::Unavailable { core, index }) => self.blocks.fetch(&core, index, wait).await?,
                Err(error) => return Err(error.into()),
                Ok((value, written)) => {
                    if !written.blocks().is_empty() {
                        self.core.append(written.blocks().to_vec()).await?;
                    }
                    lock(&self.tree).commit(written);
                    return Ok(value);
                }
            }
        }
    }
}

impl<E: Env> std::fmt::Debug for StoredBee<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredBee")
            .field("head", &lock(&self.tree).head())
            .finish_non_exhaustive()
    }
}

/// Also after a panic elsewhere: what is behind these locks is replaced as a whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
