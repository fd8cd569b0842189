//! Which keys to read, in which direction, and how many.

use std::cmp::Ordering;

use bytes::Bytes;

/// A part of the key space. Keys compare byte by byte, a prefix before what extends it.
///
/// Each bound that is given narrows the range: the next page behind `last` is `Range::prefix("user/").gt(last)`. (Of the
/// original's options `gt` and `gte` together the inclusive one wins.)
///
/// ```
/// use autobee::bee::Range;
///
/// let range = Range::all().gte("a").lt("b").reverse().limit(10);
/// assert!(range.contains(b"a1") && !range.contains(b"b"));
/// assert!(Range::prefix("user/").contains(b"user/1"));
/// assert!(!Range::prefix("user/").gt("user/1").contains(b"user/1"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Range {
    lower: Option<Bound>,
    upper: Option<Bound>,
    reverse: bool,
    limit: Option<u64>,
}

/// An end of a range, and whether it belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bound {
    key: Bytes,
    inclusive: bool,
}

/// A bound, borrowed.
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
        let key = key.as_ref();
        Self::all().gte(key).lte(key)
    }

    /// The keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl AsRef<[u8]>) -> Self {
        let prefix = prefix.as_ref();
        // What follows all of them: the prefix with its last byte that is not 255 raised by one.
        let end = prefix.iter().rposition(|byte| *byte != u8::MAX).map(|last| {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end
        });
        let range = Self::all().gte(prefix);
        match end {
            Some(end) => range.lt(end),
            None => range,
        }
    }

    /// Only keys after `key`.
    #[must_use]
    pub fn gt(mut self, key: impl AsRef<[u8]>) -> Self {
        narrow_lower(&mut self.lower, key.as_ref(), false);
        self
    }

    /// Only `key` and keys after it.
    #[must_use]
    pub fn gte(mut self, key: impl AsRef<[u8]>) -> Self {
        narrow_lower(&mut self.lower, key.as_ref(), true);
        self
    }

    /// Only keys before `key`.
    #[must_use]
    pub fn lt(mut self, key: impl AsRef<[u8]>) -> Self {
        narrow_upper(&mut self.upper, key.as_ref(), false);
        self
    }

    /// Only `key` and keys before it.
    #[must_use]
    pub fn lte(mut self, key: impl AsRef<[u8]>) -> Self {
        narrow_upper(&mut self.upper, key.as_ref(), true);
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

    /// All results.
    #[must_use]
    pub const fn unlimited(mut self) -> Self {
        self.limit = None;
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
        self.lower.as_ref().map(Bound::edge)
    }

    pub(super) fn upper(&self) -> Option<Edge<'_>> {
        self.upper.as_ref().map(Bound::edge)
    }

    /// The bound that a walk starts from.
    pub(super) fn near(&self) -> Option<Edge<'_>> {
        if self.reverse { self.upper() } else { self.lower() }
    }

    /// The bound that a walk goes to.
    pub(super) fn far(&self) -> Option<Edge<'_>> {
        if self.reverse { self.lower() } else { self.upper() }
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
            narrow_upper(&mut self.upper, key, false);
        } else {
            narrow_lower(&mut self.lower, key, false);
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

impl Bound {
    const fn edge(&self) -> Edge<'_> {
        Edge {
            key: &self.key,
            inclusive: self.inclusive,
        }
    }
}

/// Keeps the tighter of a lower bound and another.
fn narrow_lower(bound: &mut Option<Bound>, key: &[u8], inclusive: bool) {
    let narrows = |old: &Bound| match old.key[..].cmp(key) {
        Ordering::Less => true,
        Ordering::Equal => !inclusive,
        Ordering::Greater => false,
    };
    replace_if(bound, narrows, key, inclusive);
}

/// Keeps the tighter of an upper bound and another.
fn narrow_upper(bound: &mut Option<Bound>, key: &[u8], inclusive: bool) {
    let narrows = |old: &Bound| match old.key[..].cmp(key) {
        Ordering::Greater => true,
        Ordering::Equal => !inclusive,
        Ordering::Less => false,
    };
    replace_if(bound, narrows, key, inclusive);
}

fn replace_if(bound: &mut Option<Bound>, narrows: impl Fn(&Bound) -> bool, key: &[u8], inclusive: bool) {
    if bound.as_ref().is_none_or(narrows) {
        *bound = Some(Bound {
            key: Bytes::copy_from_slice(key),
            inclusive,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_narrow_a_range() {
        let page = Range::prefix("p/").gt("p/1");
        assert!(!page.contains(b"p/0") && !page.contains(b"p/1"));
        assert!(page.contains(b"p/2") && !page.contains(b"q"));
        let page = Range::prefix("p/").lt("p/5").lte("p/7").gte("a");
        assert!(page.contains(b"p/4") && !page.contains(b"p/5") && !page.contains(b"a"));
        for range in [Range::all().gt("a").gte("a"), Range::all().gte("a").gt("a")] {
            assert!(!range.contains(b"a") && range.contains(b"b"));
        }
        for range in [Range::key("a").lt("a"), Range::all().gt("b").lt("a")] {
            assert!(!range.contains(b"a") && !range.contains(b"b"));
        }
    }

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
