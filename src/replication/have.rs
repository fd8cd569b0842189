//! What a peer says it has: a contiguous length, and beyond it a sparse bitfield of bounded size.
//!
//! Source: spec/replication.md 6.7. What a peer claims costs at most the configured pages, whatever numbers it names.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

use super::message::BitfieldMessage;

/// Blocks in a page.
const PAGE: u64 = 4096;
const WORDS: usize = 64;

type Page = Box<[u64; WORDS]>;

/// The blocks of one peer.
///
/// ```
/// use autobee::replication::have::Have;
///
/// let mut have = Have::new(16);
/// have.set(0..3);
/// have.set(40..42);
/// assert_eq!((have.contiguous(), have.next(3..100), have.contains(41)), (3, Some(40), true));
/// ```
#[derive(Debug, Clone)]
pub struct Have {
    contiguous: u64,
    pages: BTreeMap<u64, Page>,
    limit: usize,
}

impl Have {
    /// Nothing yet. At most `limit` pages of 4,096 blocks are kept.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            contiguous: 0,
            pages: BTreeMap::new(),
            limit,
        }
    }

    /// Number of leading blocks.
    #[must_use]
    pub const fn contiguous(&self) -> u64 {
        self.contiguous
    }

    /// Whether the peer has the block.
    #[must_use]
    pub fn contains(&self, index: u64) -> bool {
        index < self.contiguous || self.bit(index)
    }

    /// The first block of the range that the peer has.
    #[must_use]
    pub fn next(&self, range: Range<u64>) -> Option<u64> {
        if range.start < range.end.min(self.contiguous) {
            return Some(range.start);
        }
        for (number, page) in self.pages.range(range.start / PAGE..) {
            let base = number * PAGE;
            if base >= range.end {
                break;
            }
            let from = range.start.saturating_sub(base);
            if let Some(at) = first(page, from, |word| word) {
                let index = base + at;
                return (index < range.end).then_some(index);
            }
        }
        None
    }

    /// How many pages, beyond the first, an announcement of these blocks may touch.
    #[must_use]
    pub fn cost(&self, range: &Range<u64>, is_drop: bool) -> u64 {
        let limit = u64::try_from(self.limit).unwrap_or(u64::MAX);
        let spanned = |range: Range<u64>| (range.end.saturating_sub(range.start) / PAGE).min(limit);
        match is_drop {
            true if range.start < self.contiguous => {
                spanned(range.clone()).saturating_add(spanned(range.end..self.contiguous))
            }
            false if range.start <= self.contiguous => 0,
            _ => spanned(range.clone()),
        }
    }

    /// The peer has these blocks.
    pub fn set(&mut self, range: Range<u64>) {
        if range.start <= self.contiguous {
            self.contiguous = self.contiguous.max(range.end);
            self.absorb();
            return;
        }
        let mut start = range.start;
        while start < range.end {
            let (base, end) = page_of(start, range.end);
            let Some(page) = self.page(start / PAGE) else {
                break;
            };
            for (word, mask) in masks(start - base..end - base) {
                page[word] |= mask;
            }
            start = end;
        }
    }

    /// The peer has these blocks no longer.
    pub fn clear(&mut self, range: Range<u64>) {
        if range.start < self.contiguous {
            let tail = range.end..self.contiguous;
            self.contiguous = range.start;
            if !tail.is_empty() {
                self.set(tail);
            }
        }
        let mut from = range.start;
        while from < range.end
            && let Some((number, page)) = self.pages.range_mut(from / PAGE..).next()
        {
            let base = number * PAGE;
            let start = from.max(base);
            let (_, end) = page_of(start, range.end);
            for (word, mask) in masks(start - base..end.max(start) - base) {
                page[word] &= !mask;
            }
            from = base.saturating_add(PAGE);
        }
    }

    /// The truth for whole words from `start` on. A start that is no multiple of 32 is ignored.
    pub fn write(&mut self, bitfield: &BitfieldMessage) {
        let count = u64::try_from(bitfield.words.len()).unwrap_or(u64::MAX);
        let Some(end) = count
            .checked_mul(32)
            .and_then(|blocks| blocks.checked_add(bitfield.start))
        else {
            return;
        };
        if !bitfield.start.is_multiple_of(32) {
            return;
        }
        self.clear(bitfield.start..end);
        for (bits, start) in bitfield.words.iter().zip((bitfield.start..).step_by(32)) {
            let (number, offset) = (start / PAGE, start % PAGE);
            if *bits != 0
                && let Some(page) = self.page(number)
            {
                page[word_of(offset)] |= u64::from(*bits) << (offset % 64);
            }
        }
        self.absorb();
    }

    fn bit(&self, index: u64) -> bool {
        let offset = index % PAGE;
        let page = self.pages.get(&(index / PAGE));
        page.is_some_and(|page| page[word_of(offset)] >> (offset % 64) & 1 == 1)
    }

    /// The page, made if there is room for it.
    fn page(&mut self, number: u64) -> Option<&mut Page> {
        let full = self.pages.len() >= self.limit;
        match self.pages.entry(number) {
            Entry::Occupied(page) => Some(page.into_mut()),
            Entry::Vacant(_) if full => None,
            Entry::Vacant(place) => Some(place.insert(Box::new([0; WORDS]))),
        }
    }

    /// Moves the contiguous length over the bits that follow it, and drops the pages below.
    fn absorb(&mut self) {
        while let Some(page) = self.pages.get(&(self.contiguous / PAGE)) {
            let (base, offset) = (self.contiguous - self.contiguous % PAGE, self.contiguous % PAGE);
            let end = first(page, offset, |word| !word).unwrap_or(PAGE);
            self.contiguous = base + end;
            if end < PAGE {
                break;
            }
        }
        let below = self.contiguous / PAGE;
        while self
            .pages
            .first_key_value()
            .is_some_and(|(number, _)| *number < below)
        {
            self.pages.pop_first();
        }
    }
}

