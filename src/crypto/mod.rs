//! Primitives: keys, hashes, namespaces, signatures. Pure functions; imports nothing of ours.
//!
//! Source: `hypercore-crypto` 3.7 and libsodium.

mod key;
mod sign;

pub use key::{CoreKey, DiscoveryKey, Hash, KeyParseError, PublicKey, SecretKey, Seed, Signature};
pub use sign::{Ed25519, KeyPair, Sign, Verify};
