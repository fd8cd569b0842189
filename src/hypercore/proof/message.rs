//! Requests and proofs as bytes.
//!
//! Source: spec/hypercore.md 7.1.

use bytes::Bytes;

use super::{
    BlockProof, BlockRequest, HashProof, HashRequest, Proof, Request, SeekProof, SeekRequest, UpgradeProof,
    UpgradeRequest,
};
use crate::hypercore::manifest::{Manifest, ManifestError};
use crate::hypercore::merkle::Node;
use crate::wire::compact::{Decode, DecodeError, DecodeErrorKind, Decoder, Encode, Encoder};

/// A block of this size is not copied out of its message. Smaller ones would keep too much alive.
const SHARED_BYTES: usize = 16 * 1024;

const BLOCK: u64 = 1;
const HASH: u64 = 2;
const SEEK: u64 = 4;
const UPGRADE: u64 = 8;
const MANIFEST: u64 = 16;
const PRIORITY: u64 = 32;

/// A request with what the connection needs to answer it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestMessage {
    /// Number of the request, chosen by the asker. 0 is kept for checks of conflicts.
    pub id: u64,
    /// The fork that the request is about.
    pub fork: u64,
    /// What is asked for.
    pub request: Request,
    /// True when the asker does not know the manifest.
    pub manifest: bool,
    /// 0 is normal; more is more urgent.
    pub priority: u64,
}

/// A proof with the number of the request that it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataMessage {
    /// Number of the request; 0 for a proof that was not asked for.
    pub request: u64,
    /// The proof.
    pub proof: Proof,
}

impl Encode for RequestMessage {
    fn encode(&self, to: &mut Encoder) {
        let Request {
            block,
            hash,
            seek,
            upgrade,
        } = self.request;
        let flags = flag(block.is_some(), BLOCK)
            | flag(hash.is_some(), HASH)
            | flag(seek.is_some(), SEEK)
            | flag(upgrade.is_some(), UPGRADE)
            | flag(self.manifest, MANIFEST)
            | flag(self.priority != 0, PRIORITY);
        to.uint(flags).uint(self.id).uint(self.fork);
        if let Some(block) = block {
            to.uint(block.index).uint(block.nodes);
        }
        if let Some(hash) = hash {
            to.uint(hash.index).uint(hash.nodes);
        }
        if let Some(seek) = seek {
            to.uint(seek.bytes).uint(seek.padding);
        }
        if let Some(upgrade) = upgrade {
            to.uint(upgrade.start).uint(upgrade.length);
        }
        if self.priority != 0 {
            to.uint(self.priority);
        }
    }
}

impl Decode for RequestMessage {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let flags = from.uint()?;
        let (id, fork) = (from.uint()?, from.uint()?);
        let mut request = Request::default();
        if flags & BLOCK != 0 {
            request.block = Some(BlockRequest {
                index: from.uint()?,
                nodes: from.uint()?,
            });
        }
        if flags & HASH != 0 {
            request.hash = Some(HashRequest {
                index: from.uint()?,
                nodes: from.uint()?,
            });
        }
        if flags & SEEK != 0 {
            request.seek = Some(SeekRequest {
                bytes: from.uint()?,
                padding: from.uint()?,
            });
        }
        if flags & UPGRADE != 0 {
            request.upgrade = Some(UpgradeRequest {
                start: from.uint()?,
                length: from.uint()?,
            });
        }
        Ok(Self {
            id,
            fork,
            request,
            manifest: flags & MANIFEST != 0,
            priority: if flags & PRIORITY == 0 { 0 } else { from.uint()? },
        })
    }
}

impl Encode for DataMessage {
    fn encode(&self, to: &mut Encoder) {
        let Proof {
            fork,
            block,
            hash,
            seek,
            upgrade,
            manifest,
        } = &self.proof;
        let flags = flag(block.is_some(), BLOCK)
            | flag(hash.is_some(), HASH)
            | flag(seek.is_some(), SEEK)
            | flag(upgrade.is_some(), UPGRADE)
            | flag(manifest.is_some(), MANIFEST);
        to.uint(flags).uint(self.request).uint(*fork);
        if let Some(block) = block {
            to.uint(block.index).buffer(&block.value);
            to.array(&block.nodes, Node::encode);
        }
        if let Some(hash) = hash {
            to.uint(hash.index);
            to.array(&hash.nodes, Node::encode);
        }
        if let Some(seek) = seek {
            to.uint(seek.bytes);
            to.array(&seek.nodes, Node::encode);
        }
        if let Some(upgrade) = upgrade {
            to.uint(upgrade.start).uint(upgrade.length);
            to.array(&upgrade.nodes, Node::encode);
            to.array(&upgrade.additional_nodes, Node::encode);
            to.optional_buffer(upgrade.signature.as_deref());
        }
        if let Some(manifest) = manifest {
            to.raw(manifest.as_bytes());
        }
    }
}

impl Decode for DataMessage {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Self::decode_with(from, Bytes::copy_from_slice)
    }
}

impl DataMessage {
    /// As [`Decode::decode`] from all of `payload`, whose memory a large block goes on using.
    ///
    /// # Errors
    /// As [`Decode::decode`].
    pub fn decode_shared(payload: &Bytes) -> Result<Self, DecodeError> {
        Self::decode_with(&mut Decoder::new(payload), |value| match value.len() {
            SHARED_BYTES.. => payload.slice_ref(value),
            _ => Bytes::copy_from_slice(value),
        })
    }

    fn decode_with(from: &mut Decoder<'_>, value: impl Fn(&[u8]) -> Bytes) -> Result<Self, DecodeError> {
        let flags = from.uint()?;
        let request = from.uint()?;
        let mut proof = Proof::empty(from.uint()?);
        if flags & BLOCK != 0 {
            proof.block = Some(BlockProof {
                index: from.uint()?,
                value: value(from.buffer()?),
                nodes: from.array(Node::decode)?,
            });
        }
        if flags & HASH != 0 {
            proof.hash = Some(HashProof {
                index: from.uint()?,
                nodes: from.array(Node::decode)?,
            });
        }
        if flags & SEEK != 0 {
            proof.seek = Some(SeekProof {
                bytes: from.uint()?,
                nodes: from.array(Node::decode)?,
            });
        }
        if flags & UPGRADE != 0 {
            proof.upgrade = Some(UpgradeProof {
                start: from.uint()?,
                length: from.uint()?,
                nodes: from.array(Node::decode)?,
                additional_nodes: from.array(Node::decode)?,
                signature: from.optional_buffer()?.map(Bytes::copy_from_slice),
            });
        }
        if flags & MANIFEST != 0 {
            let at = from.error(DecodeErrorKind::Invalid { what: "manifest" });
            proof.manifest = Some(Manifest::decode(from.rest()).map_err(|error| match error {
                ManifestError::Malformed(DecodeError { kind, offset }) => DecodeError {
                    kind,
                    offset: at.offset.saturating_add(offset),
                },
                _ => at,
            })?);
        }
        Ok(Self { request, proof })
    }
}

const fn flag(set: bool, bit: u64) -> u64 {
    if set { bit } else { 0 }
}
