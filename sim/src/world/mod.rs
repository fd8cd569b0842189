//! Lane 1: replicas, their network and their clocks on one thread, in virtual time.
//!
//! Time stands still while anything is ready and then jumps to the next event. Which of several ready tasks runs follows
//! from the scheduler and its stream, so that a seed is one interleaving and many seeds are many. A task belongs to an
//! incarnation of a replica: a crash drops all of its futures at once, and whatever they leave behind is inert.

mod fault;
mod run;
mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autobee::crypto::{CoreKey, Hash};
use autobee::env::Point;
use thiserror::Error;

pub use run::{Rest, RunError};
pub(crate) use state::{WeakWorld, WorldShared, WorldState};

use crate::crypto::SimCrypto;
use crate::disk::{DiskFaults, Seeded, SimDisk};
use crate::env::{Parts, SimClock, SimEntropy, SimEnv, SimSpawn};
use crate::executor::{Ready, Timers, lock};
use crate::network::{Kernel, PathConfig, SimNetwork};
use crate::points::Points;
use crate::replica::{Owner, Replica, ReplicaClock, ReplicaId};
use crate::schedule::{Schedule, Scheduler};
use crate::seed::{Seeds, Stream};
use crate::trace::{CoreNames, Trace, TraceSink};
use state::WorldFabric;

/// How a world is made. The defaults are a small healthy network with stand-in signatures.
pub struct WorldConfig {
    /// The root of all randomness.
    pub seed: u64,
    /// How paths behave that nobody configures.
    pub path: PathConfig,
    /// How long a dial waits for an answer.
    pub dial_limit: Duration,
    /// Real signatures instead of the stand-in.
    pub ed25519: bool,
    /// Whether fault points of the engine may fire.
    pub buggify: bool,
    /// Fault points that stay quiet, whatever the seed says.
    pub disarmed: BTreeSet<String>,
    /// Defects that the engine is asked to have.
    pub planted: BTreeSet<String>,
    /// Values of numbers in [`KNOBS`](autobee::env::knob::KNOBS) that are not the usual ones, by name.
    pub knobs: BTreeMap<String, u64>,
    /// Polls, timers and network steps after which a run is ended with [`RunError::Budget`].
    pub steps_max: u64,
    /// Virtual time that [`autobee::env::Spawn::cpu`] takes.
    pub cpu_cost: Duration,
    /// Which of several ready tasks runs next.
    pub schedule: Schedule,
    /// Where the trace goes, besides into its hash.
    pub trace: TraceSink,
    /// Whether every poll of a task is an event of the trace.
    pub trace_polls: bool,
    /// From a moment on chance is drawn from another seed.
    pub reseed: Option<Reseed>,
    /// What goes wrong on disks, and how long their calls take.
    pub disk: DiskFaults,
}

/// Another future: up to a moment a run is that of its seed, and behind it chance is drawn from another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reseed {
    /// Virtual time since the world began. What happens at it comes from the other seed.
    pub at: Duration,
    /// The other seed.
    pub seed: u64,
}

/// A replica cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Two replicas would have one address.
    #[error("the world has a replica {0:?} already")]
    Taken(String),
    /// The name would not work as an address.
    #[error("a replica cannot have the name {0:?}: empty, or with a colon")]
    Invalid(String),
}

/// A simulated world. Dropping it drops all of its tasks.
///
/// ```
/// use autobee::env::{Clock as _, Env as _, Listener as _, Network as _, PeerAddr};
/// use autobee_sim::{World, WorldConfig};
/// use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
///
/// let world = World::new(WorldConfig { seed: 7, ..WorldConfig::default() });
/// let server = world.add_replica("server")?;
/// let client = world.add_replica("client")?;
/// world.boot(server, |env| async move {
///     let mut listener = env.network().listen(&PeerAddr::new("server")).await.unwrap();
///     while let Ok((mut stream, _)) = listener.accept().await {
///         stream.write_all(b"hello").await.unwrap();
///         stream.shutdown().await.unwrap();
///     }
/// });
/// let env = world.env(client);
/// let text = world.block_on(client, async move {
///     let mut stream = env.network().dial(&PeerAddr::new("server")).await.unwrap();
///     let mut text = String::new();
///     stream.read_to_string(&mut text).await.unwrap();
///     text
/// })?;
/// assert_eq!(text, "hello");
/// assert!(world.now().as_millis() > 2, "two round trips take time");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct World {
    pub(crate) shared: Arc<WorldShared>,
    crypto: SimCrypto,
    cpu_cost: Duration,
    disk_faults: DiskFaults,
    steps_max: u64,
    steps: Mutex<u64>,
}

