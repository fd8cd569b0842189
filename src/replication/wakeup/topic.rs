//! One topic with all its peers: who uses it, who announces what.
//!
//! Source: spec/replication.md 10. Announcements and lookups are passed on as they come; what to make of them is up to the
//! application.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{WakeupHandshake, WakeupMessage};
use crate::crypto::CoreKey;
use crate::replication::Role;
use crate::replication::capability::{self, HandshakeHash};
use crate::wire::Link;

/// Names one wakeup channel. Chosen by the shell, never used twice for one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPeer(pub u64);

/// An event of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicEvent {
    /// A peer has opened the channel.
    Joined(TopicPeer),
    /// A peer uses the topic now.
    Active(TopicPeer),
    /// A peer does not use the topic any more.
    Inactive(TopicPeer),
    /// A peer asks which cores there are.
    Lookup(TopicPeer),
    /// A peer has these cores, each up to a length, which is a hint and no more.
    Announced {
        /// Who.
        peer: TopicPeer,
        /// What.
        cores: Vec<Link>,
    },
}

/// One topic.
///
/// ```
/// use autobee::crypto::CoreKey;
/// use autobee::replication::Role;
/// use autobee::replication::wakeup::{Topic, TopicEvent, TopicPeer};
///
/// let (key, stream) = (CoreKey::new([7; 32]), [1; 64]);
/// let (mut ours, theirs) = (Topic::new(key, true), Topic::new(key, true));
/// let hello = theirs.handshake(&stream, Role::Responder);
/// assert!(ours.open(TopicPeer(1), &hello, &stream, Role::Responder));
/// assert_eq!(ours.poll_event(), Some(TopicEvent::Joined(TopicPeer(1))));
/// assert_eq!(ours.poll_event(), Some(TopicEvent::Active(TopicPeer(1))));
/// ```
#[derive(Debug)]
pub struct Topic {
    key: CoreKey,
    active: bool,
    peers: BTreeMap<TopicPeer, AnnouncedPeer>,
    events: VecDeque<TopicEvent>,
    /// Peers for which there is news.
    touched: BTreeSet<TopicPeer>,
    /// Cores in one announcement at most.
    announced: usize,
}

#[derive(Debug, Default)]
struct AnnouncedPeer {
    active: bool,
    info_due: bool,
    lookup_due: bool,
    /// The largest length for each core that is still to be announced.
    announce: BTreeMap<CoreKey, Link>,
}

/// Cores in one announcement: well below what a reader refuses.
pub const ANNOUNCED: usize = 10_000;

impl Topic {
    /// A topic without peers. For a database its key is that of the bootstrap core.
    #[must_use]
    pub const fn new(key: CoreKey, active: bool) -> Self {
        Self {
            key,
            active,
            peers: BTreeMap::new(),
            events: VecDeque::new(),
            touched: BTreeSet::new(),
            announced: ANNOUNCED,
        }
    }

    /// How many peers are remembered, by whoever remembers most.
    pub(crate) fn peers_kept(&self) -> usize {
        self.peers.len().max(self.touched.len())
    }

