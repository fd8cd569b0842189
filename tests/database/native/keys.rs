//! A database is opened with a wrong encryption key, or with none.

use autobee::crypto::CoreKey;
use autobee::db::{Event, Pending, Stalled};
use autobee::engine::encryption::KeyMismatch;
use autobee::env::memory::MemoryEnv;
use autobee::{Autobee, Corestore, Error, ErrorKind};
use autobee_sim::workload::{JsonApply, Op};

use crate::support::{Db, connect};
use crate::{run, until};

type Key = Option<[u8; 32]>;

const RIGHT: [u8; 32] = [7; 32];
const WRONG: [u8; 32] = [8; 32];

async fn open(env: &MemoryEnv, join: Option<CoreKey>, key: Key) -> Result<Db, Error> {
    let store = Corestore::open_default(env.clone()).await.unwrap();
    let mut builder = Autobee::builder(store).apply(JsonApply);
    if let Some(join) = join {
        builder = builder.key(join);
    }
    if let Some(key) = key {
        builder = builder.encryption_key(key);
    }
    builder.open().await
}

#[track_caller]
fn says<T: std::fmt::Debug>(found: Result<T, Error>, expected: KeyMismatch) {
    match found {
        Err(error @ Error::EncryptionKey { mismatch }) => {
            assert_eq!((mismatch, error.kind()), (expected, ErrorKind::Invalid));
            assert_eq!(error.to_string(), expected.to_string());
        }
        found => panic!("{found:?}"),
    }
}

/// ```text
/// a: create with a key, put ---- b: join with another, or none: told at the first block, and at each opening
///                                b: with the right one: what it is
/// ```
#[test]
fn a_wrong_key_is_named_and_the_right_one_heals() {
    for (seed, given, mismatch) in [
        (2, Some(WRONG), KeyMismatch::Other),
        (3, None, KeyMismatch::Missing),
    ] {
        run(async |env| {
            let b_env = env.sibling(seed);
            let a = open(env, None, Some(RIGHT)).await.unwrap();
            a.append(Op::put("x", "1").to_value()).await.unwrap();
            let b = open(&b_env, Some(a.key()), given).await.unwrap();
            let mut events = b.events();
            connect(&a, &b);
            let told = events.next().await.unwrap();
            let what = mismatch.to_string();
            assert_eq!(told, Event::Error { what });
            says(b.update().await, mismatch);
            says(b.append("x").await, mismatch);
            says(b.append_optimistic("x").await, mismatch);
            says(b.flush().await, mismatch);
            let stalled = Some(Pending::Stalled(Stalled::Encryption(mismatch)));
            let status = b.status();
            assert!(status.writers.iter().any(|writer| writer.pending == stalled));
            b.close().await.unwrap();

            // Now it is found at the opening, with the key that the store remembers, too.
            says(open(&b_env, None, given).await, mismatch);
            says(open(&b_env, None, None).await, mismatch);
            says(open(&b_env, None, Some([9; 32])).await, KeyMismatch::Other);

            let b = open(&b_env, None, Some(RIGHT)).await.unwrap();
            assert_eq!(b.view().get(b"x").await.unwrap().unwrap(), "1");
            connect(&a, &b);
            a.append(Op::add_writer(b.local(), 2).to_value()).await.unwrap();
            until(&b, |db| db.writable()).await;
            b.append(Op::put("y", "2").to_value()).await.unwrap();
            until(&a, |db| db.order().unwrap().len() == 3).await;
            assert_eq!(a.view().get(b"y").await.unwrap().unwrap(), "2");
            b.close().await.unwrap();

            // And it is the one that is remembered.
            let b = open(&b_env, None, None).await.unwrap();
            assert_eq!(b.order().unwrap(), a.order().unwrap());
        });
    }
}

#[test]
fn a_key_for_a_database_in_clear_is_named() {
    run(async |env| {
        let b_env = env.sibling(2);
        let a = open(env, None, None).await.unwrap();
        a.append(Op::put("x", "1").to_value()).await.unwrap();
        let b = open(&b_env, Some(a.key()), Some(WRONG)).await.unwrap();
        connect(&a, &b);
        until(&b, |db| !db.stalled().is_empty()).await;
        says(b.update().await, KeyMismatch::Clear);
        b.close().await.unwrap();
        says(open(&b_env, None, Some(WRONG)).await, KeyMismatch::Clear);
        // Without one the wrong one is forgotten.
        let b = open(&b_env, None, None).await.unwrap();
        assert_eq!(b.view().get(b"x").await.unwrap().unwrap(), "1");
        a.close().await.unwrap();
        says(open(env, None, Some(WRONG)).await, KeyMismatch::Clear);
        open(env, None, None).await.unwrap();
    });
}

/// Nothing is written with a key before it is known to be right, so another one can take its place.
#[test]
fn a_key_that_nothing_was_read_with_is_replaced() {
    run(async |env| {
        let b_env = env.sibling(2);
        let a = open(env, None, Some(RIGHT)).await.unwrap();
        a.append(Op::put("x", "1").to_value()).await.unwrap();
        for key in [WRONG, RIGHT] {
            let b = open(&b_env, Some(a.key()), Some(key)).await.unwrap();
            b.close().await.unwrap();
        }
        let b = open(&b_env, None, None).await.unwrap();
        connect(&a, &b);
        until(&b, |db| db.order().unwrap().len() == 1).await;
    });
}
