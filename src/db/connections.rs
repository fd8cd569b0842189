//! Peers at addresses: one that is dialled again whenever the connection is lost, and those that dial this one.

use std::fmt;
use std::io;
use std::time::Duration;

use thiserror::Error;

use super::{Autobee, CloseReason, Session};
use crate::env::{Env, PeerAddr, watch};
use crate::error::Error;

/// Bounds of the pauses between tries, of a dial or of an accept.
///
/// The first pause is at most `pause_ms_min`, and each one that follows at most twice as long, up to `pause_ms_max`. How long
/// it is is drawn between half of that and all of it, so that peers who lost the same one do not come back at the same
/// moment. A connection that lasted for the longest pause begins from the start.
///
/// ```
/// use autobee::RetrySettings;
///
/// let settings = RetrySettings::with(|settings| settings.pause_ms_max = 60_000);
/// assert_eq!(settings.pause_ms_min, RetrySettings::default().pause_ms_min);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetrySettings {
    /// Longest first pause, in milliseconds.
    pub pause_ms_min: u64,
    /// Longest pause, in milliseconds.
    pub pause_ms_max: u64,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            pause_ms_min: 200,
            pause_ms_max: 10_000,
        }
    }
}

impl RetrySettings {
    /// The defaults, but for what `change` sets.
    #[must_use]
    pub fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut settings = Self::default();
        change(&mut settings);
        settings
    }

    /// Says which number makes no sense, and what would.
    ///
    /// # Errors
    ///
    /// `Invalid`.
    pub fn check(&self) -> Result<(), Error> {
        let Self {
            pause_ms_min,
            pause_ms_max,
        } = *self;
        if pause_ms_min == 0 || pause_ms_max < pause_ms_min {
            let what = format!(
                "settings: pause_ms_min is {pause_ms_min} and pause_ms_max is {pause_ms_max}: the one must be 1 or more, and the \
                 other no less"
            );
            return Err(Error::Invalid { what });
        }
        Ok(())
    }

    /// The pause behind so many tries that failed, one or more, by eight bytes of chance.
    pub(super) fn pause(&self, failures: u32, chance: [u8; 8]) -> Duration {
        let doublings = failures.saturating_sub(1).min(63);
        let longest = self
            .pause_ms_min
            .saturating_mul(1 << doublings)
            .min(self.pause_ms_max);
        let least = longest / 2;
        // The remainder favours small numbers by less than one in 2^32 for pauses below fifty days.
        let drawn = u64::from_le_bytes(chance) % (longest - least + 1);
        Duration::from_millis(least + drawn)
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody was reached.
    #[error("{address} was not reached: {what}")]
    Unreachable {
        /// Where it was dialled.
        address: PeerAddr,
        /// The kind of what the network said.
        kind: io::ErrorKind,
        /// What the network said.
        what: String,
    },
    /// A connection began, and ended.
    #[error("the connection with {address} ended: {reason}")]
    Ended {
        /// Where it was dialled.
        address: PeerAddr,
        /// Why it ended.
        reason: CloseReason,
    },
}

/// The state of a [`KeptConnection`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ConnectionState {
    /// The connection that runs, once both sides agreed on keys.
    pub session: Option<Session>,
    /// Why there was none the last time that there was none.
    pub last_error: Option<ConnectError>,
    /// Tries that failed since the last connection.
    pub failures: u32,
}

impl ConnectionState {
    /// True while there is a connection.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.session.is_some()
    }
}

/// A task that goes on until this is dropped, or the database is closed.
pub(super) struct RunningTask<S> {
    state: watch::Receiver<S>,
    /// Its end is the sign to stop.
    stop: Option<watch::Sender<()>>,
}

impl<S> RunningTask<S> {
    pub(super) const fn new(state: watch::Receiver<S>, stop: watch::Sender<()>) -> Self {
        let stop = Some(stop);
        Self { state, stop }
    }

    /// The state of now.
    pub(super) fn state(&self) -> S
    where
        S: Clone,
    {
        self.state.borrow().clone()
    }

