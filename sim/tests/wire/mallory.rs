//! A peer that speaks the protocol by its machines, and does with it what it should not.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use autobee::crypto::{CoreKey, Seed, discovery_key};
use autobee::env::{Clock as _, Entropy as _, Env as _, Network as _, PeerAddr};
use autobee::hypercore::log::Log;
use autobee::replication::Role;
use autobee::replication::capability;
use autobee::replication::connection::{Connection, ConnectionSettings, Event};
use autobee::replication::core::MemoryCore;
use autobee::replication::message::{Handshake, Message, PROTOCOL};
use autobee::replication::mux::{self, Channel, Open};
use autobee::replication::noise::Keys;
use autobee::replication::replicator::{PeerId, Replicator};
use autobee::replication::settings::ReplicatorSettings;
use autobee::replication::stream::StreamKeys;
use autobee::replication::wakeup;
use autobee::wire::compact::Encode as _;
use autobee_sim::{SimCrypto, SimEnv};
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use crate::nodes::{key_pair, lock};

/// What a hostile peer does at the moments at which it can do something.
pub(crate) trait Attack: Send + 'static {
    /// The handshake is done.
    fn connected(&mut self, line: &mut Line) {
        line.offer();
    }

    /// The channel of the core is open on both sides.
    fn opened(&mut self, _line: &mut Line) {}

    /// The victim sent a message about the core.
    fn message(&mut self, _line: &mut Line, _message: &Message) {}

    /// A message that an honest peer would send now. Only with [`Line::serve`].
    fn tamper(&mut self, message: Message) -> Vec<Message> {
        vec![message]
    }

    /// Nothing waits to be written. True when something was added.
    fn room(&mut self, _line: &mut Line) -> bool {
        false
    }

    /// Whether it reads what the victim sends, once the channel is open.
    fn reads(&self) -> bool {
        true
    }

    /// Bytes that it sends in place of all that the protocol would, one in each interval.
    fn drip(&self) -> Option<(Duration, Vec<u8>)> {
        None
    }
}

/// Its end of a stream.
pub(crate) struct Line {
    pub(crate) connection: Connection,
    /// Bytes that are sent as they are, after what the connection has to say.
    pub(crate) raw: BytesMut,
    pub(crate) key: CoreKey,
    pub(crate) channel: Option<Channel>,
    honest: Option<(Replicator, MemoryCore<SimCrypto>)>,
    env: SimEnv,
}

/// What became of it.
#[derive(Default)]
pub(crate) struct Account {
    /// Messages about the core that it got.
    pub(crate) got: Vec<Message>,
    /// Bytes that it got rid of.
    pub(crate) sent: usize,
    /// Streams that it opened.
    pub(crate) streams: usize,
    /// Channels that were rejected.
    pub(crate) rejected: usize,
}

const PEER: PeerId = PeerId(1);

impl Line {
    /// Offers the core as an honest peer does.
    pub(crate) fn offer(&mut self) {
        self.offer_proving(self.key);
    }

    pub(crate) fn offer_proving(&mut self, proven: CoreKey) {
        let handshake = Handshake {
            seeks: true,
            capability: capability::replication(self.connection.stream().unwrap(), Role::Initiator, &proven),
        };
        let (name, bytes) = (discovery_key(&self.key), handshake.to_bytes().unwrap());
        let open = Open {
            protocol: PROTOCOL,
            aliases: &[],
            id: name.as_bytes(),
            handshake: &bytes,
            unique: true,
        };
        self.channel = self.connection.open(&open).ok();
    }

    /// Joins the wakeup topic of the core.
    pub(crate) fn join_topic(&mut self) {
        let stream = self.connection.stream().unwrap();
        let handshake = wakeup::Handshake {
            version: 0,
            capability: capability::wakeup(stream, Role::Initiator, &self.key),
            active: true,
        };
        let (name, bytes) = (discovery_key(&self.key), handshake.to_bytes().unwrap());
        let open = Open {
            protocol: wakeup::PROTOCOL,
            aliases: &[],
            id: name.as_bytes(),
            handshake: &bytes,
            unique: true,
        };
        self.channel = self.connection.open(&open).ok();
    }

