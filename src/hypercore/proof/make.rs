//! Answers a request from the nodes that are stored here.
//!
//! Source: spec/hypercore.md 7.2. The answer is byte for byte the one of the reference, the dropped seek of
//! pitfall 15 and the rewritten upgrade of pitfall 16 included, because a peer can see both.

use bytes::Bytes;

use super::{
    BlockProof, HashProof, Proof, Request, RequestError, SeekProof, SeekRequest, UpgradeProof, UpgradeRequest,
};
use crate::hypercore::flat_tree;
use crate::hypercore::merkle::{MerkleTree, Node, Nodes, TreeError, unpadded_size};

/// A tree and its nodes, from which proofs are made.
#[derive(Debug)]
pub struct ProofSource<'a, N: ?Sized> {
    /// The whole log.
    pub tree: &'a MerkleTree,
    /// Its stored nodes.
    pub nodes: &'a N,
    /// Number of blocks that the manifest fixes; 0 without a prologue.
    pub prologue_length: u64,
    /// The signature over `tree`, as stored.
    pub signature: Option<&'a Bytes>,
}

/// The target of a request: a block (its leaf) or any node.
#[derive(Clone, Copy)]
struct Subject {
    index: u64,
    climb: u64,
    is_block: bool,
}

/// The lists of a proof of one subtree.
#[derive(Default)]
struct Subtree {
    nodes: Vec<Node>,
    seek: Option<Vec<Node>>,
}

