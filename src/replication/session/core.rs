//! One core with all sessions that replicate it.

use std::collections::BTreeMap;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;

use super::mailbox::{Mailbox, Why};
use crate::crypto::{CoreKey, DiscoveryKey};
use crate::env::{Clock as _, Env, Mono, Sights, Slip, Spawn as _, watch};
use crate::hypercore::{self, CoreError, CoreEvents, Demand, LogState};
use crate::replication::message::{DataMessage, Message};
use crate::replication::replicator::{PeerId, PeerStatus, Replicator, ReplicatorEvent};
use crate::replication::settings::ReplicatorSettings;

/// A core that peers replicate, as long as one of them does.
pub(super) struct SharedCore<E: Env> {
    pub(super) key: CoreKey,
    pub(super) discovery_key: DiscoveryKey,
    state: Mutex<SharedCoreState<E>>,
    /// Messages that are taken under one lock.
    pull_messages: usize,
    /// Bytes of blocks after which no more are taken under one lock.
    pull_bytes: usize,
    /// There is something to time now.
    timing: watch::Sender<()>,
}

struct SharedCoreState<E: Env> {
    core: hypercore::Core<E>,
    replicator: Replicator,
    peers: BTreeMap<PeerId, Arc<Mailbox>>,
    /// What the replicator was last told of.
    demand: Demand,
    offered: LogState,
    /// Peers are not shown all of it yet, as it is not durable.
    awaits_sync: bool,
    /// When the attendant wakes at the latest.
    armed: Mono,
}

/// Messages to send, and where the channel stands.
pub(super) struct Pulled {
    pub(super) sights: Sights,
    pub(super) messages: Vec<Message>,
    /// Nothing is left for now.
    pub(super) is_drained: bool,
    pub(super) status: Option<PeerStatus>,
    /// The peer has nothing that is to be here and is not.
    pub(super) is_synced: bool,
    /// Leading blocks that are here.
    pub(super) contiguous: u64,
}

impl<E: Env> SharedCore<E> {
    /// Begins to replicate a core.
    pub(super) fn start(
        env: &E,
        core: hypercore::Core<E>,
        settings: &ReplicatorSettings,
    ) -> Result<Arc<Self>, CoreError> {
        let is_followed = core.is_followed()?;
        let settings = ReplicatorSettings {
            follow: settings.follow && is_followed,
            is_owner: core.is_writable() && is_followed,
            ..settings.clone()
        };
        let (changes, wishes, events) = (
            core.changes()?,
            core.peer_access().demand_changes()?,
            core.events()?,
        );
        let offered = core.peer_access().offered_state()?;
        let (pull_messages, pull_bytes) = (settings.pull_messages, settings.pull_bytes);
        let mut replicator = Replicator::new(&core.peer_access(), settings)?;
        replicator.plant(core.planted());
        let shared = Arc::new(Self {
            pull_messages,
            pull_bytes,
            key: core.key(),
            discovery_key: core.discovery_key(),
            state: Mutex::new(SharedCoreState {
                core,
                replicator,
                peers: BTreeMap::new(),
                demand: Demand::default(),
                offered,
                awaits_sync: true,
                armed: Mono(u64::MAX),
            }),
            timing: watch::Sender::new(()),
        });
        let attendant = Attendant {
            env: env.clone(),
            core: Arc::downgrade(&shared),
            changes,
            wishes,
            timing: shared.timing.subscribe(),
            events,
        };
        env.spawn().spawn("replicated core", attendant.run());
        Ok(shared)
    }

    /// A channel is open on both sides.
    pub(super) fn open(
        &self,
        peer: PeerId,
        seeks: bool,
        mailbox: &Arc<Mailbox>,
        now: Mono,
    ) -> Result<(), CoreError> {
        let state = &mut *self.lock();
        sign(&state.core)?;
        state.replicator.open(peer, seeks, &state.core.peer_access())?;
        state.peers.insert(peer, Arc::clone(mailbox));
        state.notice(now)?;
        state.wake();
        Ok(())
    }

    /// The most leading blocks that a peer says it has.
    pub(super) fn announced(&self) -> u64 {
        self.lock().replicator.remote_contiguous_length()
    }

    /// A channel is closed. True when it should be opened again.
    pub(super) fn close(&self, peer: PeerId) -> bool {
        let mut state = self.lock();
        state.peers.remove(&peer);
        let again = state.replicator.close(peer);
        state.wake();
        again
    }

    pub(super) fn receive(&self, peer: PeerId, message: Message, now: Mono) -> Result<(), CoreError> {
        let state = &mut *self.lock();
        state
            .replicator
            .receive(peer, message, &mut state.core.peer_access(), now)
    }

    /// As [`SharedCore::receive`], for data that came one after the other.
    pub(super) fn receive_data(
        &self,
        peer: PeerId,
        data: Vec<DataMessage>,
        now: Mono,
    ) -> Result<(), CoreError> {
        let state = &mut *self.lock();
        state
            .replicator
            .receive_data(peer, data, &mut state.core.peer_access(), now)
    }

