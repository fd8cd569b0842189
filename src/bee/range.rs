//! Which keys to read, in which direction, and how many.

use std::cmp::Ordering;

use bytes::Bytes;

/// A part of the key space. Keys compare byte by byte, a prefix before what extends it.
///
/// When both forms of a bound are given, the inclusive one wins, whichever is tighter.
///
/// ```
/// use autobee::bee::Range;
///
/// let range = Range::all().gte("a").lt("b").reverse().limit(10);
/// assert!(range.contains(b"a1") && !range.contains(b"b"));
/// assert!(Range::prefix("user/").contains(b"user/1"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Range {
    gt: Option<Bytes>,
    gte: Option<Bytes>,
    lt: Option<Bytes>,
    lte: Option<Bytes>,
    reverse: bool,
    limit: Option<u64>,
}

/// A bound and whether it belongs to the range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge<'a> {
    pub(super) key: &'a Bytes,
    pub(super) inclusive: bool,
}

impl Range {
    /// Every key.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// One key.
    #[must_use]
    pub fn key(key: impl AsRef<[u8]>) -> Self {
        let key = Bytes::copy_from_slice(key.as_ref());
        Self {
            gte: Some(key.clone()),
            lte: Some(key),
            ..Self::default()
        }
    }

    /// The keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl AsRef<[u8]>) -> Self {
        let prefix = prefix.as_ref();
        // What follows all of them: the prefix with its last byte that is not 255 raised by one.
        let end = prefix.iter().rposition(|byte| *byte != u8::MAX).map(|last| {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            Bytes::from(end)
        });
        Self {
            gte: Some(Bytes::copy_from_slice(prefix)),
            lt: end,
            ..Self::default()
        }
    }

    /// Only keys after `key`.
    #[must_use]
    pub fn gt(mut self, key: impl AsRef<[u8]>) -> Self {
        self.gt = Some(Bytes::copy_from_slice(key.as_ref()));
        self
    }

    /// Only `key` and keys after it.
    #[must_use]
    pub fn gte(mut self, key: impl AsRef<[u8]>) -> Self {
        self.gte = Some(Bytes::copy_from_slice(key.as_ref()));
        self
    }

    /// Only keys before `key`.
    #[must_use]
    pub fn lt(mut self, key: impl AsRef<[u8]>) -> Self {
        self.lt = Some(Bytes::copy_from_slice(key.as_ref()));
        self
    }

    /// Only `key` and keys before it.
    #[must_use]
    pub fn lte(mut self, key: impl AsRef<[u8]>) -> Self {
        self.lte = Some(Bytes::copy_from_slice(key.as_ref()));
        self
    }

    /// From the last key to the first.
    #[must_use]
    pub const fn reverse(mut self) -> Self {
        self.reverse = true;
        self
    }

    /// Only the first `count` results.
    #[must_use]
    pub const fn limit(mut self, count: u64) -> Self {
        self.limit = Some(count);
        self
    }

    /// True when `key` lies between the bounds.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.lower().is_none_or(|edge| edge.is_below(key))
            && self.upper().is_none_or(|edge| edge.is_above(key))
    }

    /// True when results come in descending order.
    #[must_use]
    pub const fn is_reverse(&self) -> bool {
        self.reverse
    }

    /// How many results there are at most.
    #[must_use]
    pub const fn limit_count(&self) -> Option<u64> {
        self.limit
    }

    pub(super) fn lower(&self) -> Option<Edge<'_>> {
        edge(self.gte.as_ref(), self.gt.as_ref())
    }

    pub(super) fn upper(&self) -> Option<Edge<'_>> {
        edge(self.lte.as_ref(), self.lt.as_ref())
    }

    /// The bound that a walk starts from.
    pub(super) fn near(&self) -> Option<Edge<'_>> {
        if self.reverse { self.upper() } else { self.lower() }
    }

    /// True when a walk that is at `key` has passed the bound that it goes to.
    pub(super) fn is_past(&self, key: &[u8]) -> bool {
        if self.reverse {
            self.lower().is_some_and(|edge| !edge.is_below(key))
        } else {
            self.upper().is_some_and(|edge| !edge.is_above(key))
        }
    }

    /// The part of the range that comes after `key` in its direction.
    pub(super) fn after(mut self, key: &Bytes) -> Self {
        if self.reverse {
            self.lte = None;
            self.lt = Some(key.clone());
        } else {
            self.gte = None;
            self.gt = Some(key.clone());
        }
        self
    }

    /// True when nothing that comes after `key` in the direction of the walk can be in the range.
    pub(super) fn ends_at(&self, key: &[u8]) -> bool {
        if self.reverse {
            self.lower().is_some_and(|edge| key <= &edge.key[..])
        } else {
            self.upper().is_some_and(|edge| key >= &edge.key[..])
        }
    }
}

impl Edge<'_> {
    /// As a lower bound: true when `key` is in.
    fn is_below(self, key: &[u8]) -> bool {
        match self.key[..].cmp(key) {
            Ordering::Less => true,
            Ordering::Equal => self.inclusive,
            Ordering::Greater => false,
        }
    }

    /// As an upper bound: true when `key` is in.
    fn is_above(self, key: &[u8]) -> bool {
        match self.key[..].cmp(key) {
            Ordering::Greater => true,
            Ordering::Equal => self.inclusive,
            Ordering::Less => false,
        }
    }
}

fn edge<'a>(inclusive: Option<&'a Bytes>, exclusive: Option<&'a Bytes>) -> Option<Edge<'a>> {
    inclusive.map(|key| Edge { key, inclusive: true }).or_else(|| {
        exclusive.map(|key| Edge {
            key,
            inclusive: false,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_what_begins_with_it() {
        let cases: [(&[u8], &[u8], bool); 7] = [
            (b"", b"", true),
            (b"", b"\xff\xff", true),
            (b"a", b"a", true),
            (b"a", b"a\xff\xff", true),
            (b"a", b"b", false),
            (b"\xff\xff", b"\xff\xff\x01", true),
            (b"a\xff", b"b", false),
        ];
        for (prefix, key, inside) in cases {
            assert_eq!(Range::prefix(prefix).contains(key), inside, "{prefix:?} {key:?}");
        }
    }
}
