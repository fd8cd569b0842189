//! A walk over the keys of a tree in order, which can pass over subtrees unseen.
//!
//! The walk holds one node a level. Whatever fails leaves it where it was, so that it can go on once a missing block
//! is there. Keys must strictly ascend (or descend): that, and the bound on the depth, is what ends a walk over a
//! tree whose child pointers form a cycle.

use std::sync::Arc;

use bytes::Bytes;

use super::error::{BeeError, BlockFault};
use super::family::{DEPTH_MAX, FamilyReader};
use super::node::{BeeNode, KeyAt, KeySlot, KidAt, KidSlot};
use super::place::ElementPlace;
use super::range::{Edge, Range};
use crate::env::Slip;

/// Where a walk is.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    range: Range,
    /// The root, until it is entered or passed over.
    root: Option<ElementPlace>,
    /// The path to the position, the root first.
    frames: Vec<PathNode>,
    /// The key that was last passed.
    last: Option<Bytes>,
}

/// A node on the path. `position` counts the keys on the left of the position in it.
#[derive(Debug, Clone)]
struct PathNode {
    node: Arc<BeeNode>,
    place: ElementPlace,
    position: usize,
    /// The child at `position` is still to come.
    enter: bool,
}

/// The next step of a walk.
pub(super) enum WalkStep {
    /// A subtree that may be entered or passed over.
    Subtree(ElementPlace),
    /// A key.
    Key(ElementPlace, Bytes),
    /// Nothing.
    End,
}

impl Walk {
    pub(super) const fn new(root: Option<ElementPlace>, range: Range) -> Self {
        Self {
            range,
            root,
            frames: Vec::new(),
            last: None,
        }
    }

    pub(super) const fn range(&self) -> &Range {
        &self.range
    }

    /// How many levels below the root the next step is.
    pub(super) fn depth(&self) -> usize {
        self.frames.len()
    }

    /// What comes next, without going there.
    pub(super) fn peek(&mut self, reader: &FamilyReader<'_>) -> Result<WalkStep, BeeError> {
        if let Some(root) = self.root {
            return Ok(WalkStep::Subtree(root));
        }
        loop {
            let Some(frame) = self.frames.last() else {
                return Ok(WalkStep::End);
            };
            if frame.enter {
                return Ok(WalkStep::Subtree(frame.kid()));
            }
            let Some(index) = frame.key(self.range.is_reverse()) else {
                self.frames.pop();
                continue;
            };
            let slot = &frame.node.keys[index];
            let text = reader.text(&frame.node, slot)?.clone();
            if self.last.as_ref().is_some_and(|last| !self.follows(last, &text)) {
                return Err(reader.corrupt_at(frame.place, BlockFault::KeyOrder));
            }
            let KeyAt::Stored(place) = slot.at else {
                return Ok(WalkStep::End);
            };
            let is_far = |edge: Edge<'_>| *edge.key == text;
            let is_bound = self.range.far().is_some_and(is_far) && reader.bee.has(Slip::FarBoundIn);
            if self.range.is_past(&text) && !is_bound {
                self.stop();
                return Ok(WalkStep::End);
            }
            return Ok(WalkStep::Key(place, text));
        }
    }

    /// Goes into the subtree that is next.
    pub(super) fn enter(&mut self, reader: &FamilyReader<'_>) -> Result<(), BeeError> {
        let (node, place) = match (self.root, self.frames.last()) {
            (Some(root), _) => (reader.node(root)?, root),
            (None, Some(frame)) if frame.enter => {
                let place = frame.kid();
                (reader.kid(&frame.node.kids[frame.position], place)?, place)
            }
            _ => return Ok(()),
        };
        if self.frames.len() >= DEPTH_MAX {
            return Err(reader.corrupt_at(place, BlockFault::TooDeep(DEPTH_MAX)));
        }
        let (position, below) = self.start(reader, &node)?;
        let enter = below && !node.is_leaf();
        self.skip();
        self.frames.push(PathNode {
            node,
            place,
            position,
            enter,
        });
        Ok(())
    }

    /// Passes over the subtree that is next.
    pub(super) fn skip(&mut self) {
        if self.root.take().is_none()
            && let Some(frame) = self.frames.last_mut()
        {
            frame.enter = false;
        }
    }

    /// Passes the key that is next.
    pub(super) fn pass(&mut self, text: Bytes) {
        let reverse = self.range.is_reverse();
        if let Some(frame) = self.frames.last_mut() {
            frame.advance(1, reverse);
            frame.enter = !frame.node.is_leaf();
        }
        if self.range.ends_at(&text) {
            self.stop();
        }
        self.last = Some(text);
    }

