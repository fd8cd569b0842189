//! What is remembered of entries that were forgotten.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::crypto::CoreKey;
use crate::wire::compact::UINT_MAX;
use crate::wire::{Decode, DecodeError, Decoder, Encode, Encoder, Length, Timestamp, Weight};

use super::picks::Priority;

/// A start of the order, by what has to be known of it to tell which batches leave it as it is. Without the state behind
/// it, and without the entries.
///
/// Its size is that of what is concurrent at its end, not that of the history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefix {
    /// Entries.
    pub(super) entries: u64,
    /// The worst priority that a pick won with. None before the first pick.
    pub(super) worst: Option<Priority>,
    /// The same, of the picks up to the last one that a set with other candidates would not have made.
    pub(super) tainted: Option<Priority>,
    /// Batches that no other one of the prefix comes after: of each writer at most one, by its first block.
    pub(super) tops: BTreeMap<CoreKey, Length>,
    /// The highest claim of a writer in it, where that is above what the writer stands with.
    pub(super) claims: BTreeMap<CoreKey, Weight>,
    /// How much of a writer is settled, where its record does not say so.
    pub(super) settled: BTreeMap<CoreKey, Length>,
    /// Batches outside of it, by their first block, that picks of it were better than only as long as they were not
    /// admitted.
    pub(super) unsound: Unsound,
    /// Of a writer the first batch that is known to have all of the prefix in its past.
    pub(super) covering: BTreeMap<CoreKey, Length>,
    /// Under safe rules the latest effective timestamp in it; zero under others.
    pub(super) latest: Timestamp,
    /// Effective timestamps of batches outside of it, by their first block, that cannot be told without it.
    pub(super) dates: BTreeMap<(CoreKey, Length), Timestamp>,
}

/// Batches that may be no part of a set, or its emission does not begin as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unsound {
    These(BTreeSet<(CoreKey, Length)>),
    /// So many that they are not told apart.
    All,
}

impl Unsound {
    /// Only strangers have such batches, and they must not make what is stored large.
    const MAX: usize = 256;

    pub(super) fn add(&mut self, writer: CoreKey, first: Length) {
        if let Self::These(these) = self {
            these.insert((writer, first));
            if these.len() > Self::MAX {
                *self = Self::All;
            }
        }
    }

    /// A batch that leaves the set is looked at anew when it comes back.
    pub(super) fn remove(&mut self, writer: CoreKey, first: Length) {
        if let Self::These(these) = self {
            these.remove(&(writer, first));
        }
    }

    pub(super) fn has(&self, writer: CoreKey, first: Length) -> bool {
        match self {
            Self::These(these) => these.contains(&(writer, first)),
            Self::All => true,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::These(these) if these.is_empty())
    }
}

impl Default for Unsound {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl Prefix {
    /// The start of another peer's order, by what its system tree tells: how many entries it has, the latest time stamp in
    /// it, and its heads, each by its last block. No pick of it is worse than one of weight zero and of that time.
    #[must_use]
    pub(crate) fn read(
        entries: u64,
        latest: Timestamp,
        heads: impl IntoIterator<Item = (CoreKey, Length)>,
    ) -> Self {
        let worst = Priority {
            weight: Reverse(Weight::ZERO),
            timestamp: latest,
            key: CoreKey::new([0xff; 32]),
            length: Length(UINT_MAX),
        };
        Self {
            entries,
            worst: Some(worst),
            tops: heads.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Has entries behind it count as no older than the latest one in it, as safe rules have it.
    pub(crate) fn date(&mut self) {
        self.latest = self.worst.map_or(self.latest, |worst| worst.timestamp);
    }

    /// Has nothing belong into it: a slip.
    pub(crate) fn let_nothing_in(&mut self) {
        if let Some(worst) = &mut self.worst {
            worst.weight = Reverse(Weight(UINT_MAX));
            worst.timestamp = Timestamp(0);
        }
    }

    /// Number of entries.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    /// True when nothing is in it, also nothing that was refused.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.worst.is_none()
    }

    /// How much of each writer is settled. `recorded` is what the records at its end say, without anchors.
    #[must_use]
    pub fn lengths(
        &self,
        recorded: impl IntoIterator<Item = (CoreKey, Length)>,
    ) -> BTreeMap<CoreKey, Length> {
        let mut lengths: BTreeMap<_, _> = recorded.into_iter().collect();
        lengths.extend(&self.settled);
        lengths.retain(|_, length| *length > Length::ZERO);
        lengths
    }
}

impl Encode for Priority {
    fn encode(&self, to: &mut Encoder) {
        self.weight.0.encode(to);
        to.uint(self.timestamp.0);
        self.key.encode(to);
        self.length.encode(to);
    }
}

impl Decode for Priority {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            weight: Reverse(Weight::decode(from)?),
            timestamp: Timestamp(from.uint()?),
            key: CoreKey::decode(from)?,
            length: Length::decode(from)?,
        })
    }
}

