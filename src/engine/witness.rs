//! Weights of writers, and the attestations that raise them (spec/autobee.md 10; package `autobee`).
//!
//! ```text
//! record     a flush raises a writer's ceiling
//! attest     the granting writer signs it, with its next own batch
//! attach     the grantee puts the signature on its first batch after that
//! verify     from these bytes alone
//! resolve    against the records that stand before the batch
//! ```
//!
//! Deliberately not consulted: whether the granting writer is still a member, and how heavy it is. A removal ends what a
//! writer may do, not what it testified.

use crate::crypto::{CoreKey, SecretKey, Sign, Signature, Verify, namespace};
use crate::hypercore::manifest::Manifest;
use crate::wire::oplog::Witness;
use crate::wire::system::WriterRecord;
use crate::wire::{Encode as _, EncodeError, Encoder, Length, Weight};

/// The message that `backer` signs: that it granted `weight` to `grantee`, in the block that ends its log at `length`.
///
/// # Errors
///
/// When a number does not fit the encoding.
pub fn attestation_message(
    backer: &CoreKey,
    grantee: &CoreKey,
    length: Length,
    weight: Weight,
) -> Result<Vec<u8>, EncodeError> {
    let mut message = Encoder::new();
    namespace::WITNESS.encode(&mut message);
    backer.encode(&mut message);
    grantee.encode(&mut message);
    length.encode(&mut message);
    weight.encode(&mut message);
    message.finish()
}

/// Signs that `backer` granted `weight` to `grantee`, in the block that ends its log at `length`.
///
/// # Errors
///
/// When a number does not fit the encoding.
pub fn attest(
    crypto: &impl Sign,
    secret: &SecretKey,
    backer: &CoreKey,
    grantee: &CoreKey,
    length: Length,
    weight: Weight,
) -> Result<Signature, EncodeError> {
    let message = attestation_message(backer, grantee, length, weight)?;
    Ok(crypto.sign(secret, &message))
}

/// True when the witness proves, by itself, that its backer granted this weight to `writer`.
///
/// The backer's core must have one signer and be named by the hash of its manifest: only then do the bytes say whose
/// signature to expect.
#[must_use]
pub fn verify(crypto: &impl Verify, writer: &CoreKey, witness: &Witness) -> bool {
    let backer = &witness.backer;
    if witness.weight == Weight::ZERO || backer.key == *writer {
        return false;
    }
    let Ok(manifest) = Manifest::decode(&backer.manifest) else {
        return false;
    };
    let [signer] = manifest.signers() else {
        return false;
    };
    manifest.key() == backer.key
        && attestation_message(&backer.key, writer, backer.length, witness.weight)
            .is_ok_and(|message| crypto.verify(&signer.public_key, &message, &backer.signature))
}

/// The weight that a record gives without any witness.
#[must_use]
pub fn standing(record: Option<&WriterRecord>) -> Weight {
    let Some(record) = record else {
        return Weight::ZERO;
    };
    record
        .max_weight
        .filter(|ceiling| record.is_genesis && *ceiling > Weight::ZERO)
        .unwrap_or(record.weight)
}

/// The weight of a batch of `writer`, whose first block carries `witness`, where `record` are the records that stand
/// before it. A claim that does not hold is ignored.
#[must_use]
pub fn resolve(
    crypto: &impl Verify,
    writer: &CoreKey,
    witness: Option<&Witness>,
    record: impl Fn(&CoreKey) -> Option<WriterRecord>,
) -> Weight {
    resolve_with(writer, witness, record, |witness| verify(crypto, writer, witness))
}

/// As [`resolve`], for callers that remember which witnesses [`verify`]. `verified` is asked last, and at most once.
#[must_use]
pub fn resolve_with(
    writer: &CoreKey,
    witness: Option<&Witness>,
    record: impl Fn(&CoreKey) -> Option<WriterRecord>,
    verified: impl FnOnce(&Witness) -> bool,
) -> Weight {
    let own = record(writer);
    let previous = standing(own.as_ref());
    let Some((witness, own)) = witness.zip(own) else {
        return previous;
    };
    let allowed = own.max_weight.is_none_or(|ceiling| witness.weight <= ceiling);
    let applied =
        |backer: &CoreKey| record(backer).is_some_and(|record| record.length >= witness.backer.length);
    let raises = witness.weight > previous
        && allowed
        && witness.backer.key != *writer
        && applied(&witness.backer.key)
        && verified(witness);
    if raises { witness.weight } else { previous }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::{Ed25519, Seed};
    use crate::wire::oplog::Backer;

    fn attestation(writer: &CoreKey, length: Length, weight: Weight) -> Witness {
        let pair = Ed25519.key_pair(&Seed::new([1; 32]));
        let manifest = Manifest::single(pair.public);
        let key = manifest.key();
        Witness {
            weight,
            backer: Backer {
                key,
                length,
                signature: attest(&Ed25519, &pair.secret, &key, writer, length, weight).unwrap(),
                manifest: manifest.as_bytes().to_vec().into(),
            },
        }
    }

    proptest! {
        // Signatures are slow: a few cases say as much as many.
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn an_attestation_holds_for_what_it_says_only(writer: [u8; 32], length in 0..1000u64, weight in 1..9u64) {
            let writer = CoreKey::new(writer);
            let witness = attestation(&writer, Length(length), Weight(weight));
            prop_assert!(verify(&Ed25519, &writer, &witness));
            let mut other = witness.clone();
            other.weight = Weight(weight + 1);
            prop_assert!(!verify(&Ed25519, &writer, &other));
            let mut other = witness.clone();
            other.backer.length = Length(length + 1);
            prop_assert!(!verify(&Ed25519, &writer, &other));
            prop_assert!(!verify(&Ed25519, &CoreKey::new([0xee; 32]), &witness));
        }

        #[test]
        fn a_weight_never_falls_and_never_passes_the_ceiling(
            (weight, ceiling, claim, applied) in (0..4u64, 0..4u64, 0..4u64, 0..4u64),
        ) {
            let writer = CoreKey::new([7; 32]);
            let witness = attestation(&writer, Length(2), Weight(claim));
            let own = WriterRecord {
                weight: Weight(weight),
                max_weight: Some(Weight(ceiling)),
                ..WriterRecord::default()
            };
            let backer = WriterRecord { length: Length(applied), ..WriterRecord::default() };
            let resolved = resolve(&Ed25519, &writer, Some(&witness), |key| {
                [(writer, own), (witness.backer.key, backer)]
                    .into_iter()
                    .find_map(|(known, record)| (known == *key).then_some(record))
            });
            let raised = claim > weight && claim <= ceiling && applied >= 2;
            prop_assert_eq!(resolved, Weight(if raised { claim } else { weight }));
        }
    }
}
