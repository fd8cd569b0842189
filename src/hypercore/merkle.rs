//! The Merkle tree over the blocks of a log: roots, hashes, byte offsets.
//!
//! A [`MerkleTree`] is only the list of roots of one length; all other nodes are read through [`Nodes`] when they are
//! needed, so a log of a hundred million blocks costs at most 27 nodes of memory. Lookups stay inside the tree of the
//! current length: a node that an earlier, longer tree left behind in a store is never taken for one of this tree.
//!
//! Sizes are those of the blocks as stored; for encrypted logs they include the padding.
//!
//! Source: spec/hypercore.md 2.1 and 6 (`hypercore/lib/merkle-tree.js`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use super::flat_tree;
use super::manifest::TreeHead;
pub use crate::crypto::TreeNode as Node;
use crate::crypto::{self, Hash};

/// The leaf of a block.
#[must_use]
pub fn leaf(block_index: u64, block: &[u8]) -> Node {
    Node {
        index: block_index.saturating_mul(2),
        size: block.len() as u64,
        hash: crypto::leaf(block),
    }
}

/// As [`leaf`] for each of many blocks with their indices, several times as fast.
#[must_use]
pub fn leaves(blocks: &[(u64, &[u8])]) -> Vec<Node> {
    let hashes = crypto::leaves(blocks.iter().map(|(_, block)| *block));
    let node = |((index, block), hash): (&(u64, &[u8]), Hash)| Node {
        index: index.saturating_mul(2),
        size: block.len() as u64,
        hash,
    };
    blocks.iter().zip(hashes).map(node).collect()
}

/// The parent of two siblings, in either order. An absurd sum of sizes saturates.
#[must_use]
pub fn parent(one: &Node, other: &Node) -> Node {
    Node {
        index: flat_tree::parent(one.index),
        size: one.size.saturating_add(other.size),
        hash: crypto::parent(one, other),
    }
}

/// Bytes below a node without `padding` bytes for each block.
#[must_use]
pub const fn unpadded_size(node: &Node, padding: u64) -> u64 {
    node.size
        .saturating_sub(padding.saturating_mul(flat_tree::leaves(node.index)))
}

/// A source of the tree nodes of one log.
pub trait Nodes {
    /// The node with this number, if it is stored.
    ///
    /// # Errors
    /// When the store could not be read.
    fn node(&self, index: u64) -> Result<Option<Node>, ReadError>;
}

impl Nodes for BTreeMap<u64, Node> {
    fn node(&self, index: u64) -> Result<Option<Node>, ReadError> {
        Ok(self.get(&index).copied())
    }
}

impl<N: Nodes + ?Sized> Nodes for &N {
    fn node(&self, index: u64) -> Result<Option<Node>, ReadError> {
        (**self).node(index)
    }
}

/// New nodes in front of stored ones.
#[derive(Debug, Clone, Copy)]
pub struct Overlay<'a, N: ?Sized> {
    /// The new nodes; the last one with an index wins.
    pub new: &'a [Node],
    /// What is stored already.
    pub stored: &'a N,
}

impl<N: Nodes + ?Sized> Nodes for Overlay<'_, N> {
    fn node(&self, index: u64) -> Result<Option<Node>, ReadError> {
        match self.new.iter().rev().find(|node| node.index == index) {
            Some(node) => Ok(Some(*node)),
            None => self.stored.node(index),
        }
    }
}

