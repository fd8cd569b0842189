//! Verifies a proof against what is known of a log.
//!
//! The size of a leaf is part of its hash, and the size of a parent part of its own, but a sibling that a peer only
//! lists may carry a wrong size until its children are seen: what is bound is the sum of two siblings. So a listed
//! node never replaces a stored one, while a node computed from what is below it does, which heals such a size.
//!
//! Source: spec/hypercore.md 7.3.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Proof, ProofError, UpgradeProof};
use crate::crypto::{CoreKey, PublicKey, Verify};
use crate::hypercore::flat_tree;
use crate::hypercore::manifest::{Manifest, Prologue};
use crate::hypercore::merkle::{self, MerkleTree, Node, Nodes, ReadError};
use crate::wire::compact::UINT_MAX;

/// A log as far as it is known, against which proofs are checked.
#[derive(Debug)]
pub struct ProofReceiver<'a, N: ?Sized, V> {
    /// Key of the core.
    pub key: &'a CoreKey,
    /// Its manifest, once known.
    pub manifest: Option<&'a Manifest>,
    /// The known tree.
    pub tree: &'a MerkleTree,
    /// Its stored nodes.
    pub nodes: &'a N,
    /// Checks signatures.
    pub verifier: &'a V,
}

/// What a valid proof adds. To be stored in one step, and only while the log still has the length and fork against
/// which it was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Nodes to store.
    pub nodes: Vec<Node>,
    /// A block to store, with its index.
    pub block: Option<(u64, Bytes)>,
    /// The manifest, when it was not known before.
    pub manifest: Option<Manifest>,
    /// The new head, when the log became longer.
    pub head: Option<Head>,
}

/// A tree with the signature of its owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// The tree.
    pub tree: MerkleTree,
    /// The signature as stored. None for the empty log and for logs that are fixed by their manifest.
    pub signature: Option<Bytes>,
}

