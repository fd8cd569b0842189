//! A core as peers may see it at one moment, for many questions in a row.
//!
//! A peer that downloads asks for hundreds of blocks at a time, and a peer that asks wants to know of hundreds of blocks
//! how far it has to climb. What each of these questions needs of the core is fetched once for all of them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::error::CoreError;
use super::flat_tree;
use super::line::{Line, LineNodes};
use super::manifest::Manifest;
use super::merkle::{Node, Nodes, ReadError};
use super::offered_state::LogState;
use super::peer_access::PeerAccess;
use super::proof::{Head, Proof, ProofSource, Request};
use crate::env::{Env, Slip};
use crate::store::{Key, Snapshot};

/// A core as peers may see it at one moment. To be dropped soon: it holds on to what the store would let go of.
pub struct OfferedSnapshot<'a, E: Env> {
    core: PeerAccess<'a, E>,
    offered: LogState,
    head: Head,
    prologue_length: u64,
    manifest: Option<Manifest>,
    line: Line,
    snapshot: Box<dyn Snapshot>,
    /// Nodes that were proven: neighbours have most of them in common.
    proven: RefCell<BTreeMap<u64, Node>>,
    /// The node that was asked about last, and the nearest one above it that is stored.
    climbed: Cell<Option<(u64, u64)>>,
}

impl<'a, E: Env> PeerAccess<'a, E> {
    /// The core as peers may see it now.
    ///
    /// # Errors
    /// When the session is closed, or the store fails.
    pub fn offered_snapshot(self) -> Result<OfferedSnapshot<'a, E>, CoreError> {
        self.offer(|core, head| {
            Ok(OfferedSnapshot {
                core: self,
                offered: LogState::of(core, head),
                head: head.clone(),
                prologue_length: core.prologue_length(),
                manifest: core.manifest().filter(|_| !core.is_compat()).cloned(),
                line: core.main.shadow(),
                snapshot: self.core().shared.store.snapshot()?,
                proven: RefCell::default(),
                climbed: Cell::new(None),
            })
        })
    }
}

impl<'a, E: Env> OfferedSnapshot<'a, E> {
    /// The core that it is of, as it is now.
    #[must_use]
    pub const fn access(&self) -> PeerAccess<'a, E> {
        self.core
    }

    /// Where the core stood.
    #[must_use]
    pub const fn offered(&self) -> LogState {
        self.offered
    }

    /// Answers a request. None when it is about a block that is not stored here. The manifest is added when it is
    /// asked for and the core has one that peers need.
    ///
    /// # Errors
    /// When the request makes no sense, a node that it needs is not here, or the store fails.
    pub fn prove(&self, request: &Request, wants_manifest: bool) -> Result<Option<Proof>, CoreError> {
        let nodes = Remembered {
            nodes: self.line.nodes(&*self.snapshot),
            known: &self.proven,
        };
        let source = ProofSource {
            tree: &self.head.tree,
            nodes: &nodes,
            prologue_length: self.prologue_length,
            signature: self.head.signature.as_ref(),
        };
        let mut proof = source.prove(request)?;
        if let Some(upgrade) = &mut proof.upgrade
            && self.core.core().shared.planted.has(Slip::AdditionalLeft)
        {
            upgrade.additional_nodes.clear();
        }
        if wants_manifest {
            proof.manifest.clone_from(&self.manifest);
        }
        if let Some(block) = &mut proof.block {
            if block.index >= self.head.tree.length() {
                return Ok(None);
            }
            match self.snapshot.get(&Key::Block(self.line.data, block.index)) {
                Ok(Some(value)) => block.value = value,
                Ok(None) => return Ok(None),
                Err(error) => {
                    let error = error.into();
                    if !self.core.core().drop_rotten(block.index, &error) {
                        return Err(error);
                    }
                    return Ok(None);
                }
            }
        }
        Ok(Some(proof))
    }

    /// A node of the tree, as it is stored, also one behind the length.
    ///
    /// # Errors
    /// When the store fails.
    pub fn stored_node(&self, index: u64) -> Result<Option<Node>, CoreError> {
        let nodes = LineNodes::stored(self.line.data, &*self.snapshot);
        nodes.node(index).map_err(CoreError::from)
    }

    /// Bytes of a block, as far as a tree node that is stored here tells.
    ///
    /// # Errors
    /// When the store fails.
    pub fn stored_size(&self, index: u64) -> Result<Option<u64>, CoreError> {
        let (tree, nodes) = (&self.line.head.tree, self.line.nodes(&*self.snapshot));
        if index >= tree.length() {
            return Ok(None);
        }
        let leaf = tree.node_if_stored(index.saturating_mul(2), &nodes)?;
        Ok(leaf.map(|leaf| leaf.size))
    }

    /// How many levels a peer has to climb from a tree node to one that is stored here: what a request says.
    ///
    /// # Errors
    /// When the store fails.
    pub fn missing_nodes(&self, node: u64) -> Result<u64, CoreError> {
        let (tree, nodes) = (&self.line.head.tree, self.line.nodes(&*self.snapshot));
        let last = self.climbed.get();
        let (mut at, mut missing) = (node, 0);
        while flat_tree::end_block(at) <= tree.length() {
            // From here on the way is the one of the last time, on which nothing is stored below its end.
            if let Some((_, top)) = last.filter(|(last, top)| {
                at != *top && flat_tree::contains(at, *last) && flat_tree::contains(*top, at)
            }) {
                let levels = flat_tree::depth(top).saturating_sub(flat_tree::depth(at));
                missing += u64::from(levels);
                at = top;
                break;
            }
            if tree.node_if_stored(at, &nodes)?.is_some() {
                break;
            }
            missing += 1;
            at = flat_tree::parent(at);
        }
        if flat_tree::end_block(at) <= tree.length() {
            self.climbed.set(Some((node, at)));
        }
        Ok(missing)
    }
}

/// Nodes of a line that are read once only.
struct Remembered<'a> {
    nodes: LineNodes<'a>,
    known: &'a RefCell<BTreeMap<u64, Node>>,
}

impl Nodes for Remembered<'_> {
    fn node(&self, index: u64) -> Result<Option<Node>, ReadError> {
        let mut known = self.known.borrow_mut();
        if let Some(node) = known.get(&index) {
            return Ok(Some(*node));
        }
        let node = self.nodes.node(index)?;
        if let Some(node) = node {
            known.insert(index, node);
        }
        Ok(node)
    }
}
