//! iroh: peers are dialled by their keys, over QUIC, through routers where that works.
//!
//! Built on the crate `iroh`, which has no topics: peers are those that the settings name, those that dial this one, and those
//! that connected peers tell of. A connection is of one topic. What shows that both sides have the same one is bound to its
//! keys, so that it is of no use on another connection, and says nothing to who does not know the topic.
//!
//! ```text
//! stream       who   bytes
//! first, both  dials  32: hash of the topic, the connection and the side
//! ways         other  32: the same, if the first was right; or it closes the connection
//!              both   frames of a session, without encryption of its own
//! one each way both   lists of peers: two bytes of length, little endian, before each (`told.rs`)
//! ```
//!
//! What is missing, and who learns what: `docs/swarm.md`.

mod settings;
mod told;

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use iroh::endpoint::{
    Connection, ConnectionError, Incoming, QuicTransportConfig, ReadExactError, RecvStream, SendStream,
    VarInt, presets,
};
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode, RelayUrl, TransportAddr};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{Swarm, SwarmEvent, SwarmProtection, SwarmStream, SwarmTopic};
use crate::crypto::{DiscoveryKey, Hash, HashKey, PublicKey, Seed, keyed_hash, namespace};
use crate::db::shell::unless;
use crate::env::native::NativeEnv;
use crate::env::{Clock as _, Env as _, Mono, Spawn as _, TaskHandle};
use crate::replication::Role;
use crate::replication::capability;
pub use settings::{IrohPeer, IrohSettings};
use told::ToldPeers;

/// What both sides call the protocol. It crosses the network in the clear, and is the same for all topics therefore.
const ALPN: &[u8] = b"autobee/swarm/1";

/// From the keys of a connection, for the 64 bytes that name its stream.
const STREAM_LABEL: &[u8] = b"EXPORTER-autobee-swarm-stream";

/// From the keys of a connection, for the key of the hashes that name its topic.
const TOPIC_LABEL: &[u8] = b"EXPORTER-autobee-swarm-topic";

/// Closes a connection whose topic is not one of those that were joined.
const OTHER_TOPIC: VarInt = VarInt::from_u32(1);

/// Closes a connection that is over.
const OVER: VarInt = VarInt::from_u32(0);

/// How long a connection that ended goes on for what is on its way.
const FAREWELL: Duration = Duration::from_secs(5);

/// An endpoint of iroh, for one or more databases: peers that have its key and address dial it, and it dials those that its
/// settings name. Connections are encrypted by QUIC, with the keys of both sides. It closes when the last handle, topic and
/// connection is dropped.
#[derive(Clone)]
pub struct IrohSwarm {
    node: Arc<IrohNode>,
}

struct IrohNode {
    env: NativeEnv,
    endpoint: Endpoint,
    settings: IrohSettings,
    relays: Vec<RelayUrl>,
    joined: Mutex<BTreeMap<DiscoveryKey, Arc<LocalTopic>>>,
    handshakes: Arc<Semaphore>,
    /// Has nothing to give, and is closed when the endpoint is.
    closed: Arc<Semaphore>,
}

/// A topic that was joined here, and what is known of its peers.
struct LocalTopic {
    topic: DiscoveryKey,
    events: mpsc::Sender<SwarmEvent<IrohStream>>,
    told: Mutex<ToldPeers>,
    open: Mutex<OpenConnections>,
}

/// The connections of a topic, by numbers that are never used twice.
#[derive(Default)]
struct OpenConnections {
    next: u64,
    connections: BTreeMap<u64, Connection>,
}

