//! What strangers may cost: batches that apply refuses, claims that nothing backs, logs without end, slots that are held.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "engine/hostile_set.rs"]
mod hostile_set;
#[path = "engine/strangers.rs"]
mod strangers;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use autobee::crypto::CoreKey;
use autobee::db::Session;
use autobee::env::memory::MemoryEnv;
use autobee::env::{Clock as _, Env as _};
use autobee::hypercore::{Core, CoreOptions, Corestore};
use autobee::replication::session::{Replication, SessionSettings, Wakeup};
use autobee::wire::oplog::OplogBlock;
use autobee::wire::{Encode as _, Index, Length, Link, Timestamp};
use autobee::{Autobee, ErrorKind, Role, Settings};
use autobee_sim::workload::{JsonApply, Op};
use bytes::Bytes;

type Db = Autobee<MemoryEnv>;

/// Refused entries of many logs, and of one that is long: what was tried is bounded by the time that passes.
#[test]
fn what_apply_refuses_leaves_the_set_and_own_appends_stay_cheap() {
    run(async |world| {
        let a = world.open(1, None, Settings::default()).await;
        put(&a, "before", "1").await;
        let stranger = world.stranger(2, &a).await;
        for name in 0..40 {
            stranger.write(&a, &format!("log {name}"), 50, 10).await;
        }
        stranger.connect(&a);
        world.wait(20_000).await;
        assert!(a.cores().len() > 40, "they are fetched");
        assert_eq!(a.held().ready, 1, "none of them is in the set");
        let before = a.stats().applies;
        for number in 0..100 {
            put(&a, "own", &number.to_string()).await;
        }
        let tried = a.stats().applies - before - 100;
        assert!(
            tried <= 256 + 64,
            "{tried} tries of strangers while no time passed"
        );
        world.wait(10_000).await;
        let tried = a.stats().applies - before - 100;
        assert!(
            tried <= 40 * 32 * 3,
            "{tried} tries of strangers while nothing changed"
        );
        assert_eq!((a.held().ready, a.order().unwrap().len()), (101, 101));

        // They are tried no sooner for being here when the database is opened again.
        let order = a.order().unwrap();
        a.close().await.unwrap();
        let a = world.open(1, None, Settings::default()).await;
        assert_eq!(a.order().unwrap(), order);
        assert!(a.stats().applies <= 64, "{:?}", a.stats());
    });
}

#[test]
fn an_invited_stranger_is_let_in_though_it_wrote_before_the_invitation() {
    run(async |world| {
        let a = world.open(1, None, Settings::default()).await;
        put(&a, "closed", "1").await;
        let b = world.open(2, Some(&a), Settings::default()).await;
        let mut op = Op::put("hello", "there");
        op.reject_if = Some("closed".into());
        b.append_optimistic(op.to_value()).await.unwrap();
        connect(&a, &b);
        world.wait(5_000).await;
        assert_eq!(a.writers().len(), 1, "refused so far");
        let open = Op {
            del: Some("closed".into()),
            ..Op::default()
        };
        a.append(open.to_value()).await.unwrap();
        world
            .until(|| a.writers().len() == 2 && b.writers().len() == 2)
            .await;
        assert_eq!(a.order().unwrap(), b.order().unwrap());
    });
}

/// A long log is fetched up to 32 blocks, one of large blocks up to a mebibyte, all of them up to the setting. Who becomes
/// a member is fetched as a whole.
#[test]
fn of_a_stranger_little_is_fetched_before_it_is_a_member() {
    run(async |world| {
        let settings = Settings::with(|settings| settings.stranger_bytes_max = 1_200_000);
        let a = world.open(1, None, settings).await;
        put(&a, "before", "1").await;
        let stranger = world.stranger(2, &a).await;
        let long = stranger.write(&a, "long", 100, 10).await;
        stranger.connect(&a);
        world.wait(5_000).await;
        assert_eq!(here(&a, &long), 32);

        let large = stranger.write(&a, "large", 60, 100_000).await;
        world.wait(5_000).await;
        assert!(
            (10..=11).contains(&here(&a, &large)),
            "{} blocks",
            here(&a, &large)
        );
        let other = stranger.write(&a, "other", 60, 100_000).await;
        world.wait(5_000).await;
        assert!((1..=2).contains(&here(&a, &other)), "{} blocks", here(&a, &other));
        assert!(a.held().blocks < 10, "{:?}", a.held());

        let grant = Op::add_writer(long, 2).to_value();
        a.append(grant).await.unwrap();
        world.until(|| here(&a, &long) == 100).await;
        world
            .until(|| a.writer(&long).is_some_and(|writer| writer.length == Length(100)))
            .await;
    });
}

