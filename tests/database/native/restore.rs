//! A writer whose own log is longer at peers: restored from an older copy, or written elsewhere with the same key pair.

use std::fs;
use std::path::Path;
use std::time::Duration;

use autobee::crypto::{Ed25519, KeyPair, Seed, Sign as _};
use autobee::db::{Builder, Event, Stalled, Unconfirmed};
use autobee::env::native::NativeEnv;
use autobee::env::{Clock as _, Env as _};
use autobee::wire::Length;
use autobee::{Autobee, Corestore, Error, Settings};
use autobee_sim::workload::{JsonApply, Op};

use super::{Directory, connect, open, until};

type Db = Autobee<NativeEnv>;

fn pair() -> KeyPair {
    Ed25519.key_pair(&Seed::new([7; 32]))
}

async fn builder(directory: &Directory, join: &Db) -> Builder<NativeEnv> {
    let settings = Settings::with(|settings| settings.read_wait_ms = 300);
    Autobee::builder(Corestore::open_default(directory.env()).await.unwrap())
        .apply(JsonApply)
        .key(join.key())
        .settings(settings)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a backup is made by whoever makes backups, beside the database"
)]
pub(super) fn copy(from: &Path, to: &Directory) {
    fs::create_dir_all(&to.0).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.0.join(entry.file_name())).unwrap();
    }
}

async fn put(db: &Db, key: &str) -> Result<Length, Error> {
    db.append(Op::put(key, "v").to_value()).await
}

