//! One wakeup topic with all sessions: which cores of writers there are, and which of them peers have.
//!
//! Source: spec/replication.md 10 and 11.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::mailbox::Mailbox;
use crate::crypto::{CoreKey, DiscoveryKey, discovery_key};
use crate::env::{Planted, Slip, watch};
use crate::replication::Role;
use crate::replication::capability::HandshakeHash;
use crate::replication::wakeup::{Coupler, Topic, TopicEvent, TopicPeer, WakeupHandshake, WakeupMessage};
use crate::wire::{Length, Link};

/// Cores that one peer announced and that were not yet asked about by [`Wakeup::announced`]. More are forgotten: they come
/// again, and crowd out nobody else's.
const HEARD_MAX: usize = 1024;

/// What peers announced: cores, each with a length.
type Heard = BTreeMap<TopicPeer, BTreeMap<CoreKey, Length>>;

/// A topic that this store takes part in, as long as this or a session that joined it lives: peers tell each other there of
/// cores of writers.
///
/// Cores that are [coupled](Wakeup::couple) are announced to peers that do not replicate them, and named when a peer asks.
pub struct Wakeup {
    pub(super) topic: Arc<SharedTopic>,
}

impl Wakeup {
    /// The key of the topic: that of the bootstrap core of a database.
    #[must_use]
    pub fn key(&self) -> CoreKey {
        self.topic.key
    }

    /// A core of a writer is known up to a length, which only grows.
    pub fn couple(&self, key: CoreKey, length: Length) {
        self.topic.change(|state| {
            state.coupler.couple(key, length);
            state.coupler.grow(&key, length);
        });
    }

    /// The core is no writer's any more.
    pub fn uncouple(&self, key: &CoreKey) {
        self.topic.change(|state| state.coupler.uncouple(key));
    }

    /// Whether we use the topic now. Peers announce only to those who do.
    pub fn set_active(&self, is_active: bool) {
        self.topic.change(|state| state.topic.set_active(is_active));
    }

    /// Asks all peers which cores there are.
    pub fn lookup(&self) {
        self.topic.change(|state| state.topic.lookup());
    }

    /// Waits until peers announce cores, and gives them. Lengths are hints and no more.
    pub async fn announced(&self) -> Vec<Link> {
        let mut cores: BTreeMap<CoreKey, Length> = BTreeMap::new();
        for (_, core) in self.announced_by().await {
            let known = cores.entry(core.key).or_default();
            *known = core.length.max(*known);
        }
        let link = |(key, length)| Link { key, length };
        cores.into_iter().map(link).collect()
    }

    /// As [`Wakeup::announced`], each core with everybody who announced it.
    pub async fn announced_by(&self) -> Vec<(TopicPeer, Link)> {
        let mut heard = self.topic.heard.subscribe();
        loop {
            let mut taken = Heard::new();
            heard.mark_unchanged();
            self.topic.heard.send_if_modified(|heard| {
                taken = std::mem::take(heard);
                false
            });
            if !taken.is_empty() {
                let by = |(peer, cores): (TopicPeer, BTreeMap<CoreKey, Length>)| {
                    let link = move |(key, length)| (peer, Link { key, length });
                    cores.into_iter().map(link)
                };
                return taken.into_iter().flat_map(by).collect();
            }
            // The sender lives in `self`, so this cannot fail.
            let _ = heard.changed().await;
        }
    }

    /// True as long as the stream of a peer that announced something is there.
    #[must_use]
    pub fn has_peer(&self, peer: TopicPeer) -> bool {
        self.topic.lock().peers.contains_key(&peer)
    }
}

/// A topic, as its handles and all sessions share it.
pub(super) struct SharedTopic {
    key: CoreKey,
    pub(super) name: DiscoveryKey,
    state: Mutex<TopicState>,
    heard: watch::Sender<Heard>,
    planted: Planted,
}

struct TopicState {
    topic: Topic,
    coupler: Coupler,
    peers: BTreeMap<TopicPeer, SubscribedPeer>,
}

struct SubscribedPeer {
    mailbox: Arc<Mailbox>,
    /// The bootstrap core is replicated with it.
    has_bootstrap: bool,
    /// It asks which cores there are. The answer is made when it can be sent.
    is_asking: bool,
}

/// The stage of a channel of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChannelStage {
    Pending,
    Open,
    Closed,
}

impl SharedTopic {
    pub(super) fn new(key: CoreKey, announced: usize, planted: Planted) -> Self {
        let mut coupler = Coupler::default();
        coupler.plant(planted);
        Self {
            key,
            name: discovery_key(&key),
            state: Mutex::new(TopicState {
                topic: Topic::new(key, true).announcing(announced),
                coupler,
                peers: BTreeMap::new(),
            }),
            heard: watch::Sender::new(Heard::new()),
            planted,
        }
    }

