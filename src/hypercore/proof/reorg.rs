//! Moves a log to a new fork: finds how many leading blocks both forks share, by asking for few tree nodes.
//!
//! The start is a signed proof of the whole new tree. From there the walk follows the leftmost difference down, until
//! a leaf differs or everything from there on is new anyway. Blocks before it are kept. A node that is not stored
//! here counts as different, so a log that was copied in part may keep less than it could.
//!
//! Source: spec/hypercore.md 7.4.

use std::collections::BTreeMap;

use super::check::Evidence;
use super::{Head, Proof, ProofError, ProofReceiver};
use crate::crypto::Verify;
use crate::hypercore::flat_tree;
use crate::hypercore::manifest::Manifest;
use crate::hypercore::merkle::{MerkleTree, Node, Nodes, ReadError};

/// A move to a new fork that is under way.
#[derive(Debug, Clone)]
pub struct Reorg {
    head: Head,
    manifest: Option<Manifest>,
    nodes: BTreeMap<u64, Node>,
    old_length: u64,
    old_fork: u64,
    ancestors: u64,
    difference: Option<Node>,
    wanted: Option<WantedProofs>,
}

/// Blocks of the new fork, one of whose hash proofs is needed next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedProofs {
    /// First block.
    pub start: u64,
    /// First block after.
    pub end: u64,
    /// How many levels the hash proof has to climb.
    pub nodes: u64,
}

/// A finished move: what to store, and what to throw away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewound {
    /// Length before the move. If the log has another length or fork by now, the move is void.
    pub old_length: u64,
    /// Fork before the move.
    pub old_fork: u64,
    /// Number of leading blocks that are kept.
    pub ancestors: u64,
    /// Nodes to store, after those beyond `ancestors` were removed.
    pub nodes: Vec<Node>,
    /// The manifest, when it was not known before.
    pub manifest: Option<Manifest>,
    /// The new head.
    pub head: Head,
}

impl Reorg {
    /// Starts a move with the proof of a whole log at another fork.
    ///
    /// # Errors
    /// When the proof is wrong, or the local store fails.
    pub fn start<N: Nodes + ?Sized, V: Verify>(
        receiver: &ProofReceiver<'_, N, V>,
        proof: &Proof,
    ) -> Result<Self, ProofError> {
        let mut tree = MerkleTree::empty(proof.fork);
        let Some(upgrade) = &proof.upgrade else {
            return Err(ProofError::Size { length: 0, bytes: 0 });
        };
        let mut evidence = Evidence::default();
        let sub = evidence.subtree(proof)?;
        let prologue = receiver.manifest.and_then(Manifest::prologue);
        if let Some(node) = evidence.upgrade(&mut tree, upgrade, prologue, sub)? {
            return Err(ProofError::Unrequested(node.index));
        }
        let manifest = receiver.authorize(proof.manifest.as_ref(), &tree, upgrade.signature.as_ref())?;

        let mut reorg = Self {
            ancestors: tree.length(),
            head: Head {
                tree,
                signature: upgrade.signature.clone(),
            },
            manifest,
            nodes: BTreeMap::new(),
            old_length: receiver.tree.length(),
            old_fork: receiver.tree.fork(),
            difference: None,
            wanted: None,
        };
        let received: BTreeMap<u64, Node> = evidence.into_nodes().map(|node| (node.index, node)).collect();
        for root in reorg.head.tree.roots().to_vec() {
            if is_shared(receiver, &root)? {
                continue;
            }
            reorg.narrow(root, 0);
            reorg.follow(receiver, &received)?;
            break;
        }
        reorg.nodes.extend(received);
        Ok(reorg)
    }

    /// Takes the hash proof that was wanted. False when it is of no use: it is about another fork or subtree.
    ///
    /// # Errors
    /// When the proof is malformed, or the local store fails.
    pub fn advance<N: Nodes + ?Sized, V: Verify>(
        &mut self,
        receiver: &ProofReceiver<'_, N, V>,
        proof: &Proof,
    ) -> Result<bool, ProofError> {
        let Some(difference) = self.difference.filter(|_| self.wanted.is_some()) else {
            return Ok(false);
        };
        let mut evidence = Evidence::default();
        let top = evidence.subtree(proof)?;
        let fits = proof.fork == self.head.tree.fork()
            && top.is_some_and(|top| top.index == difference.index && top.hash == difference.hash);
        if !fits {
            return Ok(false);
        }
        let received: BTreeMap<u64, Node> = evidence.into_nodes().map(|node| (node.index, node)).collect();
        self.follow(receiver, &received)?;
        self.nodes.extend(received);
        Ok(true)
    }

    /// What to ask for next; nothing when the move is finished.
    #[must_use]
    pub const fn wanted(&self) -> Option<WantedProofs> {
        self.wanted
    }

    /// True when nothing more has to be asked.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.wanted.is_none()
    }

    /// Number of leading blocks that are known to be shared; final when the move is finished.
    #[must_use]
    pub const fn ancestors(&self) -> u64 {
        self.ancestors
    }

    /// The leftmost node of the new fork that is known to differ.
    #[must_use]
    pub fn difference(&self) -> Option<u64> {
        self.difference.map(|node| node.index)
    }

    /// The new head.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// What to store, once the move is finished.
    #[must_use]
    pub fn finish(self) -> Option<Rewound> {
        self.is_finished().then(|| Rewound {
            old_length: self.old_length,
            old_fork: self.old_fork,
            ancestors: self.ancestors,
            nodes: self.nodes.into_values().collect(),
            manifest: self.manifest,
            head: self.head,
        })
    }

    /// Walks down from the difference as far as the received nodes go.
    fn follow<N: Nodes + ?Sized, V: Verify>(
        &mut self,
        receiver: &ProofReceiver<'_, N, V>,
        received: &BTreeMap<u64, Node>,
    ) -> Result<(), ReadError> {
        let Some(start) = self.difference else {
            return Ok(());
        };
        let mut at = start;
        while let Some((left, right)) = flat_tree::children(at.index) {
            let (Some(left), Some(right)) = (received.get(&left), received.get(&right)) else {
                break;
            };
            at = if is_shared(receiver, left)? { *right } else { *left };
        }
        if at.index != start.index {
            let passed = self.wanted.map_or(0, |wanted| wanted.start);
            self.narrow(at, passed);
        }
        Ok(())
    }

    /// Sets the difference, and what is wanted to narrow it further.
    fn narrow(&mut self, difference: Node, wanted_before: u64) {
        let start = flat_tree::first_block(difference.index);
        self.ancestors = start;
        self.difference = Some(difference);
        let depth = flat_tree::depth(difference.index);
        let finished = depth == 0 || start >= self.old_length || wanted_before >= self.old_length;
        self.wanted = (!finished).then(|| WantedProofs {
            start,
            end: flat_tree::end_block(difference.index).min(self.old_length),
            nodes: u64::from(depth),
        });
    }
}

/// True when the old log has this node too.
fn is_shared<N: Nodes + ?Sized, V>(
    receiver: &ProofReceiver<'_, N, V>,
    node: &Node,
) -> Result<bool, ReadError> {
    let known = receiver.tree.node_if_stored(node.index, receiver.nodes)?;
    Ok(known.is_some_and(|known| known.hash == node.hash))
}
