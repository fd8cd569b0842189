//! The public handle on real sockets and files, and what it answers when it cannot do what it is asked.

mod connections;
mod diverged;
mod keys;
mod mishaps;
mod older;
mod outcomes;
mod read_only;
mod restore;
mod rot;
mod rotate;
mod versions;

use std::path::PathBuf;
use std::time::Duration;

use autobee::db::{AppendOptions, CloseReason, Durability, Session};
use autobee::env::memory::MemoryEnv;
use autobee::env::native::NativeEnv;
use autobee::env::{Env, Listener as _, Network as _, PeerAddr};
use autobee::hypercore::CoreOptions;
use autobee::wire::Encode as _;
use autobee::wire::Length;
use autobee::wire::oplog::{BatchPosition, OplogBlock};
use autobee::{Autobee, Corestore, Error, ErrorKind, Role, Settings};
use autobee_sim::workload::{JsonApply, Op};
use bytes::Bytes;

use crate::memory_store;

/// ```text
/// a: create, add b, put x ---- TCP ---- b: join, put y
///            both reopen from their files: same order, same view
/// ```
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_peers_agree_over_tcp_and_after_a_reopen() {
    let [a_dir, b_dir] = [Directory::new("a"), Directory::new("b")];
    let a = open(&a_dir, None).await;
    let b = open(&b_dir, Some(&a)).await;
    connect(&a_dir.env(), &a, &b_dir.env(), &b).await;

    a.append(Op::add_writer(b.local(), 2).to_value()).await.unwrap();
    a.append(Op::put("x", "1").to_value()).await.unwrap();
    until(&b, |db| db.writable()).await;
    b.append(Op::put("y", "2").to_value()).await.unwrap();
    until(&a, |db| db.order().unwrap().len() == 3).await;

    assert_eq!(a.order().unwrap(), b.order().unwrap());
    assert_eq!(a.view().all().await.unwrap(), b.view().all().await.unwrap());
    assert_eq!(a.view().get(b"y").await.unwrap().as_deref(), Some(&b"2"[..]));
    assert!(a.is_indexer() && a.writers() == b.writers());

    let (order, view) = (b.order().unwrap(), b.view());
    a.close().await.unwrap();
    b.close().await.unwrap();
    for directory in [&a_dir, &b_dir] {
        let db = open(directory, None).await;
        assert_eq!(db.order().unwrap(), order);
        assert_eq!(db.view(), view);
    }
}

#[tokio::test]
async fn a_directory_belongs_to_one_process_and_one_database() {
    let [a_dir, b_dir] = [Directory::new("own"), Directory::new("other")];
    let a = open(&a_dir, None).await;
    let again = Corestore::open_default(a_dir.env()).await.map_err(Error::from);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Disk, "locked");
    let other = open(&b_dir, None).await.key();
    a.close().await.unwrap();
    a.close().await.unwrap();
    let store = Corestore::open_default(a_dir.env()).await.unwrap();
    let wrong = Autobee::builder(store.clone()).key(other).open().await;
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Invalid);
    // The store is as it was: its own database can be opened in it.
    let right = Autobee::builder(store).open().await.unwrap();
    assert_eq!((right.key(), right.local()), (a.key(), a.local()));
}

#[test]
fn a_store_remembers_its_database_and_its_writer() {
    let (env, other) = (MemoryEnv::new(1), MemoryEnv::new(2));
    let ended = env.run(async {
        let creator = Autobee::builder(memory_store(&env).await).open().await.unwrap();
        assert_eq!(creator.key(), creator.local(), "the first writer is the database");
        creator.append(b"x").await.unwrap();
        let order = creator.order().unwrap();
        creator.close().await.unwrap();
        // With the key as well as without.
        for key in [None, Some(creator.key())] {
            let mut builder = Autobee::builder(memory_store(&env).await);
            if let Some(key) = key {
                builder = builder.key(key);
            }
            let db = builder.open().await.unwrap();
            assert_eq!((db.key(), db.local()), (creator.key(), creator.local()));
            assert_eq!(db.order().unwrap(), order);
            db.close().await.unwrap();
        }
        order
    });
    let (order, key) = (
        ended.unwrap(),
        env.run(async {
            Autobee::builder(memory_store(&env).await)
                .open()
                .await
                .unwrap()
                .key()
        }),
    );
    let ended = other.run(async {
        let store = memory_store(&other).await;
        let joined = Autobee::builder(store.clone())
            .key(key.unwrap())
            .open()
            .await
            .unwrap();
        assert_ne!(joined.local(), joined.key());
        joined.append_optimistic(b"y").await.unwrap();
        let local = joined.local();
        joined.close().await.unwrap();
        assert!(store.list().is_err(), "the store is closed with the database");

        let store = memory_store(&other).await;
        let core = store.get(CoreOptions::key(local)).await.unwrap();
        assert_eq!(
            core.user_data("referrer").unwrap().unwrap(),
            key.unwrap().as_bytes()[..]
        );
        assert_eq!(core.manifest().unwrap().unwrap().version(), 2);
        assert_eq!(core.length().unwrap(), Length(1));
        let again = Autobee::builder(store).open().await.unwrap();
        assert_eq!((again.key(), again.local()), (joined.key(), local));
    });
    assert!(ended.is_some() && order.len() == 1);
}

