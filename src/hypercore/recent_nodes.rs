//! A cache of the tree nodes that were written last, so that the next proof or append need not read them back from the disk.
//!
//! A value, like the line that it belongs to: a copy is cheap, stays what it was, and is put back with the line when a
//! change is refused. Memory is bounded by two generations; the older one goes when the younger is full.

use im::OrdMap;

use super::merkle::Node;

/// Nodes of one generation. Siblings and uncles of blocks that arrive in some order are among the last thousands.
const GENERATION: usize = 2048;

/// The nodes that were written last.
#[derive(Debug, Clone, Default)]
pub(super) struct RecentNodes {
    young: OrdMap<u64, Node>,
    old: OrdMap<u64, Node>,
}

impl RecentNodes {
    /// The node, if it is in the cache.
    pub(super) fn get(&self, index: u64) -> Option<Node> {
        self.young.get(&index).or_else(|| self.old.get(&index)).copied()
    }

    pub(super) fn add(&mut self, nodes: &[Node]) {
        // Of a large append only the last ones count.
        let last = nodes.len().saturating_sub(GENERATION);
        for node in &nodes[last..] {
            if self.young.len() >= GENERATION {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(node.index, *node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Hash;

    fn node(index: u64, size: u64) -> Node {
        Node {
            index,
            size,
            hash: Hash::new([1; 32]),
        }
    }

    #[test]
    fn the_last_thousands_are_there_and_no_more_than_two_generations() {
        let mut recent = RecentNodes::default();
        for index in 0..10_000 {
            recent.add(&[node(index, 1)]);
        }
        assert_eq!(recent.get(9_999), Some(node(9_999, 1)));
        assert_eq!(
            recent.get(10_000 - GENERATION as u64),
            Some(node(10_000 - 2048, 1))
        );
        assert_eq!(recent.get(0), None);
        let kept = (0..10_000).filter(|index| recent.get(*index).is_some()).count();
        assert!(kept <= 2 * GENERATION, "{kept}");
    }

    #[test]
    fn the_newest_writing_counts_and_copies_stay() {
        let mut recent = RecentNodes::default();
        recent.add(&[node(1, 1)]);
        let before = recent.clone();
        for index in 2..3_000 {
            recent.add(&[node(index, 1)]);
        }
        recent.add(&[node(1, 2)]);
        assert_eq!(recent.get(1), Some(node(1, 2)));
        assert_eq!(before.get(1), Some(node(1, 1)));
    }
}
