//! Which cores of writers a peer is to be told of: those that are not being replicated with it already.
//!
//! Two databases open channels for the cores that they know of. A core that the other side has never heard of is rejected
//! there, and only an announcement makes it ask. The coupler waits until each channel is decided, open or rejected, and
//! announces what is not open.
//!
//! Source: spec/replication.md 11 (package core-coupler 2.0).

use std::collections::{BTreeMap, BTreeSet};

use super::TopicPeer;
use crate::crypto::CoreKey;
use crate::env::{Planted, Slip};
use crate::wire::{Length, Link};

/// What is known of the writers' cores, and of their channels on each stream.
///
/// ```
/// use autobee::crypto::CoreKey;
/// use autobee::replication::wakeup::{Coupler, TopicPeer};
/// use autobee::wire::Length;
///
/// let (writer, peer) = (CoreKey::new([1; 32]), TopicPeer(1));
/// let mut coupler = Coupler::default();
/// coupler.couple(writer, Length(3));
/// coupler.pending(peer, writer);
/// coupler.ready(peer);
/// assert_eq!(coupler.take(peer), []); // perhaps the peer opens it
/// coupler.closed(peer, writer); // it rejected
/// assert_eq!(coupler.take(peer)[0].key, writer);
/// ```
#[derive(Debug, Default)]
pub struct Coupler {
    cores: BTreeMap<CoreKey, Length>,
    peers: BTreeMap<TopicPeer, Stream>,
    /// Streams for which [`Coupler::take`] may give something.
    touched: BTreeSet<TopicPeer>,
    planted: Planted,
}

#[derive(Debug, Default)]
struct Stream {
    /// The bootstrap core is replicated, and the peer uses the topic.
    is_ready: bool,
    pending: BTreeSet<CoreKey>,
    open: BTreeSet<CoreKey>,
    /// Cores that may have to be announced.
    due: BTreeSet<CoreKey>,
}

impl Coupler {
    /// Has it make slips.
    pub(crate) const fn plant(&mut self, planted: Planted) {
        self.planted = planted;
    }

    /// How many peers are remembered, by whoever remembers most.
    pub(crate) fn peers_kept(&self) -> usize {
        self.peers.len().max(self.touched.len())
    }

    // Cores.

    /// A core of a writer is known, up to this length. Peers that lack it are told.
    pub fn couple(&mut self, key: CoreKey, length: Length) {
        let is_new = self.cores.insert(key, length).is_none();
        if is_new && !self.planted.has(Slip::CoupledUntold) {
            for (peer, stream) in self.peers.iter_mut().filter(|(_, stream)| stream.is_ready) {
                stream.due.insert(key);
                self.touched.insert(*peer);
            }
        }
    }

    /// The core is no writer's any more.
    pub fn uncouple(&mut self, key: &CoreKey) {
        self.cores.remove(key);
    }

    // Channels.

    /// We opened a replication channel for the core, and the peer has not answered.
    pub fn pending(&mut self, peer: TopicPeer, key: CoreKey) {
        self.peers.entry(peer).or_default().pending.insert(key);
    }

    /// The channel for the core is open on both sides: syncs tell the peer all it needs.
    pub fn opened(&mut self, peer: TopicPeer, key: CoreKey) {
        let stream = self.peers.entry(peer).or_default();
        stream.pending.remove(&key);
        stream.open.insert(key);
        self.touched.insert(peer);
    }

    /// The channel for the core was rejected or closed.
    pub fn closed(&mut self, peer: TopicPeer, key: CoreKey) {
        if let Some(stream) = self.peers.get_mut(&peer) {
            stream.pending.remove(&key);
            stream.open.remove(&key);
            self.touched.insert(peer);
        }
    }

    /// The stream is gone.
    pub fn lost(&mut self, peer: TopicPeer) {
        self.peers.remove(&peer);
    }

    // Announcements.

    /// The bootstrap core is replicated with the peer, and the peer uses the topic: to be called when either happens and
    /// both are so. All cores are due.
    pub fn ready(&mut self, peer: TopicPeer) {
        let stream = self.peers.entry(peer).or_default();
        stream.is_ready = true;
        if !self.planted.has(Slip::KnownUnannounced) {
            stream.due.extend(self.cores.keys());
        }
        self.touched.insert(peer);
    }

    /// The streams for which [`Coupler::take`] may give something, since the last call.
    pub fn take_touched(&mut self) -> BTreeSet<TopicPeer> {
        std::mem::take(&mut self.touched)
    }

    /// What to announce to a peer now.
    pub fn take(&mut self, peer: TopicPeer) -> Vec<Link> {
        let Some(stream) = self.peers.get_mut(&peer).filter(|stream| stream.is_ready) else {
            return Vec::new();
        };
        let (later, now): (BTreeSet<CoreKey>, BTreeSet<CoreKey>) = std::mem::take(&mut stream.due)
            .into_iter()
            .partition(|key| stream.pending.contains(key));
        if !self.planted.has(Slip::PendingUnannounced) {
            stream.due = later;
        }
        now.into_iter()
            .filter(|key| !stream.open.contains(key))
            .filter_map(|key| {
                let length = *self.cores.get(&key)?;
                Some(Link { key, length })
            })
            .collect()
    }

    /// Everything that is coupled: the answer to a lookup.
    #[must_use]
    pub fn all(&self) -> Vec<Link> {
        let link = |(key, length): (&CoreKey, &Length)| Link {
            key: *key,
            length: *length,
        };
        self.cores.iter().map(link).collect()
    }

    /// The core is longer now. Peers hear of it by its channel, or with the next announcement.
    pub fn grow(&mut self, key: &CoreKey, length: Length) {
        if let Some(known) = self.cores.get_mut(key) {
            *known = length.max(*known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: TopicPeer = TopicPeer(3);

    fn key(n: u8) -> CoreKey {
        CoreKey::new([n; 32])
    }

    fn taken(coupler: &mut Coupler) -> Vec<(CoreKey, u64)> {
        coupler
            .take(PEER)
            .into_iter()
            .map(|link| (link.key, link.length.0))
            .collect()
    }

    #[test]
    fn what_is_replicated_is_not_announced() {
        let mut coupler = Coupler::default();
        for n in 1..4 {
            coupler.couple(key(n), Length(u64::from(n)));
        }
        coupler.opened(PEER, key(1));
        coupler.pending(PEER, key(2));
        assert_eq!(taken(&mut coupler), []);
        coupler.ready(PEER);
        assert_eq!(taken(&mut coupler), [(key(3), 3)]);
        assert_eq!(taken(&mut coupler), []);
        coupler.opened(PEER, key(2));
        assert_eq!(taken(&mut coupler), []);
        // Again when it becomes active again, then without the two.
        coupler.grow(&key(3), Length(7));
        coupler.ready(PEER);
        assert_eq!(taken(&mut coupler), [(key(3), 7)]);
    }

    #[test]
    fn a_new_writer_is_announced_to_those_who_are_ready() {
        let mut coupler = Coupler::default();
        coupler.ready(PEER);
        coupler.couple(key(1), Length(1));
        coupler.couple(key(1), Length(2));
        assert_eq!(taken(&mut coupler), [(key(1), 2)]);
        coupler.lost(PEER);
        coupler.couple(key(2), Length(1));
        assert_eq!(taken(&mut coupler), []);
        assert_eq!(coupler.all().len(), 2);
    }
}
