//! A peer that speaks the protocol by its machines, and does with it what it should not.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use autobee::crypto::{CoreKey, Seed, discovery_key};
use autobee::env::{Clock as _, Entropy as _, Env, Mono, Network as _, PeerAddr};
use autobee::hypercore::log::Log;
use autobee::replication::Role;
use autobee::replication::capability::{self, HandshakeHash};
use autobee::replication::connection::{Connection, ConnectionEvent, ConnectionSettings};
use autobee::replication::message::{Message, OpenMessage, PROTOCOL};
use autobee::replication::mux::{self, Channel, OpenChannel};
use autobee::replication::noise::Keys;
use autobee::replication::replicator::PeerId;
use autobee::replication::stream::StreamKeys;
use autobee::replication::wakeup;
use autobee::wire::compact::Encode as _;
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::account::{Account, lock};
use super::hoard::Hoard;
use crate::env::SimEnv;

/// How long a hostile peer waits before it comes again.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a peer that serves a log looks for news of it that came by another line.
const NEWS: Duration = Duration::from_millis(50);

/// What a hostile peer does at the moments at which it can do something.
pub trait Attack<E: Env = SimEnv>: Send + 'static {
    /// The handshake is done.
    fn connected(&mut self, line: &mut HostileStream<E>) {
        line.offer();
    }

    /// The channel of the core is open on both sides.
    fn opened(&mut self, _line: &mut HostileStream<E>) {}

    /// The victim sent a message about the core.
    fn message(&mut self, _line: &mut HostileStream<E>, _message: &Message) {}

    /// A message that an honest peer would send now. Only with [`HostileStream::serve`].
    fn tamper(&mut self, message: Message) -> Vec<Message> {
        vec![message]
    }

    /// Nothing waits to be written. True when something was added.
    fn room(&mut self, _line: &mut HostileStream<E>) -> bool {
        false
    }

    /// When it wants to be asked again whether it has something to add.
    fn next_at(&self) -> Option<Mono> {
        None
    }

    /// Whether it reads what the victim sends, once the channel is open.
    fn reads(&self) -> bool {
        true
    }

    /// Bytes that it sends in place of all that the protocol would, one in each interval.
    fn drip(&self) -> Option<(Duration, Vec<u8>)> {
        None
    }

    /// How many hostile things it did.
    fn misdeeds(&self) -> u64 {
        0
    }
}

/// Its end of a stream.
pub struct HostileStream<E: Env = SimEnv> {
    /// The machine of the stream.
    pub connection: Connection,
    /// Bytes that are sent as they are, after what the connection has to say.
    pub raw: BytesMut,
    /// The core that it is about.
    pub key: CoreKey,
    /// The channel that was opened last.
    pub channel: Option<Channel>,
    /// Bytes of the protocol that are sent yet; none for all.
    pub cut: Option<usize>,
    /// When the stream is dropped.
    pub leaves_at: Option<Mono>,
    honest: Option<(PeerId, Arc<Mutex<Hoard<E>>>)>,
    env: E,
}

impl<E: Env> HostileStream<E> {
    /// The environment of the hostile peer.
    pub const fn env(&self) -> &E {
        &self.env
    }

    /// Offers the core as an honest peer does.
    pub fn offer(&mut self) {
        self.offer_proving(self.key);
    }

    /// Offers the core, and proves to know another key.
    pub fn offer_proving(&mut self, proven: CoreKey) {
        let prove = |stream: &HandshakeHash| {
            let handshake = OpenMessage {
                seeks: true,
                capability: capability::replication(stream, Role::Initiator, &proven),
            };
            handshake.to_bytes().ok()
        };
        self.open(PROTOCOL, prove);
    }

    /// Joins the wakeup topic of the core.
    pub fn join_topic(&mut self) {
        let key = self.key;
        let prove = |stream: &HandshakeHash| {
            let handshake = wakeup::WakeupHandshake {
                version: 0,
                capability: capability::wakeup(stream, Role::Initiator, &key),
                active: true,
            };
            handshake.to_bytes().ok()
        };
        self.open(wakeup::PROTOCOL, prove);
    }

    fn open(&mut self, protocol: &str, prove: impl FnOnce(&HandshakeHash) -> Option<Vec<u8>>) {
        let name = discovery_key(&self.key);
        let Some(handshake) = self.connection.stream().and_then(prove) else {
            return;
        };
        let open = OpenChannel {
            protocol,
            aliases: &[],
            id: name.as_bytes(),
            handshake: &handshake,
            unique: true,
        };
        self.channel = self.connection.open(&open).ok();
    }

    /// Sends a message about the core.
    pub fn send(&mut self, message: &Message) {
        if let Ok(payload) = message.encode() {
            self.send_raw(message.kind(), &payload);
        }
    }

    /// Sends what it likes in place of a message.
    pub fn send_raw(&mut self, kind: u64, payload: &[u8]) {
        if let Some(channel) = self.channel {
            // What no channel takes is not sent.
            let _ = self.connection.send(channel, kind, payload);
        }
    }

    /// Has the whole log, and serves it as an honest peer does.
    pub fn serve(&mut self, log: Log) {
        if let Some(hoard) = Hoard::owned(log, self.env.crypto().clone()) {
            self.share(&Arc::new(Mutex::new(hoard)));
        }
    }

    /// Serves what it got of a log by all its lines, and asks for the rest, as an honest peer does.
    pub(super) fn share(&mut self, hoard: &Arc<Mutex<Hoard<E>>>) {
        let peer = lock(hoard).open();
        self.honest = peer.map(|peer| (peer, Arc::clone(hoard)));
    }

