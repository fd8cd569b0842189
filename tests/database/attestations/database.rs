//! Databases in a world in memory.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Waker};

use autobee::apply::{Apply, ApplyError, ApplyView, Entry, Host};
use autobee::crypto::Ed25519;
use autobee::engine::witness::attest;
use autobee::env::memory::MemoryEnv;
use autobee::hypercore::CoreOptions;
use autobee::wire::oplog::{Backer, OplogBlock, Witness};
use autobee::wire::{Decode as _, Encode as _, Length, Link, Timestamp, Weight};
use autobee::{Autobee, Corestore, ErrorKind, Rules, Settings};
use autobee_sim::workload::{JsonApply, Op};

use crate::support::{Db, connect, weights};
use crate::{run, until};

#[test]
fn a_granted_writer_proves_its_weight_with_its_first_block() {
    run(async |env| {
        let [a, b, c] = three(env).await;
        a.append(Op::add_writer(b.local(), 2).to_value()).await.unwrap();
        until(&b, |db| db.writable()).await;
        b.append(Op::put("x", "b").to_value()).await.unwrap();
        for db in [&a, &b, &c] {
            until(db, |db| db.order().unwrap().len() == 2).await;
            assert_eq!(weights(db, &b), [2]);
        }
        let witness = block(&c, &b, 0).witness.unwrap();
        assert_eq!((witness.weight, witness.backer.key), (Weight(2), a.local()));
        b.append(Op::put("x", "c").to_value()).await.unwrap();
        assert!(block(&b, &b, 1).witness.is_none(), "it stands there now");
    });
}

#[test]
fn a_bystander_vouches_for_whom_a_removed_writer_granted() {
    run(async |env| {
        let [a, b, c] = three(env).await;
        a.append(Op::add_writer(c.local(), 2).to_value()).await.unwrap();
        a.append(Op::add_writer(b.local(), 2).to_value()).await.unwrap();
        until(&c, |db| db.order().unwrap().len() == 2).await;
        c.append(Op::put("x", "c").to_value()).await.unwrap();
        c.append(Op::remove_writer(a.local()).to_value()).await.unwrap();
        until(&b, |db| db.order().unwrap().len() == 4).await;
        b.append(Op::put("x", "b").to_value()).await.unwrap();
        for db in [&a, &b, &c] {
            until(db, |db| db.order().unwrap().len() == 5).await;
            assert_eq!(weights(db, &b), [2]);
        }
        assert_eq!(block(&b, &b, 0).witness.unwrap().backer.key, c.local());
        assert!(!a.writable());
    });
}

/// The writer that claims and the one that vouches for it are both faulty.
#[test]
fn a_claim_above_every_grant_changes_nothing_though_it_is_signed() {
    run(async |env| {
        let [a_env, b_env, c_env] = [env.clone(), env.sibling(2), env.sibling(3)];
        let a = open(&a_env, None).await;
        let [b, c] = [open(&b_env, Some(&a)).await, open(&c_env, Some(&a)).await];
        connect_all(&[&a, &b, &c]);
        a.append(Op::add_writer(b.local(), 2).to_value()).await.unwrap();
        a.append(Op::add_writer(c.local(), 2).to_value()).await.unwrap();
        until(&c, |db| db.writable()).await;
        c.append(Op::put("x", "c").to_value()).await.unwrap();
        until(&b, |db| db.order().unwrap().len() == 3).await;
        b.append(Op::put("x", "b").to_value()).await.unwrap();
        for db in [&a, &b, &c] {
            until(db, |db| db.order().unwrap().len() == 4).await;
        }

        let (b_key, c_key, database) = (b.local(), c.local(), a.key());
        c.close().await.unwrap();
        let store = Corestore::open_default(c_env.clone()).await.unwrap();
        let core = store.get(CoreOptions::key(c_key)).await.unwrap();
        let (pair, manifest) = (
            core.key_pair().unwrap().unwrap(),
            core.manifest().unwrap().unwrap(),
        );
        let (length, weight) = (Length(1), Weight(3));
        let signature = attest(&Ed25519, &pair.secret, &c_key, &b_key, length, weight).unwrap();
        store.close().await.unwrap();

        b.close().await.unwrap();
        let store = Corestore::open_default(b_env.clone()).await.unwrap();
        let core = store.get(CoreOptions::name("local")).await.unwrap();
        assert_eq!(core.key(), b_key);
        let bogus = OplogBlock {
            timestamp: Timestamp(wall(env)),
            value: Some(Op::put("x", "inflated").to_value().into()),
            witness: Some(Witness {
                weight,
                backer: Backer {
                    key: c_key,
                    length,
                    signature,
                    manifest: manifest.as_bytes().to_vec().into(),
                },
            }),
            ..OplogBlock::default()
        };
        let bogus = bogus.to_bytes().unwrap();
        core.append(vec![bogus.into()]).await.unwrap();
        store.close().await.unwrap();

        let b = join(&b_env, database).await;
        let c = join(&c_env, database).await;
        connect_all(&[&a, &b, &c]);
        for db in [&a, &b, &c] {
            until(db, |db| db.order().unwrap().len() == 5).await;
            assert_eq!(weights(db, &b), [2, 2]);
        }
        assert_eq!(block(&a, &b, 1).witness.unwrap().weight, Weight(3));
    });
}

