//! A tree whose blocks lie in cores of a store.
//!
//! The kernel never waits; this shell does. A block that is still at a peer is waited for, within bounds, and the
//! operation runs again. Writers take turns, so that two of them neither block each other for ever nor lose a write; a
//! failed append leaves the tree as it was.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use thiserror::Error;

use super::{BatchOptions, BeeError, BlockError, Blocks, Entry, Range, Tree};
use crate::crypto::CoreKey;
use crate::env::Env;
use crate::hypercore::{AppendOptions, Core, CoreError, CoreOptions, Corestore, Wait};
use crate::wire::{Index, Length, Link};

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
/// use autobee::bee::{Bee, Settings, StoredBee};
/// use autobee::env::memory::MemoryEnv;
/// use autobee::hypercore::{CoreOptions, Wait};
///
/// let env = MemoryEnv::new(1);
/// let value = env.run(async {
///     let store = Corestore::open_default(env.clone()).await.unwrap();
///     let core = store.get(CoreOptions::name("bee")).await.unwrap();
///     let bee = Bee::new(Settings::default()).unwrap();
///     let bee = StoredBee::open(&bee, store, core, None).unwrap();
///     bee.write(Wait::Local, |batch, blocks| batch.put(blocks, b"key", b"value")).await.unwrap();
///     bee.get(b"key", Wait::Local).await.unwrap()
/// });
/// assert_eq!(value.unwrap().unwrap().value, "value");
/// ```
pub struct StoredBee<E: Env> {
    store: Corestore<E>,
    core: Core<E>,
    tree: Mutex<Tree>,
    /// Sessions of the other cores that were needed so far.
    others: Mutex<BTreeMap<CoreKey, Core<E>>>,
    /// Held by the writer whose turn it is.
    turn: tokio::sync::Mutex<()>,
}
