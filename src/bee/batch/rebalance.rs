//! Splits, borrows and merges. The order of the edits is part of the format (spec/hyperbee.md 7.2).

use super::super::error::{BeeError, BlockFault};
use super::super::family::FamilyReader;
use super::super::node::{BeeNode, KeySlot, KidAt, KidSlot};
use super::super::place::ElementPlace;
use super::TreeBatch;
use super::edit::{Loaded, PathStep};
use crate::env::{Point, Slip};

/// What a node that has become too small does, and with which sibling.
#[derive(Debug)]
pub(super) enum Remedy {
    /// Takes a key from the left sibling.
    BorrowLeft(Loaded),
    /// Takes a key from the right sibling.
    BorrowRight(Loaded),
    /// Goes into the left sibling.
    MergeLeft(Loaded),
    /// Takes in the right sibling.
    MergeRight(Loaded),
}

impl TreeBatch {
    /// Splits the nodes of a path, from the leaf up, as long as they have too many keys.
    pub(super) fn split_up(&mut self, ids: &[u32], positions: &[usize]) {
        for level in (0..ids.len()).rev() {
            let id = ids[level];
            let node = self.working(id);
            if to_u64(node.keys.len()) < node.degree.saturating_mul(2) {
                return;
            }
            let origin = ElementPlace {
                core: self.selected,
                seq: 0,
                offset: 0,
            };
            let is_leaf = self.working(id).is_leaf();
            self.sights.note(if is_leaf {
                Point::LeafSplit
            } else {
                Point::InnerSplit
            });
            let (median, right) = self.split(id);
            let right = KidSlot::new(KidAt::Working(self.add(right, origin)));
            if let Some(parent) = level.checked_sub(1) {
                let position = positions[level];
                let parent = self.working(ids[parent]);
                parent.insert_key(position, median);
                parent.insert_kid(position + 1, right, origin);
            } else {
                let mut top = BeeNode::empty(self.working(id).degree);
                top.push_key(median);
                top.push_kid(KidSlot::new(self.root), self.place_of(self.root));
                top.push_kid(right, origin);
                self.root = KidAt::Working(self.add(top, origin));
            }
        }
    }

    /// Moves the upper half of a node to a new one. The key between the two halves belongs to the parent.
    fn split(&mut self, id: u32) -> (KeySlot, BeeNode) {
        let is_kept = self.bee.has(Slip::MedianTwice);
        let left = self.working(id);
        let mut right = BeeNode::empty(left.degree);
        let half = left.keys.len() >> 1;
        let mut keys: Vec<_> = (0..half).map(|_| left.remove_key(left.keys.len() - 1)).collect();
        while let Some(key) = keys.pop() {
            right.push_key(key);
        }
        let median = left.remove_key(left.keys.len() - 1);
        if is_kept && left.is_leaf() {
            right.insert_key(0, median.clone());
        }
        if !left.is_leaf() {
            let mut kids: Vec<_> = (0..=half).map(|_| left.remove_kid(left.kids.len() - 1)).collect();
            while let Some(kid) = kids.pop() {
                let place = self.place_of(kid.at);
                right.push_kid(kid, place);
            }
        }
        (median, right)
    }

    /// Finds out, from the leaf of a path up, how the nodes will be filled up again once the leaf has lost a key, and
    /// loads the siblings for it.
    pub(super) fn remedies(
        &self,
        reader: &FamilyReader<'_>,
        path: &[PathStep],
    ) -> Result<Vec<Remedy>, BeeError> {
        let mut remedies = Vec::new();
        for level in (1..path.len()).rev() {
            let node = self.view(&path[level].node);
            // One key is gone: deleted from the leaf, or drawn into the merge below.
            let keys = node.keys.len().saturating_sub(1);
            let least = node.degree.saturating_sub(1);
            if to_u64(keys) >= least {
                break;
            }
            let (remedy, last) = self.remedy(reader, path, level, least)?;
            let sibling = self.view(remedy.sibling());
            if sibling.is_leaf() != node.is_leaf() {
                return Err(self.child_count(reader, &path[..level]));
            }
            remedies.push(remedy);
            if last {
                break;
            }
        }
        Ok(remedies)
    }

    /// The remedy for one node, and whether it ends the matter.
    fn remedy(
        &self,
        reader: &FamilyReader<'_>,
        path: &[PathStep],
        level: usize,
        least: u64,
    ) -> Result<(Remedy, bool), BeeError> {
        let parent = self.view(&path[level - 1].node);
        let position = path[level].position;
        let can_spare = |sibling: &Loaded| to_u64(self.view(sibling).keys.len()) > least;
        let mut left = None;
        if let Some(before) = position.checked_sub(1) {
            let sibling = self.load_kid(reader, parent, before)?;
            if can_spare(&sibling) {
                return Ok((Remedy::BorrowLeft(sibling), true));
            }
            left = Some(sibling);
        }
        let mut right = None;
        if position + 1 < parent.kids.len() {
            let sibling = self.load_kid(reader, parent, position + 1)?;
            if can_spare(&sibling) {
                return Ok((Remedy::BorrowRight(sibling), true));
            }
            right = Some(sibling);
        }
        match (left, right) {
            (Some(left), _) => Ok((Remedy::MergeLeft(left), false)),
            (None, Some(right)) => Ok((Remedy::MergeRight(right), false)),
            (None, None) => Err(self.child_count(reader, &path[..level])),
        }
    }

