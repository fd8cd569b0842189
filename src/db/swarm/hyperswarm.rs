//! Hyperswarm: peers of the JavaScript stack are found by the DHT that they use, and find this one.
//!
//! Built on the crate `peeroxide-dht`: DHT, Noise handshake, UDX streams and the secret stream on them are its own. Its secret
//! stream gives and takes whole messages; here they become frames of a byte stream, which a session takes as they are.
//!
//! What is missing, and why: `docs/swarm.md`.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use libudx::{RuntimeHandle, UdxAsyncStream, UdxRuntime, UdxSocket, UdxStream};
use peeroxide_dht::crypto::hash;
use peeroxide_dht::hyperdht::{
    self, ConnectOpts, DEFAULT_BOOTSTRAP, HyperDhtConfig, HyperDhtHandle, KeyPair, ServerEvent,
};
use peeroxide_dht::hyperdht_messages::{
    HandshakeMessage, MODE_FROM_RELAY, MODE_FROM_SECOND_RELAY, MODE_FROM_SERVER, MODE_REPLY, NoisePayload,
    SecretStreamInfo, UdxInfo, encode_handshake_to_bytes,
};
use peeroxide_dht::messages::Ipv4Peer;
use peeroxide_dht::noise::Keypair as NoiseKeypair;
use peeroxide_dht::noise_wrap::{NoiseWrap, NoiseWrapResult};
use peeroxide_dht::rpc::DhtConfig;
use peeroxide_dht::secret_stream::{SecretStream, SecretStreamReadHalf, SecretStreamWriteHalf};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::{Semaphore, mpsc};

use super::{Swarm, SwarmEvent, SwarmProtection, SwarmStream, SwarmTopic};
use crate::crypto::{DiscoveryKey, PublicKey, Seed};
use crate::db::RetrySettings;
use crate::db::shell::unless;
use crate::env::native::{NativeClock, NativeEnv, NativeTasks};
use crate::env::{Clock as _, Entropy as _, Env as _, Spawn as _, TaskHandle};
use crate::replication::frame::FRAME_MAX;

/// Bytes of frames that wait between the secret stream and the session, in each direction.
const BUFFER_BYTES: usize = 64 * 1024;

/// Found peers and accepted connections that wait for the database.
const BACKLOG: usize = 64;

/// Connections that were accepted and are not established yet. Who dials when there are so many has to come again.
const ESTABLISHING: usize = 64;

/// How long a connection that was accepted may take to show that both sides have the same keys.
const ESTABLISH: Duration = Duration::from_secs(10);

/// How long one direction of a connection goes on when the other one has ended.
const FAREWELL: Duration = Duration::from_secs(5);

/// How often the session is told that the connection lives. The secret stream below swallows the keep alives of the peer; that
/// a peer is gone shows by what is sent to it and never acknowledged.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// Pauses between two times that peers are looked for, and that this one announces itself. What is announced is kept for 20
/// minutes by the DHT.
const REFRESH: RetrySettings = RetrySettings {
    pause_ms_min: 1_000,
    pause_ms_max: 300_000,
};

/// Where a [`Hyperswarm`] begins, and what it listens at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HyperswarmSettings {
    /// Nodes of the DHT that are asked first, as `host:port`. By default the public ones.
    pub bootstrap: Vec<String>,
    /// The address at which it listens, by UDP.
    pub host: String,
    /// The port; 0 for any that is free.
    pub port: u16,
}

impl Default for HyperswarmSettings {
    fn default() -> Self {
        Self {
            bootstrap: DEFAULT_BOOTSTRAP.map(ToOwned::to_owned).into(),
            host: "0.0.0.0".into(),
            port: 0,
        }
    }
}

impl HyperswarmSettings {
    /// The defaults, but for what `change` sets.
    #[must_use]
    pub fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut settings = Self::default();
        change(&mut settings);
        settings
    }
}

type Stream = DuplexStream;