/// The size of a block is asked for before the block is.
#[test]
fn a_large_block_of_a_stranger_is_not_fetched_before_it_is_a_member() {
    run(async |world| {
        let a = world.open(1, None, Settings::default()).await;
        put(&a, "before", "1").await;
        let stranger = world.stranger(2, &a).await;
        // Alone, at the end, and in the middle.
        let first = stranger.write(&a, "first", 1, 3 << 20).await;
        let core = stranger.core("last").await;
        stranger.append(&a, &core, 3, 1_000).await;
        stranger.append(&a, &core, 1, (1 << 20) - 2_000).await;
        let last = core.key();
        let core = stranger.core("middle").await;
        stranger.append(&a, &core, 1, 1_000).await;
        stranger.append(&a, &core, 1, 3 << 20).await;
        stranger.append(&a, &core, 3, 1_000).await;
        let middle = core.key();
        let session = stranger.connect(&a);
        world.wait(30_000).await;
        assert_eq!(here(&a, &first), 0);
        assert_eq!(here(&a, &last), 3);
        assert_eq!(here(&a, &middle), 1);
        let sent = session.progress().sent;
        assert!(sent < 1 << 20, "{sent} bytes were fetched");

        let grant = Op::add_writer(middle, 2).to_value();
        a.append(grant).await.unwrap();
        world.until(|| here(&a, &middle) == 5).await;
    });
}

/// New logs with each connection: those that gave up their slots are gone, from memory and from the disk.
#[test]
fn what_closed_logs_of_strangers_had_is_forgotten() {
    run(async |world| {
        let settings = Settings::with(|settings| settings.stranger_cores_max = 8);
        let a = world.open(1, None, settings.clone()).await;
        put(&a, "before", "1").await;
        let mut keys = Vec::new();
        for round in 0..5 {
            let stranger = world.stranger(10 + round, &a).await;
            for name in 0..8 {
                keys.push(stranger.write(&a, &format!("log {name}"), 5, 1_000).await);
            }
            let session = stranger.connect(&a);
            world.wait(20_000).await;
            session.close();
            world.wait(1_000).await;
        }
        assert!(
            a.cores().len() <= 9 && a.held().blocks <= 1 + 8 * 5,
            "{:?}",
            a.held()
        );
        assert_eq!(a.held().ready, 1);
        a.close().await.unwrap();
        let store = world.store(1).await;
        let mut kept = 0;
        for key in &keys {
            let core = store.get(CoreOptions::key(*key)).await.unwrap();
            kept += usize::from(core.get_local(Index(0)).unwrap().is_some());
        }
        assert!(kept <= 8, "{kept} of {} logs are stored", keys.len());
    });
}

