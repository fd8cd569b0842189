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

    fn sign(&self, secret: &SecretKey, message: &[u8]) -> Signature {
        Signature::new(
            SigningKey::from_bytes(secret.seed().as_bytes())
                .sign(message)
                .to_bytes(),
        )
    }
}
