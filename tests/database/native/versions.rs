//! A database is opened again with another version of its apply.

use autobee::apply::{Apply, ApplyError, ApplyView, Entry, Host, WriterOptions};
use autobee::crypto::CoreKey;
use autobee::db::{Event, Rebuild};
use autobee::env::memory::MemoryEnv;
use autobee::wire::Decode as _;
use autobee::wire::oplog::{Attestation, OplogBlock};
use autobee::{Autobee, Corestore, ErrorKind, Role, Settings};
use bytes::Bytes;

use crate::support::Db;
use crate::{memory_store, run};

const OTHER: CoreKey = CoreKey::new([7; 32]);

/// Counts the values that begin with a letter, and puts each value with the number that this version adds to it. The value
/// `add` lets a writer in, with the weight of the version.
#[derive(Clone, Copy)]
struct Numbered(u64);

impl Apply for Numbered {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        host: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        for entry in entries {
            let text = String::from_utf8_lossy(entry.value()).into_owned();
            if text == "add" {
                let weight = self.0.min(3);
                host.add_writer(OTHER, WriterOptions { weight });
            }
            let before = view.get(b"count").await.unwrap_or_default();
            let before: u64 = String::from_utf8_lossy(&before).parse().unwrap_or_default();
            let mut write = view.write();
            write.put(b"count", (before + self.0).to_string().as_bytes());
            write.put(text.as_bytes(), self.0.to_string().as_bytes());
            write.flush().await?;
        }
        Ok(())
    }
}

fn settings() -> Settings {
    Settings::with(|settings| {
        settings.window_batches = 4;
        settings.drain_applies_max = 3;
    })
}

async fn open(env: &MemoryEnv, version: u64) -> Db {
    let store = Corestore::open_default(env.clone()).await.unwrap();
    let builder = Autobee::builder(store)
        .apply(Numbered(version))
        .settings(settings());
    builder.apply_version(version).open().await.unwrap()
}

async fn filled(env: &MemoryEnv, entries: u64) -> Db {
    let db = open(env, 1).await;
    for number in 0..entries {
        db.append(format!("entry {number:02}")).await.unwrap();
    }
    db
}

/// What a peer comes to that joins with this version.
async fn fresh(env: &MemoryEnv, of: &Db, version: u64) -> Vec<(Bytes, Bytes)> {
    let store = memory_store(env).await;
    let joiner = Autobee::builder(store).key(of.key()).apply(Numbered(version));
    let joiner = joiner.apply_version(version).open().await.unwrap();
    let (near, far) = tokio::io::duplex(1 << 16);
    of.replicate(near, Role::Initiator).unwrap();
    joiner.replicate(far, Role::Responder).unwrap();
    let mut changes = Default::default();
    while joiner.order().unwrap().len() < of.order().unwrap().len() {
        joiner.changed(&mut changes).await;
    }
    assert_eq!(joiner.order().unwrap(), of.order().unwrap());
    assert!(joiner.writers() == of.writers());
    joiner.view().all().await.unwrap()
}

#[test]
fn another_version_comes_to_what_a_fresh_joiner_comes_to() {
    run(async |env| {
        let db = filled(env, 20).await;
        let old = db.view().all().await.unwrap();
        db.close().await.unwrap();

        let db = open(env, 2).await;
        let new = db.view().all().await.unwrap();
        assert_ne!(old, new);
        assert_eq!(db.view().get(b"count").await.unwrap().unwrap(), "40");
        assert_eq!(new, fresh(&env.sibling(2), &db, 2).await);
        assert!(db.stats().applies >= 20);
        assert_eq!(db.status().rebuild, None);
        let mut events = db.events();
        assert_eq!(events.next().await.unwrap(), Event::Rebuilt { from: 1, to: 2 });
        db.append("entry 20").await.unwrap();
        assert_eq!(db.view().get(b"count").await.unwrap().unwrap(), "42");
        let new = db.view().all().await.unwrap();
        db.close().await.unwrap();

        // The number was stored with it, and what was applied is applied.
        let db = open(env, 2).await;
        assert_eq!(db.view().all().await.unwrap(), new);
        assert!(db.stats().applies < 10);
        db.close().await.unwrap();

        let db = open(env, 1).await;
        assert_eq!(db.view().get(b"count").await.unwrap().unwrap(), "21");
        assert!(db.stats().applies >= 21);
    });
}

