//! Tasks without a runtime: a queue that is polled until nothing is ready.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Wake, Waker};

use super::locked;
use crate::env::{Spawn, TaskHandle};

/// A queue of tasks, polled in the order in which they became ready. Nothing runs by itself:
/// [`super::MemoryEnv::run`] and [`super::MemoryEnv::run_until_idle`] drive it.
#[derive(Clone, Default)]
pub struct MemoryTasks {
    ready: Arc<Queue>,
}

type Queue = Mutex<VecDeque<Arc<MemoryTask>>>;
type TaskFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

struct MemoryTask {
    /// Taken out while it is polled, gone when it ended.
    future: Mutex<Option<TaskFuture>>,
    queued: AtomicBool,
    aborted: AtomicBool,
    ready: Weak<Queue>,
}

impl MemoryTasks {
    pub(super) fn run_until_idle(&self) {
        while let Some(task) = self.next() {
            task.poll();
        }
    }

    /// Runs `future` with the tasks. `idle` is asked to make something happen when nothing is ready; when it cannot,
    /// the future will never end.
    pub(super) fn drive<T>(&self, future: impl Future<Output = T>, idle: impl Fn() -> bool) -> Option<T> {
        let mut value = None;
        self.drive_to_end(pin!(async { value = Some(future.await) }), &idle);
        value
    }

    fn drive_to_end(&self, mut future: Pin<&mut dyn Future<Output = ()>>, idle: &dyn Fn() -> bool) {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(flag.clone());
        loop {
            if flag.0.swap(false, Ordering::AcqRel)
                && future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
            {
                return;
            }
            if let Some(task) = self.next() {
                task.poll();
            } else if !flag.0.load(Ordering::Acquire) && !idle() {
                return;
            }
        }
    }

    fn next(&self) -> Option<Arc<MemoryTask>> {
        locked(&self.ready).pop_front()
    }
}

impl Spawn for MemoryTasks {
    fn spawn(&self, _name: &'static str, future: impl Future<Output = ()> + Send + 'static) -> TaskHandle {
        let task = Arc::new(MemoryTask {
            future: Mutex::new(Some(Box::pin(future))),
            queued: AtomicBool::new(false),
            aborted: AtomicBool::new(false),
            ready: Arc::downgrade(&self.ready),
        });
        task.clone().wake();
        TaskHandle::new(move || {
            task.aborted.store(true, Ordering::Release);
            let future = locked(&task.future).take();
            drop(future);
        })
    }

    async fn cpu<T: Send + 'static>(
        &self,
        _name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        work()
    }
}

impl MemoryTask {
    fn poll(self: Arc<Self>) {
        self.queued.store(false, Ordering::Release);
        let Some(mut future) = locked(&self.future).take() else {
            return;
        };
        let waker = Waker::from(self.clone());
        let pending = future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending();
        if pending && !self.aborted.load(Ordering::Acquire) {
            *locked(&self.future) = Some(future);
        }
    }
}

impl Wake for MemoryTask {
    fn wake(self: Arc<Self>) {
        if let Some(ready) = self.ready.upgrade()
            && !self.queued.swap(true, Ordering::AcqRel)
        {
            locked(&ready).push_back(self);
        }
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}
