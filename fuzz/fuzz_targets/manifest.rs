//! Whatever bytes claim to be a manifest or a signature: reading them ends, and what is read is written again as the
//! same manifest with the same key.
//!
//! ```text
//! cargo +stable fuzz run -s none manifest
//! ```
//!
//! The first byte says how many of the bytes behind it are the manifest; what follows is the signature. Seeds: the
//! `encoded` fields of `tests/vectors/manifest.json`, with their length in front.
#![no_main]

use autobee::crypto::{CoreKey, Ed25519, Hash, TreeNode};
use autobee::hypercore::manifest::{Manifest, TreeHead};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((split, rest)) = bytes.split_first() else {
        return;
    };
    let (encoded, signature) = rest.split_at(usize::from(*split).min(rest.len()));
    let Ok(manifest) = Manifest::decode(encoded) else {
        return;
    };
    let again = Manifest::decode(manifest.as_bytes()).expect("a manifest reads its own bytes");
    assert_eq!(again, manifest);
    assert_eq!(again.key(), manifest.key());

    let root = TreeNode {
        index: 0,
        size: 1,
        hash: Hash::new([1; 32]),
    };
    let head = TreeHead {
        roots: &[root],
        length: 1,
        fork: 0,
    };
    for key in [manifest.key(), CoreKey::new([0; 32])] {
        let _ = manifest.verify(&Ed25519, &key, &head, Some(signature));
    }
});
