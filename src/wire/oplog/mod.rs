//! Blocks of a writer's log (spec/autobee.md 2.2 and 2.3; package `autobee` 2.0.0-rc.19, `lib/encoding`).
//!
//! Version 3 is written and read. Versions 0 to 2, of Autobase, are read into the same form, with what only they have
//! kept aside in [`Legacy`]. There is no discriminator between this version 3 and the one of autobee 1.0: blocks of that
//! release are misread or refused.

mod legacy;
mod value;

use bytes::Bytes;

pub use legacy::{Checkpointer, Digest, Legacy, LegacyCheckpoint, SignedLength, Trace, ViewTrace};
pub use value::{ValueOptions, decode_value, encode_value};

use super::{Decode, DecodeError, Decoder, Encode, Encoder, Length, Link, Timestamp, Weight};
use crate::crypto::{CoreKey, Signature};

/// The version that is written.
pub const VERSION: u64 = 3;

const BATCH: u64 = 1;
const VIEWS: u64 = 2;
const USER_VIEW: u64 = 4;
const OPTIMISTIC: u64 = 8;
const VALUE: u64 = 16;
const WITNESS: u64 = 32;
const ATTESTATIONS: u64 = 64;
const TRUSTED: u64 = 128;

/// One block of a writer's log.
///
/// ```
/// use autobee::wire::{Decode as _, Encode as _, Timestamp, oplog::OplogBlock};
///
/// let block = OplogBlock {
///     timestamp: Timestamp(5),
///     value: Some("hello".into()),
///     ..OplogBlock::default()
/// };
/// let bytes = block.to_bytes()?;
/// assert_eq!(OplogBlock::from_bytes(&bytes), Ok(block));
/// # Ok::<(), autobee::wire::EncodeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OplogBlock {
    /// Version that was read: 0 to 3. What is written is always [`VERSION`].
    pub version: u64,
    /// When the writer appended. Zero in versions below 3.
    pub timestamp: Timestamp,
    /// Heads that the writer had applied, without its own. Only on the first block of a batch.
    pub links: Vec<Link>,
    /// Where the block stands in its batch.
    pub batch: BatchPosition,
    /// Where the writer's own views stood after its batches.
    pub views: Option<ViewStamps>,
    /// Appended by somebody who was no writer, in the hope of being accepted.
    pub optimistic: bool,
    /// What the user appended. None and empty are different.
    pub value: Option<Bytes>,
    /// A claim to more weight. Only on the first block of a batch.
    pub witness: Option<Witness>,
    /// Weights that this writer granted. None and empty are different.
    pub attestations: Option<Vec<Attestation>>,
    /// Heads that this writer trusts. None and empty are different.
    pub trusted: Option<Vec<TrustedHead>>,
    /// What only versions below 3 have. Never written.
    pub legacy: Option<Box<Legacy>>,
}

/// The position of a block in its batch: how many blocks come before and after it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchPosition {
    /// Blocks before (JS: `start`). Always zero in versions below 3.
    pub before: u64,
    /// Blocks after (JS: `end`).
    pub after: u64,
}

/// Positions of the writer's own views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewStamps {
    /// How many flushes the writer had made.
    pub flushes: u64,
    /// The system view.
    pub system: ViewStamp,
    /// The user's view.
    pub view: Option<ViewStamp>,
}

/// Blocks `start..start + length` of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewStamp {
    /// The core.
    pub key: CoreKey,
    /// Length of the core before these blocks.
    pub start: Length,
    /// How many blocks.
    pub length: Length,
}

/// A claim to a weight, with the attestation of whoever granted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// The weight claimed.
    pub weight: Weight,
    /// Who granted it.
    pub backer: Backer,
}

/// An attestation: a writer's signed word that it granted a weight. Everything needed to check it is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backer {
    /// The granting writer.
    pub key: CoreKey,
    /// Length of its log with the block that carried the attestation.
    pub length: Length,
    /// The attestation's signature.
    pub signature: Signature,
    /// The manifest of `key`, encoded.
    pub manifest: Bytes,
}

/// The signed statement that a writer was granted a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attestation {
    /// Who was granted it.
    pub key: CoreKey,
    /// How much.
    pub weight: Weight,
    /// By the writer of the block.
    pub signature: Signature,
}

/// A system head that the writer trusts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedHead {
    /// The core.
    pub key: CoreKey,
    /// How many of its blocks.
    pub length: Length,
    /// Flushes up to there.
    pub flushes: u64,
}

impl Default for OplogBlock {
    fn default() -> Self {
        Self {
            version: VERSION,
            timestamp: Timestamp::default(),
            links: Vec::new(),
            batch: BatchPosition::default(),
            views: None,
            optimistic: false,
            value: None,
            witness: None,
            attestations: None,
            trusted: None,
            legacy: None,
        }
    }
}

