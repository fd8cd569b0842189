//! Records of the system view: who the writers are, and how far the database has been applied (spec/autobee.md 2.4 to
//! 2.7), and the user data that cores of a database carry.
//!
//! Autobase's records are read. Ours are written, in the version of autobee 2.0.0-rc.19.

use super::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder, Length, Link, Timestamp, Weight};
use crate::crypto::CoreKey;

/// A key of the system view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SystemKey {
    /// The info record.
    Info,
    /// Where Autobase had it. Read when there is no other.
    LegacyInfo,
    /// The record of a writer.
    Writer(CoreKey),
    /// Autobase's mark of an indexer. The value is empty.
    Indexer(CoreKey),
}

impl SystemKey {
    const LEGACY_INFO: &[u8] = b"\0\0info";

    /// The key as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Info => vec![0],
            Self::LegacyInfo => Self::LEGACY_INFO.to_vec(),
            Self::Writer(key) => [&[1, 0], key.as_ref()].concat(),
            Self::Indexer(key) => [&[2], key.as_ref()].concat(),
        }
    }

    /// What a key of the system view means. None for keys that no version of the format has.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0] => Some(Self::Info),
            Self::LEGACY_INFO => Some(Self::LegacyInfo),
            [1, 0, key @ ..] => CoreKey::try_from(key).ok().map(Self::Writer),
            [2, key @ ..] => CoreKey::try_from(key).ok().map(Self::Indexer),
            _ => None,
        }
    }
}

/// What the database knows of a writer.
///
/// ```
/// use autobee::wire::system::WriterRecord;
/// use autobee::wire::{Decode as _, Encode as _, Weight};
///
/// let record = WriterRecord { weight: Weight(1), max_weight: Some(Weight(2)), ..WriterRecord::default() };
/// assert_eq!(WriterRecord::from_bytes(&record.to_bytes()?), Ok(record));
/// # Ok::<(), autobee::wire::EncodeError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterRecord {
    /// Version that was read: 4, or 0 for Autobase's. What is written is always 4.
    pub version: u64,
    /// Removed, and not added again.
    pub is_removed: bool,
    /// Written by the flush of this writer's own batch.
    pub is_oplog: bool,
    /// The ceiling was granted outside of apply, to the creator, and not again since.
    pub is_genesis: bool,
    /// An anchor, which nobody writes.
    pub is_anchor: bool,
    /// No member, under safe rules: an entry was accepted, or somebody named it. Never in records of the original.
    pub is_guest: bool,
    /// Weight of the last applied batch. Only rises.
    pub weight: Weight,
    /// The granted ceiling; zero after removal. None in Autobase's records, which limit nothing.
    pub max_weight: Option<Weight>,
    /// How much of the log is applied, or was known when the writer was added.
    pub length: Length,
    /// Flushes before the one that wrote this record.
    pub clock: u64,
    /// Milliseconds since 1970 of the batch when `is_oplog`, else -1.
    pub timestamp: i64,
}

impl Default for WriterRecord {
    fn default() -> Self {
        Self {
            version: Self::VERSION,
            is_removed: false,
            is_oplog: false,
            is_genesis: false,
            is_anchor: false,
            is_guest: false,
            weight: Weight::ZERO,
            max_weight: Some(Weight::ZERO),
            length: Length::ZERO,
            clock: 0,
            timestamp: -1,
        }
    }
}

impl WriterRecord {
    /// The version that is written.
    pub const VERSION: u64 = 4;

    const REMOVED: u64 = 1;
    const OPLOG: u64 = 2;
    const GENESIS: u64 = 4;
    const ANCHOR: u64 = 8;
    const TIMESTAMP: u64 = 16;
    const GUEST: u64 = 32;

    /// Autobase's record: what would be the version is a set of flags.
    fn decode_legacy(from: &mut Decoder<'_>, flags: u64) -> Result<Self, DecodeError> {
        const INDEXER: u64 = 1;
        const REMOVED: u64 = 2;
        Ok(Self {
            version: 0,
            is_removed: flags & REMOVED != 0,
            weight: Weight(if flags & INDEXER == 0 { 1 } else { 2 }),
            max_weight: None,
            length: Length::decode(from)?,
            timestamp: 0,
            ..Self::default()
        })
    }
}

impl Encode for WriterRecord {
    fn encode(&self, to: &mut Encoder) {
        let flag = |present: bool, bit| if present { bit } else { 0 };
        to.uint(Self::VERSION);
        to.uint(
            flag(self.is_removed, Self::REMOVED)
                | flag(self.is_oplog, Self::OPLOG)
                | flag(self.is_genesis, Self::GENESIS)
                | flag(self.is_anchor, Self::ANCHOR)
                | flag(self.timestamp != 0, Self::TIMESTAMP)
                | flag(self.is_guest, Self::GUEST),
        );
        self.weight.encode(to);
        self.max_weight.unwrap_or_default().encode(to);
        self.length.encode(to);
        to.uint(self.clock);
        if self.timestamp != 0 {
            to.int(self.timestamp);
        }
    }
}

