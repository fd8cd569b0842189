//! `corestore_keys.json`: namespaces, key pairs of names, and what a store opens.

use autobee::crypto::{self, CoreKey, Ed25519, KeyPair, Seed, Sign as _};
use autobee::env::memory::MemoryEnv;
use autobee::hypercore::keys::{Namespace, PrimaryKey};
use autobee::hypercore::manifest::{Manifest, ManifestOptions, Signer};
use autobee::hypercore::{Core, CoreError, CoreOptions, Corestore, Wait};
use autobee::wire::{Index, Length};
use serde_json::Value;

use super::merkle::memory_store;
use super::{block, fixed, hex, list, text, to_hex, uint};

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
        "get" => in_memory(case, get),
        "sticky" => in_memory(case, sticky),
        "staticify" => in_memory(case, staticify),
        kind => return Err(format!("kind {kind}")),
    }
    Ok(())
}

fn in_memory<'a, F: Future<Output = ()>>(case: &'a Value, check: impl FnOnce(&'a Value, MemoryEnv) -> F) {
    let env = MemoryEnv::new(1);
    assert!(
        env.run(check(case, env.clone())).is_some(),
        "a check never ends: {case}"
    );
}

async fn get(case: &Value, env: MemoryEnv) {
    let store = open_store(case, &env).await;
    let given = &case["opts"];
    let mut options = CoreOptions::name("");
    options.name = (!given["name"].is_null()).then(|| part_bytes(&given["name"]).into());
    options.manifest_version = case["manifestVersion"].as_u64().unwrap_or(1);
    options.key = given["key"].as_str().map(|text| {
        let bytes = if text.len() == 64 {
            fixed(&given["key"])
        } else {
            crypto::id::decode(text).unwrap()
        };
        CoreKey::new(bytes)
    });
    options.key_pair =
        (!given["keyPairSeed"].is_null()).then(|| Ed25519.key_pair(&Seed::new(fixed(&given["keyPairSeed"]))));
    options.manifest =
        (!given["manifest"].is_null()).then(|| Manifest::decode(&hex(&given["manifest"])).unwrap());
    let out = &case["out"];
    let opened = store.get(options).await;
    // The reference makes cores that nobody can verify: their manifest does not hash to their key. We refuse.
    if let Some(manifest) = out["manifest"].as_str().filter(|_| out["compat"] == false) {
        let manifest = Manifest::decode(&hex(&manifest.into())).unwrap();
        if manifest.key().to_hex() != out["key"] {
            assert!(matches!(opened, Err(CoreError::KeyMismatch { .. })), "{case}");
            return;
        }
    }
    assert_core(&opened.unwrap(), out);
}

async fn sticky(case: &Value, env: MemoryEnv) {
    let store = open_store(case, &env).await;
    for step in [&case["first"], &case["second"]] {
        let mut options = CoreOptions::name(part_bytes(&case["name"]));
        options.manifest_version = step["manifestVersion"].as_u64().unwrap_or(1);
        assert_core(&store.get(options).await.unwrap(), &step["out"]);
    }
}

async fn staticify(case: &Value, env: MemoryEnv) {
    let store = open_store(case, &env).await;
    let source = store
        .get(CoreOptions::name(part_bytes(&case["name"])))
        .await
        .unwrap();
    assert_eq!(source.key().to_hex(), case["source"], "{case}");
    let blocks = list(&case["blocks"])
        .iter()
        .map(|value| block(value).into())
        .collect();
    source.append(blocks).await.unwrap();
    let copy = store.staticify(&source).await.unwrap();
    assert_core(&copy, &case["out"]);
    let first = copy.get(Index(0), Wait::Local).await.unwrap();
    assert_eq!(to_hex(&first), case["firstBlock"], "{case}");
}

async fn open_store(case: &Value, env: &MemoryEnv) -> Corestore<MemoryEnv> {
    let primary_key = PrimaryKey::new(fixed(&case["primaryKey"]));
    let store = memory_store(env, Some(primary_key)).await;
    store.in_namespace(match case["path"].as_array() {
        Some(_) => namespace(case),
        None => Namespace::ROOT,
    })
}

fn assert_core(core: &Core<MemoryEnv>, out: &Value) {
    let manifest = core.manifest().unwrap();
    let is_fixed = manifest
        .as_ref()
        .is_some_and(|manifest| manifest.signers().is_empty());
    let is_compat = manifest
        .as_ref()
        .is_some_and(|manifest| manifest.is_compat(&core.key()));
    let pair = core.key_pair().unwrap();
    assert_eq!(core.key().to_hex(), out["key"], "{out}");
    assert_eq!(core.discovery_key().to_hex(), out["discoveryKey"], "{out}");
    assert_eq!(core.key().to_id(), out["id"], "{out}");
    assert_eq!(
        manifest.map(|manifest| to_hex(manifest.as_bytes())).as_deref(),
        out["manifest"].as_str()
    );
    assert_eq!(
        pair.map(|pair| pair.public.to_hex()).as_deref(),
        out["publicKey"].as_str(),
        "{out}"
    );
    assert_eq!(core.length().unwrap(), Length(uint(&out["length"])), "{out}");
    assert_eq!(is_compat, out["compat"].as_bool().unwrap(), "{out}");
    // Content that the manifest fixes can be filled in by anybody: we call that writable.
    assert_eq!(
        core.is_writable() && !is_fixed,
        out["writable"].as_bool().unwrap(),
        "{out}"
    );
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