    /// True when some peer has as much of the core as is here, and nothing more.
    pub(super) fn has_all_of_a_peer(&self) -> bool {
        let state = self.lock();
        let Ok(offered) = state.core.peer_access().offered_snapshot() else {
            return false;
        };
        let mut peers = state.replicator.peers();
        peers.any(|peer| state.replicator.has_as_much(peer, &offered).unwrap_or(false))
    }

    /// False once the owner of the core was found to contradict itself.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.lock().core.length(), Err(CoreError::Signatures { .. }))
    }

    /// True when the session with this mailbox replicates the core.
    pub(super) fn is_with(&self, mailbox: &Arc<Mailbox>) -> bool {
        let state = self.lock();
        state.peers.values().any(|other| Arc::ptr_eq(other, mailbox))
    }

    /// How many peers are remembered, by whoever remembers most.
    pub(super) fn peers_kept(&self) -> usize {
        let state = self.lock();
        state.peers.len().max(state.replicator.peers_kept())
    }

    /// What proves to a peer that the owner of the core contradicted itself; nothing when it did not.
    pub(super) fn evidence(&self) -> Vec<DataMessage> {
        self.lock().replicator.evidence().to_vec()
    }

    /// How often the core was let go here.
    pub(super) fn times_let_go(&self) -> u64 {
        self.lock().core.peer_access().times_let_go().unwrap_or_default()
    }

    /// True when the core was let go since it was `before` times, and nobody took it up again.
    pub(super) fn is_let_go(&self, before: u64) -> bool {
        let unused = self.lock().core.peer_access().unused_since().ok().flatten();
        unused.is_some_and(|times| times > before)
    }

    /// After messages were received: others may have something to send now.
    pub(super) fn notify_peers(&self, now: Mono) {
        let mut state = self.lock();
        state.pass_on_channels();
        state.wake();
        self.arm(&mut state, now);
    }

    /// Has the attendant look at the time, when something began that may be over before it wakes.
    fn arm(&self, state: &mut SharedCoreState<E>, now: Mono) {
        if let Some(at) = state.replicator.take_deadline(now)
            && at < state.armed
        {
            state.armed = at;
            self.timing.send_modify(|()| {});
        }
    }

    pub(super) fn pull(&self, peer: PeerId, now: Mono) -> Result<Pulled, CoreError> {
        let state = &mut *self.lock();
        let (mut messages, mut bytes, mut is_drained) = (Vec::new(), 0, false);
        let offered = state.core.peer_access().offered_snapshot()?;
        is_drained |= state.core.planted().has(Slip::BoundDrains);
        while messages.len() < self.pull_messages && bytes < self.pull_bytes {
            let Some(message) = state.replicator.pull(peer, &offered, now)? else {
                is_drained = true;
                break;
            };
            bytes += match &message {
                Message::Data(data) => data.proof.block.as_ref().map_or(0, |block| block.value.len()),
                Message::Bitfield(bitfield) => bitfield.words.len() * 4,
                _ => 0,
            };
            messages.push(message);
        }
        let is_synced = state.replicator.is_synced(peer, &offered)?;
        drop(offered);
        let sights = state.replicator.take_sights();
        state.pass_on_channels();
        // Who pulls goes on until nothing is left.
        state.wake_but(Some(peer));
        self.arm(state, now);
        Ok(Pulled {
            sights,
            messages,
            is_drained,
            status: state.replicator.status(peer),
            is_synced,
            contiguous: state.replicator.contiguous_length(),
        })
    }

    /// More of the store is durable now, so perhaps more of this core may be seen.
    pub(super) fn durable(&self, now: Mono) {
        let mut state = self.lock();
        if state.awaits_sync {
            state.refresh(now);
        }
    }

    /// Also after a panic elsewhere: the replicator takes nothing for granted.
    fn lock(&self) -> MutexGuard<'_, SharedCoreState<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Env> SharedCoreState<E> {
    /// Looks at what changed, and ends the channels when the core cannot be read any more.
    fn refresh(&mut self, now: Mono) {
        if let Err(error) = self.notice(now) {
            for (peer, mailbox) in &self.peers {
                mailbox.close_channel(*peer, Why::Failed(error.clone()));
            }
        }
    }

    /// Tells the replicator what changed in the core, or in what is wanted of it.
    fn notice(&mut self, now: Mono) -> Result<(), CoreError> {
        if !self.peers.is_empty() {
            sign(&self.core)?;
        }
        // Before what it is about: what becomes durable in between is looked at again.
        self.awaits_sync = self.core.peer_access().awaits_sync()?;
        let (demand, offered) = (
            self.core.peer_access().demand()?,
            self.core.peer_access().offered_state()?,
        );
        let is_wanted = demand != self.demand;
        if is_wanted {
            self.replicator
                .set_demand(&demand, &self.core.peer_access(), now)?;
            self.demand = demand;
        }
        // Which blocks came from peers the replicator knows best.
        let stable = |state: LogState| LogState {
            contiguous: 0,
            ..state
        };
        let is_changed = stable(offered) != stable(self.offered);
        if is_changed {
            self.replicator.changed(&self.core.peer_access())?;
            self.offered = offered;
        }
        self.pass_on_channels();
        self.wake();
        Ok(())
    }

    /// Passes on what the replicator says about channels.
    fn pass_on_channels(&mut self) {
        while let Some(event) = self.replicator.poll_event() {
            let (peer, why) = match event {
                ReplicatorEvent::Close { peer, fault: None } => (peer, Why::Idle),
                ReplicatorEvent::Close {
                    peer,
                    fault: Some(fault),
                } => (peer, Why::Blame(fault)),
                ReplicatorEvent::Paused { peer, fault } => (peer, Why::Paused(fault)),
                ReplicatorEvent::Contradicted(peer) => (peer, Why::Contradicted),
                _ => continue,
            };
            if let Some(mailbox) = self.peers.get(&peer) {
                mailbox.close_channel(peer, why);
            }
        }
    }

    /// Channels may have something to send.
    fn wake(&mut self) {
        self.wake_but(None);
    }

    fn wake_but(&mut self, own: Option<PeerId>) {
        for peer in self
            .replicator
            .take_ready()
            .into_iter()
            .filter(|peer| Some(*peer) != own)
        {
            if let Some(mailbox) = self.peers.get(&peer) {
                mailbox.due(peer);
            }
        }
    }
}

