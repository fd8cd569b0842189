//! Tasks: the trait through which everything is started that runs beside its caller.

use std::fmt;
use std::future::Future;

/// Starts tasks in a world.
pub trait Spawn: Clone + Send + Sync + 'static {
    /// Starts a task. It ends with its future, by [`TaskHandle::abort`], or with the world.
    fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) -> TaskHandle;

    /// Runs long computations where they do not hold up other tasks.
    fn cpu<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + Send;

    /// Runs a worker to its end: natively on a thread of its own, in a simulation as a task that lets the time of each
    /// step pass between its start and its finish.
    fn dedicated(&self, name: &'static str, mut worker: impl Worker) -> TaskHandle {
        self.spawn(name, async move {
            while worker.ready().await {
                worker.step();
            }
        })
    }
}

/// A machine that waits for work and then does a step of it that may block, on a disk as a rule.
///
/// A step has two halves, so that a simulator can let its time pass in between: other tasks run meanwhile, as they do
/// beside a thread that blocks, and a crash meanwhile finds the step undone.
pub trait Worker: Send + 'static {
    /// Completes when there is a step to do; false when there will never be one again.
    fn ready(&mut self) -> impl Future<Output = bool> + Send;

    /// Starts the step: decides what is part of it, and does not block. True when the first sync of a file in
    /// [`Worker::finish`] is about what was written before this call, and about nothing that is written later.
    fn start(&mut self) -> bool;

    /// Does the step that was started, which may block. What it changes must take effect here.
    fn finish(&mut self);

    /// Both halves, one directly behind the other.
    fn step(&mut self) {
        self.start();
        self.finish();
    }
}

/// A started task. Dropping the handle lets the task run on.
pub struct TaskHandle {
    abort: Box<dyn FnOnce() + Send>,
}

impl TaskHandle {
    /// For worlds: `abort` ends the task at its next await.
    pub fn new(abort: impl FnOnce() + Send + 'static) -> Self {
        Self {
            abort: Box::new(abort),
        }
    }

    /// Ends the task: its future is dropped without being polled again.
    pub fn abort(self) {
        (self.abort)();
    }
}

impl fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskHandle")
    }
}
