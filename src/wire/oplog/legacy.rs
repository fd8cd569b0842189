//! Blocks of versions 0 to 2, as Autobase wrote them (spec/autobee.md 2.3). Read only.

use bytes::Bytes;

use super::{BatchPosition, OplogBlock};
use crate::crypto::{CoreKey, Signature};
use crate::wire::{Decode, DecodeError, Decoder, Length, Link};

/// The fields that only blocks below version 3 have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Legacy {
    /// How many blocks of the batch remain, this one included. Zero is odd, and counts as one.
    pub batch: u64,
    /// The newest version that the writer understood. Not in version 2.
    pub max_supported: u64,
    /// Where the keys of the indexers are described.
    pub digest: Option<Digest>,
    /// Signed lengths of the views.
    pub checkpoint: Option<LegacyCheckpoint>,
    /// Which blocks of the views the writer's apply had read.
    pub trace: Option<Trace>,
}

/// The key of the system core, or how many blocks back to find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// Blocks to go back; zero when the key is here.
    pub pointer: u64,
    /// The key.
    pub key: Option<CoreKey>,
}

/// Signed lengths of the views.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LegacyCheckpoint {
    /// Of the system view.
    pub system: Option<Checkpointer>,
    /// Of the encryption view.
    pub encryption: Option<Checkpointer>,
    /// Of the user's views.
    pub user: Option<Vec<Checkpointer>>,
}

/// A signed length, or how many blocks back to find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpointer {
    /// Blocks to go back; zero when the signed length is here.
    pub pointer: u64,
    /// The signed length.
    pub checkpoint: Option<SignedLength>,
}

/// A length that an indexer signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedLength {
    /// The signature.
    pub signature: Signature,
    /// The length.
    pub length: Length,
}

/// Which blocks of the views an apply had read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// Blocks of the system view.
    pub system: Vec<u64>,
    /// Blocks of the encryption view.
    pub encryption: Vec<u64>,
    /// Blocks of the user's views.
    pub user: Vec<ViewTrace>,
}

/// Which blocks of one of the user's views an apply had read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewTrace {
    /// Number of the view.
    pub view: u64,
    /// The blocks.
    pub blocks: Vec<u64>,
}

/// Reads what follows the version.
pub(super) fn decode(from: &mut Decoder<'_>, version: u64) -> Result<OplogBlock, DecodeError> {
    match version {
        0 => decode_version_0(from),
        1 => decode_version_1(from),
        _ => decode_version_2(from),
    }
}

fn decode_version_0(from: &mut Decoder<'_>) -> Result<OplogBlock, DecodeError> {
    let mut legacy = Legacy::default();
    if from.uint()? & 1 != 0 {
        skip_digest_0(from)?;
        legacy.checkpoint = Some(decode_checkpoint(from)?);
    }
    let node = LegacyNode::decode(from)?;
    skip_additional(from)?;
    if from.remaining() > 0 {
        legacy.max_supported = from.uint()?;
    }
    Ok(node.into_block(0, false, legacy))
}

fn decode_version_1(from: &mut Decoder<'_>) -> Result<OplogBlock, DecodeError> {
    let mut legacy = Legacy {
        max_supported: from.uint()?,
        ..Legacy::default()
    };
    let flags = from.uint()?;
    if flags & 1 != 0 {
        legacy.checkpoint = Some(decode_checkpoint(from)?);
        legacy.digest = Some(decode_digest_1(from)?);
    }
    Ok(LegacyNode::decode(from)?.into_block(1, flags & 2 != 0, legacy))
}

fn decode_version_2(from: &mut Decoder<'_>) -> Result<OplogBlock, DecodeError> {
    let node = LegacyNode::decode(from)?;
    let mut legacy = Legacy::default();
    let flags = from.uint()?;
    if flags & 1 != 0 {
        legacy.checkpoint = Some(from.frame(decode_checkpoint_2)?);
    }
    if flags & 2 != 0 {
        legacy.digest = Some(from.frame(decode_digest_2)?);
    }
    if flags & 8 != 0 {
        legacy.trace = Some(from.frame(decode_trace)?);
    }
    Ok(node.into_block(2, flags & 4 != 0, legacy))
}

struct LegacyNode {
    heads: Vec<Link>,
    batch: u64,
    value: Option<Bytes>,
}

