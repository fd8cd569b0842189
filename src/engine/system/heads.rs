//! Applied nodes that no applied node links, in the order in which they were applied.

use im::OrdMap;

use crate::crypto::CoreKey;
use crate::wire::Link;

/// At most one head of each core. Every change costs the logarithm of their number: thousands of strangers must not
/// make each flush slow.
#[derive(Debug, Clone, Default)]
pub struct Heads {
    by_age: OrdMap<u64, Link>,
    of: OrdMap<CoreKey, u64>,
    next: u64,
}

impl Heads {
    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Link> {
        self.by_age.values().copied()
    }

    /// Number of heads.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_age.len()
    }

    /// True when nothing was applied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_age.is_empty()
    }

    /// The head of a core.
    #[must_use]
    pub fn get(&self, key: &CoreKey) -> Option<Link> {
        self.by_age.get(self.of.get(key)?).copied()
    }

    /// Makes `node` a head, in place of the one before it and of those that it links.
    pub(super) fn record(&mut self, node: Link, links: &[Link]) {
        for link in links {
            self.cover(link);
        }
        self.remove(&node.key);
        self.by_age.insert(self.next, node);
        self.of.insert(node.key, self.next);
        self.next += 1;
    }

    fn cover(&mut self, link: &Link) {
        if self.get(&link.key).is_some_and(|head| head.length <= link.length) {
            self.remove(&link.key);
        }
    }

    fn remove(&mut self, key: &CoreKey) {
        if let Some(age) = self.of.remove(key) {
            self.by_age.remove(&age);
        }
    }
}

impl PartialEq for Heads {
    fn eq(&self, other: &Self) -> bool {
        self.by_age.values().eq(other.by_age.values())
    }
}

impl Eq for Heads {}

impl FromIterator<Link> for Heads {
    fn from_iter<T: IntoIterator<Item = Link>>(links: T) -> Self {
        let mut heads = Self::default();
        for link in links {
            heads.record(link, &[]);
        }
        heads
    }
}
