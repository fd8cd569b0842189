//! Whom to dial, when, and which of two connections to one peer goes: a machine without I/O.
//!
//! A peer has one link at most: a dial that is under way, or a connection. When two meet, as when both sides dial at once,
//! each side decides alone and both come to the same: the dial of the side whose key is larger stays, as in Hyperswarm. A
//! connection that is older than any dial can be is taken to be lost at a side that dials again, and makes way.
//!
//! Who is full still hears a newcomer now and then: the oldest connection that came from outside makes room for it. And who
//! knows more peers than it may dial changes from one to another. Without that, few could all be connected to each other, and
//! others to none of them for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use super::SwarmSettings;
use crate::crypto::PublicKey;
use crate::env::Mono;

/// Names a dial, and the connection that comes of it; or a connection that was accepted. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::db) struct LinkId(u64);

/// The answer to a connection that came from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::db) enum Verdict {
    /// It is kept under this name. What is closed for it: another link with the same peer, or a connection with another one.
    Keep {
        id: LinkId,
        closes: Option<(PublicKey, LinkId)>,
    },
    /// It is closed: there is another one with this peer.
    Duplicate,
    /// It is closed: there are enough.
    Full,
}

/// What there is with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PeerLink {
    None,
    Dialling(LinkId),
    Connected {
        id: LinkId,
        is_dialled: bool,
        since: Mono,
    },
}

#[derive(Debug, Clone)]
struct KnownPeer {
    link: PeerLink,
    /// Whether it was found, and can be dialled therefore.
    is_found: bool,
    /// Dials in a row that came to nothing.
    failures: u32,
    /// It is not dialled before.
    rests_until: Mono,
}

/// The peers of one topic.
#[derive(Debug)]
pub(in crate::db) struct Policy {
    own: PublicKey,
    settings: SwarmSettings,
    peers: BTreeMap<PublicKey, KnownPeer>,
    next: u64,
    /// When a connection made room for another one last.
    made_room: Option<Mono>,
}

impl Policy {
    pub(in crate::db) const fn new(own: PublicKey, settings: SwarmSettings) -> Self {
        Self {
            own,
            settings,
            peers: BTreeMap::new(),
            next: 0,
            made_room: None,
        }
    }

    // What it holds.

    /// Peers that are remembered.
    pub(in crate::db) fn known(&self) -> usize {
        self.peers.len()
    }

    /// Dials that are under way.
    pub(in crate::db) fn dialling(&self) -> usize {
        self.count(|link| matches!(link, PeerLink::Dialling(_)))
    }

    /// Connections.
    pub(in crate::db) fn connected(&self) -> usize {
        self.count(|link| matches!(link, PeerLink::Connected { .. }))
    }

    fn count(&self, is_counted: impl Fn(&PeerLink) -> bool) -> usize {
        self.peers.values().filter(|peer| is_counted(&peer.link)).count()
    }

    fn id(&mut self) -> LinkId {
        let id = LinkId(self.next);
        self.next += 1;
        id
    }

    // What happened.

    /// A peer was found, not necessarily for the first time.
    pub(in crate::db) fn found(&mut self, key: PublicKey) {
        let is_known = self.peers.get(&key).is_some_and(|peer| peer.is_found);
        if key == self.own || is_known {
            return;
        }
        // Those who are connected and were not found are as many as may be connected.
        let found = self.peers.values().filter(|peer| peer.is_found).count();
        if found >= self.settings.peers_max && !self.forget_the_worst() {
            return;
        }
        let new = KnownPeer {
            link: PeerLink::None,
            is_found: true,
            failures: 0,
            rests_until: Mono(0),
        };
        self.peers.entry(key).or_insert(new).is_found = true;
    }

    /// Forgets the peer that was dialled most often for nothing. False when there is none such.
    fn forget_the_worst(&mut self) -> bool {
        let idle = self.peers.iter().filter(|(_, peer)| peer.link == PeerLink::None);
        let worst = idle
            .max_by_key(|(key, peer)| (peer.failures, **key))
            .filter(|(_, peer)| peer.failures > 0);
        let Some(key) = worst.map(|(key, _)| *key) else {
            return false;
        };
        self.peers.remove(&key).is_some()
    }

