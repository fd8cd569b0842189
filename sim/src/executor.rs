//! Tasks, the queue of those that are ready, and timers. Single-threaded: the order of everything is chosen by one
//! scheduler or follows from time.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::replica::Owner;
use crate::schedule::{Runnable, Schedule, Scheduler};

type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A task of one incarnation of a replica.
pub(crate) struct ReplicaTask {
    pub(crate) id: u64,
    pub(crate) name: &'static str,
    pub(crate) owner: Owner,
    ready: Arc<Ready>,
    queued: AtomicBool,
    dead: AtomicBool,
    /// Zero until the scheduler gives it one.
    priority: AtomicU64,
    /// `None` while it is polled, and after its end.
    future: Mutex<Option<BoxFuture>>,
}

/// Tasks that want to be polled.
#[derive(Default)]
pub(crate) struct Ready(Mutex<Vec<Arc<ReplicaTask>>>);

/// Who sleeps until when. Equal times fire in the order of their creation.
#[derive(Default)]
pub(crate) struct Timers {
    waiting: BTreeMap<(u64, u64), (Owner, Waker)>,
    created: u64,
}

impl ReplicaTask {
    /// A task that is ready.
    pub(crate) fn start(
        id: u64,
        name: &'static str,
        owner: Owner,
        ready: &Arc<Ready>,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Arc<Self> {
        let task = Arc::new(Self {
            id,
            name,
            owner,
            ready: Arc::clone(ready),
            queued: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            priority: AtomicU64::new(0),
            future: Mutex::new(Some(Box::pin(future))),
        });
        task.wake_by_ref();
        task
    }

    /// Polls the task once; true when it is over. No lock is held meanwhile.
    pub(crate) fn poll(self: &Arc<Self>) -> bool {
        self.queued.store(false, Ordering::Relaxed);
        let Some(mut future) = lock(&self.future).take() else {
            return self.is_dead();
        };
        let waker = Waker::from(Arc::clone(self));
        let over = future.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Ready(());
        if over {
            self.dead.store(true, Ordering::Relaxed);
        } else if !self.is_dead() {
            *lock(&self.future) = Some(future);
        }
        self.is_dead()
    }

    /// Drops the future, now or, when it is being polled, after that poll.
    pub(crate) fn end(&self) {
        self.dead.store(true, Ordering::Relaxed);
        let future = lock(&self.future).take();
        drop(future);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }
}

impl Runnable for Arc<ReplicaTask> {
    fn priority(&self) -> Option<u64> {
        let priority = self.priority.load(Ordering::Relaxed);
        (priority != 0).then_some(priority)
    }

    fn set_priority(&self, priority: u64) {
        self.priority.store(priority, Ordering::Relaxed);
    }
}

impl Wake for ReplicaTask {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_dead() && !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.push(Arc::clone(self));
        }
    }
}

impl Ready {
    /// Takes one of the ready tasks.
    pub(crate) fn pick(&self, scheduler: &mut Scheduler) -> Option<Arc<ReplicaTask>> {
        let mut tasks = lock(&self.0);
        let at = scheduler.choose(&tasks)?;
        Some(if scheduler.schedule() == Schedule::Fifo {
            tasks.remove(at)
        } else {
            tasks.swap_remove(at)
        })
    }

    /// Adds a task that counts as queued.
    pub(crate) fn push(&self, task: Arc<ReplicaTask>) {
        lock(&self.0).push(task);
    }

    /// Takes all of them.
    pub(crate) fn drain(&self) -> Vec<Arc<ReplicaTask>> {
        std::mem::take(&mut *lock(&self.0))
    }
}

impl Timers {
    /// Adds a timer; the key is for [`Self::remove`] and [`Self::rearm`].
    pub(crate) fn add(&mut self, at: u64, owner: Owner, waker: Waker) -> (u64, u64) {
        self.created += 1;
        let key = (at, self.created);
        self.waiting.insert(key, (owner, waker));
        key
    }

    /// Replaces the waker of a timer that has not fired; gives back the one that is not needed.
    pub(crate) fn rearm(&mut self, key: (u64, u64), waker: Waker) -> Option<Waker> {
        match self.waiting.get_mut(&key) {
            Some((_, old)) => Some(std::mem::replace(old, waker)),
            None => Some(waker),
        }
    }

    /// Removes a timer. The waker is to be dropped outside of all locks.
    pub(crate) fn remove(&mut self, key: (u64, u64)) -> Option<Waker> {
        self.waiting.remove(&key).map(|(_, waker)| waker)
    }

    /// When the next one fires.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the next one that is due at `now`.
    pub(crate) fn fire(&mut self, now: u64) -> Option<(Owner, Waker)> {
        if self.next_at()? > now {
            return None;
        }
        self.waiting.pop_first().map(|(_, timer)| timer)
    }

    /// Removes the timers of a dead incarnation.
    pub(crate) fn remove_all_of(&mut self, owner: Owner) -> Vec<Waker> {
        let keys: Vec<_> = self
            .waiting
            .iter()
            .filter(|(_, (of, _))| *of == owner)
            .map(|(key, _)| *key)
            .collect();
        keys.into_iter().filter_map(|key| self.remove(key)).collect()
    }
}

/// Locks a mutex. A poisoned one is used on: the panic that poisoned it is being reported already.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
