//! Lane 2: the same replicas under the scheduler, the clock and the timers of madsim.
//!
//! An independent second opinion: what holds under two schedulers does not hang on the habits of one. Network, disks,
//! seeds and trace are those of lane 1, because madsim's own streams and files are not faithful enough.
//!
//! Only compiled with the feature `madsim`, and `--cfg madsim`, which `.cargo/config.toml` of this repository sets.

mod env;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::madsim::Config;
use ::madsim::runtime::{NodeHandle, Runtime};
use autobee::crypto::{CoreKey, Hash};
use autobee::env::Point;
use autobee::env::{Env as _, Spawn as _};

pub use env::{MadsimClock, MadsimEnv, MadsimSpawn};
use state::{Fabrics, MadsimReplica, MadsimShared, MadsimState};

use crate::crypto::SimCrypto;
use crate::disk::{self, DiskSnapshot, Seeded, SimDisk};
use crate::executor::lock;
use crate::network::{Kernel, PathConfig, SimNetwork};
use crate::points::Points;
use crate::replica::{Crash, Owner, ReplicaClock, ReplicaId};
use crate::seed::{Seeds, Stream};
use crate::trace::{CoreNames, Trace};
use crate::world::{NameError, RunError, WorldConfig};

/// The longest that a run may be asked to last: madsim's instants end soon after.
const LIMIT: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A world whose tasks madsim schedules. The same calls as [`World`](crate::World), the same configuration.
///
/// `steps_max` and `trace_polls` have no meaning here: virtual time bounds every run, and madsim does not tell of polls.
pub struct MadsimWorld {
    runtime: Runtime,
    shared: Arc<MadsimShared>,
    crypto: SimCrypto,
    config: WorldConfig,
}

impl MadsimWorld {
    /// Nothing ends a run of madsim from outside.
    #[expect(clippy::unused_self, reason = "as `World` has it")]
    pub(crate) const fn interrupt(&self) -> Option<Arc<AtomicBool>> {
        None
    }

    /// An empty world at time zero.
    #[must_use]
    pub fn new(mut config: WorldConfig) -> Self {
        let seeds = Seeds::new(config.seed);
        let runtime = Runtime::with_seed_and_config(config.seed, Config::default());
        let crypto = if config.ed25519 {
            SimCrypto::ed25519()
        } else {
            SimCrypto::stand_in()
        };
        let state = MadsimState {
            now: 0,
            kernel: Kernel::new(seeds, config.path, config.dial_limit),
            trace: Trace::new(std::mem::take(&mut config.trace)),
            replicas: Vec::new(),
            points: Points::new(
                seeds,
                config.buggify,
                config.disarmed.clone(),
                config.planted.clone(),
                config.knobs.clone(),
            ),
            core_names: CoreNames::default(),
            pump_at: None,
        };
        let time = runtime.block_on(async { ::madsim::time::TimeHandle::current() });
        let machine = runtime.create_node().name("network").build();
        Self {
            shared: Arc::new_cyclic(|own| MadsimShared {
                state: Mutex::new(state),
                time,
                machine,
                own: own.clone(),
            }),
            runtime,
            crypto,
            config,
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
        disk.set_choice(Seeded::from(self.seeds().stream("disk", &[&name])));
        disk.set_faults(self.config.disk.clone());
        let world = Arc::downgrade(&self.shared);
        disk.observe(move |event| {
            if let Some(world) = world.upgrade() {
                let now = world.now();
                lock(&world.state).disk_event(id, now, event);
            }
        });
        state.replicas.push(MadsimReplica {
            name,
            incarnation: 0,
            up: false,
            clock: ReplicaClock::default(),
            disk,
            node: None,
            env: None,
            program: None,
        });
        drop(state);
        self.start(id);
        Ok(id)
    }

    /// The environment of the latest incarnation of a replica.
    ///
    /// # Panics
    ///
    /// When the replica is of another world.
    #[must_use]
    pub fn env(&self, replica: ReplicaId) -> MadsimEnv {
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
    pub fn boot<F>(&self, replica: ReplicaId, program: impl Fn(MadsimEnv) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let env = self.env(replica);
        let program: state::Program = Arc::new(move |env| Box::pin(program(env)));
        lock(&self.shared.state).replicas[replica.index()].program = Some(Arc::clone(&program));
        env.spawn().spawn("main", program(env.clone()));
    }

    /// The disk of a replica, as its latest incarnation has it.
    #[must_use]
    pub fn disk(&self, replica: ReplicaId) -> SimDisk {
        lock(&self.shared.state).replicas[replica.index()].disk.clone()
    }

    // Running.

    /// Runs for `duration` of virtual time. Does not fail: the signature is that of the other lane.
    pub fn run_for(&self, duration: Duration) -> Result<(), RunError> {
        let time = self.shared.time.clone();
        self.runtime
            .block_on(async move { time.sleep(duration.min(LIMIT)).await });
        self.shared.pump();
        Ok(())
    }

    /// Runs until `future`, as a task of `replica`, is done, at most for `limit` of virtual time.
    pub fn block_on_for<T: Send + 'static>(
        &self,
        replica: ReplicaId,
        limit: Duration,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, RunError> {
        let node = lock(&self.shared.state).replicas[replica.index()].node.clone();
        let Some(node) = node else {
            return Err(RunError::Down {
                replica,
                at: self.now(),
            });
        };
        let time = self.shared.time.clone();
        let outcome = self.runtime.block_on(async move {
            let task = node.spawn(future);
            let stop = task.abort_handle();
            let outcome = time.timeout(limit.min(LIMIT), task).await;
            stop.abort();
            outcome
        });
        let at = self.now();
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) => Err(RunError::Down { replica, at }),
            Err(_) => Err(RunError::Limit { at }),
        }
    }

