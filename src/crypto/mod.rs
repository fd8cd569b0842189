//! Primitives: keys, hashes, namespaces, signatures. Pure functions; imports nothing of ours.
//!
//! Source: `hypercore-crypto` 3.7 and libsodium.

mod hash;
pub mod id;
mod key;
pub mod namespace;
mod sign;
mod stream;

pub use hash::{
    HashKey, TreeNode, discovery_key, hash, hash_128, keyed_hash, keyed_hash_128, leaf, leaves, parent, tree,
};
pub use key::{CoreKey, DiscoveryKey, Hash, KeyParseError, PublicKey, SecretKey, Seed, Signature};
pub use namespace::namespace;
pub use sign::{Ed25519, KeyPair, Sign, Verify};
pub use stream::xsalsa20_xor;
