//! Where an engine can go on without the history before.

use std::collections::BTreeMap;

use super::attestations::StoredAttestations;
use super::linearizer::{Prefix, map, pairs};
use crate::crypto::CoreKey;
use crate::wire::{Decode, DecodeError, DecodeErrorKind, Decoder, Encode, Encoder, Length, Link};

/// A place in the order from which an engine can go on: the head of the system tree there, and what must be known of
/// the order up to there. Small: it grows with what is concurrent there, not with the history.
///
/// A format of our own, which only the peer that wrote it reads: a version, then the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The head of the system tree; the head of the view is in its info record.
    pub head: Link,
    /// What was forgotten.
    pub prefix: Prefix,
    /// How far writers were known when this was written, as far as that is more than what was forgotten. Of the newest
    /// checkpoint alone: the others are gone back to from there.
    pub considered: BTreeMap<CoreKey, Length>,
    /// What the local writer owes, and what it heard, from before. Of the newest checkpoint alone.
    pub(super) attestations: Option<StoredAttestations>,
}

impl Checkpoint {
    const VERSION: u64 = 2;

    /// Takes over what is kept with the newest checkpoint only, when that cannot be gone on from.
    pub fn replace(&mut self, newer: &Self) {
        self.attestations.clone_from(&newer.attestations);
    }
}

impl Encode for Checkpoint {
    fn encode(&self, to: &mut Encoder) {
        to.uint(Self::VERSION);
        self.head.encode(to);
        self.prefix.encode(to);
        pairs(to, &self.considered);
        to.bool(self.attestations.is_some());
        if let Some(kept) = &self.attestations {
            kept.encode(to);
        }
    }
}

impl Decode for Checkpoint {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let start = from.clone();
        let version = from.uint()?;
        if version != Self::VERSION {
            return Err(start.error(DecodeErrorKind::Unknown {
                what: "version of a checkpoint",
                value: version,
            }));
        }
        Ok(Self {
            head: Link::decode(from)?,
            prefix: Prefix::decode(from)?,
            considered: map(from)?,
            attestations: from
                .bool()?
                .then(|| StoredAttestations::decode(from))
                .transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Some(version) = bytes.first_mut() {
                *version = 2;
            }
            if let Ok(checkpoint) = Checkpoint::from_bytes(&bytes) {
                let again = checkpoint.to_bytes().unwrap();
                prop_assert_eq!(Checkpoint::from_bytes(&again), Ok(checkpoint));
            }
        }
    }

    #[test]
    fn another_version_is_refused() {
        assert!(Checkpoint::from_bytes(&[1]).is_err());
    }
}
