//! What a world under madsim holds behind its one lock, and how time reaches the network.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::Waker;
use std::time::Duration;

use ::madsim::runtime::NodeHandle;
use ::madsim::time::TimeHandle;

use super::env::MadsimEnv;
use crate::disk::{DiskEvent, SimDisk};
use crate::executor::lock;
use crate::network::{Fabric, Kernel};
use crate::points::Points;
use crate::replica::{Owner, ReplicaClock, ReplicaId};
use crate::trace::{CoreNames, Trace, write_disk_event};

/// What a replica runs whenever it starts.
pub(super) type Program = Arc<dyn Fn(MadsimEnv) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A world.
pub(super) struct MadsimShared {
    /// Never locked while a future is polled or dropped, or a waker called.
    pub(super) state: Mutex<MadsimState>,
    pub(super) time: TimeHandle,
    /// The node on which the network runs.
    pub(super) machine: NodeHandle,
    pub(super) own: Weak<Self>,
}

/// Everything that changes.
pub(super) struct MadsimState {
    /// Nanoseconds, as of the last call.
    pub(super) now: u64,
    pub(super) kernel: Kernel<Waker>,
    pub(super) trace: Trace,
    pub(super) replicas: Vec<MadsimReplica>,
    pub(super) points: Points,
    pub(super) core_names: CoreNames,
    /// When the network is going to be looked after.
    pub(super) pump_at: Option<u64>,
}

pub(super) struct MadsimReplica {
    pub(super) name: Arc<str>,
    pub(super) incarnation: u32,
    pub(super) up: bool,
    pub(super) clock: ReplicaClock,
    pub(super) disk: SimDisk,
    /// `None` while it is down.
    pub(super) node: Option<NodeHandle>,
    pub(super) env: Option<MadsimEnv>,
    pub(super) program: Option<Program>,
}

/// The network of a world, for one incarnation.
pub(super) struct Fabrics {
    pub(super) world: Weak<MadsimShared>,
    pub(super) owner: Owner,
}

impl MadsimShared {
    /// Virtual nanoseconds since the world began.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.time.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Does what is due on the network.
    pub(super) fn pump(&self) {
        self.with(|_| ());
    }

    /// Brings the network to the present time, runs `step`, wakes whoever must be, and sees to what is due next.
    pub(super) fn with<T>(&self, step: impl FnOnce(&mut MadsimState) -> T) -> T {
        let now = self.now();
        let (output, wakes, pump_at) = {
            let mut state = lock(&self.state);
            state.now = now;
            state.kernel.advance(now);
            state.write_notes();
            let output = step(&mut state);
            state.write_notes();
            (output, state.kernel.take_wakes(), state.next_pump())
        };
        wakes.into_iter().for_each(Waker::wake);
        if let Some(at) = pump_at {
            self.pump_later(at);
        }
        output
    }

    /// Changes the network from outside, and writes that to the trace.
    pub(super) fn change(
        &self,
        event: &'static str,
        who: &[ReplicaId],
        change: impl FnOnce(&mut Kernel<Waker>),
    ) {
        self.with(|state| {
            let names: Vec<&str> = who.iter().map(|id| &*state.replicas[id.index()].name).collect();
            state.trace.event(state.now, event).text("who", &names.join(","));
            change(&mut state.kernel);
        });
    }

    fn pump_later(&self, at: u64) {
        let (time, world) = (self.time.clone(), self.own.clone());
        let wait = Duration::from_nanos(at.saturating_sub(self.now()));
        self.machine.spawn(async move {
            time.sleep(wait).await;
            if let Some(world) = world.upgrade() {
                lock(&world.state).pump_at.take_if(|planned| *planned == at);
                world.pump();
            }
        });
    }
}

impl MadsimState {
    /// True while the process of `owner` runs.
    pub(super) fn lives(&self, owner: Owner) -> bool {
        let replica = &self.replicas[owner.replica.index()];
        replica.up && replica.incarnation == owner.incarnation
    }

    pub(super) fn name(&self, owner: Owner) -> Arc<str> {
        Arc::clone(&self.replicas[owner.replica.index()].name)
    }

    pub(super) fn disk_event(&mut self, id: ReplicaId, now: u64, event: &DiskEvent<'_>) {
        let name = &self.replicas[id.index()].name;
        write_disk_event(&mut self.trace, now, name, event);
    }

    /// When to look after the network, if that is earlier than planned.
    fn next_pump(&mut self) -> Option<u64> {
        let at = self.kernel.next_at()?;
        if self.pump_at.is_some_and(|planned| planned <= at) {
            return None;
        }
        self.pump_at = Some(at);
        Some(at)
    }

    fn write_notes(&mut self) {
        let replicas = &self.replicas;
        for note in self.kernel.drain_notes() {
            note.write(self.now, &mut self.trace, |id| &replicas[id.index()].name);
        }
    }
}

impl Fabric for Fabrics {
    fn with(&self, step: &mut dyn FnMut(&mut Kernel<Waker>, ReplicaId)) {
        if let Some(world) = self.world.upgrade() {
            world.with(|state| {
                if state.lives(self.owner) {
                    step(&mut state.kernel, self.owner.replica);
                }
            });
        }
    }
}
