//! Tasks of a tokio runtime.

use std::future::Future;
use std::io;

use tokio::runtime::Handle;

use crate::env::{Spawn, TaskHandle};

/// Starts tasks on one tokio runtime, long computations on its blocking threads.
#[derive(Debug, Clone)]
pub struct NativeTasks {
    runtime: Handle,
}

impl NativeTasks {
    /// The runtime from inside which this is called.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn current() -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        Ok(Self { runtime })
    }
}

impl Spawn for NativeTasks {
    fn spawn(&self, _name: &'static str, future: impl Future<Output = ()> + Send + 'static) -> TaskHandle {
        let task = self.runtime.spawn(future);
        TaskHandle::new(move || task.abort())
    }

    async fn cpu<T: Send + 'static>(
        &self,
        _name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        match self.runtime.spawn_blocking(work).await {
            Ok(value) => value,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down: so will this task, before it is polled again.
                Err(_) => std::future::pending().await,
            },
        }
    }
}
