//! The lock around the machine of an open database, and beside it what is answered without that lock.
//!
//! Who steps the machine waits for its turn ([`MachineLock::enter`]), and publishes what readers see when it leaves. Readers take
//! what was published last; they wait for nobody, whatever apply does meanwhile. What happened in a place that cannot wait
//! is left in a queue ([`MachineLock::leave`]), and is told to the machine before anything else is.
//!
//! The small lock of the front is held for single statements, in which nothing waits and no code of the user's runs.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{ThreadId, current};

use tokio::sync::broadcast;

use crate::db::machine::{Input, ListenerState, Machine, Published, StoredLog};
use crate::db::{Event, Session};
use crate::env::Crypto;

/// How many events wait for the first listener before further failures are left out.
const UNTOLD_MAX: usize = 32;

/// The machine, and what is seen of it from outside.
pub(in crate::db) struct MachineLock<C, L: StoredLog> {
    machine: Mutex<Machine<C, L>>,
    /// Held by whoever may go in next: those who wait come in turn, and wait without blocking their threads.
    turn: tokio::sync::Mutex<()>,
    front: Mutex<Front<L>>,
}

/// What is answered without the machine.
struct Front<L: StoredLog> {
    published: Arc<Published<L>>,
    /// What the machine is to be told first.
    queue: VecDeque<Input<L>>,
    /// None once the database is closed.
    events: Option<broadcast::Sender<Event>>,
    /// What the opening came to, for the first listener.
    untold: Vec<Event>,
    /// Connections that run, and some that are over.
    sessions: Vec<Session>,
    /// How many there were.
    met: u64,
    /// Threads that run code of the user's: apply, or the update hook.
    busy: Vec<ThreadId>,
}

/// The machine, for as long as this lives. Cannot be held across an await.
pub(super) struct Inside<'a, C: Crypto, L: StoredLog> {
    machine: MutexGuard<'a, Machine<C, L>>,
    lock: &'a MachineLock<C, L>,
    /// Something happened that readers may see.
    is_touched: bool,
    _busy: Busy<'a, L>,
    _turn: Option<tokio::sync::MutexGuard<'a, ()>>,
}

/// Marks this thread as one that may be running code of the user's.
pub(super) struct Busy<'a, L: StoredLog> {
    front: &'a Mutex<Front<L>>,
    thread: ThreadId,
}

impl<C: Crypto, L: StoredLog> MachineLock<C, L> {
    pub(super) fn new(mut machine: Machine<C, L>, events_max: usize) -> Self {
        let front = Front {
            published: Arc::new(machine.publish()),
            queue: VecDeque::new(),
            events: Some(broadcast::Sender::new(events_max)),
            untold: Vec::new(),
            sessions: Vec::new(),
            met: 0,
            busy: Vec::new(),
        };
        Self {
            machine: Mutex::new(machine),
            turn: tokio::sync::Mutex::new(()),
            front: Mutex::new(front),
        }
    }

    // The machine.

