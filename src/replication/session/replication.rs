//! What belongs to a store and not to one stream.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::core::SharedCore;
use super::counts::{TrafficCounters, TrafficCounts, add};
use super::driver::{Driver, UNFINISHED_BYTES};
use super::mailbox::Mailbox;
use super::topic::{SharedTopic, Wakeup};
use super::{End, Progress, ReplicationSession};
use crate::crypto::{CoreKey, DiscoveryKey, PublicKey, Seed, discovery_key};
use crate::env::{Clock as _, Entropy as _, Env, Mono, Slip, Spawn as _, TraceSpan, knob, watch};
use crate::hypercore::{CoreError, CoreOptions, Corestore};
use crate::replication::Role;
use crate::replication::connection::{Connection, ConnectionSettings};
use crate::replication::frame::FRAME_MAX;
use crate::replication::noise::{self, Keys};
use crate::replication::replicator::PeerId;
use crate::replication::settings::ReplicatorSettings;
use crate::replication::stream::{Secured, StreamKeys};
use crate::replication::wakeup;
use crate::store::Seq;

/// Decides by its static key whether a peer may talk to us.
pub type Admit = Arc<dyn Fn(&PublicKey) -> bool + Send + Sync>;

/// Limits and times of sessions.
#[derive(Clone)]
pub struct SessionSettings {
    /// Bounds and times of a stream.
    pub connection: ConnectionSettings,
    /// Bounds and times of a core.
    pub replicator: ReplicatorSettings,
    /// The seed of the key pair by which peers may recognise us. None for a fresh one for each [`Replication`].
    pub identity: Option<Seed>,
    /// Who is admitted. None for everybody: keys of cores are what protects them.
    pub admit: Option<Admit>,
    /// How long a closed session may take to get its last bytes out.
    pub farewell: Duration,
    /// Bytes that are read from a stream at one time, while the peer sends no more than that.
    pub read_bytes: usize,
    /// Messages of a peer that are taken before other tasks get their turn. More than requests may wait, so that a burst
    /// of too many is seen as such.
    pub events: usize,
    /// Answers of a peer that are checked and stored together. Peers with more than that have something to do while the
    /// next ones are stored: a read may bring all that was asked for.
    pub data_held: usize,
    /// Cores in one announcement.
    pub announced: usize,
    /// Sessions that may run at the same time. One more ends at once, with [`super::End::Full`].
    pub sessions_max: usize,
    /// Bytes of memory for the frames of all peers that have not come to their end, those below 64 KiB not counted. When
    /// there are more, the session whose frame was begun first ends with [`super::End::Crowded`]. At least the largest frame
    /// fits, whatever is set.
    pub unfinished_bytes_max: usize,
}

impl SessionSettings {
    /// The numbers that a simulator chose for this run; elsewhere they stay as they are.
    #[must_use]
    pub fn tuned<E: Env>(mut self, env: &E) -> Self {
        if E::SIM {
            self.read_bytes = knob::SESSION_READ_BYTES.size(env, self.read_bytes);
            self.events = knob::SESSION_EVENTS.size(env, self.events);
            self.data_held = knob::SESSION_DATA_HELD.size(env, self.data_held);
            self.announced = knob::WAKEUP_ANNOUNCED.size(env, self.announced);
            self.replicator = self.replicator.tuned(env);
        }
        self
    }
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            connection: ConnectionSettings::default(),
            replicator: ReplicatorSettings::default(),
            identity: None,
            admit: None,
            farewell: Duration::from_secs(5),
            read_bytes: 64 * 1024,
            events: 4096,
            data_held: 128,
            announced: wakeup::ANNOUNCED,
            sessions_max: 1024,
            unfinished_bytes_max: 64 * 1024 * 1024,
        }
    }
}

