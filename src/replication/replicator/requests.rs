//! Our requests: their numbers, and which are on their way.
//!
//! Source: spec/replication.md 6.6. Numbers are those of the core, shared by all its peers, because that is what the
//! original does.

use std::collections::{BTreeMap, BTreeSet};

use super::PeerId;
use crate::env::Mono;
use crate::replication::message::RequestMessage;

/// A request that a peer has not answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct InFlight {
    pub(super) peer: PeerId,
    pub(super) message: RequestMessage,
    pub(super) sent: Mono,
    /// Position among all requests: what was sent later has a larger one.
    pub(super) order: u64,
}

/// Cancelled requests of one peer whose numbers are used again.
const CANCELLED_MAX: usize = 1024;

/// All requests of one core.
#[derive(Debug, Default)]
pub(super) struct Requests {
    in_flight: BTreeMap<u64, InFlight>,
    /// Block, and number of the request.
    blocks: BTreeSet<(u64, u64)>,
    /// How many requests each peer has.
    peers: BTreeMap<PeerId, usize>,
    /// Position among all requests, and number.
    orders: BTreeMap<u64, u64>,
    free: Vec<u64>,
    highest: u64,
    next_order: u64,
    /// Numbers of cancelled requests, whose answers may still come.
    cancelled: BTreeMap<PeerId, Vec<(u64, u64)>>,
}

impl Requests {
    /// Gives the request a number.
    pub(super) fn start(&mut self, peer: PeerId, mut message: RequestMessage, now: Mono) -> RequestMessage {
        let id = self.free.pop().unwrap_or_else(|| {
            self.highest += 1;
            self.highest
        });
        message.id = id;
        if let Some(block) = message.request.block {
            self.blocks.insert((block.index, id));
        }
        let order = self.next_order;
        self.next_order += 1;
        *self.peers.entry(peer).or_default() += 1;
        self.orders.insert(order, id);
        self.in_flight.insert(
            id,
            InFlight {
                peer,
                message,
                sent: now,
                order,
            },
        );
        message
    }

    /// The request that an answer of `peer` is for. It is over now.
    pub(super) fn answered(&mut self, peer: PeerId, id: u64) -> Option<InFlight> {
        let order = self
            .in_flight
            .get(&id)
            .filter(|request| request.peer == peer)?
            .order;
        let request = self.remove(id);
        self.free.push(id);
        // An answer to something newer: those of cancelled requests are not under way any more.
        if let Some(cancelled) = self.cancelled.get_mut(&peer) {
            let (over, kept) = std::mem::take(cancelled)
                .into_iter()
                .partition(|(_, at)| *at <= order);
            *cancelled = kept;
            let over: Vec<(u64, u64)> = over;
            self.free.extend(over.into_iter().map(|(id, _)| id));
        }
        request
    }

    /// Gives a request up. The peer is to be told.
    pub(super) fn cancel(&mut self, id: u64) -> Option<InFlight> {
        let request = self.remove(id)?;
        let cancelled = self.cancelled.entry(request.peer).or_default();
        // Beyond it numbers are given up: there are enough.
        if cancelled.len() < CANCELLED_MAX {
            cancelled.push((id, self.next_order));
        }
        Some(request)
    }

    /// Gives a request up whose number goes to the next one: a slip.
    pub(super) fn cancel_at_once(&mut self, id: u64) -> Option<InFlight> {
        let request = self.remove(id)?;
        self.free.push(id);
        Some(request)
    }

    /// The peer is gone: its requests, and their numbers.
    pub(super) fn close(&mut self, peer: PeerId) -> Vec<InFlight> {
        let cancelled = self.cancelled.remove(&peer).unwrap_or_default();
        self.free.extend(cancelled.into_iter().map(|(id, _)| id));
        let ids = self.of_peer(peer);
        self.free.extend(&ids);
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    pub(super) fn get(&self, id: u64) -> Option<&InFlight> {
        self.in_flight.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &InFlight)> {
        self.in_flight.iter().map(|(id, request)| (*id, request))
    }

    pub(super) fn len(&self) -> usize {
        self.in_flight.len()
    }

    /// The peers that have requests.
    pub(super) fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.peers.keys().copied()
    }

    /// The request that waits for the longest time.
    pub(super) fn oldest(&self) -> Option<&InFlight> {
        let (_, id) = self.orders.first_key_value()?;
        self.in_flight.get(id)
    }

    pub(super) fn of_peer(&self, peer: PeerId) -> Vec<u64> {
        self.iter()
            .filter(|(_, request)| request.peer == peer)
            .map(|(id, _)| id)
            .collect()
    }

    /// The requests for a block.
    pub(super) fn of_block(&self, index: u64) -> impl Iterator<Item = u64> {
        self.blocks
            .range((index, 0)..=(index, u64::MAX))
            .map(|(_, id)| *id)
    }

    pub(super) fn is_asked(&self, index: u64) -> bool {
        self.of_block(index).next().is_some()
    }

    /// True when some peer was asked for the tree node of a block.
    pub(super) fn is_sized(&self, index: u64) -> bool {
        let leaf = index.saturating_mul(2);
        let mut asked = self.in_flight.values().map(|request| request.message.request);
        asked.any(|asked| asked.hash.is_some_and(|hash| hash.index == leaf))
    }

    fn remove(&mut self, id: u64) -> Option<InFlight> {
        let request = self.in_flight.remove(&id)?;
        self.orders.remove(&request.order);
        if let Some(count) = self.peers.get_mut(&request.peer) {
            *count -= 1;
            if *count == 0 {
                self.peers.remove(&request.peer);
            }
        }
        if let Some(block) = request.message.request.block {
            self.blocks.remove(&(block.index, id));
        }
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_cancelled_request_waits_for_an_answer_to_a_later_one() {
        let mut requests = Requests::default();
        let peer = PeerId(1);
        let ask = |requests: &mut Requests| requests.start(peer, RequestMessage::default(), Mono(0)).id;
        assert_eq!((ask(&mut requests), ask(&mut requests)), (1, 2));
        requests.cancel(1).unwrap();
        assert!(requests.answered(peer, 1).is_none());
        requests.answered(peer, 2).unwrap();
        // Request 2 was sent before the cancel: its answer says nothing.
        assert_eq!(ask(&mut requests), 2);
        requests.answered(peer, 2).unwrap();
        assert_eq!((ask(&mut requests), ask(&mut requests)), (1, 2));
        assert!(requests.answered(PeerId(2), 1).is_none());
    }
}
