//! What is different between two trees.
//!
//! Both trees are walked side by side. A subtree that stands at the same place in both is passed over without being
//! read, and so are records of two leaves that are the same. The original tells entries apart by where they are stored, and cannot go backwards; here they may also be
//! compared by what they hold, in both directions.

use std::cmp::Ordering;

use super::error::BeeError;
use super::family::{Bee, DEPTH_MAX, FamilyReader};
use super::place::ElementPlace;
use super::range::Range;
use super::source::Blocks;
use super::tree::TreeEntry;
use super::walk::{Walk, WalkStep};
use crate::env::Slip;

/// The rule by which two entries of one key count as the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sameness {
    /// When they are one stored record. A value that was written again differs. Never reads a value to find out.
    Place,
    /// When their values are equal.
    Value,
}

/// A key whose entry differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The entry in the tree that was asked.
    pub left: Option<TreeEntry>,
    /// The entry in the tree that it was compared with.
    pub right: Option<TreeEntry>,
}

/// Differences in the order of the range.
#[derive(Debug, Clone)]
pub struct Diff {
    bee: Bee,
    left: Walk,
    right: Walk,
    sameness: Sameness,
    /// How many more differences are wanted.
    count: Option<u64>,
    /// Levels of the two trees, once they are known.
    heights: Option<(usize, usize)>,
}

impl Diff {
    pub(super) fn new(
        bee: &Bee,
        left: Option<ElementPlace>,
        right: Option<ElementPlace>,
        range: Range,
        sameness: Sameness,
    ) -> Self {
        Self {
            bee: bee.clone(),
            count: range.limit_count(),
            left: Walk::new(left, range.clone()),
            right: Walk::new(right, range),
            sameness,
            heights: None,
        }
    }

    /// The next difference.
    ///
    /// # Errors
    ///
    /// When a block is missing or corrupt. The search goes on from there by the next call.
    pub fn next(&mut self, blocks: &dyn Blocks) -> Result<Option<Difference>, BeeError> {
        if self.count == Some(0) {
            return Ok(None);
        }
        let bee = self.bee.clone();
        let reader = FamilyReader { bee: &bee, blocks };
        loop {
            self.left.skip_same(&mut self.right);
            match (self.left.peek(&reader)?, self.right.peek(&reader)?) {
                (WalkStep::Subtree(left), WalkStep::Subtree(right))
                    if left == right
                        || bee.has(Slip::DiffSameBlock)
                            && (left.core, left.seq) == (right.core, right.seq) =>
                {
                    self.left.skip();
                    self.right.skip();
                }
                (WalkStep::Subtree(_), WalkStep::Subtree(_)) => self.enter_higher(&reader)?,
                (WalkStep::Subtree(_), _) => self.left.enter(&reader)?,
                (_, WalkStep::Subtree(_)) => self.right.enter(&reader)?,
                (WalkStep::End, WalkStep::End) => return Ok(None),
                (WalkStep::Key(..), WalkStep::End) if bee.has(Slip::DiffEndsEarly) => return Ok(None),
                (WalkStep::Key(left, text), WalkStep::End) => {
                    let found = Difference {
                        left: Some(reader.entry(left)?),
                        right: None,
                    };
                    self.left.pass(text);
                    return Ok(Some(self.found(found)));
                }
                (WalkStep::End, WalkStep::Key(right, text)) => {
                    let found = Difference {
                        left: None,
                        right: Some(reader.entry(right)?),
                    };
                    self.right.pass(text);
                    return Ok(Some(self.found(found)));
                }
                (WalkStep::Key(left, left_text), WalkStep::Key(right, right_text)) => {
                    let order = left_text.cmp(&right_text);
                    let order = if self.left.range().is_reverse() && !bee.has(Slip::ReverseDiffForward) {
                        order.reverse()
                    } else {
                        order
                    };
                    let left = (order != Ordering::Greater).then_some(left);
                    let right = (order != Ordering::Less).then_some(right);
                    let found = self.compare(&reader, left, right)?;
                    if left.is_some() {
                        self.left.pass(left_text);
                    }
                    if right.is_some() {
                        self.right.pass(right_text);
                    }
                    if let Some(found) = found {
                        return Ok(Some(self.found(found)));
                    }
                }
            }
        }
    }

    /// The difference between two records of one key, if there is one.
    fn compare(
        &self,
        reader: &FamilyReader<'_>,
        left: Option<ElementPlace>,
        right: Option<ElementPlace>,
    ) -> Result<Option<Difference>, BeeError> {
        if left == right || (right.is_none() && self.bee.has(Slip::DeletionUntold)) {
            return Ok(None);
        }
        let left = left.map(|place| reader.entry(place)).transpose()?;
        let right = right.map(|place| reader.entry(place)).transpose()?;
        if let (Some(left), Some(right), Sameness::Value) = (&left, &right, self.sameness)
            && left.value == right.value
        {
            return Ok(None);
        }
        Ok(Some(Difference { left, right }))
    }

    fn found(&mut self, found: Difference) -> Difference {
        self.count = self.count.map(|count| count - 1);
        found
    }

    /// Goes a level down on the side that is higher up, so that the two meet at subtrees of one level.
    fn enter_higher(&mut self, reader: &FamilyReader<'_>) -> Result<(), BeeError> {
        let (left, right) = match self.heights {
            Some(heights) => heights,
            None => *self
                .heights
                .insert((height(&self.left, reader)?, height(&self.right, reader)?)),
        };
        let left = left.saturating_sub(self.left.depth());
        let right = right.saturating_sub(self.right.depth());
        if left >= right {
            self.left.enter(reader)?;
        }
        if right >= left {
            self.right.enter(reader)?;
        }
        Ok(())
    }
}

/// How many levels lie below the start of a walk.
fn height(walk: &Walk, reader: &FamilyReader<'_>) -> Result<usize, BeeError> {
    let mut probe = walk.clone();
    for _ in 0..DEPTH_MAX {
        let WalkStep::Subtree(_) = probe.peek(reader)? else {
            break;
        };
        probe.enter(reader)?;
    }
    Ok(probe.depth())
}
