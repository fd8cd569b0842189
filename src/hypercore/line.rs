//! One line of blocks in a store: the main one of a core, or that of a named session, which begins with blocks of the
//! main one.
//!
//! A line turns changes into records of a [`StoreBatch`] and follows them in memory; the caller commits. If a commit
//! fails, it puts back the copy that it took before.
//!
//! Source: spec/hypercore.md 6.3, 8 and 9.3.

use std::ops::Range;

use bytes::Bytes;

use super::bitfield::Bitfield;
use super::error::CoreError;
use super::flat_tree;
use super::merkle::{self, MerkleTree, Node, Nodes, ReadError, TreeError};
use super::proof::{Accepted, Head, Rewound};
use super::recent_nodes::RecentNodes;
use super::record::{Dependency, HeadRecord, NODE_BYTES, RecordError, node_bytes, node_from};
use crate::env::{Planted, Slip};
use crate::store::{DataPointer, Key, Read, StoreBatch, StoreError};
use crate::wire::compact::{Decode as _, Encode as _};

/// One line of blocks.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) data: DataPointer,
    /// The main line, and how many of its blocks this one begins with.
    pub(super) parent: Option<Dependency>,
    pub(super) head: Head,
    /// Blocks that are stored; followed for main lines only, others are asked block by block.
    pub(super) blocks: Bitfield,
    /// The contiguous length that the store knows.
    recorded: u64,
    /// True when it stands in a record of its own, which overrides that of the head.
    has_hint: bool,
    /// Own nodes, as the store has them with the batch that is being made.
    recent: RecentNodes,
}

/// The tree nodes of a line.
#[derive(Clone, Copy)]
pub(super) struct LineNodes<'a> {
    data: DataPointer,
    parent: Option<Dependency>,
    recent: Option<&'a RecentNodes>,
    read: &'a dyn Read,
    /// One that is damaged counts as not stored: it comes again with the next proof that it is part of.
    comes_again: bool,
}

impl Line {
    /// An empty line.
    pub(super) fn empty(data: DataPointer) -> Self {
        Self {
            data,
            parent: None,
            head: Head::default(),
            blocks: Bitfield::default(),
            recorded: 0,
            has_hint: false,
            recent: RecentNodes::default(),
        }
    }

    /// A line that begins as `self` does. Own blocks of a line that has a parent are copied, so that no line ever
    /// depends on one that is not the main one.
    pub(super) fn fork(
        &self,
        data: DataPointer,
        read: &dyn Read,
        batch: &mut StoreBatch,
    ) -> Result<Self, CoreError> {
        let mut line = Self {
            data,
            parent: Some(self.parent.unwrap_or(Dependency {
                data: self.data,
                length: self.head.tree.length(),
            })),
            head: Head {
                tree: self.head.tree.clone(),
                signature: None,
            },
            blocks: Bitfield::default(),
            recorded: 0,
            has_hint: false,
            recent: RecentNodes::default(),
        };
        if self.parent.is_some() {
            line.copy_from(self, self.base()..self.head.tree.length(), read, batch)?;
        }
        line.write_dependency(batch)?;
        line.write_head(batch)?;
        Ok(line)
    }

    /// Reads a line. None when it was never written.
    pub(super) fn load(data: DataPointer, read: &dyn Read) -> Result<Option<Self>, CoreError> {
        let Some(bytes) = read.get(&Key::Head(data))? else {
            return Ok(None);
        };
        let record = HeadRecord::from_bytes(&bytes)?;
        let parent = match read.get(&Key::Dependency(data))? {
            Some(bytes) => Some(Dependency::from_bytes(&bytes)?),
            None => None,
        };
        let nodes = LineNodes {
            data,
            parent,
            recent: None,
            read,
            comes_again: false,
        };
        let tree = MerkleTree::read(record.length, record.fork, &nodes).map_err(|error| match error {
            TreeError::Read(error) => CoreError::Read(error),
            _ => RecordError::Inconsistent("a root of the tree is missing").into(),
        })?;
        if tree.hash() != record.tree_hash {
            return Err(RecordError::Inconsistent("the roots do not hash to the head").into());
        }
        let hint = read.get(&Key::Hints(data))?;
        let contiguous = match &hint {
            Some(bytes) => u64::from_bytes(bytes)?,
            None => record.contiguous,
        };
        let mut pages: Vec<(u64, Bytes)> = Vec::new();
        read.scan(
            &Key::Bitfield(data, 0),
            &Key::Bitfield(data, u64::MAX),
            false,
            &mut |key, value| {
                if let Key::Bitfield(_, page) = key {
                    pages.push((page, value));
                }
                std::ops::ControlFlow::Continue(())
            },
        )?;
        let blocks = Bitfield::load(
            contiguous,
            pages.iter().map(|(page, bytes)| (*page, bytes.as_ref())),
        )
        .map_err(|_| RecordError::Inconsistent("a bitfield page is too long"))?;
        Ok(Some(Self {
            data,
            parent,
            head: Head {
                tree,
                signature: record.signature,
            },
            blocks,
            recorded: contiguous,
            has_hint: hint.is_some(),
            recent: RecentNodes::default(),
        }))
    }

