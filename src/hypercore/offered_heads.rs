//! Sign, sync, send: the one place that says how much of an own log peers may see.
//!
//! A head that was signed here is shown only once it is durable. If it went out earlier and a power cut took it from
//! the disk, its owner would sign other blocks at the same length, and every peer that holds both would close the core
//! for good. Heads that a peer signed are shown at once: losing them costs a download.

use std::collections::VecDeque;

use super::proof::Head;
use crate::store::Seq;

/// At most this many heads wait; more are merged into the last one, which then is shown a little later.
pub(super) const WAITING_MAX: usize = 64;

/// The heads of a log that peers may see, now or once they are durable.
#[derive(Debug, Clone)]
pub(super) struct OfferedHeads {
    current: Head,
    waiting: VecDeque<(Seq, Head)>,
    waiting_max: usize,
}

impl OfferedHeads {
    /// Of an empty log, with so many heads that may wait.
    pub(super) fn new(waiting_max: usize) -> Self {
        Self {
            current: Head::default(),
            waiting: VecDeque::new(),
            waiting_max,
        }
    }

    /// A head that was signed here, with the commit that holds it.
    pub(super) fn signed_here(&mut self, head: Head, seq: Seq) {
        if self.is_full() {
            self.waiting.pop_back();
        }
        self.waiting.push_back((seq, head));
    }

    /// As a slip: the last head that waits becomes this one, and waits for the commit that it waited for.
    pub(super) fn replace_last(&mut self, newest: Head) {
        if let Some((_, head)) = self.waiting.back_mut() {
            *head = newest;
        }
    }

    /// A head that came from a peer.
    pub(super) fn received(&mut self, head: Head) {
        self.waiting.clear();
        self.current = head;
    }

    #[cfg(test)]
    fn head(&mut self, durable: Seq) -> &Head {
        self.advance(durable);
        self.current()
    }

    /// Everything up to `durable` survives a power cut.
    pub(super) fn advance(&mut self, durable: Seq) {
        while let Some((_, head)) = self.waiting.pop_front_if(|(seq, _)| *seq <= durable) {
            self.current = head;
        }
    }

    /// True when a head is not shown before more than `durable` survives a power cut.
    pub(super) fn awaits(&self, durable: Seq) -> bool {
        self.waiting.back().is_some_and(|(seq, _)| *seq > durable)
    }

    /// True when no more heads may wait.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= self.waiting_max
    }

    /// The head to show, as far as it has been advanced.
    pub(super) const fn current(&self) -> &Head {
        &self.current
    }

    /// The newest head, durable or not: what the owner has signed. Peers are never shown it.
    pub(super) fn newest(&self) -> &Head {
        self.waiting.back().map_or(&self.current, |(_, head)| head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypercore::merkle::MerkleTree;

    fn head(fork: u64) -> Head {
        Head {
            tree: MerkleTree::empty(fork),
            signature: None,
        }
    }

    #[test]
    fn a_head_waits_for_its_sync() {
        let mut offer = OfferedHeads::new(WAITING_MAX);
        for seq in 1..=200 {
            offer.signed_here(head(seq), Seq(seq));
        }
        assert_eq!(offer.head(Seq(0)).tree.fork(), 0);
        assert_eq!(offer.head(Seq(5)).tree.fork(), 5);
        assert_eq!(offer.head(Seq(199)).tree.fork(), 63);
        assert_eq!(offer.head(Seq(200)).tree.fork(), 200);
    }
}
