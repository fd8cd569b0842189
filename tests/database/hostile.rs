//! What strangers may cost: batches that apply refuses, claims that nothing backs, logs without end, slots that are held.

mod costs;
mod strangers;

use std::cell::RefCell;
use std::time::Duration;

use autobee::crypto::CoreKey;
use autobee::env::memory::MemoryEnv;
use autobee::hypercore::{Core, CoreOptions, Corestore};
use autobee::replication::session::{Replication, Wakeup};
use autobee::wire::oplog::OplogBlock;
use autobee::wire::{Encode as _, Index, Length, Link, Timestamp};
use autobee::{ErrorKind, Role, Settings};
use autobee_sim::workload::{JsonApply, Op};
use bytes::Bytes;

use crate::support::{Db, Raw, World, connect, have, in_world, put};

/// Refused entries of many logs, and of one that is long: what was tried is bounded by the time that passes.
#[test]
fn what_apply_refuses_leaves_the_set_and_own_appends_stay_cheap() {
    in_world(async |world| {
        let a = open(&world, 1, None, Settings::default()).await;
        put(&a, "before", "1").await;
        let stranger = stranger(&world, 2, &a).await;
        for name in 0..40 {
            stranger.write(&a, &format!("log {name}"), 50, 10).await;
        }
        stranger.connect(&a);
        wait(&world, 20_000).await;
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
        wait(&world, 10_000).await;
        let tried = a.stats().applies - before - 100;
        assert!(
            tried <= 40 * 32 * 3,
            "{tried} tries of strangers while nothing changed"
        );
        assert_eq!((a.held().ready, a.order().unwrap().len()), (101, 101));

        // They are tried no sooner for being here when the database is opened again.
        let order = a.order().unwrap();
        a.close().await.unwrap();
        let a = open(&world, 1, None, Settings::default()).await;
        assert_eq!(a.order().unwrap(), order);
        assert!(a.stats().applies <= 64, "{:?}", a.stats());
    });
}

