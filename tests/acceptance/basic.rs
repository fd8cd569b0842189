//! One writer, a reader, a second writer; values and keys.

use std::future::Future as _;
use std::task::{Context, Waker};

use autobee::apply::{Apply, ApplyError, ApplyView, Entry, Host};
use autobee::crypto::CoreKey;
use autobee::wire::oplog::{ValueOptions, decode_value, encode_value};
use autobee_sim::workload::Op;

use crate::world::{connect, get, put, remove, run, story};

/// 21.1
#[test]
fn what_apply_writes_is_in_the_view() {
    run(async |world| {
        let db = world.create(1).await;
        put(&db, "hello", "world").await;
        assert_eq!(get(&db, "hello").await.unwrap(), "world");
    });
}

/// 21.3
#[test]
fn a_reader_follows_a_writer() {
    run(async |world| {
        let all = world.peers(2).await;
        world.play(&all, "a3 *").await;
        assert_eq!((all[1].order().unwrap().len(), all[1].writable()), (3, false));
    });
}

/// 21.4
#[test]
fn a_reader_follows_a_batch() {
    run(async |world| {
        let all = world.peers(2).await;
        world.play(&all, "a+3 *").await;
        assert_eq!(get(&all[1], "n").await.unwrap(), "3");
    });
}

/// 21.5
#[test]
fn two_writers_append_concurrently() {
    story("a b");
}

/// 21.6
#[test]
fn who_removes_itself_is_not_writable() {
    run(async |world| {
        let db = world.create(1).await;
        put(&db, "x", "1").await;
        assert!(db.writable());
        remove(&db, db.local()).await;
        assert!(!db.writable());
    });
}

/// 21.7
#[test]
fn a_database_is_opened_again_without_its_key() {
    run(async |world| {
        let db = world.create(1).await;
        put(&db, "x", "1").await;
        put(&db, "x", "2").await;
        let key = db.key();
        db.close().await.unwrap();
        let db = world.create(1).await;
        assert_eq!((db.key(), get(&db, "x").await.unwrap()), (key, "2".into()));
    });
}

/// 21.8
#[test]
fn a_value_goes_into_a_block_and_out() {
    let block = encode_value(Some(b"hello"), &ValueOptions::default()).unwrap();
    assert_eq!(decode_value(&block).unwrap().unwrap(), "hello");
}

/// 21.9, 21.10: what has no value, and what has one of no bytes, cannot be told apart in the old form.
#[test]
fn an_old_block_without_bytes_has_no_value() {
    let options = ValueOptions {
        legacy: true,
        ..ValueOptions::default()
    };
    for value in [None, Some(&b""[..])] {
        let block = encode_value(value, &options).unwrap();
        assert_eq!(decode_value(&block).unwrap(), None);
    }
}

/// Makes an anchor of each entry, and leaves a trace of what the host says.
struct Curious;

impl Apply for Curious {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        host: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        for entry in entries {
            let anchor = host.create_anchor(entry.key, entry.length);
            let anchor = anchor.map_err(|error| ApplyError::fatal(error.to_string()))?;
            let is_genesis = host.genesis().to_string();
            let mut write = view.write();
            write.put(b"anchor", anchor.key.to_hex().as_bytes());
            write.put(b"length", anchor.length.0.to_string().as_bytes());
            write.put(entry.value(), is_genesis.as_bytes());
            write.flush().await?;
        }
        Ok(())
    }
}

/// 21.12
#[test]
fn apply_makes_an_anchor() {
    run(async |world| {
        let db = world.open(1, None, Curious).await;
        db.append("x").await.unwrap();
        let key: CoreKey = get(&db, "anchor").await.unwrap().parse().unwrap();
        assert_eq!(get(&db, "length").await.unwrap(), "1");
        assert!(db.writer(&key).unwrap().is_anchor);
    });
}

/// 21.114
#[test]
fn it_is_genesis_up_to_the_first_entry() {
    run(async |world| {
        let db = world.open(1, None, Curious).await;
        db.append("first").await.unwrap();
        db.append("second").await.unwrap();
        let told = [get(&db, "first").await, get(&db, "second").await];
        assert_eq!(told, [Some("true".into()), Some("false".into())]);
    });
}

/// 21.13
#[test]
fn the_creator_is_an_indexer_after_its_first_entry() {
    run(async |world| {
        let db = world.create(1).await;
        put(&db, "x", "1").await;
        assert_eq!(db.writer(&db.local()).unwrap().max_weight.0, 2);
        assert!(db.is_indexer());
    });
}

/// 21.14
#[test]
fn the_creator_is_an_indexer_and_a_reader_is_not() {
    run(async |world| {
        let all = world.peers(2).await;
        world.play(&all, "a").await;
        assert_eq!((all[0].is_indexer(), all[1].is_indexer()), (true, false));
        world.play(&all, "*").await;
        assert_eq!((all[0].is_indexer(), all[1].is_indexer()), (true, false));
        assert_eq!(all[0].writers(), all[1].writers());
    });
}

/// 21.15, 21.116
#[test]
fn the_creator_has_a_record_and_nobody_else_has() {
    run(async |world| {
        let db = world.create(1).await;
        put(&db, "x", "1").await;
        let named: CoreKey = db.key().to_hex().parse().unwrap();
        assert!(db.writer(&named).is_some());
        assert_eq!(db.writer(&CoreKey::new([7; 32])), None);
    });
}

/// 21.16
#[test]
fn a_hundred_appends_at_a_time() {
    run(async |world| {
        let db = world.create(1).await;
        let value = Op::put("k", "v").to_value();
        let mut appends: Vec<_> = (0..100).map(|_| Box::pin(db.append(&value))).collect();
        for append in &mut appends {
            let _ = append.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        for append in appends {
            append.await.unwrap();
        }
        assert!(db.writable());
        assert_eq!(get(&db, "n").await.unwrap(), "100");
    });
}

/// 21.17
#[test]
fn the_core_of_a_creator_that_removed_itself_stays() {
    run(async |world| {
        let all = world.members(2).await;
        let (near, far) = connect(&all[0], &all[1]);
        remove(&all[0], all[0].local()).await;
        world.until(|| all[1].order().unwrap().len() == 2).await;
        world.wait(10).await;
        assert!(all[1].cores().contains(&all[0].key()));
        assert!(near.close_reason().is_none() && far.progress().cores == 2);
        put(&all[1], "x", "1").await;
        world.until(|| all[0].order().unwrap().len() == 3).await;
    });
}
