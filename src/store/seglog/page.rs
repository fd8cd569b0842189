//! Places of blocks and nodes by index, in persistent pages.

use std::ops::RangeInclusive;
use std::sync::Arc;

use im::OrdMap;

/// The place of a record. Segments are numbered from one and below 2^30.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RecordPlace {
    /// Number of the segment; the two highest bits are for whoever holds the place.
    segment: u32,
    pub(super) offset: u32,
    pub(super) length: u32,
}

/// Above this number, segments cannot be told from flags.
pub(super) const SEGMENT_MAX: u32 = (1 << 30) - 1;

impl RecordPlace {
    /// No record.
    pub(super) const NONE: Self = Self::new(0, 0, 0);

    /// No record, although another place would give one.
    pub(super) const HIDDEN: Self = Self::new(0, 1, 0);

    /// Of a block record: the block was cleared.
    pub(super) const BLOCK_GONE: u32 = 1 << 31;

    /// Of a block record: the nodes were removed, or never there.
    pub(super) const NODES_GONE: u32 = 1 << 30;

    /// Of a node: it stands in a block record.
    pub(super) const IN_BLOCK: u32 = 1 << 31;

    pub(super) const fn new(segment: u32, offset: u32, length: u32) -> Self {
        Self {
            segment,
            offset,
            length,
        }
    }

    pub(super) const fn segment(self) -> u32 {
        self.segment & SEGMENT_MAX
    }

    pub(super) const fn has(self, flag: u32) -> bool {
        self.segment & flag != 0
    }

    pub(super) const fn with(self, flag: u32) -> Self {
        Self::new(self.segment | flag, self.offset, self.length)
    }

    /// The offset behind it.
    pub(super) fn end(self) -> u64 {
        u64::from(self.offset) + u64::from(self.length)
    }

    /// The place alone.
    pub(super) const fn bare(self) -> Self {
        Self::new(self.segment(), self.offset, self.length)
    }

    pub(super) const fn is_record(self) -> bool {
        self.segment() != 0
    }

    pub(super) const fn to_raw(self) -> [u32; 3] {
        [self.segment, self.offset, self.length]
    }

    pub(super) const fn from_raw([segment, offset, length]: [u32; 3]) -> Self {
        Self::new(segment, offset, length)
    }
}

const PAGE: u64 = 512;

/// A page with more places than this keeps room for all of them.
const SPARSE_MAX: usize = 64;

/// Places by index. Cloning costs nothing; a change copies one page at most.
#[derive(Debug, Clone, Default)]
pub(super) struct Pages {
    pages: OrdMap<u64, Arc<Page>>,
}

/// Places of 512 indices.
#[derive(Debug, Clone)]
enum Page {
    /// The few that there are, by slot.
    Sparse(Vec<(u16, RecordPlace)>),
    /// All up to the last that there is.
    Dense(Vec<RecordPlace>),
}

impl Pages {
    pub(super) fn get(&self, index: u64) -> RecordPlace {
        let page = self.pages.get(&(index / PAGE));
        page.map_or(RecordPlace::NONE, |page| page.get(slot(index)))
    }

    /// Sets a place and gives the one before.
    pub(super) fn set(&mut self, index: u64, place: RecordPlace) -> RecordPlace {
        let number = index / PAGE;
        if let Some(page) = self.pages.get_mut(&number) {
            if page.get(slot(index)) == place {
                return place;
            }
            let page = Arc::make_mut(page);
            let before = page.set(slot(index), place);
            if page.is_empty() {
                self.pages.remove(&number);
            }
            return before;
        }
        if place != RecordPlace::NONE {
            let mut page = Page::Sparse(Vec::new());
            page.set(slot(index), place);
            self.pages.insert(number, Arc::new(page));
        }
        RecordPlace::NONE
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// What there is in a range, in order.
    pub(super) fn range(&self, range: RangeInclusive<u64>) -> impl Iterator<Item = (u64, RecordPlace)> + '_ {
        let (low, high) = (*range.start(), *range.end());
        let pages = (low <= high).then(|| self.pages.range(low / PAGE..=high / PAGE));
        pages
            .into_iter()
            .flatten()
            .flat_map(|(number, page)| {
                page.iter()
                    .map(move |(slot, place)| (number * PAGE + slot, place))
            })
            .filter(move |(index, _)| range.contains(index))
    }