/// ```text
/// a, b members; x, a stranger, writes optimistically; apply acknowledges x
///   -> a and b each write one empty block on top, and none on top of those
/// ```
#[test]
fn an_acknowledged_stranger_gets_one_block_of_each_member_and_no_more() {
    run(async |env| {
        let [a, b, x] = three(env).await;
        a.append(Op::add_writer(b.local(), 2).to_value()).await.unwrap();
        until(&b, |db| db.writable()).await;
        until(&x, |db| db.order().unwrap().len() == 1).await;
        let op = Op {
            ack: Some(x.local().to_hex()),
            ..Op::put("hello", "x")
        };
        x.append_optimistic(op.to_value()).await.unwrap();
        for db in [&a, &b, &x] {
            until(db, |db| db.order().unwrap().len() == 4).await;
            assert!(db.writers().iter().any(|writer| writer.key == x.local()));
        }
        for _ in 0..1_000 {
            yield_now().await;
        }
        assert_eq!(a.order().unwrap().len(), 4, "{:?}", a.order().unwrap());
        let acks = [block(&a, &a, 1), block(&b, &b, 0)];
        for ack in &acks {
            assert_eq!(ack.value, None);
            let stranger = Link {
                key: x.local(),
                length: Length(1),
            };
            assert!(ack.links.contains(&stranger), "{ack:?}");
        }
        assert_eq!(
            acks[0].views.unwrap().system.length.0,
            2,
            "one round with what it acknowledges"
        );
        // The stranger is a member now; nobody acknowledges that.
        x.append(Op::put("hello", "again").to_value()).await.unwrap();
        until(&a, |db| db.order().unwrap().len() == 5).await;
    });
}

#[test]
fn appends_that_start_together_take_their_turns() {
    run(async |env| {
        let db = open(env, None).await;
        let appends = (0..100).map(|number| {
            let db = db.clone();
            async move {
                db.append(Op::put("k", number.to_string()).to_value())
                    .await
                    .unwrap()
            }
        });
        let mut appends: Vec<_> = appends.map(Box::pin).collect();
        let mut lengths = Vec::new();
        // Each is polled once before any of them is waited for.
        for append in &mut appends {
            let _ = append.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        for append in appends {
            lengths.push(append.await.0);
        }
        assert_eq!(lengths, (1..=100).collect::<Vec<_>>());
        assert!(db.writable());
        for index in 0..100 {
            let views = block(&db, &db, index).views.unwrap();
            assert_eq!(
                (views.flushes, views.system.start.0),
                (index as u64 + 1, index as u64)
            );
        }
    });
}

/// The caller goes away while its entry is with the engine and not in the log. Of a stranger, because the second entry
/// that is refused takes two calls of apply, one a portion.
#[test]
fn an_append_that_nobody_waits_for_any_more_is_written() {
    run(async |env| {
        let settings = Settings::with(|settings| settings.drain_applies_max = 1);
        let a = open(env, None).await;
        let x = open_with(&env.sibling(2), Some(&a), &settings).await;
        connect_all(&[&a, &x]);
        a.append(b"{}").await.unwrap();
        until(&x, |db| db.order().unwrap().len() == 1).await;
        let refused = Op {
            reject: true,
            ..Op::default()
        };
        let written = |db: &Db| db.blocks(&db.local()).len();
        x.append_optimistic(refused.to_value()).await.unwrap();
        assert_eq!((written(&x), x.order().unwrap().len()), (1, 1));
        {
            let mut append = pin!(x.append_optimistic(refused.to_value()));
            let polled = append.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
            assert_eq!(written(&x), 1, "it was written at once: nothing is tested here");
        }
        until(&x, |db| written(db) == 2).await;
        assert_eq!(x.append_optimistic(refused.to_value()).await.unwrap(), Length(3));
        assert!(block(&x, &x, 1).views.is_some());
    });
}

/// Stops at a value that it does not know.
struct Picky;

impl Apply for Picky {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        _: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        for entry in entries {
            if entry.value() == b"poison" {
                return Err(ApplyError::fatal("an entry of a later version"));
            }
            let mut write = view.write();
            write.put(b"last", entry.value());
            write.flush().await?;
        }
        Ok(())
    }
}

