//! Stores that replicate over the network of a world: who writes, who copies, who dials whom.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use autobee::crypto::{CoreKey, KeyPair, Seed, Sign as _};
use autobee::env::{Clock as _, Env as _, Listener as _, Network as _, PeerAddr, Spawn as _};
use autobee::hypercore::{Core, CoreOptions, Corestore, CorestoreOptions, Download, DownloadRange};
use autobee::replication::Role;
use autobee::replication::session::{Progress, Replication, ReplicationSession, SessionSettings};
use autobee::store::{Seglog, StoreHandle};
use autobee::wire::{Index, Length};
use autobee_sim::{LatencyShape, PathConfig, ReplicaId, SimEnv, World, WorldConfig};
use bytes::Bytes;

pub(crate) type Log = Arc<Core<SimEnv>>;

/// Everything there is and will be.
pub(crate) const ALL: DownloadRange = DownloadRange::ALL;

/// A way as on one machine: what takes time in a test is the fault, not the network.
pub(crate) const NEAR: PathConfig = PathConfig {
    latency_us_min: 200,
    latency_us_max: 1_000,
    spike_64k: 0,
    spike_us_max: 0,
    bytes_per_ms: 0,
    window: 65_536,
    chop_64k: 4_096,
    read_max: 0,
    corrupt_64k: 0,
    tear_64k: 0,
    latency_shape: LatencyShape::Uniform,
    offset_us_max: 0,
    refuse_64k: 0,
    hang_64k: 0,
};

/// What a node does whenever it starts.
#[derive(Clone, Default)]
pub(crate) struct Plan {
    /// Cores that it owns.
    pub(crate) writes: Vec<&'static str>,
    /// Cores that it copies as a whole.
    pub(crate) copies: Vec<&'static str>,
    /// Whom it dials, once for each time that the name is here.
    pub(crate) dials: Vec<&'static str>,
    pub(crate) settings: SessionSettings,
}

/// What one life of a node holds.
#[derive(Default)]
pub(crate) struct Life {
    pub(crate) logs: BTreeMap<&'static str, Log>,
    pub(crate) replication: Option<Replication<SimEnv>>,
    /// All sessions so far, with the name of the other side.
    pub(crate) sessions: Vec<(String, ReplicationSession)>,
    pub(crate) peak: Progress,

    downloads: Vec<Download<SimEnv>>,
}

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) id: ReplicaId,
    life: Arc<Mutex<Life>>,
}

/// A world with its nodes.
pub(crate) struct Net {
    pub(crate) world: World,
    pub(crate) nodes: BTreeMap<&'static str, Node>,
}

impl Net {
    pub(crate) fn new(seed: u64, path: PathConfig) -> Self {
        let world = World::new(WorldConfig {
            seed,
            path,
            ..WorldConfig::default()
        });
        Self {
            world,
            nodes: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, name: &'static str, plan: Plan) {
        let id = self.world.add_replica(name).unwrap();
        let life = Arc::new(Mutex::new(Life::default()));
        let shared = Arc::clone(&life);
        self.world
            .boot(id, move |env| live(env, plan.clone(), Arc::clone(&shared)));
        self.nodes.insert(name, Node { id, life });
    }

    pub(crate) fn id(&self, name: &str) -> ReplicaId {
        self.nodes[name].id
    }

    pub(crate) fn life(&self, name: &str) -> MutexGuard<'_, Life> {
        lock(&self.nodes[name].life)
    }

    pub(crate) fn log(&self, node: &str, name: &str) -> Log {
        self.life(node).logs[name].clone()
    }

    /// Lets all nodes come up.
    pub(crate) fn start(&self) {
        self.world.run_for(Duration::from_millis(300)).unwrap();
    }

    pub(crate) fn append(&self, node: &str, name: &str, blocks: Vec<Bytes>) {
        let log = self.log(node, name);
        self.world
            .block_on(self.id(node), async move { log.append(blocks).await.map(drop) })
            .unwrap()
            .unwrap();
    }

    pub(crate) fn truncate(&self, node: &str, name: &str, length: u64) {
        let log = self.log(node, name);
        self.world
            .block_on(
                self.id(node),
                async move { log.truncate(Length(length), None).await },
            )
            .unwrap()
            .unwrap();
    }

    /// All blocks of a log that are here, in order; none when one is missing.
    pub(crate) fn blocks(&self, node: &str, name: &str) -> Option<Vec<Bytes>> {
        let log = self.life(node).logs.get(name).cloned()?;
        let length = log.length().ok()?;
        if log.contiguous_length().ok()? != length {
            return None;
        }
        (0..length.0)
            .map(|index| log.get_local(Index(index)).ok()?)
            .collect()
    }