/// `a` creates the database; `b`, a member, writes `entries`, of which `a` has all.
async fn two(a_dir: &Directory, b: Db, b_dir: &Directory, a: &Db, entries: u64) -> Db {
    connect(&a_dir.env(), a, &b_dir.env(), &b).await;
    a.append(Op::add_writer(b.local(), 2).to_value()).await.unwrap();
    until(&b, |db| db.writable()).await;
    for number in 0..entries {
        put(&b, &format!("b{number}")).await.unwrap();
    }
    let local = b.local();
    until(a, |a| {
        a.writer(&local).is_some_and(|writer| writer.length.0 >= entries)
    })
    .await;
    b
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_pair_on_a_new_device_goes_on_where_it_ended() {
    let [a_dir, b_dir, c_dir, d_dir] =
        ["a", "b", "c", "d"].map(|name| Directory::new(&format!("pair-{name}")));
    let a = open(&a_dir, None).await;
    let b = builder(&b_dir, &a).await.key_pair(pair());
    // Nothing was written with it before, and whoever made it knows.
    let b = b.whole_log().open().await.unwrap();
    assert_eq!(b.unconfirmed(), None);
    let b = two(&a_dir, b, &b_dir, &a, 3).await;
    b.close().await.unwrap();

    let c = builder(&c_dir, &a).await.key_pair(pair()).open().await.unwrap();
    assert_eq!(c.unconfirmed(), Some(Unconfirmed::KeyPair));
    let refused = c.append_optimistic(b"x").await.unwrap_err();
    assert!(
        matches!(refused, Error::Unconfirmed { local } if local == c.local()),
        "{refused}"
    );
    assert!(refused.to_string().contains("whole_log"), "{refused}");
    connect(&a_dir.env(), &a, &c_dir.env(), &c).await;
    until(&c, |c| c.writable()).await;
    assert_eq!(put(&c, "c").await.unwrap(), Length(4));
    assert_eq!(c.unconfirmed(), None);
    until(&a, |a| {
        a.order().unwrap().len() == c.order().unwrap().len() && a.view() == c.view()
    })
    .await;
    assert!(a.view().get(b"b2").await.unwrap().is_some() && a.view().get(b"c").await.unwrap().is_some());
    c.close().await.unwrap();

    // Where nobody says otherwise, it is not waited for.
    let d = builder(&d_dir, &a)
        .await
        .key_pair(Ed25519.key_pair(&Seed::new([8; 32])));
    assert_eq!(
        d.whole_log()
            .open()
            .await
            .unwrap()
            .append_optimistic(b"d")
            .await
            .unwrap(),
        Length(1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_writer_goes_on_where_its_log_ended() {
    let [a_dir, b_dir, old_dir] = ["a", "b", "old"].map(|name| Directory::new(&format!("restore-{name}")));
    let a = open(&a_dir, None).await;
    let b = builder(&b_dir, &a).await.open().await.unwrap();
    let b = two(&a_dir, b, &b_dir, &a, 1).await;
    b.close().await.unwrap();
    copy(&b_dir.0, &old_dir);
    let b = builder(&b_dir, &a).await.open().await.unwrap();
    connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
    put(&b, "later").await.unwrap();
    put(&b, "last").await.unwrap();
    until(&a, |a| {
        a.writer(&b.local()).is_some_and(|writer| writer.length.0 == 3)
    })
    .await;
    b.close().await.unwrap();

    let old = builder(&old_dir, &a).await.restored().open().await.unwrap();
    assert!(matches!(put(&old, "x").await, Err(Error::Unconfirmed { .. })));
    old.close().await.unwrap();
    // It is remembered until a peer came.
    let old = builder(&old_dir, &a).await.open().await.unwrap();
    assert_eq!(old.unconfirmed(), Some(Unconfirmed::Restored));
    connect(&a_dir.env(), &a, &old_dir.env(), &old).await;
    assert_eq!(put(&old, "again").await.unwrap(), Length(4));
    until(&a, |a| {
        a.writer(&old.local()).is_some_and(|writer| writer.length.0 == 4)
    })
    .await;
    assert_eq!(a.order().unwrap(), old.order().unwrap());
    old.close().await.unwrap();
    let old = builder(&old_dir, &a).await.open().await.unwrap();
    assert_eq!(old.unconfirmed(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_that_nobody_told_takes_what_is_missing_at_the_first_contact() {
    let [a_dir, b_dir, old_dir] = ["a", "b", "old"].map(|name| Directory::new(&format!("plain-{name}")));
    let a = open(&a_dir, None).await;
    let b = builder(&b_dir, &a).await.open().await.unwrap();
    let b = two(&a_dir, b, &b_dir, &a, 1).await;
    b.close().await.unwrap();
    copy(&b_dir.0, &old_dir);
    let b = builder(&b_dir, &a).await.open().await.unwrap();
    connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
    put(&b, "later").await.unwrap();
    until(&a, |a| {
        a.writer(&b.local()).is_some_and(|writer| writer.length.0 == 2)
    })
    .await;
    b.close().await.unwrap();

    let old = builder(&old_dir, &a).await.open().await.unwrap();
    connect(&a_dir.env(), &a, &old_dir.env(), &old).await;
    until(&old, |old| {
        old.writer(&old.local())
            .is_some_and(|writer| writer.length.0 == 2)
    })
    .await;
    assert_eq!(put(&old, "again").await.unwrap(), Length(3));
    until(&a, |a| {
        a.writer(&old.local()).is_some_and(|writer| writer.length.0 == 3)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_written_twice_is_reported_at_both_sides() {
    for later in [1, 2, 3] {
        let [a_dir, b_dir, old_dir] =
            ["a", "b", "old"].map(|name| Directory::new(&format!("twice-{later}-{name}")));
        let a = open(&a_dir, None).await;
        let b = builder(&b_dir, &a).await.open().await.unwrap();
        let b = two(&a_dir, b, &b_dir, &a, 1).await;
        b.close().await.unwrap();
        copy(&b_dir.0, &old_dir);
        let b = builder(&b_dir, &a).await.open().await.unwrap();
        connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
        for number in 0..later {
            put(&b, &format!("later{number}")).await.unwrap();
        }
        let length = 1 + later;
        until(&a, |a| {
            a.writer(&b.local())
                .is_some_and(|writer| writer.length.0 == length)
        })
        .await;
        b.close().await.unwrap();

        // The copy writes before it meets anybody: shorter, as long, and longer than what peers have.
        let old = builder(&old_dir, &a).await.open().await.unwrap();
        put(&old, "other").await.unwrap();
        put(&old, "one").await.unwrap();
        let mut events = old.events();
        connect(&a_dir.env(), &a, &old_dir.env(), &old).await;
        let local = old.local();
        let is_contradicted = |db: &Db| {
            let mut stalled = db.stalled().into_iter();
            stalled.any(|(key, why)| key == local && matches!(why, Stalled::Conflict { .. }))
        };
        until(&a, is_contradicted).await;
        until(&old, is_contradicted).await;
        let refused = put(&old, "more").await.unwrap_err();
        assert!(matches!(refused, Error::Contradicted { .. }), "{refused}");
        while !matches!(events.next().await.unwrap(), Event::Contradicted { .. }) {}
        let writers = old.status().writers;
        let own = writers.iter().find(|writer| writer.key == local).unwrap();
        assert_eq!(
            (own.length, own.have, own.applied),
            (Length(3), Length(3), Length(3))
        );
        assert!(old.view().get(b"other").await.unwrap().is_some());

        // Neither side forgets it.
        a.close().await.unwrap();
        old.close().await.unwrap();
        let a = open(&a_dir, None).await;
        assert!(is_contradicted(&a));
        let old = builder(&old_dir, &a).await.open().await.unwrap();
        assert!(is_contradicted(&old));
        let refused = put(&old, "more").await.unwrap_err();
        assert!(matches!(refused, Error::Contradicted { .. }), "{refused}");
        let writers = old.status().writers;
        let own = writers.iter().find(|writer| writer.key == local).unwrap();
        assert_eq!(own.applied, Length(3));

        // Nor does it write by itself: a stranger that asks to be acknowledged is not. With more, what it links is of the
        // other log.
        if later > 1 {
            continue;
        }
        let x_dir = Directory::new(&format!("twice-{later}-x"));
        let x = builder(&x_dir, &a).await.open().await.unwrap();
        let link = connect(&a_dir.env(), &a, &x_dir.env(), &x).await;
        until(&x, |x| x.order().unwrap().len() >= 2).await;
        link.close();
        let mut hello = Op::put("hello", "there");
        hello.ack = Some(x.local().to_hex());
        x.append_optimistic(hello.to_value()).await.unwrap();
        let mut events = old.events();
        connect(&x_dir.env(), &x, &old_dir.env(), &old).await;
        let told = async { while events.next().await.unwrap() != Event::Unacknowledged {} };
        tokio::time::timeout(Duration::from_secs(20), told).await.unwrap();
        let own = old
            .status()
            .writers
            .into_iter()
            .find(|writer| writer.key == local);
        assert_eq!(own.unwrap().have, Length(3));
    }
}

/// The end of the store is gone, but for the mark that says how far it was durable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_end_of_the_store_is_told_and_asked_for() {
    let [a_dir, b_dir, old_dir, x_dir] =
        ["a", "b", "old", "x"].map(|name| Directory::new(&format!("cut-{name}")));
    let a = open(&a_dir, None).await;
    let b = builder(&b_dir, &a).await.open().await.unwrap();
    let b = two(&a_dir, b, &b_dir, &a, 1).await;
    b.close().await.unwrap();
    copy(&b_dir.0, &old_dir);
    let b = builder(&b_dir, &a).await.open().await.unwrap();
    connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
    put(&b, "later").await.unwrap();
    put(&b, "last").await.unwrap();
    until(&a, |a| {
        a.writer(&b.local()).is_some_and(|writer| writer.length.0 == 3)
    })
    .await;
    let local = b.local();
    b.close().await.unwrap();
    fs::copy(b_dir.0.join("durable"), old_dir.0.join("durable")).unwrap();

    let old = builder(&old_dir, &a).await.open().await.unwrap();
    assert_eq!(old.unconfirmed(), Some(Unconfirmed::CutOff));
    let mut events = old.events();
    let Event::CutOff { first, last } = events.next().await.unwrap() else {
        panic!("the cut is told first");
    };
    assert!(first <= last);
    assert_eq!(
        events.next().await.unwrap(),
        Event::Unconfirmed(Unconfirmed::CutOff)
    );
    let refused = put(&old, "x").await.unwrap_err();
    assert!(matches!(refused, Error::Unconfirmed { .. }), "{refused}");

    // A stranger that asks to be acknowledged has to wait for it.
    let x = builder(&x_dir, &a).await.open().await.unwrap();
    let link = connect(&a_dir.env(), &a, &x_dir.env(), &x).await;
    until(&x, |x| x.order().unwrap().len() >= 4).await;
    link.close();
    let mut hello = Op::put("hello", "there");
    hello.ack = Some(x.local().to_hex());
    x.append_optimistic(hello.to_value()).await.unwrap();
    connect(&x_dir.env(), &x, &old_dir.env(), &old).await;
    while events.next().await.unwrap() != Event::Unacknowledged {}

    connect(&a_dir.env(), &a, &old_dir.env(), &old).await;
    until(&old, |old| {
        old.writer(&local).is_some_and(|writer| writer.length.0 >= 3)
    })
    .await;
    // Behind the acknowledgement, if that is written by now.
    let length = put(&old, "again").await.unwrap();
    assert!([Length(4), Length(5)].contains(&length), "{length:?}");
    while events.next().await.unwrap() != Event::Confirmed {}
    assert_eq!(old.unconfirmed(), None);
    until(&a, |a| {
        a.writer(&local).is_some_and(|writer| writer.length.0 >= 4)
    })
    .await;
}

/// Who exchanges everything with a peer and ends may ask for what the next append would ask for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_log_is_confirmed_without_an_append() {
    let [a_dir, b_dir, old_dir] = ["a", "b", "old"].map(|name| Directory::new(&format!("confirm-{name}")));
    let a = open(&a_dir, None).await;
    let b = builder(&b_dir, &a).await.open().await.unwrap();
    assert!(b.confirm().await.is_ok(), "nothing is in doubt");
    let b = two(&a_dir, b, &b_dir, &a, 2).await;
    b.close().await.unwrap();
    copy(&b_dir.0, &old_dir);
    let restored = builder(&old_dir, &a).await.restored().open().await.unwrap();
    let refused = restored.confirm().await.unwrap_err();
    assert!(matches!(refused, Error::Unconfirmed { .. }), "{refused}");
    let length = restored.view();
    connect(&a_dir.env(), &a, &old_dir.env(), &restored).await;
    restored.confirm().await.unwrap();
    assert_eq!((restored.unconfirmed(), restored.view() == length), (None, true));
    restored.close().await.unwrap();
    let again = builder(&old_dir, &a).await.open().await.unwrap();
    assert_eq!(again.unconfirmed(), None);
    put(&again, "alone").await.unwrap();
}

/// A writer that compared its view with a peer's has the peer's trees among its cores, and never all of them. Its log is
/// confirmed by that peer all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_writer_that_compared_views_is_confirmed() {
    let [a_dir, b_dir, old_dir] = ["a", "b", "old"].map(|name| Directory::new(&format!("compared-{name}")));
    let eager = |settings: &mut Settings| settings.compare_ms = 10;
    let store = Corestore::open_default(a_dir.env()).await.unwrap();
    let a = Autobee::builder(store)
        .apply(JsonApply)
        .settings(Settings::with(eager));
    let a = a.open().await.unwrap();
    let b = builder(&b_dir, &a)
        .await
        .settings(Settings::with(eager))
        .open()
        .await
        .unwrap();
    let b = two(&a_dir, b, &b_dir, &a, 2).await;
    // The views are stamped once they are stored, and the trees of `a` are opened at `b`.
    let is_compared = || {
        b.status()
            .peers
            .iter()
            .any(|peer| peer.progress.cores > 2 && !peer.progress.is_synced)
    };
    for number in 0..200 {
        put(&a, &format!("a{number}")).await.unwrap();
        // They are closed when the comparison is over, which takes a moment only.
        let until = b_dir.env().clock().now() + Duration::from_millis(20);
        while !is_compared() && b_dir.env().clock().now() < until {
            tokio::task::yield_now().await;
        }
        if is_compared() {
            break;
        }
    }
    assert!(
        is_compared(),
        "the trees of a peer were opened: {:?}",
        b.status().peers
    );
    b.close().await.unwrap();
    copy(&b_dir.0, &old_dir);
    let b = builder(&b_dir, &a).await.open().await.unwrap();
    connect(&a_dir.env(), &a, &b_dir.env(), &b).await;
    until(&b, |b| b.order().unwrap().len() == a.order().unwrap().len()).await;
    put(&b, "later").await.unwrap();
    let (local, length) = (b.local(), b.order().unwrap().len());
    until(&a, |a| a.order().unwrap().len() == length).await;
    b.close().await.unwrap();

    let settings = Settings::with(|settings| settings.read_wait_ms = 3_000);
    let restored = builder(&old_dir, &a)
        .await
        .settings(settings)
        .restored()
        .open()
        .await
        .unwrap();
    connect(&a_dir.env(), &a, &old_dir.env(), &restored).await;
    until(&restored, |db| {
        db.status().peers.iter().any(|peer| peer.progress.cores > 2)
    })
    .await;
    put(&restored, "goes on").await.unwrap();
    assert_eq!(restored.local(), local);
    // It went on behind what the peer had, and no second log began: all of it is in the order of both.
    for db in [&a, &restored] {
        until(db, |db| db.order().unwrap().len() == length + 1).await;
        for key in ["later", "goes on"] {
            assert!(db.view().get(key.as_bytes()).await.unwrap().is_some(), "{key}");
        }
    }
}