impl LegacyNode {
    fn into_block(self, version: u64, optimistic: bool, legacy: Legacy) -> OplogBlock {
        OplogBlock {
            version,
            links: self.heads,
            batch: BatchPosition {
                before: 0,
                after: self.batch.saturating_sub(1),
            },
            optimistic,
            value: self.value,
            legacy: Some(Box::new(Legacy {
                batch: self.batch,
                ..legacy
            })),
            ..OplogBlock::default()
        }
    }
}

impl Decode for LegacyNode {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            heads: from.array(Link::decode)?,
            batch: from.uint()?,
            value: from.optional_buffer()?.map(Bytes::copy_from_slice),
        })
    }
}

/// The list of indexers of version 0. It says nothing that is still needed.
fn skip_digest_0(from: &mut Decoder<'_>) -> Result<(), DecodeError> {
    if from.uint()? == 0 {
        from.array(|from| {
            from.uint()?;
            from.take(64).map(drop)
        })?;
    }
    Ok(())
}

/// The description of the writer's own core in version 0. It says nothing that is still needed.
fn skip_additional(from: &mut Decoder<'_>) -> Result<(), DecodeError> {
    if from.uint()? != 0 {
        return Ok(());
    }
    let flags = from.uint()?;
    if flags & 1 != 0 {
        from.take(32)?;
    }
    if flags & 2 != 0 {
        from.uint()?;
    }
    Ok(())
}

/// Versions 0 and 1: one list, of which the first element is the system view's.
fn decode_checkpoint(from: &mut Decoder<'_>) -> Result<LegacyCheckpoint, DecodeError> {
    let mut all = from
        .array(|from| {
            let pointer = from.uint()?;
            let checkpoint = if pointer == 0 {
                Some(SignedLength::decode(from)?)
            } else {
                None
            };
            Ok(Checkpointer { pointer, checkpoint })
        })?
        .into_iter();
    Ok(LegacyCheckpoint {
        system: all.next(),
        encryption: None,
        user: Some(all.collect()),
    })
}

fn decode_digest_1(from: &mut Decoder<'_>) -> Result<Digest, DecodeError> {
    let pointer = from.uint()?;
    let key = if pointer == 0 {
        Some(CoreKey::decode(from)?)
    } else {
        None
    };
    Ok(Digest { pointer, key })
}

fn decode_checkpoint_2(from: &mut Decoder<'_>) -> Result<LegacyCheckpoint, DecodeError> {
    let flags = from.uint()?;
    let mut checkpoint = LegacyCheckpoint::default();
    if flags & 1 != 0 {
        checkpoint.system = Some(decode_checkpointer_2(from)?);
    }
    if flags & 2 != 0 {
        checkpoint.encryption = Some(decode_checkpointer_2(from)?);
    }
    if flags & 4 != 0 {
        checkpoint.user = Some(from.array(decode_checkpointer_2)?);
    }
    Ok(checkpoint)
}

fn decode_checkpointer_2(from: &mut Decoder<'_>) -> Result<Checkpointer, DecodeError> {
    let flags = from.uint()?;
    Ok(Checkpointer {
        pointer: if flags & 1 != 0 { from.uint()? } else { 0 },
        checkpoint: if flags & 2 != 0 {
            Some(SignedLength::decode(from)?)
        } else {
            None
        },
    })
}

fn decode_digest_2(from: &mut Decoder<'_>) -> Result<Digest, DecodeError> {
    let flags = from.uint()?;
    Ok(Digest {
        pointer: if flags & 1 != 0 { from.uint()? } else { 0 },
        key: if flags & 2 != 0 {
            Some(CoreKey::decode(from)?)
        } else {
            None
        },
    })
}

fn decode_trace(from: &mut Decoder<'_>) -> Result<Trace, DecodeError> {
    Ok(Trace {
        system: from.array(Decoder::uint)?,
        encryption: from.array(Decoder::uint)?,
        user: from.array(|from| {
            Ok(ViewTrace {
                view: from.uint()?,
                blocks: from.array(Decoder::uint)?,
            })
        })?,
    })
}

impl Decode for SignedLength {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            signature: Signature::decode(from)?,
            length: Length::decode(from)?,
        })
    }
}