/// The replication of one store with all its peers. Cloning gives another handle to the same one; sessions run on without
/// any.
///
/// Every core that is open in the store, now or later, is offered to each peer; what a peer offers is taken when the
/// store has the core. Keys never leave: both sides prove that they know them.
///
/// ```
/// use autobee::env::memory::MemoryEnv;
/// use autobee::hypercore::{CoreOptions, Corestore, CorestoreOptions, Wait};
/// use autobee::replication::Role;
/// use autobee::replication::session::{Replication, SessionSettings};
/// use autobee::store::{Seglog, StoreHandle};
/// use autobee::wire::Index;
///
/// let alice = MemoryEnv::new(1);
/// let bob = alice.sibling(2);
/// let block = alice.run(async {
///     let open = async |env: &MemoryEnv| {
///         let store = StoreHandle::open(env, &Seglog::default())?;
///         Corestore::open(env.clone(), store, CorestoreOptions::default()).await
///     };
///     let (ours, theirs) = (open(&alice).await?, open(&bob).await?);
///     let log = ours.get(CoreOptions::name("log")).await?;
///     log.append(vec!["hello".into()]).await?;
///     let copy = theirs.get(CoreOptions::key(log.key())).await?;
///
///     let (near, far) = tokio::io::duplex(4096);
///     let near = Replication::new(&alice, &ours, SessionSettings::default()).start(near, Role::Initiator);
///     let far = Replication::new(&bob, &theirs, SessionSettings::default()).start(far, Role::Responder);
///     let block = copy.get(Index(0), Wait::Forever).await?;
///     near.close();
///     far.ended().await;
///     Ok::<_, autobee::hypercore::CoreError>(block)
/// });
/// assert_eq!(block.unwrap()?, "hello");
/// # Ok::<(), autobee::hypercore::CoreError>(())
/// ```
pub struct Replication<E: Env> {
    hub: Arc<Hub<E>>,
}

/// The hub: what all sessions of a store share.
pub(super) struct Hub<E: Env> {
    pub(super) env: E,
    pub(super) store: Corestore<E>,
    pub(super) settings: SessionSettings,
    identity: Seed,
    next_peer: AtomicU64,
    pub(super) counters: TrafficCounters,
    state: Mutex<HubState<E>>,
    /// Ends the attendant with the hub.
    _alive: watch::Sender<()>,
}

struct HubState<E: Env> {
    cores: BTreeMap<DiscoveryKey, Weak<SharedCore<E>>>,
    topics: BTreeMap<DiscoveryKey, Weak<SharedTopic>>,
    sessions: BTreeMap<u64, Weak<Mailbox>>,
    next_session: u64,
    unfinished: BTreeMap<u64, UnfinishedFrame>,
}

/// A large frame of a session that has not come to its end.
struct UnfinishedFrame {
    frame: u64,
    since: Mono,
    bytes: usize,
}

impl<E: Env> Replication<E> {
    /// The replication of a store. One for each store, so that its sessions share the work.
    #[must_use]
    pub fn new(env: &E, store: &Corestore<E>, settings: SessionSettings) -> Self {
        let identity = settings
            .identity
            .clone()
            .unwrap_or_else(|| Seed::new(env.entropy().array()));
        let alive = watch::Sender::new(());
        let end = alive.subscribe();
        let hub = Arc::new(Hub {
            env: env.clone(),
            store: store.clone(),
            settings,
            identity,
            next_peer: AtomicU64::new(0),
            counters: TrafficCounters::default(),
            state: Mutex::new(HubState {
                cores: BTreeMap::new(),
                topics: BTreeMap::new(),
                sessions: BTreeMap::new(),
                next_session: 0,
                unfinished: BTreeMap::new(),
            }),
            _alive: alive,
        });
        let attendant = attend(env.clone(), Arc::downgrade(&hub), store.clone(), end);
        env.spawn().spawn("replication", attendant);
        Self { hub }
    }

