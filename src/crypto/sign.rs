//! Signatures behind two traits, so that a simulation can replace curve arithmetic by something cheaper.

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};

use super::{PublicKey, SecretKey, Seed, Signature};

/// A public key with the secret that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The public half.
    pub public: PublicKey,
    /// The secret half.
    pub secret: SecretKey,
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

impl Sign for Ed25519 {
    fn key_pair(&self, seed: &Seed) -> KeyPair {
        let public = PublicKey::new(SigningKey::from_bytes(seed.as_bytes()).verifying_key().to_bytes());
        KeyPair {
            public,
            secret: SecretKey::new(seed, &public),
        }
    }

    fn sign(&self, secret: &SecretKey, message: &[u8]) -> Signature {
        Signature::new(
            SigningKey::from_bytes(secret.seed().as_bytes())
                .sign(message)
                .to_bytes(),
        )
    }
}
