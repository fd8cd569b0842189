//! `autobee_encryption.json`: keys and blocks of encrypted databases, and anchors.

use autobee::crypto::{CoreKey, PublicKey, namespace};
use autobee::engine::anchor::Anchor;
use autobee::engine::encryption::{DatabaseCipher, DatabaseKeys, HashedCipher};
use autobee::hypercore::encryption::BlockCipher as _;
use autobee::hypercore::manifest::{Manifest, ManifestOptions, Signer};
use autobee::wire::oplog::OplogBlock;
use autobee::wire::{Decode as _, Length};
use serde_json::Value;

use super::{fixed, hex, optional, text, to_hex, uint};

pub(crate) fn check(case: &Value) -> Result<(), String> {
    match text(&case["kind"]) {
        "namespaces" => {
            assert_eq!(namespace::VIEW_BLOCK_KEY.to_hex(), case["viewBlockKey"]);
            assert_eq!(namespace::HASH_KEY.to_hex(), case["hashKey"]);
            assert_eq!(namespace::GENESIS_ENTROPY.to_hex(), case["genesisEntropy"]);
            assert_eq!(namespace(b"autobase", 0).to_hex(), case["signer"]);
            assert_eq!(namespace(b"autobase", 3).to_hex(), case["encryption"]);
            assert_eq!(HashedCipher::PADDING as u64, uint(&case["padding"]));
        }
        "writer" => cipher(case, &writer(case)),
        "view" => {
            let name = text(&case["viewName"]);
            let is_old = uint(&case["manifestVersion"]) <= 1;
            let keys = keys(case);
            cipher(
                case,
                &if is_old {
                    keys.view_compat(name)
                } else {
                    keys.view(name)
                },
            );
        }
        "anchor" => {
            let keys = optional(&case["encryptionKey"]).map(|_| keys(case));
            let node = &case["node"];
            let (key, length) = (CoreKey::new(fixed(&node["key"])), Length(uint(&node["length"])));
            let anchor = Anchor::new(keys.as_ref(), key, length).unwrap();
            assert_eq!(to_hex(&anchor.block), case["block"], "{case}");
            assert_eq!(to_hex(anchor.manifest.as_bytes()), case["manifest"], "{case}");
            assert_eq!(anchor.link().key.to_hex(), case["key"], "{case}");
        }
        "decodeValue" => {
            let mut block = hex(&case["block"]);
            writer(case).decrypt(uint(&case["index"]), &mut block).unwrap();
            let block = OplogBlock::from_bytes(&block[8..]).unwrap();
            assert_eq!(
                block.value.map(|value| to_hex(&value)).as_deref(),
                case["value"].as_str(),
                "{case}"
            );
        }
        "decrypt-error" => {
            let mut block = hex(&case["block"]);
            assert!(
                writer(case).decrypt(uint(&case["index"]), &mut block).is_err(),
                "{case}"
            );
        }
        kind => return Err(format!("kind {kind}")),
    }
    Ok(())
}

fn keys(case: &Value) -> DatabaseKeys {
    DatabaseKeys::new(
        CoreKey::new(fixed(&case["bootstrap"])),
        fixed(&case["encryptionKey"]),
    )
}

/// The cipher of the writer; of its manifest the version and the user data matter.
fn writer(case: &Value) -> DatabaseCipher {
    let manifest = Manifest::new(ManifestOptions {
        version: Some(uint(&case["manifestVersion"])),
        signers: vec![Signer::new(PublicKey::new([1; 32]))],
        user_data: optional(&case["userData"]).map(hex),
        ..ManifestOptions::default()
    });
    keys(case).writer(&CoreKey::new(fixed(&case["coreKey"])), &manifest.unwrap())
}

fn cipher(case: &Value, cipher: &DatabaseCipher) {
    match cipher {
        DatabaseCipher::Hashed(cipher) => {
            assert_eq!(to_hex(cipher.block_key()), case["blockKey"], "{case}");
            assert_eq!(to_hex(cipher.hash_key()), case["hashKey"], "{case}");
        }
        DatabaseCipher::Compat(cipher) => {
            assert_eq!(to_hex(cipher.block_key()), case["compatBlockKey"], "{case}");
            assert_eq!(to_hex(cipher.blinding_key()), case["compatBlindingKey"], "{case}");
        }
        DatabaseCipher::Tree(_) => panic!("no vector is of rules: {case}"),
    }
    let index = uint(&case["index"]);
    let plain = hex(&case["plaintext"]);
    let mut block = [vec![0; cipher.padding(index)], plain.clone()].concat();
    cipher
        .encrypt(index, case["fork"].as_u64().unwrap_or(0), &mut block)
        .unwrap();
    assert_eq!(to_hex(&block), case["block"], "{case}");
    cipher.decrypt(index, &mut block).unwrap();
    assert_eq!(block[cipher.padding(index)..], plain, "{case}");
}
