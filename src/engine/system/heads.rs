//! Applied nodes that no applied node links, in the order in which they were applied.

use im::OrdMap;

use crate::crypto::CoreKey;
use crate::wire::Link;

/// At most one head of each core.
///
/// A copy is kept of every state, so the few heads that a database mostly has take no more room than they need. Of many,
/// a change costs the logarithm of their number: thousands of strangers must not make each flush slow.
#[derive(Debug, Clone)]
pub struct Heads(HeadList);

#[derive(Debug, Clone)]
enum HeadList {
    /// Oldest first.
    Few(Vec<Link>),
    Many(Many),
}

#[derive(Debug, Clone, Default)]
struct Many {
    by_age: OrdMap<u64, Link>,
    of: OrdMap<CoreKey, u64>,
    next: u64,
}

/// More are kept as [`HeadList::Many`], until there are half as many.
const FEW_MAX: usize = 16;

impl Heads {
    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Link> {
        let (few, many) = match &self.0 {
            HeadList::Few(few) => (Some(few.iter()), None),
            HeadList::Many(many) => (None, Some(many.by_age.values())),
        };
        few.into_iter()
            .flatten()
            .chain(many.into_iter().flatten())
            .copied()
    }

    /// Number of heads.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            HeadList::Few(few) => few.len(),
            HeadList::Many(many) => many.by_age.len(),
        }
    }

    /// True when nothing was applied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The head of a core.
    #[must_use]
    pub fn get(&self, key: &CoreKey) -> Option<Link> {
        match &self.0 {
            HeadList::Few(few) => few.iter().find(|head| head.key == *key).copied(),
            HeadList::Many(many) => many.get(key),
        }
    }

    /// Makes `node` a head, in place of the one before it and of those that it links.
    pub(super) fn record(&mut self, node: Link, links: &[Link]) {
        match &mut self.0 {
            HeadList::Few(few) => {
                let covers = |link: &Link, head: &Link| link.key == head.key && link.length >= head.length;
                few.retain(|head| head.key != node.key && !links.iter().any(|link| covers(link, head)));
                few.push(node);
            }
            HeadList::Many(many) => many.record(node, links),
        }
        self.adapt_form();
    }

    fn adapt_form(&mut self) {
        match &self.0 {
            HeadList::Few(few) if few.len() > FEW_MAX => {
                let mut many = Many::default();
                for head in few {
                    many.record(*head, &[]);
                }
                self.0 = HeadList::Many(many);
            }
            HeadList::Many(many) if many.by_age.len() <= FEW_MAX / 2 => {
                self.0 = HeadList::Few(many.by_age.values().copied().collect());
            }
            _ => {}
        }
    }
}

impl Many {
    fn get(&self, key: &CoreKey) -> Option<Link> {
        self.by_age.get(self.of.get(key)?).copied()
    }

    fn record(&mut self, node: Link, links: &[Link]) {
        for link in links {
            if self.get(&link.key).is_some_and(|head| head.length <= link.length) {
                self.remove(&link.key);
            }
        }
        self.remove(&node.key);
        self.by_age.insert(self.next, node);
        self.of.insert(node.key, self.next);
        self.next += 1;
    }

    fn remove(&mut self, key: &CoreKey) {
        if let Some(age) = self.of.remove(key) {
            self.by_age.remove(&age);
        }
    }
}

impl Default for Heads {
    fn default() -> Self {
        Self(HeadList::Few(Vec::new()))
    }
}

impl PartialEq for Heads {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::Length;

    fn link() -> impl Strategy<Value = Link> {
        (0..40_u8, 0..6_u64).prop_map(|(key, length)| Link {
            key: CoreKey::new([key; 32]),
            length: Length(length),
        })
    }

    proptest! {
        /// However many there are, they are what a plain list makes of them.
        #[test]
        fn few_or_many_they_are_the_same(
            steps in vec((link(), prop_oneof![4 => vec(link(), 0..3), 1 => vec(link(), 30..60)]), 0..120),
        ) {
            let mut heads = Heads::default();
            let mut plain: Vec<Link> = Vec::new();
            for (node, links) in steps {
                heads.record(node, &links);
                for link in &links {
                    plain.retain(|head| head.key != link.key || head.length > link.length);
                }
                plain.retain(|head| head.key != node.key);
                plain.push(node);
                prop_assert!(heads.iter().eq(plain.iter().copied()));
                prop_assert_eq!(heads.len(), plain.len());
                for key in 0..40 {
                    let key = CoreKey::new([key; 32]);
                    prop_assert_eq!(heads.get(&key), plain.iter().find(|head| head.key == key).copied());
                }
            }
        }
    }
}