impl IrohSwarm {
    /// Opens the endpoint. Others know it by the key of the seed.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for settings that make no sense; no socket.
    pub async fn start(env: NativeEnv, identity: &Seed, settings: IrohSettings) -> io::Result<Self> {
        settings.check()?;
        let relays = settings.relays.iter().map(|url| {
            let url = url.parse::<RelayUrl>();
            url.map_err(|error| invalid(format!("settings: a relay: {error}")))
        });
        let relays = relays.collect::<io::Result<Vec<_>>>()?;
        let window = VarInt::from_u32(settings.window_bytes);
        let transport = QuicTransportConfig::builder()
            .max_concurrent_bidi_streams(VarInt::from_u32(1))
            // Lists of peers that nobody reads would fill the window.
            .max_concurrent_uni_streams(VarInt::from_u32(u32::from(settings.told_max > 0)))
            .datagram_receive_buffer_size(None)
            .stream_receive_window(window)
            .receive_window(window)
            .send_window(u64::from(settings.window_bytes))
            .build();
        let mut builder = Endpoint::builder(presets::Minimal)
            .secret_key(iroh::SecretKey::from_bytes(identity.as_bytes()))
            .alpns(vec![ALPN.to_vec()])
            .transport_config(transport)
            .clear_address_lookup()
            .relay_mode(match relays.is_empty() {
                true => RelayMode::Disabled,
                false => RelayMode::custom(relays.iter().cloned()),
            });
        if !settings.listen.is_empty() {
            builder = builder.clear_ip_transports();
        }
        for address in &settings.listen {
            let bound = builder.bind_addr(*address);
            builder = bound.map_err(|error| invalid(format!("settings: {address}: {error}")))?;
        }
        let endpoint = builder.bind().await.map_err(io::Error::other)?;
        let handshakes = Arc::new(Semaphore::new(settings.handshakes_max));
        let node = Arc::new(IrohNode {
            env: env.clone(),
            endpoint: endpoint.clone(),
            settings,
            relays,
            joined: Mutex::default(),
            handshakes,
            closed: Arc::new(Semaphore::new(0)),
        });
        env.spawn().spawn("iroh", serve(Arc::downgrade(&node), endpoint));
        Ok(Self { node })
    }

    /// This one as others name it in their settings. The addresses are those of the machine, as far as they are known: behind a
    /// router others need the one that the router was told to forward.
    #[must_use]
    pub fn address(&self) -> IrohPeer {
        let endpoint = self.node.endpoint.addr();
        IrohPeer::new(self.public_key(), endpoint.ip_addrs().copied().collect())
    }

    /// Closes the endpoint: waits for a while until connections that are over have ended, and ends those that are not. A program
    /// that ends without it may be missed by its peers only after they hear nothing of it for seconds.
    pub async fn close(self) {
        let (endpoint, clock) = (self.node.endpoint.clone(), *self.node.env.clock());
        let closed = Arc::clone(&self.node.closed);
        // The last one to let go of the node closes the endpoint.
        drop(self);
        if unless(closed.acquire(), clock.sleep(2 * FAREWELL))
            .await
            .is_none()
        {
            endpoint.close().await;
        }
    }
}

impl fmt::Debug for IrohSwarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IrohSwarm({})", self.public_key())
    }
}

impl Drop for IrohNode {
    fn drop(&mut self) {
        let (endpoint, closed) = (self.endpoint.clone(), Arc::clone(&self.closed));
        // Where the runtime goes first it is not closed in order: `IrohSwarm::close`.
        self.env.spawn().spawn("close iroh", async move {
            endpoint.close().await;
            closed.close();
        });
    }
}

impl Swarm for IrohSwarm {
    type Topic = IrohTopic;

    fn public_key(&self) -> PublicKey {
        key_of(&self.node.endpoint.id())
    }

    async fn join(&self, topic: DiscoveryKey) -> io::Result<IrohTopic> {
        let node = &self.node;
        let (sender, events) = mpsc::channel(node.settings.waiting_max);
        let joined = Arc::new(LocalTopic {
            topic,
            events: sender.clone(),
            told: Mutex::new(ToldPeers::new(node.settings.peers_max)),
            open: Mutex::default(),
        });
        {
            let mut all = lock(&node.joined);
            if all.contains_key(&topic) {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "the topic was joined already",
                ));
            }
            all.insert(topic, Arc::clone(&joined));
        }
        let keys = node.settings.peers.iter().map(|peer| peer.key).collect();
        let (clock, again) = (*node.env.clock(), node.settings.again());
        let finding = async move { find(keys, sender, || clock.sleep(again)).await };
        let finding = node.env.spawn().spawn("find peers", finding);
        Ok(IrohTopic {
            node: Arc::clone(node),
            joined,
            events,
            finding: Some(finding),
        })
    }
}

/// Tells the peers of the settings, again and again: a database forgets those that it dialled for nothing.
async fn find<P: Future<Output = ()>>(
    keys: Vec<PublicKey>,
    found: mpsc::Sender<SwarmEvent<IrohStream>>,
    pause: impl Fn() -> P,
) {
    loop {
        for key in &keys {
            if found.send(SwarmEvent::Found(*key)).await.is_err() {
                return;
            }
        }
        pause().await;
    }
}