    // Faults.

    /// Configures the path from `from` to `to` for what is sent from now on.
    pub fn set_path(&self, from: ReplicaId, to: ReplicaId, config: PathConfig) {
        self.shared
            .change("path", &[from, to], |kernel| kernel.set_path(from, to, config));
    }

    /// From now on only replicas of one group reach each other; a replica in no group is alone.
    pub fn partition(&self, groups: &[Vec<ReplicaId>]) {
        self.shared
            .change("partition", &groups.concat(), |kernel| kernel.partition(groups));
    }

    /// Cuts the way from `from` to `to`; the way back stays.
    pub fn cut(&self, from: ReplicaId, to: ReplicaId) {
        self.shared
            .change("cut", &[from, to], |kernel| kernel.cut(from, to));
    }

    /// Opens the way from `from` to `to` again.
    pub fn open(&self, from: ReplicaId, to: ReplicaId) {
        self.shared
            .change("uncut", &[from, to], |kernel| kernel.open(from, to));
    }

    /// Resets all streams between two replicas.
    pub fn reset_between(&self, a: ReplicaId, b: ReplicaId) {
        self.shared
            .change("reset_between", &[a, b], |kernel| kernel.reset_between(a, b));
    }

    /// Lets all streams between two replicas go silent for ever.
    pub fn mute_between(&self, a: ReplicaId, b: ReplicaId) {
        self.shared
            .change("mute_between", &[a, b], |kernel| kernel.mute_between(a, b));
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

    /// Nothing: this scheduler does not say which tasks it runs.
    #[must_use]
    pub fn tasks_of(&self, _: ReplicaId) -> BTreeMap<&'static str, usize> {
        BTreeMap::new()
    }

    /// Opens all ways.
    pub fn heal(&self) {
        self.shared.change("heal", &[], Kernel::heal);
    }

    /// Ends the process of a replica. Nothing happens when it is down already.
    pub fn crash(&self, replica: ReplicaId, how: Crash) {
        let node = {
            let mut guard = lock(&self.shared.state);
            let state = &mut *guard;
            let entry = &mut state.replicas[replica.index()];
            let Some(node) = entry.node.take() else { return };
            entry.up = false;
            let incarnation = entry.incarnation.to_string();
            let mut fate = self.seeds().stream("disk fate", &[&entry.name, &incarnation]);
            entry.disk = match how {
                Crash::Kill => entry.disk.kill(),
                Crash::PowerLoss => {
                    let treatment = disk::DiskCrash::ALL[fate.index(disk::DiskCrash::ALL.len())];
                    entry.disk.crash(treatment, &mut Seeded::from(fate))
                }
            };
            node
        };
        self.runtime.handle().kill(node.id());
        let event = match how {
            Crash::Kill => "kill",
            Crash::PowerLoss => "power_loss",
        };
        self.shared.change(event, &[replica], |kernel| match how {
            Crash::Kill => kernel.kill(replica),
            Crash::PowerLoss => kernel.power_off(replica),
        });
    }

    /// Starts a replica that is down, and its program if it has one. A replica that runs is left as it is.
    pub fn restart(&self, replica: ReplicaId) -> MadsimEnv {
        if lock(&self.shared.state).replicas[replica.index()].up {
            return self.env(replica);
        }
        let env = self.start(replica);
        self.shared
            .change("restart", &[replica], |kernel| kernel.power_on(replica));
        let program = lock(&self.shared.state).replicas[replica.index()].program.clone();
        if let Some(program) = program {
            env.spawn().spawn("main", program(env.clone()));
        }
        env
    }

