//! Another log takes the place of the local writer's: a new device, a lost one, one that was restored.

#![expect(
    clippy::disallowed_methods,
    reason = "a test waits and spawns as a program does that embeds the database"
)]

use std::time::Duration;

use autobee::crypto::{CoreKey, Ed25519, KeyPair, Seed, Sign as _};
use autobee::db::{Event, LocalWriter, Unconfirmed};
use autobee::env::native::NativeEnv;
use autobee::hypercore::CoreOptions;
use autobee::{Autobee, Corestore, Error, ErrorKind};
use autobee_sim::workload::{JsonApply, Op};

use super::{Directory, connect, open, until};

type Db = Autobee<NativeEnv>;

fn pair(seed: u8) -> KeyPair {
    Ed25519.key_pair(&Seed::new([seed; 32]))
}

async fn put(db: &Db, key: &str) {
    db.append(Op::put(key, "v").to_value()).await.unwrap();
}

async fn add(db: &Db, key: CoreKey) {
    db.append(Op::add_writer(key, 2).to_value()).await.unwrap();
}

async fn agree(a: &Db, b: &Db) {
    let equal = async {
        while a.order().unwrap() != b.order().unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), equal)
        .await
        .unwrap();
    assert_eq!(a.view().all().await.unwrap(), b.view().all().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_goes_on_in_another_log_also_after_a_reopen() {
    let [a_dir, b_dir] = ["a", "b"].map(|name| Directory::new(&format!("rotate-{name}")));
    let a = open(&a_dir, None).await;
    let b = open(&b_dir, Some(&a)).await;
    connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
    let old = b.local();
    add(&a, old).await;
    until(&b, |b| b.writable()).await;
    put(&b, "old").await;

    let mut events = b.events();
    let new = b.create_writer().await.unwrap();
    assert!(b.local() == old && new != old, "it is made, and no more");
    add(&b, new).await;
    assert_eq!(b.set_local(new).await.unwrap(), new);
    assert_eq!(b.local(), new);
    assert!(b.writable(), "it was added before");
    put(&b, "new").await;
    until(&a, |a| a.writer(&new).is_some_and(|writer| writer.length.0 == 1)).await;
    agree(&a, &b).await;
    let mut told = Vec::new();
    while told.last() != Some(&Event::Rotated { from: old, to: new }) {
        told.push(events.next().await.unwrap());
    }
    assert!(told.contains(&Event::Writer(new)));

    // The old one is a writer like any other.
    a.append(Op::remove_writer(old).to_value()).await.unwrap();
    until(&b, |b| b.writer(&old).is_some_and(|writer| writer.is_removed)).await;
    assert!(b.writable());
    put(&b, "newer").await;
    agree(&a, &b).await;

    let order = b.order().unwrap();
    b.close().await.unwrap();
    let b = open(&b_dir, Some(&a)).await;
    assert_eq!(
        (b.local(), b.stats().applies),
        (new, 0),
        "nothing was applied anew"
    );
    assert_eq!(b.order().unwrap(), order);
    put(&b, "newest").await;
    connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
    agree(&b, &a).await;
    assert_eq!(a.writer(&new).unwrap().length.0, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creator_that_turned_to_another_log_opens_without_a_key() {
    let [a_dir, b_dir] = ["a", "b"].map(|name| Directory::new(&format!("rotate-creator-{name}")));
    let a = open(&a_dir, None).await;
    put(&a, "old").await;
    let mut events = a.events();
    let new = a.set_local(LocalWriter::New).await.unwrap();
    assert!(!a.writable() && a.key() != new && a.local() == new);
    let refused = a.append(b"x").await.unwrap_err();
    assert!(
        matches!(refused, Error::NotWritable { local } if local == new),
        "{refused}"
    );
    assert_eq!(
        events.next().await.unwrap(),
        Event::Rotated {
            from: a.key(),
            to: new
        }
    );
    assert_eq!(events.next().await.unwrap(), Event::Unwritable);
    a.close().await.unwrap();

    let a = open(&a_dir, None).await;
    assert_eq!(a.local(), new);
    // Back to the first one, which adds it.
    assert_eq!(a.set_local(a.key()).await.unwrap(), a.key());
    add(&a, new).await;
    a.set_local(new).await.unwrap();
    put(&a, "new").await;
    assert_eq!(a.order().unwrap().len(), 3);
    let b = open(&b_dir, Some(&a)).await;
    connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
    agree(&b, &a).await;
    assert_eq!(b.writer(&new).unwrap().length.0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cores_of_the_own_trees_are_no_logs_to_turn_to() {
    let directory = Directory::new("rotate-tree");
    let db = open(&directory, None).await;
    put(&db, "a").await;
    let local = db.local();
    let [system, view, _] = db.views().unwrap();
    for core in [system.key, view.key] {
        let refused = db.set_local(core).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        assert!(refused.to_string().contains(&core.to_string()), "{refused}");
        assert_eq!(db.local(), local);
        put(&db, "b").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_ends_in_the_old_log() {
    let a_dir = Directory::new("rotate-race");
    let a = open(&a_dir, None).await;
    let old = a.local();
    let new = a.create_writer().await.unwrap();
    add(&a, new).await;
    let appends: Vec<_> = (0..40)
        .map(|number| {
            let a = a.clone();
            tokio::spawn(async move { put(&a, &format!("k{number}")).await })
        })
        .collect();
    tokio::task::yield_now().await;
    a.set_local(new).await.unwrap();
    for append in appends {
        append.await.unwrap();
    }
    let [before, behind] = [old, new].map(|key| a.writer(&key).map_or(0, |writer| writer.length.0));
    assert_eq!(
        before + behind,
        41,
        "each stands in one of the two, and is applied"
    );
    for number in 0..40 {
        assert!(
            a.view()
                .get(format!("k{number}").as_bytes())
                .await
                .unwrap()
                .is_some()
        );
    }
}

/// The recipe for a device that is lost: a member removes its log and adds that of the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_writer_that_nobody_can_confirm_goes_on_in_a_new_log() {
    let [a_dir, b_dir, old_dir] =
        ["a", "b", "old"].map(|name| Directory::new(&format!("rotate-lost-{name}")));
    let a = open(&a_dir, None).await;
    let b = open(&b_dir, Some(&a)).await;
    connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
    let lost = b.local();
    add(&a, lost).await;
    until(&b, |b| b.writable()).await;
    put(&b, "b").await;
    b.close().await.unwrap();
    super::restore::copy(&b_dir.0, &old_dir);

    let store = Corestore::open_default(old_dir.env()).await.unwrap();
    let b = Autobee::builder(store)
        .apply(JsonApply)
        .restored()
        .open()
        .await
        .unwrap();
    assert_eq!(b.unconfirmed(), Some(Unconfirmed::Restored));
    let new = b.set_local(LocalWriter::New).await.unwrap();
    assert_eq!(
        b.unconfirmed(),
        None,
        "nobody can have more of a log that was drawn just now"
    );
    a.append(Op::remove_writer(lost).to_value()).await.unwrap();
    add(&a, new).await;
    connect(&a_dir.env(), &a, &old_dir.env(), &b).await;
    until(&b, |b| b.writable()).await;
    put(&b, "again").await;
    agree(&b, &a).await;
    b.close().await.unwrap();
    let store = Corestore::open_default(old_dir.env()).await.unwrap();
    let b = Autobee::builder(store).apply(JsonApply).open().await.unwrap();
    assert_eq!((b.local(), b.unconfirmed()), (new, None));
    put(&b, "and again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_pair_that_may_have_written_elsewhere_is_asked_about_first() {
    let [a_dir, b_dir, c_dir] = ["a", "b", "c"].map(|name| Directory::new(&format!("rotate-pair-{name}")));
    let a = open(&a_dir, None).await;
    let b = open(&b_dir, Some(&a)).await;
    connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
    b.set_local(pair(7)).await.unwrap();
    assert_eq!(b.unconfirmed(), Some(Unconfirmed::KeyPair));
    connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
    add(&a, b.local()).await;
    until(&b, |b| b.writable()).await;
    put(&b, "b").await;
    assert_eq!(b.unconfirmed(), None);
    agree(&a, &b).await;
    b.close().await.unwrap();

    // Another device with the same key pair goes on behind that.
    let c = open(&c_dir, Some(&a)).await;
    let key = c.set_local(pair(7)).await.unwrap();
    assert_eq!(key, b.local());
    connect(&a_dir.env(), &a, &c_dir.env(), &c).await;
    until(&c, |c| c.writable()).await;
    put(&c, "c").await;
    agree(&a, &c).await;
    assert_eq!(a.writer(&key).unwrap().length.0, 2);
    // The store keeps the pair.
    c.close().await.unwrap();
    let c = open(&c_dir, Some(&a)).await;
    assert_eq!(c.local(), key);
    put(&c, "again").await;
}

#[tokio::test]
async fn a_log_that_cannot_be_written_here_is_refused() {
    let [a_dir, b_dir] = ["a", "b"].map(|name| Directory::new(&format!("rotate-refused-{name}")));
    let a = open(&a_dir, None).await;
    let b = open(&b_dir, None).await;
    let (old, foreign) = (a.local(), b.key());
    let refused = a.set_local(foreign).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("key pair"), "{refused}");
    assert_eq!(a.set_local(old).await.unwrap(), old, "no change");
    a.close().await.unwrap();

    // One store, two databases: a log is one's or the other's.
    let store = Corestore::open_default(a_dir.env()).await.unwrap();
    let other_store = store.namespace("other");
    let a = Autobee::builder(store.clone())
        .apply(JsonApply)
        .open()
        .await
        .unwrap();
    let other = Autobee::builder(other_store)
        .apply(JsonApply)
        .open()
        .await
        .unwrap();
    let refused = a.set_local(other.local()).await.unwrap_err();
    assert!(
        refused.to_string().contains("belongs to the database"),
        "{refused}"
    );
    assert_eq!(a.local(), old);
    put(&a, "x").await;
    let core = store.get(CoreOptions::key(old)).await.unwrap();
    assert_eq!(core.length().unwrap(), autobee::Length(1));
    a.close().await.unwrap();
    assert_eq!(
        a.set_local(LocalWriter::New).await.unwrap_err().kind(),
        ErrorKind::Closed
    );
}

/// A log that wrote as a stranger and was refused is not in the set; who turns back to it goes on behind what stands there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_entries_were_refused_is_gone_back_to() {
    let [a_dir, b_dir] = ["a", "b"].map(|name| Directory::new(&format!("rotate-back-{name}")));
    let a = open(&a_dir, None).await;
    let b = open(&b_dir, Some(&a)).await;
    connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
    let old = b.local();
    b.append_optimistic(b"this is no entry").await.unwrap();
    let new = b.set_local(LocalWriter::New).await.unwrap();
    add(&a, new).await;
    until(&b, |b| b.writable()).await;
    put(&b, "new").await;
    add(&b, old).await;
    b.set_local(old).await.unwrap();
    assert!(b.writable());
    put(&b, "old").await;
    agree(&a, &b).await;
    assert!(a.view().get(b"old").await.unwrap().is_some());
}

/// A part of what a key pair wrote is here already: where it ends is asked for all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_pair_whose_log_is_here_in_part_is_asked_about() {
    let [a_dir, b_dir, c_dir] = ["a", "b", "c"].map(|name| Directory::new(&format!("rotate-part-{name}")));
    let a = open(&a_dir, None).await;
    let b = open(&b_dir, Some(&a)).await;
    let c = open(&c_dir, Some(&a)).await;
    let key = b.set_local(pair(9)).await.unwrap();
    connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
    connect(&a_dir.env(), &a, &c_dir.env(), &c).await;
    add(&a, key).await;
    until(&b, |b| b.writable()).await;
    put(&b, "first").await;
    agree(&c, &b).await;
    for session in c.status().peers {
        session.session.close();
    }
    put(&b, "second").await;
    agree(&a, &b).await;
    b.close().await.unwrap();

    c.set_local(pair(9)).await.unwrap();
    assert_eq!(c.unconfirmed(), Some(Unconfirmed::KeyPair));
    connect(&a_dir.env(), &a, &c_dir.env(), &c).await;
    put(&c, "third").await;
    assert_eq!(c.unconfirmed(), None);
    agree(&a, &c).await;
    assert_eq!(a.writer(&key).unwrap().length.0, 3);
    assert!(a.stalled().is_empty() && c.stalled().is_empty());
}

/// Two programs wrote one log: it is at its end, and its writer goes on in another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contradicted_log_is_left_for_another_one() {
    let [a_dir, b_dir, old_dir] =
        ["a", "b", "old"].map(|name| Directory::new(&format!("rotate-split-{name}")));
    let a = open(&a_dir, None).await;
    let b = open(&b_dir, Some(&a)).await;
    connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
    let local = b.local();
    add(&a, local).await;
    until(&b, |b| b.writable()).await;
    put(&b, "both").await;
    agree(&a, &b).await;
    b.close().await.unwrap();
    super::restore::copy(&b_dir.0, &old_dir);
    // Nobody said that one of them is a copy, and neither meets a peer before it writes.
    let b = open(&b_dir, Some(&a)).await;
    let old = open(&old_dir, Some(&a)).await;
    put(&b, "one").await;
    put(&old, "other").await;
    connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
    agree(&a, &b).await;
    connect(&a_dir.env(), &a, &old_dir.env(), &old).await;
    until(&old, |old| !old.stalled().is_empty()).await;
    assert_eq!(old.append(b"x").await.unwrap_err().kind(), ErrorKind::Denied);

    let new = old.set_local(LocalWriter::New).await.unwrap();
    add(&a, new).await;
    until(&old, |old| old.writable()).await;
    put(&old, "again").await;
    until(&a, |a| a.writer(&new).is_some_and(|writer| writer.length.0 == 1)).await;
    old.close().await.unwrap();
    assert_eq!(open(&old_dir, Some(&a)).await.local(), new);
}