/// A node of Hyperswarm's DHT, for one database: peers in JavaScript that join the discovery key of the database are found, and
/// find this one. Connections are encrypted by the secret stream of Hyperswarm, with this node's key. It leaves the DHT when
/// the last handle is dropped.
#[derive(Clone)]
pub struct Hyperswarm {
    node: Arc<DhtNode>,
}

struct DhtNode {
    env: NativeEnv,
    dht: HyperDhtHandle,
    runtime: Arc<RuntimeHandle>,
    key_pair: KeyPair,
    /// Whom connections go to that are accepted.
    joined: Mutex<Option<mpsc::Sender<SwarmEvent<Stream>>>>,
    establishing: Arc<Semaphore>,
}

impl Hyperswarm {
    /// Enters the DHT. Others know this node by the key of the seed.
    ///
    /// # Errors
    ///
    /// No socket, or none of the first nodes answered.
    pub async fn start(env: NativeEnv, identity: &Seed, settings: HyperswarmSettings) -> io::Result<Self> {
        let runtime = UdxRuntime::new().map_err(io::Error::other)?;
        let mut dht = DhtConfig::default();
        (dht.bootstrap, dht.host, dht.port) = (settings.bootstrap, settings.host, settings.port);
        let mut config = HyperDhtConfig::default();
        config.dht = dht;
        let (_, dht, events) = hyperdht::spawn(&runtime, config)
            .await
            .map_err(io::Error::other)?;
        // From here on whoever gives up ends the node of the table, too.
        let node = Arc::new(DhtNode {
            env: env.clone(),
            dht: dht.clone(),
            runtime: runtime.handle(),
            key_pair: KeyPair::from_seed(*identity.as_bytes()),
            joined: Mutex::new(None),
            establishing: Arc::new(Semaphore::new(ESTABLISHING)),
        });
        dht.bootstrapped().await.map_err(io::Error::other)?;
        env.spawn()
            .spawn("hyperswarm", serve(Arc::downgrade(&node), events));
        Ok(Self { node })
    }
}

impl fmt::Debug for Hyperswarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hyperswarm({})", self.public_key())
    }
}

impl Drop for DhtNode {
    fn drop(&mut self) {
        let dht = self.dht.clone();
        self.env.spawn().spawn("leave hyperswarm", async move {
            let _ = dht.destroy().await;
        });
    }
}

impl Swarm for Hyperswarm {
    type Topic = HyperswarmTopic;

    fn public_key(&self) -> PublicKey {
        PublicKey::new(self.node.key_pair.public_key)
    }

    async fn join(&self, topic: DiscoveryKey) -> io::Result<HyperswarmTopic> {
        let (sender, events) = mpsc::channel(BACKLOG);
        {
            let mut joined = self.node.joined.lock().unwrap_or_else(PoisonError::into_inner);
            // Peers have one connection with a key, whatever the topics: two databases would take it from each other.
            if joined.as_ref().is_some_and(|sender| !sender.is_closed()) {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "a Hyperswarm is for one database",
                ));
            }
            *joined = Some(sender.clone());
        }
        let target = hash(&self.node.key_pair.public_key);
        self.node.dht.register_server(&target);
        // Peers may look once, and again after minutes: who joined is to be found from then on.
        announce(&self.node, &topic).await?;
        let relays: Relays = Arc::default();
        let finding = find(Arc::clone(&self.node), topic, sender, Arc::clone(&relays));
        let finding = self.node.env.spawn().spawn("find peers", finding);
        Ok(HyperswarmTopic {
            node: Arc::clone(&self.node),
            topic,
            events,
            relays,
            finding: Some(finding),
        })
    }
}

/// Nodes by which peers say that they are reached.
type Relays = Arc<Mutex<BTreeMap<PublicKey, Vec<Ipv4Peer>>>>;

/// A topic that a [`Hyperswarm`] joined.
pub struct HyperswarmTopic {
    node: Arc<DhtNode>,
    topic: DiscoveryKey,
    events: mpsc::Receiver<SwarmEvent<Stream>>,
    relays: Relays,
    finding: Option<TaskHandle>,
}

