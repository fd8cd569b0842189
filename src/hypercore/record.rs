//! What a store holds of cores, as bytes.
//!
//! The places are those of the reference, the bytes are our own: no other program reads them. Every record begins
//! with a version, so that a later format can tell.

use bytes::Bytes;
use thiserror::Error;

use super::event::Contradiction;
use super::keys::PrimaryKey;
use super::manifest::{Manifest, ManifestError};
use super::merkle::Node;
use crate::crypto::{CoreKey, Hash, KeyPair, SecretKey};
use crate::store::DataPointer;
use crate::wire::Length;
use crate::wire::compact::{Decode, DecodeError, DecodeErrorKind, Decoder, Encode, EncodeError, Encoder};

const VERSION: u64 = 1;

/// A record in the store is not what we wrote. To blame: the disk, or a defect of ours.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// It does not decode.
    #[error("malformed record: {0}")]
    Malformed(#[from] DecodeError),
    /// The manifest in it does not decode.
    #[error("malformed record: {0}")]
    Manifest(#[from] ManifestError),
    /// It cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// It contradicts another one.
    #[error("inconsistent records: {0}")]
    Inconsistent(&'static str),
}

/// The record of the store as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoreRecord {
    pub(super) primary_key: PrimaryKey,
    pub(super) next_core: u64,
    pub(super) next_data: u64,
}

/// The identity of a core, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AuthRecord {
    pub(super) key: CoreKey,
    pub(super) manifest: Option<Manifest>,
    pub(super) key_pair: Option<KeyPair>,
    pub(super) group: Option<[u8; 32]>,
    pub(super) contradiction: Option<Contradiction>,
    /// What proves the contradiction: the other history, signed.
    pub(super) other_history: Option<Bytes>,
}

/// The lines of blocks of a core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinesRecord {
    pub(super) main: DataPointer,
    pub(super) named: Vec<(String, DataPointer)>,
}

/// The head of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeadRecord {
    pub(super) length: u64,
    pub(super) fork: u64,
    pub(super) contiguous: u64,
    pub(super) tree_hash: Hash,
    pub(super) signature: Option<Bytes>,
}

/// The first blocks of a named line are those of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dependency {
    pub(super) data: DataPointer,
    pub(super) length: u64,
}

/// The last change of the head of a core, kept for whoever follows its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupRecord {
    pub(super) timestamp: u64,
    pub(super) length: u64,
    pub(super) fork: u64,
}

/// Bytes of a stored tree node.
pub(super) const NODE_BYTES: usize = 40;

/// A tree node as stored; its number is in the key.
pub(super) fn node_bytes(node: &Node) -> [u8; NODE_BYTES] {
    let mut bytes = [0; NODE_BYTES];
    bytes[..32].copy_from_slice(node.hash.as_bytes());
    bytes[32..].copy_from_slice(&node.size.to_le_bytes());
    bytes
}

/// Reads a stored tree node.
pub(super) fn node_from(index: u64, bytes: &[u8]) -> Result<Node, RecordError> {
    let mut from = Decoder::new(bytes);
    let hash = Hash::new(from.fixed()?);
    let size = u64::from_le_bytes(from.fixed()?);
    Ok(Node { index, size, hash })
}

impl Encode for StoreRecord {
    fn encode(&self, to: &mut Encoder) {
        to.uint(VERSION).raw(self.primary_key.as_bytes());
        to.uint(self.next_core).uint(self.next_data);
    }
}

impl Decode for StoreRecord {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        version(from)?;
        Ok(Self {
            primary_key: PrimaryKey::new(from.fixed()?),
            next_core: from.uint()?,
            next_data: from.uint()?,
        })
    }
}

