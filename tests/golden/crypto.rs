//! `crypto.json`: hashes, namespaces, keys and signatures.

use autobee::crypto::{
    self, CoreKey, Ed25519, HashKey, KeyPair, PublicKey, SecretKey, Seed, Sign as _, Signature, TreeNode,
    Verify as _, namespace,
};
use autobee::hypercore::manifest::Signable;
use autobee::replication::{Role, capability};
use serde_json::Value;

use super::{block, fixed, hex, list, text, to_hex, uint};

pub(crate) fn check(case: &Value) -> Result<(), String> {
    let out = &case["out"];
    match text(&case["fn"]) {
        "constant" => {
            let constant = match text(&case["name"]) {
                "TREE" => namespace::TREE,
                "REPLICATE_INITIATOR" => namespace::REPLICATE_INITIATOR,
                "REPLICATE_RESPONDER" => namespace::REPLICATE_RESPONDER,
                "MANIFEST" => namespace::MANIFEST,
                "DEFAULT_NAMESPACE" => namespace::DEFAULT_NAMESPACE,
                "DEFAULT_ENCRYPTION" => namespace::DEFAULT_ENCRYPTION,
                "CORESTORE" => namespace::CORESTORE,
                name => return Err(format!("constant {name}")),
            };
            assert_eq!(constant.to_hex(), *out, "{case}");
        }
        "hash" => {
            let parts = parts(case);
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            assert_eq!(crypto::hash(&parts).to_hex(), *out, "{case}");
        }
        "hash_keyed" => {
            let parts = parts(case);
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let key = HashKey::try_from(&*hex(&case["key"])).unwrap();
            assert_eq!(crypto::keyed_hash(&key, &parts).to_hex(), *out, "{case}");
        }
        "data" => assert_eq!(
            crypto::leaf(&block(&case["data"])).to_hex(),
            *out,
            "{}",
            case["out"]
        ),
        "parent" => {
            assert_eq!(
                crypto::parent(&node(&case["a"]), &node(&case["b"])).to_hex(),
                *out,
                "{case}"
            );
        }
        "tree" => {
            let roots: Vec<_> = list(&case["roots"]).iter().map(node).collect();
            assert_eq!(crypto::tree(&roots).to_hex(), *out, "{case}");
        }
        "namespace" => {
            let name = hex(&case["nameHex"]);
            for (id, out) in list(&case["ids"]).iter().zip(list(out)) {
                let id = u8::try_from(uint(id)).unwrap();
                assert_eq!(namespace(&name, id).to_hex(), *out, "{case}");
            }
        }
        "discoveryKey" => {
            let name = CoreKey::try_from(&*hex(&case["key"])).map(|key| crypto::discovery_key(&key).to_hex());
            if case.get("error").is_some() {
                assert!(name.is_err(), "{case}");
            } else {
                assert_eq!(name.unwrap(), *out, "{case}");
            }
        }
        "keyPair" => {
            let pair = Ed25519.key_pair(&Seed::new(fixed(&case["seed"])));
            assert_eq!(pair.public.to_hex(), case["publicKey"], "{case}");
            assert_eq!(to_hex(pair.secret.as_bytes()), case["secretKey"], "{case}");
        }
        "encryptionKeyPair" => {
            let (public, secret) = Ed25519::encryption_key_pair(&Seed::new(fixed(&case["seed"])));
            assert_eq!(to_hex(&public), case["publicKey"], "{case}");
            assert_eq!(to_hex(&secret), case["secretKey"], "{case}");
        }
        "validateKeyPair" => {
            let pair = KeyPair {
                public: PublicKey::new(fixed(&case["publicKey"])),
                secret: SecretKey::from_bytes(fixed(&case["secretKey"])),
            };
            assert_eq!(pair.is_matched(), *out, "{case}");
        }
        "sign" => {
            let secret = SecretKey::from_bytes(fixed(&case["secretKey"]));
            let signature = Ed25519.sign(&secret, &hex(&case["message"]));
            assert_eq!(signature.to_hex(), case["signature"], "{case}");
        }
        "verify" => {
            let key = PublicKey::try_from(&*hex(&case["publicKey"]));
            let signature = Signature::try_from(&*hex(&case["signature"]));
            let verified = key
                .ok()
                .zip(signature.ok())
                .is_some_and(|(key, signature)| Ed25519.verify(&key, &hex(&case["message"]), &signature));
            assert_eq!(verified, *out, "{case}");
        }
        "replicationCapability" => {
            let role = match case["isInitiator"].as_bool().unwrap() {
                true => Role::Initiator,
                false => Role::Responder,
            };
            let key = CoreKey::new(fixed(&case["key"]));
            let shown = capability::replication(&fixed(&case["handshakeHash"]), role, &key);
            assert_eq!(shown.to_hex(), *out, "{case}");
        }
        "treeSignable" | "treeSignableCompat" => {
            let name = case.get("manifestHash").map(fixed);
            let form = match (&name, case["legacy"].as_bool()) {
                (Some(name), _) => Signable::Named(name),
                (None, Some(true)) => Signable::Legacy,
                (None, _) => Signable::Compat,
            };
            let tree_hash = crypto::Hash::new(fixed(&case["treeHash"]));
            let message = form.message(&tree_hash, uint(&case["length"]), uint(&case["fork"]));
            assert_eq!(to_hex(&message), *out, "{case}");
        }
        name => return Err(format!("fn {name}")),
    }
    Ok(())
}

/// A tree node of a vector.
pub(crate) fn node(value: &Value) -> TreeNode {
    TreeNode {
        index: uint(&value["index"]),
        size: uint(&value["size"]),
        hash: crypto::Hash::new(fixed(&value["hash"])),
    }
}

fn parts(case: &Value) -> Vec<Vec<u8>> {
    list(&case["inputs"]).iter().map(block).collect()
}