impl SwarmTopic for HyperswarmTopic {
    type Stream = Stream;

    async fn next(&mut self) -> io::Result<SwarmEvent<Stream>> {
        let event = self.events.recv().await;
        event.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn dial(
        &self,
        peer: PublicKey,
    ) -> impl Future<Output = io::Result<SwarmStream<Stream>>> + Send + 'static {
        let node = Arc::clone(&self.node);
        let relays = self.relays.lock().unwrap_or_else(PoisonError::into_inner);
        let relays = relays.get(&peer).cloned().unwrap_or_default();
        async move {
            let runtime = UdxRuntime::shared(Arc::clone(&node.runtime));
            let options = ConnectOpts::default();
            let connected =
                node.dht
                    .connect_with_options(&node.key_pair, *peer.as_bytes(), &relays, &runtime, options);
            let connected = connected.await.map_err(io::Error::other)?;
            let (stream, socket) = (connected.stream, connected.socket);
            Ok(framed(&node.env, stream, (socket, runtime)))
        }
    }
}

impl Drop for HyperswarmTopic {
    fn drop(&mut self) {
        if let Some(finding) = self.finding.take() {
            finding.abort();
        }
        let target = hash(&self.node.key_pair.public_key);
        self.node.dht.unregister_server(&target);
        let (node, topic) = (Arc::clone(&self.node), *self.topic.as_bytes());
        self.node.env.spawn().spawn("unannounce", async move {
            for target in [topic, target] {
                let _ = node.dht.unannounce(target, &node.key_pair).await;
            }
        });
    }
}

impl fmt::Debug for HyperswarmTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HyperswarmTopic({})", self.topic)
    }
}

/// Announces this node under a topic, and under its own key, by which those are found that lead to it.
async fn announce(node: &DhtNode, topic: &DiscoveryKey) -> io::Result<()> {
    let target = hash(&node.key_pair.public_key);
    let announced = node.dht.announce(target, &node.key_pair, &[]).await;
    announced.map_err(io::Error::other)?;
    let reached_by = node.dht.current_relay_addresses();
    let announced = node.dht.announce(*topic.as_bytes(), &node.key_pair, &reached_by);
    if announced
        .await
        .map_err(io::Error::other)?
        .closest_nodes
        .is_empty()
    {
        return Err(io::Error::new(
            io::ErrorKind::NotConnected,
            "no node of the DHT was reached",
        ));
    }
    Ok(())
}

/// Looks who else is at a topic, and announces this node anew, again and again.
async fn find(
    node: Arc<DhtNode>,
    topic: DiscoveryKey,
    found: mpsc::Sender<SwarmEvent<Stream>>,
    relays: Relays,
) {
    for round in 1_u32.. {
        if let Ok(results) = node.dht.lookup(*topic.as_bytes()).await {
            let peers: BTreeMap<PublicKey, Vec<Ipv4Peer>> = results
                .into_iter()
                .flat_map(|result| result.peers)
                .map(|peer| (PublicKey::new(peer.public_key), peer.relay_addresses))
                .collect();
            let keys: Vec<PublicKey> = peers.keys().copied().collect();
            *relays.lock().unwrap_or_else(PoisonError::into_inner) = peers;
            for key in keys {
                if found.send(SwarmEvent::Found(key)).await.is_err() {
                    return;
                }
            }
        }
        let pause = REFRESH.pause(round, node.env.entropy().array());
        node.env.clock().sleep(pause).await;
        // What was announced before lasts for a while, and the next round is soon.
        let _ = announce(&node, &topic).await;
    }
}

// Peers who dial.

