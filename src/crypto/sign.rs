//! Signatures behind two traits, so that a simulation can replace curve arithmetic by something cheaper.

use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use ed25519_dalek::{SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

use super::{PublicKey, SecretKey, Seed, Signature};

/// A public key with the secret that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The public half.
    pub public: PublicKey,
    /// The secret half.
    pub secret: SecretKey,
}

impl KeyPair {
    /// True when the secret key carries this public key. As in `hypercore-crypto`, nothing is recomputed: a foreign
    /// seed under the right public key is not noticed.
    #[must_use]
    pub fn is_matched(&self) -> bool {
        self.secret.public() == self.public
    }
}

/// Checks signatures. What a kernel needs that never signs.
pub trait Verify {
    /// True when `signature` over `message` is by the holder of `key`.
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool;
}

/// Makes key pairs and signatures.
pub trait Sign: Verify {
    /// The key pair of a seed. The same seed gives the same pair.
    fn key_pair(&self, seed: &Seed) -> KeyPair;

    /// Signs `message`. The same input gives the same signature.
    fn sign(&self, secret: &SecretKey, message: &[u8]) -> Signature;
}

/// Ed25519 as libsodium does it, with strict verification: keys and points of small order are refused, so that
/// acceptance does not depend on who checked, or on how many signatures were checked together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ed25519;

impl Verify for Ed25519 {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature.as_bytes());
        VerifyingKey::from_bytes(key.as_bytes())
            .is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
    }
}

impl Ed25519 {
    /// The X25519 key pair of a seed, as libsodium makes it for sealed boxes: public key, then secret key.
    #[must_use]
    pub fn encryption_key_pair(seed: &Seed) -> ([u8; 32], [u8; 32]) {
        // Both kinds of key pair start from the same half of SHA-512(seed), and the two curves are one in two forms.
        let key = SigningKey::from_bytes(seed.as_bytes());
        (
            key.verifying_key().to_montgomery().to_bytes(),
            key.to_scalar_bytes(),
        )
    }
}

impl Sign for Ed25519 {
    fn key_pair(&self, seed: &Seed) -> KeyPair {
        let public = PublicKey::new(SigningKey::from_bytes(seed.as_bytes()).verifying_key().to_bytes());
        KeyPair {
            public,
            secret: SecretKey::new(seed, &public),
        }
    }

    /// The public key that is hashed into the signature is that of `secret`, as in libsodium; computing it again, as the
    /// types of `ed25519-dalek` do, takes as long as the signature itself.
    fn sign(&self, secret: &SecretKey, message: &[u8]) -> Signature {
        let half = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(secret.seed().as_bytes())));
        let (low, prefix) = half.split_at(32);
        let mut scalar = [0; 32];
        scalar.copy_from_slice(low);
        let scalar = Zeroizing::new(Scalar::from_bytes_mod_order(clamp_integer(scalar)));
        let public = secret.public();
        let nonce = Zeroizing::new(scalar_of(&[prefix, message]));
        let point = EdwardsPoint::mul_base(&nonce).compress();
        let challenge = scalar_of(&[point.as_bytes(), public.as_bytes(), message]);
        let proof = challenge * *scalar + *nonce;
        let mut signature = [0; Signature::SIZE];
        signature[..32].copy_from_slice(point.as_bytes());
        signature[32..].copy_from_slice(proof.as_bytes());
        Signature::new(signature)
    }
}

/// The number that stands for the hash of some bytes.
fn scalar_of(parts: &[&[u8]]) -> Scalar {
    let hash = parts
        .iter()
        .fold(Sha512::new(), |hash, part| hash.chain_update(part));
    Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::Signer as _;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn signatures_are_those_of_the_standard(seed: [u8; 32], message: Vec<u8>) {
            let pair = Ed25519.key_pair(&Seed::new(seed));
            let signature = Ed25519.sign(&pair.secret, &message);
            let expected = SigningKey::from_bytes(&seed).sign(&message).to_bytes();
            prop_assert_eq!(signature.as_bytes(), &expected);
            prop_assert!(Ed25519.verify(&pair.public, &message, &signature));
        }
    }
}