    /// How many peers are remembered, by whoever remembers most.
    pub(super) fn peers_kept(&self) -> usize {
        let state = self.lock();
        let kept = [
            state.peers.len(),
            state.topic.peers_kept(),
            state.coupler.peers_kept(),
            self.heard.borrow().len(),
        ];
        kept.into_iter().max().unwrap_or_default()
    }

    pub(super) fn handshake(&self, stream: &HandshakeHash, role: Role) -> WakeupHandshake {
        self.lock().topic.handshake(stream, role)
    }

    /// A channel is open on both sides. False when the peer does not know the key: only the channel is to be closed.
    pub(super) fn open(
        &self,
        peer: TopicPeer,
        theirs: &WakeupHandshake,
        stream: &HandshakeHash,
        role: Role,
        mailbox: &Arc<Mailbox>,
    ) -> bool {
        self.change(|state| {
            let is_right = state.topic.open(peer, theirs, stream, role);
            if is_right {
                let mailbox = Arc::clone(mailbox);
                let has_bootstrap = false;
                state.peers.insert(
                    peer,
                    SubscribedPeer {
                        mailbox,
                        has_bootstrap,
                        is_asking: false,
                    },
                );
            }
            is_right
        })
    }

    pub(super) fn close(&self, peer: TopicPeer) {
        self.change(|state| {
            state.topic.close(peer);
            state.coupler.lost(peer);
            if !self.planted.has(Slip::LeftAnnouncerStays) {
                state.peers.remove(&peer);
            }
            self.heard.send_if_modified(|heard| {
                heard.remove(&peer);
                false
            });
        });
    }

    pub(super) fn receive(&self, peer: TopicPeer, message: WakeupMessage) {
        self.change(|state| state.topic.receive(peer, message));
    }

    /// A channel of a core on the stream of a peer went on.
    pub(super) fn channel(&self, peer: TopicPeer, core: CoreKey, standing: ChannelStage) {
        self.change(|state| {
            match standing {
                ChannelStage::Pending => state.coupler.pending(peer, core),
                ChannelStage::Open => state.coupler.opened(peer, core),
                ChannelStage::Closed => state.coupler.closed(peer, core),
            }
            if core == self.key
                && let Some(known) = state.peers.get_mut(&peer)
            {
                known.has_bootstrap = standing == ChannelStage::Open;
                state.ready(peer);
            }
        });
    }

    pub(super) fn pull(&self, peer: TopicPeer) -> Option<WakeupMessage> {
        let state = &mut *self.lock();
        if let Some(message) = state.topic.pull(peer) {
            return Some(message);
        }
        let known = state.peers.get_mut(&peer)?;
        if std::mem::take(&mut known.is_asking) {
            state.topic.announce(peer, state.coupler.all());
        }
        state.topic.pull(peer)
    }

    fn change<T>(&self, change: impl FnOnce(&mut TopicState) -> T) -> T {
        let mut state = self.lock();
        let changed = change(&mut state);
        while let Some(event) = state.topic.poll_event() {
            match event {
                TopicEvent::Active(peer) => state.ready(peer),
                TopicEvent::Lookup(peer) => {
                    if let Some(known) = state.peers.get_mut(&peer) {
                        known.is_asking = true;
                        known.mailbox.due_topic(peer);
                    }
                }
                TopicEvent::Announced { peer, cores } => self.note_announced(peer, &cores),
                TopicEvent::Joined(_) | TopicEvent::Inactive(_) => {}
            }
        }
        let TopicState {
            topic,
            coupler,
            peers,
        } = &mut *state;
        for id in coupler.take_touched() {
            topic.announce(id, coupler.take(id));
        }
        for id in topic.take_touched() {
            if let Some(peer) = peers.get(&id)
                && topic.has_news(id)
            {
                peer.mailbox.due_topic(id);
            }
        }
        drop(state);
        changed
    }

    fn note_announced(&self, peer: TopicPeer, cores: &[Link]) {
        if cores.is_empty() {
            return;
        }
        self.heard.send_if_modified(|heard| {
            let known = heard.entry(peer).or_default();
            if self.planted.has(Slip::AnnouncementReplaces) {
                known.clear();
            }
            for core in cores {
                if known.len() < HEARD_MAX || known.contains_key(&core.key) {
                    let length = known.entry(core.key).or_default();
                    *length = core.length.max(*length);
                }
            }
            true
        });
    }

    fn lock(&self) -> MutexGuard<'_, TopicState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TopicState {
    fn ready(&mut self, peer: TopicPeer) {
        let has_bootstrap = self.peers.get(&peer).is_some_and(|peer| peer.has_bootstrap);
        if has_bootstrap && self.topic.is_active(peer) {
            self.coupler.ready(peer);
        }
    }
}

impl std::fmt::Debug for Wakeup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wakeup({})", self.topic.key)
    }
}