/// Answers the handshakes of peers who dial, as long as there is a node.
async fn serve(node: Weak<DhtNode>, mut events: mpsc::UnboundedReceiver<ServerEvent>) {
    while let Some(event) = events.recv().await {
        let Some(node) = node.upgrade() else { return };
        match event {
            ServerEvent::PeerHandshake {
                msg,
                peer_address,
                reply_tx,
                ..
            } => {
                let sender = node.joined.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let sender = sender.filter(|sender| !sender.is_closed());
                let permit = Arc::clone(&node.establishing).try_acquire_owned();
                let (Some(sender), Ok(permit)) = (sender, permit) else {
                    drop(reply_tx.send(None));
                    continue;
                };
                let answered = answer(&node, &msg, peer_address).await;
                let (reply, accepted) =
                    answered.map_or((None, None), |(reply, accepted)| (Some(reply), accepted));
                let _ = reply_tx.send(reply);
                let Some(accepted) = accepted else { continue };
                let env = node.env.clone();
                let (clock, tasks) = (*env.clock(), env.spawn().clone());
                tasks.spawn("accept a peer", async move {
                    let established = unless(accepted.establish(&env), clock.sleep(ESTABLISH)).await;
                    if let Some(Ok(stream)) = established {
                        let _ = sender.send(SwarmEvent::Accepted(stream)).await;
                    }
                    drop(permit);
                });
            }
            // A way through the router of this node is opened by its own dials only.
            ServerEvent::PeerHolepunch { reply_tx, .. } => drop(reply_tx.send(None)),
            _ => {}
        }
    }
}

/// A peer whose handshake was answered.
struct AcceptedPeer {
    keys: NoiseWrapResult,
    stream: UdxStream,
    socket: UdxSocket,
    runtime: UdxRuntime,
}

/// The answer to a handshake; and the peer, if it says at which stream it waits.
async fn answer(
    node: &DhtNode,
    message: &HandshakeMessage,
    peer_address: Option<Ipv4Peer>,
) -> Option<(Vec<u8>, Option<AcceptedPeer>)> {
    let mut noise = NoiseWrap::new_responder(NoiseKeypair {
        public_key: node.key_pair.public_key,
        secret_key: node.key_pair.secret_key,
    });
    let theirs = noise.recv(&message.noise).ok()?;
    if theirs.error != 0 {
        return None;
    }
    let socket = node.dht.server_socket().await.ok()??;
    let port = socket.local_addr().await.ok()?.port();
    // Of the same count as the streams of dials, with which it shares the socket.
    let stream_id = hyperdht::alloc_stream_id();
    let reply = noise.send(&NoisePayload {
        version: 1,
        error: 0,
        firewall: 0,
        holepunch: None,
        addresses4: node.dht.noise_addresses4(port).await,
        addresses6: Vec::new(),
        udx: Some(UdxInfo {
            version: 1,
            reusable_socket: true,
            id: u64::from(stream_id),
            seq: 0,
        }),
        secret_stream: Some(SecretStreamInfo { version: 1 }),
        relay_through: None,
        relay_addresses: None,
    });
    let reply = reply.ok()?;
    let keys = noise.finalize().ok()?;
    let (mode, peer_address) = match message.mode {
        MODE_FROM_RELAY | MODE_FROM_SECOND_RELAY => (MODE_FROM_SERVER, peer_address),
        _ => (MODE_REPLY, None),
    };
    let reply = encode_handshake_to_bytes(&HandshakeMessage {
        mode,
        noise: reply,
        peer_address,
        relay_address: None,
    });
    let reply = reply.ok()?;
    let Some(remote_id) = theirs.udx.and_then(|udx| u32::try_from(udx.id).ok()) else {
        return Some((reply, None));
    };
    // Before the peer hears of the stream: its first packet finds it. It may come from wherever, as who does not have the keys
    // gets no further.
    let runtime = UdxRuntime::shared(Arc::clone(&node.runtime));
    let stream = runtime.create_stream(stream_id).await.ok()?;
    let is_waiting = stream.set_firewall_hook(&socket, remote_id, |_, _, _| true);
    is_waiting.ok()?;
    let accepted = AcceptedPeer {
        keys,
        stream,
        socket,
        runtime,
    };
    Some((reply, Some(accepted)))
}