    pub(crate) fn send(&mut self, message: &Message) {
        self.send_raw(message.kind(), &message.encode().unwrap());
    }

    pub(crate) fn send_raw(&mut self, kind: u64, payload: &[u8]) {
        if let Some(channel) = self.channel {
            let _ = self.connection.send(channel, kind, payload);
        }
    }

    /// Has the whole log, and serves it as an honest peer does.
    pub(crate) fn serve(&mut self, log: Log) {
        let core = MemoryCore::new(log, self.env.crypto().clone());
        let settings = ReplicatorSettings {
            follow: false,
            ..ReplicatorSettings::default()
        };
        let mut replicator = Replicator::new(&core, settings).unwrap();
        replicator.open(PEER, true, &core).unwrap();
        self.honest = Some((replicator, core));
    }

    /// The log of this name with these blocks, as its owner would make it.
    pub(crate) fn forge(&self, name: &str, blocks: Vec<Bytes>) -> Log {
        let mut log = Log::create(key_pair(&self.env, name));
        log.append(self.env.crypto(), blocks).unwrap();
        log
    }
}

/// Attacks the node at `target` again and again, a second after each end.
pub(crate) async fn attack<A: Attack>(
    env: SimEnv,
    target: &'static str,
    key: CoreKey,
    new: impl Fn() -> A,
    account: Arc<Mutex<Account>>,
) {
    loop {
        if let Ok(stream) = env.network().dial(&PeerAddr::new(target)).await {
            lock(&account).streams += 1;
            drop(run(&env, stream, key, new(), &account).await);
        }
        env.clock().sleep(Duration::from_secs(1)).await;
    }
}

async fn run<A: Attack>(
    env: &SimEnv,
    stream: autobee_sim::SimStream,
    key: CoreKey,
    mut attack: A,
    account: &Mutex<Account>,
) -> io::Result<()> {
    let keys = StreamKeys {
        noise: Keys {
            identity: Seed::new(env.entropy().array()),
            ephemeral: Seed::new(env.entropy().array()),
        },
        header: env.entropy().array(),
    };
    let mut stream = pin!(stream);
    let drip = attack.drip();
    let mut drops: VecDeque<u8> = drip.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    let now = env.clock().now();
    let mut line = Line {
        connection: Connection::new(Role::Initiator, keys, ConnectionSettings::default(), now),
        raw: BytesMut::new(),
        key,
        channel: None,
        honest: None,
        env: env.clone(),
    };
    let (mut buffer, mut output, mut is_open) = (vec![0; 65_536], BytesMut::new(), false);
    loop {
        while let Ok(Some(event)) = line.connection.poll() {
            match event {
                Event::Connected { .. } if drip.is_none() => attack.connected(&mut line),
                Event::Connected { .. } => {}
                Event::Channel(mux::Event::Offered { protocol, id }) => {
                    line.connection.reject(&protocol, &id);
                }
                Event::Channel(mux::Event::Opened { channel, .. }) if Some(channel) == line.channel => {
                    is_open = true;
                    attack.opened(&mut line);
                }
                Event::Channel(mux::Event::Message { kind, payload, .. }) => {
                    if let Ok(Some(message)) = Message::decode(kind, &payload) {
                        if let Some((replicator, core)) = &mut line.honest {
                            let now = env.clock().now();
                            replicator.receive(PEER, message.clone(), core, now).unwrap();
                        }
                        attack.message(&mut line, &message);
                        lock(account).got.push(message);
                    }
                }
                Event::Channel(mux::Event::Closed { rejected, .. }) => {
                    lock(account).rejected += usize::from(rejected);
                    is_open = false;
                }
                Event::Channel(_) => {}
            }
        }
        let now = env.clock().now();
        while let Some((replicator, core)) = &mut line.honest
            && is_open
            && let Some(message) = replicator.pull(PEER, core, now).unwrap()
        {
            for message in attack.tamper(message) {
                line.send(&message);
            }
        }
        if line.connection.tick(now).is_err() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if drip.is_none() {
            output.extend(line.connection.output().split());
            output.extend(line.raw.split());
        }
        let mut at = line.connection.next_timeout();
        if let Some((interval, _)) = &drip {
            at = at.min(now + *interval);
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
            if output.is_empty() && is_open && attack.room(&mut line) {
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