    /// Waits until nobody else steps the machine. Never call this where [`MachineLock::is_reentrant`].
    pub(super) async fn enter(&self) -> Inside<'_, C, L> {
        let turn = self.turn.lock().await;
        let machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        Inside {
            machine,
            lock: self,
            is_touched: false,
            _busy: self.busy(),
            _turn: Some(turn),
        }
    }

    /// Looks at the machine, if nobody steps it now.
    pub(in crate::db) fn look<T>(&self, look: impl FnOnce(&Machine<C, L>) -> T) -> Option<T> {
        match self.machine.try_lock() {
            Ok(machine) => Some(look(&machine)),
            Err(TryLockError::Poisoned(machine)) => Some(look(&machine.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// True when this thread is inside of apply or of the update hook.
    pub(in crate::db) fn is_reentrant(&self) -> bool {
        let front = self.front();
        !front.busy.is_empty() && front.busy.contains(&current().id())
    }

    /// From now on, as long as the result lives, this thread runs code of the user's.
    pub(super) fn busy(&self) -> Busy<'_, L> {
        let thread = current().id();
        self.front().busy.push(thread);
        Busy {
            front: &self.front,
            thread,
        }
    }

    // The front.

    /// What was published last.
    pub(in crate::db) fn read(&self) -> Arc<Published<L>> {
        Arc::clone(&self.front().published)
    }

    /// Leaves word of what happened: the machine is told before anything else.
    pub(super) fn leave(&self, input: Input<L>) {
        self.front().queue.push_back(input);
    }

    /// What the machine is to be told first.
    pub(super) fn next_left(&self) -> Option<Input<L>> {
        self.front().queue.pop_front()
    }

    /// One more listener.
    pub(in crate::db) fn listen(&self) -> broadcast::Receiver<Event> {
        let mut front = self.front();
        let Some(events) = front.events.clone() else {
            return broadcast::Sender::new(1).subscribe();
        };
        if events.receiver_count() == 0 {
            // What is so now is no news to the first one.
            let heard = ListenerState::of(&*front.published);
            front.queue.retain(|left| !matches!(left, Input::Listen(_)));
            front.queue.push_back(Input::Listen(heard));
        }
        let listener = events.subscribe();
        for event in front.untold.drain(..) {
            _ = events.send(event);
        }
        listener
    }

    /// True when somebody listens.
    pub(super) fn is_heard(&self) -> bool {
        let front = self.front();
        front
            .events
            .as_ref()
            .is_some_and(|events| events.receiver_count() > 0)
    }

    /// Tells listeners. Nobody listening is fine; of what comes of an opening the first one hears all the same, as it may be
    /// over before anybody can listen.
    pub(super) fn tell(&self, event: Event) {
        let mut front = self.front();
        let Some(events) = &front.events else { return };
        let Err(unheard) = events.send(event) else { return };
        match unheard.0 {
            Event::Confirmed => front
                .untold
                .retain(|event| !matches!(event, Event::Unconfirmed(_))),
            event @ (Event::Rebuilt { .. }
            | Event::CutOff { .. }
            | Event::Unconfirmed(_)
            | Event::WritersKey { .. }
            | Event::Contradicted { .. }) => front.untold.push(event),
            event @ Event::Error { .. } if front.untold.len() < UNTOLD_MAX => front.untold.push(event),
            _ => {}
        }
    }

    /// Nothing more happens.
    pub(super) fn end(&self) {
        self.front().events = None;
    }

    /// One more connection. Gives its number.
    pub(super) fn add_session(&self, session: Session) -> u64 {
        let mut front = self.front();
        front.sessions.retain(|session| session.close_reason().is_none());
        front.sessions.push(session);
        front.met += 1;
        front.met
    }

    /// The connections that run.
    pub(in crate::db) fn sessions(&self) -> Vec<Session> {
        let mut front = self.front();
        front.sessions.retain(|session| session.close_reason().is_none());
        front.sessions.clone()
    }

    /// The connections that run, which count no more.
    pub(super) fn take_sessions(&self) -> Vec<Session> {
        std::mem::take(&mut self.front().sessions)
    }

    fn front(&self) -> MutexGuard<'_, Front<L>> {
        lock(&self.front)
    }
}

/// Locks, also after a panic elsewhere: what is behind these locks is consistent between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<C: Crypto, L: StoredLog> Inside<'_, C, L> {
    /// Takes note that readers may see something else from now on.
    pub(super) const fn touch(&mut self) {
        self.is_touched = true;
    }

    /// Readers see from now on what came of it.
    pub(super) fn show(&mut self) {
        if !std::mem::take(&mut self.is_touched) {
            return;
        }
        let published = Arc::new(self.machine.publish());
        let before = std::mem::replace(&mut self.lock.front().published, published);
        // Not under the lock: the last handle to a log that was let go of ends its session.
        drop(before);
    }
}

impl<C: Crypto, L: StoredLog> Deref for Inside<'_, C, L> {
    type Target = Machine<C, L>;

    fn deref(&self) -> &Self::Target {
        &self.machine
    }
}

impl<C: Crypto, L: StoredLog> DerefMut for Inside<'_, C, L> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.machine
    }
}

impl<C: Crypto, L: StoredLog> Drop for Inside<'_, C, L> {
    fn drop(&mut self) {
        self.show();
    }
}

impl<L: StoredLog> Drop for Busy<'_, L> {
    fn drop(&mut self) {
        let mut front = lock(self.front);
        if let Some(at) = front.busy.iter().position(|thread| *thread == self.thread) {
            front.busy.swap_remove(at);
        }
    }
}
