//! Which blocks of a log are stored here.
//!
//! Blocks before the contiguous length cost nothing: an own log of any length takes a few bytes. Behind it there are
//! pages of 1,024 blocks, and a page whose blocks are all there holds no bits. What changed is handed out page by page
//! for storing, so that one block more costs at most 128 bytes and not the 4,096 of the reference; peers get the
//! reference's pages from [`Bitfield::wire_page`].
//!
//! Source: spec/hypercore.md 8.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use thiserror::Error;

/// Blocks in a page of the wire format.
pub const WIRE_PAGE_BLOCKS: u64 = 32_768;

/// Blocks in a stored page.
const PAGE_BLOCKS: u64 = 1_024;
const PAGE_WORDS: usize = 16;
const WORD_BITS: u64 = 64;

/// A set of blocks.
///
/// ```
/// use autobee::hypercore::bitfield::Bitfield;
///
/// let mut blocks = Bitfield::default();
/// blocks.set(0..3);
/// blocks.set(5..6);
/// assert_eq!((blocks.contiguous_length(), blocks.has(4), blocks.has(5)), (3, false, true));
/// blocks.set(3..5);
/// assert_eq!(blocks.contiguous_length(), 6);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bitfield {
    /// All blocks before this are there, and this one is not.
    contiguous: u64,
    /// Bits at or behind `contiguous`; never an empty page.
    pages: BTreeMap<u64, BitfieldPage>,
    /// Pages that differ from what was stored.
    changed: BTreeSet<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum BitfieldPage {
    Full,
    Some(Box<[u64; PAGE_WORDS]>),
}

/// A stored page is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("bitfield page {page} of {size} bytes")]
pub struct PageError {
    /// The page.
    pub page: u64,
    /// Its size.
    pub size: usize,
}

impl Bitfield {
    // Reading.

    /// Number of leading blocks that are there.
    #[must_use]
    pub const fn contiguous_length(&self) -> u64 {
        self.contiguous
    }

    /// True when the block is there.
    #[must_use]
    pub fn has(&self, block: u64) -> bool {
        block < self.contiguous
            || match self.pages.get(&(block / PAGE_BLOCKS)) {
                None => false,
                Some(BitfieldPage::Full) => true,
                Some(BitfieldPage::Some(words)) => {
                    let (word, bit) = place(block % PAGE_BLOCKS);
                    words[word] & (1 << bit) != 0
                }
            }
    }

    /// True when all blocks of the range are there.
    #[must_use]
    pub fn has_all(&self, range: Range<u64>) -> bool {
        self.next_missing(range.start) >= range.end
    }

    /// The first block at or after `from` that is not there.
    #[must_use]
    pub fn next_missing(&self, from: u64) -> u64 {
        let mut at = from.max(self.contiguous);
        while let Some(page) = self.pages.get(&(at / PAGE_BLOCKS)) {
            let start = at - at % PAGE_BLOCKS;
            if let BitfieldPage::Some(words) = page
                && let Some(missing) = first(at % PAGE_BLOCKS, |word| !words[word])
            {
                return start + missing;
            }
            match start.checked_add(PAGE_BLOCKS) {
                Some(next) => at = next,
                None => return u64::MAX,
            }
        }
        at
    }

    /// The first block at or after `from` that is there.
    #[must_use]
    pub fn next_present(&self, from: u64) -> Option<u64> {
        if from < self.contiguous {
            return Some(from);
        }
        for (&page, bits) in self.pages.range(from / PAGE_BLOCKS..) {
            let start = page * PAGE_BLOCKS;
            let within = from.saturating_sub(start);
            match bits {
                BitfieldPage::Full => return Some(start + within),
                BitfieldPage::Some(words) => {
                    if let Some(present) = first(within, |word| words[word]) {
                        return Some(start + present);
                    }
                }
            }
        }
        None
    }

    /// The runs of blocks that are there, from `from` on.
    pub fn runs(&self, from: u64) -> impl Iterator<Item = Range<u64>> {
        let mut at = from;
        std::iter::from_fn(move || {
            let start = self.next_present(at)?;
            at = self.next_missing(start);
            Some(start..at)
        })
    }

