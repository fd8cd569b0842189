//! Signatures of a simulated world: Ed25519, or a keyed hash that costs a fiftieth.
//!
//! The stand-in is sound against everybody inside the simulation: its verifier looks the secret up in a registry of
//! the world, to which nobody but `key_pair` and `sign` of the same world has access. Outside of a simulation it would
//! be worthless, which is why only the simulator can make one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use autobee::crypto::{Ed25519, KeyPair, PublicKey, SecretKey, Seed, Sign, Signature, Verify};
use blake2::{Blake2b256, Blake2b512, Digest as _};

/// The signatures of one world.
///
/// Keys that the stand-in did not make (such as those of recorded blocks) are checked with Ed25519 in both kinds.
#[derive(Debug, Clone)]
pub enum SimCrypto {
    /// The real thing.
    Ed25519(Ed25519),
    /// Keyed hashes under secrets that the world knows.
    StandIn(StandIn),
}

/// Keyed-hash signatures. See the module.
#[derive(Clone, Default)]
pub struct StandIn {
    secrets: Arc<Mutex<BTreeMap<PublicKey, Seed>>>,
}

impl SimCrypto {
    /// Real signatures.
    #[must_use]
    pub const fn ed25519() -> Self {
        Self::Ed25519(Ed25519)
    }

    /// Stand-in signatures under the keys of Ed25519 pairs, which are what they are.
    pub(crate) fn stand_in_for<'a>(pairs: impl IntoIterator<Item = &'a KeyPair>) -> Self {
        let secrets = pairs.into_iter().map(|pair| (pair.public, pair.secret.seed()));
        Self::StandIn(StandIn {
            secrets: Arc::new(Mutex::new(secrets.collect())),
        })
    }

    /// Stand-in signatures of a new world, which knows no keys yet.
    pub(crate) fn stand_in() -> Self {
        Self::StandIn(StandIn::default())
    }
}

impl StandIn {
    /// The key is one that was made here.
    fn knows(&self, key: &PublicKey, seed: &Seed) -> bool {
        self.secret(key).is_some_and(|known| known == *seed)
    }

    fn public(seed: &Seed) -> PublicKey {
        let hash = Blake2b256::new()
            .chain_update(b"autobee-sim stand-in key")
            .chain_update(seed.as_bytes());
        PublicKey::new(hash.finalize().into())
    }

    fn mac(seed: &Seed, message: &[u8]) -> Signature {
        let hash = Blake2b512::new()
            .chain_update(b"autobee-sim stand-in signature")
            .chain_update(seed.as_bytes())
            .chain_update(message);
        Signature::new(hash.finalize().into())
    }

    fn secret(&self, key: &PublicKey) -> Option<Seed> {
        self.lock().get(key).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<PublicKey, Seed>> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Verify for SimCrypto {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        match self {
            Self::Ed25519(real) => real.verify(key, message, signature),
            Self::StandIn(stand_in) => match stand_in.secret(key) {
                Some(seed) => StandIn::mac(&seed, message) == *signature,
                None => Ed25519.verify(key, message, signature),
            },
        }
    }
}

impl Sign for SimCrypto {
    fn key_pair(&self, seed: &Seed) -> KeyPair {
        match self {
            Self::Ed25519(real) => real.key_pair(seed),
            Self::StandIn(stand_in) => {
                let public = StandIn::public(seed);
                stand_in.lock().insert(public, seed.clone());
                KeyPair {
                    public,
                    secret: SecretKey::new(seed, &public),
                }
            }
        }
    }

    fn sign(&self, secret: &SecretKey, message: &[u8]) -> Signature {
        match self {
            Self::Ed25519(real) => real.sign(secret, message),
            Self::StandIn(stand_in) => {
                // A secret that was made elsewhere keeps its own kind; one that another world made (a copied disk)
                // becomes known here.
                let seed = secret.seed();
                let is_known = stand_in.knows(&secret.public(), &seed);
                if is_known || self.key_pair(&seed).public == secret.public() {
                    StandIn::mac(&seed, message)
                } else {
                    Ed25519.sign(secret, message)
                }
            }
        }
    }
}

impl fmt::Debug for StandIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StandIn({} keys)", self.lock().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(crypto: &SimCrypto) {
        let pair = crypto.key_pair(&Seed::new([7; 32]));
        assert_eq!(pair, crypto.key_pair(&Seed::new([7; 32])));
        assert_eq!(pair.secret.public(), pair.public);
        let signature = crypto.sign(&pair.secret, b"message");
        assert_eq!(signature, crypto.sign(&pair.secret, b"message"));
        assert!(crypto.verify(&pair.public, b"message", &signature));
        assert!(!crypto.verify(&pair.public, b"massage", &signature));
        let other = crypto.key_pair(&Seed::new([8; 32]));
        assert!(!crypto.verify(&other.public, b"message", &signature));
        let mut forged = *signature.as_bytes();
        forged[0] ^= 1;
        assert!(!crypto.verify(&pair.public, b"message", &Signature::new(forged)));
    }

    #[test]
    fn both_kinds_sign_and_verify() {
        check(&SimCrypto::ed25519());
        check(&SimCrypto::stand_in());
    }

    #[test]
    fn the_public_key_does_not_sign() {
        let crypto = SimCrypto::stand_in();
        let victim = crypto.key_pair(&Seed::new([1; 32])).public;
        let guess = SecretKey::new(&Seed::new(*victim.as_bytes()), &victim);
        assert!(!crypto.verify(&victim, b"forged", &crypto.sign(&guess, b"forged")));
        let mac = StandIn::mac(&Seed::new(*victim.as_bytes()), b"forged");
        assert!(!crypto.verify(&victim, b"forged", &mac));
    }

    #[test]
    fn foreign_keys_are_ed25519() {
        let pair = Ed25519.key_pair(&Seed::new([9; 32]));
        let crypto = SimCrypto::stand_in();
        let signature = Ed25519.sign(&pair.secret, b"recorded");
        assert!(crypto.verify(&pair.public, b"recorded", &signature));
        assert!(!crypto.verify(&pair.public, b"changed", &signature));
        assert_eq!(crypto.sign(&pair.secret, b"recorded"), signature);
    }

    #[test]
    fn real_pairs_have_stand_in_signatures_where_they_are_known() {
        let pair = Ed25519.key_pair(&Seed::new([9; 32]));
        let crypto = SimCrypto::stand_in_for([&pair]);
        let signature = crypto.sign(&pair.secret, b"message");
        assert!(crypto.verify(&pair.public, b"message", &signature));
        assert!(!crypto.verify(&pair.public, b"massage", &signature));
        assert!(!Ed25519.verify(&pair.public, b"message", &signature));
    }

    #[test]
    fn a_copied_secret_works_in_another_world() {
        let pair = SimCrypto::stand_in().key_pair(&Seed::new([2; 32]));
        let elsewhere = SimCrypto::stand_in();
        let signature = elsewhere.sign(&pair.secret, b"m");
        assert!(elsewhere.verify(&pair.public, b"m", &signature));
    }
}