    /// Fills up the nodes of a path, from the leaf up.
    pub(super) fn rebalance(&mut self, ids: &[u32], positions: &[usize], remedies: Vec<Remedy>) {
        let levels = (1..ids.len()).rev();
        let mut merged = 0;
        for (level, remedy) in levels.zip(remedies) {
            let (parent, id, position) = (ids[level - 1], ids[level], positions[level]);
            match remedy {
                Remedy::BorrowLeft(sibling) => {
                    let sibling = self.own_kid(parent, position - 1, sibling);
                    return self.borrow_left(parent, position, id, sibling);
                }
                Remedy::BorrowRight(sibling) => {
                    let sibling = self.own_kid(parent, position + 1, sibling);
                    return self.borrow_right(parent, position, id, sibling);
                }
                Remedy::MergeLeft(sibling) => {
                    let sibling = self.own_kid(parent, position - 1, sibling);
                    self.merge(parent, position - 1, sibling, id);
                }
                Remedy::MergeRight(sibling) => {
                    let sibling = self.own_kid(parent, position + 1, sibling);
                    self.merge(parent, position, id, sibling);
                }
            }
            merged += 1;
        }
        // An inner root that has lost its last key to a merge gives way to its only child.
        if merged == ids.len() - 1 && !self.bee.has(Slip::EmptyRootStays) {
            let root = self.working(ids[0]);
            if root.keys.is_empty()
                && let Some(kid) = root.kids.first()
            {
                self.root = kid.at;
                self.sights.note(Point::RootReplaced);
            }
        }
    }

    fn borrow_left(&mut self, parent: u32, position: usize, id: u32, sibling: u32) {
        self.sights.note(Point::KeyBorrowed);
        let separator = self.working(parent).keys[position - 1].clone();
        self.working(id).insert_key(0, separator);
        let is_first = self.bee.has(Slip::BorrowedFirstChild);
        let from = self.working(sibling);
        if !from.is_leaf() {
            let at = if is_first { 0 } else { from.kids.len() - 1 };
            let kid = from.remove_kid(at);
            let place = self.place_of(kid.at);
            self.working(id).insert_kid(0, kid, place);
        }
        let from = self.working(sibling);
        let key = from.remove_key(from.keys.len() - 1);
        self.working(parent).set_key(position - 1, key);
    }

    fn borrow_right(&mut self, parent: u32, position: usize, id: u32, sibling: u32) {
        self.sights.note(Point::KeyBorrowed);
        let separator = self.working(parent).keys[position].clone();
        self.working(id).push_key(separator);
        let from = self.working(sibling);
        if !from.is_leaf() {
            let kid = from.remove_kid(0);
            let place = self.place_of(kid.at);
            self.working(id).push_kid(kid, place);
        }
        let key = self.working(sibling).remove_key(0);
        if !self.bee.has(Slip::SeparatorKept) {
            self.working(parent).set_key(position, key);
        }
    }

    /// Moves everything of `from`, the child after `into`, to the end of `into`.
    fn merge(&mut self, parent: u32, separator: usize, into: u32, from: u32) {
        let is_leaf = self.working(into).is_leaf();
        self.sights.note(if is_leaf {
            Point::LeafMerged
        } else {
            Point::InnerMerged
        });
        let key = self.working(parent).keys[separator].clone();
        self.working(into).push_key(key);
        let mut keys = std::mem::take(&mut self.working(from).keys);
        if self.bee.has(Slip::MergeLosesKey) && self.working(from).is_leaf() {
            keys.pop();
        }
        for key in keys {
            self.working(into).push_key(key);
        }
        for kid in std::mem::take(&mut self.working(from).kids) {
            let place = self.place_of(kid.at);
            self.working(into).push_kid(kid, place);
        }
        let parent = self.working(parent);
        parent.remove_key(separator);
        parent.remove_kid(separator + 1);
    }

    fn child_count(&self, reader: &FamilyReader<'_>, path: &[PathStep]) -> BeeError {
        let (keys, children) = path.last().map_or((0, 0), |step| {
            let node = self.view(&step.node);
            (node.keys.len(), node.kids.len())
        });
        self.fault(reader, path, BlockFault::ChildCount { keys, children })
    }
}

impl Remedy {
    const fn sibling(&self) -> &Loaded {
        match self {
            Self::BorrowLeft(node)
            | Self::BorrowRight(node)
            | Self::MergeLeft(node)
            | Self::MergeRight(node) => node,
        }
    }
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