    /// The static key by which peers may recognise us.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        noise::public_key(&self.hub.identity)
    }

    /// True when a function decides whom to talk to.
    pub(crate) fn asks_whom_to_admit(&self) -> bool {
        self.hub.settings.admit.is_some()
    }

    /// Replicates on a stream. The side that dialled is the initiator by habit; the two roles must differ.
    pub fn start<S>(&self, stream: S, role: Role) -> ReplicationSession
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let hub = &self.hub;
        let keys = StreamKeys {
            noise: Keys {
                identity: hub.identity.clone(),
                ephemeral: Seed::new(hub.env.entropy().array()),
            },
            header: hub.env.entropy().array(),
        };
        let now = hub.env.clock().now();
        let connection = Connection::new(role, keys, hub.settings.connection.clone(), now);
        self.drive(stream, role, connection)
    }

    /// Replicates on a stream that is encrypted already, as one of a Hyperswarm is, with a peer whose key was proved. Frames
    /// cross it as they are: three bytes of length, little endian, and a message; an empty one is a keep alive.
    pub fn start_secured<S>(&self, stream: S, role: Role, secured: Secured) -> ReplicationSession
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let hub = &self.hub;
        let now = hub.env.clock().now();
        let connection = Connection::secured(role, secured, hub.settings.connection.clone(), now);
        self.drive(stream, role, connection)
    }

    fn drive<S>(&self, stream: S, role: Role, mut connection: Connection) -> ReplicationSession
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let hub = &self.hub;
        connection.plant(hub.store.planted());
        let mailbox = Arc::new(Mailbox::new());
        let (number, running) = hub.lock().enter(&mailbox);
        if running > hub.settings.sessions_max {
            mailbox.end(End::Full(hub.settings.sessions_max));
        }
        let (progress, ended) = (watch::Sender::new(Progress::default()), watch::Sender::new(None));
        let blame = watch::Sender::new(None);
        let session = ReplicationSession {
            role,
            mailbox: Arc::clone(&mailbox),
            progress: progress.subscribe(),
            ended: ended.subscribe(),
            blame: blame.subscribe(),
        };
        let driver = Driver::new(Arc::clone(hub), number, connection, mailbox, progress, blame);
        add(&hub.counters.opened, 1);
        let span = TraceSpan::Session { session: number };
        let running = E::in_span(span, driver.run(Box::pin(stream), ended));
        hub.env.spawn().spawn("session", running);
        session
    }

    /// What all sessions did up to now.
    #[must_use]
    pub fn counts(&self) -> TrafficCounts {
        self.hub.counters.read()
    }

    /// The most leading blocks of a core that one of the connected peers says it has.
    #[must_use]
    pub fn announced(&self, core: &CoreKey) -> u64 {
        let core = self.hub.lock().find(&discovery_key(core));
        core.map_or(0, |core| core.announced())
    }

    /// True when some connected peer said how much it has of a core, and has nothing of it that is to be here and is not.
    #[must_use]
    pub(crate) fn has_all_of_a_peer(&self, core: &CoreKey) -> bool {
        let core = self.hub.lock().find(&discovery_key(core));
        core.is_some_and(|core| core.has_all_of_a_peer())
    }

    /// The cores that both sides replicate on a session, as the cores know it; none when it is over.
    pub(crate) fn cores_of(&self, session: &ReplicationSession) -> Option<BTreeSet<CoreKey>> {
        let cores: Vec<_> = {
            let state = self.hub.lock();
            let mut running = state.sessions.values().filter_map(Weak::upgrade);
            if !running.any(|mailbox| Arc::ptr_eq(&mailbox, &session.mailbox)) {
                return None;
            }
            state.cores.values().filter_map(Weak::upgrade).collect()
        };
        let theirs = cores.iter().filter(|core| core.is_with(&session.mailbox));
        Some(theirs.map(|core| core.key).collect())
    }

    /// How many peers the core or the topic remembers that remembers most: not more than there are sessions.
    pub(crate) fn peers_kept(&self) -> usize {
        let (sessions, cores): (usize, Vec<_>) = {
            let state = self.hub.lock();
            let cores = state.cores.values().filter_map(Weak::upgrade);
            (state.sessions.len(), cores.collect())
        };
        let topics = self.hub.topics();
        let topics = topics.iter().map(|topic| topic.peers_kept());
        let cores = cores.iter().map(|core| core.peers_kept());
        topics.chain(cores).max().unwrap_or_default().max(sessions)
    }

    /// Takes part in a wakeup topic, on all sessions.
    #[must_use]
    pub fn wakeup(&self, key: CoreKey) -> Wakeup {
        let name = discovery_key(&key);
        let mut state = self.hub.lock();
        if let Some(topic) = state.topics.get(&name).and_then(Weak::upgrade) {
            return Wakeup { topic };
        }
        let announced = self.hub.settings.announced;
        let topic = Arc::new(SharedTopic::new(key, announced, self.hub.store.planted()));
        state.topics.retain(|_, topic| topic.strong_count() > 0);
        state.topics.insert(name, Arc::downgrade(&topic));
        drop(state);
        self.hub.look();
        Wakeup { topic }
    }

    /// Ends all sessions.
    pub fn close(&self) {
        for mailbox in self.hub.mailboxes() {
            mailbox.close();
        }
    }
}