impl<N: Nodes + ?Sized, V: Verify> ProofReceiver<'_, N, V> {
    /// Verifies a proof. `None`: it is about another fork, and says nothing here.
    ///
    /// # Errors
    /// When the proof is wrong, or the local store fails.
    pub fn check(&self, proof: &Proof) -> Result<Option<Accepted>, ProofError> {
        self.check_after(proof, &mut Before::default())
    }

    /// As [`ProofReceiver::check`] for each of several proofs without upgrades. What is accepted of one counts as stored for
    /// those after it, so all of it is to be stored together.
    ///
    /// Proofs of neighbours share most of what stands above the blocks: it is hashed and looked up only once.
    pub fn check_all(&self, proofs: &[&Proof]) -> Vec<Result<Option<Accepted>, ProofError>> {
        let mut before = Before::default();
        let blocks = proofs.iter().filter_map(|proof| proof.block.as_ref());
        let blocks: Vec<(u64, &[u8])> = blocks.map(|block| (block.index, &*block.value)).collect();
        let mut leaves = merkle::leaves(&blocks).into_iter();
        let check = |proof: &&Proof| {
            before.leaf = proof.block.as_ref().and_then(|_| leaves.next());
            let checked = self.check_after(proof, &mut before);
            if let Ok(Some(accepted @ Accepted { head: None, .. })) = &checked {
                let nodes = accepted.nodes.iter().map(|node| (node.index, *node));
                before.nodes.extend(nodes);
            }
            checked
        };
        proofs.iter().map(check).collect()
    }

    fn check_after(&self, proof: &Proof, before: &mut Before) -> Result<Option<Accepted>, ProofError> {
        if proof.fork != self.tree.fork() {
            return Ok(None);
        }
        let mut evidence = Evidence {
            hashed: std::mem::take(&mut before.hashed),
            leaf: before.leaf.take(),
            ..Evidence::default()
        };
        let checked = self.check_with(proof, &mut evidence, before);
        before.hashed = evidence.hashed;
        checked.map(Some)
    }

    fn check_with(
        &self,
        proof: &Proof,
        evidence: &mut Evidence,
        before: &mut Before,
    ) -> Result<Accepted, ProofError> {
        let mut unproven = evidence.subtree(proof)?;
        let mut tree = self.tree.clone();
        if let Some(upgrade) = &proof.upgrade {
            let prologue = self.manifest.and_then(Manifest::prologue);
            unproven = evidence.upgrade(&mut tree, upgrade, prologue, unproven)?;
        }
        if let Some(node) = unproven {
            let known = self
                .known(node.index, before)?
                .ok_or(ProofError::Unrooted(node.index))?;
            if known.hash != node.hash {
                return Err(ProofError::Checksum(node.index));
            }
        }

        let upgraded = tree.length() > self.tree.length();
        let (manifest, head) = if upgraded {
            let signature = proof
                .upgrade
                .as_ref()
                .and_then(|upgrade| upgrade.signature.clone());
            let manifest = self.authorize(proof.manifest.as_ref(), &tree, signature.as_ref())?;
            (manifest, Some(Head { tree, signature }))
        } else {
            (self.learn(proof.manifest.as_ref())?, None)
        };
        Ok(Accepted {
            nodes: self.worth_storing(&evidence.nodes, before)?,
            block: proof
                .block
                .as_ref()
                .map(|block| (block.index, block.value.clone())),
            manifest,
            head,
        })
    }

    /// Checks the signature of a longer or other tree, and gives the manifest if it was not known.
    pub(in crate::hypercore) fn authorize(
        &self,
        received: Option<&Manifest>,
        tree: &MerkleTree,
        signature: Option<&Bytes>,
    ) -> Result<Option<Manifest>, ProofError> {
        let learnt = match (self.manifest, received) {
            (Some(_), _) => None,
            (None, Some(manifest)) if manifest.key() == *self.key || manifest.is_compat(self.key) => {
                Some(manifest.clone())
            }
            (None, Some(_)) => return Err(ProofError::Manifest),
            // Nobody sends the manifest of a compat core: it follows from the key.
            (None, None) => Some(Manifest::single(PublicKey::new(*self.key.as_bytes()))),
        };
        let manifest = self.manifest.or(learnt.as_ref()).ok_or(ProofError::Manifest)?;
        let signature = signature.map(Bytes::as_ref);
        manifest
            .verify(self.verifier, self.key, &tree.head(), signature)
            .map_err(|reason| ProofError::Signature {
                length: tree.length(),
                fork: tree.fork(),
                reason,
            })?;
        Ok(learnt)
    }

    /// A manifest outside of an upgrade must be the one that the key is the hash of.
    fn learn(&self, received: Option<&Manifest>) -> Result<Option<Manifest>, ProofError> {
        match (self.manifest, received) {
            (None, Some(manifest)) if manifest.key() == *self.key => Ok(Some(manifest.clone())),
            (None, Some(_)) => Err(ProofError::Manifest),
            _ => Ok(None),
        }
    }

    fn worth_storing(&self, nodes: &[(Node, From)], before: &mut Before) -> Result<Vec<Node>, ProofError> {
        let mut new = Vec::with_capacity(nodes.len());
        for (node, source) in nodes {
            let known = self.known(node.index, before)?;
            let is_new = match source {
                From::Listed => known.is_none(),
                From::Computed => known != Some(*node),
            };
            if is_new {
                new.push(*node);
            }
        }
        Ok(new)
    }

    /// A node that is stored, or will be. What was read is kept for the proofs that follow.
    fn known(&self, index: u64, before: &mut Before) -> Result<Option<Node>, ReadError> {
        if let Some(node) = before.nodes.get(&index) {
            return Ok(Some(*node));
        }
        let known = self.tree.node_if_stored(index, self.nodes)?;
        if let Some(node) = known {
            before.nodes.insert(index, node);
        }
        Ok(known)
    }
}

/// The nodes that earlier proofs of a row showed.
#[derive(Debug, Default)]
struct Before {
    /// Nodes that are stored, or will be together with what is checked now.
    nodes: BTreeMap<u64, Node>,
    hashed: Hashed,
    /// The leaf of the block of the next proof.
    leaf: Option<Node>,
}

/// Parents that were computed, each with its children.
#[derive(Debug, Default)]
struct Hashed(BTreeMap<u64, [Node; 3]>);

impl Hashed {
    /// As [`merkle::parent`]. The same children are hashed once only.
    fn parent(&mut self, one: &Node, other: &Node) -> Node {
        let index = flat_tree::parent(one.index);
        match self.0.get(&index) {
            Some([first, second, parent])
                if (first, second) == (one, other) || (first, second) == (other, one) =>
            {
                *parent
            }
            _ => {
                let parent = merkle::parent(one, other);
                self.0.insert(index, [*one, *other, parent]);
                parent
            }
        }
    }
}

/// The origin of a known node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// The peer says so; bound only by the hash above it.
    Listed,
    /// Hashed here.
    Computed,
}

/// The nodes of a proof, in the order in which they turned up.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    nodes: Vec<(Node, From)>,
    hashed: Hashed,
    /// The leaf of the block, when it was hashed together with others.
    leaf: Option<Node>,
}

impl Evidence {
    /// All nodes.
    pub(super) fn into_nodes(self) -> impl Iterator<Item = Node> {
        self.nodes.into_iter().map(|(node, _)| node)
    }