    /// Page `page` of [`WIRE_PAGE_BLOCKS`] blocks as peers send it, of a log that they know to have `length` blocks: bit
    /// `i` of byte `j` is block `8 j + i`. Zero bytes at the end are left out.
    #[must_use]
    pub fn wire_page(&self, page: u64, length: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let start = page.saturating_mul(WIRE_PAGE_BLOCKS);
        let end = start.saturating_add(WIRE_PAGE_BLOCKS).min(length);
        for run in self.runs(start) {
            if run.start >= end {
                break;
            }
            for block in run.start - start..run.end.min(end) - start {
                let byte = (block / 8) as usize;
                if bytes.len() <= byte {
                    bytes.resize(byte + 1, 0);
                }
                bytes[byte] |= 1 << (block % 8);
            }
        }
        bytes
    }

    // Changing.

    /// Adds blocks.
    pub fn set(&mut self, range: Range<u64>) {
        let range = range.start.max(self.contiguous)..range.end;
        if range.is_empty() {
            return;
        }
        if range.start > self.contiguous {
            self.fill(range, true);
            return;
        }
        self.contiguous = self.next_missing(range.end);
        self.drop_bits_before(self.contiguous);
    }

    /// Takes blocks away.
    pub fn clear(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        if range.start < self.contiguous {
            let before = self.contiguous;
            self.contiguous = range.start;
            if range.end < before {
                self.fill(range.end..before, true);
            }
        }
        self.fill(range.start.max(self.contiguous)..range.end, false);
    }

    /// Takes all blocks away from `length` on.
    pub fn truncate(&mut self, length: u64) {
        let end = self
            .pages
            .last_key_value()
            .map_or(0, |(&page, _)| (page + 1) * PAGE_BLOCKS);
        self.clear(length..end.max(self.contiguous).max(length));
    }

    // Storing.

    /// Reads a stored set.
    ///
    /// # Errors
    /// When a page is longer than pages are.
    pub fn load<'a>(
        contiguous: u64,
        pages: impl IntoIterator<Item = (u64, &'a [u8])>,
    ) -> Result<Self, PageError> {
        let mut field = Self {
            contiguous,
            ..Self::default()
        };
        for (page, bytes) in pages {
            field.add_stored(page, bytes)?;
        }
        field.contiguous = field.next_missing(contiguous);
        field.drop_bits_before(field.contiguous);
        Ok(field)
    }

    /// The pages that changed since the last call: what to store, or none to remove the page.
    pub fn take_changes(&mut self) -> Vec<(u64, Option<Vec<u8>>)> {
        let changed = std::mem::take(&mut self.changed);
        changed
            .into_iter()
            .map(|page| (page, self.pages.get(&page).map(BitfieldPage::to_bytes)))
            .collect()
    }

    fn add_stored(&mut self, page: u64, bytes: &[u8]) -> Result<(), PageError> {
        let error = PageError {
            page,
            size: bytes.len(),
        };
        if bytes.len() > PAGE_WORDS * 8 || page > u64::MAX / PAGE_BLOCKS - 1 {
            return Err(error);
        }
        let page_bits = if bytes.is_empty() {
            BitfieldPage::Full
        } else {
            let mut words = Box::new([0; PAGE_WORDS]);
            for (at, byte) in bytes.iter().enumerate() {
                words[at / 8] |= u64::from(*byte) << (at % 8 * 8);
            }
            BitfieldPage::Some(words)
        };
        self.pages.insert(page, page_bits);
        Ok(())
    }

    /// Sets or clears bits behind the contiguous length.
    fn fill(&mut self, range: Range<u64>, value: bool) {
        let mut at = range.start;
        while at < range.end {
            let page = at / PAGE_BLOCKS;
            if !value {
                // Skip what is not there: a range to clear may be much longer than the log.
                match self.pages.range(page..).next() {
                    None => break,
                    Some((&next, _)) if next > page => {
                        at = next * PAGE_BLOCKS;
                        continue;
                    }
                    Some(_) => {}
                }
            }
            let start = page * PAGE_BLOCKS;
            let end = range.end.min(start.saturating_add(PAGE_BLOCKS));
            self.fill_page(page, at - start..end - start, value);
            at = end;
        }
    }

