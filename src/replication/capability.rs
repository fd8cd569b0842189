//! What is derived from a handshake hash: stream ids, and the proofs that a side knows a key.
//!
//! A capability binds three things: the stream, which side of it speaks, and a key that is never sent. So it can
//! neither be replayed on another stream nor echoed on the same one.
//!
//! Source: spec/replication.md 3.2, 5.1 and 10. The two constructions differ: replication keys the hash, wakeup does
//! not.

use subtle::ConstantTimeEq as _;

use super::Role;
use super::noise::HASH_SIZE;
use crate::crypto::{CoreKey, Hash, HashKey, hash, keyed_hash, namespace};

/// The 64 bytes of a handshake hash: what names one encrypted stream.
pub type HandshakeHash = [u8; HASH_SIZE];

/// The first half of the header message that `sender` sends.
#[must_use]
pub fn stream_id(stream: &HandshakeHash, sender: Role) -> Hash {
    let purpose = namespace(b"hyperswarm/secret-stream", number(sender));
    keyed_hash(&HashKey::from(stream), &[purpose.as_bytes()])
}

/// The proof, in the open of a replication channel, that `sender` knows the key of the core.
#[must_use]
pub fn replication(stream: &HandshakeHash, sender: Role, key: &CoreKey) -> Hash {
    let purpose = match sender {
        Role::Initiator => namespace::REPLICATE_INITIATOR,
        Role::Responder => namespace::REPLICATE_RESPONDER,
    };
    keyed_hash(&HashKey::from(stream), &[purpose.as_bytes(), key.as_bytes()])
}

/// The proof, in the open of a wakeup channel, that `sender` knows the key of the topic.
#[must_use]
pub fn wakeup(stream: &HandshakeHash, sender: Role, topic: &CoreKey) -> Hash {
    let purpose = namespace(b"wakeup", number(sender));
    hash(&[purpose.as_bytes(), topic.as_bytes(), stream])
}

/// Compares two hashes in a time that does not depend on where they differ.
#[must_use]
pub fn same(a: &Hash, b: &Hash) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

const fn number(sender: Role) -> u8 {
    match sender {
        Role::Initiator => 0,
        Role::Responder => 1,
    }
}
