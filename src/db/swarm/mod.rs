//! Peers that find each other by the database that they have: what a swarm has to bring, and a database that joined one.
//!
//! ```text
//! swarm   finds peers of a topic, dials one of them, accepts those who dial   HyperDHT, iroh, a table of a simulator
//! task    carries out what the policy says                                    src/db/shell/swarm.rs
//! policy  whom to dial, when, which of two connections goes                   a machine without I/O
//! ```

#[cfg(feature = "hyperswarm")]
pub(in crate::db) mod hyperswarm;
#[cfg(feature = "iroh")]
pub(in crate::db) mod iroh;
pub(in crate::db) mod policy;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::connections::RunningTask;
use super::{Autobee, RetrySettings, Session, check_writable};
use crate::crypto::{DiscoveryKey, PublicKey};
use crate::env::{Env, watch};
use crate::error::Error;
use crate::replication::Role;
use crate::replication::capability::HandshakeHash;
use crate::replication::stream::Secured;

/// A way in which peers find each other by a topic, and are connected: a DHT, a table of addresses.
///
/// A swarm finds, dials and accepts. Whom to dial, how often, and which of two connections to one peer goes is decided by the
/// database that [joined](Autobee::join).
pub trait Swarm: Send + Sync + 'static {
    /// A topic that was joined.
    type Topic: SwarmTopic;

    /// The key by which others know this one.
    fn public_key(&self) -> PublicKey;

    /// Begins to look for the peers of a topic, and to be found by them.
    fn join(&self, topic: DiscoveryKey) -> impl Future<Output = io::Result<Self::Topic>> + Send;
}

/// A topic of a [`Swarm`] that was joined. Dropping it leaves the topic: nobody is found any more, or accepted.
pub trait SwarmTopic: Send + 'static {
    /// A duplex byte stream. Dropping it closes it.
    type Stream: AsyncRead + AsyncWrite + Send + 'static;

    /// Waits for the next peer that is found, or that dials. A wait that is dropped loses nothing. Peers that were found may be
    /// told again, as a sign that they are still there. An error is one of now: it is asked again after a pause.
    fn next(&mut self) -> impl Future<Output = io::Result<SwarmEvent<Self::Stream>>> + Send;

    /// Dials a peer that was found. A dial that is dropped is given up.
    fn dial(
        &self,
        peer: PublicKey,
    ) -> impl Future<Output = io::Result<SwarmStream<Self::Stream>>> + Send + 'static;
}

/// What comes of a topic.
#[derive(Debug)]
pub enum SwarmEvent<S> {
    /// A peer is of the topic, and can be dialled.
    Found(PublicKey),
    /// A peer dialled this one.
    Accepted(SwarmStream<S>),
}

/// A connection of a swarm.
#[derive(Debug)]
pub struct SwarmStream<S> {
    /// The peer, by the key that the swarm has seen a proof of.
    pub peer: PublicKey,
    /// The bytes.
    pub stream: S,
    /// How they are protected.
    pub protection: SwarmProtection,
}

/// How the bytes of a [`SwarmStream`] are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwarmProtection {
    /// Not at all: handshake and encryption of the original take place in it, as on a socket.
    None,
    /// It is encrypted already, as [`Autobee::replicate_secured`] takes it. What names the stream is a hash of its handshake.
    Encrypted(HandshakeHash),
}

impl<T: Swarm> Swarm for Arc<T> {
    type Topic = T::Topic;

    fn public_key(&self) -> PublicKey {
        T::public_key(self)
    }

    fn join(&self, topic: DiscoveryKey) -> impl Future<Output = io::Result<Self::Topic>> + Send {
        T::join(self, topic)
    }
}

/// Bounds of a database that joined a swarm.
///
/// ```
/// use autobee::SwarmSettings;
///
/// let settings = SwarmSettings::with(|settings| settings.connections_max = 8);
/// assert_eq!(settings.dials_max, SwarmSettings::default().dials_max);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SwarmSettings {
    /// Pauses before a peer is dialled again.
    pub retry: RetrySettings,
    /// Connections at the same time. At most half of them, rounded up, are dialled from here.
    pub connections_max: usize,
    /// Dials that may be under way at the same time.
    pub dials_max: usize,
    /// Peers that are remembered. Of more, those are forgotten first that were dialled most often for nothing.
    pub peers_max: usize,
    /// After so many dials in a row that came to nothing a peer is forgotten, until it is found again.
    pub tries_max: u32,
    /// How long a dial may take, in milliseconds. A connection that is older than that is taken to be lost at a peer that dials
    /// again.
    pub dial_ms: u64,
    /// How old a connection is, in milliseconds, when it may be closed for another one because there are as many as may be: an
    /// accepted one for a newcomer, a dialled one for a peer that was found and has none. Also the time between two times that
    /// this is done.
    pub turn_ms: u64,
}

impl Default for SwarmSettings {
    fn default() -> Self {
        Self {
            retry: RetrySettings::default(),
            connections_max: 64,
            dials_max: 8,
            peers_max: 1024,
            tries_max: 12,
            dial_ms: 15_000,
            turn_ms: 30_000,
        }
    }
}