impl World {
    /// An empty world at time zero.
    #[must_use]
    pub fn new(config: WorldConfig) -> Self {
        let seeds = Seeds::new(config.seed);
        let crypto = if config.ed25519 {
            SimCrypto::ed25519()
        } else {
            SimCrypto::stand_in()
        };
        let state = WorldState {
            now: 0,
            timers: Timers::default(),
            kernel: Kernel::new(seeds, config.path, config.dial_limit),
            trace: Trace::new(config.trace),
            trace_polls: config.trace_polls,
            replicas: Vec::new(),
            scheduler: Scheduler::new(config.schedule, seeds.stream("scheduler", &[])),
            seeds,
            points: Points::new(
                seeds,
                config.buggify,
                config.disarmed,
                config.planted,
                config.knobs,
            ),
            core_names: CoreNames::default(),
            blames: BTreeMap::new(),
            active_at: 0,
            tasks_started: 0,
            reseed: config.reseed,
        };
        Self {
            shared: Arc::new(WorldShared {
                state: Mutex::new(state),
                ready: Arc::new(Ready::default()),
                interrupt: Arc::default(),
            }),
            crypto,
            cpu_cost: config.cpu_cost,
            disk_faults: config.disk,
            steps_max: config.steps_max,
            steps: Mutex::new(0),
        }
    }

    // Replicas.

    /// Adds a replica, which runs nothing yet. Its name is its address.
    pub fn add_replica(&self, name: &str) -> Result<ReplicaId, NameError> {
        if name.is_empty() || name.contains(':') {
            return Err(NameError::Invalid(name.into()));
        }
        let name: Arc<str> = name.into();
        let mut state = lock(&self.shared.state);
        if state.replicas.iter().any(|replica| replica.name == name) {
            return Err(NameError::Taken(name.to_string()));
        }
        let id = state.kernel.add_replica(Arc::clone(&name));
        let disk = SimDisk::new(0);
        disk.set_choice(Seeded::from(state.seeds.stream("disk", &[&name])));
        disk.set_faults(self.disk_faults.clone());
        let world = Arc::downgrade(&self.shared);
        disk.observe(move |event| {
            if let Some(world) = world.upgrade() {
                lock(&world.state).disk_event(id, event);
            }
        });
        let now = state.now;
        state.replicas.push(Replica {
            name,
            incarnation: 0,
            up: false,
            paused: false,
            clock: ReplicaClock {
                drift_since: now,
                ..ReplicaClock::default()
            },
            disk,
            program: None,
            env: None,
            tasks: BTreeMap::new(),
            parked: Vec::new(),
        });
        drop(state);
        self.start(id);
        Ok(id)
    }

    /// All replicas.
    #[must_use]
    pub fn replicas(&self) -> Vec<ReplicaId> {
        (0..lock(&self.shared.state).replicas.len())
            .map(ReplicaId::new)
            .collect()
    }