impl Decode for WriterRecord {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let start = from.clone();
        match from.uint()? {
            flags @ 0..=3 => return Self::decode_legacy(from, flags),
            Self::VERSION => {}
            version => return Err(start.unknown("writer record version", version)),
        }
        let flags = from.uint()?;
        let has = |bit| flags & bit != 0;
        Ok(Self {
            version: Self::VERSION,
            is_removed: has(Self::REMOVED),
            is_oplog: has(Self::OPLOG),
            is_genesis: has(Self::GENESIS),
            is_anchor: has(Self::ANCHOR),
            is_guest: has(Self::GUEST),
            weight: Weight::decode(from)?,
            max_weight: Some(Weight::decode(from)?),
            length: Length::decode(from)?,
            clock: from.uint()?,
            timestamp: if has(Self::TIMESTAMP) { from.int()? } else { 0 },
        })
    }
}

/// How far the database has been applied.
///
/// A record with a version above 3 was written by newer software: an engine that meets one must not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InfoRecord {
    /// Version that was read: 0 to 3. What is written is always 3.
    pub version: u64,
    /// The largest timestamp of all applied batches.
    pub timestamp: Timestamp,
    /// Number of applied batches.
    pub flushes: u64,
    /// Head of the user's view. None only in Autobase's records.
    pub view: Option<Link>,
    /// Heads of the applied part of the graph.
    pub heads: Vec<Link>,
    /// Autobase's indexers, as long as the database remembers them.
    pub indexers: Option<Vec<Link>>,
    /// What only Autobase's records have. Never written.
    pub legacy: Option<LegacyInfo>,
}

/// The fields that only Autobase's info records have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LegacyInfo {
    /// Number of writers.
    pub members: u64,
    /// Writers that were about to become indexers.
    pub pending_indexers: Vec<CoreKey>,
    /// Heads of the user's views.
    pub views: Vec<Link>,
    /// Length of the encryption view. Zero in version 1.
    pub encryption_length: u64,
    /// Secret of the encryption view. Never in version 1.
    pub entropy: Option<[u8; 32]>,
}

impl Default for InfoRecord {
    fn default() -> Self {
        Self {
            version: Self::VERSION,
            timestamp: Timestamp::default(),
            flushes: 0,
            view: None,
            heads: Vec::new(),
            indexers: None,
            legacy: None,
        }
    }
}

impl InfoRecord {
    /// The version that is written.
    pub const VERSION: u64 = 3;

    const INDEXERS: u64 = 1;

    fn decode_legacy(from: &mut Decoder<'_>, version: u64) -> Result<Self, DecodeError> {
        const ENTROPY: u64 = 1;
        let members = from.uint()?;
        let pending_indexers = from.array(CoreKey::decode)?;
        let indexers = from.array(Link::decode)?;
        let heads = from.array(Link::decode)?;
        let views = from.array(Link::decode)?;
        let mut legacy = LegacyInfo {
            members,
            pending_indexers,
            views,
            ..LegacyInfo::default()
        };
        if version == 2 {
            legacy.encryption_length = from.uint()?;
            if from.uint()? & ENTROPY != 0 {
                legacy.entropy = Some(from.fixed()?);
            }
        }
        Ok(Self {
            version,
            heads,
            indexers: Some(indexers),
            legacy: Some(legacy),
            ..Self::default()
        })
    }
}

impl Encode for InfoRecord {
    fn encode(&self, to: &mut Encoder) {
        to.uint(Self::VERSION).uint(self.timestamp.0).uint(self.flushes);
        match &self.view {
            Some(view) => view.encode(to),
            None => {
                to.fail(EncodeError::Unsupported {
                    what: "an info record without a view",
                });
            }
        }
        to.array(&self.heads, Link::encode);
        match &self.indexers {
            Some(indexers) => to.uint(Self::INDEXERS).array(indexers, Link::encode),
            None => to.uint(0),
        };
    }
}

impl Decode for InfoRecord {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let start = from.clone();
        match from.uint()? {
            version @ 0..=2 => return Self::decode_legacy(from, version),
            Self::VERSION => {}
            version => return Err(start.unknown("info record version", version)),
        }
        Ok(Self {
            version: Self::VERSION,
            timestamp: Timestamp(from.uint()?),
            flushes: from.uint()?,
            view: Some(Link::decode(from)?),
            heads: from.array(Link::decode)?,
            indexers: match from.uint()? & Self::INDEXERS {
                0 => None,
                _ => Some(from.array(Link::decode)?),
            },
            legacy: None,
        })
    }
}

/// User data in the manifest of a core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ManifestData {
    /// Version.
    pub version: u64,
    /// How many blocks from the start are Autobase's. Zero is not written.
    pub legacy_blocks: u64,
    /// From which the core's block key is derived, instead of from its own key.
    pub namespace: Option<[u8; 32]>,
}

impl ManifestData {
    const LEGACY_BLOCKS: u64 = 1;
    const NAMESPACE: u64 = 2;
}

