//! Every state that was reached, as a tree, and a cursor on one path of it.

use std::collections::BTreeMap;

use crate::engine::dag::{BatchId, Dag, Renumbered, WriterId};
use crate::env::{Planted, Slip};
use crate::wire::{Timestamp, Weight};

use super::{LinearizerStats, OrderEntry, PlacedBatch, Replay, Rules, Suspended, Verdict};

/// A state: what was settled before, one batch, and the weight it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(u32);

impl NodeId {
    /// The state that all others come from: the empty one, or the one behind what was forgotten.
    pub(super) const ROOT: Self = Self(0);

    const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a trial found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trial {
    pub(super) weight: Weight,
    /// Not known where it was not asked.
    pub(super) admitted: Option<bool>,
}

#[derive(Debug, Clone)]
pub(super) struct Timeline<S> {
    /// Accepted batches up to the root.
    entries_before: u64,
    nodes: Vec<Option<TimelineNode<S>>>,
    free: Vec<NodeId>,
    edges: BTreeMap<(NodeId, BatchId, Weight), NodeId>,
    /// By where, of what, and whether the forgotten start was emitted in it.
    trials: BTreeMap<(NodeId, BatchId, bool), Trial>,
    path: Vec<NodeId>,
    /// Position in the path of each batch.
    settled: Vec<Option<u32>>,
    /// Settled batches of each writer.
    heads: Vec<u32>,
    /// Nodes that left the path and have not been swept.
    loose: Vec<NodeId>,
}

#[derive(Debug, Clone)]
struct TimelineNode<S> {
    parent: NodeId,
    batch: BatchId,
    writer: WriterId,
    /// The weight it was settled with, and the one its writer stands with behind it.
    weight: Weight,
    pinned: Weight,
    accepted: bool,
    /// Accepted batches from the root up to here.
    position: u32,
    on_path: bool,
    state: S,
}

impl<S: Clone> Timeline<S> {
    pub(super) fn new(entries_before: u64, root: S) -> Self {
        let root = TimelineNode {
            parent: NodeId::ROOT,
            // The root is no batch: nothing reads these of it.
            batch: BatchId::FIRST,
            writer: WriterId::FIRST,
            weight: Weight::ZERO,
            pinned: Weight::ZERO,
            accepted: false,
            position: 0,
            on_path: true,
            state: root,
        };
        Self {
            entries_before,
            nodes: vec![Some(root)],
            free: Vec::new(),
            edges: BTreeMap::new(),
            trials: BTreeMap::new(),
            path: Vec::new(),
            settled: Vec::new(),
            heads: Vec::new(),
            loose: Vec::new(),
        }
    }

    /// Makes room for what is in the set now.
    pub(super) fn grow(&mut self, dag: &Dag) {
        self.settled.resize(dag.len(), None);
        self.heads.resize(dag.writers(), 0);
    }

    // ---- the cursor

    pub(super) fn node(&self) -> NodeId {
        self.path.last().copied().unwrap_or(NodeId::ROOT)
    }

    /// True when the cursor is at this node or behind it.
    pub(super) fn has_passed(&self, node: NodeId) -> bool {
        self.get(node).on_path
    }

    pub(super) fn state(&self) -> &S {
        self.state_of(self.node())
    }

    pub(super) const fn len(&self) -> usize {
        self.path.len()
    }

    pub(super) fn path(&self) -> &[NodeId] {
        &self.path
    }

    /// Batches settled from this position on.
    pub(super) fn path_since(&self, position: usize) -> impl Iterator<Item = BatchId> {
        self.path[position..].iter().map(|node| self.get(*node).batch)
    }

    /// Position in the path.
    pub(super) fn settled(&self, batch: BatchId) -> Option<usize> {
        self.settled[batch.index()].map(|at| at as usize)
    }

    /// True when a batch of the set, which may have grown since, is in the path.
    pub(super) fn is_settled(&self, batch: BatchId) -> bool {
        self.settled.get(batch.index()).copied().flatten().is_some()
    }

    /// How many batches of the writer are settled.
    pub(super) fn head(&self, writer: WriterId) -> u32 {
        self.heads[writer.index()]
    }

    /// Settles a batch. True when it was accepted.
    pub(super) fn settle<R: Replay<State = S>>(
        &mut self,
        dag: &Dag,
        replay: &mut R,
        rules: &Rules,
        stats: &mut LinearizerStats,
        (id, weight, date): (BatchId, Weight, Timestamp),
    ) -> Result<bool, Suspended> {
        stats.steps += 1;
        let parent = self.node();
        let known = self.edges.get(&(parent, id, weight)).copied();
        let node = match known {
            Some(node) => node,
            None => {
                let step = PlacedBatch {
                    id,
                    batch: dag.batch(id),
                    weight,
                    date,
                };
                let here = self.get(parent);
                let stranger = step.batch.writer != rules.bootstrap
                    && replay.standing(&here.state, &step.batch.writer).is_none();
                let position = here.position;
                let is_start = position == 0 && self.entries_before == 0;
                // Before the creator's first batch nobody can be let in.
                let verdict = if stranger && (is_start || !rules.tries(step.batch)) {
                    Verdict::Refused
                } else {
                    stats.applies += 1;
                    let verdict = replay.apply(&here.state, step)?;
                    stats.refusals += u64::from(matches!(verdict, Verdict::Refused));
                    verdict
                };
                let node = match verdict {
                    Verdict::Accepted(state) => TimelineNode {
                        parent,
                        batch: id,
                        writer: step.batch.writer_id,
                        weight,
                        pinned: replay
                            .standing(&state, &step.batch.writer)
                            .map_or(weight, |now| now.weight),
                        accepted: true,
                        position: position + 1,
                        on_path: false,
                        state,
                    },
                    Verdict::Refused => TimelineNode {
                        parent,
                        batch: id,
                        writer: step.batch.writer_id,
                        weight,
                        pinned: weight,
                        accepted: false,
                        position,
                        on_path: false,
                        state: here.state.clone(),
                    },
                };
                self.add(node)
            }
        };
        // Positions are counted with the ids of batches.
        self.settled[id.index()] = u32::try_from(self.path.len()).ok();
        self.heads[dag.batch(id).writer_id.index()] += 1;
        self.path.push(node);
        let node = self.get_mut(node);
        node.on_path = true;
        Ok(node.accepted)
    }