    /// The environment of the latest incarnation of a replica.
    ///
    /// # Panics
    ///
    /// When the replica is of another world.
    #[must_use]
    pub fn env(&self, replica: ReplicaId) -> SimEnv {
        #[expect(
            clippy::expect_used,
            reason = "`add_replica` sets it before it gives the id away"
        )]
        lock(&self.shared.state).replicas[replica.index()]
            .env
            .clone()
            .expect("a replica of this world has an environment")
    }

    /// Runs `program` on a replica, now and after each restart.
    pub fn boot<F>(&self, replica: ReplicaId, program: impl Fn(SimEnv) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let env = self.env(replica);
        let program: crate::replica::Program = Arc::new(move |env| Box::pin(program(env)));
        let former = lock(&self.shared.state).replicas[replica.index()]
            .program
            .replace(Arc::clone(&program));
        drop(former);
        autobee::env::Spawn::spawn(autobee::env::Env::spawn(&env), "main", program(env.clone()));
    }

    // What can be seen.

    /// Virtual time since the world began.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(lock(&self.shared.state).now)
    }

    /// The disk of a replica, as its latest incarnation has it: to set faults, take snapshots, count calls.
    #[must_use]
    pub fn disk(&self, replica: ReplicaId) -> SimDisk {
        lock(&self.shared.state).replica(replica).disk.clone()
    }

    /// The signatures of the world: clones know the keys that are made in it.
    #[must_use]
    pub fn signatures(&self) -> SimCrypto {
        self.crypto.clone()
    }

    /// How many connections were made so far.
    #[must_use]
    pub fn opened(&self) -> u64 {
        lock(&self.shared.state).kernel.opened()
    }

    /// How often bytes reached a replica so far.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        lock(&self.shared.state).kernel.delivered()
    }

    /// How often each kind of fault of the network struck so far.
    #[must_use]
    pub fn strikes(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.shared.state).kernel.strikes()
    }

    /// A stream for what drives the world: workloads and fault schedules.
    #[must_use]
    pub fn stream(&self, name: &str) -> Stream {
        lock(&self.shared.state).seeds.stream("workload", &[name])
    }

    /// Has traces call a log by this name, as a rule that of the replica that writes it. Others get a name by their first
    /// appearance.
    pub fn name_core(&self, core: CoreKey, name: &str) {
        lock(&self.shared.state).core_names.name(core, name);
    }

    /// BLAKE2b-256 of all lines of the trace so far.
    #[must_use]
    pub fn trace_hash(&self) -> Hash {
        lock(&self.shared.state).trace.hash()
    }

    /// Number of lines of the trace so far.
    #[must_use]
    pub fn trace_events(&self) -> u64 {
        lock(&self.shared.state).trace.events()
    }

    /// The lines of the trace so far, when it is collected.
    #[must_use]
    pub fn trace_bytes(&self) -> Vec<u8> {
        lock(&self.shared.state).trace.collected().to_vec()
    }

    /// Writes a line of whoever drives the world to the trace.
    pub fn note(&self, text: &str) {
        let mut state = lock(&self.shared.state);
        let now = state.now;
        state.trace.event(now, "note").text("what", text);
    }

    /// Flushes the writer of the trace, and gives the first error that writing met.
    pub fn finish_trace(&self) -> std::io::Result<()> {
        lock(&self.shared.state).trace.finish()
    }

    /// Per point that a program told of by `Env::sometimes`: how often it was looked at, and how often it was seen.
    #[must_use]
    pub fn sometimes(&self) -> BTreeMap<Point, (u64, u64)> {
        lock(&self.shared.state).points.counts().clone()
    }

    /// What a replica held against peers, in all its lives.
    #[must_use]
    pub fn blames_of(&self, replica: ReplicaId) -> BTreeSet<Point> {
        let blames = &lock(&self.shared.state).blames;
        blames.get(&replica).cloned().unwrap_or_default()
    }

    /// Fault points that were reached and are armed in this run.
    #[must_use]
    pub fn armed(&self) -> BTreeSet<&'static str> {
        lock(&self.shared.state).points.armed()
    }

    /// Tasks that have not ended, of all replicas.
    #[must_use]
    pub fn tasks(&self) -> usize {
        let state = lock(&self.shared.state);
        state.replicas.iter().map(|replica| replica.tasks.len()).sum()
    }

    /// Streams that at least one replica still holds.
    #[must_use]
    pub fn streams(&self) -> usize {
        lock(&self.shared.state).kernel.streams()
    }

    /// Streams of which one of these replicas holds an end, though nothing can come from the other one any more.
    #[must_use]
    pub fn dead_streams(&self, of: &[ReplicaId]) -> BTreeSet<u64> {
        lock(&self.shared.state).kernel.dead_streams(of)
    }

    /// How many streams a replica holds an end of.
    #[must_use]
    pub fn streams_of(&self, replica: ReplicaId) -> usize {
        lock(&self.shared.state).kernel.streams_of(replica)
    }

    /// How many tasks of each name a replica runs.
    #[must_use]
    pub fn tasks_of(&self, replica: ReplicaId) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for task in lock(&self.shared.state).replica(replica).tasks.values() {
            *counts.entry(task.name).or_default() += 1;
        }
        counts
    }

    /// Starts the next incarnation of a replica that is down, without its program.
    fn start(&self, id: ReplicaId) -> SimEnv {
        let world = Arc::downgrade(&self.shared);
        let mut state = lock(&self.shared.state);
        let now = state.now;
        let seeds = state.seeds;
        let replica = &mut state.replicas[id.index()];
        replica.up = true;
        replica.incarnation += 1;
        replica.clock.started_at = now;
        let (disk, name) = (replica.disk.clone(), Arc::clone(&replica.name));
        let owner = Owner {
            replica: id,
            incarnation: replica.incarnation,
        };
        drop(state);
        let incarnation = owner.incarnation.to_string();
        let fabric = Arc::new(WorldFabric {
            world: world.clone(),
            owner,
        });
        let env = SimEnv::new(Parts {
            owner,
            clock: SimClock {
                world: world.clone(),
                owner,
            },
            network: SimNetwork::new(fabric),
            entropy: SimEntropy::new(seeds.stream("entropy", &[&name, &incarnation])),
            spawn: SimSpawn {
                world,
                owner,
                cpu_cost: self.cpu_cost,
                disk: disk.clone(),
            },
            crypto: self.crypto.clone(),
            disk,
            name,
        });
        let former = lock(&self.shared.state).replicas[id.index()]
            .env
            .replace(env.clone());
        drop(former);
        env
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let mut leftover = Vec::new();
        {
            let mut state = lock(&self.shared.state);
            for replica in &mut state.replicas {
                replica.up = false;
                leftover.extend(std::mem::take(&mut replica.tasks).into_values());
                leftover.append(&mut replica.parked);
            }
        }
        leftover.append(&mut self.shared.ready.drain());
        for task in leftover {
            task.end();
        }
        // What ended may have woken others that were to be ended: the queue would keep them, and they the queue.
        drop(self.shared.ready.drain());
    }
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            path: PathConfig::default(),
            dial_limit: Duration::from_secs(3),
            ed25519: false,
            buggify: false,
            disarmed: BTreeSet::new(),
            planted: BTreeSet::new(),
            knobs: BTreeMap::new(),
            steps_max: 50_000_000,
            cpu_cost: Duration::from_micros(100),
            schedule: Schedule::default(),
            trace: TraceSink::Discard,
            trace_polls: false,
            reseed: None,
            disk: DiskFaults::default(),
        }
    }
}

impl fmt::Debug for WorldConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorldConfig")
            .field("seed", &self.seed)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World({} replicas at {:?})", self.replicas().len(), self.now())
    }
}
