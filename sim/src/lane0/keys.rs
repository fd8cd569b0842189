//! The key pairs of peers that are stepped by hand, made once, and signatures by them that cost a hash each.

use std::sync::OnceLock;

use autobee::crypto::{CoreKey, Ed25519, KeyPair, Seed, Sign as _};
use autobee::hypercore::manifest::Manifest;

use crate::crypto::SimCrypto;

/// Peers of a group, at most.
pub const PEERS_MAX: u8 = 8;

/// Who reads, and writes nothing.
const READER: u8 = 255;

struct KnownKeys {
    writers: Vec<(KeyPair, Manifest)>,
    reader: KeyPair,
}

fn known_keys() -> &'static KnownKeys {
    static KEYS: OnceLock<KnownKeys> = OnceLock::new();
    let pair = |peer| Ed25519.key_pair(&Seed::new([peer; 32]));
    KEYS.get_or_init(|| KnownKeys {
        writers: (1..=PEERS_MAX)
            .map(pair)
            .map(|pair| (pair.clone(), Manifest::single(pair.public)))
            .collect(),
        reader: pair(READER),
    })
}

/// The key pairs of so many peers.
///
/// # Panics
///
/// When there are more than eight.
#[must_use]
pub fn writer_keys(peers: usize) -> Vec<KeyPair> {
    let writers = &known_keys().writers[..peers];
    writers.iter().map(|(pair, _)| pair.clone()).collect()
}

/// The key pair of somebody who reads.
#[must_use]
pub fn reader_keys() -> KeyPair {
    known_keys().reader.clone()
}

/// Signatures by all of them, which cost a hash each.
#[must_use]
pub fn signatures() -> SimCrypto {
    let known = known_keys();
    let writers = known.writers.iter().map(|(pair, _)| pair);
    SimCrypto::stand_in_for(writers.chain([&known.reader]))
}

/// The manifest of the log of a peer; none when it is the log of nobody here.
pub(super) fn manifest(core: &CoreKey) -> Option<&'static Manifest> {
    let mut manifests = known_keys().writers.iter().map(|(_, manifest)| manifest);
    manifests.find(|manifest| manifest.key() == *core)
}