/// Stored data could not be read. To blame: the disk, or our own store.
#[derive(Debug, Clone, Error)]
#[error("reading the store failed")]
pub struct ReadError(#[source] Arc<dyn std::error::Error + Send + Sync>);

impl ReadError {
    /// Wraps the failure of a store.
    pub fn new(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }
}

/// A question about the tree has no answer.
#[derive(Debug, Clone, Error)]
pub enum TreeError {
    /// A node of the tree is not stored. Normal for a log that was copied in part.
    #[error("tree node {0} is not stored")]
    Missing(u64),
    /// The caller asked for something beyond the end of the log.
    #[error("{asked} is beyond the end of a log of length {length}")]
    Beyond {
        /// The block or length that was asked for.
        asked: u64,
        /// The length of the log.
        length: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The state of a log that a signature covers: the roots of its blocks, the length and the fork number.
///
/// ```
/// use autobee::hypercore::merkle::MerkleTree;
///
/// let mut tree = MerkleTree::default();
/// let mut nodes = Vec::new(); // what has to be stored
/// tree.append(b"hello", &mut nodes);
/// tree.append(b"world", &mut nodes);
/// assert_eq!((tree.length(), tree.byte_length(), tree.roots().len()), (2, 10, 1));
/// assert_eq!(nodes.len(), 3);
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct MerkleTree {
    roots: Vec<Node>,
    length: u64,
    byte_length: u64,
    fork: u64,
}

/// The answer to a seek: where a byte offset lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// In this block, at this offset (both without padding).
    Found {
        /// The block.
        block: u64,
        /// The offset inside the block.
        offset: u64,
    },
    /// Somewhere in these blocks; the nodes that would tell are not stored.
    Unresolved {
        /// First block.
        start: u64,
        /// First block after.
        end: u64,
    },
    /// At or after the end of the log.
    Past,
}

impl MerkleTree {
    /// The empty log at a fork.
    #[must_use]
    pub const fn empty(fork: u64) -> Self {
        Self {
            roots: Vec::new(),
            length: 0,
            byte_length: 0,
            fork,
        }
    }

    /// The tree of `length` blocks whose roots are stored.
    ///
    /// # Errors
    /// When a root is not stored, or the store fails.
    pub fn read(length: u64, fork: u64, nodes: &(impl Nodes + ?Sized)) -> Result<Self, TreeError> {
        let mut tree = Self::empty(fork);
        for index in flat_tree::full_roots(length) {
            tree.roots.push(required(nodes, index)?);
        }
        tree.length = length;
        tree.byte_length = total(&tree.roots);
        Ok(tree)
    }

    /// Appends one block, and adds the nodes that this makes to `added`.
    pub fn append(&mut self, block: &[u8], added: &mut Vec<Node>) {
        self.push_root(leaf(self.length, block), added);
    }

    /// Appends many blocks, and adds the nodes that this makes to `added`.
    pub fn append_all<'a>(&mut self, blocks: impl IntoIterator<Item = &'a [u8]>, added: &mut Vec<Node>) {
        let blocks: Vec<(u64, &[u8])> = (self.length..).zip(blocks).collect();
        for leaf in leaves(&blocks) {
            self.push_root(leaf, added);
        }
    }

    /// Appends a complete subtree, and adds it and the parents that this makes to `added`. False, and nothing
    /// done, when the first block of the subtree is not the next one of the log.
    #[must_use]
    pub fn append_root(&mut self, node: Node, added: &mut Vec<Node>) -> bool {
        let fits = node.index != flat_tree::NOWHERE && flat_tree::first_block(node.index) == self.length;
        if fits {
            self.push_root(node, added);
        }
        fits
    }

    /// The tree of the first `length` blocks, at another fork.
    ///
    /// # Errors
    /// When `length` is beyond the end, a root is not stored, or the store fails.
    pub fn truncated(
        &self,
        length: u64,
        fork: u64,
        nodes: &(impl Nodes + ?Sized),
    ) -> Result<Self, TreeError> {
        if length > self.length {
            return Err(TreeError::Beyond {
                asked: length,
                length: self.length,
            });
        }
        if length == self.length {
            return Ok(self.clone().at_fork(fork));
        }
        Self::read(length, fork, nodes)
    }

    /// The same tree at another fork.
    #[must_use]
    pub const fn at_fork(mut self, fork: u64) -> Self {
        self.fork = fork;
        self
    }

    /// The roots, largest first.
    #[must_use]
    pub fn roots(&self) -> &[Node] {
        &self.roots
    }

    /// Number of blocks.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of all blocks as stored.
    #[must_use]
    pub const fn byte_length(&self) -> u64 {
        self.byte_length
    }

    /// How often the log was truncated (or whatever its owner chose).
    #[must_use]
    pub const fn fork(&self) -> u64 {
        self.fork
    }

    /// The hash over all roots, which stands for the whole content.
    #[must_use]
    pub fn hash(&self) -> Hash {
        crypto::tree(&self.roots)
    }

    /// The tree as its signature sees it.
    #[must_use]
    pub fn head(&self) -> TreeHead<'_> {
        TreeHead {
            roots: &self.roots,
            length: self.length,
            fork: self.fork,
        }
    }

    /// Looks a node up among the roots, then in the store, but only inside this tree.
    ///
    /// # Errors
    /// When the node is not part of this tree or not stored, or the store fails.
    pub fn node(&self, index: u64, nodes: &(impl Nodes + ?Sized)) -> Result<Node, TreeError> {
        if let Some(root) = self.roots.iter().find(|root| root.index == index) {
            return Ok(*root);
        }
        if flat_tree::end_block(index) > self.length {
            return Err(TreeError::Missing(index));
        }
        required(nodes, index)
    }

    /// As [`MerkleTree::node`], but a node that is not stored is no error.
    ///
    /// # Errors
    /// When the store fails.
    pub fn node_if_stored(
        &self,
        index: u64,
        nodes: &(impl Nodes + ?Sized),
    ) -> Result<Option<Node>, ReadError> {
        match self.node(index, nodes) {
            Ok(node) => Ok(Some(node)),
            Err(TreeError::Read(error)) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The root above a node of this tree.
    #[must_use]
    pub fn root_above(&self, index: u64) -> Option<&Node> {
        self.roots
            .iter()
            .find(|root| flat_tree::contains(root.index, index))
    }

    /// Bytes in front of the subtree `index`; of the whole log for the leaf after the last block.
    ///
    /// # Errors
    /// When the subtree is beyond the end, a node on the way is not stored, or the store fails.
    pub fn byte_offset(&self, index: u64, nodes: &(impl Nodes + ?Sized)) -> Result<u64, TreeError> {
        if flat_tree::first_block(index) == self.length && index != flat_tree::NOWHERE {
            return Ok(self.byte_length);
        }
        let mut bytes = 0u64;
        for root in &self.roots {
            if !flat_tree::contains(root.index, index) {
                bytes = bytes.saturating_add(root.size);
                continue;
            }
            let mut at = root.index;
            while let Some((left, right)) = flat_tree::children(at).filter(|_| at != index) {
                at = if index < at {
                    left
                } else {
                    bytes = bytes.saturating_add(self.node(left, nodes)?.size);
                    right
                };
            }
            return Ok(bytes);
        }
        Err(TreeError::Beyond {
            asked: flat_tree::first_block(index),
            length: self.length,
        })
    }

    /// Finds the block that holds the byte at offset `bytes`, where each block has `padding` bytes that do not count.
    ///
    /// # Errors
    /// When the store fails.
    pub fn seek(&self, bytes: u64, padding: u64, nodes: &(impl Nodes + ?Sized)) -> Result<Seek, ReadError> {
        let found = |block, offset| Ok(Seek::Found { block, offset });
        if bytes == 0 {
            return found(0, 0);
        }
        let mut rest = bytes;
        for root in &self.roots {
            let size = unpadded_size(root, padding);
            if size == rest {
                return found(flat_tree::end_block(root.index), 0);
            }
            if size < rest {
                rest -= size;
                continue;
            }
            let mut at = root.index;
            while let Some((left, right)) = flat_tree::children(at) {
                let Some(node) = self.node_if_stored(left, nodes)? else {
                    return Ok(Seek::Unresolved {
                        start: flat_tree::first_block(at),
                        end: flat_tree::end_block(at),
                    });
                };
                let size = unpadded_size(&node, padding);
                if size == rest {
                    return found(flat_tree::end_block(left), 0);
                }
                at = if size > rest {
                    left
                } else {
                    rest -= size;
                    right
                };
            }
            return found(flat_tree::first_block(at), rest);
        }
        Ok(Seek::Past)
    }

    /// How many levels a peer has to climb from the node `index` until it meets a node that is stored here: what a
    /// request for that node asks for.
    ///
    /// # Errors
    /// When the store fails.
    pub fn missing_nodes(&self, index: u64, nodes: &(impl Nodes + ?Sized)) -> Result<u64, ReadError> {
        if flat_tree::end_block(index) > self.length {
            return Ok(0);
        }
        let mut at = index;
        let mut missing = 0;
        while flat_tree::end_block(at) <= self.length && self.node_if_stored(at, nodes)?.is_none() {
            missing += 1;
            at = flat_tree::parent(at);
        }
        Ok(missing)
    }

    fn push_root(&mut self, node: Node, added: &mut Vec<Node>) {
        self.length = self.length.saturating_add(flat_tree::leaves(node.index));
        self.byte_length = self.byte_length.saturating_add(node.size);
        added.push(node);
        let mut last = node;
        while let Some(left) = self
            .roots
            .pop_if(|root| flat_tree::sibling(root.index) == last.index)
        {
            last = parent(&left, &last);
            added.push(last);
        }
        self.roots.push(last);
    }
}

impl fmt::Debug for MerkleTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Tree({} blocks, {} bytes, fork {})",
            self.length, self.byte_length, self.fork
        )
    }
}