/// The first block of the page of `start`, and where a range up to `end` leaves it.
fn page_of(start: u64, end: u64) -> (u64, u64) {
    let base = start - start % PAGE;
    (base, end.min(base.saturating_add(PAGE)))
}

/// The first bit of the page from `from` on that is set after `view` was applied to its word.
fn first(page: &[u64; WORDS], from: u64, view: impl Fn(u64) -> u64) -> Option<u64> {
    let mut hidden = (1u64 << (from % 64)) - 1;
    for (word, bits) in (0..).zip(page).skip(word_of(from)) {
        let seen = view(*bits) & !hidden;
        if seen != 0 {
            return Some(word * 64 + u64::from(seen.trailing_zeros()));
        }
        hidden = 0;
    }
    None
}

/// The words of a page that a range of its bits touches, each with the bits that it touches.
fn masks(bits: Range<u64>) -> impl Iterator<Item = (usize, u64)> {
    (word_of(bits.start)..WORDS).map_while(move |word| {
        let base = u64::try_from(word).unwrap_or(0) * 64;
        let (low, high) = (
            bits.start.max(base) - base,
            bits.end.min(base + 64).checked_sub(base)?,
        );
        let mask = u64::MAX.checked_shl(u32::try_from(low).ok()?)?
            & u64::MAX.checked_shr(u32::try_from(64 - high).ok()?)?;
        Some((word, mask))
    })
}

/// The word of a page that holds a bit.
fn word_of(offset: u64) -> usize {
    usize::try_from(offset / 64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Change {
        Set(Range<u64>),
        Clear(Range<u64>),
        Write(BitfieldMessage),
    }

    fn change() -> impl Strategy<Value = Change> {
        let range = || (0u64..9_000, 0u64..5_000).prop_map(|(start, length)| start..start + length);
        prop_oneof![
            range().prop_map(Change::Set),
            range().prop_map(Change::Clear),
            (
                0u64..300,
                proptest::collection::vec(prop_oneof![Just(0), Just(u32::MAX), any::<u32>()], 0..40)
            )
                .prop_map(|(word, words)| Change::Write(BitfieldMessage {
                    start: word * 32,
                    words
                })),
        ]
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(changes in proptest::collection::vec(change(), 0..12)) {
            let (mut have, mut model) = (Have::new(16), BTreeSet::new());
            for change in changes {
                match change {
                    Change::Set(range) => {
                        have.set(range.clone());
                        model.extend(range);
                    }
                    Change::Clear(range) => {
                        have.clear(range.clone());
                        model.retain(|index| !range.contains(index));
                    }
                    Change::Write(bitfield) => {
                        have.write(&bitfield);
                        for (index, bit) in (bitfield.start..).zip(
                            bitfield.words.iter().flat_map(|word| (0..32).map(move |bit| word >> bit & 1 == 1)),
                        ) {
                            if bit { model.insert(index); } else { model.remove(&index); }
                        }
                    }
                }
                for index in (0..20_000).step_by(61) {
                    prop_assert_eq!(have.contains(index), model.contains(&index), "{}", index);
                    prop_assert_eq!(have.next(index..15_000), model.range(index..15_000.max(index)).next().copied());
                }
                let contiguous = (0..).find(|index| !model.contains(index)).unwrap();
                prop_assert_eq!(have.contiguous(), contiguous);
            }
        }

        #[test]
        fn memory_is_bounded(
            ranges in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<bool>()), 0..30),
        ) {
            let mut have = Have::new(4);
            for (start, end, set) in ranges {
                if set { have.set(start..end); } else { have.clear(start..end); }
                have.write(&BitfieldMessage { start: start & !31, words: vec![end as u32; 8] });
                prop_assert!(have.pages.len() <= 4);
            }
        }
    }
}