impl BatchPosition {
    /// True for the block that carries the links of its batch.
    #[must_use]
    pub const fn is_first(&self) -> bool {
        self.before == 0
    }

    /// True for the block that ends its batch.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.after == 0
    }
}

impl ViewStamp {
    /// The head of the view: length of the core with these blocks. None when the numbers leave their range.
    #[must_use]
    pub fn head(&self) -> Option<Link> {
        let length = Length(self.start.0.checked_add(self.length.0)?);
        Some(Link {
            key: self.key,
            length,
        })
    }
}

impl Encode for OplogBlock {
    fn encode(&self, to: &mut Encoder) {
        let flag = |present: bool, bit| if present { bit } else { 0 };
        let batch = Some(self.batch).filter(|batch| *batch != BatchPosition::default());
        to.uint(VERSION)
            .uint(self.timestamp.0)
            .array(&self.links, Link::encode);
        to.uint(
            flag(batch.is_some(), BATCH)
                | flag(self.views.is_some(), VIEWS)
                | flag(self.views.is_some_and(|views| views.view.is_some()), USER_VIEW)
                | flag(self.optimistic, OPTIMISTIC)
                | flag(self.value.is_some(), VALUE)
                | flag(self.witness.is_some(), WITNESS)
                | flag(self.attestations.is_some(), ATTESTATIONS)
                | flag(self.trusted.is_some(), TRUSTED),
        );
        if let Some(batch) = batch {
            to.uint(batch.before).uint(batch.after);
        }
        if let Some(views) = &self.views {
            to.uint(views.flushes);
            views.system.encode(to);
            if let Some(view) = &views.view {
                view.encode(to);
            }
        }
        if let Some(value) = &self.value {
            to.buffer(value);
        }
        if let Some(witness) = &self.witness {
            witness.encode(to);
        }
        if let Some(attestations) = &self.attestations {
            to.array(attestations, Attestation::encode);
        }
        if let Some(trusted) = &self.trusted {
            to.array(trusted, TrustedHead::encode);
        }
    }
}

impl Decode for OplogBlock {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let start = from.clone();
        match from.uint()? {
            version @ 0..=2 => legacy::decode(from, version),
            VERSION => decode_version_3(from),
            version => Err(start.unknown("oplog version", version)),
        }
    }
}

fn decode_version_3(from: &mut Decoder<'_>) -> Result<OplogBlock, DecodeError> {
    fn when<T>(
        present: bool,
        from: &mut Decoder<'_>,
        read: impl FnOnce(&mut Decoder<'_>) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if present { read(from).map(Some) } else { Ok(None) }
    }

    let timestamp = Timestamp(from.uint()?);
    let links = from.array(Link::decode)?;
    let flags = from.uint()?;
    let has = |bit| flags & bit != 0;
    Ok(OplogBlock {
        version: VERSION,
        timestamp,
        links,
        batch: when(has(BATCH), from, |from| {
            Ok(BatchPosition {
                before: from.uint()?,
                after: from.uint()?,
            })
        })?
        .unwrap_or_default(),
        views: when(has(VIEWS), from, |from| {
            Ok(ViewStamps {
                flushes: from.uint()?,
                system: ViewStamp::decode(from)?,
                view: when(has(USER_VIEW), from, ViewStamp::decode)?,
            })
        })?,
        optimistic: has(OPTIMISTIC),
        value: when(has(VALUE), from, |from| from.buffer().map(Bytes::copy_from_slice))?,
        witness: when(has(WITNESS), from, Witness::decode)?,
        attestations: when(has(ATTESTATIONS), from, |from| from.array(Attestation::decode))?,
        trusted: when(has(TRUSTED), from, |from| from.array(TrustedHead::decode))?,
        legacy: None,
    })
}

impl Encode for ViewStamp {
    fn encode(&self, to: &mut Encoder) {
        self.key.encode(to);
        self.start.encode(to);
        self.length.encode(to);
    }
}

impl Decode for ViewStamp {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            key: CoreKey::decode(from)?,
            start: Length::decode(from)?,
            length: Length::decode(from)?,
        })
    }
}

impl Encode for Witness {
    fn encode(&self, to: &mut Encoder) {
        to.frame(|to| {
            self.weight.encode(to);
            to.frame(|to| {
                self.backer.key.encode(to);
                self.backer.length.encode(to);
                self.backer.signature.encode(to);
                to.buffer(&self.backer.manifest);
            });
        });
    }
}

impl Decode for Witness {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        from.frame(|from| {
            Ok(Self {
                weight: Weight::decode(from)?,
                backer: from.frame(|from| {
                    Ok(Backer {
                        key: CoreKey::decode(from)?,
                        length: Length::decode(from)?,
                        signature: Signature::decode(from)?,
                        manifest: Bytes::copy_from_slice(from.buffer()?),
                    })
                })?,
            })
        })
    }
}

