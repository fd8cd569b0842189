//! One value that many tasks wait on, with the same wake-up order on every run.
//!
//! The channel of the same name in tokio spreads its waiters over queues that it picks at random, which a simulation
//! cannot repeat. This one wakes them in the order in which they came. Calls have tokio's names and meaning.

use std::ops::Deref;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Changes the value and wakes those who wait.
///
/// ```
/// use autobee::env::{memory::MemoryEnv, watch};
///
/// let sender = watch::Sender::new(1);
/// let mut receiver = sender.subscribe();
/// sender.send_modify(|value| *value += 1);
/// MemoryEnv::new(0).run(async move { receiver.wait_for(|value| *value == 2).await }).unwrap().unwrap();
/// assert_eq!(*sender.borrow(), 2);
/// ```
#[derive(Debug)]
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// Waits for changes.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

/// The value, while it cannot change. Do not hold it across an await.
#[derive(Debug)]
pub struct Ref<'a, T>(MutexGuard<'a, Versioned<T>>);

#[derive(Debug)]
struct Shared<T> {
    value: Mutex<Versioned<T>>,
    changed: Notify,
}

#[derive(Debug)]
struct Versioned<T> {
    value: T,
    version: u64,
    is_closed: bool,
}

/// The sender is gone: the value never changes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the value never changes again")]
pub struct Closed;

impl<T> Sender<T> {
    /// A value that nobody watches yet.
    #[must_use]
    pub fn new(value: T) -> Self {
        let value = Mutex::new(Versioned {
            value,
            version: 0,
            is_closed: false,
        });
        Self {
            shared: Arc::new(Shared {
                value,
                changed: Notify::new(),
            }),
        }
    }

    /// A receiver that has seen the value as it is now.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver {
            shared: Arc::clone(&self.shared),
            seen: self.shared.lock().version,
        }
    }

    /// The value.
    #[must_use]
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.shared.lock())
    }

    /// Changes the value and wakes everybody.
    pub fn send_modify(&self, modify: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            modify(value);
            true
        });
    }

    /// Sets the value and wakes everybody. Returns what it was.
    pub fn send_replace(&self, value: T) -> T {
        let mut value = value;
        self.send_modify(|place| std::mem::swap(place, &mut value));
        value
    }

    /// Changes the value, and wakes everybody if `modify` says that it did.
    pub fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let modified = {
            let mut guard = self.shared.lock();
            let modified = modify(&mut guard.value);
            guard.version = guard.version.wrapping_add(u64::from(modified));
            modified
        };
        if modified {
            self.shared.changed.notify_waiters();
        }
        modified
    }
}

impl<T> Receiver<T> {
    /// The value.
    #[must_use]
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.shared.lock())
    }

    /// The value, which counts as seen from now on.
    #[must_use]
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let guard = self.shared.lock();
        self.seen = guard.version;
        Ref(guard)
    }

    /// Counts the value as seen.
    pub fn mark_unchanged(&mut self) {
        self.seen = self.shared.lock().version;
    }

    /// Waits until the value changed since it was seen last.
    ///
    /// # Errors
    ///
    /// When it did not, and the sender is gone.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        let shared = Arc::clone(&self.shared);
        let mut notified = pin!(shared.changed.notified());
        loop {
            // Registered before the look: a change in between is not missed.
            notified.as_mut().enable();
            {
                let guard = shared.lock();
                if guard.version != self.seen {
                    self.seen = guard.version;
                    return Ok(());
                }
                if guard.is_closed {
                    return Err(Closed);
                }
            }
            notified.as_mut().await;
            notified.set(shared.changed.notified());
        }
    }

    /// Waits until the value is as wanted. It may be at once.
    ///
    /// # Errors
    ///
    /// When it is not, and the sender is gone.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&T) -> bool) -> Result<(), Closed> {
        loop {
            {
                let guard = self.shared.lock();
                self.seen = guard.version;
                if wanted(&guard.value) {
                    return Ok(());
                }
            }
            self.changed().await?;
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_waiters();
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            seen: self.seen,
        }
    }
}

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Shared<T> {
    /// Also after a panic elsewhere: the value is whatever it was set to last.
    fn lock(&self) -> MutexGuard<'_, Versioned<T>> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