    /// True while the process of a replica runs, paused or not.
    #[must_use]
    pub fn is_up(&self, replica: ReplicaId) -> bool {
        lock(&self.shared.state).replicas[replica.index()].up
    }

    /// Stops polling the tasks of a replica.
    pub fn pause(&self, replica: ReplicaId) {
        if let Some(node) = self.node(replica) {
            self.shared.change("pause", &[replica], |_| ());
            self.runtime.handle().pause(node.id());
        }
    }

    /// Goes on after [`Self::pause`].
    pub fn resume(&self, replica: ReplicaId) {
        if let Some(node) = self.node(replica) {
            self.shared.change("resume", &[replica], |_| ());
            self.runtime.handle().resume(node.id());
        }
    }

    /// Sets how far the time of day of a replica is ahead, in milliseconds.
    pub fn skew(&self, replica: ReplicaId, ahead_ms: i64) {
        self.shared.change("skew", &[replica], |_| ());
        lock(&self.shared.state).replicas[replica.index()].clock.skew_ms = ahead_ms;
    }

    /// Sets by how many millionths the time of day of a replica runs fast.
    pub fn drift(&self, replica: ReplicaId, ppm: i64) {
        self.shared.change("drift", &[replica], |_| ());
        let now = u64::try_from(self.shared.time.elapsed().as_nanos()).unwrap_or(u64::MAX);
        lock(&self.shared.state).replicas[replica.index()]
            .clock
            .set_drift(now, ppm);
    }

    /// Puts these contents on the disk of a replica that is down: all of it, as if it had been synced.
    pub fn set_disk(&self, replica: ReplicaId, contents: &DiskSnapshot) {
        self.shared.change("set_disk", &[replica], |_| ());
        let mut state = lock(&self.shared.state);
        let entry = &mut state.replicas[replica.index()];
        entry.disk = entry.disk.restore(contents);
    }

    // What can be seen.

    /// The signatures of the world.
    #[must_use]
    pub fn signatures(&self) -> SimCrypto {
        self.crypto.clone()
    }

    /// Virtual time since the world began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.time.elapsed()
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
        self.seeds().stream("workload", &[name])
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
        let now = self.shared.now();
        lock(&self.shared.state)
            .trace
            .event(now, "note")
            .text("what", text);
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

    /// Nothing: what replicas hold against peers is noted in the other world.
    #[must_use]
    pub const fn blames_of(&self, _: ReplicaId) -> BTreeSet<Point> {
        BTreeSet::new()
    }

    fn seeds(&self) -> Seeds {
        Seeds::new(self.config.seed)
    }

    fn node(&self, replica: ReplicaId) -> Option<NodeHandle> {
        lock(&self.shared.state).replicas[replica.index()].node.clone()
    }

    /// Starts the next incarnation of a replica that is down: a new node of madsim.
    fn start(&self, id: ReplicaId) -> MadsimEnv {
        let started_at = self.shared.now();
        let mut state = lock(&self.shared.state);
        let replica = &mut state.replicas[id.index()];
        replica.up = true;
        replica.incarnation += 1;
        replica.clock.started_at = started_at;
        let owner = Owner {
            replica: id,
            incarnation: replica.incarnation,
        };
        let (name, disk) = (Arc::clone(&replica.name), replica.disk.clone());
        drop(state);
        let node = self.runtime.create_node().name(&*name).build();
        let incarnation = owner.incarnation.to_string();
        let env = MadsimEnv::new(env::MadsimEnvParts {
            clock: MadsimClock {
                world: Arc::downgrade(&self.shared),
                owner,
            },
            network: SimNetwork::new(Arc::new(Fabrics {
                world: Arc::downgrade(&self.shared),
                owner,
            })),
            entropy: crate::env::SimEntropy::new(self.seeds().stream("entropy", &[&name, &incarnation])),
            spawn: MadsimSpawn {
                world: Arc::downgrade(&self.shared),
                owner,
                node: node.clone(),
                cpu_cost: self.config.cpu_cost,
                disk: disk.clone(),
            },
            crypto: self.crypto.clone(),
            disk,
            name,
        });
        let mut state = lock(&self.shared.state);
        let replica = &mut state.replicas[id.index()];
        replica.node = Some(node);
        replica.env = Some(env.clone());
        env
    }
}

impl fmt::Debug for MadsimWorld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MadsimWorld at {:?}", self.now())
    }
}
