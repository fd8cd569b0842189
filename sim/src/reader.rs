//! Readers: processes that open one log of the database and hold only the blocks of it that they asked for.
//!
//! Their bitfields have holes, so that replicas are asked for single blocks, with proofs of their own, and see peers that
//! have some blocks and not those before them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autobee::Corestore;
use autobee::crypto::CoreKey;
use autobee::env::{Clock as _, Entropy as _, Env, Network as _, PeerAddr, Spawn as _, watch};
use autobee::hypercore::{Core, CoreError, CoreOptions, Wait};
use autobee::replication::Role;
use autobee::replication::session::{Replication, SessionSettings};
use autobee::wire::Index;
use bytes::Bytes;

use crate::executor::lock;
use crate::hostile::RunContext;
use crate::invariant::ReplicaLook;
use crate::replica::{Crash, ReplicaId};
use crate::scenario::{Reader, Scenario};
use crate::simulated_world::SimulatedWorld;
use crate::world::NameError;

/// How long a read waits for its block.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// Between two looks at something that is not there yet, and two dials.
const RETRY: Duration = Duration::from_millis(100);

/// A block that a reader got.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    /// Number of the reader.
    pub(crate) reader: usize,
    pub(crate) core: CoreKey,
    pub(crate) index: u64,
    /// As it is stored.
    pub(crate) block: Bytes,
}

type Reads = Arc<Mutex<Vec<Read>>>;

/// The readers of a run.
pub(crate) struct Readers {
    ids: Vec<ReplicaId>,
    /// Whom each of them dials.
    targets: Vec<Vec<usize>>,
    reads: Reads,
    gate: watch::Sender<bool>,
}

impl Readers {
    /// Starts all of them. They connect to nobody before [`Readers::begin`].
    pub(crate) fn start<S: SimulatedWorld>(
        world: &S,
        scenario: &Scenario,
        known: &Arc<dyn RunContext<S::Env>>,
    ) -> Result<Self, NameError> {
        let gate = watch::Sender::new(false);
        let reads = Reads::default();
        let (mut ids, mut targets) = (Vec::new(), Vec::new());
        for (number, reader) in scenario.reader.iter().enumerate() {
            let id = world.add_replica(&name(number))?;
            ids.push(id);
            targets.push(reader.dialled(scenario.replicas));
            let process = Process {
                number,
                targets: reader.dialled(scenario.replicas),
                reader: reader.clone(),
                reads: Arc::clone(&reads),
            };
            let (known, gate) = (Arc::clone(known), gate.subscribe());
            world.boot(id, move |env| {
                let (process, known, gate) = (process.clone(), Arc::clone(&known), gate.clone());
                // A store that cannot be opened reads nothing, which is noticed.
                async move { drop(process.live(env, known, gate).await) }
            });
        }
        Ok(Self {
            ids,
            targets,
            reads,
            gate,
        })
    }

    /// The plan begins.
    pub(crate) fn begin(&self) {
        self.gate.send_replace(true);
    }

    /// How many there are.
    pub(crate) const fn count(&self) -> usize {
        self.ids.len()
    }

    /// Notes at each replica how much of a log, up to the first gap, the readers hold that dial it.
    pub(crate) fn offer(&self, looks: &mut [ReplicaLook]) {
        let mut held = BTreeMap::<(usize, CoreKey), BTreeSet<u64>>::new();
        for read in &*lock(&self.reads) {
            held.entry((read.reader, read.core))
                .or_default()
                .insert(read.index);
        }
        for ((reader, core), indices) in held {
            let run = (0..).zip(&indices).take_while(|(at, index)| at == *index).count() as u64;
            for target in self.targets.get(reader).into_iter().flatten() {
                if let Some(look) = looks.get_mut(*target) {
                    let offered = look.offered.entry(core).or_default();
                    *offered = run.max(*offered);
                }
            }
        }
    }

    /// What was read so far.
    pub(crate) fn reads(&self) -> Vec<Read> {
        lock(&self.reads).clone()
    }

    /// Ends all of them.
    pub(crate) fn end(&self, world: &impl SimulatedWorld) {
        for id in &self.ids {
            world.crash(*id, Crash::Kill);
        }
    }
}

/// What a reader is called.
pub(crate) fn name(number: usize) -> String {
    format!("s{number}")
}

#[derive(Clone)]
struct Process {
    number: usize,
    reader: Reader,
    targets: Vec<usize>,
    reads: Reads,
}

impl Process {
    async fn live<E: Env>(
        &self,
        env: E,
        known: Arc<dyn RunContext<E>>,
        mut gate: watch::Receiver<bool>,
    ) -> Result<(), CoreError> {
        if gate.wait_for(|is_open| *is_open).await.is_err() {
            return Ok(());
        }
        let store = Corestore::open_default(env.clone()).await?;
        let replication = Replication::new(&env, &store, SessionSettings::default());
        for target in &self.targets {
            let target = PeerAddr::new(format!("r{target}"));
            env.spawn()
                .spawn("dial", dial(env.clone(), target, replication.clone()));
        }
        let (mut key, mut core) = (None, None);
        loop {
            env.clock()
                .sleep(Duration::from_millis(self.reader.every_ms))
                .await;
            // A replica whose directory was lost has another log than before.
            let written = known.log(self.reader.of);
            if written.is_some() && written != key {
                key = written;
                core = None;
                if let Some(key) = key {
                    core = Some(store.get(CoreOptions::key(key)).await?);
                }
            }
            if let Some(core) = &core {
                self.read(&env, core).await;
            }
        }
    }

    /// Reads a drawn block. One that nobody gives in time, or that fails, is no read.
    async fn read<E: Env>(&self, env: &E, core: &Core<E>) {
        let length = core.length().unwrap_or_default().0;
        if length == 0 {
            return;
        }
        let index = u64::from_le_bytes(env.entropy().array()) % length;
        if let Ok(block) = core.get_stored(Index(index), Wait::For(READ_LIMIT)).await {
            lock(&self.reads).push(Read {
                reader: self.number,
                core: core.key(),
                index,
                block,
            });
        }
    }
}

/// Keeps a connection.
async fn dial<E: Env>(env: E, target: PeerAddr, replication: Replication<E>) {
    loop {
        if let Ok(stream) = env.network().dial(&target).await {
            replication.start(stream, Role::Initiator).ended().await;
        }
        env.clock().sleep(RETRY).await;
    }
}
