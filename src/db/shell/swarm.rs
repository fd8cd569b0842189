//! The task of a swarm that was joined: carries out what its policy says.

use std::future::{pending, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use super::connections::Stop;
use super::{Shell, unless};
use crate::crypto::{DiscoveryKey, PublicKey};
use crate::db::swarm::policy::{LinkId, Policy, Verdict};
use crate::db::swarm::{
    JoinedSwarm, Swarm, SwarmEvent, SwarmPeer, SwarmProtection, SwarmSettings, SwarmState, SwarmStream,
    SwarmTopic,
};
use crate::db::{CloseReason, Session};
use crate::env::{Clock as _, Entropy as _, Env, Mono, Spawn as _, TraceEvent, watch};
use crate::error::Error;
use crate::replication::Role;
use crate::replication::stream::Secured;

impl<E: Env> Shell<E> {
    /// Joins a swarm from now on.
    pub(in crate::db) fn join(
        self: &Arc<Self>,
        swarm: impl Swarm,
        settings: SwarmSettings,
    ) -> Result<JoinedSwarm, Error> {
        self.check_open()?;
        let (handle, state) = (watch::Sender::new(()), watch::Sender::new(SwarmState::default()));
        let stop = self.stop(&handle);
        let topic = self.discovery_key();
        let joined = JoinedSwarm::new(topic, state.subscribe(), handle);
        let joining = Swarming {
            env: self.env.clone(),
            shared: Arc::downgrade(self),
            settings,
            policy: Policy::new(swarm.public_key(), settings),
            state,
            dials: Vec::new(),
            links: Vec::new(),
            failures: 0,
            rests_until: Mono(0),
        };
        self.env.spawn().spawn("swarm", joining.run(swarm, topic, stop));
        Ok(joined)
    }
}

/// A dial that is under way.
struct RunningDial<S> {
    peer: PublicKey,
    id: LinkId,
    dialled: Pin<Box<dyn Future<Output = io::Result<SwarmStream<S>>> + Send>>,
}

/// A connection.
struct Linked {
    peer: PublicKey,
    id: LinkId,
    role: Role,
    session: Session,
    /// Both sides agreed on keys.
    is_agreed: bool,
    /// What happens to it next.
    next: Pin<Box<dyn Future<Output = Step> + Send>>,
}

/// What happens to a connection.
enum Step {
    Agreed,
    Ended(CloseReason),
}

/// What happens in a swarm.
enum Happened<S> {
    /// The dial in this place is over.
    Dialled(usize, io::Result<SwarmStream<S>>),
    /// The connection in this place.
    Linked(usize, Step),
    Topic(io::Result<SwarmEvent<S>>),
    /// Somebody may be dialled again.
    Time,
}

/// The database was closed.
struct DatabaseClosed;

struct Swarming<E: Env, S> {
    env: E,
    shared: Weak<Shell<E>>,
    settings: SwarmSettings,
    policy: Policy,
    state: watch::Sender<SwarmState>,
    dials: Vec<RunningDial<S>>,
    links: Vec<Linked>,
    /// How often in a row the swarm failed, and until when it is left alone for that.
    failures: u32,
    rests_until: Mono,
}

impl<E: Env, S: AsyncRead + AsyncWrite + Send + 'static> Swarming<E, S> {
    async fn run<T>(mut self, swarm: T, name: DiscoveryKey, mut stop: Stop)
    where
        T: Swarm,
        T::Topic: SwarmTopic<Stream = S>,
    {
        let mut topic = loop {
            match stop.or(swarm.join(name)).await {
                None => return,
                Some(Ok(topic)) => break topic,
                Some(Err(error)) => {
                    self.swarm_failed("joining a swarm", &error);
                    let clock = self.env.clock();
                    if stop.or(clock.sleep_until(self.rests_until)).await.is_none() {
                        return;
                    }
                }
            }
        };
        self.failures = 0;
        self.rests_until = Mono(0);
        self.state.send_modify(|state| state.is_joined = true);
        loop {
            let now = self.env.clock().now();
            if let Some((peer, id)) = self.policy.turn(now) {
                self.close(&peer, id, false);
            }
            for (peer, id) in self.policy.dial(now) {
                self.dial(&topic, peer, id);
            }
            self.publish();
            let Some(happened) = stop.or(self.next(&mut topic)).await else {
                break;
            };
            if self.handle(happened).is_err() {
                break;
            }
        }
        // The topic goes first: nobody is told a peer that is about to be gone.
        drop(topic);
        for link in &self.links {
            link.session.close();
        }
        self.state.send_modify(|state| {
            state.is_joined = false;
            (state.connections, state.dialling) = (0, 0);
            state.peers.clear();
        });
    }

    fn dial<T: SwarmTopic<Stream = S>>(&mut self, topic: &T, peer: PublicKey, id: LinkId) {
        let (dial, clock) = (topic.dial(peer), self.env.clock().clone());
        let limit = self.settings.dial_limit();
        let dialled = Box::pin(async move {
            let dialled = unless(dial, clock.sleep(limit)).await;
            dialled.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
        });
        self.dials.push(RunningDial { peer, id, dialled });
    }

    /// Waits until something happens. What is under way comes before what others begin.
    async fn next<T: SwarmTopic<Stream = S>>(&mut self, topic: &mut T) -> Happened<S> {
        let clock = self.env.clock();
        let rests = clock.now() < self.rests_until;
        let wake = self.policy.next_dial();
        let wake = wake.into_iter().chain(rests.then_some(self.rests_until)).min();
        let (dials, links) = (&mut self.dials, &mut self.links);
        let mut sleep = pin!(async {
            match wake {
                Some(at) => clock.sleep_until(at).await,
                None => pending().await,
            }
        });
        let mut event = pin!(async {
            match rests {
                true => pending().await,
                false => topic.next().await,
            }
        });
        let ready = |context: &mut Context<'_>| {
            for (place, dial) in dials.iter_mut().enumerate() {
                if let Poll::Ready(dialled) = dial.dialled.as_mut().poll(context) {
                    return Poll::Ready(Happened::Dialled(place, dialled));
                }
            }
            for (place, link) in links.iter_mut().enumerate() {
                if let Poll::Ready(step) = link.next.as_mut().poll(context) {
                    return Poll::Ready(Happened::Linked(place, step));
                }
            }
            if let Poll::Ready(event) = event.as_mut().poll(context) {
                return Poll::Ready(Happened::Topic(event));
            }
            sleep.as_mut().poll(context).map(|()| Happened::Time)
        };
        poll_fn(ready).await
    }

    fn handle(&mut self, happened: Happened<S>) -> Result<(), DatabaseClosed> {
        let now = self.env.clock().now();
        match happened {
            Happened::Dialled(place, dialled) => {
                let RunningDial { peer, id, .. } = self.dials.remove(place);
                let dialled = dialled.and_then(|stream| match stream.peer == peer {
                    true => Ok(stream),
                    false => Err(io::Error::other(format!("{} answered", stream.peer))),
                });
                match dialled {
                    Ok(stream) if self.policy.dialled(&peer, id, now) => {
                        self.link(stream, Role::Initiator, id)?;
                    }
                    Ok(_) => self.state.send_modify(|state| state.full += 1),
                    Err(error) => {
                        let chance = self.env.entropy().array();
                        self.policy.failed(&peer, id, now, chance);
                        self.failed("dialling a peer of a swarm", &format!("{peer}: {error}"));
                    }
                }
            }
            Happened::Linked(place, Step::Agreed) => {
                if let Some(link) = self.links.get_mut(place) {
                    link.is_agreed = true;
                    link.next = ended(link.session.clone());
                }
            }
            Happened::Linked(place, Step::Ended(reason)) => {
                let link = self.links.remove(place);
                let chance = self.env.entropy().array();
                self.policy
                    .ended(&link.peer, link.id, now, link.is_agreed, chance);
                self.failed("a connection of a swarm", &format!("{}: {reason}", link.peer));
            }
            Happened::Topic(Ok(SwarmEvent::Found(peer))) => {
                self.failures = 0;
                self.policy.found(peer);
            }
            Happened::Topic(Ok(SwarmEvent::Accepted(stream))) => {
                self.failures = 0;
                match self.policy.accepted(stream.peer, now) {
                    Verdict::Keep { id, closes } => {
                        if let Some((peer, closed)) = closes {
                            self.close(&peer, closed, peer == stream.peer);
                        }
                        self.link(stream, Role::Responder, id)?;
                    }
                    Verdict::Duplicate => self.state.send_modify(|state| state.duplicates += 1),
                    Verdict::Full => self.state.send_modify(|state| state.full += 1),
                }
            }
            Happened::Topic(Err(error)) => self.swarm_failed("a swarm", &error),
            Happened::Time => {}
        }
        Ok(())
    }

    /// Replicates on a connection.
    fn link(&mut self, connected: SwarmStream<S>, role: Role, id: LinkId) -> Result<(), DatabaseClosed> {
        let SwarmStream {
            peer,
            stream,
            protection,
        } = connected;
        let shared = self.shared.upgrade().ok_or(DatabaseClosed)?;
        let session = match protection {
            SwarmProtection::None => shared.replicate(stream, role),
            SwarmProtection::Encrypted(name) => {
                let secured = Secured {
                    remote: peer,
                    stream: name,
                };
                shared.replicate_secured(stream, role, secured)
            }
        };
        let session = session.map_err(|_| DatabaseClosed)?;
        self.links.push(Linked {
            peer,
            id,
            role,
            session: session.clone(),
            is_agreed: false,
            next: Box::pin(async move {
                if session.reached(|progress| progress.remote.is_some()).await {
                    return Step::Agreed;
                }
                Step::Ended(session.ended().await)
            }),
        });
        Ok(())
    }

    /// Gives up a dial, or closes a connection, that another one takes the place of.
    fn close(&mut self, peer: &PublicKey, id: LinkId, is_duplicate: bool) {
        self.dials.retain(|dial| dial.id != id);
        for link in self.links.extract_if(.., |link| link.id == id) {
            debug_assert!(link.peer == *peer, "names are used once");
            link.session.close();
        }
        self.state.send_modify(|state| match is_duplicate {
            true => state.duplicates += 1,
            false => state.full += 1,
        });
    }

    /// The swarm itself failed: it is left alone for a while.
    fn swarm_failed(&mut self, what: &'static str, error: &io::Error) {
        self.failures = self.failures.saturating_add(1);
        let pause = self
            .settings
            .retry
            .pause(self.failures, self.env.entropy().array());
        self.rests_until = self.env.clock().now() + pause;
        self.failed(what, &error.to_string());
    }

    fn failed(&self, what: &'static str, why: &str) {
        self.env.trace(|| TraceEvent::Failed {
            what: what.into(),
            why: why.into(),
        });
        self.state.send_modify(|state| {
            state.failures += 1;
            state.last_error = Some(format!("{what}: {why}"));
        });
    }

    /// Shows what there is.
    fn publish(&self) {
        let agreed = self.links.iter().filter(|link| link.is_agreed);
        let mut peers: Vec<SwarmPeer> = agreed
            .map(|link| SwarmPeer {
                key: link.peer,
                session: link.session.clone(),
                role: link.role,
            })
            .collect();
        peers.sort_by_key(|peer| peer.key);
        let counts = (self.links.len(), self.policy.known(), self.dials.len());
        let ids = |peers: &[SwarmPeer]| -> Vec<_> {
            let ids = peers
                .iter()
                .map(|peer| (peer.key, peer.session.progress().stream));
            ids.collect()
        };
        self.state.send_if_modified(|state| {
            let before = (state.connections, state.known, state.dialling);
            if before == counts && ids(&state.peers) == ids(&peers) {
                return false;
            }
            (state.connections, state.known, state.dialling) = counts;
            state.peers = peers;
            true
        });
    }
}

/// The end of a connection.
fn ended(session: Session) -> Pin<Box<dyn Future<Output = Step> + Send>> {
    Box::pin(async move { Step::Ended(session.ended().await) })
}