    /// Takes back all but the first `length` settled batches.
    pub(super) fn rewind(&mut self, length: usize) {
        while self.path.len() > length {
            if let Some(id) = self.path.pop() {
                let node = self.get_mut(id);
                node.on_path = false;
                let (batch, writer) = (node.batch, node.writer);
                self.settled[batch.index()] = None;
                self.heads[writer.index()] -= 1;
                self.loose.push(id);
            }
        }
    }

    // ---- what is known of states

    pub(super) fn entry(&self, node: NodeId) -> OrderEntry {
        let node = self.get(node);
        OrderEntry {
            batch: node.batch,
            weight: node.pinned,
        }
    }

    pub(super) fn state_of(&self, node: NodeId) -> &S {
        &self.get(node).state
    }

    pub(super) fn is_accepted(&self, node: NodeId) -> bool {
        self.get(node).accepted
    }

    pub(super) fn position(&self, node: NodeId) -> usize {
        self.get(node).position as usize
    }

    /// Accepted batches up to the root.
    pub(super) const fn entries_before(&self) -> u64 {
        self.entries_before
    }

    pub(super) fn trial(&self, batch: BatchId, spanning: bool) -> Option<Trial> {
        self.trials.get(&(self.node(), batch, spanning)).copied()
    }

    pub(super) fn remember(&mut self, of: (NodeId, BatchId, bool), trial: Trial) {
        self.trials.insert(of, trial);
    }

    /// Forgets every state that is not on the path, and all trials.
    pub(super) fn sweep(&mut self, planted: Planted) {
        if !planted.has(Slip::TrialsKept) {
            self.trials.clear();
        }
        for id in std::mem::take(&mut self.loose) {
            let Some(node) = self.nodes[id.index()].take_if(|node| !node.on_path) else {
                continue;
            };
            self.edges.remove(&(node.parent, node.batch, node.weight));
            self.free.push(id);
        }
    }

    // ---- forgetting

    /// Makes the state behind the first `length` settled batches the root, and forgets what led there. No node may be
    /// loose, and the set must have been renumbered.
    pub(super) fn forget(&mut self, length: usize, ids: &Renumbered, dag: &Dag) {
        let Some(root) = length.checked_sub(1).map(|at| self.path[at]) else {
            return;
        };
        let behind = self.get(root).position;
        let mut after = Self::new(
            self.entries_before + u64::from(behind),
            self.get(root).state.clone(),
        );
        after.grow(dag);
        for old in self.path.drain(length..) {
            let Some(mut node) = self.nodes[old.index()].take() else {
                continue;
            };
            let Some(batch) = ids.get(node.batch) else {
                continue;
            };
            node.parent = after.node();
            node.batch = batch;
            node.position -= behind;
            let (batch, writer) = (node.batch, node.writer);
            let id = after.add(node);
            after.settled[batch.index()] = u32::try_from(after.path.len()).ok();
            after.heads[writer.index()] += 1;
            after.path.push(id);
        }
        *self = after;
    }

    /// After ids of the set changed, and batches left it that are not settled. No node may be loose.
    pub(super) fn renumber(&mut self, ids: &Renumbered, dag: &Dag) {
        let mut settled = vec![None; dag.len().saturating_sub(ids.from())];
        for (before, after) in ids.moved() {
            let Some(at) = self.settled.get(before.index()).copied().flatten() else {
                continue;
            };
            settled[after.index() - ids.from()] = Some(at);
            let id = self.path[at as usize];
            let node = self.get_mut(id);
            node.batch = after;
            let (parent, weight) = (node.parent, node.weight);
            self.edges.remove(&(parent, before, weight));
            self.edges.insert((parent, after, weight), id);
        }
        self.settled.truncate(ids.from());
        self.settled.append(&mut settled);
    }

    // ---- private

    fn add(&mut self, node: TimelineNode<S>) -> NodeId {
        let edge = (node.parent, node.batch, node.weight);
        let id = if let Some(id) = self.free.pop() {
            self.nodes[id.index()] = Some(node);
            id
        } else {
            // As many states as ids do not fit in memory.
            let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
            self.nodes.push(Some(node));
            id
        };
        self.edges.insert(edge, id);
        id
    }

    #[expect(
        clippy::expect_used,
        reason = "ids are only given out for nodes that are not swept"
    )]
    fn get(&self, id: NodeId) -> &TimelineNode<S> {
        self.nodes[id.index()]
            .as_ref()
            .expect("a node that is on a path or loose")
    }

    #[expect(
        clippy::expect_used,
        reason = "ids are only given out for nodes that are not swept"
    )]
    fn get_mut(&mut self, id: NodeId) -> &mut TimelineNode<S> {
        self.nodes[id.index()]
            .as_mut()
            .expect("a node that is on a path or loose")
    }
}
