//! What a world holds behind its one lock, and the handles that reach it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};
use std::task::Waker;
use std::time::Duration;

use autobee::env::{Point, TraceEvent};

use super::Reseed;
use crate::disk::{DiskEvent, Seeded};
use crate::executor::{Ready, ReplicaTask, Timers, lock};
use crate::network::{Fabric, Kernel};
use crate::points::Points;
use crate::replica::{Owner, Replica, ReplicaId};
use crate::schedule::Scheduler;
use crate::seed::Seeds;
use crate::trace::{CoreNames, Trace, write_disk_event, write_engine_event};

/// The latest start of a task, in milliseconds after it could.
const LATE_START_MS: u64 = 30;

/// Points that say that a peer was at fault.
const BLAMES: &[Point] = &[
    Point::PeerPaused,
    Point::AnswerMisfit,
    Point::ProofRefused,
    Point::NonsenseAsked,
];

/// A world as its programs hold it: it ends with its owner, whatever they keep.
pub(crate) type WeakWorld = Weak<WorldShared>;

/// A world.
pub(crate) struct WorldShared {
    /// Never locked while a future is polled or dropped, or a waker called.
    pub(crate) state: Mutex<WorldState>,
    pub(crate) ready: Arc<Ready>,
    /// Ends a run once the poll that is under way is over.
    pub(crate) interrupt: Arc<AtomicBool>,
}

/// Everything that changes.
pub(crate) struct WorldState {
    pub(crate) now: u64,
    pub(crate) timers: Timers,
    pub(crate) kernel: Kernel<Waker>,
    pub(crate) trace: Trace,
    pub(crate) trace_polls: bool,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) scheduler: Scheduler,
    pub(crate) seeds: Seeds,
    pub(crate) points: Points,
    pub(crate) core_names: CoreNames,
    /// What each replica held against peers.
    pub(crate) blames: BTreeMap<ReplicaId, BTreeSet<Point>>,
    /// Virtual time of the last thing that was more than a timer.
    pub(crate) active_at: u64,
    pub(crate) tasks_started: u64,
    /// When chance is drawn from another seed; none once it is.
    pub(crate) reseed: Option<Reseed>,
}

impl WorldShared {
    /// Starts a task, unless its incarnation is gone: then the future is dropped.
    pub(crate) fn spawn(
        &self,
        owner: Owner,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Option<Arc<ReplicaTask>> {
        let id = {
            let mut state = lock(&self.state);
            if !state.lives(owner) {
                return None;
            }
            state.tasks_started += 1;
            state.tasks_started
        };
        let task = ReplicaTask::start(id, name, owner, &self.ready, future);
        let mut state = lock(&self.state);
        state.replicas[owner.replica.index()]
            .tasks
            .insert(id, Arc::clone(&task));
        Some(task)
    }

    /// Drops the future of a task that need not have come to its end.
    pub(crate) fn end(&self, task: &ReplicaTask) {
        task.end();
        let gone = lock(&self.state).replicas[task.owner.replica.index()]
            .tasks
            .remove(&task.id);
        drop(gone);
    }
}

impl WorldState {
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
        if now > self.now {
            self.scheduler.time_passed();
        }
        self.now = now;
        self.kernel.advance(now);
        self.write_notes();
    }

    /// When chance turns to another seed, if that is not after `next`.
    pub(crate) fn turns_by(&self, next: u64) -> bool {
        let at = |turn: Reseed| u64::try_from(turn.at.as_nanos()).unwrap_or(u64::MAX);
        self.reseed.is_some_and(|turn| at(turn) <= next)
    }

    /// From now on chance is drawn from another seed. What is under way arrives when it was to.
    pub(crate) fn turn(&mut self) {
        let Some(turn) = self.reseed.take() else { return };
        let seeds = Seeds::new(turn.seed);
        self.seeds = seeds;
        self.scheduler.reseed(seeds.stream("scheduler", &[]));
        self.kernel.reseed(seeds);
        self.points.reseed(seeds);
        for replica in &self.replicas {
            let incarnation = replica.incarnation.to_string();
            let names = [&*replica.name, &*incarnation];
            replica
                .disk
                .set_choice(Seeded::from(seeds.stream("disk", &names[..1])));
            if let Some(env) = &replica.env {
                env.reseed(seeds.stream("entropy", &names));
            }
        }
        self.trace.event(self.now, "reseed").number("seed", turn.seed);
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
        let fires = self.points.fires(point);
        if fires {
            self.trace
                .event(self.now, "buggify")
                .text("r", &self.replicas[owner.replica.index()].name)
                .text("point", point);
        }
        fires
    }

    /// How much later than it could a task begins, if it does: as on a machine that has much to do.
    pub(crate) fn late_start(&mut self, owner: Owner) -> Option<Duration> {
        let is_late = self.buggify(owner, "late_start");
        is_late.then(|| Duration::from_millis(self.points.below("late_start", LATE_START_MS) + 1))
    }

    pub(crate) fn disk_event(&mut self, id: ReplicaId, event: &DiskEvent<'_>) {
        let name = &self.replicas[id.index()].name;
        write_disk_event(&mut self.trace, self.now, name, event);
    }

    pub(crate) fn engine_event(&mut self, owner: Owner, event: &TraceEvent) {
        self.active_at = self.now;
        // A frame that does not come to its end may be the doing of the network.
        if let TraceEvent::Closed { why, .. } = event
            && why.starts_with("the peer misbehaved")
            && !why.contains("bytes of a frame in")
        {
            let blames = self.blames.entry(owner.replica).or_default();
            blames.insert(Point::PeerBlamed);
        }
        let name = &self.replicas[owner.replica.index()].name;
        write_engine_event(&mut self.trace, &mut self.core_names, self.now, name, event);
    }

    /// Counts a look at a point. The first sight of one in a run is an event.
    pub(crate) fn sometimes(&mut self, owner: Owner, point: Point, seen: bool) {
        if seen && BLAMES.contains(&point) {
            self.blames.entry(owner.replica).or_default().insert(point);
        }
        if self.points.sometimes(point, seen) {
            self.trace
                .event(self.now, "point")
                .text("r", &self.replicas[owner.replica.index()].name)
                .text("point", point.name());
        }
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