    /// The contiguous length that stands in a record of its own.
    pub(super) fn hint(&self) -> Option<u64> {
        self.has_hint.then_some(self.recorded)
    }

    // Reading.

    /// The line without the set of stored blocks: enough to read blocks and nodes, and cheap for every log.
    pub(super) fn shadow(&self) -> Self {
        Self {
            data: self.data,
            parent: self.parent,
            head: self.head.clone(),
            blocks: Bitfield::default(),
            recorded: 0,
            has_hint: false,
            recent: self.recent.clone(),
        }
    }

    /// Number of blocks that this line takes from the main one.
    pub(super) fn base(&self) -> u64 {
        self.parent.map_or(0, |parent| parent.length)
    }

    pub(super) fn nodes<'a>(&'a self, read: &'a dyn Read) -> LineNodes<'a> {
        LineNodes {
            data: self.data,
            parent: self.parent,
            recent: Some(&self.recent),
            read,
            comes_again: true,
        }
    }

    /// A block as stored, wherever it stands.
    pub(super) fn block(&self, index: u64, read: &dyn Read) -> Result<Option<Bytes>, CoreError> {
        if index >= self.head.tree.length() {
            return Ok(None);
        }
        let data = match self.parent {
            Some(parent) if index < parent.length => parent.data,
            _ => self.data,
        };
        Ok(read.get(&Key::Block(data, index))?)
    }

    // Writing.

    /// The tree with more blocks, and the nodes that they add.
    pub(super) fn grown(&self, blocks: &[Bytes]) -> (MerkleTree, Vec<Node>) {
        let mut tree = self.head.tree.clone();
        let mut added = Vec::new();
        tree.append_all(blocks.iter().map(Bytes::as_ref), &mut added);
        (tree, added)
    }

    /// Appends blocks whose tree is signed.
    pub(super) fn grow(
        &mut self,
        blocks: Vec<Bytes>,
        added: &[Node],
        head: Head,
        batch: &mut StoreBatch,
    ) -> Result<(), CoreError> {
        let start = self.head.tree.length();
        let end = head.tree.length();
        for (index, block) in (start..).zip(blocks) {
            batch.put(Key::Block(self.data, index), block);
        }
        self.put_nodes(added, batch);
        self.head = head;
        self.mark(start..end);
        self.write_head(batch)
    }

    /// Takes over another head of fewer blocks.
    pub(super) fn shrink(&mut self, head: Head, batch: &mut StoreBatch) -> Result<(), CoreError> {
        let length = head.tree.length();
        self.forget_from(length, batch, false)?;
        self.head = head;
        self.write_head(batch)
    }

    /// Stores what a checked proof brings.
    pub(super) fn accept(
        &mut self,
        accepted: Accepted,
        batch: &mut StoreBatch,
        planted: Planted,
    ) -> Result<(), CoreError> {
        self.put_nodes(&accepted.nodes, batch);
        if let Some((index, block)) = accepted.block {
            batch.put(Key::Block(self.data, index), block);
            self.mark(index..index.saturating_add(1));
        }
        if let Some(head) = accepted.head {
            self.head = head;
            self.has_hint &= !planted.has(Slip::HintOutlives);
            self.write_head(batch)
        } else if planted.has(Slip::LoneBitUnstored) {
            Ok(())
        } else {
            self.write_blocks(batch)
        }
    }

