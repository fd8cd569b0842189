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

#[cfg(test)]
mod tests {
    use autobee::hypercore::{CoreOptions, Wait};
    use autobee::wire::Index;
    use bytes::Bytes;

    use super::*;
    use crate::workload::Op;

    /// A store that a database of this engine wrote, as files.
    fn store(planted: &str) -> (Vec<(String, Vec<u8>)>, CoreKey) {
        let world = World::new(WorldConfig {
            ed25519: true,
            seed: 5,
            planted: [planted.to_owned()].into(),
            ..WorldConfig::default()
        });
        let id = world.add_replica("writer").unwrap();
        let env = world.env(id);
        let batches: Vec<Vec<Bytes>> = (0..12).map(put).collect();
        let key = world
            .block_on_for(id, OPEN_LIMIT, async move {
                let store = Corestore::open_default(env.clone()).await.unwrap();
                let db = Autobee::builder(store).name("writer").apply(JsonApply);
                let db = db.open().await.unwrap();
                for batch in batches {
                    db.append_batch(batch).await.unwrap();
                }
                db.close().await.unwrap();
                db.key()
            })
            .unwrap();
        let disk = world.disk(id);
        let files = disk.list().unwrap().into_iter().map(|name| {
            let file = disk.open(&name, Open::Read).unwrap();
            let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
            file.read_at(0, &mut bytes).unwrap();
            (name, bytes)
        });
        (files.collect(), key)
    }

    fn put(number: u64) -> Vec<Bytes> {
        let put = |of: u64| {
            Op::put(format!("k{}", of % 3), format!("v{number}"))
                .to_value()
                .into()
        };
        vec![put(number), put(number + 1)]
    }

    #[test]
    fn a_store_is_what_the_model_makes_of_its_blocks() {
        let (files, key) = store("");
        let verdict = check_store(&files, key, None).unwrap();
        assert_eq!((verdict.logs, verdict.entries), (1, 24));
        assert_eq!(verdict.told.failure, None, "{}", verdict.told);
    }

    #[test]
    fn a_store_that_holds_something_else_is_told_with_the_entry() {
        let (files, key) = store("put_of_equal_length_skipped");
        let told = check_store(&files, key, None).unwrap().told;
        assert_eq!(told.failure.as_deref(), Some("reference"));
        let value = told.value.clone().unwrap();
        assert!(
            value.our_value != value.their_value && value.differing > 0,
            "{told}"
        );
        assert!(
            told.entries.iter().any(|entry| entry.starts_with("creator@")),
            "{told}"
        );
    }

    #[test]
    fn another_key_and_no_files_are_told() {
        let (mut files, key) = store("");
        let other = check_store(&files, CoreKey::new([9; 32]), None);
        let is_judged_right = other.is_ok_and(|verdict| verdict.entries > 0);
        assert!(!is_judged_right);
        files.clear();
        let empty = check_store(&files, key, None);
        assert!(!empty.is_ok_and(|verdict| verdict.entries > 0));
    }

    /// The log of a database as lines, and its key.
    fn exported() -> (String, CoreKey) {
        let world = World::new(WorldConfig {
            ed25519: true,
            seed: 6,
            ..WorldConfig::default()
        });
        let id = world.add_replica("writer").unwrap();
        let env = world.env(id);
        let exported = world.block_on_for(id, OPEN_LIMIT, async move {
            let store = Corestore::open_default(env).await.unwrap();
            let builder = Autobee::builder(store.clone()).name("writer").apply(JsonApply);
            let db = builder.open().await.unwrap();
            for number in 0..5 {
                db.append_batch(put(number)).await.unwrap();
            }
            let core = store.get(CoreOptions::key(db.key())).await.unwrap();
            let head = core.peer_access().offered().unwrap();
            let mut text = String::from("{\"format\":\"hypercore-logs\",\"version\":1}\n");
            let line = serde_json::json!({
                "log": db.key().to_hex(),
                "manifest": core.manifest().unwrap().map(|manifest| hex(manifest.as_bytes())),
                "fork": head.tree.fork(),
                "length": head.tree.length(),
                "signature": hex(&head.signature.unwrap()),
            });
            text += &format!("{line}\n");
            for index in 0..head.tree.length() {
                let block = core.get(Index(index), Wait::Local).await.unwrap();
                text += &format!("{{\"block\":\"{}\"}}\n", hex(&block));
            }
            let empty = CoreKey::new([8; 32]).to_hex();
            text += &format!("{{\"left_out\":\"{empty}\",\"why\":\"is empty\"}}\n");
            (text, db.key())
        });
        exported.unwrap()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn exported_logs_are_what_the_model_makes_of_them() {
        let (text, key) = exported();
        let logs = ExportedLogs::parse(&text).unwrap();
        assert_eq!(logs.left_out().len(), 1);
        let verdict = check_logs(&logs, key, None).unwrap();
        assert_eq!((verdict.logs, verdict.entries), (2, 10));
        assert!(verdict.keys > 0);
        assert_eq!(verdict.told.failure, None, "{}", verdict.told);
    }

    #[test]
    fn what_is_wrong_with_exported_logs_is_told_with_the_line() {
        let (text, _) = exported();
        let lines: Vec<&str> = text.lines().collect();
        let told = |lines: &[&str]| ExportedLogs::parse(&lines.join("\n")).unwrap_err().to_string();
        assert!(told(&lines[1..]).contains("line 1"), "no first line");
        assert!(told(&lines[..4]).contains("the file ends with 2 of"), "cut");
        let missing = [&lines[..3], &lines[4..]].concat();
        assert!(told(&missing).contains("blocks"), "{}", told(&missing));
        let mut swapped = lines.clone();
        swapped.swap(2, 3);
        assert!(told(&swapped).contains("signature"), "{}", told(&swapped));
        for (wrong, expected) in [
            ("{}", "line 3: expected a log"),
            ("{\"block\":\"0g\"}", "line 3: expected hex"),
        ] {
            let mut lines = lines.clone();
            lines[2] = wrong;
            assert!(told(&lines).contains(expected), "{}", told(&lines));
        }
    }
}