/// A topic that an [`IrohSwarm`] joined.
pub struct IrohTopic {
    node: Arc<IrohNode>,
    joined: Arc<LocalTopic>,
    events: mpsc::Receiver<SwarmEvent<IrohStream>>,
    finding: Option<TaskHandle>,
}

impl SwarmTopic for IrohTopic {
    type Stream = IrohStream;

    async fn next(&mut self) -> io::Result<SwarmEvent<IrohStream>> {
        let event = self.events.recv().await;
        event.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn dial(
        &self,
        peer: PublicKey,
    ) -> impl Future<Output = io::Result<SwarmStream<IrohStream>>> + Send + 'static {
        let (node, joined) = (Arc::clone(&self.node), Arc::clone(&self.joined));
        async move {
            let address = node.address_of(&joined, &peer)?;
            let connection = node.endpoint.connect(address, ALPN).await;
            let connection = connection.map_err(io::Error::other)?;
            let proofs = Proofs::of(&connection)?;
            let (mut send, mut receive) = connection.open_bi().await.map_err(refused)?;
            send.write_all(proofs.proof(Role::Initiator, &joined.topic).as_bytes())
                .await?;
            let answer = read_hash(&mut receive).await?;
            if !capability::same(&answer, &proofs.proof(Role::Responder, &joined.topic)) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the peer does not know the topic",
                ));
            }
            node.connected(&joined, connection, (send, receive))
        }
    }
}

impl Drop for IrohTopic {
    fn drop(&mut self) {
        if let Some(finding) = self.finding.take() {
            finding.abort();
        }
        lock(&self.node.joined).remove(&self.joined.topic);
    }
}

impl fmt::Debug for IrohTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IrohTopic({})", self.joined.topic)
    }
}

impl IrohNode {
    /// Where a peer may be: what the settings say, what others told, and all relays.
    fn address_of(&self, joined: &LocalTopic, peer: &PublicKey) -> io::Result<EndpointAddr> {
        let id = EndpointId::from_bytes(peer.as_bytes());
        let id = id.map_err(|error| invalid(format!("the key of a peer: {error}")))?;
        let set = self.settings.peers.iter().filter(|set| set.key == *peer);
        let set = set.flat_map(|set| &set.addresses);
        let told = lock(&joined.told);
        let addresses = set.chain(told.addresses(peer)).copied();
        let relays = self.relays.iter().cloned().map(TransportAddr::Relay);
        Ok(EndpointAddr::from_parts(
            id,
            addresses.map(TransportAddr::Ip).chain(relays),
        ))
    }

    /// A connection on which both sides have the same topic.
    fn connected(
        self: &Arc<Self>,
        joined: &Arc<LocalTopic>,
        connection: Connection,
        (send, receive): (SendStream, RecvStream),
    ) -> io::Result<SwarmStream<IrohStream>> {
        let mut name = [0; 64];
        export(&connection, STREAM_LABEL, &mut name)?;
        let peer = key_of(&connection.remote_id());
        let number = {
            let mut open = lock(&joined.open);
            let number = open.next;
            open.next += 1;
            open.connections.insert(number, connection.clone());
            number
        };
        let mut tasks = Vec::new();
        if self.settings.told_max > 0 {
            let (node, topic) = (Arc::downgrade(self), Arc::downgrade(joined));
            let telling = tell(node, topic, connection.clone());
            tasks.push(self.env.spawn().spawn("tell of peers", telling));
            let (node, topic) = (Arc::downgrade(self), Arc::downgrade(joined));
            let hearing = hear(node, topic, connection.clone());
            let hearing = async { hearing.await.unwrap_or_default() };
            tasks.push(self.env.spawn().spawn("hear of peers", hearing));
        }
        let stream = IrohStream {
            parts: Some((send, receive)),
            connection,
            number,
            tasks,
            node: Arc::clone(self),
            joined: Arc::clone(joined),
        };
        Ok(SwarmStream {
            peer,
            stream,
            protection: SwarmProtection::Encrypted(name),
        })
    }