impl AcceptedPeer {
    /// Waits until the peer has shown that it has the same keys.
    async fn establish(self, env: &NativeEnv) -> io::Result<SwarmStream<Stream>> {
        let Self {
            keys,
            stream,
            socket,
            runtime,
        } = self;
        let stream = SecretStream::from_session(
            false,
            stream.into_async_stream(),
            keys.tx,
            keys.rx,
            keys.handshake_hash,
            keys.remote_public_key,
        );
        let stream = stream.await.map_err(io::Error::other)?;
        Ok(framed(env, stream, (socket, runtime)))
    }
}

// From messages to frames.

type Secure = SecretStream<UdxAsyncStream>;

/// The messages of a secret stream as frames of a byte stream. What the stream needs to live is kept with it.
fn framed(env: &NativeEnv, secure: Secure, kept: (UdxSocket, UdxRuntime)) -> SwarmStream<Stream> {
    let (peer, name) = (*secure.remote_public_key(), *secure.handshake_hash());
    let (near, far) = duplex(BUFFER_BYTES);
    let clock = *env.clock();
    let tasks: &NativeTasks = env.spawn();
    tasks.spawn("hyperswarm connection", async move {
        carry(clock, secure, far).await;
        drop(kept);
    });
    SwarmStream {
        peer: PublicKey::new(peer),
        stream: near,
        protection: SwarmProtection::Encrypted(name),
    }
}

/// Carries messages both ways until both have ended, or one failed.
async fn carry(clock: NativeClock, secure: Secure, far: DuplexStream) {
    let (from_peer, to_peer) = secure.into_split();
    let (from_here, to_here) = split(far);
    let mut inward = pin!(inward(clock, from_peer, to_here));
    let mut outward = pin!(outward(from_here, to_peer));
    let (mut is_read, mut is_written) = (false, false);
    let first = poll_fn(|context| {
        if let Poll::Ready(ended) = inward.as_mut().poll(context) {
            is_read = true;
            return Poll::Ready(ended);
        }
        let outward = outward.as_mut().poll(context);
        is_written = outward.is_ready();
        outward
    });
    if first.await.is_none() {
        return;
    }
    // Twice the sleep, for either end: it is polled to its end once.
    if is_read {
        unless(outward, clock.sleep(FAREWELL)).await;
    } else if is_written {
        unless(inward, clock.sleep(FAREWELL)).await;
    }
}

/// Carries what the peer sends. None when that failed.
async fn inward(
    clock: NativeClock,
    from_peer: SecretStreamReadHalf<ReadHalf<UdxAsyncStream>>,
    mut to_here: WriteHalf<DuplexStream>,
) -> Option<()> {
    let mut from_peer = Some(from_peer);
    while let Some(mut half) = from_peer.take() {
        let mut reading = pin!(async move {
            let read = half.read().await;
            (half, read)
        });
        let (half, read) = loop {
            match unless(reading.as_mut(), clock.sleep(SIGN_OF_LIFE)).await {
                Some(read) => break read,
                None => to_here.write_all(&length(0)?).await.ok()?,
            }
        };
        if let Some(message) = read.ok()? {
            to_here.write_all(&length(message.len())?).await.ok()?;
            to_here.write_all(&message).await.ok()?;
            from_peer = Some(half);
        }
    }
    to_here.shutdown().await.ok()
}

/// Carries what the session sends. None when that failed.
async fn outward(
    mut from_here: ReadHalf<DuplexStream>,
    mut to_peer: SecretStreamWriteHalf<WriteHalf<UdxAsyncStream>>,
) -> Option<()> {
    let mut length = [0; 4];
    while from_here.read_exact(&mut length[..3]).await.is_ok() {
        let size = usize::try_from(u32::from_le_bytes(length)).ok()?;
        let mut message = vec![0; size];
        from_here.read_exact(&mut message).await.ok()?;
        to_peer.write(&message).await.ok()?;
    }
    to_peer.shutdown().await.ok()
}

/// The length of a frame. None when no length can express it.
fn length(size: usize) -> Option<[u8; 3]> {
    let [low, middle, high, ..] = u32::try_from(size).ok()?.to_le_bytes();
    (size <= FRAME_MAX).then_some([low, middle, high])
}