#[test]
fn an_invited_stranger_is_let_in_though_it_wrote_before_the_invitation() {
    in_world(async |world| {
        let a = open(&world, 1, None, Settings::default()).await;
        put(&a, "closed", "1").await;
        let b = open(&world, 2, Some(&a), Settings::default()).await;
        let mut op = Op::put("hello", "there");
        op.reject_if = Some("closed".into());
        b.append_optimistic(op.to_value()).await.unwrap();
        connect(&a, &b);
        wait(&world, 5_000).await;
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
    in_world(async |world| {
        let settings = Settings::with(|settings| settings.stranger_bytes_max = 1_200_000);
        let a = open(&world, 1, None, settings).await;
        put(&a, "before", "1").await;
        let stranger = stranger(&world, 2, &a).await;
        let long = stranger.write(&a, "long", 100, 10).await;
        stranger.connect(&a);
        wait(&world, 5_000).await;
        assert_eq!(have(&a, &long), 32);

        let large = stranger.write(&a, "large", 60, 100_000).await;
        wait(&world, 5_000).await;
        assert!(
            (10..=11).contains(&have(&a, &large)),
            "{} blocks",
            have(&a, &large)
        );
        let other = stranger.write(&a, "other", 60, 100_000).await;
        wait(&world, 5_000).await;
        assert!((1..=2).contains(&have(&a, &other)), "{} blocks", have(&a, &other));
        assert!(a.held().blocks < 10, "{:?}", a.held());

        let grant = Op::add_writer(long, 2).to_value();
        a.append(grant).await.unwrap();
        world.until(|| have(&a, &long) == 100).await;
        world
            .until(|| a.writer(&long).is_some_and(|writer| writer.length == Length(100)))
            .await;
    });
}

/// The size of a block is asked for before the block is.
#[test]
fn a_large_block_of_a_stranger_is_not_fetched_before_it_is_a_member() {
    in_world(async |world| {
        let a = open(&world, 1, None, Settings::default()).await;
        put(&a, "before", "1").await;
        let stranger = stranger(&world, 2, &a).await;
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
        wait(&world, 30_000).await;
        assert_eq!(have(&a, &first), 0);
        assert_eq!(have(&a, &last), 3);
        assert_eq!(have(&a, &middle), 1);
        let sent = session.progress().sent;
        assert!(sent < 1 << 20, "{sent} bytes were fetched");
        let peers = a.status().peers;
        assert!(
            peers.len() == 1 && peers[0].progress.is_synced,
            "nothing else is to come: {peers:?}"
        );

        let grant = Op::add_writer(middle, 2).to_value();
        a.append(grant).await.unwrap();
        world.until(|| have(&a, &middle) == 5).await;
    });
}

/// New logs with each connection: those that gave up their slots are gone, from memory and from the disk.
#[test]
fn what_closed_logs_of_strangers_had_is_forgotten() {
    in_world(async |world| {
        let settings = Settings::with(|settings| settings.stranger_cores_max = 8);
        let a = open(&world, 1, None, settings.clone()).await;
        put(&a, "before", "1").await;
        let mut keys = Vec::new();
        for round in 0..5 {
            let stranger = stranger(&world, 10 + round, &a).await;
            for name in 0..8 {
                keys.push(stranger.write(&a, &format!("log {name}"), 5, 1_000).await);
            }
            let session = stranger.connect(&a);
            wait(&world, 20_000).await;
            session.close();
            wait(&world, 1_000).await;
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
    in_world(async |world| {
        let b = open(&world, 1, None, Settings::default()).await;
        let a = open(&world, 2, Some(&b), Settings::default()).await;
        let link = connect(&a, &b);
        b.append(Op::add_writer(a.local(), 0).to_value()).await.unwrap();
        world.until(|| a.writable()).await;
        put(&a, "a", "1").await;
        world.until(|| b.order().unwrap().len() == 2).await;
        link.0.close();
        wait(&world, 1_000).await;

        put(&b, "closed", "1").await;
        let x = open(&world, 3, Some(&b), Settings::default()).await;
        let met = connect(&x, &a);
        world.until(|| x.order().unwrap().len() == 2).await;
        let mut op = Op::put("x", "1");
        op.reject_if = Some("closed".into());
        x.append_optimistic(op.to_value()).await.unwrap();
        world.until(|| a.writers().len() == 3).await;
        put(&a, "a", "2").await;
        met.0.close();
        wait(&world, 1_000).await;

        let link = connect(&a, &b);
        world
            .until(|| b.order().unwrap().len() == 4 && a.order().unwrap() == b.order().unwrap())
            .await;
        assert!(b.writer(&x.local()).is_none(), "it is refused");
        assert_eq!(have(&b, &x.local()), 1);
        link.0.close();
        let order = b.order().unwrap();
        // Strangers that would take its slot.
        let stranger = stranger(&world, 9, &b).await;
        for name in 0..70 {
            stranger.write(&b, &format!("log {name}"), 2, 10).await;
        }
        stranger.connect(&b);
        wait(&world, 120_000).await;
        b.close().await.unwrap();

        let b = open(&world, 1, None, Settings::default()).await;
        assert_eq!(
            (b.order().unwrap(), b.stats().applies),
            (order.clone(), b.stats().applies)
        );
        stranger.connect(&b);
        wait(&world, 120_000).await;
        assert_eq!(have(&b, &x.local()), 1);
        let c = open(&world, 4, Some(&b), Settings::default()).await;
        connect(&b, &c);
        world.until(|| c.order().unwrap() == order).await;
        put(&b, "more", "1").await;
        world.until(|| c.order().unwrap().len() == order.len() + 1).await;
        assert_eq!(c.view().all().await.unwrap(), b.view().all().await.unwrap());
    });
}

#[test]
fn who_is_no_member_appends_no_more_than_peers_look_at() {
    in_world(async |world| {
        let a = open(&world, 1, None, Settings::default()).await;
        put(&a, "before", "1").await;
        let b = open(&world, 2, Some(&a), Settings::default()).await;
        for _ in 0..32 {
            b.append_optimistic(b"x").await.unwrap();
        }
        let refused = b.append_optimistic(b"x").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
        let c = open(&world, 3, Some(&a), Settings::default()).await;
        c.append_optimistic(vec![1; 900_000]).await.unwrap();
        let refused = c.append_optimistic(vec![1; 200_000]).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
        let d = open(&world, 4, Some(&a), Settings::default()).await;
        let refused = d.append_optimistic(vec![1; 1 << 20]).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
    });
}

/// One that holds all slots with a block now and then does not keep others out.
#[test]
fn an_honest_stranger_is_admitted_within_a_minute() {
    in_world(async |world| {
        let a = open(&world, 1, None, Settings::default()).await;
        put(&a, "before", "1").await;
        let stranger = stranger(&world, 2, &a).await;
        let mut cores = Vec::new();
        for name in 0..200 {
            cores.push(stranger.core(&format!("log {name}")).await);
            stranger.append(&a, &cores[name], 1, 10).await;
        }
        stranger.connect(&a);
        wait(&world, 5_000).await;
        let honest = open(&world, 3, Some(&a), Settings::default()).await;
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
            wait(&world, 10_000).await;
        }
        assert_eq!(a.writers().len(), 2);
    });
}

// The world.

/// Somebody who writes what no program would.
struct Stranger {
    store: Corestore<MemoryEnv>,
    replication: Replication<MemoryEnv>,
    topic: Wakeup,
    /// What it serves.
    cores: RefCell<Vec<Core<MemoryEnv>>>,
}

async fn open(world: &World, seed: u64, join: Option<&Db>, settings: Settings) -> Db {
    world.open(seed, join.map(Db::key), JsonApply, settings).await
}

async fn stranger(world: &World, seed: u64, db: &Db) -> Stranger {
    let Raw { store, replication } = Raw::open(world, seed).await;
    let creator = store.get(CoreOptions::key(db.key())).await.unwrap();
    Stranger {
        topic: replication.wakeup(db.key()),
        store,
        replication,
        cores: RefCell::new(vec![creator]),
    }
}

async fn wait(world: &World, ms: u64) {
    world.wait(Duration::from_millis(ms)).await;
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
