//! What the handles of one open database, and the tasks that serve it, share.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::Settings;
use super::session::{self, Ending};
use crate::crypto::{CoreKey, DiscoveryKey, Sign, discovery_key};
use crate::engine::{Engine, Stop};
use crate::env::{Clock as _, DiskLock, Env, Spawn as _, TaskHandle, watch};
use crate::error::Error;
use crate::hypercore::provisional_cores::{Cores, CoresError, Segment, SegmentError, Unsynced};
use crate::replication::provisional_exchange::Port;
use crate::wire::{Index, Length, Link, Timestamp};

pub(super) struct Shared<E: Env> {
    pub(super) env: E,
    pub(super) settings: Settings,
    pub(super) key: CoreKey,
    pub(super) local: CoreKey,
    pub(super) state: Mutex<State<E::Crypto>>,
    /// Counts changes: of the order, of what is durable, of what is open.
    pub(super) changed: watch::Sender<u64>,
    /// Held while the disk syncs; who waits here finds that the sync before covered it too.
    syncing: tokio::sync::Mutex<()>,
    sessions: Mutex<Vec<(Arc<Ending>, [TaskHandle; 3])>>,
    /// The earliest time for which a timer runs.
    alarm: Mutex<Option<Timestamp>>,
    /// The directory is ours until this is dropped.
    directory: Mutex<Option<DiskLock>>,
}

/// Everything that changes, under one lock that is never held across an await.
pub(super) struct State<C> {
    pub(super) engine: Engine<C>,
    pub(super) cores: Cores<C>,
    local: CoreKey,
    strangers_max: usize,
    strangers: BTreeSet<CoreKey>,
    /// Why nothing is written any more.
    fenced: Option<String>,
    closed: bool,
    imported: u64,
}

impl<E: Env> Shared<E> {
    pub(super) fn new(
        env: E,
        settings: Settings,
        engine: Engine<E::Crypto>,
        cores: Cores<E::Crypto>,
        local: CoreKey,
        disk_lock: DiskLock,
    ) -> Self {
        let key = engine.key();
        let state = State {
            engine,
            cores,
            local,
            strangers_max: settings.stranger_cores_max,
            strangers: BTreeSet::new(),
            fenced: None,
            closed: false,
            imported: 0,
        };
        Self {
            env,
            settings,
            key,
            local,
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
            syncing: tokio::sync::Mutex::new(()),
            sessions: Mutex::new(Vec::new()),
            alarm: Mutex::new(None),
            directory: Mutex::new(Some(disk_lock)),
        }
    }

    pub(super) fn discovery_key(&self) -> DiscoveryKey {
        discovery_key(&self.key)
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp(self.env.clock().wall().0)
    }

    /// Orders and applies everything that is here, in portions, so that other tasks get their turn.
    pub(super) async fn drain(self: &Arc<Self>) -> Result<(), Error> {
        loop {
            let drained = {
                let mut state = lock(&self.state);
                if state.closed {
                    return Err(Error::Closed);
                }
                let now = self.now();
                state.engine.drain(now, self.settings.drain_applies_max)
            };
            self.env.trace(|| {
                let state = lock(&self.state);
                format!("drained, {} batches in order", state.engine.batches())
            });
            self.notify();
            match drained {
                Ok(drained) => {
                    self.set_alarm(drained.wake_at);
                    if !drained.more {
                        return Ok(());
                    }
                }
                Err(Stop { reason }) => return Err(Error::Interrupted { reason }),
            }
            yield_now().await;
        }
    }

    /// Makes own blocks durable; one sync covers everybody who waits for one.
    pub(super) async fn sync(&self, length: Length) -> Result<(), Error> {
        let _turn = self.syncing.lock().await;
        let unsynced = {
            let state = lock(&self.state);
            state.check_open()?;
            match state.cores.unsynced(&self.local) {
                Some(unsynced) => unsynced,
                None => return Ok(()),
            }
        };
        debug_assert!(
            unsynced.length() >= length,
            "blocks are written before they are synced"
        );
        let outcome = self
            .env
            .spawn()
            .cpu("sync", move || unsynced.sync().map(|()| unsynced))
            .await;
        let mut state = lock(&self.state);
        match outcome {
            Ok(unsynced) => state.cores.synced(unsynced),
            Err(source) => {
                state.fenced = Some(format!("a sync failed: {source}"));
                return Err(Error::Disk {
                    operation: "sync",
                    source,
                });
            }
        }
        drop(state);
        self.notify();
        Ok(())
    }

