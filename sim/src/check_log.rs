//! The blocks of a real store against the reference model.
//!
//! The files of a store are copied to a simulated disk, or logs that were exported from another store are put into one there, and
//! a database is opened without any peer: what was given is only read. What the database makes of its blocks (order, weights, records, view) is compared with what the model makes
//! of them. The model knows the operations of [`crate::workload::JsonApply`] alone: of the stores of other apps the first
//! entry that changes the writers, or the view, differs.

use std::io::IoSlice;
use std::time::Duration;

use autobee::crypto::CoreKey;
use autobee::db::Autobee;
use autobee::env::{Disk as _, Open};
use autobee::hypercore::CoreError;
use autobee::{Corestore, Error};
use thiserror::Error;

use crate::explain::{Explanation, of_store};
use crate::exported_logs::ExportedLogs;
use crate::replica::ReplicaId;
use crate::run::{Recording, look_at};
use crate::workload::JsonApply;
use crate::world::{RunError, World, WorldConfig};

/// How long opening may take, and how long the database goes through what it has, in virtual time.
const OPEN_LIMIT: Duration = Duration::from_secs(120);
const SETTLE: Duration = Duration::from_secs(8);

/// How far the clock is behind which entries wait as they come from the future: simulated time begins in 2023.
const CENTURY_MS: i64 = 100 * 365 * 24 * 3600 * 1000;

/// A store could not be looked at.
#[derive(Debug, Error)]
pub enum StoreCheckError {
    /// A file cannot be copied.
    #[error("{name} cannot be copied to a simulated disk: {error}")]
    File {
        /// Its name.
        name: String,
        /// Why.
        error: std::io::Error,
    },
    /// Exported logs cannot be stored.
    #[error("the logs cannot be put into a store: {0}")]
    Logs(CoreError),
    /// No database opens there.
    #[error("no database opens from these files: {0}")]
    Open(Error),
    /// Opening did not come to its end.
    #[error("the database does not open: {0}")]
    World(#[from] RunError),
    /// What is there cannot be read.
    #[error("what is stored cannot be read: {0}")]
    Look(String),
    /// The engine waits for something.
    #[error("the database made no order of its blocks that could be judged: {0}")]
    Unjudged(String),
}

/// What a store holds, and whether it is what the model says.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StoreVerdict {
    /// Logs that it holds blocks of.
    pub logs: usize,
    /// Blocks of them.
    pub blocks: usize,
    /// Entries in its order.
    pub entries: usize,
    /// Keys of its view.
    pub keys: usize,
    /// Where it differs from the model; its `failure` is none when it does not.
    pub told: Explanation,
}

/// Compares the files of a store with the model: those of the database `key`, encrypted with `encryption`.
///
/// # Errors
///
/// When the database does not open from these files, or has no order that could be judged.
pub fn check_store(
    files: &[(String, Vec<u8>)],
    key: CoreKey,
    encryption: Option<[u8; 32]>,
) -> Result<StoreVerdict, StoreCheckError> {
    let (world, id) = fresh_world()?;
    let disk = world.disk(id);
    for (name, bytes) in files {
        let copied = disk.open(name, Open::CreateNew).and_then(|file| {
            file.write_at(0, &[IoSlice::new(bytes)])?;
            file.sync()
        });
        copied.map_err(|error| StoreCheckError::File {
            name: name.clone(),
            error,
        })?;
    }
    judge(&world, id, key, encryption)
}

/// Compares exported logs with the model, as [`check_store`] does the files of a store.
///
/// # Errors
///
/// When the database does not open from these logs, or has no order that could be judged.
pub fn check_logs(
    logs: &ExportedLogs,
    key: CoreKey,
    encryption: Option<[u8; 32]>,
) -> Result<StoreVerdict, StoreCheckError> {
    let (world, id) = fresh_world()?;
    let env = world.env(id);
    let logs = logs.clone();
    let stored = world.block_on_for(id, OPEN_LIMIT, async move {
        let store = Corestore::open_default(env).await?;
        logs.put_into(&store).await?;
        store.close().await
    })?;
    stored.map_err(StoreCheckError::Logs)?;
    judge(&world, id, key, encryption)
}

/// A world with real signatures, and the replica in it whose disk takes the store.
fn fresh_world() -> Result<(World, ReplicaId), StoreCheckError> {
    let world = World::new(WorldConfig {
        ed25519: true,
        ..WorldConfig::default()
    });
    let id = world.add_replica("store");
    // A fresh world has no replica of this name.
    let id = id.map_err(|_| StoreCheckError::Look("the world has it already".into()))?;
    Ok((world, id))
}

/// Opens the database that lies on the disk of a replica, and compares what it makes of its blocks with the model.
fn judge(
    world: &World,
    id: ReplicaId,
    key: CoreKey,
    encryption: Option<[u8; 32]>,
) -> Result<StoreVerdict, StoreCheckError> {
    // Nothing in a real store is ahead of this clock.
    world.skew(id, CENTURY_MS);
    let env = world.env(id);
    let opened = world.block_on_for(id, OPEN_LIMIT, async move {
        let store = Corestore::open_default(env).await?;
        let mut builder = Autobee::builder(store).name("store").apply(JsonApply).key(key);
        if let Some(encryption) = encryption {
            builder = builder.encryption_key(encryption);
        }
        builder.open().await
    })?;
    let db = opened.map_err(StoreCheckError::Open)?;
    world.run_for(SETTLE)?;
    let look = look_at(&db).map_err(StoreCheckError::Look)?;
    if look.known.is_none() {
        let stopped = look.stopped;
        return Err(StoreCheckError::Unjudged(stopped.unwrap_or_else(|| {
            "it waits for blocks that are not in the store".into()
        })));
    }
    let (logs, entries, keys) = (look.logs.len(), look.order.len(), look.view.len());
    let blocks = look.logs.values().map(|log| log.blocks().len()).sum();
    let mut recording = Recording {
        database: Some(key),
        crypto: Some(world.signatures()),
        ..Recording::default()
    };
    recording.logs.insert(key, ("creator".into(), 0));
    if look.local != key {
        recording.logs.insert(look.local, ("own".into(), 0));
    }
    recording.add(world.now(), "store", look);
    let is_safe = db.rules().is_some_and(|rules| rules.is_safe());
    let told = of_store(recording, encryption, is_safe)
        .ok_or_else(|| StoreCheckError::Unjudged("it has too many batches for the model".into()))?;
    Ok(StoreVerdict {
        logs,
        blocks,
        entries,
        keys,
        told,
    })
}