/// ```text
/// B creator, A member:   A meets stranger X, whom apply lets in, and links it
///                        B wrote what makes apply refuse X; B's entry comes first
/// A and B meet, B is opened again, C joins through B alone
/// ```
#[test]
fn what_a_member_links_is_kept_and_served_though_apply_refuses_it() {
    run(async |world| {
        let b = world.open(1, None, Settings::default()).await;
        let a = world.open(2, Some(&b), Settings::default()).await;
        let link = connect(&a, &b);
        b.append(Op::add_writer(a.local(), 0).to_value()).await.unwrap();
        world.until(|| a.writable()).await;
        put(&a, "a", "1").await;
        world.until(|| b.order().unwrap().len() == 2).await;
        link.close();
        world.wait(1_000).await;

        put(&b, "closed", "1").await;
        let x = world.open(3, Some(&b), Settings::default()).await;
        let met = connect(&x, &a);
        world.until(|| x.order().unwrap().len() == 2).await;
        let mut op = Op::put("x", "1");
        op.reject_if = Some("closed".into());
        x.append_optimistic(op.to_value()).await.unwrap();
        world.until(|| a.writers().len() == 3).await;
        put(&a, "a", "2").await;
        met.close();
        world.wait(1_000).await;

        let link = connect(&a, &b);
        world
            .until(|| b.order().unwrap().len() == 4 && a.order().unwrap() == b.order().unwrap())
            .await;
        assert!(b.writer(&x.local()).is_none(), "it is refused");
        assert_eq!(here(&b, &x.local()), 1);
        link.close();
        let order = b.order().unwrap();
        // Strangers that would take its slot.
        let stranger = world.stranger(9, &b).await;
        for name in 0..70 {
            stranger.write(&b, &format!("log {name}"), 2, 10).await;
        }
        stranger.connect(&b);
        world.wait(120_000).await;
        b.close().await.unwrap();

        let b = world.open(1, None, Settings::default()).await;
        assert_eq!(
            (b.order().unwrap(), b.stats().applies),
            (order.clone(), b.stats().applies)
        );
        stranger.connect(&b);
        world.wait(120_000).await;
        assert_eq!(here(&b, &x.local()), 1);
        let c = world.open(4, Some(&b), Settings::default()).await;
        connect(&b, &c);
        world.until(|| c.order().unwrap() == order).await;
        put(&b, "more", "1").await;
        world.until(|| c.order().unwrap().len() == order.len() + 1).await;
        assert_eq!(c.view().all().await.unwrap(), b.view().all().await.unwrap());
    });
}

#[test]
fn who_is_no_member_appends_no_more_than_peers_look_at() {
    run(async |world| {
        let a = world.open(1, None, Settings::default()).await;
        put(&a, "before", "1").await;
        let b = world.open(2, Some(&a), Settings::default()).await;
        for _ in 0..32 {
            b.append_optimistic(b"x").await.unwrap();
        }
        let refused = b.append_optimistic(b"x").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
        let c = world.open(3, Some(&a), Settings::default()).await;
        c.append_optimistic(vec![1; 900_000]).await.unwrap();
        let refused = c.append_optimistic(vec![1; 200_000]).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
        let d = world.open(4, Some(&a), Settings::default()).await;
        let refused = d.append_optimistic(vec![1; 1 << 20]).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
    });
}

/// One that holds all slots with a block now and then does not keep others out.
#[test]
fn an_honest_stranger_is_admitted_within_a_minute() {
    run(async |world| {
        let a = world.open(1, None, Settings::default()).await;
        put(&a, "before", "1").await;
        let stranger = world.stranger(2, &a).await;
        let mut cores = Vec::new();
        for name in 0..200 {
            cores.push(stranger.core(&format!("log {name}")).await);
            stranger.append(&a, &cores[name], 1, 10).await;
        }
        stranger.connect(&a);
        world.wait(5_000).await;
        let honest = world.open(3, Some(&a), Settings::default()).await;
        connect(&honest, &a);
        world.until(|| honest.order().unwrap().len() == 1).await;
        honest
            .append_optimistic(Op::put("hello", "there").to_value())
            .await
            .unwrap();
        for _ in 0..6 {
            for core in &cores {
                stranger.append(&a, core, 1, 10).await;
            }
            world.wait(10_000).await;
        }
        assert_eq!(a.writers().len(), 2);
    });
}

// The world.

struct World {
    first: MemoryEnv,
    replicas: RefCell<BTreeMap<u64, MemoryEnv>>,
}

/// Somebody who writes what no program would.
struct Stranger {
    store: Corestore<MemoryEnv>,
    replication: Replication<MemoryEnv>,
    topic: Wakeup,
    /// What it serves.
    cores: RefCell<Vec<Core<MemoryEnv>>>,
}