    /// The same from the end.
    pub(super) fn range_back(
        &self,
        range: RangeInclusive<u64>,
    ) -> impl Iterator<Item = (u64, RecordPlace)> + '_ {
        let (low, high) = (*range.start(), *range.end());
        let pages = (low <= high).then(|| self.pages.range(low / PAGE..=high / PAGE).rev());
        pages
            .into_iter()
            .flatten()
            .flat_map(|(number, page)| {
                let places: Vec<_> = page
                    .iter()
                    .map(|(slot, place)| (number * PAGE + slot, place))
                    .collect();
                places.into_iter().rev()
            })
            .filter(move |(index, _)| range.contains(index))
    }
}

impl Page {
    fn get(&self, slot: u16) -> RecordPlace {
        match self {
            Self::Sparse(places) => match places.binary_search_by_key(&slot, |(slot, _)| *slot) {
                Ok(at) => places[at].1,
                Err(_) => RecordPlace::NONE,
            },
            Self::Dense(places) => places
                .get(usize::from(slot))
                .copied()
                .unwrap_or(RecordPlace::NONE),
        }
    }

    fn set(&mut self, slot: u16, place: RecordPlace) -> RecordPlace {
        match self {
            Self::Sparse(places) => {
                let found = places.binary_search_by_key(&slot, |(slot, _)| *slot);
                match (found, place == RecordPlace::NONE) {
                    (Ok(at), true) => return places.remove(at).1,
                    (Ok(at), false) => return std::mem::replace(&mut places[at].1, place),
                    (Err(_), true) => {}
                    (Err(at), false) => places.insert(at, (slot, place)),
                }
                if places.len() > SPARSE_MAX {
                    let last = places.last().map_or(0, |(slot, _)| usize::from(*slot));
                    let mut dense = vec![RecordPlace::NONE; last + 1];
                    for (slot, place) in places.iter() {
                        dense[usize::from(*slot)] = *place;
                    }
                    *self = Self::Dense(dense);
                }
                RecordPlace::NONE
            }
            Self::Dense(places) => {
                let at = usize::from(slot);
                if at >= places.len() {
                    if place == RecordPlace::NONE {
                        return RecordPlace::NONE;
                    }
                    places.resize(at + 1, RecordPlace::NONE);
                }
                let before = std::mem::replace(&mut places[at], place);
                while places.last() == Some(&RecordPlace::NONE) {
                    places.pop();
                }
                before
            }
        }
    }

    const fn is_empty(&self) -> bool {
        match self {
            Self::Sparse(places) => places.is_empty(),
            Self::Dense(places) => places.is_empty(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = (u64, RecordPlace)> + '_ {
        let (sparse, dense) = match self {
            Self::Sparse(places) => (&places[..], &[][..]),
            Self::Dense(places) => (&[][..], &places[..]),
        };
        let sparse = sparse.iter().map(|(slot, place)| (u64::from(*slot), *place));
        let dense = (0..).zip(dense.iter().copied());
        sparse.chain(dense.filter(|(_, place)| *place != RecordPlace::NONE))
    }
}

fn slot(index: u64) -> u16 {
    u16::try_from(index % PAGE).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pages_are_a_map(
            changes in proptest::collection::vec((0..1500_u64, any::<bool>(), any::<bool>()), 0..600),
            low in 0..1600_u64,
            high in 0..1600_u64,
        ) {
            let mut pages = Pages::default();
            let mut model = BTreeMap::new();
            let mut count = 0;
            for (index, near, set) in changes {
                let index = if near { index % 100 } else { index };
                count += 1;
                let place = if set { RecordPlace::new(1, count, 7) } else { RecordPlace::NONE };
                let before = if set { model.insert(index, place) } else { model.remove(&index) };
                prop_assert_eq!(pages.set(index, place), before.unwrap_or(RecordPlace::NONE));
                prop_assert_eq!(pages.get(index), place);
            }
            prop_assert_eq!(pages.is_empty(), model.is_empty());
            if low <= high {
                let expected: Vec<_> = model.range(low..=high).map(|(index, place)| (*index, *place)).collect();
                let back: Vec<_> = expected.iter().rev().copied().collect();
                prop_assert_eq!(pages.range(low..=high).collect::<Vec<_>>(), expected);
                prop_assert_eq!(pages.range_back(low..=high).collect::<Vec<_>>(), back);
            }
        }
    }
}