#[test]
fn what_apply_stops_at_is_not_in_the_log() {
    run(async |env| {
        let open = async || {
            let store = Corestore::open_default(env.clone()).await.unwrap();
            Autobee::builder(store).apply(Picky).open().await.unwrap()
        };
        let db = open().await;
        db.append(b"food").await.unwrap();
        for value in [b"poison", b"food.."] {
            let error = db.append(value).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
        }
        assert_eq!(db.blocks(&db.local()).len(), 1);
        db.close().await.unwrap();
        let db = open().await;
        assert_eq!(db.append(b"food").await.unwrap(), Length(2));
        assert_eq!(db.order().unwrap().len(), 2);
    });
}

/// As above, but the log fails while the entry is with the engine.
#[test]
fn a_log_that_cannot_be_written_stops_the_database() {
    run(async |env| {
        let x_env = env.sibling(2);
        let a = open(env, None).await;
        let store = Corestore::open_default(x_env.clone()).await.unwrap();
        let settings = Settings::with(|settings| settings.drain_applies_max = 1);
        let x = Autobee::builder(store.clone()).apply(JsonApply).key(a.key());
        let x = x.settings(settings).open().await.unwrap();
        connect_all(&[&a, &x]);
        a.append(b"{}").await.unwrap();
        until(&x, |db| db.order().unwrap().len() == 1).await;
        let refused = Op {
            reject: true,
            ..Op::default()
        };
        x.append_optimistic(refused.to_value()).await.unwrap();
        {
            let mut append = pin!(x.append_optimistic(refused.to_value()));
            let polled = append.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
            store.close().await.unwrap();
            assert_eq!(append.await.unwrap_err().kind(), ErrorKind::Closed);
        }
        let error = x.append_optimistic(b"{}").await.unwrap_err();
        assert!(error.to_string().contains("local log"), "{error}");
        assert!(x.update().await.is_err());
        let again = join(&x_env, a.key()).await;
        assert_eq!(
            again.blocks(&again.local()).len(),
            1,
            "what was refused is not there"
        );
    });
}

#[test]
fn a_value_that_no_block_can_hold_is_refused_before_it_is_in_the_order() {
    run(async |env| {
        let settings = Settings::with(|settings| settings.value_bytes_max = 1 << 30);
        let db = open_with(env, None, &settings).await;
        let error = db.append(vec![0; 16 << 20]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert_eq!(
            (db.order().unwrap().len(), db.append(b"{}").await.unwrap()),
            (0, Length(1))
        );
    });
}

async fn three(env: &MemoryEnv) -> [Db; 3] {
    let a = open(env, None).await;
    let b = open(&env.sibling(2), Some(&a)).await;
    let c = open(&env.sibling(3), Some(&a)).await;
    connect_all(&[&a, &b, &c]);
    [a, b, c]
}

async fn open(env: &MemoryEnv, join: Option<&Db>) -> Db {
    open_with(env, join, &Settings::default()).await
}

async fn open_with(env: &MemoryEnv, join: Option<&Db>, settings: &Settings) -> Db {
    let store = Corestore::open_default(env.clone()).await.unwrap();
    let mut builder = Autobee::builder(store)
        .apply(JsonApply)
        // Whom apply acknowledges is a member, as in the original.
        .rules(Rules::interop())
        .settings(settings.clone());
    if let Some(db) = join {
        builder = builder.key(db.key());
    }
    builder.open().await.unwrap()
}

async fn join(env: &MemoryEnv, key: autobee::crypto::CoreKey) -> Db {
    let store = Corestore::open_default(env.clone()).await.unwrap();
    Autobee::builder(store)
        .apply(JsonApply)
        .key(key)
        .open()
        .await
        .unwrap()
}

/// Connects everybody with everybody.
fn connect_all(peers: &[&Db]) {
    for (at, left) in peers.iter().enumerate() {
        for right in &peers[at + 1..] {
            connect(left, right);
        }
    }
}

async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

fn wall(env: &MemoryEnv) -> u64 {
    use autobee::env::{Clock as _, Env as _};
    env.clock().wall().0
}

/// A block of a writer, as `db` has it.
fn block(db: &Db, writer: &Db, index: usize) -> OplogBlock {
    OplogBlock::from_bytes(&db.blocks(&writer.local())[index]).unwrap()
}
