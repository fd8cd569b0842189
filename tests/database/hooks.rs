//! What the simulator reads of a database beside its public handle.

use autobee::apply::{ApplyFn, OrderOnly};
use autobee::crypto::CoreKey;
use autobee::engine::{Engine, EngineOptions, Trees, WINDOW_BATCHES, anchor};
use autobee::env::Env as _;
use autobee::env::memory::MemoryEnv;
use autobee::sim_hooks::{blocks as blocks_of, held};
use autobee::wire::oplog::OplogBlock;
use autobee::wire::{Decode as _, Index, Length, Rules, Timestamp};
use autobee::{Autobee, Bytes, Error};

use super::memory_store;

async fn open(env: &MemoryEnv, key: Option<[u8; 32]>) -> Autobee<MemoryEnv> {
    let builder = Autobee::builder(memory_store(env).await)
        .apply(OrderOnly)
        .optimistic(false);
    let builder = match key {
        Some(key) => builder.encryption_key(key),
        None => builder,
    };
    builder.open().await.unwrap()
}

/// Blocks that are in memory were taken before they said where the views stand.
fn without_views(blocks: &[Bytes]) -> Vec<OplogBlock> {
    let decoded = blocks.iter().map(|block| OplogBlock::from_bytes(block).unwrap());
    decoded
        .map(|block| OplogBlock {
            views: None,
            trusted: None,
            ..block
        })
        .collect()
}

#[test]
fn the_set_is_what_the_order_covers() {
    let env = MemoryEnv::new(1);
    let ran = env.run(async {
        let db = open(&env, None).await;
        let local = db.local();
        let empty = held(&db).unwrap();
        assert!(empty.covered.unwrap().ready.is_empty());
        db.append(b"one").await.unwrap();
        db.append_batch(vec![Bytes::from_static(b"two"), Bytes::from_static(b"three")])
            .await
            .unwrap();
        let set = held(&db).unwrap();
        let covered = set.covered.clone().unwrap();
        assert_eq!(covered.ready, [(local, Length(3))].into());
        assert_eq!(covered.known, covered.ready);
        assert_eq!((set.own_visible, set.own_durable), (Length(3), Length(3)));
        assert_eq!((set.applied, set.stats.undone), (2, 0));
        assert_eq!((set.takes_strangers, set.is_encrypted), (false, false));
        assert_eq!(set.sizes.engine.batches, 2);
        assert_eq!(set.system.length, db.views().unwrap()[2].length);
        let anchor = anchor(local, Length(2)).unwrap().key;
        assert_eq!(set.anchors.key(local, Length(2)), Some(anchor));
        assert_eq!(blocks_of(&db, &local, Length(3)).unwrap(), db.blocks(&local));
        assert_eq!(blocks_of(&db, &local, Length(2)).unwrap(), db.blocks(&local)[..2]);
        assert_eq!(blocks_of(&db, &local, Length(4)), None);
        db.close().await.unwrap();
        assert!(matches!(held(&db), Err(Error::Closed)));
    });
    ran.unwrap();
}

#[test]
fn there_is_no_set_while_batches_wait_to_be_ordered() {
    let env = MemoryEnv::new(1);
    let ran = env.run(async {
        let db = open(&env, None).await;
        db.append(b"one").await.unwrap();
        let local = db.local();
        let blocks = db.blocks(&local);
        // A stranger's batch, which nobody tries here: ordered all the same once a drain saw it.
        let other = CoreKey::new([7; 32]);
        let now = Timestamp(u64::MAX / 2);
        let mut engine = Engine::new(EngineOptions {
            key: local,
            name: String::new(),
            apply: ApplyFn::new(OrderOnly),
            optimistic: false,
            rules: Some(Rules::interop()),
            verify: *env.crypto(),
            trees: Trees::unshared(&local, 1 << 20).unwrap(),
            window_batches: WINDOW_BATCHES,
        });
        engine.ingest(local, Index(0), &blocks);
        while engine.drain(now, 1).unwrap().more {}
        let in_memory = engine.read_blocks(&local, Length(1)).unwrap();
        assert_eq!(without_views(&in_memory), without_views(&blocks));
        engine.ingest(other, Index(0), &blocks);
        assert!(engine.covered().is_some(), "not in the set yet");
        let drained = engine.drain(now, 0);
        assert_eq!(engine.covered().is_none(), drained.unwrap().more);
        while engine.drain(now, 1).unwrap().more {}
        let covered = engine.covered().unwrap();
        assert_eq!(covered.ready, [(local, Length(1)), (other, Length(1))].into());
    });
    ran.unwrap();
}

#[test]
fn anchors_of_an_encrypted_database_have_other_keys() {
    let env = MemoryEnv::new(1);
    let ran = env.run(async {
        let db = open(&env, Some([3; 32])).await;
        db.append(b"one").await.unwrap();
        let (set, local) = (held(&db).unwrap(), db.local());
        assert!(set.is_encrypted);
        let clear = anchor(local, Length(1)).unwrap().key;
        assert_ne!(set.anchors.key(local, Length(1)), Some(clear));
    });
    ran.unwrap();
}
