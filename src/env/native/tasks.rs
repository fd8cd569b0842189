//! Tasks of a tokio runtime.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::env::{Spawn, TaskHandle, Worker};

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

    fn dedicated(&self, name: &'static str, worker: impl Worker) -> TaskHandle {
        let (abort, aborted) = oneshot::channel();
        let runtime = self.runtime.clone();
        let job = Arc::new(Mutex::new(Some(move || runtime.block_on(work(worker, aborted)))));
        let take = |job: &Mutex<Option<_>>| job.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = std::thread::Builder::new().name(name.to_owned());
        let started = thread.spawn({
            let job = job.clone();
            move || take(&job).map(|run| run())
        });
        if started.is_err() {
            // A machine that is out of threads: the runtime finds one when another job of its ends.
            self.runtime.spawn_blocking(move || take(&job).map(|run| run()));
        }
        TaskHandle::new(move || {
            let _ = abort.send(());
        })
    }
}

/// Steps until the worker or its owner has enough. An owner that dropped the handle lets it run on.
async fn work(mut worker: impl Worker, mut aborted: oneshot::Receiver<()>) {
    let mut detached = false;
    while ready_unless(&mut worker, &mut aborted, &mut detached).await {
        worker.step();
    }
}

async fn ready_unless(
    worker: &mut impl Worker,
    aborted: &mut oneshot::Receiver<()>,
    detached: &mut bool,
) -> bool {
    let mut ready = pin!(worker.ready());
    poll_fn(|cx| {
        if !*detached {
            match Pin::new(&mut *aborted).poll(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(false),
                Poll::Ready(Err(_)) => *detached = true,
                Poll::Pending => {}
            }
        }
        ready.as_mut().poll(cx)
    })
    .await
}
