//! What a world needs of a replica's disk beyond [`Disk`]: that it outlives processes and can lose power.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use autobee::env::Disk;

use crate::executor::lock;
use crate::seed::Seeds;
use crate::trace::Line;
use crate::world::WeakWorld;

/// The disk of one replica. It belongs to the machine, not to the process.
pub trait Drive: Send + Sync + 'static {
    /// A handle for a new incarnation. All former handles are inert from now on: they fail and change nothing.
    fn mount(&self) -> Arc<dyn Disk>;

    /// The process is gone at `now`; what it wrote stays. All handles are inert from now on.
    fn kill(&self, now: u64);

    /// Power is lost at `now`: what was not synced *by then* may be lost, torn or kept. All handles are inert from now
    /// on.
    fn power_off(&self, now: u64);

    /// Virtual time at which the operations so far are done. Who was told to wait for the disk waits until then.
    fn busy_until(&self) -> u64 {
        0
    }
}

/// What a drive is made with.
#[derive(Clone)]
pub struct DriveContext {
    /// The streams of the run. Use a domain of your own, and [`Self::replica`] as a name.
    pub seeds: Seeds,
    /// Name of the replica.
    pub replica: Arc<str>,
    /// The virtual time.
    pub time: VirtualTime,
    /// Writes to the trace.
    pub tracer: Tracer,
}

/// Makes the drive of a replica when a world adds one.
pub type DriveMaker = Arc<dyn Fn(DriveContext) -> Arc<dyn Drive> + Send + Sync>;

/// Reads the virtual time of a world, nanoseconds.
#[derive(Debug, Clone, Default)]
pub struct VirtualTime(Arc<AtomicU64>);

/// Writes lines about one replica to the trace of a world. Does nothing once the world is gone.
#[derive(Clone, Default)]
pub struct Tracer {
    pub(crate) world: WeakWorld,
    pub(crate) replica: Arc<str>,
}

impl VirtualTime {
    /// Nanoseconds since the world began.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Moves the time; only the owner of a world does.
    pub fn set(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }
}

impl Tracer {
    /// Writes the line `event` with what `fields` adds to it. `fields` must not touch the world.
    pub fn event(&self, event: &'static str, fields: impl FnOnce(Line<'_>) -> Line<'_>) {
        if let Some(world) = self.world.upgrade() {
            let mut state = lock(&world.state);
            let now = state.now;
            let line = state.trace.event(now, event).text("r", &self.replica);
            drop(fields(line));
        }
    }
}

impl fmt::Debug for DriveContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DriveContext({})", self.replica)
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tracer({})", self.replica)
    }
}