/// Heads whose signature was put off are signed for whoever looks. Peers see them once they are durable.
fn sign<E: Env>(core: &hypercore::Core<E>) -> Result<(), CoreError> {
    match core.sign_head() {
        Ok(_) | Err(CoreError::NotWritable) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Watches over a core.
struct Attendant<E: Env> {
    env: E,
    core: Weak<SharedCore<E>>,
    changes: watch::Receiver<u64>,
    wishes: watch::Receiver<u64>,
    timing: watch::Receiver<()>,
    events: CoreEvents,
}

/// The reason why the attendant of a core woke.
enum CoreWake {
    Change,
    Timing,
    Time,
    Closed,
}

impl<E: Env> Attendant<E> {
    /// Until nobody replicates the core: closing its session wakes this.
    async fn run(mut self) {
        loop {
            let timeout = {
                let Some(core) = self.core.upgrade() else { return };
                let now = self.env.clock().now();
                let mut state = core.lock();
                let timeout = state.replicator.next_timeout(now);
                state.armed = timeout.unwrap_or(Mono(u64::MAX));
                timeout
            };
            let woken = self.wait(timeout).await;
            let Some(core) = self.core.upgrade() else { return };
            let now = self.env.clock().now();
            let mut state = core.lock();
            match woken {
                CoreWake::Closed => return state.refresh(now),
                CoreWake::Time => {
                    state.replicator.tick(now);
                    state.pass_on_channels();
                    state.wake();
                }
                CoreWake::Timing => continue,
                CoreWake::Change => {}
            }
            self.pass_events(&mut state);
            state.refresh(now);
        }
    }

    /// Tells of truncations before anything else looks at the new fork, and of blocks that were dropped here, so that peers
    /// do not ask for them. Where so much happened that events were missed, they hear which is the first block that is not here;
    /// a peer that asks for a later one is answered so.
    fn pass_events(&mut self, state: &mut SharedCoreState<E>) {
        while let Some(event) = self.events.try_next() {
            let SharedCoreState {
                core,
                replicator,
                offered,
                ..
            } = &mut *state;
            let told = match event {
                hypercore::CoreEvent::Truncate { ancestors, fork } if fork > offered.fork => {
                    replicator.truncated(ancestors.0, &core.peer_access())
                }
                hypercore::CoreEvent::Clear { start, end } => {
                    replicator.cleared(start.0..end.0, &core.peer_access())
                }
                hypercore::CoreEvent::Missed(_) => replicator.cleared_somewhere(&core.peer_access()),
                _ => Ok(()),
            };
            if told.is_err() {
                // The look that follows fails as well, and says so.
                return;
            }
        }
    }

    async fn wait(&mut self, timeout: Option<Mono>) -> CoreWake {
        let at = timeout.unwrap_or(Mono(u64::MAX));
        let mut sleep = pin!(self.env.clock().sleep_until(at));
        let mut change = pin!(self.changes.changed());
        let mut wish = pin!(self.wishes.changed());
        let mut timing = pin!(self.timing.changed());
        poll_fn(|context| {
            for changed in [change.as_mut().poll(context), wish.as_mut().poll(context)] {
                match changed {
                    Poll::Ready(Ok(())) => return Poll::Ready(CoreWake::Change),
                    Poll::Ready(Err(_)) => return Poll::Ready(CoreWake::Closed),
                    Poll::Pending => {}
                }
            }
            if timing.as_mut().poll(context).is_ready() {
                return Poll::Ready(CoreWake::Timing);
            }
            if timeout.is_none() {
                return Poll::Pending;
            }
            sleep.as_mut().poll(context).map(|()| CoreWake::Time)
        })
        .await
    }
}