impl Encode for Attestation {
    fn encode(&self, to: &mut Encoder) {
        to.frame(|to| {
            self.key.encode(to);
            self.weight.encode(to);
            self.signature.encode(to);
        });
    }
}

impl Decode for Attestation {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        from.frame(|from| {
            Ok(Self {
                key: CoreKey::decode(from)?,
                weight: Weight::decode(from)?,
                signature: Signature::decode(from)?,
            })
        })
    }
}

impl Encode for TrustedHead {
    fn encode(&self, to: &mut Encoder) {
        to.frame(|to| {
            self.key.encode(to);
            self.length.encode(to);
            to.uint(self.flushes);
        });
    }
}

impl Decode for TrustedHead {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        from.frame(|from| {
            Ok(Self {
                key: CoreKey::decode(from)?,
                length: Length::decode(from)?,
                flushes: from.uint()?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::compact::UINT_MAX;

    prop_compose! {
        fn link()(key: [u8; 32], length in 0..=UINT_MAX) -> Link {
            Link { key: CoreKey::new(key), length: Length(length) }
        }
    }

    prop_compose! {
        fn stamp()(key: [u8; 32], start in 0..=UINT_MAX, length in 0..300u64) -> ViewStamp {
            ViewStamp { key: CoreKey::new(key), start: Length(start), length: Length(length) }
        }
    }

    prop_compose! {
        fn views()(flushes in 0..300u64, system in stamp(), view in option::of(stamp())) -> ViewStamps {
            ViewStamps { flushes, system, view }
        }
    }

    prop_compose! {
        fn witness()(link in link(), weight in 0..300u64, byte: u8, manifest in vec(any::<u8>(), 0..80)) -> Witness {
            Witness {
                weight: Weight(weight),
                backer: Backer {
                    key: link.key,
                    length: link.length,
                    signature: Signature::new([byte; 64]),
                    manifest: manifest.into(),
                },
            }
        }
    }

    prop_compose! {
        fn block()(
            (timestamp, before, after) in (0..=UINT_MAX, 0..300u64, 0..300u64),
            links in vec(link(), 0..4),
            views in option::of(views()),
            optimistic: bool,
            value in option::of(vec(any::<u8>(), 0..300)),
            witness in option::of(witness()),
            attestations in option::of(vec(link(), 0..3)),
            trusted in option::of(vec((link(), 0..300u64), 0..3)),
        ) -> OplogBlock {
            OplogBlock {
                version: VERSION,
                timestamp: Timestamp(timestamp),
                links,
                batch: BatchPosition { before, after },
                views,
                optimistic,
                value: value.map(Bytes::from),
                witness,
                attestations: attestations.map(|list| list.into_iter().map(|link| Attestation {
                    key: link.key,
                    weight: Weight(link.length.0),
                    signature: Signature::new([9; 64]),
                }).collect()),
                trusted: trusted.map(|list| list.into_iter().map(|(link, flushes)| TrustedHead {
                    key: link.key,
                    length: link.length,
                    flushes,
                }).collect()),
                legacy: None,
            }
        }
    }

    proptest! {
        #[test]
        fn every_block_survives(block in block(), tail in vec(any::<u8>(), 0..5)) {
            let mut bytes = block.to_bytes().unwrap();
            prop_assert_eq!(OplogBlock::from_bytes(&bytes), Ok(block.clone()));
            bytes.extend(tail);
            prop_assert_eq!(OplogBlock::from_bytes(&bytes), Ok(block));
        }

        #[test]
        fn a_block_cut_short_is_refused(block in block(), at: prop::sample::Index) {
            let bytes = block.to_bytes().unwrap();
            prop_assert!(OplogBlock::from_bytes(&bytes[..at.index(bytes.len())]).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(version in 0..5u8, mut bytes in vec(any::<u8>(), 0..300)) {
            bytes.insert(0, version);
            let _ = OplogBlock::from_bytes(&bytes);
        }

        #[test]
        fn a_changed_byte_never_panics(block in block(), at: prop::sample::Index, byte: u8) {
            let mut bytes = block.to_bytes().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(read) = OplogBlock::from_bytes(&bytes) && read.version == VERSION {
                prop_assert_eq!(OplogBlock::from_bytes(&read.to_bytes().unwrap()), Ok(read));
            }
        }
    }

    #[test]
    fn an_unknown_version_is_named() {
        let error = OplogBlock::from_bytes(&[4, 0, 0, 0]).unwrap_err();
        assert_eq!(error.to_string(), "unknown oplog version 4 at byte 0");
    }
}