    /// True when the node has what the writer has, of the same fork.
    pub(crate) fn is_copy(&self, node: &str, writer: &str, name: &str) -> bool {
        let (Some(copy), source) = (self.life(node).logs.get(name).cloned(), self.log(writer, name)) else {
            return false;
        };
        let head = |log: &Log| log.head().ok().map(|head| (head.tree.fork(), head.tree.hash()));
        head(&copy).is_some()
            && head(&copy) == head(&source)
            && self.blocks(node, name).is_some()
            && self.blocks(node, name) == self.blocks(writer, name)
    }

    /// Runs until all `nodes` have what the writer has, and says how long that took.
    pub(crate) fn converge(&self, nodes: &[&str], writer: &str, name: &str, limit: Duration) -> Duration {
        let start = self.world.now();
        loop {
            if nodes.iter().all(|node| self.is_copy(node, writer, name)) {
                return self.world.now() - start;
            }
            let waited = self.world.now() - start;
            assert!(
                waited < limit,
                "after {waited:?} these are no copies of {name}: {:?}",
                nodes
                    .iter()
                    .filter(|node| !self.is_copy(node, writer, name))
                    .chain([&writer])
                    .map(|node| {
                        let log = self.life(node).logs.get(name).cloned();
                        log.map(|log| (*node, log.fork(), log.length(), log.contiguous_length()))
                    })
                    .collect::<Vec<_>>()
            );
            self.world.run_for(Duration::from_millis(100)).unwrap();
        }
    }

    /// The newest session of a node with another.
    pub(crate) fn session(&self, node: &str, peer: &str) -> Option<ReplicationSession> {
        let life = self.life(node);
        let mut of_peer = life.sessions.iter().rev().filter(|(name, _)| name == peer);
        of_peer.next().map(|(_, session)| session.clone())
    }
}

/// The key pair of an owned core: the same in every world of the same signatures.
pub(crate) fn key_pair(env: &SimEnv, name: &str) -> KeyPair {
    let mut seed = [0; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    env.crypto().key_pair(&Seed::new(seed))
}

pub(crate) fn key_of(env: &SimEnv, name: &str) -> CoreKey {
    autobee::hypercore::log::Log::create(key_pair(env, name)).key()
}

/// Blocks of some hundred bytes, each unlike the others.
pub(crate) fn numbered(range: std::ops::Range<u32>) -> Vec<Bytes> {
    sized(range, 300)
}

pub(crate) fn sized(range: std::ops::Range<u32>, size: usize) -> Vec<Bytes> {
    range
        .map(|index| {
            let mut block = format!("block {index} ").into_bytes();
            let rest = size.saturating_sub(block.len());
            block.extend((0..rest).map(|at| at.to_le_bytes()[0] ^ index.to_le_bytes()[0]));
            block.into()
        })
        .collect()
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn live(env: SimEnv, plan: Plan, life: Arc<Mutex<Life>>) {
    let store = StoreHandle::open(&env, &Seglog::default()).unwrap();
    let store = Corestore::open(env.clone(), store, CorestoreOptions::default())
        .await
        .unwrap();
    let replication = Replication::new(&env, &store, plan.settings.clone());
    let mut new = Life::default();
    for name in &plan.writes {
        let options = CoreOptions::key_pair(key_pair(&env, name));
        new.logs
            .insert(*name, Arc::new(store.get(options).await.unwrap()));
    }
    for name in &plan.copies {
        let log = store.get(CoreOptions::key(key_of(&env, name))).await.unwrap();
        new.downloads.push(log.download(ALL).unwrap());
        new.logs.insert(*name, Arc::new(log));
    }
    new.replication = Some(replication.clone());
    let peak = std::mem::replace(&mut *lock(&life), new).peak;
    lock(&life).peak = peak;

    for peer in plan.dials {
        let (env, replication, life) = (env.clone(), replication.clone(), Arc::clone(&life));
        env.clone().spawn().spawn("dial", async move {
            loop {
                if let Ok(stream) = env.network().dial(&PeerAddr::new(peer)).await {
                    let session = replication.start(stream, Role::Initiator);
                    watch(&env, peer, &session, &life);
                    session.ended().await;
                }
                env.clock().sleep(Duration::from_millis(300)).await;
            }
        });
    }
    let mut listener = env.network().listen(&PeerAddr::new(env.name())).await.unwrap();
    while let Ok((stream, from)) = listener.accept().await {
        let session = replication.start(stream, Role::Responder);
        let name = from.as_str().split(':').next().unwrap_or_default();
        watch(&env, name, &session, &life);
    }
    drop(store);
}

/// Remembers the session, and the most that it held at any time.
fn watch(env: &SimEnv, peer: &str, session: &ReplicationSession, life: &Arc<Mutex<Life>>) {
    lock(life).sessions.push((peer.to_owned(), session.clone()));
    let (session, life) = (session.clone(), Arc::clone(life));
    env.spawn().spawn("watch", async move {
        session
            .reached(|progress| {
                let peak = &mut lock(&life).peak;
                peak.unsent = peak.unsent.max(progress.unsent);
                peak.unanswered = peak.unanswered.max(progress.unanswered);
                false
            })
            .await;
    });
}