/// How many levels a sender that was not asked has to climb from the node `index`, so that a peer that has only the
/// roots of `length` blocks can check it.
#[must_use]
pub fn max_missing_nodes(index: u64, length: u64) -> u64 {
    flat_tree::full_roots(length)
        .find(|&root| flat_tree::contains(root, index))
        .map_or(0, |root| {
            u64::from(flat_tree::depth(root).saturating_sub(flat_tree::depth(index)))
        })
}

/// The stored nodes below `2 * length` that belong to a tree of `old` blocks but not to that of its first `length`
/// blocks. Together with the range from `2 * length` up to `2 * old` these are what a truncation removes.
///
/// The reference leaves some of them behind (spec, pitfall 4); nobody can see that.
#[must_use]
pub fn truncated_parents(length: u64, old: u64) -> Vec<u64> {
    let end = length.saturating_mul(2);
    let mut parents = Vec::new();
    let mut at = end.saturating_sub(2);
    while length > 0 && length < old && flat_tree::leaves(at) < old {
        at = flat_tree::parent(at);
        if flat_tree::contains(at, end) && at < end {
            parents.push(at);
        }
    }
    parents
}

fn required(nodes: &(impl Nodes + ?Sized), index: u64) -> Result<Node, TreeError> {
    nodes.node(index)?.ok_or(TreeError::Missing(index))
}

fn total(roots: &[Node]) -> u64 {
    roots.iter().fold(0, |sum, root| sum.saturating_add(root.size))
}