    /// Passes over records that stand next in leaves of both walks, all but the last of them, without reading them.
    ///
    /// One key of each leaf is still read: that they ascend is what ends a walk over a tree whose pointers form a cycle.
    pub(super) fn skip_same(&mut self, other: &mut Self) {
        let reverse = self.range.is_reverse();
        let (Some(left), Some(right)) = (self.leaf(), other.leaf()) else {
            return;
        };
        let same = |(left, right): &(&KeySlot, &KeySlot)| match (left.at, right.at) {
            (KeyAt::Stored(left), KeyAt::Stored(right)) => left == right,
            _ => false,
        };
        let keys = in_order(left.ahead(reverse).0.iter(), reverse);
        let count = keys
            .zip(in_order(right.ahead(reverse).0.iter(), reverse))
            .take_while(same)
            .count();
        for walk in [self, other] {
            if let Some(frame) = walk.frames.last_mut() {
                frame.advance(count.saturating_sub(1), reverse);
            }
        }
    }

    /// The node at the position, when it is a leaf that was entered.
    fn leaf(&self) -> Option<&PathNode> {
        let frame = self.frames.last().filter(|_| self.root.is_none())?;
        (frame.node.is_leaf() && !frame.enter).then_some(frame)
    }

    /// Asks for the blocks that come next, after one was missing: of the keys at hand, and of the nodes after them.
    /// `count` entries are still wanted.
    pub(super) fn want_ahead(&self, reader: &FamilyReader<'_>, error: &BeeError, count: Option<u64>) {
        let count = count
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or(usize::MAX);
        let reverse = self.range.is_reverse();
        for frame in self.frames.iter().rev() {
            let (keys, kids) = frame.ahead(reverse);
            let blocks = keys.iter().filter_map(KeySlot::wanted);
            reader.want(error, in_order(blocks, reverse).take(count));
            let places = kids.iter().filter_map(|slot| match slot.at {
                KidAt::Stored(place) => Some(place),
                KidAt::Working(_) => None,
            });
            // Each node has at least one key.
            let blocks = in_order(places, reverse)
                .take(count)
                .flat_map(|place| reader.wanted_for(place));
            reader.want(error, blocks);
        }
    }

    /// Ends the walk.
    pub(super) fn stop(&mut self) {
        self.root = None;
        self.frames.clear();
    }

    /// Where in a node the walk begins, and whether the child there can hold anything of the range.
    fn start(&self, reader: &FamilyReader<'_>, node: &BeeNode) -> Result<(usize, bool), BeeError> {
        let reverse = self.range.is_reverse();
        // After the first key, everything below is inside of the near bound.
        let Some(edge) = self.range.near().filter(|_| self.last.is_none()) else {
            return Ok((if reverse { node.keys.len() } else { 0 }, true));
        };
        Ok(match (reader.search(node, edge.key)?, edge.inclusive, reverse) {
            (Err(position), _, _) => (position, true),
            (Ok(position), true, false) => (position, false),
            (Ok(position), false, false) => (position + 1, true),
            (Ok(position), true, true) if reader.bee.has(Slip::ReverseBoundOut) => (position, true),
            (Ok(position), true, true) => (position + 1, false),
            (Ok(position), false, true) => (position, true),
        })
    }

    fn follows(&self, last: &Bytes, key: &Bytes) -> bool {
        if self.range.is_reverse() {
            key < last
        } else {
            key > last
        }
    }
}

/// The items of an iterator, from its other end if need be.
fn in_order<T>(mut items: impl DoubleEndedIterator<Item = T>, reverse: bool) -> impl Iterator<Item = T> {
    std::iter::from_fn(move || if reverse { items.next_back() } else { items.next() })
}

impl PathNode {
    /// Passes over so many keys.
    const fn advance(&mut self, count: usize, reverse: bool) {
        self.position = if reverse {
            self.position.saturating_sub(count)
        } else {
            self.position.saturating_add(count)
        };
    }

    /// The keys and children that are still to come.
    fn ahead(&self, reverse: bool) -> (&[KeySlot], &[KidSlot]) {
        let (keys, kids) = (&self.node.keys, &self.node.kids);
        let position = self.position.min(keys.len());
        // The child of a position stands before its key; once entered, it is no longer ahead.
        let entered = usize::from(!self.enter);
        if reverse {
            let end = (position + 1 - entered).min(kids.len());
            (&keys[..position], &kids[..end])
        } else {
            let start = (position + entered).min(kids.len());
            (&keys[position..], &kids[start..])
        }
    }

    /// The key that is next in the node.
    fn key(&self, reverse: bool) -> Option<usize> {
        if reverse {
            self.position.checked_sub(1)
        } else {
            Some(self.position).filter(|position| *position < self.node.keys.len())
        }
    }

    /// The child at the position. Nodes from blocks have one more child than keys, and all of them stored.
    fn kid(&self) -> ElementPlace {
        match self.node.kids.get(self.position).map(|slot| slot.at) {
            Some(KidAt::Stored(place)) => place,
            _ => self.place,
        }
    }
}
