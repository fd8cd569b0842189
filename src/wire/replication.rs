//! Messages of a replication channel, but for requests and data, which stand with the proofs that they carry
//! (spec/replication.md 5; `hypercore` 11.37, `lib/messages.js`, `wire`).
//!
//! Channel and message numbers are not part of these bytes.

use bytes::Bytes;

use super::{Decode, DecodeError, Decoder, Encode, Encoder};
use crate::crypto::Hash;

/// Opens the channel of a core: the proof that this side knows its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenMessage {
    /// This side understands seeks in requests.
    pub seeks: bool,
    /// The proof that this side knows the key of the core: `capability::replication` of the replication module.
    pub capability: Hash,
}

/// The sync message: what this side has and wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sync {
    /// Generation of this side's tree.
    pub fork: u64,
    /// Its length in blocks.
    pub length: u64,
    /// The other side's length, as far as this side knows.
    pub remote_length: u64,
    /// This side can prove the difference.
    pub can_upgrade: bool,
    /// This side serves blocks.
    pub uploading: bool,
    /// This side asks for blocks.
    pub downloading: bool,
    /// This side can send the manifest.
    pub has_manifest: bool,
    /// Blocks may be sent to this side unasked.
    pub allow_push: bool,
}

/// Takes a request back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancel {
    /// Number of the request.
    pub request: u64,
}

/// A request that gets no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoData {
    /// Number of the request.
    pub request: u64,
    /// Why there is none. 0 makes the original ask again without end: use the constants.
    pub reason: u64,
}

impl NoData {
    /// The block, or the fork, is not there.
    pub const NOT_AVAILABLE: u64 = 1;
    /// The request cannot be proven.
    pub const INVALID_REQUEST: u64 = 2;
}

/// Asks to be told about blocks `start..start + length`, or (as "unwant") no longer to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// First block.
    pub start: u64,
    /// How many.
    pub length: u64,
    /// One of them is enough.
    pub any: bool,
}

/// This side has blocks `start..start + length`, or has them no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeMessage {
    /// It has them no longer.
    pub drop: bool,
    /// First block.
    pub start: u64,
    /// How many.
    pub length: u64,
}

/// Which blocks this side has, from `start` on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BitfieldMessage {
    /// First block: a multiple of 32.
    pub start: u64,
    /// Bit `i mod 32` of word `i div 32` stands for block `start + i`.
    pub words: Vec<u32>,
}

/// How far two generations of a core agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReorgHint {
    /// The generation left.
    pub from: u64,
    /// The generation entered.
    pub to: u64,
    /// Blocks that both share.
    pub ancestors: u64,
}

/// A message of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Name of the extension.
    pub name: String,
    /// The message, to the end.
    pub message: Bytes,
}

impl Encode for OpenMessage {
    fn encode(&self, to: &mut Encoder) {
        to.uint(u64::from(self.seeks));
        self.capability.encode(to);
    }
}

impl Decode for OpenMessage {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            seeks: from.uint()? & 1 != 0,
            capability: Hash::decode(from)?,
        })
    }
}

impl Sync {
    const CAN_UPGRADE: u64 = 1;
    const UPLOADING: u64 = 2;
    const DOWNLOADING: u64 = 4;
    const HAS_MANIFEST: u64 = 8;
    const ALLOW_PUSH: u64 = 16;
}

impl Encode for Sync {
    fn encode(&self, to: &mut Encoder) {
        let flag = |present: bool, bit| if present { bit } else { 0 };
        to.uint(
            flag(self.can_upgrade, Self::CAN_UPGRADE)
                | flag(self.uploading, Self::UPLOADING)
                | flag(self.downloading, Self::DOWNLOADING)
                | flag(self.has_manifest, Self::HAS_MANIFEST)
                | flag(self.allow_push, Self::ALLOW_PUSH),
        );
        to.uint(self.fork).uint(self.length).uint(self.remote_length);
    }
}

impl Decode for Sync {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let flags = from.uint()?;
        let has = |bit| flags & bit != 0;
        Ok(Self {
            fork: from.uint()?,
            length: from.uint()?,
            remote_length: from.uint()?,
            can_upgrade: has(Self::CAN_UPGRADE),
            uploading: has(Self::UPLOADING),
            downloading: has(Self::DOWNLOADING),
            has_manifest: has(Self::HAS_MANIFEST),
            allow_push: has(Self::ALLOW_PUSH),
        })
    }
}

impl Encode for Cancel {
    fn encode(&self, to: &mut Encoder) {
        to.uint(self.request);
    }
}