    /// Moves to another fork.
    pub(super) fn rewind(
        &mut self,
        rewound: Rewound,
        read: &dyn Read,
        batch: &mut StoreBatch,
        planted: Planted,
    ) -> Result<(), CoreError> {
        // What lies in the part that is kept stays as it is: sizes that a peer lists are not better than stored ones.
        let stored = self.nodes(read);
        let mut nodes = Vec::new();
        for node in rewound.nodes {
            let is_kept = flat_tree::end_block(node.index) <= rewound.ancestors;
            if !is_kept || stored.node(node.index)?.is_none() {
                nodes.push(node);
            }
        }
        self.forget_from(rewound.ancestors, batch, planted.has(Slip::ParentsStay))?;
        self.put_nodes(&nodes, batch);
        self.head = rewound.head;
        self.write_head(batch)
    }

    /// Drops blocks, but keeps length, tree and signature. Gives the range of which none is left.
    pub(super) fn clear(
        &mut self,
        range: Range<u64>,
        batch: &mut StoreBatch,
    ) -> Result<Range<u64>, CoreError> {
        let end = range.end.min(self.head.tree.length());
        let range = range.start.max(self.base())..end;
        if range.is_empty() {
            return Ok(range);
        }
        batch.delete_range(
            Key::Block(self.data, range.start),
            Key::Block(self.data, range.end),
        );
        if self.parent.is_none() {
            self.blocks.clear(range.clone());
        }
        self.write_blocks(batch)?;
        Ok(range)
    }

    /// Takes over the blocks from `length` on that it has from the main line, which is about to lose them.
    pub(super) fn detach(
        &mut self,
        main: &Self,
        length: u64,
        read: &dyn Read,
        batch: &mut StoreBatch,
    ) -> Result<(), CoreError> {
        let Some(parent) = &mut self.parent else {
            return Ok(());
        };
        if parent.length <= length {
            return Ok(());
        }
        let lost = length..parent.length;
        parent.length = length;
        self.copy_from(main, lost, read, batch)?;
        self.write_dependency(batch)
    }

    /// Forgets own copies of the first blocks: the main line has them now.
    pub(super) fn rebase(&mut self, length: u64, batch: &mut StoreBatch) -> Result<(), CoreError> {
        let Some(parent) = &mut self.parent else {
            return Ok(());
        };
        let before = parent.length;
        if length <= before {
            return Ok(());
        }
        parent.length = length;
        self.recent = RecentNodes::default();
        batch.delete_range(Key::Block(self.data, before), Key::Block(self.data, length));
        // Nodes below belong to the main line; own ones that span the border stay.
        for index in nodes_between(before, length) {
            batch.delete(Key::Tree(self.data, index));
        }
        self.write_dependency(batch)
    }

    /// Copies blocks of `other` that this line is to have too, with the nodes that end among them.
    pub(super) fn copy_from(
        &mut self,
        other: &Self,
        range: Range<u64>,
        read: &dyn Read,
        batch: &mut StoreBatch,
    ) -> Result<(), CoreError> {
        let nodes = other.nodes(read);
        for index in range.clone() {
            if let Some(block) = other.block(index, read)? {
                batch.put(Key::Block(self.data, index), block);
                self.mark(index..index + 1);
            }
        }
        for index in nodes_between(range.start, range.end) {
            if let Some(node) = other.head.tree.node_if_stored(index, &nodes)? {
                batch.put(Key::Tree(self.data, index), node_bytes(&node).to_vec());
            }
        }
        Ok(())
    }

    /// Removes everything that this line holds itself.
    pub(super) fn erase(&self, batch: &mut StoreBatch) {
        batch.delete_range(
            Key::Head(self.data),
            Key::Head(DataPointer(self.data.0.saturating_add(1))),
        );
    }

    /// Writes the head, and what changed of the set of stored blocks.
    pub(super) fn write_head(&mut self, batch: &mut StoreBatch) -> Result<(), CoreError> {
        self.recorded = self.blocks.contiguous_length();
        let record = HeadRecord {
            length: self.head.tree.length(),
            fork: self.head.tree.fork(),
            contiguous: self.recorded,
            tree_hash: self.head.tree.hash(),
            signature: self.head.signature.clone(),
        };
        batch.put(Key::Head(self.data), record.to_bytes()?);
        if std::mem::take(&mut self.has_hint) {
            batch.delete(Key::Hints(self.data));
        }
        self.write_blocks(batch)
    }