    /// With so many cores in one announcement at most, [`ANNOUNCED`] unless told.
    #[must_use]
    pub const fn announcing(mut self, cores: usize) -> Self {
        self.announced = cores;
        self
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> &CoreKey {
        &self.key
    }

    /// What our side says when it opens the channel on a stream, where it has this role.
    #[must_use]
    pub fn handshake(&self, stream: &HandshakeHash, role: Role) -> WakeupHandshake {
        WakeupHandshake {
            version: 0,
            capability: capability::wakeup(stream, role, &self.key),
            active: self.active,
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<TopicEvent> {
        self.events.pop_front()
    }

    /// True when the peer said that it uses the topic.
    #[must_use]
    pub fn is_active(&self, peer: TopicPeer) -> bool {
        self.peers.get(&peer).is_some_and(|peer| peer.active)
    }

    // Peers.

    /// The channel is open on both sides. False when the peer does not know the key, which it then proved wrongly: the
    /// channel is to be closed, but not the stream. `role` is that of the peer on the stream.
    #[must_use]
    pub fn open(
        &mut self,
        id: TopicPeer,
        theirs: &WakeupHandshake,
        stream: &HandshakeHash,
        role: Role,
    ) -> bool {
        if !capability::same(&theirs.capability, &capability::wakeup(stream, role, &self.key)) {
            return false;
        }
        let active = theirs.active;
        self.peers.insert(
            id,
            AnnouncedPeer {
                active,
                ..AnnouncedPeer::default()
            },
        );
        self.events.push_back(TopicEvent::Joined(id));
        if active {
            self.events.push_back(TopicEvent::Active(id));
        }
        true
    }

    /// The channel is closed.
    pub fn close(&mut self, id: TopicPeer) {
        self.peers.remove(&id);
    }

    /// A message came.
    pub fn receive(&mut self, id: TopicPeer, message: WakeupMessage) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        match message {
            WakeupMessage::Lookup { .. } => self.events.push_back(TopicEvent::Lookup(id)),
            WakeupMessage::Announce(cores) => {
                let event = TopicEvent::Announced { peer: id, cores };
                self.events.push_back(event);
            }
            WakeupMessage::Info { active } if active != peer.active => {
                peer.active = active;
                let event = if active {
                    TopicEvent::Active(id)
                } else {
                    TopicEvent::Inactive(id)
                };
                self.events.push_back(event);
            }
            WakeupMessage::Info { .. } => {}
        }
    }

    // What to tell.

    /// Whether our side uses the topic.
    pub fn set_active(&mut self, active: bool) {
        if self.active != active {
            self.active = active;
            for peer in self.peers.values_mut() {
                peer.info_due = !peer.info_due;
            }
            self.touched.extend(self.peers.keys());
        }
    }

    /// Tells a peer of cores. What is not sent yet is joined with it.
    pub fn announce(&mut self, id: TopicPeer, cores: impl IntoIterator<Item = Link>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        self.touched.insert(id);
        for core in cores {
            let kept = peer.announce.entry(core.key).or_insert(core);
            kept.length = kept.length.max(core.length);
        }
    }

    /// Asks all peers which cores there are.
    pub fn lookup(&mut self) {
        for peer in self.peers.values_mut() {
            peer.lookup_due = true;
        }
        self.touched.extend(self.peers.keys());
    }

    /// The peers that were told something since the last call.
    pub fn take_touched(&mut self) -> BTreeSet<TopicPeer> {
        std::mem::take(&mut self.touched)
    }

    /// True when [`Topic::pull`] gives something.
    #[must_use]
    pub fn has_news(&self, id: TopicPeer) -> bool {
        let peer = self.peers.get(&id);
        peer.is_some_and(|peer| peer.info_due || peer.lookup_due || !peer.announce.is_empty())
    }

    /// The next message to a peer.
    pub fn pull(&mut self, id: TopicPeer) -> Option<WakeupMessage> {
        let active = self.active;
        let peer = self.peers.get_mut(&id)?;
        if std::mem::take(&mut peer.info_due) {
            return Some(WakeupMessage::Info { active });
        }
        if std::mem::take(&mut peer.lookup_due) {
            return Some(WakeupMessage::Lookup { hash: None });
        }
        let cores: Vec<Link> = std::iter::from_fn(|| peer.announce.pop_first())
            .map(|(_, core)| core)
            .take(self.announced)
            .collect();
        (!cores.is_empty()).then_some(WakeupMessage::Announce(cores))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Length;

    fn joined(active: bool) -> Topic {
        let (key, stream) = (CoreKey::new([7; 32]), [1; 64]);
        let hello = Topic::new(key, active).handshake(&stream, Role::Initiator);
        let mut topic = Topic::new(key, true);
        assert!(topic.open(TopicPeer(1), &hello, &stream, Role::Initiator));
        topic
    }

    #[test]
    fn an_echo_or_another_key_proves_nothing() {
        let stream = [1; 64];
        let mut topic = Topic::new(CoreKey::new([7; 32]), true);
        let echo = topic.handshake(&stream, Role::Responder);
        assert!(!topic.open(TopicPeer(1), &echo, &stream, Role::Initiator));
        let other = Topic::new(CoreKey::new([8; 32]), true).handshake(&stream, Role::Initiator);
        assert!(!topic.open(TopicPeer(1), &other, &stream, Role::Initiator));
        assert_eq!(topic.poll_event(), None);
    }

    #[test]
    fn only_changes_are_told() {
        let mut topic = joined(false);
        let peer = TopicPeer(1);
        topic.receive(peer, WakeupMessage::Info { active: false });
        topic.receive(peer, WakeupMessage::Info { active: true });
        topic.receive(peer, WakeupMessage::Info { active: true });
        let events: Vec<_> = std::iter::from_fn(|| topic.poll_event()).collect();
        assert_eq!(events, [TopicEvent::Joined(peer), TopicEvent::Active(peer)]);
        topic.set_active(false);
        topic.set_active(true);
        assert_eq!(topic.pull(peer), None);
    }

    #[test]
    fn announcements_are_joined() {
        let mut topic = joined(true);
        let core = |key, length| Link {
            key: CoreKey::new([key; 32]),
            length: Length(length),
        };
        topic.announce(TopicPeer(1), [core(1, 4), core(2, 9)]);
        topic.announce(TopicPeer(1), [core(1, 2), core(2, 10)]);
        assert_eq!(
            topic.pull(TopicPeer(1)),
            Some(WakeupMessage::Announce(vec![core(1, 4), core(2, 10)]))
        );
        assert_eq!(topic.pull(TopicPeer(1)), None);
    }
}