    pub(super) fn notify(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Takes over the tasks of a connection, so that they end with the database.
    pub(super) fn adopt(&self, ending: Arc<Ending>, tasks: [TaskHandle; 3]) -> Result<(), Error> {
        let closed = lock(&self.state).closed;
        let mut sessions = lock(&self.sessions);
        if closed {
            session::stop(&ending, tasks);
            return Err(Error::Closed);
        }
        let (over, running) = std::mem::take(&mut *sessions)
            .into_iter()
            .partition::<Vec<_>, _>(|(ending, _)| ending.is_over());
        *sessions = running;
        sessions.push((ending, tasks));
        drop(sessions);
        over.into_iter()
            .for_each(|(ending, tasks)| session::stop(&ending, tasks));
        Ok(())
    }

    pub(super) fn close(&self) {
        // From here on nothing is written any more, so another process may have the directory.
        lock(&self.state).closed = true;
        drop(lock(&self.directory).take());
        let sessions = std::mem::take(&mut *lock(&self.sessions));
        sessions
            .into_iter()
            .for_each(|(ending, tasks)| session::stop(&ending, tasks));
        self.notify();
    }

    /// Entries from too far ahead wait for the clock.
    fn set_alarm(self: &Arc<Self>, at: Option<Timestamp>) {
        let Some(at) = at else { return };
        {
            let mut alarm = lock(&self.alarm);
            if alarm.is_some_and(|set| set <= at) {
                return;
            }
            *alarm = Some(at);
        }
        let shared = Arc::clone(self);
        let wait = std::time::Duration::from_millis(at.0.saturating_sub(self.now().0));
        self.env.spawn().spawn("alarm", async move {
            shared.env.clock().sleep(wait).await;
            *lock(&shared.alarm) = None;
            // The state remembers what went wrong with applying.
            let _ = Box::pin(shared.drain()).await;
        });
    }
}

impl<C: Sign> State<C> {
    pub(super) fn check_open(&self) -> Result<(), Error> {
        if self.closed {
            return Err(Error::Closed);
        }
        if let Some(reason) = &self.fenced {
            let source = std::io::Error::other(reason.clone());
            return Err(Error::Disk {
                operation: "an earlier write",
                source,
            });
        }
        Ok(())
    }

    /// How many blocks came from peers since the start.
    pub(super) const fn imported(&self) -> u64 {
        self.imported
    }

    /// Signs and writes own blocks, and hands them to the engine.
    pub(super) fn append(&mut self, blocks: &[Bytes]) -> Result<Unsynced, Error> {
        let from = self.cores.length(&self.local);
        let unsynced = self
            .cores
            .append(&self.local, blocks)
            .map_err(|error| self.fence(error))?;
        self.engine.ingest(self.local, Index(from.0), blocks);
        Ok(unsynced)
    }

    /// After a failed write nobody knows what the disk holds: nothing more is written before a reopen.
    fn fence(&mut self, error: CoresError) -> Error {
        self.fenced = Some(error.to_string());
        super::cores_error(error)
    }

    fn is_wanted(&self, key: &CoreKey) -> bool {
        *key != self.local && (self.engine.wants(key) || self.strangers.contains(key))
    }
}

impl<C: Sign> Port for State<C> {
    fn offered(&self) -> Vec<Link> {
        let durable = self.cores.durable().filter(|(_, length)| *length > Length::ZERO);
        durable.map(|(key, length)| Link { key, length }).collect()
    }

    fn wanted(&mut self, key: &CoreKey, length: Length) -> Option<Length> {
        let here = self.cores.length(key);
        if here >= length || self.fenced.is_some() {
            return None;
        }
        if !self.is_wanted(key) {
            // A stranger may have written optimistically. How many of them are looked at is bounded.
            if *key == self.local
                || !self.engine.takes_strangers()
                || self.strangers.len() >= self.strangers_max
            {
                return None;
            }
            self.strangers.insert(*key);
        }
        Some(here)
    }

    fn export(&self, key: &CoreKey, from: Length) -> Option<Segment> {
        self.cores.export(key, from)
    }

    fn import(&mut self, segment: Segment) -> Result<(), String> {
        if self.check_open().is_err() {
            return Ok(());
        }
        match self.cores.import(&segment) {
            Ok((from, blocks)) => {
                self.imported += blocks.len() as u64;
                self.engine.ingest(segment.key, from, &blocks);
                Ok(())
            }
            Err(SegmentError::Cores(error)) => {
                // Our disk, not the peer.
                self.fence(error);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Locks, also after a panic elsewhere: what is behind our locks is consistent between any two statements that can
/// panic, and a user's apply runs on values of its own.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets other tasks run.
async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
