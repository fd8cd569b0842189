//! The environment of one incarnation of a replica in a [`World`](crate::World).
//!
//! Handles outlive their incarnation only as shells: after a crash clocks stop, tasks are dropped, streams fail.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use autobee::env::{Clock, Disk, Entropy, Env, Mono, Point, Spawn, TaskHandle, TraceEvent, Wall, Worker};

use crate::crypto::SimCrypto;
use crate::disk::{SimDisk, serve};
use crate::executor::lock;
use crate::network::SimNetwork;
use crate::replica::{Owner, ReplicaClock};
use crate::seed::Stream;
use crate::world::WeakWorld;

/// The environment of one incarnation of a replica.
#[derive(Clone)]
pub struct SimEnv(Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) owner: Owner,
    pub(crate) name: Arc<str>,
    pub(crate) clock: SimClock,
    pub(crate) network: SimNetwork,
    pub(crate) entropy: SimEntropy,
    pub(crate) spawn: SimSpawn,
    pub(crate) crypto: SimCrypto,
    pub(crate) disk: SimDisk,
}

/// The clocks of one incarnation.
#[derive(Clone)]
pub struct SimClock {
    pub(crate) world: WeakWorld,
    pub(crate) owner: Owner,
}

/// The entropy of one incarnation: a stream of its own.
#[derive(Clone)]
pub struct SimEntropy(Arc<Mutex<Stream>>);

/// Starts tasks of one incarnation.
#[derive(Clone)]
pub struct SimSpawn {
    pub(crate) world: WeakWorld,
    pub(crate) owner: Owner,
    pub(crate) cpu_cost: Duration,
    pub(crate) disk: SimDisk,
}

impl SimEnv {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Draws entropy from another stream from now on.
    pub(crate) fn reseed(&self, stream: Stream) {
        *lock(&self.0.entropy.0) = stream;
    }

    /// Name of the replica, which is also its address.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

impl Env for SimEnv {
    const SIM: bool = true;
    type Clock = SimClock;
    type Network = SimNetwork;
    type Entropy = SimEntropy;
    type Spawn = SimSpawn;
    type Crypto = SimCrypto;

    fn clock(&self) -> &SimClock {
        &self.0.clock
    }

    fn network(&self) -> &SimNetwork {
        &self.0.network
    }

    fn entropy(&self) -> &SimEntropy {
        &self.0.entropy
    }

    fn spawn(&self) -> &SimSpawn {
        &self.0.spawn
    }

    fn crypto(&self) -> &SimCrypto {
        &self.0.crypto
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.0.disk.clone())
    }

    fn buggify(&self, point: &'static str) -> bool {
        self.0
            .clock
            .with(|state| state.buggify(self.0.owner, point))
            .unwrap_or(false)
    }

    fn knob(&self, name: &'static str, default: u64) -> u64 {
        let chosen = self.0.clock.with(|state| state.points.knob(name)).flatten();
        chosen.unwrap_or(default)
    }

    fn planted(&self, bug: &'static str) -> bool {
        self.0
            .clock
            .with(|state| state.points.is_planted(bug))
            .unwrap_or(false)
    }

    fn trace(&self, event: impl FnOnce() -> TraceEvent) {
        let event = event();
        self.0
            .clock
            .with(|state| state.engine_event(self.0.owner, &event));
    }

    fn sometimes(&self, point: Point, seen: bool) {
        self.0
            .clock
            .with(|state| state.sometimes(self.0.owner, point, seen));
    }
}

impl SimClock {
    /// Runs `step` on the world, if this incarnation lives.
    fn with<T>(&self, step: impl FnOnce(&mut crate::world::WorldState) -> T) -> Option<T> {
        let world = self.world.upgrade()?;
        let mut state = lock(&world.state);
        state.lives(self.owner).then(|| step(&mut state))
    }

    fn read(&self) -> (u64, ReplicaClock) {
        self.with(|state| (state.now, state.replica(self.owner.replica).clock))
            .unwrap_or_default()
    }
}

impl Clock for SimClock {
    fn now(&self) -> Mono {
        let (now, clock) = self.read();
        Mono(now.saturating_sub(clock.started_at))
    }

    fn wall(&self) -> Wall {
        let (now, clock) = self.read();
        Wall(clock.wall_ms(now))
    }

    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + Send {
        let (_, clock) = self.read();
        Sleep {
            clock: self.clone(),
            at: clock.started_at.saturating_add(at.0),
            timer: None,
        }
    }
}

/// Waits for a virtual time; for ever when the incarnation is gone.
struct Sleep {
    clock: SimClock,
    /// Of the world, nanoseconds.
    at: u64,
    timer: Option<(u64, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let waker = context.waker().clone();
        let (at, timer, owner) = (self.at, self.timer, self.clock.owner);
        let polled = self.clock.with(|state| {
            if state.now >= at {
                return (
                    Poll::Ready(()),
                    timer.and_then(|key| state.timers.remove(key)),
                    None,
                );
            }
            match timer {
                Some(key) => (Poll::Pending, state.timers.rearm(key, waker), timer),
                None => (Poll::Pending, None, Some(state.timers.add(at, owner, waker))),
            }
        });
        let Some((poll, unused, timer)) = polled else {
            return Poll::Pending;
        };
        drop(unused);
        self.timer = timer;
        poll
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.timer {
            let unused = self.clock.with(|state| state.timers.remove(key));
            drop(unused);
        }
    }
}

impl SimSpawn {
    fn clock(&self) -> SimClock {
        SimClock {
            world: self.world.clone(),
            owner: self.owner,
        }
    }
}

impl SimEntropy {
    pub(crate) fn new(stream: Stream) -> Self {
        Self(Arc::new(Mutex::new(stream)))
    }
}

impl Entropy for SimEntropy {
    fn fill(&self, out: &mut [u8]) {
        lock(&self.0).fill(out);
    }
}

impl Spawn for SimSpawn {
    fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) -> TaskHandle {
        let late = self.clock().with(|state| state.late_start(self.owner)).flatten();
        let task = self.world.upgrade().and_then(|world| match late {
            None => world.spawn(self.owner, name, future),
            Some(late) => {
                let clock = self.clock();
                world.spawn(self.owner, name, async move {
                    clock.sleep(late).await;
                    future.await;
                })
            }
        });
        let world = self.world.clone();
        TaskHandle::new(move || {
            if let (Some(task), Some(world)) = (task, world.upgrade()) {
                world.end(&task);
            }
        })
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

impl fmt::Debug for SimEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimEnv({} #{})", self.0.name, self.0.owner.incarnation)
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

opaque_debug!(SimClock SimEntropy SimSpawn);
