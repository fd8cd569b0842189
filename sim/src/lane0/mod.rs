//! Machines of databases, stepped by hand: without executor, network or disk.
//!
//! A [`PeerGroup`] writes a small history: its peers append, and hear of each other when they are told to. A [`Peer`] that
//! reads it is handed the blocks in any order, one by one, and after each of them what its machine made of the blocks is
//! there to be compared.
//!
//! ```
//! use autobee_sim::lane0::{PeerGroup, Reading};
//! use autobee_sim::workload::Op;
//!
//! let mut group = PeerGroup::new(2);
//! let b = group.key(1);
//! group.append(0, &[Op::add_writer(b, 2)]);
//! group.receive_all(1, 0);
//! group.append(1, &[Op::put("x", "1")]);
//! let blocks = group.blocks();
//! let mut reader = group.reader(&Reading::default());
//! for block in blocks.iter().rev() {
//!     reader.hand_over(block);
//! }
//! assert_eq!(reader.order().len(), 2);
//! ```

mod keys;
mod log;
mod peer;

use std::collections::BTreeMap;

use autobee::crypto::CoreKey;
use autobee::hypercore::manifest::Manifest;
use autobee::wire::{Length, Rules};
use bytes::Bytes;

pub use keys::{PEERS_MAX, reader_keys, signatures, writer_keys};
pub use log::HeldLog;
pub use peer::{Peer, Reading};

use crate::workload::Op;

/// One block of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryBlock {
    /// Whose log it is of.
    pub core: CoreKey,
    /// Its place in that log, from zero.
    pub index: u64,
    /// What it holds.
    pub bytes: Bytes,
}

/// Peers that write a history together. The first one is the creator of the database.
pub struct PeerGroup {
    rules: Rules,
    peers: Vec<Peer>,
    keys: Vec<CoreKey>,
    /// Milliseconds since the start.
    now: u64,
}

impl PeerGroup {
    /// So many peers, none of which has written anything.
    ///
    /// # Panics
    ///
    /// When there are more than eight.
    #[must_use]
    pub fn new(peers: u8) -> Self {
        Self::under(Rules::interop(), peers)
    }

    /// The same of a database with these rules.
    #[must_use]
    pub fn under(rules: Rules, peers: u8) -> Self {
        Self::reading(rules, peers, &Reading::default())
    }

    /// The same; its peers take what they are handed in this way.
    #[must_use]
    pub fn reading(rules: Rules, peers: u8, reading: &Reading) -> Self {
        let pairs = writer_keys(usize::from(peers));
        let keys: Vec<CoreKey> = pairs
            .iter()
            .map(|pair| Manifest::single(pair.public).key())
            .collect();
        let peers = pairs
            .into_iter()
            .map(|pair| Peer::writer(keys[0], pair, rules, reading));
        Self {
            rules,
            peers: peers.collect(),
            keys,
            now: 0,
        }
    }

    /// The rules of the database.
    #[must_use]
    pub const fn rules(&self) -> Rules {
        self.rules
    }

    /// The key of a peer's log.
    #[must_use]
    pub fn key(&self, peer: usize) -> CoreKey {
        self.keys[peer]
    }

    /// A peer.
    #[must_use]
    pub fn peer(&self, peer: usize) -> &Peer {
        &self.peers[peer]
    }

    /// A peer, to have it do something.
    pub fn peer_mut(&mut self, peer: usize) -> &mut Peer {
        &mut self.peers[peer]
    }

    /// A peer appends operations as one batch, a second later than the last one.
    ///
    /// # Panics
    ///
    /// When it may not.
    pub fn append(&mut self, peer: usize, ops: &[Op]) {
        self.append_as(peer, ops, false);
    }

    /// The same, of a peer that need not be a member.
    ///
    /// # Panics
    ///
    /// When it may not.
    pub fn append_optimistic(&mut self, peer: usize, ops: &[Op]) {
        self.append_as(peer, ops, true);
    }

    fn append_as(&mut self, peer: usize, ops: &[Op], optimistic: bool) {
        self.now += 1_000;
        let values = ops.iter().map(|op| op.to_value().into()).collect();
        let peer = &mut self.peers[peer];
        peer.set_time(self.now);
        peer.append(values, optimistic);
    }

    /// A peer gets everything that another one has written, which may let it write an acknowledgement.
    pub fn receive_all(&mut self, peer: usize, from: usize) {
        let blocks = self.log(from);
        let peer = &mut self.peers[peer];
        peer.set_time(self.now);
        for block in &blocks {
            peer.hand_over(block);
        }
    }

    /// All blocks of the log of a peer.
    #[must_use]
    pub fn log(&self, peer: usize) -> Vec<HistoryBlock> {
        let core = self.keys[peer];
        let blocks = self.peers[peer].log(&core);
        (0..)
            .zip(blocks)
            .map(|(index, bytes)| HistoryBlock { core, index, bytes })
            .collect()
    }

    /// All blocks that were written, log by log.
    #[must_use]
    pub fn blocks(&self) -> Vec<HistoryBlock> {
        (0..self.peers.len()).flat_map(|peer| self.log(peer)).collect()
    }

    /// Another device with the key pair of a peer, counted from 0, that has no block yet.
    #[must_use]
    pub fn second_device(&self, peer: u8) -> Peer {
        let pair = writer_keys(usize::from(peer) + 1).remove(usize::from(peer));
        let mut device = Peer::writer(self.keys[0], pair, self.rules, &Reading::default());
        device.set_time(self.now);
        device
    }

    /// A peer that writes nothing, and has no block yet.
    #[must_use]
    pub fn reader(&self, reading: &Reading) -> Peer {
        let mut reader = Peer::writer(self.keys[0], reader_keys(), self.rules, reading);
        reader.set_time(self.now);
        reader
    }
}

/// Every order of so many things, each once.
#[must_use]
pub fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![Vec::new()];
    for next in 0..count {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..=order.len()).map(move |at| {
                    let mut longer = order.clone();
                    longer.insert(at, next);
                    longer
                })
            })
            .collect();
    }
    orders
}

/// How much of each log is here without gaps once the first of these blocks came, the first two, and so on.
///
/// Two orders with the same are the same to a machine: a block behind a gap cannot be read.
#[must_use]
pub fn leading(blocks: &[HistoryBlock], order: &[usize]) -> Vec<BTreeMap<CoreKey, Length>> {
    let mut here: BTreeMap<CoreKey, Vec<bool>> = BTreeMap::new();
    for block in blocks {
        here.entry(block.core).or_default().push(false);
    }
    let steps = order.iter().map(|at| {
        let block = &blocks[*at];
        if let Some(log) = here.get_mut(&block.core) {
            log[usize::try_from(block.index).unwrap_or_default()] = true;
        }
        let lengths = here.iter().map(|(core, log)| {
            let leading = log.iter().take_while(|is_here| **is_here).count();
            (*core, Length(leading as u64))
        });
        lengths.collect()
    });
    steps.collect()
}
