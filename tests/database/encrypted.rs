//! Databases whose logs are encrypted, in a world in memory.

use autobee::crypto::CoreKey;
use autobee::env::memory::MemoryEnv;
use autobee::hypercore::{CoreOptions, Wait};
use autobee::wire::Index;
use autobee::{Autobee, Corestore, Error, ErrorKind};
use autobee_sim::workload::{JsonApply, Op};

use crate::support::{Db, connect};
use crate::{run, until};

const SECRET: [u8; 32] = [7; 32];

/// ```text
/// a: create, add b, put x ---- b: join, put y     both reopen: the store knows the key
/// ```
#[test]
fn peers_with_the_key_agree_and_nothing_is_stored_in_clear() {
    run(async |env| {
        let b_env = env.sibling(2);
        let a = open(env, None, Some(SECRET)).await;
        let b = open(&b_env, Some(a.key()), Some(SECRET)).await;
        connect(&a, &b);
        a.append(Op::add_writer(b.local(), 2).to_value()).await.unwrap();
        a.append(Op::put("x", "plain as day").to_value()).await.unwrap();
        until(&b, |db| db.writable()).await;
        b.append(Op::put("y", "plain as night").to_value()).await.unwrap();
        for db in [&a, &b] {
            until(db, |db| db.order().unwrap().len() == 3).await;
            let read = db.view().get(b"y").await.unwrap();
            assert_eq!(read.as_deref(), Some(&b"plain as night"[..]));
        }
        assert_eq!(a.order().unwrap(), b.order().unwrap());

        let (order, keys) = (a.order().unwrap(), [a.local(), b.local()]);
        a.close().await.unwrap();
        b.close().await.unwrap();
        for env in [env, &b_env] {
            let store = Corestore::open_default(env.clone()).await.unwrap();
            for key in keys {
                let core = store.get(CoreOptions::key(key)).await.unwrap();
                for index in 0..core.length().unwrap().0 {
                    let block = core.get_stored(Index(index), Wait::Local).await.unwrap();
                    let is_clear = block.windows(5).any(|window| window == b"plain");
                    assert!(!is_clear && block[0] == 1, "block {index} of {key}");
                }
            }
            store.close().await.unwrap();
            // The store remembers the key, and another one is refused.
            let store = Corestore::open_default(env.clone()).await.unwrap();
            let refused = Autobee::builder(store).encryption_key([8; 32]).open().await;
            assert!(matches!(refused, Err(Error::EncryptionKey { .. })), "{refused:?}");
            for given in [None, Some(SECRET)] {
                let db = open(env, None, given).await;
                assert_eq!(db.order().unwrap(), order);
                db.close().await.unwrap();
            }
        }
    });
}

#[test]
fn who_lacks_the_key_or_has_another_one_sees_nothing_and_disturbs_nobody() {
    run(async |env| {
        let a = open(env, None, Some(SECRET)).await;
        a.append(Op::put("x", "1").to_value()).await.unwrap();
        for (seed, key) in [(2, None), (3, Some([8; 32]))] {
            let outsider = open(&env.sibling(seed), Some(a.key()), key).await;
            connect(&a, &outsider);
            until(&outsider, |db| {
                let writers = db.status().writers;
                writers.iter().any(|writer| writer.have.0 == 1)
            })
            .await;
            // Sealed bytes are garbage to it, and it says so.
            let refused = outsider.update().await.unwrap_err();
            assert!(matches!(refused, Error::EncryptionKey { .. }), "{refused}");
            assert_eq!(outsider.view().all().await.unwrap(), []);
        }
        a.append(Op::put("x", "2").to_value()).await.unwrap();
        assert_eq!(a.order().unwrap().len(), 2);
    });
}

#[test]
fn a_database_in_clear_stays_clear() {
    run(async |env| {
        let db = open(env, None, None).await;
        db.append(Op::put("x", "1").to_value()).await.unwrap();
        db.close().await.unwrap();
        let store = Corestore::open_default(env.clone()).await.unwrap();
        let refused = Autobee::builder(store).encryption_key(SECRET).open().await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    });
}

async fn open(env: &MemoryEnv, join: Option<CoreKey>, secret: Option<[u8; 32]>) -> Db {
    let store = Corestore::open_default(env.clone()).await.unwrap();
    let mut builder = Autobee::builder(store).apply(JsonApply);
    if let Some(key) = join {
        builder = builder.key(key);
    }
    if let Some(secret) = secret {
        builder = builder.encryption_key(secret);
    }
    builder.open().await.unwrap()
}
