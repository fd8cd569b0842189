//! A recorded database whose only writer is this peer: opened on a store of the same keys, it must write the recorded
//! blocks into cores of the recorded keys.

use autobee::Autobee;
use autobee::Corestore;
use autobee::crypto::{CoreKey, Ed25519, Seed, Sign as _};
use autobee::env::memory::MemoryEnv;
use autobee::env::{Env as _, Wall};
use autobee::hypercore::keys::PrimaryKey;
use autobee::hypercore::{CoreOptions, CorestoreOptions};
use autobee::store::{Seglog, StoreHandle};
use autobee::wire::Index;
use autobee_sim::workload::JsonApply;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{fixed, hex, list, optional, to_hex};

pub(crate) fn check(case: &Value) {
    let (peers, writers) = (&case["peers"], list(&case["writers"]));
    let is_alone = writers.len() == 1 && peers.as_array().is_some_and(|peers| peers.len() == 1);
    if !is_alone || case["cores"].is_null() {
        return;
    }
    let encryption = optional(&case["encryptionKey"]).map(fixed::<32>);
    let env = MemoryEnv::new(1);
    // Ahead of all recorded clocks.
    env.clock().set_wall(Wall(1 << 50));
    let written = env.run(write(env.clone(), &peers[0], &writers[0], encryption));
    for (role, key, blocks) in written.unwrap() {
        let recorded = list(&case["cores"]).iter().find(|core| core["role"] == role);
        let recorded = recorded.unwrap_or_else(|| panic!("{}: no {role}", case["name"]));
        assert_eq!(recorded["key"], key.to_hex(), "{}: {role}", case["name"]);
        assert_eq!(recorded["blocks"], json!(blocks), "{}: {role}", case["name"]);
    }
}

/// Opens the recorded log, closes the database, and reads what it left.
async fn write(
    env: MemoryEnv,
    peer: &Value,
    writer: &Value,
    encryption: Option<[u8; 32]>,
) -> Vec<(&'static str, CoreKey, Vec<String>)> {
    let store = open(&env, peer).await;
    let pair = Ed25519.key_pair(&Seed::new(fixed(&writer["seed"])));
    let mut options = CoreOptions::key_pair(pair);
    options.manifest_version = 2;
    let log = store.get(options).await.unwrap();
    assert_eq!(json!(log.key().to_hex()), writer["key"]);
    let encryption = encryption.map(|key| Bytes::copy_from_slice(&key));
    log.set_user_data("autobee/encryption", encryption).await.unwrap();
    let blocks = list(&writer["blocks"]).iter();
    log.append(blocks.map(|block| Bytes::from(hex(block))).collect())
        .await
        .unwrap();
    let builder = Autobee::builder(store.clone()).key(log.key()).apply(JsonApply);
    let db = builder.open().await.unwrap();
    let [system, view, current] = db.views().unwrap();
    assert_eq!((current.key, current.length), (system.key, system.length));
    db.close().await.unwrap();

    let store = open(&env, peer).await;
    let mut found = Vec::new();
    for (role, expected) in [("system", system), ("view", view)] {
        let core = store.namespace(role).get(CoreOptions::name("bee")).await.unwrap();
        let length = core.length().unwrap();
        assert_eq!((core.key(), length), (expected.key, expected.length));
        assert_eq!(
            core.peer_access().offered().unwrap().tree.length(),
            length.0,
            "signed at the end"
        );
        let block = |index| to_hex(&core.get_local(Index(index)).unwrap().unwrap());
        found.push((role, core.key(), (0..length.0).map(block).collect()));
    }
    found
}

async fn open(env: &MemoryEnv, peer: &Value) -> Corestore<MemoryEnv> {
    let store = StoreHandle::open(env, &Seglog::default()).unwrap();
    let options = CorestoreOptions {
        primary_key: Some(PrimaryKey::new(fixed(&peer["primaryKey"]))),
        ..CorestoreOptions::default()
    };
    Corestore::open(env.clone(), store, options).await.unwrap()
}