impl<E: Env> Hub<E> {
    pub(super) fn next_peer(&self) -> PeerId {
        PeerId(self.next_peer.fetch_add(1, Ordering::Relaxed))
    }

    /// The core that is called so in public. None when the store does not have it, or does not trust it any more.
    pub(super) async fn core(&self, name: DiscoveryKey) -> Result<Option<Arc<SharedCore<E>>>, CoreError> {
        if let Some(core) = self.lock().find(&name) {
            return Ok(Some(core));
        }
        let mut options = CoreOptions::discovery_key(name);
        options.session.is_serving = true;
        let session = match self.store.get(options).await {
            Ok(session) => session,
            Err(CoreError::Unknown | CoreError::Signatures { .. } | CoreError::Closed) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut state = self.lock();
        // Another session of ours may have been faster.
        if let Some(core) = state.find(&name) {
            return Ok(Some(core));
        }
        let core = match SharedCore::start(&self.env, session, &self.settings.replicator) {
            Ok(core) => core,
            Err(CoreError::Signatures { .. } | CoreError::Closed) => return Ok(None),
            Err(error) => return Err(error),
        };
        state.cores.retain(|_, core| core.strong_count() > 0);
        state.cores.insert(name, Arc::downgrade(&core));
        drop(state);
        Ok(Some(core))
    }

    /// The topic that is called so in public.
    pub(super) fn topic(&self, name: &DiscoveryKey) -> Option<Arc<SharedTopic>> {
        self.lock().topics.get(name).and_then(Weak::upgrade)
    }

    pub(super) fn topics(&self) -> Vec<Arc<SharedTopic>> {
        let state = self.lock();
        state.topics.values().filter_map(Weak::upgrade).collect()
    }

    /// Has all sessions look for what is new here.
    fn look(&self) {
        for mailbox in self.mailboxes() {
            mailbox.look();
        }
    }

    fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        let state = self.lock();
        state.sessions.values().filter_map(Weak::upgrade).collect()
    }

    /// A session has so many bytes of a frame that has not come to its end.
    pub(super) fn note_unfinished(&self, session: u64, frame: u64, bytes: usize, now: Mono) {
        let bytes_max = self.settings.unfinished_bytes_max;
        let bytes_max = bytes_max.max(FRAME_MAX);
        let mut state = self.lock();
        if bytes <= UNFINISHED_BYTES {
            state.unfinished.remove(&session);
            return;
        }
        let same = state
            .unfinished
            .get(&session)
            .filter(|known| known.frame == frame);
        let since = same.map_or(now, |known| known.since);
        let noted = UnfinishedFrame { frame, since, bytes };
        state.unfinished.insert(session, noted);
        state.make_room(bytes_max);
    }