    /// Waits until the state is as wanted. False when it is never again.
    pub(super) async fn reached(&self, wanted: impl FnMut(&S) -> bool) -> bool {
        self.state.clone().wait_for(wanted).await.is_ok()
    }

    /// Waits for the next change of the state. False when there is none any more.
    pub(super) async fn changed(&mut self) -> bool {
        self.state.changed().await.is_ok()
    }

    /// Has the task stop, and waits until it has.
    pub(super) async fn end(mut self) {
        self.stop = None;
        while self.state.changed().await.is_ok() {}
    }
}

/// A peer that is dialled again whenever the connection is lost: see [`Autobee::keep_connected`]. It is let go, and its
/// connection closed, when this is dropped or closed, and when the database is closed.
#[must_use = "the peer is let go when this is dropped"]
pub struct KeptConnection {
    address: PeerAddr,
    task: RunningTask<ConnectionState>,
}

impl KeptConnection {
    pub(super) const fn new(
        address: PeerAddr,
        state: watch::Receiver<ConnectionState>,
        stop: watch::Sender<()>,
    ) -> Self {
        let task = RunningTask::new(state, stop);
        Self { address, task }
    }

    /// Where the peer is dialled.
    #[must_use]
    pub const fn address(&self) -> &PeerAddr {
        &self.address
    }

    /// The state of now.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.task.state()
    }

    /// True while there is a connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.task.state().is_connected()
    }

    /// Why there was no connection the last time that there was none.
    #[must_use]
    pub fn last_error(&self) -> Option<ConnectError> {
        self.task.state().last_error
    }

    /// Waits until the state is as wanted. False when it is never again: the database was closed.
    pub async fn reached(&self, wanted: impl FnMut(&ConnectionState) -> bool) -> bool {
        self.task.reached(wanted).await
    }

    /// Waits for the next change of the state. False when there is none any more: the database was closed.
    pub async fn changed(&mut self) -> bool {
        self.task.changed().await
    }

    /// Lets the peer go, and waits until its connection is being closed. What is on its way to it still goes out.
    pub async fn close(self) {
        self.task.end().await;
    }
}

impl fmt::Debug for KeptConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptConnection")
            .field("address", &self.address)
            .field("state", &self.task.state())
            .finish_non_exhaustive()
    }
}

/// The state of a [`Listening`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ListenState {
    /// Connections that were accepted.
    pub accepted: u64,
    /// The one that was accepted last.
    pub last: Option<Session>,
    /// Why the last accept failed that failed.
    pub last_error: Option<String>,
}

/// An address at which peers are accepted: see [`Autobee::listen`]. Nobody is accepted any more when this is dropped or
/// closed, and when the database is closed. Connections that were accepted run on, until the database is closed.
#[must_use = "nobody is accepted any more when this is dropped"]
pub struct Listening {
    address: PeerAddr,
    task: RunningTask<ListenState>,
}

impl Listening {
    pub(super) const fn new(
        address: PeerAddr,
        state: watch::Receiver<ListenState>,
        stop: watch::Sender<()>,
    ) -> Self {
        let task = RunningTask::new(state, stop);
        Self { address, task }
    }

    /// The address at which it listens, with the port that was chosen when none was asked for.
    #[must_use]
    pub const fn local_addr(&self) -> &PeerAddr {
        &self.address
    }

    /// The state of now.
    #[must_use]
    pub fn state(&self) -> ListenState {
        self.task.state()
    }

    /// Waits for the next change of the state. False when there is none any more: the database was closed.
    pub async fn changed(&mut self) -> bool {
        self.task.changed().await
    }

    /// Accepts nobody any more, and waits until the address is free.
    pub async fn close(self) {
        self.task.end().await;
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening")
            .field("address", &self.address)
            .field("state", &self.task.state())
            .finish_non_exhaustive()
    }
}