#[test]
fn what_cannot_be_appended_is_refused_with_its_reason() {
    let env = MemoryEnv::new(1);
    env.run(async {
        let settings = Settings::with(|settings| {
            settings.append_values_max = 2;
            settings.value_bytes_max = 4;
        });
        let db = Autobee::builder(memory_store(&env).await)
            .settings(settings)
            .open()
            .await
            .unwrap();
        let error = db.append(b"12345").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().contains("value 0")),
            (ErrorKind::Invalid, true)
        );
        let error = db
            .append_batch(vec!["a".into(), "b".into(), "c".into()])
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(
            db.order().unwrap().is_empty(),
            "nothing of a refused append is there"
        );

        let reader = Autobee::builder(memory_store(&env.sibling(2)).await)
            .key(db.key())
            .open()
            .await
            .unwrap();
        assert!(!reader.writable());
        assert_eq!(reader.append(b"x").await.unwrap_err().kind(), ErrorKind::Denied);
        reader
            .append_with(vec!["x".into()], AppendOptions { optimistic: true })
            .await
            .unwrap();

        db.close().await.unwrap();
        assert_eq!(db.append(b"x").await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(db.update().await.unwrap_err().kind(), ErrorKind::Closed);
    })
    .unwrap();
}

/// Appends that wait for no sync reach peers all the same, once they are durable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visible_appends_travel_once_they_are_durable() {
    let [a_dir, b_dir] = [Directory::new("visible-a"), Directory::new("visible-b")];
    let settings = Settings::with(|settings| settings.durability = Durability::Visible);
    let store = Corestore::open_default(a_dir.env()).await.unwrap();
    let a = Autobee::builder(store)
        .apply(JsonApply)
        .settings(settings)
        .open()
        .await
        .unwrap();
    let b = open(&b_dir, Some(&a)).await;
    connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
    for number in 0..20 {
        a.append(Op::put("k", number.to_string()).to_value())
            .await
            .unwrap();
    }
    until(&b, |db| db.order().unwrap().len() == 20).await;
    assert_eq!(b.view().get(b"k").await.unwrap().as_deref(), Some(&b"19"[..]));
}

/// What a block says of the blocks of its batch before it no peer checks: it may lie, and hides none of them.
#[test]
fn a_block_that_denies_those_before_it_hides_none() {
    let env = MemoryEnv::new(1);
    let orders = env.run(async {
        let store = memory_store(&env).await;
        let settings = Settings::with(|settings| settings.window_batches = 1);
        let db = Autobee::builder(store.clone()).settings(settings).open();
        let db = db.await.unwrap();
        db.append(b"first").await.unwrap();
        let block = |after| {
            let block = OplogBlock {
                batch: BatchPosition { before: 0, after },
                value: Some("of a batch of three".into()),
                ..OplogBlock::default()
            };
            Bytes::from(block.to_bytes().unwrap())
        };
        let log = store.get(CoreOptions::key(db.local())).await.unwrap();
        log.append(vec![block(2), block(1), block(0)]).await.unwrap();
        db.update().await.unwrap();
        let held = db.order().unwrap();
        for _ in 0..8 {
            db.append(b"later").await.unwrap();
        }
        (held, db.order().unwrap())
    });
    let (held, forgotten) = orders.unwrap();
    let lengths = |order: Vec<autobee::db::OrderedEntry>| -> Vec<u64> {
        order.iter().map(|entry| entry.length.0).collect()
    };
    assert_eq!(lengths(held), (1..=4).collect::<Vec<u64>>());
    assert_eq!(lengths(forgotten), (1..=12).collect::<Vec<u64>>());
}