fn run(test: impl AsyncFnOnce(World)) {
    let first = MemoryEnv::new(1);
    let world = World {
        first: first.clone(),
        replicas: RefCell::default(),
    };
    let ended = first.run(test(world));
    assert!(ended.is_some(), "the test waits for something that cannot happen");
}

impl World {
    fn env(&self, seed: u64) -> MemoryEnv {
        let mut replicas = self.replicas.borrow_mut();
        let made = || self.first.sibling(seed);
        replicas.entry(seed).or_insert_with(made).clone()
    }

    async fn store(&self, seed: u64) -> Corestore<MemoryEnv> {
        Corestore::open_default(self.env(seed)).await.unwrap()
    }

    async fn open(&self, seed: u64, join: Option<&Db>, settings: Settings) -> Db {
        let builder = Autobee::builder(self.store(seed).await).apply(JsonApply);
        let builder = builder.settings(settings);
        let builder = match join {
            Some(db) => builder.key(db.key()),
            None => builder,
        };
        builder.open().await.unwrap()
    }

    async fn stranger(&self, seed: u64, db: &Db) -> Stranger {
        let store = self.store(seed).await;
        let replication = Replication::new(&self.env(seed), &store, SessionSettings::default());
        let creator = store.get(CoreOptions::key(db.key())).await.unwrap();
        Stranger {
            topic: replication.wakeup(db.key()),
            store,
            replication,
            cores: RefCell::new(vec![creator]),
        }
    }

    async fn wait(&self, ms: u64) {
        self.first.clock().sleep(Duration::from_millis(ms)).await;
    }

    async fn until(&self, done: impl Fn() -> bool) {
        for _ in 0..12_000 {
            if done() {
                return;
            }
            self.wait(10).await;
        }
        panic!("it did not happen within two minutes");
    }
}

impl Stranger {
    async fn core(&self, name: &str) -> Core<MemoryEnv> {
        let served = self.store.get(CoreOptions::name(name)).await.unwrap();
        self.cores.borrow_mut().push(served);
        self.store.get(CoreOptions::name(name)).await.unwrap()
    }

    /// A log of refused batches of one block each, which peers are told of.
    async fn write(&self, db: &Db, name: &str, blocks: u64, bytes: usize) -> CoreKey {
        let core = self.core(name).await;
        self.append(db, &core, blocks, bytes).await;
        core.key()
    }

    async fn append(&self, db: &Db, core: &Core<MemoryEnv>, blocks: u64, bytes: usize) {
        let creator = Link {
            key: db.key(),
            length: Length(1),
        };
        let block = |number: u64| {
            let mut op = Op::put("x", "y".repeat(bytes) + &number.to_string());
            op.reject = true;
            let block = OplogBlock {
                timestamp: Timestamp(1_000 + number),
                links: vec![creator],
                optimistic: true,
                value: Some(op.to_value().into()),
                ..OplogBlock::default()
            };
            Bytes::from(block.to_bytes().unwrap())
        };
        core.append((0..blocks).map(block).collect()).await.unwrap();
        let length = core.length().unwrap();
        self.topic.couple(core.key(), length);
    }

    fn connect(&self, db: &Db) -> autobee::replication::session::ReplicationSession {
        let (near, far) = tokio::io::duplex(1 << 16);
        db.replicate(far, Role::Responder).unwrap();
        self.replication.start(near, Role::Initiator)
    }
}

fn connect(a: &Db, b: &Db) -> Session {
    let (near, far) = tokio::io::duplex(1 << 16);
    b.replicate(far, Role::Responder).unwrap();
    a.replicate(near, Role::Initiator).unwrap()
}

fn here(db: &Db, core: &CoreKey) -> u64 {
    let writers = db.status().writers;
    let writer = writers.iter().find(|writer| writer.key == *core);
    writer.map_or(0, |writer| writer.have.0)
}

async fn put(db: &Db, key: &str, value: &str) {
    db.append(Op::put(key, value).to_value()).await.unwrap();
}
