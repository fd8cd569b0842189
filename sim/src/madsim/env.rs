//! The environment of one incarnation of a replica under madsim.

use std::fmt;
use std::future::{Future, pending};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ::madsim::runtime::NodeHandle;
use autobee::env::{Clock, Disk, Env, Mono, Point, Spawn, TaskHandle, TraceEvent, Wall, Worker};

use super::state::{MadsimShared, MadsimState};
use crate::crypto::SimCrypto;
use crate::disk::{SimDisk, serve};
use crate::env::SimEntropy;
use crate::executor::lock;
use crate::network::SimNetwork;
use crate::replica::{Owner, ReplicaClock};
use crate::trace::write_engine_event;

/// The environment of one incarnation of a replica under madsim.
#[derive(Clone)]
pub struct MadsimEnv(Arc<MadsimEnvParts>);

pub(super) struct MadsimEnvParts {
    pub(super) name: Arc<str>,
    pub(super) clock: MadsimClock,
    pub(super) network: SimNetwork,
    pub(super) entropy: SimEntropy,
    pub(super) spawn: MadsimSpawn,
    pub(super) crypto: SimCrypto,
    pub(super) disk: SimDisk,
}

/// madsim's clock, with the skew of the replica. Sleeps take at least a millisecond.
#[derive(Clone)]
pub struct MadsimClock {
    pub(super) world: Weak<MadsimShared>,
    pub(super) owner: Owner,
}

/// Starts tasks on the madsim node of the incarnation.
#[derive(Clone)]
pub struct MadsimSpawn {
    pub(super) world: Weak<MadsimShared>,
    pub(super) owner: Owner,
    pub(super) node: NodeHandle,
    pub(super) cpu_cost: Duration,
    pub(super) disk: SimDisk,
}

impl MadsimEnv {
    pub(super) fn new(parts: MadsimEnvParts) -> Self {
        Self(Arc::new(parts))
    }

    /// Name of the replica, which is also its address.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

impl Env for MadsimEnv {
    const SIM: bool = true;
    type Clock = MadsimClock;
    type Network = SimNetwork;
    type Entropy = SimEntropy;
    type Spawn = MadsimSpawn;
    type Crypto = SimCrypto;

    fn clock(&self) -> &MadsimClock {
        &self.0.clock
    }

    fn network(&self) -> &SimNetwork {
        &self.0.network
    }

    fn entropy(&self) -> &SimEntropy {
        &self.0.entropy
    }

    fn spawn(&self) -> &MadsimSpawn {
        &self.0.spawn
    }

    fn crypto(&self) -> &SimCrypto {
        &self.0.crypto
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.0.disk.clone())
    }

    fn buggify(&self, point: &'static str) -> bool {
        let fires = |state: &mut MadsimState| state.points.fires(point);
        self.0.clock.with(fires).unwrap_or(false)
    }

    fn knob(&self, name: &'static str, default: u64) -> u64 {
        let chosen = self.0.clock.with(|state| state.points.knob(name)).flatten();
        chosen.unwrap_or(default)
    }

    fn planted(&self, bug: &'static str) -> bool {
        let planted = |state: &mut MadsimState| state.points.is_planted(bug);
        self.0.clock.with(planted).unwrap_or(false)
    }

    fn trace(&self, event: impl FnOnce() -> TraceEvent) {
        let event = event();
        let owner = self.0.clock.owner;
        let now = self.0.clock.world.upgrade().map_or(0, |world| world.now());
        self.0.clock.with(|state| {
            let name = state.name(owner);
            let MadsimState {
                trace, core_names, ..
            } = state;
            write_engine_event(trace, core_names, now, &name, &event);
        });
    }

    fn sometimes(&self, point: Point, seen: bool) {
        self.0.clock.with(|state| state.points.sometimes(point, seen));
    }
}

impl MadsimClock {
    /// Runs `step` on the world, if this incarnation lives.
    fn with<T>(&self, step: impl FnOnce(&mut MadsimState) -> T) -> Option<T> {
        let world = self.world.upgrade()?;
        let mut state = lock(&world.state);
        state.lives(self.owner).then(|| step(&mut state))
    }

    fn read(&self) -> (u64, ReplicaClock) {
        let now = self.world.upgrade().map_or(0, |world| world.now());
        let clock = self.with(|state| state.replicas[self.owner.replica.index()].clock);
        (now, clock.unwrap_or_default())
    }
}

impl Clock for MadsimClock {
    fn now(&self) -> Mono {
        let (now, clock) = self.read();
        Mono(now.saturating_sub(clock.started_at))
    }

    fn wall(&self) -> Wall {
        let (now, clock) = self.read();
        Wall(clock.wall_ms(now))
    }

    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + Send {
        let wait = at.since(self.now());
        let sleep = (!wait.is_zero())
            .then(|| self.world.upgrade())
            .flatten()
            .map(|world| world.time.sleep(wait));
        let gone = self.with(|_| ()).is_none();
        async move {
            match sleep {
                _ if gone => pending().await,
                Some(sleep) => sleep.await,
                None => {}
            }
        }
    }
}

impl Spawn for MadsimSpawn {
    fn spawn(&self, _name: &'static str, future: impl Future<Output = ()> + Send + 'static) -> TaskHandle {
        let clock = self.clock();
        if clock.with(|_| ()).is_none() {
            return TaskHandle::new(|| ());
        }
        let task = self.node.spawn(future).abort_handle();
        TaskHandle::new(move || task.abort())
    }

    async fn cpu<T: Send + 'static>(
        &self,
        _name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let result = work();
        self.clock().sleep(self.cpu_cost + self.disk.take_debt()).await;
        result
    }

    fn dedicated(&self, name: &'static str, worker: impl Worker) -> TaskHandle {
        self.spawn(name, serve(worker, self.clock(), self.disk.clone()))
    }
}

impl MadsimSpawn {
    fn clock(&self) -> MadsimClock {
        MadsimClock {
            world: self.world.clone(),
            owner: self.owner,
        }
    }
}

impl fmt::Debug for MadsimEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "MadsimEnv({} #{})",
            self.0.name, self.0.clock.owner.incarnation
        )
    }
}

macro_rules! opaque_debug {
    ($($name:ident)*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )*};
}

opaque_debug!(MadsimClock MadsimSpawn);