    /// Ends a connection once what was written has arrived, and the peer has ended it, too: it may not have read everything.
    fn say_farewell(self: &Arc<Self>, connection: Connection, parts: (SendStream, RecvStream)) {
        let (node, clock) = (Arc::clone(self), *self.env.clock());
        let (mut send, mut receive) = parts;
        self.env.spawn().spawn("end a connection of iroh", async move {
            let farewell = async {
                let _ = send.finish();
                let _ = send.stopped().await;
                while let Ok(Some(_)) = receive.read_chunk(usize::MAX).await {}
            };
            unless(farewell, clock.sleep(FAREWELL)).await;
            connection.close(OVER, b"");
            drop(node);
        });
    }
}

// The topic of a connection.

/// Makes what each side of one connection shows to have the same topic.
struct Proofs(HashKey);

impl Proofs {
    fn of(connection: &Connection) -> io::Result<Self> {
        let mut key = [0; 64];
        export(connection, TOPIC_LABEL, &mut key)?;
        Ok(Self(HashKey::from(&key)))
    }

    fn proof(&self, side: Role, topic: &DiscoveryKey) -> Hash {
        let number = match side {
            Role::Initiator => 0,
            Role::Responder => 1,
        };
        let purpose = namespace(b"autobee/iroh", number);
        keyed_hash(&self.0, &[purpose.as_bytes(), topic.as_bytes()])
    }
}

/// Bytes that both sides of a connection have, and nobody else.
fn export(connection: &Connection, label: &[u8], bytes: &mut [u8; 64]) -> io::Result<()> {
    let exported = connection.export_keying_material(bytes, label, b"");
    exported.map_err(|error| io::Error::other(format!("keys of a connection: {error:?}")))
}

async fn read_hash(stream: &mut RecvStream) -> io::Result<Hash> {
    let mut bytes = [0; 32];
    match stream.read_exact(&mut bytes).await {
        Ok(()) => Ok(Hash::new(bytes)),
        Err(ReadExactError::ReadError(iroh::endpoint::ReadError::ConnectionLost(error))) => {
            Err(refused(error))
        }
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Why a connection was lost.
fn refused(error: ConnectionError) -> io::Error {
    match error {
        ConnectionError::ApplicationClosed(close) if close.error_code == OTHER_TOPIC => {
            io::Error::new(io::ErrorKind::ConnectionRefused, "the peer is not of this topic")
        }
        error => error.into(),
    }
}

// Peers who dial.

/// Accepts connections as long as there is a node.
async fn serve(node: Weak<IrohNode>, endpoint: Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        let Some(node) = node.upgrade() else { return };
        let few = node.settings.handshakes_max / 2;
        if node.handshakes.available_permits() <= few && !incoming.remote_addr_validated() {
            // It comes again with a token that was sent to its address.
            let _ = incoming.retry();
            continue;
        }
        match Arc::clone(&node.handshakes).try_acquire_owned() {
            Ok(permit) => {
                let tasks = node.env.spawn().clone();
                tasks.spawn("accept a peer", accept(node, incoming, permit));
            }
            Err(_) => incoming.refuse(),
        }
    }
}

async fn accept(node: Arc<IrohNode>, incoming: Incoming, permit: OwnedSemaphorePermit) {
    let limit = Duration::from_millis(node.settings.handshake_ms);
    let established = unless(node.establish(incoming), node.env.clock().sleep(limit)).await;
    if let Some(Ok((joined, stream))) = established {
        let _ = joined.events.send(SwarmEvent::Accepted(stream)).await;
    }
    drop(permit);
}

impl IrohNode {
    /// Waits until a peer has shown its topic, and answers if it is one of those that were joined.
    async fn establish(
        self: &Arc<Self>,
        incoming: Incoming,
    ) -> io::Result<(Arc<LocalTopic>, SwarmStream<IrohStream>)> {
        let connection = incoming.await.map_err(io::Error::other)?;
        let proofs = Proofs::of(&connection)?;
        let (mut send, mut receive) = connection.accept_bi().await?;
        let shown = read_hash(&mut receive).await?;
        let joined = {
            let all = lock(&self.joined);
            let shows = |joined: &&Arc<LocalTopic>| {
                capability::same(&shown, &proofs.proof(Role::Initiator, &joined.topic))
            };
            all.values().find(shows).cloned()
        };
        let Some(joined) = joined else {
            connection.close(OTHER_TOPIC, b"");
            return Err(io::ErrorKind::InvalidData.into());
        };
        send.write_all(proofs.proof(Role::Responder, &joined.topic).as_bytes())
            .await?;
        let stream = self.connected(&joined, connection, (send, receive))?;
        Ok((joined, stream))
    }
}

// Peers who tell of others.

/// Tells a peer who else is connected, again and again.
async fn tell(node: Weak<IrohNode>, joined: Weak<LocalTopic>, connection: Connection) {
    let Ok(mut stream) = connection.open_uni().await else {
        return;
    };
    loop {
        let (list, clock, again) = {
            let (Some(node), Some(joined)) = (node.upgrade(), joined.upgrade()) else {
                return;
            };
            let list = joined.others(&connection, node.settings.told_max);
            (told::encode(&list), *node.env.clock(), node.settings.again())
        };
        let Ok(length) = u16::try_from(list.len()) else {
            return;
        };
        if !list.is_empty() {
            let written = async {
                stream.write_all(&length.to_le_bytes()).await?;
                stream.write_all(&list).await
            };
            if written.await.is_err() {
                return;
            }
        }
        clock.sleep(again).await;
    }
}

/// Hears of the peers that a peer tells of. Who tells too often is read, as it shares the window of the connection with the
/// session, and not heeded.
async fn hear(node: Weak<IrohNode>, joined: Weak<LocalTopic>, connection: Connection) -> Option<()> {
    let mut stream = connection.accept_uni().await.ok()?;
    let (own, clock, told_max, again) = {
        let node = node.upgrade()?;
        let own = key_of(&node.endpoint.id());
        (
            own,
            *node.env.clock(),
            node.settings.told_max,
            node.settings.again(),
        )
    };
    let mut heeded: Option<Mono> = None;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length).await.ok()?;
        let mut list = vec![0; usize::from(u16::from_le_bytes(length))];
        stream.read_exact(&mut list).await.ok()?;
        let now = clock.now();
        if heeded.is_some_and(|last| now.since(last) < again / 2) {
            continue;
        }
        heeded = Some(now);
        // A list that makes no sense: nothing more is heard of this peer.
        let peers = told::decode(&list)?.into_iter().take(told_max);
        for peer in peers.filter(|peer| peer.key != own) {
            let key = peer.key;
            let joined = joined.upgrade()?;
            lock(&joined.told).hear(peer);
            // A database that is behind hears of it the next time.
            let _ = joined.events.try_send(SwarmEvent::Found(key));
        }
    }
}

