//! What a world holds behind its one lock, and the handles that reach it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, Weak};
use std::task::Waker;

use crate::disk::{DiskEvent, DiskFault, DiskOp};
use crate::executor::{Ready, Task, Timers, lock};
use crate::network::{Fabric, Kernel};
use crate::replica::{Owner, Replica, ReplicaId};
use crate::seed::{Seeds, Stream};
use crate::trace::Trace;

/// Armed points fire this often, and points are armed this often: a quarter.
const BUGGIFY_64K: u32 = 16_384;

/// A world as its programs hold it: it ends with its owner, whatever they keep.
pub(crate) type WeakWorld = Weak<Shared>;

/// A world.
pub(crate) struct Shared {
    /// Never locked while a future is polled or dropped, or a waker called.
    pub(crate) state: Mutex<State>,
    pub(crate) ready: Arc<Ready>,
}

/// Everything that changes.
pub(crate) struct State {
    pub(crate) now: u64,
    pub(crate) timers: Timers,
    pub(crate) kernel: Kernel<Waker>,
    pub(crate) trace: Trace,
    pub(crate) trace_polls: bool,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) scheduler: Stream,
    pub(crate) seeds: Seeds,
    pub(crate) planted: BTreeSet<String>,
    pub(crate) buggify: bool,
    pub(crate) disarmed: BTreeSet<String>,
    /// Per point: the stream that decides when it fires; `None` when it is not armed in this run.
    pub(crate) points: BTreeMap<&'static str, Option<Stream>>,
    /// Per point: how often it was looked at, and how often it was seen.
    pub(crate) sometimes: BTreeMap<&'static str, (u64, u64)>,
    /// Virtual time of the last thing that was more than a timer.
    pub(crate) active_at: u64,
    pub(crate) tasks_started: u64,
}

impl Shared {
    /// Starts a task, unless its incarnation is gone: then the future is dropped.
    pub(crate) fn spawn(
        &self,
        owner: Owner,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Option<Arc<Task>> {
        let id = {
            let mut state = lock(&self.state);
            if !state.lives(owner) {
                return None;
            }
            state.tasks_started += 1;
            state.tasks_started
        };
        let task = Task::start(id, name, owner, &self.ready, future);
        let mut state = lock(&self.state);
        state.replicas[owner.replica.index()]
            .tasks
            .insert(id, Arc::clone(&task));
        Some(task)
    }
}

impl State {
    pub(crate) fn replica(&self, id: ReplicaId) -> &Replica {
        &self.replicas[id.index()]
    }

    /// True while the process of `owner` runs.
    pub(crate) fn lives(&self, owner: Owner) -> bool {
        let replica = self.replica(owner.replica);
        replica.up && replica.incarnation == owner.incarnation
    }

    /// Moves the time to `now`, and the network with it.
    pub(crate) fn advance(&mut self, now: u64) {
        self.now = now;
        self.kernel.advance(now);
        self.write_notes();
    }

    /// Hands what the network did to the trace.
    pub(crate) fn write_notes(&mut self) {
        let replicas = &self.replicas;
        for note in self.kernel.drain_notes() {
            self.active_at = self.now;
            note.write(self.now, &mut self.trace, |id| &replicas[id.index()].name);
        }
    }

    // What programs ask for.

    pub(crate) fn buggify(&mut self, owner: Owner, point: &'static str) -> bool {
        if !self.buggify {
            return false;
        }
        let (seeds, disarmed) = (self.seeds, &self.disarmed);
        let entry = self.points.entry(point).or_insert_with(|| {
            let armed = seeds.stream("buggify arm", &[point]).chance(BUGGIFY_64K);
            (armed && !disarmed.contains(point)).then(|| seeds.stream("buggify fire", &[point]))
        });
        let fires = entry.as_mut().is_some_and(|stream| stream.chance(BUGGIFY_64K));
        if fires {
            self.trace
                .event(self.now, "buggify")
                .text("r", &self.replicas[owner.replica.index()].name)
                .text("point", point);
        }
        fires
    }

    pub(crate) fn disk_event(&mut self, id: ReplicaId, event: &DiskEvent<'_>) {
        let line = self
            .trace
            .event(self.now, "disk")
            .text("r", &self.replicas[id.index()].name)
            .text("op", op_name(event.op))
            .text("file", event.name)
            .number("at", event.offset)
            .number("bytes", event.bytes);
        let line = match event.fault {
            Some(fault) => line.text("fault", fault_name(fault)),
            None => line,
        };
        line.flag("ok", event.failed.is_none());
    }

    pub(crate) fn engine_event(&mut self, owner: Owner, text: &str) {
        self.active_at = self.now;
        self.trace
            .event(self.now, "engine")
            .text("r", &self.replicas[owner.replica.index()].name)
            .text("what", text);
    }

    pub(crate) fn sometimes(&mut self, point: &'static str, seen: bool) {
        let (looked, saw) = self.sometimes.entry(point).or_default();
        *looked += 1;
        *saw += u64::from(seen);
    }
}

const fn op_name(op: DiskOp) -> &'static str {
    match op {
        DiskOp::List => "list",
        DiskOp::Open => "open",
        DiskOp::Create => "create",
        DiskOp::Rename => "rename",
        DiskOp::Remove => "remove",
        DiskOp::SyncDir => "sync_dir",
        DiskOp::Lock => "lock",
        DiskOp::Length => "length",
        DiskOp::Read => "read",
        DiskOp::Write => "write",
        DiskOp::Allocate => "allocate",
        DiskOp::Truncate => "truncate",
        DiskOp::Sync => "sync",
    }
}

const fn fault_name(fault: DiskFault) -> &'static str {
    match fault {
        DiskFault::Error => "error",
        DiskFault::Full => "full",
        DiskFault::Lie => "lie",
        DiskFault::Rot => "rot",
        DiskFault::Astray => "astray",
    }
}

/// The network of a world, for one incarnation.
pub(crate) struct WorldFabric {
    pub(crate) world: WeakWorld,
    pub(crate) owner: Owner,
}

impl Fabric for WorldFabric {
    fn with(&self, step: &mut dyn FnMut(&mut Kernel<Waker>, ReplicaId)) {
        let Some(world) = self.world.upgrade() else { return };
        let wakes = {
            let mut state = lock(&world.state);
            if !state.lives(self.owner) {
                return;
            }
            step(&mut state.kernel, self.owner.replica);
            state.write_notes();
            state.kernel.take_wakes()
        };
        wakes.into_iter().for_each(Waker::wake);
    }
}