impl Decode for Cancel {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        from.uint().map(|request| Self { request })
    }
}

impl Encode for NoData {
    fn encode(&self, to: &mut Encoder) {
        to.uint(self.request).uint(u64::from(self.reason != 0));
        if self.reason != 0 {
            to.uint(self.reason);
        }
    }
}

impl Decode for NoData {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            request: from.uint()?,
            reason: if trailing_flags(from)? & 1 != 0 {
                from.uint()?
            } else {
                0
            },
        })
    }
}

impl Encode for Want {
    fn encode(&self, to: &mut Encoder) {
        to.uint(self.start).uint(self.length);
        if self.any {
            to.uint(1);
        }
    }
}

impl Decode for Want {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            start: from.uint()?,
            length: from.uint()?,
            any: trailing_flags(from)? & 1 != 0,
        })
    }
}

impl RangeMessage {
    const DROP: u64 = 1;
    const SINGLE: u64 = 2;
}

impl Encode for RangeMessage {
    fn encode(&self, to: &mut Encoder) {
        let drop = if self.drop { Self::DROP } else { 0 };
        if self.length == 1 {
            to.uint(drop | Self::SINGLE).uint(self.start);
        } else {
            to.uint(drop).uint(self.start).uint(self.length);
        }
    }
}

impl Decode for RangeMessage {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let flags = from.uint()?;
        Ok(Self {
            drop: flags & Self::DROP != 0,
            start: from.uint()?,
            length: if flags & Self::SINGLE == 0 {
                from.uint()?
            } else {
                1
            },
        })
    }
}

impl Encode for BitfieldMessage {
    fn encode(&self, to: &mut Encoder) {
        to.uint(self.start).words(&self.words);
    }
}

impl Decode for BitfieldMessage {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            start: from.uint()?,
            words: from.words()?,
        })
    }
}

impl Encode for ReorgHint {
    fn encode(&self, to: &mut Encoder) {
        to.uint(self.from).uint(self.to).uint(self.ancestors);
    }
}

impl Decode for ReorgHint {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            from: from.uint()?,
            to: from.uint()?,
            ancestors: from.uint()?,
        })
    }
}

impl Encode for Extension {
    fn encode(&self, to: &mut Encoder) {
        to.string(&self.name).raw(&self.message);
    }
}

impl Decode for Extension {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: from.string()?.into_owned(),
            message: Bytes::copy_from_slice(from.rest()),
        })
    }
}

/// Flags that older senders leave out.
fn trailing_flags(from: &mut Decoder<'_>) -> Result<u64, DecodeError> {
    if from.remaining() == 0 { Ok(0) } else { from.uint() }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn survives<T: Encode + Decode + PartialEq + std::fmt::Debug>(value: &T) {
        assert_eq!(T::from_bytes(&value.to_bytes().unwrap()).as_ref(), Ok(value));
    }

    proptest! {
        #[test]
        fn every_message_survives(
            (a, b, c) in (0..1000u64, 0..1000u64, 0..4u64),
            flags: [bool; 5],
            capability: [u8; 32],
            words in vec(any::<u32>(), 0..9),
            name in "\\PC{0,9}",
            message in vec(any::<u8>(), 0..9),
        ) {
            survives(&OpenMessage { seeks: flags[0], capability: Hash::new(capability) });
            survives(&Sync {
                fork: a,
                length: b,
                remote_length: c,
                can_upgrade: flags[0],
                uploading: flags[1],
                downloading: flags[2],
                has_manifest: flags[3],
                allow_push: flags[4],
            });
            survives(&Cancel { request: a });
            survives(&NoData { request: a, reason: c });
            survives(&Want { start: a, length: b, any: flags[0] });
            survives(&RangeMessage { drop: flags[0], start: a, length: c });
            survives(&BitfieldMessage { start: a, words });
            survives(&ReorgHint { from: a, to: b, ancestors: c });
            survives(&Extension { name, message: message.into() });
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..64)) {
            let _ = OpenMessage::from_bytes(&bytes);
            let _ = Sync::from_bytes(&bytes);
            let _ = Cancel::from_bytes(&bytes);
            let _ = NoData::from_bytes(&bytes);
            let _ = Want::from_bytes(&bytes);
            let _ = RangeMessage::from_bytes(&bytes);
            let _ = BitfieldMessage::from_bytes(&bytes);
            let _ = ReorgHint::from_bytes(&bytes);
            let _ = Extension::from_bytes(&bytes);
        }
    }
}