impl SwarmSettings {
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
        self.retry.check()?;
        let least = [
            ("connections_max", self.connections_max),
            ("dials_max", self.dials_max),
            ("peers_max", self.peers_max),
            ("tries_max", usize::try_from(self.tries_max).unwrap_or(usize::MAX)),
            ("dial_ms", usize::try_from(self.dial_ms).unwrap_or(usize::MAX)),
        ];
        match least.into_iter().find(|(_, number)| *number == 0) {
            None => Ok(()),
            Some((name, _)) => Err(Error::Invalid {
                what: format!("settings: {name} is 0: it must be 1 or more"),
            }),
        }
    }

    pub(in crate::db) const fn dial_limit(&self) -> Duration {
        Duration::from_millis(self.dial_ms)
    }

    pub(in crate::db) const fn turn(&self) -> Duration {
        Duration::from_millis(self.turn_ms)
    }
}

/// A peer that is connected by a swarm.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SwarmPeer {
    /// The key by which the swarm knows it.
    pub key: PublicKey,
    /// The connection.
    pub session: Session,
    /// Initiator when it was dialled from here.
    pub role: Role,
}

/// The state of a [`JoinedSwarm`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SwarmState {
    /// The topic was joined: peers are looked for.
    pub is_joined: bool,
    /// The peers with which a connection runs, once both sides agreed on keys; in the order of their keys.
    pub peers: Vec<SwarmPeer>,
    /// Connections, also those that both sides have not agreed on.
    pub connections: usize,
    /// Peers that are remembered.
    pub known: usize,
    /// Dials that are under way.
    pub dialling: usize,
    /// Connections that were closed because there was another one with the same peer.
    pub duplicates: u64,
    /// Connections that were closed because there were as many as may be, also those that made room for others.
    pub full: u64,
    /// Dials and connections that failed, and times that the swarm did.
    pub failures: u64,
    /// What failed last, and why.
    pub last_error: Option<String>,
}

/// A swarm that was joined: see [`Autobee::join`]. It is left, and its connections closed, when this is dropped or closed, and
/// when the database is closed.
#[must_use = "the swarm is left when this is dropped"]
pub struct JoinedSwarm {
    topic: DiscoveryKey,
    task: RunningTask<SwarmState>,
}

impl JoinedSwarm {
    pub(in crate::db) const fn new(
        topic: DiscoveryKey,
        state: watch::Receiver<SwarmState>,
        stop: watch::Sender<()>,
    ) -> Self {
        let task = RunningTask::new(state, stop);
        Self { topic, task }
    }

    /// The topic by which peers find each other.
    #[must_use]
    pub const fn topic(&self) -> &DiscoveryKey {
        &self.topic
    }

    /// The state of now.
    #[must_use]
    pub fn state(&self) -> SwarmState {
        self.task.state()
    }

    /// Waits until the state is as wanted. False when it is never again: the database was closed.
    pub async fn reached(&self, wanted: impl FnMut(&SwarmState) -> bool) -> bool {
        self.task.reached(wanted).await
    }

    /// Waits for the next change of the state. False when there is none any more: the database was closed.
    pub async fn changed(&mut self) -> bool {
        self.task.changed().await
    }

    /// Leaves the swarm, and waits until its connections are being closed. What is on its way to peers still goes out.
    pub async fn close(self) {
        self.task.end().await;
    }
}

impl fmt::Debug for JoinedSwarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinedSwarm")
            .field("topic", &self.topic)
            .field("state", &self.task.state())
            .finish_non_exhaustive()
    }
}

impl<E: Env> Autobee<E> {
    /// Replicates from now on with the peers that a swarm finds: whoever joins it by the [discovery
    /// key](Autobee::discovery_key) of the same database. There is one connection with each peer, as many as
    /// [`SwarmSettings`] allows by default, and who is lost is dialled again after pauses. It goes on until what this gives is
    /// dropped or closed, or the database is.
    ///
    /// Whoever knows the key of the database, or its discovery key, finds the peers. Logs are exchanged only with those who
    /// prove that they know the keys of the logs.
    ///
    /// # Errors
    ///
    /// `Closed`, `ReadOnly`. A swarm that cannot be joined is none: it is tried again, and the state of what this gives says so.
    pub fn join(&self, swarm: impl Swarm) -> Result<JoinedSwarm, Error> {
        self.join_with(swarm, SwarmSettings::default())
    }

    /// The same, with other bounds.
    ///
    /// # Errors
    ///
    /// As [`Autobee::join`]; `Invalid` for settings that make no sense.
    pub fn join_with(&self, swarm: impl Swarm, settings: SwarmSettings) -> Result<JoinedSwarm, Error> {
        check_writable::<E>()?;
        settings.check()?;
        self.shared.join(swarm, settings)
    }

    /// Replicates with a peer as [`Autobee::replicate`] does, over a stream that is encrypted already by an exchange of keys
    /// that proved the key of the peer, as those of a Hyperswarm are: nothing is encrypted twice. Frames cross it as they are,
    /// three bytes of length, little endian, before each message; an empty message is a keep alive. Both sides have to say the
    /// same [`Secured::stream`].
    ///
    /// # Errors
    ///
    /// `Closed`, `ReadOnly`.
    pub fn replicate_secured<S>(&self, stream: S, role: Role, secured: Secured) -> Result<Session, Error>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        check_writable::<E>()?;
        self.shared.replicate_secured(stream, role, secured)
    }
}
