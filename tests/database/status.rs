//! What a database tells of itself: how far it is, what it waits for, what happens to it; and what a slow heal costs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autobee::apply::{Apply, ApplyError, ApplyView, Entry, Host};
use autobee::crypto::{CoreKey, Seed, Sign as _};
use autobee::db::{Event, HealGather, Pending, Session};
use autobee::env::memory::MemoryEnv;
use autobee::env::{Clock as _, Env as _};
use autobee::hypercore::{CoreOptions, Wait};
use autobee::replication::session::{Replication, SessionSettings};
use autobee::wire::{Index, Length, Link};
use autobee::{Autobee, Corestore, Error, ErrorKind, Role, Settings};
use autobee_sim::workload::{JsonApply, Op};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use crate::run;
use crate::support::{Db, add, connect, connect_through, in_world, put, until_in};

#[test]
fn the_status_names_writers_peers_and_what_is_missing() {
    run(async |env| {
        let a = open(env, 2, None, Settings::default()).await;
        let b = open(env, 3, Some(&a), Settings::default()).await;
        put(&a, "x", "v").await;
        let status = a.status();
        assert!(status.is_writable && status.peers.is_empty() && status.stopped.is_none());
        assert_eq!(status.writers.len(), 1);
        assert_eq!(
            (status.writers[0].have, status.writers[0].applied),
            (Length(1), Length(1))
        );
        assert_eq!(status.writers[0].pending, None);

        let (near, far) = connect_through(&a, &b, 1 << 20);
        assert!(far.synced().await);
        until_in(env, || b.order().unwrap().len() == 1).await;
        let status = b.status();
        assert!(!status.is_writable);
        assert_eq!(status.peers.len(), 1);
        assert_eq!(
            (status.peers[0].progress.have, status.peers[0].progress.want),
            (1, 1)
        );
        assert_eq!(status.peers[0].session.remote(), Some(a.public_key()));
        let creator = status
            .writers
            .iter()
            .find(|writer| writer.key == a.key())
            .unwrap();
        assert_eq!((creator.length, creator.have), (Length(1), Length(1)));
        assert_eq!(b.writer(&a.local()).unwrap().length, Length(1));
        assert_eq!(b.writer(&CoreKey::new([9; 32])), None);

        near.close();
        far.ended().await;
        until_in(env, || b.status().peers.is_empty()).await;
    });
}

#[test]
fn a_flush_waits_for_what_is_known_to_exist_and_names_it_when_it_does_not_come() {
    run(async |env| {
        let settings = Settings::with(|settings| settings.read_wait_ms = 500);
        let a = open(env, 2, None, Settings::default()).await;
        let b = open(env, 3, Some(&a), Settings::default()).await;
        let c = open(env, 4, Some(&a), settings).await;
        let ab = connect_through(&a, &b, 1 << 20);
        add(&a, &b, 2).await;
        until_in(env, || b.writable()).await;
        put(&b, "b", "v").await;
        until_in(env, || a.order().unwrap().len() == 2).await;
        ab.0.close();
        ab.1.ended().await;
        put(&a, "behind b", "v").await;

        // Somebody who has the log of a alone: its last entry links the one of b.
        let raw = env.sibling(9);
        let store = Corestore::open_default(raw.clone()).await.unwrap();
        let replication = Replication::new(&raw, &store, SessionSettings::default());
        let log = store.get(CoreOptions::key(a.key())).await.unwrap();
        let (near, far) = tokio::io::duplex(1 << 16);
        replication.start(near, Role::Initiator);
        a.replicate(far, Role::Responder).unwrap();
        for index in 0..2 {
            log.get(Index(index), Wait::Forever).await.unwrap();
        }
        assert!(c.flush().await.is_ok(), "nothing is known to be missing");
        let (near, far) = tokio::io::duplex(1 << 16);
        replication.start(near, Role::Initiator);
        c.replicate(far, Role::Responder).unwrap();
        until_in(env, || c.status().missing.len() == 1).await;
        let missing = Link {
            key: b.local(),
            length: Length(1),
        };
        assert_eq!(c.status().missing, [missing]);
        let before = env.clock().now();
        match c.flush().await {
            Err(Error::Unavailable { core, index }) => assert_eq!((core, index), (b.local(), Index(0))),
            other => panic!("{other:?}"),
        }
        assert!(env.clock().now().since(before) >= Duration::from_millis(500));

        connect_through(&b, &c, 1 << 20);
        until_in(env, || c.status().missing.is_empty()).await;
        c.flush().await.unwrap();
        assert_eq!(c.order().unwrap().len(), 3);
    });
}