    /// The dials that are to begin now.
    pub(in crate::db) fn dial(&mut self, now: Mono) -> Vec<(PublicKey, LinkId)> {
        let room = self.room_for_dials();
        let mut due: Vec<(u32, Mono, PublicKey)> = self
            .waiting()
            .filter(|(_, peer)| peer.rests_until <= now)
            .map(|(key, peer)| (peer.failures, peer.rests_until, *key))
            .collect();
        due.sort_unstable();
        let mut dials = Vec::new();
        for (_, _, key) in due.into_iter().take(room) {
            let id = self.id();
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.link = PeerLink::Dialling(id);
                dials.push((key, id));
            }
        }
        dials
    }

    /// Peers that could be dialled.
    fn waiting(&self) -> impl Iterator<Item = (&PublicKey, &KnownPeer)> {
        let peers = self.peers.iter();
        peers.filter(|(_, peer)| peer.is_found && peer.link == PeerLink::None)
    }

    fn dialled_now(&self) -> usize {
        self.count(|link| matches!(link, PeerLink::Connected { is_dialled: true, .. }))
    }

    /// True when as many of the connections were dialled as may be: then one of those makes way for a dial, and else one
    /// that was accepted.
    fn has_all_dials(&self) -> bool {
        self.dialled_now() >= self.settings.connections_max.div_ceil(2)
    }

    /// How many dials may begin. Half of the connections are left to those who dial this one: where everybody is connected
    /// to as many as may be by dials of its own, a newcomer finds no way in.
    fn room_for_dials(&self) -> usize {
        let dialling = self.dialling();
        let dialled = self.dialled_now();
        let in_flight = self.settings.dials_max.saturating_sub(dialling);
        let own = self.settings.connections_max.div_ceil(2);
        let own = own.saturating_sub(dialling + dialled);
        let all = self.settings.connections_max;
        let all = all.saturating_sub(dialling + self.connected());
        in_flight.min(own).min(all)
    }

    /// Whether one more of those who dial this one is taken. As long as peers wait to be dialled half of the connections are
    /// kept for them: whoever knows the topic can dial in with as many keys as it likes.
    fn room_for_accepted(&self) -> bool {
        let all = self.settings.connections_max;
        let dialled = self.dialled_now();
        let dials = dialled + self.dialling() + self.waiting().count();
        let kept = dials.min(all / 2);
        let accepted = self.connected() - dialled;
        accepted < all - kept && self.connected() < all
    }

    /// When [`Policy::turn`] and [`Policy::dial`] are to be asked again, if nothing happens before.
    pub(in crate::db) fn next_dial(&self) -> Option<Mono> {
        if self.room_for_dials() == 0 {
            return self.next_turn();
        }
        self.waiting().map(|(_, peer)| peer.rests_until).min()
    }

    /// The connection that is to be closed now, so that another peer can be dialled in its place: the oldest of those that
    /// were dialled, or of those that were accepted when few were dialled; at most one in a while, when as many are as may be.
    pub(in crate::db) fn turn(&mut self, now: Mono) -> Option<(PublicKey, LinkId)> {
        if self.room_for_dials() > 0 || self.next_turn()? > now {
            return None;
        }
        let (_, key, id) = self.oldest(self.has_all_dials())?;
        self.made_room = Some(now);
        self.let_go(&key, now + self.settings.turn());
        Some((key, id))
    }

    /// When a connection may make way for a dial. None while a dial is under way, or when nobody waits for one.
    fn next_turn(&self) -> Option<Mono> {
        if self.dialling() > 0 {
            return None;
        }
        let turn = self.settings.turn();
        let (since, ..) = self.oldest(self.has_all_dials())?;
        let waiting = self.waiting().map(|(_, peer)| peer.rests_until).min()?;
        let last = self.made_room.map_or(Mono(0), |last| last + turn);
        Some(waiting.max(since + turn).max(last))
    }

    /// The oldest connection that was dialled, or that was accepted.
    fn oldest(&self, dialled: bool) -> Option<(Mono, PublicKey, LinkId)> {
        let connections = self.peers.iter().filter_map(|(key, peer)| match peer.link {
            PeerLink::Connected {
                id,
                is_dialled,
                since,
            } if is_dialled == dialled => Some((since, *key, id)),
            _ => None,
        });
        connections.min()
    }

    /// A dial came to a connection. False when it is to be closed: another one came first.
    pub(in crate::db) fn dialled(&mut self, key: &PublicKey, id: LinkId, now: Mono) -> bool {
        let is_full = self.connected() >= self.settings.connections_max;
        let Some(peer) = self.peers.get_mut(key) else {
            return false;
        };
        if peer.link != PeerLink::Dialling(id) {
            return false;
        }
        if is_full {
            peer.link = PeerLink::None;
            peer.rests_until = now + self.settings.dial_limit();
            return false;
        }
        peer.link = PeerLink::Connected {
            id,
            is_dialled: true,
            since: now,
        };
        true
    }

    /// A peer dialled this one.
    pub(in crate::db) fn accepted(&mut self, key: PublicKey, now: Mono) -> Verdict {
        if key == self.own {
            return Verdict::Duplicate;
        }
        let link = self.peers.get(&key).map_or(PeerLink::None, |peer| peer.link);
        let closes = match link {
            PeerLink::None if self.room_for_accepted() => None,
            PeerLink::None => match self.make_room(now) {
                Some(closed) => Some(closed),
                None => return Verdict::Full,
            },
            // The one whose key is larger dials.
            PeerLink::Dialling(_) if self.own > key => return Verdict::Duplicate,
            PeerLink::Dialling(id) => {
                // The dial took no room of a connection yet.
                let is_full = self.connected() >= self.settings.connections_max;
                if is_full {
                    return Verdict::Full;
                }
                Some((key, id))
            }
            PeerLink::Connected {
                id,
                is_dialled,
                since,
            } => {
                let is_young = now.since(since) < self.settings.dial_limit();
                // Who dials again has lost the one that it dialled before.
                if is_dialled && is_young && self.own > key {
                    return Verdict::Duplicate;
                }
                Some((key, id))
            }
        };
        let id = self.id();
        let link = PeerLink::Connected {
            id,
            is_dialled: false,
            since: now,
        };
        let new = KnownPeer {
            link: PeerLink::None,
            is_found: false,
            failures: 0,
            rests_until: now,
        };
        self.peers.entry(key).or_insert(new).link = link;
        Verdict::Keep { id, closes }
    }

    /// Lets go of the oldest connection that came from outside, at most one in a while. None when none may go.
    fn make_room(&mut self, now: Mono) -> Option<(PublicKey, LinkId)> {
        let turn = self.settings.turn();
        if self.made_room.is_some_and(|last| now.since(last) < turn) {
            return None;
        }
        let oldest = self.oldest(false);
        let (_, key, id) = oldest.filter(|(since, ..)| now.since(*since) >= turn)?;
        self.made_room = Some(now);
        self.let_go(&key, now + turn);
        Some((key, id))
    }

    /// A dial came to nothing. `chance` are eight random bytes.
    pub(in crate::db) fn failed(&mut self, key: &PublicKey, id: LinkId, now: Mono, chance: [u8; 8]) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        if peer.link != PeerLink::Dialling(id) {
            return;
        }
        peer.failures = peer.failures.saturating_add(1);
        let rests_until = now + self.settings.retry.pause(peer.failures, chance);
        if peer.failures >= self.settings.tries_max {
            // Until it is found again.
            self.peers.remove(key);
            return;
        }
        self.let_go(key, rests_until);
    }

    /// A connection ended. `chance` are eight random bytes. One that both sides agreed on, and that lasted, is a success.
    pub(in crate::db) fn ended(
        &mut self,
        key: &PublicKey,
        id: LinkId,
        now: Mono,
        was_agreed: bool,
        chance: [u8; 8],
    ) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let PeerLink::Connected { id: known, since, .. } = peer.link else {
            return;
        };
        if known != id {
            return;
        }
        let lasting = Duration::from_millis(self.settings.retry.pause_ms_max);
        if was_agreed && now.since(since) >= lasting {
            peer.failures = 0;
        }
        // A peer that refuses this one is never forgotten for that alone: others of its connections end, and then it may not.
        let most = self.settings.tries_max.saturating_sub(1).max(1);
        peer.failures = peer.failures.saturating_add(1).min(most);
        let rests_until = now + self.settings.retry.pause(peer.failures, chance);
        self.let_go(key, rests_until);
    }

    /// There is nothing with this peer any more.
    fn let_go(&mut self, key: &PublicKey, rests_until: Mono) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.link = PeerLink::None;
            peer.rests_until = rests_until;
            if !peer.is_found {
                self.peers.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
