//! Puts and deletes on the working nodes (spec/hyperbee.md 7.2).
//!
//! Every operation first loads all it needs and can fail only then. What follows cannot, so that no operation is ever
//! half done.

use std::sync::Arc;

use bytes::Bytes;

use super::super::error::{BeeError, BlockFault};
use super::super::family::{DEPTH_MAX, FamilyReader};
use super::super::node::{BeeNode, KeySlot, KidAt};
use super::super::place::ElementPlace;
use super::{FreshKey, TreeBatch, index};
use crate::env::{Point, Slip};

/// A node that an operation has found.
#[derive(Debug)]
pub(super) enum Loaded {
    /// As it is stored.
    Stored(ElementPlace, Arc<BeeNode>),
    /// As the batch has it.
    Working(u32),
}

/// A step of a path: the node, and which child of the one before it is.
#[derive(Debug)]
pub(super) struct PathStep {
    pub(super) node: Loaded,
    pub(super) position: usize,
}

impl TreeBatch {
    pub(super) fn put_key(
        &mut self,
        reader: &FamilyReader<'_>,
        key: &[u8],
        value: &[u8],
        is_known_to_differ: bool,
    ) -> Result<bool, BeeError> {
        let (path, found) = self.path_to(reader, key)?;
        match found {
            Ok((position, text)) => {
                if !is_known_to_differ {
                    let before = self.value_in(reader, &path, position)?;
                    let is_as_long = before.as_ref().is_some_and(|before| before.len() == value.len());
                    let is_skipped = is_as_long && self.bee.has(Slip::EqualLengthSkipped);
                    if is_skipped || before.as_deref() == Some(value) {
                        return Ok(false);
                    }
                }
                let slot = self.fresh(text, value);
                let (ids, _) = self.own_path(path);
                let id = ids[ids.len() - 1];
                self.working(id).set_key(position, slot);
            }
            Err(position) => {
                let slot = self.fresh(Bytes::copy_from_slice(key), value);
                let (ids, positions) = self.own_path(path);
                let id = ids[ids.len() - 1];
                self.working(id).insert_key(position, slot);
                self.split_up(&ids, &positions);
            }
        }
        Ok(true)
    }

    pub(super) fn delete_key(&mut self, reader: &FamilyReader<'_>, key: &[u8]) -> Result<bool, BeeError> {
        let (mut path, found) = self.path_to(reader, key)?;
        let Ok((position, _)) = found else {
            return Ok(false);
        };
        // A key of an inner node is replaced by its neighbour in a leaf: the path goes on to that leaf.
        let level = path.len() - 1;
        let mut first = false;
        if !self.view(&path[level].node).is_leaf() {
            let below = self.edge(reader, &path, position, Side::Last)?;
            let above = self.edge(reader, &path, position + 1, Side::First)?;
            first = self.leaf_keys(&below) < self.leaf_keys(&above);
            path.extend(if first { above } else { below });
            if self.leaf_keys(&path) == 0 {
                let what = BlockFault::ChildCount { keys: 0, children: 0 };
                return Err(self.fault(reader, &path, what));
            }
        }
        let remedies = self.remedies(reader, &path)?;

        let (ids, positions) = self.own_path(path);
        let first = first && !self.bee.has(Slip::WrongNeighbour);
        let leaf = self.working(ids[ids.len() - 1]);
        if level == ids.len() - 1 {
            leaf.remove_key(position);
        } else {
            let slot = leaf.remove_key(if first { 0 } else { leaf.keys.len() - 1 });
            self.working(ids[level]).set_key(position, slot);
        }
        self.rebalance(&ids, &positions, remedies);
        Ok(true)
    }

    // Finding.

    /// The path from the root to the node that has the key, and the key there, or to the leaf that it belongs in.
    #[expect(clippy::type_complexity, reason = "found or not found, as in a binary search")]
    fn path_to(
        &self,
        reader: &FamilyReader<'_>,
        key: &[u8],
    ) -> Result<(Vec<PathStep>, Result<(usize, Bytes), usize>), BeeError> {
        let mut path = Vec::with_capacity(4);
        let mut node = self.load_root(reader)?;
        let mut position = 0;
        while path.len() < DEPTH_MAX {
            let view = self.view(&node);
            let next = match reader.search(view, key)? {
                Ok(hit) => {
                    let text = reader.text(view, &view.keys[hit])?.clone();
                    path.push(PathStep { node, position });
                    return Ok((path, Ok((hit, text))));
                }
                Err(free) if view.is_leaf() => {
                    path.push(PathStep { node, position });
                    return Ok((path, Err(free)));
                }
                Err(next) => next,
            };
            let kid = self.load_kid(reader, view, next)?;
            path.push(PathStep { node, position });
            node = kid;
            position = next;
        }
        Err(self.too_deep(reader))
    }

