//! Tasks.

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