#[test]
fn a_directory_without_a_number_is_of_version_zero() {
    run(async |env| {
        let store = memory_store(env).await;
        let db = Autobee::builder(store).apply(Numbered(1)).open().await.unwrap();
        db.append("entry").await.unwrap();
        let core = db.local();
        db.close().await.unwrap();
        let store = memory_store(env).await;
        let core = store
            .get(autobee::hypercore::CoreOptions::key(core))
            .await
            .unwrap();
        assert_eq!(core.user_data("autobee/apply-version").unwrap(), None);
        drop(core);
        let db = Autobee::builder(store).apply(Numbered(1)).apply_version(0);
        let db = db.open().await.unwrap();
        assert_eq!(db.stats().applies, 0);
        db.close().await.unwrap();
        let db = open(env, 5).await;
        assert_eq!(db.stats().applies, 1);
        assert_eq!(
            db.events().next().await.unwrap(),
            Event::Rebuilt { from: 0, to: 5 }
        );
    });
}

#[test]
fn a_rebuild_in_the_background_says_how_far_it_is_and_may_be_broken_off() {
    run(async |env| {
        let db = filled(env, 30).await;
        let old = db.view().all().await.unwrap();
        db.close().await.unwrap();
        let in_background = async |version| {
            let store = Corestore::open_default(env.clone()).await.unwrap();
            let builder = Autobee::builder(store)
                .apply(Numbered(version))
                .settings(settings());
            let builder = builder.apply_version(version).rebuild_in_background(true);
            builder.open().await.unwrap()
        };
        for _ in 0..2 {
            let db = in_background(2).await;
            let (mut changes, mut last) = (Default::default(), 0);
            while last < 12 {
                let Rebuild {
                    from, to, applied, ..
                } = db.status().rebuild.unwrap();
                assert_eq!((from, to), (1, 2));
                assert!(last <= applied);
                last = applied;
                db.changed(&mut changes).await;
            }
            assert_eq!(db.status().rebuild.unwrap().batches, 30);
            db.close().await.unwrap();
            assert_eq!(db.append("x").await.unwrap_err().kind(), ErrorKind::Closed);
        }
        // Broken off, it left what was there.
        let db = open(env, 1).await;
        assert_eq!(db.view().all().await.unwrap(), old);
        db.close().await.unwrap();

        let db = in_background(2).await;
        let mut events = db.events();
        db.append("entry 30").await.unwrap();
        assert_eq!(db.view().get(b"count").await.unwrap().unwrap(), "62");
        assert_eq!(db.status().rebuild, None);
        while events.next().await.unwrap() != (Event::Rebuilt { from: 1, to: 2 }) {}
    });
}

#[test]
fn what_another_version_grants_is_attested_and_nothing_twice() {
    let attested = |db: &Db| -> Vec<Attestation> {
        let blocks = db.blocks(&db.local());
        let last = OplogBlock::from_bytes(blocks.last().unwrap()).unwrap();
        last.attestations.unwrap_or_default()
    };
    run(async |env| {
        let db = open(env, 1).await;
        db.append("add").await.unwrap();
        assert_eq!(attested(&db).len(), 1);
        for number in 0..10 {
            db.append(format!("entry {number}")).await.unwrap();
        }
        for (version, weights) in [(2, vec![2]), (3, vec![3]), (4, vec![])] {
            db.close().await.unwrap();
            let db = open(env, version).await;
            db.append("after").await.unwrap();
            let found = attested(&db);
            assert!(found.iter().all(|found| found.key == OTHER));
            let found: Vec<u64> = found.iter().map(|found| found.weight.0).collect();
            assert_eq!(found, weights, "version {version}");
            db.append("later").await.unwrap();
            assert_eq!(attested(&db), []);
            db.close().await.unwrap();
        }
    });
}
