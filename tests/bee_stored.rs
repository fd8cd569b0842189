//! A tree in a store: writers take turns, failed appends change nothing, and a read of what is elsewhere ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use autobee::Corestore;
use autobee::bee::{Bee, BeeSettings, Range, StoredBee};
use autobee::env::Env;
use autobee::env::memory::MemoryEnv;
use autobee::hypercore::{CoreOptions, Wait};
use autobee_sim::{World, WorldConfig};

#[test]
fn writers_take_turns_and_every_write_is_there_after_a_reopen() {
    let world = World::new(WorldConfig {
        seed: 1,
        ..WorldConfig::default()
    });
    let replica = world.add_replica("a").unwrap();
    let env = world.env(replica);
    let keys = world
        .block_on(replica, async move {
            let store = Corestore::open_default(env.clone()).await.unwrap();
            let bee = Arc::new(open(&store).await);
            let mut writers = Vec::new();
            for writer in 0..4_u8 {
                let bee = Arc::clone(&bee);
                let (done, wait) = tokio::sync::oneshot::channel();
                autobee::env::Spawn::spawn(env.spawn(), "writer", async move {
                    for number in 0..8_u8 {
                        let key = [writer, number];
                        bee.write(Wait::Local, |batch, blocks| batch.put(blocks, &key, b"v"))
                            .await
                            .unwrap();
                    }
                    let _ = done.send(());
                });
                writers.push(wait);
            }
            for writer in writers {
                writer.await.unwrap();
            }
            let again = open(&store).await;
            let [now, later] = [
                bee.range(Range::all(), Wait::Local).await,
                again.range(Range::all(), Wait::Local).await,
            ];
            assert_eq!(now.as_ref().unwrap(), later.as_ref().unwrap());
            now.unwrap().len()
        })
        .unwrap();
    assert_eq!(keys, 32);
}

#[test]
fn a_failed_append_leaves_the_tree_as_it_was() {
    let env = MemoryEnv::new(1);
    env.run(async {
        let store = Corestore::open_default(env.clone()).await.unwrap();
        let bee = open(&store).await;
        bee.write(Wait::Local, |batch, blocks| batch.put(blocks, b"a", b"1"))
            .await
            .unwrap();
        let head = bee.snapshot().head();
        store.close().await.unwrap();
        bee.write(Wait::Local, |batch, blocks| batch.put(blocks, b"b", b"2"))
            .await
            .unwrap_err();
        assert_eq!(bee.snapshot().head(), head);
    })
    .unwrap();
}

#[test]
fn what_is_at_no_peer_is_waited_for_within_bounds() {
    let world = World::new(WorldConfig {
        seed: 2,
        ..WorldConfig::default()
    });
    let [near, far] = ["near", "far"].map(|name| world.add_replica(name).unwrap());
    let far_env = world.env(far);
    let head = world
        .block_on(far, async move {
            let bee = open(&Corestore::open_default(far_env).await.unwrap()).await;
            bee.write(Wait::Local, |batch, blocks| batch.put(blocks, b"a", b"1"))
                .await
                .unwrap();
            bee.snapshot().head()
        })
        .unwrap();
    let env = world.env(near);
    let before = world.now();
    world
        .block_on(near, async move {
            let store = Corestore::open_default(env).await.unwrap();
            let core = store.get(CoreOptions::key(head.key)).await.unwrap();
            let bee = Bee::new(BeeSettings::default()).unwrap();
            let bee = StoredBee::open(&bee, store, core, Some(head)).unwrap();
            bee.get(b"a", Wait::For(Duration::from_secs(3)))
                .await
                .unwrap_err();
            bee.get(b"a", Wait::Local).await.unwrap_err();
        })
        .unwrap();
    let waited = world.now() - before;
    assert!(
        waited >= Duration::from_secs(3) && waited < Duration::from_secs(4),
        "{waited:?}"
    );
}

async fn open<E: Env>(store: &Corestore<E>) -> StoredBee<E> {
    let core = store.get(CoreOptions::name("bee")).await.unwrap();
    StoredBee::open(
        &Bee::new(BeeSettings::default()).unwrap(),
        store.clone(),
        core,
        None,
    )
    .unwrap()
}