#[test]
fn events_come_in_the_order_of_what_happened() {
    run(async |env| {
        let a = open(env, 2, None, Settings::default()).await;
        let b = open(env, 3, Some(&a), Settings::default()).await;
        let mut events = b.events();
        connect_through(&a, &b, 1 << 20);
        put(&a, "x", "v").await;
        assert_eq!(events.next().await.unwrap(), Event::Writer(a.local()));
        assert!(matches!(events.next().await.unwrap(), Event::Update { .. }));
        add(&a, &b, 2).await;
        assert_eq!(events.next().await.unwrap(), Event::Writer(b.local()));
        assert_eq!(events.next().await.unwrap(), Event::Writable);
        let Event::Update { from, to } = events.next().await.unwrap() else {
            panic!("no update");
        };
        assert!(from.length < to.length);
        a.append(Op::remove_writer(b.local()).to_value()).await.unwrap();
        assert_eq!(events.next().await.unwrap(), Event::Unwritable);
        assert!(matches!(events.next().await.unwrap(), Event::Update { .. }));
        b.close().await.unwrap();
        assert!(matches!(events.next().await, Err(Error::Closed)));
    });
}

#[test]
fn a_slow_listener_is_told_how_much_it_missed() {
    run(async |env| {
        let a = open(env, 2, None, Settings::default()).await;
        let mut events = a.events();
        for number in 0..300 {
            put(&a, &number.to_string(), "v").await;
        }
        assert!(matches!(events.next().await.unwrap(), Event::Missed(count) if count > 0));
        assert!(matches!(events.next().await.unwrap(), Event::Update { .. }));
    });
}

/// Stops at the second entry.
struct Stops;

impl Apply for Stops {
    async fn apply(
        &self,
        entries: &[Entry],
        _: &mut ApplyView,
        host: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        if entries.iter().any(|entry| entry.value() == b"stop") {
            host.interrupt("a newer version is needed");
        }
        Ok(())
    }
}