    /// A session is over.
    pub(super) fn leave(&self, number: u64) {
        let mut state = self.lock();
        if !self.store.planted().has(Slip::EndedCounts) {
            state.sessions.remove(&number);
        }
        state.unfinished.remove(&number);
    }

    fn lock(&self) -> MutexGuard<'_, HubState<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Env> HubState<E> {
    /// The number of the new session, and how many run with it.
    fn enter(&mut self, mailbox: &Arc<Mailbox>) -> (u64, usize) {
        let number = self.next_session;
        self.next_session += 1;
        self.sessions.insert(number, Arc::downgrade(mailbox));
        (number, self.sessions.len())
    }

    /// Ends the sessions whose unfinished frames were begun first, until the rest fit.
    fn make_room(&mut self, bytes_max: usize) {
        let mut bytes: usize = self.unfinished.values().map(|frame| frame.bytes).sum();
        while bytes > bytes_max {
            let first = self.unfinished.iter().min_by_key(|(_, frame)| frame.since);
            let Some(number) = first.map(|(number, _)| *number) else {
                return;
            };
            let frame = self.unfinished.remove(&number);
            let freed = frame.map_or(0, |frame| frame.bytes);
            bytes -= freed;
            if let Some(mailbox) = self.sessions.get(&number).and_then(Weak::upgrade) {
                mailbox.end(End::Crowded(freed));
            }
        }
    }

    /// A core that is replicated already. One that ended, as its owner contradicted itself, is begun anew.
    fn find(&self, name: &DiscoveryKey) -> Option<Arc<SharedCore<E>>> {
        let core = self.cores.get(name).and_then(Weak::upgrade)?;
        core.is_open().then_some(core)
    }
}

/// The reason why the attendant woke.
enum HubWake {
    Opened,
    Durable(Seq),
    End,
}

/// Tells sessions of cores that were opened, and cores of what became durable.
async fn attend<E: Env>(env: E, hub: Weak<Hub<E>>, store: Corestore<E>, mut end: watch::Receiver<()>) {
    let mut openings = store.openings();
    let mut seq = Seq(0);
    loop {
        let woken = {
            let (mut end, mut opened) = (pin!(end.changed()), pin!(openings.changed()));
            let mut durable = pin!(store.durable_past(seq));
            poll_fn(|context| {
                if end.as_mut().poll(context).is_ready() {
                    return Poll::Ready(HubWake::End);
                }
                match opened.as_mut().poll(context) {
                    Poll::Ready(Ok(())) => return Poll::Ready(HubWake::Opened),
                    Poll::Ready(Err(_)) => return Poll::Ready(HubWake::End),
                    Poll::Pending => {}
                }
                let durable = durable.as_mut().poll(context);
                durable.map(|seq| seq.map_or(HubWake::End, HubWake::Durable))
            })
            .await
        };
        let Some(hub) = hub.upgrade() else { return };
        match woken {
            HubWake::Opened if store.planted().has(Slip::OpeningsUnseen) => {}
            HubWake::Opened => hub.look(),
            HubWake::Durable(now) => {
                seq = now;
                if store.planted().has(Slip::DurableUntold) {
                    continue;
                }
                let cores: Vec<_> = hub.lock().cores.values().cloned().collect();
                for core in cores.iter().filter_map(Weak::upgrade) {
                    core.durable(env.clock().now());
                }
            }
            HubWake::End => return,
        }
    }
}

impl<E: Env> Clone for Replication<E> {
    fn clone(&self) -> Self {
        Self {
            hub: Arc::clone(&self.hub),
        }
    }
}

impl<E: Env> fmt::Debug for Replication<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replication({:?})", self.public_key())
    }
}

impl fmt::Debug for SessionSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionSettings")
            .field("connection", &self.connection)
            .field("replicator", &self.replicator)
            .finish_non_exhaustive()
    }
}