    fn fill_page(&mut self, page: u64, bits: Range<u64>, value: bool) {
        let before = match self.pages.get(&page) {
            None => [0; PAGE_WORDS],
            Some(BitfieldPage::Full) => [u64::MAX; PAGE_WORDS],
            Some(BitfieldPage::Some(words)) => **words,
        };
        let mut words = before;
        for (word, mask) in masks(bits) {
            if value {
                words[word] |= mask;
            } else {
                words[word] &= !mask;
            }
        }
        if words == before {
            return;
        }
        self.changed.insert(page);
        if words == [0; PAGE_WORDS] {
            self.pages.remove(&page);
        } else if words == [u64::MAX; PAGE_WORDS] {
            self.pages.insert(page, BitfieldPage::Full);
        } else {
            self.pages.insert(page, BitfieldPage::Some(Box::new(words)));
        }
    }

    /// Forgets bits that the contiguous length implies.
    fn drop_bits_before(&mut self, length: u64) {
        let page = length / PAGE_BLOCKS;
        let rest = self.pages.split_off(&page);
        let implied = std::mem::replace(&mut self.pages, rest);
        self.changed.extend(implied.into_keys());
        if !length.is_multiple_of(PAGE_BLOCKS) && self.pages.contains_key(&page) {
            self.fill_page(page, 0..length % PAGE_BLOCKS, false);
        }
    }
}

impl BitfieldPage {
    /// Empty for a full page, else the bytes up to the last set bit.
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Full => Vec::new(),
            Self::Some(words) => {
                let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                while bytes.pop_if(|byte| *byte == 0).is_some() {}
                bytes
            }
        }
    }
}

const fn place(bit: u64) -> (usize, u32) {
    ((bit / WORD_BITS) as usize, (bit % WORD_BITS) as u32)
}

/// The first set bit of a page at or after `from`.
fn first(from: u64, word: impl Fn(usize) -> u64) -> Option<u64> {
    let (start, bit) = place(from);
    (start..PAGE_WORDS)
        .map(|at| {
            (
                at,
                if at == start {
                    word(at) & (u64::MAX << bit)
                } else {
                    word(at)
                },
            )
        })
        .find(|(_, word)| *word != 0)
        .map(|(at, word)| at as u64 * WORD_BITS + u64::from(word.trailing_zeros()))
}

/// The words of a range of bits, with the bits of the range that lie in each.
fn masks(bits: Range<u64>) -> impl Iterator<Item = (usize, u64)> {
    (0..PAGE_WORDS).filter_map(move |word| {
        let start = word as u64 * WORD_BITS;
        let low = bits.start.saturating_sub(start).min(WORD_BITS);
        let high = bits.end.saturating_sub(start).min(WORD_BITS);
        (low < high).then(|| (word, (u64::MAX >> (WORD_BITS - (high - low))) << low))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(steps in proptest::collection::vec((0..3u8, 0..5_000u64, 0..2_500u64), 1..40)) {
            let mut field = Bitfield::default();
            let mut model = BTreeSet::new();
            let mut stored: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
            for (kind, start, count) in steps {
                match kind {
                    0 => {
                        field.set(start..start + count);
                        model.extend(start..start + count);
                    }
                    1 => {
                        field.clear(start..start + count);
                        model.retain(|block| !(start..start + count).contains(block));
                    }
                    _ => {
                        field.truncate(start);
                        model.retain(|block| *block < start);
                    }
                }
                let present: BTreeSet<u64> = field.runs(0).flatten().collect();
                prop_assert_eq!(&present, &model);
                let contiguous = (0..).find(|block| !model.contains(block)).unwrap();
                prop_assert_eq!(field.contiguous_length(), contiguous);
                prop_assert_eq!(field.next_missing(start), (start..).find(|at| !model.contains(at)).unwrap());
                prop_assert_eq!(field.has(start), model.contains(&start));
                for (page, bytes) in field.take_changes() {
                    match bytes {
                        Some(bytes) => stored.insert(page, bytes),
                        None => stored.remove(&page),
                    };
                }
                let pages = stored.iter().map(|(page, bytes)| (*page, bytes.as_slice()));
                prop_assert_eq!(&Bitfield::load(contiguous, pages).unwrap(), &field);
            }
        }

        #[test]
        fn no_range_panics(start: u64, end: u64, length: u64) {
            let mut field = Bitfield::default();
            field.set(0..10);
            field.clear(start..end);
            field.truncate(length);
            let _ = (field.has(start), field.next_missing(start), field.next_present(end), field.wire_page(start, end));
        }
    }
}
