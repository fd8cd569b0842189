//! Numbering of the nodes of a binary tree that grows to the right.
//!
//! The tree is laid out in order: block `i` is leaf `2 * i`, and odd numbers are parents. A node keeps its number
//! for ever, however long the log becomes.
//!
//! Every function is total: where a result does not fit into 64 bits it is [`NOWHERE`], which is the number of no
//! node that a log can have. So a number that came from a peer can be walked without a check at each step.
//!
//! Source: spec/hypercore.md 6.1 and 6.4 (`flat-tree` 1.13).
//!
//! ```
//! use autobee::hypercore::flat_tree;
//!
//! //         3
//! //     1       5
//! //   0   2   4   6     8
//! assert_eq!(flat_tree::parent(4), 5);
//! assert_eq!(flat_tree::sibling(1), 5);
//! assert_eq!(flat_tree::full_roots(5).collect::<Vec<_>>(), [3, 8]);
//! ```

/// The number of no node.
pub const NOWHERE: u64 = u64::MAX;

/// Height of a node above the leaves; 0 for a leaf.
#[must_use]
pub const fn depth(node: u64) -> u32 {
    node.trailing_ones()
}

/// Position of a node among the nodes of its depth, counted from the left.
#[must_use]
pub const fn offset(node: u64) -> u64 {
    match node.checked_shr(depth(node) + 1) {
        Some(offset) => offset,
        None => 0,
    }
}

/// The node one level up.
#[must_use]
pub const fn parent(node: u64) -> u64 {
    match depth(node) {
        depth @ 0..=62 => (node | (1 << depth)) & !(2 << depth),
        _ => NOWHERE,
    }
}

/// The other child of the parent.
#[must_use]
pub const fn sibling(node: u64) -> u64 {
    match depth(node) {
        depth @ 0..=62 => node ^ (2 << depth),
        _ => NOWHERE,
    }
}

/// The left and the right child; none for a leaf.
#[must_use]
pub const fn children(node: u64) -> Option<(u64, u64)> {
    match depth(node) {
        0 | 64 => None,
        depth => {
            let left = node & !(1 << (depth - 1));
            Some((left, left | (1 << depth)))
        }
    }
}

/// True for a left child. All roots of a log are.
#[must_use]
pub const fn is_left(node: u64) -> bool {
    offset(node).is_multiple_of(2)
}

/// The leftmost leaf below a node.
#[must_use]
pub const fn left_span(node: u64) -> u64 {
    // Bit `depth` is zero and all bits below are ones: clearing them gives the leftmost leaf.
    node & node.wrapping_add(1)
}

/// The rightmost leaf below a node.
#[must_use]
pub const fn right_span(node: u64) -> u64 {
    match depth(node) {
        depth @ 0..=63 => left_span(node) | ((u64::MAX >> (63 - depth)) & !1),
        _ => NOWHERE - 1,
    }
}

/// Number of leaves below a node; 1 for a leaf.
#[must_use]
pub const fn leaves(node: u64) -> u64 {
    match 1u64.checked_shl(depth(node)) {
        Some(leaves) => leaves,
        None => u64::MAX,
    }
}

/// The first block below a node.
#[must_use]
pub const fn first_block(node: u64) -> u64 {
    left_span(node) / 2
}

/// The first block to the right of a node.
#[must_use]
pub const fn end_block(node: u64) -> u64 {
    right_span(node) / 2 + 1
}

/// True when `other` lies between the leftmost and the rightmost leaf of `node`, parents in between included.
#[must_use]
pub const fn contains(node: u64, other: u64) -> bool {
    left_span(node) <= other && other <= right_span(node)
}

/// The roots of a log of `length` blocks: one complete subtree for each set bit of `length`, largest first.
pub fn full_roots(length: u64) -> CoveringNodes {
    cover(0, length)
}

/// The fewest complete subtrees that together hold exactly the blocks from `start` up to `end`, left to right.
///
/// Appended as roots to a log of `start` blocks, they give the log of `end` blocks.
pub fn cover(start: u64, end: u64) -> CoveringNodes {
    CoveringNodes { at: start, end }
}

/// Iterator of [`cover`] and [`full_roots`].
#[derive(Debug, Clone)]
pub struct CoveringNodes {
    at: u64,
    end: u64,
}

impl Iterator for CoveringNodes {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let left = self.end.checked_sub(self.at).filter(|&left| left > 0)?;
        let fitting = 1 << left.ilog2();
        let aligned = match self.at {
            0 => u64::MAX,
            at => 1 << at.trailing_zeros(),
        };
        let leaves = aligned.min(fitting);
        let node = self.at.saturating_mul(2).saturating_add(leaves - 1);
        self.at += leaves;
        Some(node)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_number_panics(node: u64, other: u64) {
            let (_, _, _) = (depth(node), offset(node), contains(node, other));
            let (_, _, _) = (parent(node), sibling(node), children(node));
            let (_, _, _, _) = (first_block(node), end_block(node), leaves(node), right_span(node));
            for node in cover(node, other).take(200) {
                let _ = parent(node);
            }
        }

        #[test]
        fn families_agree(node in 0..1u64 << 60) {
            prop_assert_eq!(parent(node), parent(sibling(node)));
            prop_assert_eq!(sibling(sibling(node)), node);
            let (left, right) = children(parent(node)).unwrap();
            prop_assert_eq!(if is_left(node) { left } else { right }, node);
            prop_assert_eq!(depth(parent(node)), depth(node) + 1);
            prop_assert_eq!(end_block(node) - first_block(node), leaves(node));
            prop_assert!(contains(parent(node), node) && !contains(node, sibling(node)));
            prop_assert_eq!((1 + 2 * offset(node)) * leaves(node) - 1, node);
        }

        #[test]
        fn cover_is_exact(start in 0..1u64 << 40, count in 0..1u64 << 40) {
            let mut at = start;
            for node in cover(start, start + count) {
                prop_assert_eq!(first_block(node), at);
                at = end_block(node);
            }
            prop_assert_eq!(at, start + count);
        }
    }
}