    /// The path from the child at `position` of the last node of `path` to the last or first leaf under it.
    fn edge(
        &self,
        reader: &FamilyReader<'_>,
        path: &[PathStep],
        mut position: usize,
        side: Side,
    ) -> Result<Vec<PathStep>, BeeError> {
        let mut edge: Vec<PathStep> = Vec::new();
        while let Some(step) = edge.last().or(path.last()) {
            let parent = self.view(&step.node);
            if !edge.is_empty() {
                if parent.is_leaf() {
                    return Ok(edge);
                }
                position = match side {
                    Side::First => 0,
                    Side::Last => parent.kids.len() - 1,
                };
            }
            if path.len() + edge.len() >= DEPTH_MAX {
                break;
            }
            let node = self.load_kid(reader, parent, position)?;
            edge.push(PathStep { node, position });
        }
        Err(self.too_deep(reader))
    }

    fn leaf_keys(&self, path: &[PathStep]) -> usize {
        path.last().map_or(0, |step| self.view(&step.node).keys.len())
    }

    fn value_in(
        &self,
        reader: &FamilyReader<'_>,
        path: &[PathStep],
        position: usize,
    ) -> Result<Option<Bytes>, BeeError> {
        match path.last() {
            Some(step) => self.value(reader, self.view(&step.node).keys[position].at),
            None => Ok(None),
        }
    }

    pub(super) fn load_root(&self, reader: &FamilyReader<'_>) -> Result<Loaded, BeeError> {
        Ok(match (self.root, &self.root_node) {
            (KidAt::Working(id), _) => Loaded::Working(id),
            (KidAt::Stored(place), Some(node)) => Loaded::Stored(place, Arc::clone(node)),
            (KidAt::Stored(place), None) => Loaded::Stored(place, reader.node(place)?),
        })
    }

    pub(super) fn load_kid(
        &self,
        reader: &FamilyReader<'_>,
        node: &BeeNode,
        position: usize,
    ) -> Result<Loaded, BeeError> {
        let slot = &node.kids[position];
        Ok(match slot.at {
            KidAt::Working(id) => Loaded::Working(id),
            KidAt::Stored(place) => Loaded::Stored(place, reader.kid(slot, place)?),
        })
    }

    pub(super) fn view<'a>(&'a self, loaded: &'a Loaded) -> &'a BeeNode {
        match loaded {
            Loaded::Stored(_, node) => node,
            Loaded::Working(id) => &self.nodes[index(*id)].node,
        }
    }

    pub(super) fn too_deep(&self, reader: &FamilyReader<'_>) -> BeeError {
        reader.corrupt_at(self.place_of(self.root), BlockFault::TooDeep(DEPTH_MAX))
    }

    pub(super) fn fault(&self, reader: &FamilyReader<'_>, path: &[PathStep], what: BlockFault) -> BeeError {
        let at = match path.last().map(|step| &step.node) {
            Some(Loaded::Stored(place, _)) => KidAt::Stored(*place),
            Some(Loaded::Working(id)) => KidAt::Working(*id),
            None => self.root,
        };
        reader.corrupt_at(self.place_of(at), what)
    }

    // Changing.

    /// Makes all nodes of a path working nodes. Gives their numbers, and their positions in their parents.
    fn own_path(&mut self, path: Vec<PathStep>) -> (Vec<u32>, Vec<usize>) {
        let mut ids: Vec<u32> = Vec::with_capacity(path.len());
        let mut positions = Vec::with_capacity(path.len());
        for PathStep { node, position } in path {
            let id = match (node, ids.last()) {
                (Loaded::Working(id), _) => id,
                (kid, Some(parent)) => self.own_kid(*parent, position, kid),
                (Loaded::Stored(place, node), None) => {
                    self.root_node = None;
                    let node = self.bee.own(place, node);
                    let id = self.add(node, place);
                    self.root = KidAt::Working(id);
                    id
                }
            };
            ids.push(id);
            positions.push(position);
        }
        (ids, positions)
    }

    /// Makes a child of a working node a working node.
    pub(super) fn own_kid(&mut self, parent: u32, position: usize, kid: Loaded) -> u32 {
        match kid {
            Loaded::Working(id) => id,
            Loaded::Stored(place, node) => {
                let node = self.bee.own(place, node);
                let id = self.add(node, place);
                self.working(parent).kids[position].at = KidAt::Working(id);
                id
            }
        }
    }

    pub(super) fn working(&mut self, id: u32) -> &mut BeeNode {
        &mut self.nodes[index(id)].node
    }

    /// The place that an edit made now gives to a child.
    pub(super) fn place_of(&self, kid: KidAt) -> ElementPlace {
        match kid {
            KidAt::Stored(place) => place,
            KidAt::Working(id) => self.nodes[index(id)].origin,
        }
    }

    fn fresh(&mut self, key: Bytes, value: &[u8]) -> KeySlot {
        self.sights
            .note_if(Point::ValueApart, value.len() > self.value_inline_bytes_max);
        let id = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        self.keys.push(FreshKey {
            key: key.clone(),
            value: Bytes::copy_from_slice(value),
        });
        KeySlot::fresh(id, key)
    }
}

/// The choice of a leaf under a node: the first or the last.
#[derive(Debug, Clone, Copy)]
enum Side {
    First,
    Last,
}
