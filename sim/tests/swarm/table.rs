//! A swarm whose discovery is a table that all replicas of a simulated world share: what a DHT would say. Who is gone stays in
//! it at an old address, until it comes back or is taken out.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use autobee::crypto::{DiscoveryKey, PublicKey};
use autobee::db::{Swarm, SwarmEvent, SwarmProtection, SwarmStream, SwarmTopic};
use autobee::env::{Clock as _, Env, Listener as _, Mono, Network, PeerAddr, Spawn as _, TaskHandle};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// How often the table is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How long who dialled may take to say who it is.
const HELLO: Duration = Duration::from_secs(5);

/// Connections that were accepted and wait for the database.
const BACKLOG: usize = 16;

type Places = BTreeMap<DiscoveryKey, BTreeMap<PublicKey, PeerAddr>>;

/// Where the peers of each topic are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table(Arc<Mutex<Places>>);

impl Table {
    /// A peer is there from now on.
    pub(crate) fn put(&self, topic: DiscoveryKey, peer: PublicKey, at: PeerAddr) {
        let mut places = self.0.lock().unwrap();
        places.entry(topic).or_default().insert(peer, at);
    }

    fn peers(&self, topic: &DiscoveryKey) -> Vec<PublicKey> {
        let places = self.0.lock().unwrap();
        places
            .get(topic)
            .map_or_else(Vec::new, |peers| peers.keys().copied().collect())
    }

    fn place(&self, topic: &DiscoveryKey, peer: &PublicKey) -> Option<PeerAddr> {
        self.0.lock().unwrap().get(topic)?.get(peer).cloned()
    }
}

/// The way of one replica to the others.
pub(crate) struct TableSwarm<E> {
    pub(crate) env: E,
    pub(crate) table: Table,
    pub(crate) own: PublicKey,
    /// Any free port of the replica.
    pub(crate) listen: PeerAddr,
    /// Whether others find this one.
    pub(crate) is_announced: bool,
}

type Stream<E> = <<E as Env>::Network as Network>::Stream;

impl<E: Env> Swarm for TableSwarm<E> {
    type Topic = TableTopic<E>;

    fn public_key(&self) -> PublicKey {
        self.own
    }

    async fn join(&self, topic: DiscoveryKey) -> io::Result<TableTopic<E>> {
        let mut listener = self.env.network().listen(&self.listen).await?;
        if self.is_announced {
            self.table.put(topic, self.own, listener.local_addr());
        }
        let (sender, accepted) = mpsc::channel(BACKLOG);
        let (env, own) = (self.env.clone(), self.own);
        let accepting = self.env.spawn().spawn("accept for a swarm", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, clock) = (sender.clone(), env.clock().clone());
                env.spawn().spawn("answer for a swarm", async move {
                    let answered = within(answer(stream, own), clock.sleep(HELLO)).await;
                    if let Some(Ok(stream)) = answered {
                        let _ = sender.send(stream).await;
                    }
                });
            }
        });
        Ok(TableTopic {
            env: self.env.clone(),
            table: self.table.clone(),
            topic,
            own,
            accepted,
            accepting: Some(accepting),
            found: VecDeque::new(),
            look_at: Mono(0),
        })
    }
}

pub(crate) struct TableTopic<E: Env> {
    env: E,
    table: Table,
    topic: DiscoveryKey,
    own: PublicKey,
    accepted: mpsc::Receiver<SwarmStream<Stream<E>>>,
    accepting: Option<TaskHandle>,
    found: VecDeque<PublicKey>,
    look_at: Mono,
}

impl<E: Env> SwarmTopic for TableTopic<E> {
    type Stream = Stream<E>;

    async fn next(&mut self) -> io::Result<SwarmEvent<Self::Stream>> {
        loop {
            if let Some(peer) = self.found.pop_front() {
                return Ok(SwarmEvent::Found(peer));
            }
            let accepted = within(self.accepted.recv(), self.env.clock().sleep_until(self.look_at));
            match accepted.await {
                Some(Some(stream)) => return Ok(SwarmEvent::Accepted(stream)),
                Some(None) => return Err(io::ErrorKind::NotConnected.into()),
                None => {
                    self.found.extend(self.table.peers(&self.topic));
                    self.look_at = self.env.clock().now() + LOOK;
                }
            }
        }
    }

    fn dial(
        &self,
        peer: PublicKey,
    ) -> impl Future<Output = io::Result<SwarmStream<Self::Stream>>> + Send + 'static {
        let (network, own) = (self.env.network().clone(), self.own);
        let place = self.table.place(&self.topic, &peer);
        async move {
            let place = place.ok_or(io::ErrorKind::NotFound)?;
            call(network.dial(&place).await?, own, peer).await
        }
    }
}

impl<E: Env> Drop for TableTopic<E> {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
        }
    }
}

/// Says who dials, and whom; and hears that it is the one. Nobody lies here: that is what the handshake of a swarm is for.
async fn call<S>(mut stream: S, own: PublicKey, peer: PublicKey) -> io::Result<SwarmStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(own.as_bytes()).await?;
    stream.write_all(peer.as_bytes()).await?;
    let mut answer = [0; 32];
    stream.read_exact(&mut answer).await?;
    Ok(swarm_stream(PublicKey::new(answer), stream))
}

/// Hears who dials, and answers if this is the one that is meant.
async fn answer<S>(mut stream: S, own: PublicKey) -> io::Result<SwarmStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut peer, mut meant) = ([0; 32], [0; 32]);
    stream.read_exact(&mut peer).await?;
    stream.read_exact(&mut meant).await?;
    if meant != *own.as_bytes() {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    stream.write_all(own.as_bytes()).await?;
    Ok(swarm_stream(PublicKey::new(peer), stream))
}

const fn swarm_stream<S>(peer: PublicKey, stream: S) -> SwarmStream<S> {
    SwarmStream {
        peer,
        stream,
        protection: SwarmProtection::None,
    }
}

/// What `future` gives; none when `end` comes first.
async fn within<T>(future: impl Future<Output = T>, end: impl Future<Output = ()>) -> Option<T> {
    let (mut future, mut end) = (pin!(future), pin!(end));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => end.as_mut().poll(context).map(|()| None),
    })
    .await
}