impl<N: Nodes + ?Sized> ProofSource<'_, N> {
    /// Proves what `request` asks for. The value of a block is left empty for the caller to fill in.
    ///
    /// # Errors
    /// When the request makes no sense for this log, or a node that it needs is not stored.
    pub fn prove(&self, request: &Request) -> Result<Proof, RequestError> {
        let length = self.tree.length();
        let mut proof = Proof::empty(self.tree.fork());
        if length == 0 {
            return Ok(proof);
        }
        let upgrade = request.upgrade.map(|upgrade| self.prologue_first(upgrade));
        let head = length.saturating_mul(2);
        let from = upgrade.map_or(0, |upgrade| upgrade.start.saturating_mul(2));
        let to = upgrade.map_or(head, |upgrade| {
            from.saturating_add(upgrade.length.saturating_mul(2))
        });
        if from >= to || to > head {
            return Err(RequestError::Upgrade { length });
        }
        let subject = Subject::of(request);
        if let (Some(subject), Some(_), Some(_)) = (subject, request.seek, upgrade)
            && subject.index >= from
        {
            return Err(RequestError::Seek);
        }

        let alone =
            subject.filter(|subject| upgrade.is_none() || flat_tree::right_span(subject.index) < from);
        let mut subtree = Subtree::default();
        if let Some(subject) = alone {
            let top = climb(subject, to)?;
            let target = match request.seek {
                Some(seek) => Some(self.seek_below(top, seek)?),
                None => None,
            };
            subtree = self.subtree(Some(subject), target, top)?;
        }
        if let Some(upgrade) = upgrade {
            let mut embedded = None;
            if alone.is_none() {
                embedded = match (request.seek, subject) {
                    (Some(seek), _) => self.seek_in_first(to / 2, seek)?,
                    (None, Some(subject)) => Some(subject.index),
                    (None, None) => None,
                };
            }
            let mut nodes = Vec::new();
            let mut found = alone.is_some();
            for index in flat_tree::cover(upgrade.start, to / 2) {
                match embedded {
                    Some(target) if !found && flat_tree::contains(index, target) => {
                        let target = request.seek.map(|_| target);
                        subtree = self.subtree(subject, target, index)?;
                        found = true;
                    }
                    _ => nodes.push(self.node(index)?),
                }
            }
            if subject.is_some() && !found {
                return Err(RequestError::Block);
            }
            proof.upgrade = Some(UpgradeProof {
                start: upgrade.start,
                length: upgrade.length,
                nodes,
                additional_nodes: flat_tree::cover(to / 2, length)
                    .map(|index| self.node(index))
                    .collect::<Result<_, _>>()?,
                signature: self.signature.cloned(),
            });
        }

        match subject {
            Some(subject) if subject.is_block => {
                proof.block = Some(BlockProof {
                    index: subject.index / 2,
                    value: Bytes::new(),
                    nodes: subtree.nodes,
                });
            }
            Some(subject) => {
                proof.hash = Some(HashProof {
                    index: subject.index,
                    nodes: subtree.nodes,
                });
            }
            None => {}
        }
        if let (Some(seek), Some(nodes)) = (request.seek, subtree.seek) {
            proof.seek = Some(SeekProof {
                bytes: seek.bytes,
                nodes,
            });
        }
        Ok(proof)
    }

    /// An upgrade that starts inside the prologue becomes one to exactly the prologue.
    const fn prologue_first(&self, upgrade: UpgradeRequest) -> UpgradeRequest {
        if upgrade.start < self.prologue_length {
            UpgradeRequest {
                start: 0,
                length: self.prologue_length,
            }
        } else {
            upgrade
        }
    }

    /// The node to prove for a seek inside the subtree `top`.
    fn seek_below(&self, top: u64, seek: SeekRequest) -> Result<u64, RequestError> {
        let in_first = self
            .tree
            .roots()
            .first()
            .is_some_and(|root| flat_tree::contains(root.index, top));
        if !in_first {
            return Ok(top);
        }
        let before = seek.padding.saturating_mul(flat_tree::first_block(top));
        let offset = self.tree.byte_offset(top, self.nodes)?.saturating_sub(before);
        let rest = seek.bytes.checked_sub(offset).ok_or(RequestError::Seek)?;
        if rest == 0 {
            return Ok(top);
        }
        if unpadded_size(&self.node(top)?, seek.padding) <= rest {
            return Err(RequestError::Seek);
        }
        self.descend(top, rest, seek.padding)
    }

    /// The node to prove for a seek in the first `length` blocks; none at or after their end.
    fn seek_in_first(&self, length: u64, seek: SeekRequest) -> Result<Option<u64>, RequestError> {
        let mut rest = seek.bytes;
        for root in flat_tree::full_roots(length) {
            let size = unpadded_size(&self.node(root)?, seek.padding);
            if size == rest {
                return Ok(Some(root));
            }
            if size > rest {
                return self.descend(root, rest, seek.padding).map(Some);
            }
            rest -= size;
        }
        Ok(None)
    }

    fn descend(&self, top: u64, bytes: u64, padding: u64) -> Result<u64, RequestError> {
        let mut at = top;
        let mut rest = bytes;
        while let Some((left, right)) = flat_tree::children(at).filter(|_| bytes > 0) {
            let Some(node) = self
                .tree
                .node_if_stored(left, self.nodes)
                .map_err(TreeError::Read)?
            else {
                return Ok(at);
            };
            let size = unpadded_size(&node, padding);
            if size == rest {
                return Ok(left);
            }
            at = if size > rest {
                left
            } else {
                rest -= size;
                right
            };
        }
        Ok(at)
    }

    /// Lists what a receiver needs to compute the node `top` from the subject, and from the node `seek` if it lies
    /// elsewhere below `top`.
    fn subtree(
        &self,
        subject: Option<Subject>,
        seek: Option<u64>,
        top: u64,
    ) -> Result<Subtree, RequestError> {
        let mut subtree = Subtree::default();
        let Some(subject) = subject else {
            if let Some(seek) = seek {
                subtree.seek = Some(self.path(seek, top)?);
            }
            return Ok(subtree);
        };
        if !flat_tree::contains(top, subject.index) {
            return Err(RequestError::Block);
        }
        if !subject.is_block {
            subtree.nodes.push(self.node(subject.index)?);
        }
        let levels = flat_tree::depth(top).saturating_sub(flat_tree::depth(subject.index));
        subtree.nodes.reserve(usize::try_from(levels).unwrap_or(0));
        let mut at = subject.index;
        while at != top && at != flat_tree::NOWHERE {
            let sibling = flat_tree::sibling(at);
            match seek {
                Some(seek) if flat_tree::contains(sibling, seek) && sibling != seek => {
                    subtree.seek = Some(self.path(seek, sibling)?);
                }
                _ => subtree.nodes.push(self.node(sibling)?),
            }
            at = flat_tree::parent(at);
        }
        Ok(subtree)
    }

    /// A node and all siblings on the way up to `top`.
    fn path(&self, from: u64, top: u64) -> Result<Vec<Node>, RequestError> {
        let mut nodes = vec![self.node(from)?];
        let mut at = from;
        while at != top && at != flat_tree::NOWHERE {
            nodes.push(self.node(flat_tree::sibling(at))?);
            at = flat_tree::parent(at);
        }
        Ok(nodes)
    }

    fn node(&self, index: u64) -> Result<Node, RequestError> {
        Ok(self.tree.node(index, self.nodes)?)
    }
}

impl Subject {
    /// A block wins over a hash.
    fn of(request: &Request) -> Option<Self> {
        let block = request.block.map(|block| Self {
            index: block.index.saturating_mul(2),
            climb: block.nodes,
            is_block: true,
        });
        block.or_else(|| {
            request.hash.map(|hash| Self {
                index: hash.index,
                climb: hash.nodes,
                is_block: false,
            })
        })
    }
}

/// Goes up as many levels as the request says, but not to a node that reaches beyond the tree.
fn climb(subject: Subject, to: u64) -> Result<u64, RequestError> {
    let mut at = subject.index;
    for _ in 0..subject.climb {
        at = flat_tree::parent(at);
        // Also ends at `NOWHERE`, which contains everything.
        if flat_tree::contains(at, to) {
            return Err(RequestError::OutOfBounds);
        }
    }
    Ok(at)
}
