//! `corestore_keys.json`: namespaces, key pairs of names, and what a store opens.

use autobee::crypto::{self, Ed25519, KeyPair};
use autobee::hypercore::keys::{Namespace, PrimaryKey};
use autobee::hypercore::manifest::{Manifest, ManifestOptions, Signer};
use serde_json::Value;

use super::{fixed, hex, text, to_hex};

pub(crate) fn check(case: &Value) -> Result<(), String> {
    match text(&case["kind"]) {
        "namespace" => {
            assert_eq!(to_hex(namespace(case).as_bytes()), case["namespace"], "{case}");
        }
        "name" => {
            assert_eq!(to_hex(namespace(case).as_bytes()), case["namespace"], "{case}");
            let pair = key_pair(case);
            let keys = &case["keys"];
            assert_pair(&pair, case);
            assert_eq!(pair.public.to_hex(), keys["compat"], "{case}");
            for (version, field) in ["v0", "v1", "v2"].into_iter().enumerate() {
                assert_eq!(
                    single(&pair, version as u64).key().to_hex(),
                    keys[field],
                    "{case}"
                );
            }
            let key = single(&pair, 1).key();
            assert_eq!(
                crypto::discovery_key(&key).to_hex(),
                case["discoveryKey"],
                "{case}"
            );
            assert_eq!(key.to_id(), case["id"], "{case}");
        }
        "keyPairInNamespace" => assert_pair(&key_pair(case), case),
        kind => return Err(format!("kind {kind}")),
    }
    Ok(())
}

fn namespace(case: &Value) -> Namespace {
    match case["path"].as_array() {
        None => Namespace::new(fixed(&case["namespace"])),
        Some(path) => path
            .iter()
            .fold(Namespace::ROOT, |space, part| space.child(part_bytes(part))),
    }
}

/// A name: text, or bytes as `{hex}`.
pub(crate) fn part_bytes(part: &Value) -> Vec<u8> {
    match part.get("hex") {
        Some(bytes) => hex(bytes),
        None => text(part).as_bytes().to_vec(),
    }
}

fn key_pair(case: &Value) -> KeyPair {
    let primary = PrimaryKey::new(fixed(&case["primaryKey"]));
    primary.key_pair(&Ed25519, &namespace(case), part_bytes(&case["name"]))
}

fn assert_pair(pair: &KeyPair, case: &Value) {
    assert_eq!(pair.public.to_hex(), case["publicKey"], "{case}");
    assert_eq!(to_hex(pair.secret.as_bytes()), case["secretKey"], "{case}");
}

fn single(pair: &KeyPair, version: u64) -> Manifest {
    Manifest::new(ManifestOptions {
        version: Some(version),
        signers: vec![Signer::new(pair.public)],
        ..ManifestOptions::default()
    })
    .unwrap()
}