impl LocalTopic {
    /// Who is connected, but for the peer of one connection; each with the addresses by which it is reached now.
    fn others(&self, connection: &Connection, most: usize) -> Vec<IrohPeer> {
        let own = connection.remote_id();
        let open = lock(&self.open);
        let others = open.connections.values().filter(|other| other.remote_id() != own);
        // Those who came last are of most use: who was there before was told to others already.
        let others = others.rev().take(most).map(|other| {
            let paths = other.paths();
            let addresses = paths.iter().filter_map(|path| match path.remote_addr() {
                TransportAddr::Ip(address) => Some(*address),
                _ => None,
            });
            IrohPeer::new(key_of(&other.remote_id()), addresses.collect())
        });
        others.collect()
    }
}

/// A connection of an [`IrohSwarm`]. Dropping it closes the connection when what was written has arrived, or soon.
pub struct IrohStream {
    /// Taken when it is dropped.
    parts: Option<(SendStream, RecvStream)>,
    connection: Connection,
    number: u64,
    tasks: Vec<TaskHandle>,
    /// The endpoint lives as long as its connections.
    node: Arc<IrohNode>,
    joined: Arc<LocalTopic>,
}

impl IrohStream {
    fn parts(&mut self) -> io::Result<&mut (SendStream, RecvStream)> {
        let parts = self.parts.as_mut();
        parts.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for IrohStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.parts()?.1), cx, buffer)
    }
}

impl AsyncWrite for IrohStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.parts()?.0), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.parts()?.0), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.parts()?.0), cx)
    }
}

impl Drop for IrohStream {
    fn drop(&mut self) {
        lock(&self.joined.open).connections.remove(&self.number);
        for task in self.tasks.drain(..) {
            task.abort();
        }
        if let Some(parts) = self.parts.take() {
            self.node.say_farewell(self.connection.clone(), parts);
        }
    }
}

impl fmt::Debug for IrohStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IrohStream({})", key_of(&self.connection.remote_id()))
    }
}

fn key_of(id: &EndpointId) -> PublicKey {
    PublicKey::new(*id.as_bytes())
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