#[test]
fn an_empty_append_changes_nothing() {
    let env = MemoryEnv::new(1);
    env.run(async {
        let db = Autobee::builder(memory_store(&env).await).open().await.unwrap();
        assert_eq!(db.append_batch(Vec::new()).await.unwrap().0, 0);
        assert!(db.order().unwrap().is_empty());
    })
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_ends_the_session_with_blame_and_closing_without() {
    let a_dir = Directory::new("blame-a");
    let a = open(&a_dir, None).await;
    let (left, mut right) = tokio::io::duplex(1 << 16);
    let session = a.replicate(left, Role::Initiator).unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut right, &[0xff; 64])
        .await
        .unwrap();
    assert!(matches!(session.ended().await, CloseReason::PeerMisbehaved(_)));

    let (left, _right) = tokio::io::duplex(1 << 16);
    let session = a.replicate(left, Role::Initiator).unwrap();
    a.close().await.unwrap();
    assert!(matches!(session.ended().await, CloseReason::Closed));
}

/// ```text
/// a: adds b -- b joins --x  a: 40 entries, b: 40 entries  x-- a window of 4 batches does not reach back that far
/// ```
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heal_behind_the_window_ends_like_any_other() {
    let [a_dir, b_dir] = [Directory::new("window-a"), Directory::new("window-b")];
    let settings = Settings::with(|settings| {
        settings.window_batches = 4;
        settings.durability = Durability::Visible;
    });
    let store = Corestore::open_default(a_dir.env()).await.unwrap();
    let a = Autobee::builder(store).apply(JsonApply).settings(settings);
    let a = a.open().await.unwrap();
    let b = open(&b_dir, Some(&a)).await;
    a.append(Op::add_writer(b.local(), 2).to_value()).await.unwrap();
    let session = connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
    until(&b, |db| db.writable()).await;
    session.close();
    session.ended().await;

    for number in 0..40 {
        for (db, name) in [(&a, "a"), (&b, "b")] {
            let op = Op::put("k", format!("{name}{number}"));
            db.append(op.to_value()).await.unwrap();
        }
    }
    connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
    for db in [&a, &b] {
        until(db, |db| db.order().unwrap().len() == 81).await;
    }
    assert_eq!(a.order().unwrap(), b.order().unwrap());
    assert_eq!(a.view().all().await.unwrap(), b.view().all().await.unwrap());
    assert!(a.writers() == b.writers());
}

async fn open(directory: &Directory, join: Option<&Autobee<NativeEnv>>) -> Autobee<NativeEnv> {
    let store = Corestore::open_default(directory.env()).await.unwrap();
    let mut builder = Autobee::builder(store).apply(JsonApply);
    if let Some(db) = join {
        builder = builder.key(db.key());
    }
    builder.open().await.unwrap()
}

async fn connect(
    a_env: &NativeEnv,
    a: &Autobee<NativeEnv>,
    b_env: &NativeEnv,
    b: &Autobee<NativeEnv>,
) -> Session {
    let mut listener = a_env
        .network()
        .listen(&PeerAddr::new("127.0.0.1:0"))
        .await
        .unwrap();
    let address = listener.local_addr();
    let (accepted, dialled) = tokio::join!(listener.accept(), b_env.network().dial(&address));
    let session = a.replicate(accepted.unwrap().0, Role::Responder).unwrap();
    b.replicate(dialled.unwrap(), Role::Initiator).unwrap();
    session
}

async fn until(db: &Autobee<NativeEnv>, done: impl Fn(&Autobee<NativeEnv>) -> bool) {
    until_so(db, &done).await;
}

async fn until_so(db: &Autobee<NativeEnv>, done: &dyn Fn(&Autobee<NativeEnv>) -> bool) {
    let mut changes = Default::default();
    let wait = async {
        while !done(db) {
            db.changed(&mut changes).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("nothing changed for 20 seconds");
}

/// A directory that is removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("autobee-engine-{}-{name}", std::process::id())))
    }

    fn env(&self) -> NativeEnv {
        NativeEnv::new(&self.0).unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
