//! Which nodes of a Merkle tree a block completes. Flat indices: leaf `i` is node `2 i`, parents lie between.

/// The block that completes a node, and how far above the leaf the node is. None for nodes that no block can reach.
pub(super) fn completer(node: u64) -> Option<(u64, u32)> {
    let depth = node.trailing_ones();
    let reach = 1_u64.checked_shl(depth)?.checked_sub(1)?;
    Some((node.checked_add(reach)? / 2, depth))
}

/// The node that is `depth` levels above the leaf of a block and is completed by it.
pub(super) fn node(block: u64, depth: u32) -> Option<u64> {
    if depth > height(block)? {
        return None;
    }
    (2 * block).checked_sub(1_u64.checked_shl(depth)?.checked_sub(1)?)
}

/// All nodes that a block completes, from its leaf upwards.
pub(super) fn completed(block: u64) -> impl Iterator<Item = u64> {
    let depths = height(block).map_or(0..0, |height| 0..height + 1);
    depths.filter_map(move |depth| node(block, depth))
}

/// The mask of all nodes that a block completes.
pub(super) fn mask_of(block: u64) -> u64 {
    height(block).map_or(0, |height| u64::MAX >> (63 - height))
}

/// How many levels above the leaf the highest node is that a block completes. None where flat indices end.
pub(super) fn height(block: u64) -> Option<u32> {
    block.checked_mul(2)?;
    Some(block.trailing_ones())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_trees() {
        let all: Vec<Vec<u64>> = (0..4).map(|block| completed(block).collect()).collect();
        assert_eq!(all, [vec![0], vec![2, 1], vec![4], vec![6, 5, 3]]);
        assert_eq!([0, 1, 2, 3].map(mask_of), [1, 3, 1, 7]);
    }

    proptest! {
        #[test]
        fn completion_goes_both_ways(node in any::<u64>()) {
            if let Some((block, depth)) = completer(node) {
                prop_assert_eq!(super::node(block, depth), Some(node));
                prop_assert!(mask_of(block) & (1 << depth) != 0);
            }
        }
    }
}