    fn write_dependency(&self, batch: &mut StoreBatch) -> Result<(), CoreError> {
        if let Some(parent) = &self.parent {
            batch.put(Key::Dependency(self.data), parent.to_bytes()?);
        }
        Ok(())
    }

    fn put_nodes(&mut self, nodes: &[Node], batch: &mut StoreBatch) {
        self.recent.add(nodes);
        // One allocation for all of them: a large batch has two nodes a block.
        let bytes: Bytes = nodes.iter().flat_map(node_bytes).collect::<Vec<u8>>().into();
        for (at, node) in nodes.iter().enumerate() {
            let place = at * NODE_BYTES..(at + 1) * NODE_BYTES;
            batch.put(Key::Tree(self.data, node.index), bytes.slice(place));
        }
    }

    fn mark(&mut self, range: Range<u64>) {
        if self.parent.is_none() {
            self.blocks.set(range);
        }
    }

    /// Writes what changed of the set of stored blocks.
    fn write_blocks(&mut self, batch: &mut StoreBatch) -> Result<(), CoreError> {
        for (page, bytes) in self.blocks.take_changes() {
            match bytes {
                Some(bytes) => batch.put(Key::Bitfield(self.data, page), bytes),
                None => batch.delete(Key::Bitfield(self.data, page)),
            };
        }
        let contiguous = self.blocks.contiguous_length();
        if contiguous != self.recorded {
            batch.put(Key::Hints(self.data), contiguous.to_bytes()?);
            self.recorded = contiguous;
            self.has_hint = true;
        }
        Ok(())
    }

    /// Forgets the blocks from `length` on with their nodes, and those for blocks on both sides unless these are kept.
    fn forget_from(
        &mut self,
        length: u64,
        batch: &mut StoreBatch,
        keeps_parents: bool,
    ) -> Result<(), CoreError> {
        let old = self.head.tree.length();
        if let Some(parent) = self.parent.as_mut().filter(|parent| parent.length > length) {
            parent.length = length;
            self.write_dependency(batch)?;
        }
        batch.delete_range(Key::Block(self.data, length), Key::Block(self.data, old));
        batch.delete_range(
            Key::Tree(self.data, length.saturating_mul(2)),
            Key::Tree(self.data, old.saturating_mul(2)),
        );
        if !keeps_parents {
            for parent in merkle::truncated_parents(length, old) {
                batch.delete(Key::Tree(self.data, parent));
            }
        }
        self.recent = RecentNodes::default();
        self.blocks.truncate(length);
        Ok(())
    }
}

/// Nodes whose last block lies in `start..end`.
fn nodes_between(start: u64, end: u64) -> impl Iterator<Item = u64> {
    (start..end).flat_map(|block| {
        let leaf = block.saturating_mul(2);
        let ends_here = move |node: &u64| flat_tree::end_block(*node) == block + 1;
        std::iter::successors(Some(leaf), |node| Some(flat_tree::parent(*node))).take_while(ends_here)
    })
}

impl<'a> LineNodes<'a> {
    /// Nodes of a main line, as they are stored.
    pub(super) const fn stored(data: DataPointer, read: &'a dyn Read) -> Self {
        Self {
            data,
            parent: None,
            recent: None,
            read,
            comes_again: true,
        }
    }
}

impl Nodes for LineNodes<'_> {
    fn node(&self, index: u64) -> Result<Option<Node>, ReadError> {
        let data = match self.parent {
            Some(parent) if flat_tree::end_block(index) <= parent.length => parent.data,
            _ => {
                if let Some(node) = self.recent.and_then(|recent| recent.get(index)) {
                    return Ok(Some(node));
                }
                self.data
            }
        };
        match self.read.get(&Key::Tree(data, index)) {
            Ok(Some(bytes)) => Ok(Some(node_from(index, &bytes).map_err(ReadError::new)?)),
            Ok(None) => Ok(None),
            Err(StoreError::Corrupt(_)) if self.comes_again => Ok(None),
            Err(error) => Err(ReadError::new(error)),
        }
    }
}
