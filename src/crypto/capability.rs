//! Proof, bound to one encrypted session, that a peer knows a core's key (spec/hypercore.md 2.3).

use super::{CoreKey, Hash, HashKey, keyed_hash, namespace};

/// What the peer that dialled (`initiator`), or the one that was dialled, shows for a core. `handshake_hash` is the
/// hash of the Noise handshake, which is different in every session.
#[must_use]
pub fn replication_capability(initiator: bool, key: &CoreKey, handshake_hash: &[u8; 64]) -> Hash {
    let role = if initiator {
        namespace::REPLICATE_INITIATOR
    } else {
        namespace::REPLICATE_RESPONDER
    };
    keyed_hash(&HashKey::from(handshake_hash), &[role.as_bytes(), key.as_bytes()])
}