impl Encode for ManifestData {
    fn encode(&self, to: &mut Encoder) {
        let blocks = if self.legacy_blocks > 0 {
            Self::LEGACY_BLOCKS
        } else {
            0
        };
        let namespace = if self.namespace.is_some() {
            Self::NAMESPACE
        } else {
            0
        };
        to.uint(self.version).uint(blocks | namespace);
        if self.legacy_blocks > 0 {
            to.uint(self.legacy_blocks);
        }
        if let Some(namespace) = &self.namespace {
            to.raw(namespace);
        }
    }
}

impl Decode for ManifestData {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let version = from.uint()?;
        let flags = from.uint()?;
        Ok(Self {
            version,
            legacy_blocks: if flags & Self::LEGACY_BLOCKS != 0 {
                from.uint()?
            } else {
                0
            },
            namespace: if flags & Self::NAMESPACE != 0 {
                Some(from.fixed()?)
            } else {
                None
            },
        })
    }
}

/// The state of an Autobase when it was closed. Read when a database is migrated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutobaseBoot {
    /// 3, or 0 for the form without a version.
    pub version: u64,
    /// Head of the system view.
    pub system: Link,
    /// The indexers had changed.
    pub indexers_updated: bool,
    /// It was fast-forwarding.
    pub fast_forwarding: bool,
    /// How often it had recovered. One in the form without a version.
    pub recoveries: u64,
    /// Heads of the graph, in the form without a version.
    pub heads: Vec<Link>,
}

impl Decode for AutobaseBoot {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        const INDEXERS_UPDATED: u64 = 1;
        const FAST_FORWARDING: u64 = 2;
        const RECOVERIES: u64 = 4;
        let start = from.clone();
        match from.uint()? {
            // The form without a version: the byte that was read is the first one of the key.
            0 => {
                *from = start;
                Ok(Self {
                    version: 0,
                    system: Link::decode(from)?,
                    indexers_updated: false,
                    fast_forwarding: false,
                    recoveries: 1,
                    heads: from.array(Link::decode)?,
                })
            }
            3 => {
                let system = Link::decode(from)?;
                let flags = from.uint()?;
                Ok(Self {
                    version: 3,
                    system,
                    indexers_updated: flags & INDEXERS_UPDATED != 0,
                    fast_forwarding: flags & FAST_FORWARDING != 0,
                    recoveries: if flags & RECOVERIES != 0 { from.uint()? } else { 0 },
                    heads: Vec::new(),
                })
            }
            version => Err(start.unknown("boot record version", version)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::compact::UINT_MAX;

    prop_compose! {
        fn link()(key: [u8; 32], length in 0..=UINT_MAX) -> Link {
            Link { key: CoreKey::new(key), length: Length(length) }
        }
    }

    proptest! {
        #[test]
        fn every_writer_record_survives(
            flags: [bool; 5],
            (weight, max_weight, length, clock) in (0..=UINT_MAX, 0..=UINT_MAX, 0..=UINT_MAX, 0..=UINT_MAX),
            timestamp in -1..(1i64 << 52),
        ) {
            let record = WriterRecord {
                version: WriterRecord::VERSION,
                is_removed: flags[0],
                is_oplog: flags[1],
                is_genesis: flags[2],
                is_anchor: flags[3],
                is_guest: flags[4],
                weight: Weight(weight),
                max_weight: Some(Weight(max_weight)),
                length: Length(length),
                clock,
                timestamp,
            };
            prop_assert_eq!(WriterRecord::from_bytes(&record.to_bytes().unwrap()), Ok(record));
        }

        #[test]
        fn every_info_record_survives(
            (timestamp, flushes) in (0..=UINT_MAX, 0..=UINT_MAX),
            view in link(),
            heads in vec(link(), 0..5),
            indexers in proptest::option::of(vec(link(), 0..3)),
        ) {
            let record = InfoRecord {
                version: InfoRecord::VERSION,
                timestamp: Timestamp(timestamp),
                flushes,
                view: Some(view),
                heads,
                indexers,
                legacy: None,
            };
            prop_assert_eq!(InfoRecord::from_bytes(&record.to_bytes().unwrap()), Ok(record));
        }

        #[test]
        fn every_key_survives(key: [u8; 32]) {
            let key = CoreKey::new(key);
            for key in [SystemKey::Info, SystemKey::LegacyInfo, SystemKey::Writer(key), SystemKey::Indexer(key)] {
                prop_assert_eq!(SystemKey::from_bytes(&key.to_bytes()), Some(key));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(version in 0..6u8, mut bytes in vec(any::<u8>(), 0..200)) {
            bytes.insert(0, version);
            let _ = WriterRecord::from_bytes(&bytes);
            let _ = InfoRecord::from_bytes(&bytes);
            let _ = ManifestData::from_bytes(&bytes);
            let _ = AutobaseBoot::from_bytes(&bytes);
            let _ = SystemKey::from_bytes(&bytes);
        }
    }

    #[test]
    fn an_info_record_has_a_view() {
        assert!(InfoRecord::default().to_bytes().is_err());
    }
}