impl Encode for AuthRecord {
    fn encode(&self, to: &mut Encoder) {
        let Self {
            key,
            manifest,
            key_pair,
            group,
            contradiction,
            other_history,
        } = self;
        to.uint(VERSION);
        to.uint(bits([
            manifest.is_some(),
            key_pair.is_some(),
            group.is_some(),
            contradiction.is_some(),
            other_history.is_some(),
        ]));
        to.raw(key.as_bytes());
        if let Some(manifest) = manifest {
            to.buffer(manifest.as_bytes());
        }
        if let Some(pair) = key_pair {
            to.raw(pair.secret.as_bytes());
        }
        if let Some(group) = group {
            to.raw(group);
        }
        if let Some(Contradiction { length, fork, blocks }) = contradiction {
            to.uint(length.0).uint(*fork).uint(blocks.0);
        }
        if let Some(other) = other_history {
            to.buffer(other);
        }
    }
}

impl AuthRecord {
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut from = Decoder::new(bytes);
        version(&mut from)?;
        let flags = from.uint()?;
        Ok(Self {
            key: CoreKey::new(from.fixed()?),
            manifest: match flags & 1 {
                0 => None,
                _ => Some(Manifest::decode(from.buffer()?)?),
            },
            key_pair: match flags & 2 {
                0 => None,
                _ => {
                    let secret = SecretKey::from_bytes(from.fixed()?);
                    Some(KeyPair {
                        public: secret.public(),
                        secret,
                    })
                }
            },
            group: match flags & 4 {
                0 => None,
                _ => Some(from.fixed()?),
            },
            contradiction: match flags & 8 {
                0 => None,
                _ => Some(Contradiction {
                    length: Length(from.uint()?),
                    fork: from.uint()?,
                    blocks: Length(from.uint()?),
                }),
            },
            other_history: match flags & 16 {
                0 => None,
                _ => Some(Bytes::copy_from_slice(from.buffer()?)),
            },
        })
    }
}

impl Encode for LinesRecord {
    fn encode(&self, to: &mut Encoder) {
        to.uint(VERSION).uint(self.main.0);
        to.array(&self.named, |(name, data), to| {
            to.string(name).uint(data.0);
        });
    }
}

impl Decode for LinesRecord {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        version(from)?;
        Ok(Self {
            main: DataPointer(from.uint()?),
            named: from.array(|from| Ok((from.string()?.into_owned(), DataPointer(from.uint()?))))?,
        })
    }
}

impl Encode for HeadRecord {
    fn encode(&self, to: &mut Encoder) {
        to.uint(VERSION)
            .uint(self.length)
            .uint(self.fork)
            .uint(self.contiguous);
        to.raw(self.tree_hash.as_bytes());
        to.optional_buffer(self.signature.as_deref());
    }
}

impl Decode for HeadRecord {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        version(from)?;
        Ok(Self {
            length: from.uint()?,
            fork: from.uint()?,
            contiguous: from.uint()?,
            tree_hash: Hash::new(from.fixed()?),
            signature: from.optional_buffer()?.map(Bytes::copy_from_slice),
        })
    }
}

impl Encode for Dependency {
    fn encode(&self, to: &mut Encoder) {
        to.uint(VERSION).uint(self.data.0).uint(self.length);
    }
}

impl Decode for Dependency {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        version(from)?;
        Ok(Self {
            data: DataPointer(from.uint()?),
            length: from.uint()?,
        })
    }
}

impl Encode for GroupRecord {
    fn encode(&self, to: &mut Encoder) {
        to.uint(VERSION)
            .uint(self.timestamp)
            .uint(self.length)
            .uint(self.fork);
    }
}

impl Decode for GroupRecord {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        version(from)?;
        Ok(Self {
            timestamp: from.uint()?,
            length: from.uint()?,
            fork: from.uint()?,
        })
    }
}

fn version(from: &mut Decoder<'_>) -> Result<(), DecodeError> {
    match from.uint()? {
        VERSION => Ok(()),
        value => Err(from.error(DecodeErrorKind::Unknown {
            what: "record version",
            value,
        })),
    }
}

fn bits<const N: usize>(set: [bool; N]) -> u64 {
    set.iter()
        .rev()
        .fold(0, |flags, bit| flags << 1 | u64::from(*bit))
}
