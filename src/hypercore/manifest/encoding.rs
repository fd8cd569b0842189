//! Bytes of manifests.

use super::{Fields, Prologue, Signer, VERSION_MAX};
use crate::crypto::{CoreKey, Hash, PublicKey};
use crate::wire::{Decode, DecodeError, Decoder, Encode, Encoder};

const ALLOW_PATCH: u64 = 1;
const PROLOGUE: u64 = 2;
const LINKED: u64 = 4;
const USER_DATA: u64 = 8;

/// The only hash there is: BLAKE2b-256.
const BLAKE2B: u64 = 0;
/// The only signature there is: Ed25519.
const ED25519: u64 = 0;

impl Encode for Fields {
    fn encode(&self, to: &mut Encoder) {
        to.uint(self.version);
        if self.version == 0 {
            return self.encode_version_0(to);
        }
        let flag = |present: bool, bit| if present { bit } else { 0 };
        to.uint(
            flag(self.allow_patch, ALLOW_PATCH)
                | flag(self.prologue.is_some(), PROLOGUE)
                | flag(self.linked.is_some(), LINKED)
                | flag(self.user_data.is_some(), USER_DATA),
        );
        to.uint(BLAKE2B)
            .uint(self.quorum)
            .array(&self.signers, Signer::encode);
        if let Some(prologue) = &self.prologue {
            prologue.hash.encode(to);
            to.uint(prologue.length);
        }
        if let Some(linked) = &self.linked {
            to.array(linked, CoreKey::encode);
        }
        if let Some(user_data) = &self.user_data {
            to.buffer(user_data);
        }
    }
}

impl Decode for Fields {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let version = from.uint()?;
        if version == 0 {
            return Self::decode_version_0(from);
        }
        if version > VERSION_MAX {
            return Err(from.unknown("manifest version", version));
        }
        let flags = from.uint()?;
        decode_hash_id(from)?;
        Ok(Self {
            version,
            allow_patch: flags & ALLOW_PATCH != 0,
            quorum: from.uint()?,
            signers: from.array(Signer::decode)?,
            prologue: match flags & PROLOGUE {
                0 => None,
                _ => Some(Prologue {
                    hash: Hash::decode(from)?,
                    length: from.uint()?,
                }),
            },
            linked: match flags & LINKED {
                0 => None,
                _ => Some(from.array(CoreKey::decode)?),
            },
            user_data: match flags & USER_DATA {
                0 => None,
                _ => Some(from.buffer()?.to_vec()),
            },
        })
    }
}

impl Fields {
    fn encode_version_0(&self, to: &mut Encoder) {
        to.uint(BLAKE2B);
        match (&self.prologue, self.signers.as_slice()) {
            (Some(prologue), []) => {
                to.uint(0);
                prologue.hash.encode(to);
            }
            (_, [signer]) if self.quorum == 1 && !self.allow_patch => {
                to.uint(1);
                signer.encode(to);
            }
            (_, signers) => {
                to.uint(2)
                    .uint(u64::from(self.allow_patch))
                    .uint(self.quorum)
                    .array(signers, Signer::encode);
            }
        }
    }

    fn decode_version_0(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        decode_hash_id(from)?;
        let mut fields = Self {
            version: 0,
            allow_patch: false,
            quorum: 0,
            signers: Vec::new(),
            prologue: None,
            linked: None,
            user_data: None,
        };
        match from.uint()? {
            0 => {
                fields.prologue = Some(Prologue {
                    hash: Hash::decode(from)?,
                    length: 0,
                });
            }
            1 => {
                fields.quorum = 1;
                fields.signers.push(Signer::decode(from)?);
            }
            2 => {
                fields.allow_patch = from.uint()? & ALLOW_PATCH != 0;
                fields.quorum = from.uint()?;
                fields.signers = from.array(Signer::decode)?;
            }
            kind => return Err(from.unknown("manifest type", kind)),
        }
        Ok(fields)
    }
}

impl Encode for Signer {
    fn encode(&self, to: &mut Encoder) {
        to.uint(ED25519).raw(&self.namespace);
        self.public_key.encode(to);
    }
}

impl Decode for Signer {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match from.uint()? {
            ED25519 => Ok(Self {
                namespace: from.fixed()?,
                public_key: PublicKey::decode(from)?,
            }),
            id => Err(from.unknown("signature id", id)),
        }
    }
}

fn decode_hash_id(from: &mut Decoder<'_>) -> Result<(), DecodeError> {
    match from.uint()? {
        BLAKE2B => Ok(()),
        id => Err(from.unknown("hash id", id)),
    }
}