    fn leave(&mut self) {
        if let Some((peer, hoard)) = self.honest.take() {
            lock(&hoard).close(peer);
        }
    }
}

/// Attacks the node at `target` again and again, a second after each end.
pub async fn attack<E: Env, A: Attack<E>>(
    env: E,
    target: impl Into<String>,
    key: CoreKey,
    mut new: impl FnMut() -> A,
    account: Arc<Mutex<Account>>,
) {
    let target = PeerAddr::new(target);
    loop {
        if let Ok(stream) = env.network().dial(&target).await {
            lock(&account).streams += 1;
            let mut attack = new();
            let mut line = HostileStream {
                connection: connection(&env),
                raw: BytesMut::new(),
                key,
                channel: None,
                cut: None,
                leaves_at: None,
                honest: None,
                env: env.clone(),
            };
            // However it ended: it comes again.
            drop(run(&mut line, stream, &mut attack, &account).await);
            line.leave();
        }
        env.clock().sleep(AGAIN).await;
    }
}

fn connection<E: Env>(env: &E) -> Connection {
    let keys = StreamKeys {
        noise: Keys {
            identity: Seed::new(env.entropy().array()),
            ephemeral: Seed::new(env.entropy().array()),
        },
        header: env.entropy().array(),
    };
    let settings = ConnectionSettings::default();
    Connection::new(Role::Initiator, keys, settings, env.clock().now())
}

async fn run<E: Env, A: Attack<E>>(
    line: &mut HostileStream<E>,
    stream: <E::Network as autobee::env::Network>::Stream,
    attack: &mut A,
    account: &Mutex<Account>,
) -> io::Result<()> {
    let env = line.env.clone();
    let mut stream = pin!(stream);
    let drip = attack.drip();
    let mut drops: VecDeque<u8> = drip.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    let (mut buffer, mut output, mut is_open) = (vec![0; 65_536], BytesMut::new(), false);
    let mut counted = 0;
    loop {
        loop {
            let event = match line.connection.poll() {
                Ok(Some(event)) => event,
                Ok(None) => break,
                // The stream is over: what the network garbled, for example. Its times lie in the past, so waiting for them
                // would never end.
                Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            };
            match event {
                ConnectionEvent::Connected { .. } if drip.is_none() => attack.connected(line),
                ConnectionEvent::Connected { .. } => {}
                ConnectionEvent::Channel(mux::MuxEvent::Offered { protocol, id }) => {
                    line.connection.reject(&protocol, &id);
                }
                ConnectionEvent::Channel(mux::MuxEvent::Opened { channel, .. })
                    if Some(channel) == line.channel =>
                {
                    is_open = true;
                    attack.opened(line);
                }
                ConnectionEvent::Channel(mux::MuxEvent::Message { kind, payload, .. }) => {
                    if let Ok(Some(message)) = Message::decode(kind, &payload) {
                        if let Some((peer, hoard)) = &line.honest {
                            lock(hoard).receive(*peer, message.clone(), env.clock().now());
                        }
                        attack.message(line, &message);
                        lock(account).receive(message);
                    }
                }
                ConnectionEvent::Channel(mux::MuxEvent::Closed { rejected, .. }) => {
                    lock(account).rejected += usize::from(rejected);
                    is_open = false;
                }
                ConnectionEvent::Channel(_) => {}
            }
        }
        let now = env.clock().now();
        while let Some((peer, hoard)) = &line.honest
            && is_open
            && let Some(message) = { lock(hoard).pull(*peer, now) }
        {
            for message in attack.tamper(message) {
                line.send(&message);
            }
        }
        if line.connection.tick(now).is_err() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if drip.is_none() {
            let mut made = line.connection.output().split();
            if let Some(left) = &mut line.cut {
                made.truncate(*left);
                *left -= made.len();
            }
            output.extend(made);
            output.extend(line.raw.split());
        }
        let misdeeds = attack.misdeeds();
        lock(account).misdeeds += misdeeds - counted;
        counted = misdeeds;
        if line.leaves_at.is_some_and(|at| at <= now) {
            return Ok(());
        }
        let mut at = line.connection.next_timeout();
        if let Some((interval, _)) = &drip {
            at = at.min(now + *interval);
        }
        if line.honest.is_some() && is_open {
            at = at.min(now + NEWS);
        }
        // What is due already waits for the victim to read.
        let wanted = [attack.next_at(), line.leaves_at].into_iter().flatten();
        if let Some(wanted) = wanted.filter(|at| *at > now).min() {
            at = at.min(wanted);
        }
        let mut sleep = pin!(env.clock().sleep_until(at));
        poll_fn(|context| {
            while !output.is_empty() {
                match stream.as_mut().poll_write(context, &output) {
                    Poll::Ready(Ok(bytes)) => {
                        lock(account).sent += bytes;
                        output.advance(bytes);
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => break,
                }
            }
            if output.is_empty() && is_open && attack.room(line) {
                return Poll::Ready(Ok(()));
            }
            if !is_open || attack.reads() {
                let mut read = ReadBuf::new(&mut buffer);
                if let Poll::Ready(done) = stream.as_mut().poll_read(context, &mut read) {
                    done?;
                    if read.filled().is_empty() {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    line.connection.receive(read.filled(), env.clock().now());
                    return Poll::Ready(Ok(()));
                }
            }
            sleep.as_mut().poll(context).map(|()| {
                output.extend(drops.pop_front());
                Ok(())
            })
        })
        .await?;
    }
}