    /// Computes the top node of the block, hash and seek parts. None when there is no such part.
    pub(super) fn subtree(&mut self, proof: &Proof) -> Result<Option<Node>, ProofError> {
        let sought = match &proof.seek {
            Some(seek) if !seek.nodes.is_empty() => {
                let first = seek.nodes[0].index;
                Some(self.climb(first, None, Queue::new(&seek.nodes, None))?)
            }
            _ => None,
        };
        match (&proof.block, &proof.hash) {
            (Some(block), _) => {
                let leaf = self.leaf.take();
                let leaf = leaf.unwrap_or_else(|| merkle::leaf(block.index, &block.value));
                let queue = Queue::new(&block.nodes, sought);
                self.climb(leaf.index, Some(leaf), queue).map(Some)
            }
            (None, Some(hash)) => {
                let queue = Queue::new(&hash.nodes, sought);
                self.climb(hash.index, None, queue).map(Some)
            }
            (None, None) => Ok(sought),
        }
    }

    /// Extends `tree` by an upgrade. Gives back `sub` unless the upgrade used it up, which proves it.
    pub(super) fn upgrade(
        &mut self,
        tree: &mut MerkleTree,
        upgrade: &UpgradeProof,
        prologue: Option<&Prologue>,
        sub: Option<Node>,
    ) -> Result<Option<Node>, ProofError> {
        if let Some(prologue) = prologue
            && upgrade.start < prologue.length
            && (upgrade.start != 0 || upgrade.length < prologue.length)
        {
            return Err(ProofError::Prologue {
                length: prologue.length,
            });
        }
        let target = upgrade.start.saturating_add(upgrade.length);
        let mut queue = Queue::new(&upgrade.nodes, sub);
        let mut added = Vec::new();
        if target <= tree.length() {
            let mut roots = tree.roots().iter().map(|root| root.index);
            if !flat_tree::full_roots(target).all(|root| roots.next() == Some(root)) {
                return Err(ProofError::Roots { length: target });
            }
        } else {
            for index in flat_tree::cover(tree.length(), target) {
                let node = queue.take(index)?;
                append_root(tree, node, &mut added)?;
            }
        }
        if let Some(prologue) = prologue
            && tree.length() == prologue.length
            && tree.hash() != prologue.hash
        {
            return Err(ProofError::Prologue {
                length: prologue.length,
            });
        }
        for node in &upgrade.additional_nodes {
            append_root(tree, *node, &mut added)?;
        }
        if tree.length() == 0 || tree.length() > UINT_MAX || tree.byte_length() > UINT_MAX {
            return Err(ProofError::Size {
                length: tree.length(),
                bytes: tree.byte_length(),
            });
        }
        // These lie beyond the old tree, where nothing is stored: how they came to be known makes no difference.
        self.nodes
            .extend(added.into_iter().map(|node| (node, From::Computed)));
        Ok(queue.extra)
    }

    /// Hashes upwards from the node `start`, which is given or first in the queue, until the queue is empty.
    fn climb(&mut self, start: u64, given: Option<Node>, mut queue: Queue<'_>) -> Result<Node, ProofError> {
        self.nodes.reserve(2 * queue.listed.len() + 1);
        let mut top = match given {
            Some(leaf) => {
                self.nodes.push((leaf, From::Computed));
                leaf
            }
            None => {
                let node = queue.take(start)?;
                self.nodes.push((node, From::Listed));
                node
            }
        };
        while !queue.is_empty() {
            let sibling = queue.take(flat_tree::sibling(top.index))?;
            top = self.hashed.parent(&top, &sibling);
            self.nodes.push((sibling, From::Listed));
            self.nodes.push((top, From::Computed));
        }
        Ok(top)
    }
}

fn append_root(tree: &mut MerkleTree, node: Node, added: &mut Vec<Node>) -> Result<(), ProofError> {
    let length = tree.length();
    if tree.append_root(node, added) {
        Ok(())
    } else {
        Err(ProofError::Additional {
            node: node.index,
            length,
        })
    }
}

/// The listed nodes of a part, in the order of their use, and one node from elsewhere that may be used in between.
struct Queue<'a> {
    listed: &'a [Node],
    extra: Option<Node>,
}

impl<'a> Queue<'a> {
    const fn new(listed: &'a [Node], extra: Option<Node>) -> Self {
        Self { listed, extra }
    }

    const fn is_empty(&self) -> bool {
        self.listed.is_empty() && self.extra.is_none()
    }

    fn take(&mut self, expected: u64) -> Result<Node, ProofError> {
        if let Some(node) = self.extra.take_if(|node| node.index == expected) {
            return Ok(node);
        }
        match self.listed.split_first() {
            Some((node, rest)) if node.index == expected && expected != flat_tree::NOWHERE => {
                self.listed = rest;
                Ok(*node)
            }
            other => Err(ProofError::Order {
                expected,
                found: other.map(|(node, _)| node.index),
            }),
        }
    }
}