impl<E: Env> Autobee<E> {
    /// Replicates with the peer at an address from now on: one connection at a time, dialled again whenever it is lost, after
    /// pauses as [`RetrySettings`] says by default. It goes on until what this gives is dropped or closed, or the database is.
    ///
    /// ```
    /// # use autobee::{Autobee, Corestore};
    /// # use autobee::apply::OrderOnly;
    /// # use autobee::env::memory::MemoryEnv;
    /// # let env = MemoryEnv::new(1);
    /// # let other = env.sibling(2);
    /// # env.run(async {
    /// # let a = Autobee::builder(Corestore::open_default(env.clone()).await?).apply(OrderOnly).open().await?;
    /// # let store = Corestore::open_default(other.clone()).await?;
    /// # let b = Autobee::builder(store).apply(OrderOnly).key(a.key()).open().await?;
    /// a.append(b"hello").await?;
    /// let listening = a.listen("here").await?; // natively "0.0.0.0:4977", or with port 0 for any that is free
    /// let connection = b.keep_connected(listening.local_addr().as_str())?;
    /// connection.reached(|state| state.is_connected()).await;
    /// # let mut changes = autobee::Changes::default();
    /// # while b.order()?.is_empty() { b.changed(&mut changes).await; }
    /// assert_eq!(b.order()?, a.order()?);
    /// # Ok::<(), autobee::Error>(())
    /// # }).unwrap().unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// `Closed`, `ReadOnly`. An address that cannot be dialled is none: the state of what this gives says so.
    pub fn keep_connected(&self, address: impl Into<String>) -> Result<KeptConnection, Error> {
        self.keep_connected_with(address, RetrySettings::default())
    }

    /// The same, with other pauses.
    ///
    /// # Errors
    ///
    /// As [`Autobee::keep_connected`]; `Invalid` for settings that make no sense.
    pub fn keep_connected_with(
        &self,
        address: impl Into<String>,
        retry: RetrySettings,
    ) -> Result<KeptConnection, Error> {
        super::check_writable::<E>()?;
        retry.check()?;
        self.shared.keep_connected(PeerAddr::new(address), retry)
    }

    /// Accepts peers at an address from now on. When one cannot be accepted, as with too many open files, it is tried
    /// again after a pause, as [`RetrySettings`] says by default; the trace and the state of what this gives tell of it. It
    /// goes on until what this gives is dropped or closed, or the database is.
    ///
    /// # Errors
    ///
    /// `Network` when nobody may listen there, as with an address that is in use; `Closed`, `ReadOnly`.
    pub async fn listen(&self, address: impl Into<String>) -> Result<Listening, Error> {
        self.listen_with(address, RetrySettings::default()).await
    }

    /// The same, with other pauses.
    ///
    /// # Errors
    ///
    /// As [`Autobee::listen`]; `Invalid` for settings that make no sense.
    pub async fn listen_with(
        &self,
        address: impl Into<String>,
        retry: RetrySettings,
    ) -> Result<Listening, Error> {
        super::check_writable::<E>()?;
        retry.check()?;
        self.shared.listen(PeerAddr::new(address), retry).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_their_bounds_and_are_drawn() {
        let settings = RetrySettings {
            pause_ms_min: 100,
            pause_ms_max: 1_000,
        };
        for (failures, longest) in [
            (1, 100),
            (2, 200),
            (3, 400),
            (4, 800),
            (5, 1_000),
            (u32::MAX, 1_000),
        ] {
            let drawn = |chance: u64| settings.pause(failures, chance.to_le_bytes()).as_millis() as u64;
            let all: Vec<u64> = (0..=longest).map(drawn).collect();
            assert_eq!(all.iter().min(), Some(&(longest / 2)));
            assert_eq!(all.iter().max(), Some(&longest));
        }
        let widest = RetrySettings {
            pause_ms_min: u64::MAX,
            pause_ms_max: u64::MAX,
        };
        assert!(widest.pause(9, [0xff; 8]).as_millis() <= u128::from(u64::MAX));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        RetrySettings::default().check().unwrap();
        for (pause_ms_min, pause_ms_max) in [(0, 5), (6, 5)] {
            let settings = RetrySettings {
                pause_ms_min,
                pause_ms_max,
            };
            let error = settings.check().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Invalid);
            assert!(error.to_string().contains("pause_ms_min"), "{error}");
        }
    }
}
