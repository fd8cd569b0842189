//! Databases in a world in memory: replicas with disks of their own, connected by pipes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use autobee::apply::Apply;
use autobee::crypto::CoreKey;
use autobee::db::Session;
use autobee::env::memory::MemoryEnv;
use autobee::env::{Clock as _, Env as _};
use autobee::hypercore::Corestore;
use autobee::replication::session::{Replication, ReplicationSession, SessionSettings};
use autobee::{Autobee, Role, Rules, Settings};
use autobee_sim::workload::{JsonApply, Op};

pub(crate) type Db = Autobee<MemoryEnv>;

/// Bytes that a pipe holds.
pub(crate) const PIPE_BYTES: usize = 1 << 16;

/// Replicas by their seeds. Opened again, each has its disk.
pub(crate) struct World {
    first: MemoryEnv,
    replicas: RefCell<BTreeMap<u64, MemoryEnv>>,
}

/// Runs a test in a world in memory.
pub(crate) fn in_world(test: impl AsyncFnOnce(World)) {
    let first = MemoryEnv::new(1);
    let world = World {
        first: first.clone(),
        replicas: RefCell::default(),
    };
    let ended = first.run(test(world));
    assert!(ended.is_some(), "the test waits for something that cannot happen");
}

impl World {
    /// The replica with this seed.
    pub(crate) fn env(&self, seed: u64) -> MemoryEnv {
        let mut replicas = self.replicas.borrow_mut();
        let made = || self.first.sibling(seed);
        replicas.entry(seed).or_insert_with(made).clone()
    }

    pub(crate) async fn store(&self, seed: u64) -> Corestore<MemoryEnv> {
        Corestore::open_default(self.env(seed)).await.unwrap()
    }

    pub(crate) async fn create(&self, seed: u64) -> Db {
        self.open(seed, None, JsonApply, Settings::default()).await
    }

    pub(crate) async fn join(&self, seed: u64, other: &Db) -> Db {
        let key = Some(other.key());
        self.open(seed, key, JsonApply, Settings::default()).await
    }

    /// Opens what is on a replica, or something new.
    pub(crate) async fn open(
        &self,
        seed: u64,
        key: Option<CoreKey>,
        apply: impl Apply,
        settings: Settings,
    ) -> Db {
        // What most of these tests are about is what the original does, whose strangers become members.
        let mut builder = Autobee::builder(self.store(seed).await)
            .apply(apply)
            .rules(Rules::interop())
            .settings(settings);
        if let Some(key) = key {
            builder = builder.key(key);
        }
        builder.open().await.unwrap()
    }

    pub(crate) async fn wait(&self, time: Duration) {
        self.first.clock().sleep(time).await;
    }

    /// Waits until something is so, for two minutes at most.
    #[track_caller]
    pub(crate) fn until<'a>(
        &'a self,
        done: impl Fn() -> bool + 'a,
    ) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
        until_in(&self.first, done)
    }
}

/// Waits until something is so, for two minutes at most.
#[track_caller]
pub(crate) fn until_in<'a>(
    env: &'a MemoryEnv,
    done: impl Fn() -> bool + 'a,
) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
    until_called(env, Box::new(done), std::panic::Location::caller())
}

/// Compiled once for all that is waited for.
fn until_called<'a>(
    env: &'a MemoryEnv,
    done: Box<dyn Fn() -> bool + 'a>,
    caller: &'static std::panic::Location<'static>,
) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
    Box::pin(async move {
        for _ in 0..12_000 {
            if done() {
                return;
            }
            env.clock().sleep(Duration::from_millis(10)).await;
        }
        panic!("{caller}: it did not happen within two minutes");
    })
}

// Databases.

pub(crate) fn connect(a: &Db, b: &Db) -> (Session, Session) {
    connect_through(a, b, PIPE_BYTES)
}

/// Connects two databases by a pipe that holds so many bytes.
pub(crate) fn connect_through(a: &Db, b: &Db, bytes: usize) -> (Session, Session) {
    let (near, far) = tokio::io::duplex(bytes);
    (
        a.replicate(near, Role::Initiator).unwrap(),
        b.replicate(far, Role::Responder).unwrap(),
    )
}

pub(crate) async fn put(db: &Db, key: &str, value: &str) {
    db.append(Op::put(key, value).to_value()).await.unwrap();
}

/// Lets a writer in, with this weight at most.
pub(crate) async fn add(db: &Db, writer: &Db, weight: u64) {
    let op = Op::add_writer(writer.local(), weight);
    db.append(op.to_value()).await.unwrap();
}

/// How much of the log of a writer is here.
pub(crate) fn have(db: &Db, writer: &CoreKey) -> u64 {
    let writers = db.status().writers;
    let progress = writers.iter().find(|progress| progress.key == *writer);
    progress.map_or(0, |progress| progress.have.0)
}

/// The weights of all entries of a writer.
pub(crate) fn weights(db: &Db, writer: &Db) -> Vec<u64> {
    let order = db.order().unwrap();
    let of = order.iter().filter(|entry| entry.key == writer.local());
    of.map(|entry| entry.weight.0).collect()
}

// A peer of cores.

/// A store that replicates the cores that it is told to, announces none, and is no database.
pub(crate) struct Raw {
    pub(crate) store: Corestore<MemoryEnv>,
    pub(crate) replication: Replication<MemoryEnv>,
}

impl Raw {
    pub(crate) async fn open(world: &World, seed: u64) -> Self {
        let store = world.store(seed).await;
        let replication = Replication::new(&world.env(seed), &store, SessionSettings::default());
        Self { store, replication }
    }

    /// Connects to a database. The first session is the own one.
    pub(crate) fn connect(&self, db: &Db) -> (ReplicationSession, Session) {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let theirs = db.replicate(far, Role::Responder).unwrap();
        (self.replication.start(near, Role::Initiator), theirs)
    }
}