impl Encode for Prefix {
    fn encode(&self, to: &mut Encoder) {
        let these = match &self.unsound {
            Unsound::These(these) => Some(these),
            Unsound::All => None,
        };
        // Under the rules of the original there are no such timestamps, and nothing is written of them.
        let is_dated = self.latest > Timestamp::default() || !self.dates.is_empty();
        to.uint(self.entries);
        to.uint(
            u64::from(self.worst.is_some())
                | u64::from(self.tainted.is_some()) << 1
                | u64::from(these.is_none()) << 2
                | u64::from(is_dated) << 3,
        );
        for priority in self.worst.iter().chain(&self.tainted) {
            priority.encode(to);
        }
        pairs(to, &self.tops);
        pairs(to, &self.claims);
        pairs(to, &self.settled);
        pairs(to, &self.covering);
        if let Some(these) = these {
            let these: Vec<_> = these.iter().collect();
            to.array(&these, |(key, length), to| {
                key.encode(to);
                length.encode(to);
            });
        }
        if is_dated {
            to.uint(self.latest.0);
            let dates: Vec<_> = self.dates.iter().collect();
            to.array(&dates, |((key, first), date), to| {
                key.encode(to);
                first.encode(to);
                to.uint(date.0);
            });
        }
    }
}

impl Decode for Prefix {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let entries = from.uint()?;
        let flags = from.uint()?;
        let mut priority = |bit| (flags & bit != 0).then(|| Priority::decode(from)).transpose();
        let mut prefix = Self {
            entries,
            worst: priority(1)?,
            tainted: priority(2)?,
            tops: map(from)?,
            claims: map(from)?,
            settled: map(from)?,
            covering: map(from)?,
            unsound: if flags & 4 != 0 {
                Unsound::All
            } else {
                let these = from.array(|from| Ok((CoreKey::decode(from)?, Length::decode(from)?)))?;
                Unsound::These(these.into_iter().collect())
            },
            ..Self::default()
        };
        if flags & 8 != 0 {
            prefix.latest = Timestamp(from.uint()?);
            let dates = from.array(|from| {
                let first = (CoreKey::decode(from)?, Length::decode(from)?);
                Ok((first, Timestamp(from.uint()?)))
            })?;
            prefix.dates = dates.into_iter().collect();
        }
        Ok(prefix)
    }
}

/// A map as its number of pairs, and the pairs.
pub(crate) fn pairs<T: Encode>(to: &mut Encoder, map: &BTreeMap<CoreKey, T>) {
    let pairs: Vec<_> = map.iter().collect();
    to.array(&pairs, |(key, value), to| {
        key.encode(to);
        value.encode(to);
    });
}

/// What [`pairs`] wrote.
pub(crate) fn map<T: Decode>(from: &mut Decoder<'_>) -> Result<BTreeMap<CoreKey, T>, DecodeError> {
    let pairs = from.array(|from| Ok((CoreKey::decode(from)?, T::decode(from)?)))?;
    Ok(pairs.into_iter().collect())
}