#[test]
fn an_interrupt_is_told_once_and_shows_in_the_status() {
    run(async |env| {
        let store = Corestore::open_default(env.sibling(2)).await.unwrap();
        let a = Autobee::builder(store).apply(Stops).open().await.unwrap();
        a.append("go").await.unwrap();
        let mut events = a.events();
        assert_eq!(a.append("stop").await.unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(a.update().await.unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(a.updated().await.unwrap_err().kind(), ErrorKind::Interrupted);
        let reason = "a newer version is needed".to_owned();
        assert_eq!(a.status().stopped.as_ref(), Some(&reason));
        assert_eq!(events.next().await.unwrap(), Event::Interrupt { reason });
        a.close().await.unwrap();
        assert!(matches!(events.next().await, Err(Error::Closed)));
    });
}

#[test]
fn a_hint_makes_a_writer_be_looked_for() {
    run(async |env| {
        let a = open(env, 2, None, Settings::default()).await;
        put(&a, "x", "v").await;
        let stranger = CoreKey::new([7; 32]);
        a.wakeup(Link {
            key: stranger,
            length: Length(3),
        })
        .await
        .unwrap();
        until_in(env, || {
            a.status().writers.iter().any(|writer| writer.key == stranger)
        })
        .await;
        let status = a.status();
        let writer = status
            .writers
            .iter()
            .find(|writer| writer.key == stranger)
            .unwrap();
        assert!(writer.record.is_none() && writer.pending.is_none());
        assert_ne!(writer.pending, Some(Pending::Order));
        assert!(Db::is_autobee(&a) && !Db::is_autobee(&stranger));
    });
}

#[test]
fn the_update_hook_hears_of_each_round_and_a_given_key_pair_is_the_local_writer() {
    run(async |env| {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listener = Arc::clone(&heard);
        let pair = env.crypto().key_pair(&Seed::new([5; 32]));
        let store = Corestore::open_default(env.sibling(2)).await.unwrap();
        let a = Autobee::builder(store)
            .apply(JsonApply)
            .key_pair(pair.clone())
            .update(move |view, update| listener.lock().unwrap().push((view.head(), *update)));
        let a = a.open().await.unwrap();
        assert_eq!(a.key(), a.local());
        put(&a, "x", "v").await;
        put(&a, "y", "v").await;
        // Another store, the same pair: the same writer.
        let store = Corestore::open_default(env.sibling(3)).await.unwrap();
        let again = Autobee::builder(store).key_pair(pair).open().await.unwrap();
        assert_eq!(again.local(), a.local());
        {
            let heard = heard.lock().unwrap();
            let lengths: Vec<_> = heard
                .iter()
                .map(|(head, update)| (head.length.0, update.view.0.length.0, update.view.1.length.0))
                .collect();
            assert_eq!(lengths, [(1, 0, 1), (2, 1, 2)]);
        }
        let views = a.writer_views(&a.local()).unwrap().unwrap();
        assert_eq!((views.flushes, views.system.length), (2, Length(1)));
        assert_eq!(a.writer_views(&CoreKey::new([1; 32])).unwrap(), None);
    });
}

/// Two sides of a partition over a wire of 100 KiB a second: how often is it undone, and how long does it take?
fn heal_slowly(heal_gather: HealGather) -> (u64, Duration) {
    let found = std::cell::Cell::new((0, Duration::ZERO));
    run(async |env| {
        let settings = Settings::with(|settings| settings.heal_gather = heal_gather);
        let a = open(env, 2, None, settings.clone()).await;
        let b = open(env, 3, Some(&a), settings).await;
        let (near, far) = connect_through(&a, &b, 1 << 20);
        add(&a, &b, 2).await;
        until_in(env, || b.writable()).await;
        near.close();
        far.ended().await;
        for number in 0..150 {
            put(&a, &format!("a{number}"), "v").await;
            env.clock().sleep(Duration::from_millis(2)).await;
            put(&b, &format!("b{number}"), "v").await;
        }
        let before = [a.stats(), b.stats()];
        let start = env.clock().now();
        let _link = connect_slowly(env, &a, &b);
        until_in(env, || {
            a.order().unwrap().len() == 301 && b.order().unwrap().len() == 301
        })
        .await;
        assert_eq!(a.order().unwrap(), b.order().unwrap());
        let undos = [
            a.stats().undos - before[0].undos,
            b.stats().undos - before[1].undos,
        ];
        found.set((undos[0].max(undos[1]), env.clock().now().since(start)));
    });
    found.get()
}

#[test]
fn a_slow_heal_undoes_at_most_once_each_time_that_it_gathered() {
    let (undos, taken) = heal_slowly(HealGather {
        time_ms: 200,
        quiet_ms: 200,
        ..HealGather::default()
    });
    let bound = taken.as_millis() as u64 / 200 + 2;
    assert!(undos <= bound, "{undos} undos in {taken:?}");

    let (eager, _) = heal_slowly(HealGather {
        time_ms: 0,
        ..HealGather::default()
    });
    assert!(eager > 2 * undos, "{eager} undos without gathering, {undos} with");
}

#[test]
fn a_new_peer_applies_the_history_of_one_writer_while_it_comes_in() {
    run(async |env| {
        let settings = Settings::default();
        let a = open(env, 2, None, settings.clone()).await;
        for number in 0..600 {
            put(&a, &format!("a{number}"), "v").await;
        }
        let b = open(env, 3, Some(&a), settings).await;
        let _link = connect_slowly(env, &a, &b);
        let seen = std::cell::RefCell::new(BTreeSet::new());
        until_in(env, || {
            let applied = b.order().unwrap().len();
            seen.borrow_mut().insert(applied);
            applied == 600
        })
        .await;
        assert!(seen.borrow().len() > 5, "{seen:?}");
        assert_eq!((b.stats().applies, b.stats().undos), (600, 0));
    });
}

#[test]
fn a_heal_whose_blocks_come_at_once_undoes_twice_at_most_and_applies_each_entry_once() {
    run(async |env| {
        let a = open(env, 2, None, Settings::default()).await;
        let b = open(env, 3, Some(&a), Settings::default()).await;
        let (near, far) = connect_through(&a, &b, 1 << 20);
        add(&a, &b, 2).await;
        until_in(env, || b.writable()).await;
        near.close();
        far.ended().await;
        for number in 0..200 {
            put(&a, &format!("a{number}"), "v").await;
            put(&b, &format!("b{number}"), "v").await;
        }
        let before = [a.stats(), b.stats()];
        connect_through(&a, &b, 1 << 20);
        until_in(env, || {
            a.order().unwrap().len() == 401 && b.order().unwrap().len() == 401
        })
        .await;
        for (db, before) in [&a, &b].into_iter().zip(before) {
            let (applies, undos) = (
                db.stats().applies - before.applies,
                db.stats().undos - before.undos,
            );
            assert!(applies <= 400 && undos <= 2, "{applies} applies, {undos} undos");
        }
    });
}

#[test]
fn what_several_peers_bring_at_once_is_ordered_once() {
    run(async |env| {
        let meeting = open(env, 2, None, Settings::default()).await;
        let mut writers = Vec::new();
        for seed in 3..7 {
            let writer = open(env, seed, Some(&meeting), Settings::default()).await;
            let (near, far) = connect_through(&meeting, &writer, 1 << 20);
            add(&meeting, &writer, 2).await;
            until_in(env, || writer.writable()).await;
            near.close();
            far.ended().await;
            writers.push(writer);
        }
        for number in 0..50 {
            for (name, writer) in writers.iter().enumerate() {
                put(writer, &format!("{name}-{number}"), "v").await;
            }
            env.clock().sleep(Duration::from_millis(1)).await;
        }
        let before = meeting.stats();
        connect_through(&meeting, &writers[0], 1 << 20);
        for writer in &writers[1..] {
            connect_slowly(env, &meeting, writer);
        }
        until_in(env, || meeting.order().unwrap().len() == 4 + 4 * 50).await;
        let after = meeting.stats();
        assert_eq!(
            (after.applies - before.applies, after.undos - before.undos),
            (200, 0)
        );
    });
}

// The world.

async fn open(env: &MemoryEnv, seed: u64, join: Option<&Db>, settings: Settings) -> Db {
    let store = Corestore::open_default(env.sibling(seed)).await.unwrap();
    let mut builder = Autobee::builder(store).apply(JsonApply).settings(settings);
    if let Some(db) = join {
        builder = builder.key(db.key());
    }
    builder.open().await.unwrap()
}

fn connect_slowly(env: &MemoryEnv, a: &Db, b: &Db) -> (Session, Session) {
    use autobee::env::Spawn as _;

    let (near, near_end) = tokio::io::duplex(1024);
    let (far, far_end) = tokio::io::duplex(1024);
    let (near_read, near_write) = tokio::io::split(near_end);
    let (far_read, far_write) = tokio::io::split(far_end);
    env.spawn()
        .spawn("there", carry(env.clone(), near_read, far_write));
    env.spawn()
        .spawn("back", carry(env.clone(), far_read, near_write));
    (
        a.replicate(near, Role::Initiator).unwrap(),
        b.replicate(far, Role::Responder).unwrap(),
    )
}

/// 512 bytes each 5 milliseconds.
async fn carry(
    env: MemoryEnv,
    mut from: tokio::io::ReadHalf<DuplexStream>,
    mut to: tokio::io::WriteHalf<DuplexStream>,
) {
    let mut bytes = [0; 512];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        env.clock().sleep(Duration::from_millis(5)).await;
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

/// ```text
/// a ---- b: another database          a ---- c: joined by a key that nobody has, until a has it, too
/// ```
#[test]
fn a_peer_with_nothing_in_common_is_not_waited_for() {
    in_world(async |world| {
        let [a, b] = [world.create(1).await, world.create(2).await];
        for db in [&a, &b] {
            put(db, "x", "1").await;
        }
        let key = CoreKey::new([5; 32]);
        let c = world.open(3, Some(key), JsonApply, Settings::default()).await;
        for other in [&b, &c] {
            let (near, far) = connect(&a, other);
            assert!(!near.synced().await && !far.synced().await);
            assert_eq!((near.progress().cores, far.progress().cores), (0, 0));
            assert!(near.close_reason().is_none(), "the connection goes on");
        }
        // Without a peer's word it takes as long as reads wait.
        let quick = Settings::with(|settings| settings.read_wait_ms = 10);
        let d = world.open(4, Some(key), JsonApply, quick).await;
        let before = world.env(4).clock().now();
        assert!(!connect(&d, &a).0.synced().await);
        assert!(world.env(4).clock().now().since(before) < Duration::from_secs(1));
        // What both have is waited for as before.
        let (near, far) = connect(&d, &c);
        assert!(near.reached(|progress| progress.cores > 0).await);
        assert!(near.synced().await && far.synced().await);
    });
}
