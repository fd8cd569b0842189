//! `merkle.json`: tree numbering, trees of whole logs, bitfields, commits of named sessions.

use std::collections::BTreeMap;

use autobee::crypto::{CoreKey, Ed25519, Hash, Seed, Sign as _};
use autobee::env::memory::MemoryEnv;
use autobee::hypercore::bitfield::Bitfield;
use autobee::hypercore::flat_tree;
use autobee::hypercore::keys::PrimaryKey;
use autobee::hypercore::log::Log;
use autobee::hypercore::manifest::{Manifest, ManifestOptions, Signer};
use autobee::hypercore::merkle::{Node, Seek, max_missing_nodes};
use autobee::hypercore::{
    Core, CoreError, CoreOptions, Corestore, CorestoreOptions, LengthAndSize, NamedOptions,
};
use autobee::store::{MemoryEngine, StoreHandle};
use autobee::wire::Length;
use serde_json::Value;

use super::{block, fixed, list, text, to_hex, uint};

pub(crate) fn check(case: &Value) -> Result<(), String> {
    match text(&case["kind"]) {
        "flat" => flat(case),
        "fullRoots" => {
            let roots: Vec<u64> = list(&case["roots"]).iter().map(uint).collect();
            assert_eq!(
                flat_tree::full_roots(uint(&case["length"])).collect::<Vec<_>>(),
                roots,
                "{case}"
            );
        }
        "maxMissingNodes" => {
            let index = 2 * uint(&case["block"]);
            assert_eq!(
                max_missing_nodes(index, uint(&case["length"])),
                uint(&case["out"]),
                "{case}"
            );
        }
        "log" => log(case),
        "bitfield" => bitfield(case),
        "commit" => commit(case),
        kind => return Err(format!("kind {kind}")),
    }
    Ok(())
}

fn flat(case: &Value) {
    let index = uint(&case["index"]);
    let spans = [flat_tree::left_span(index), flat_tree::right_span(index)];
    let children = flat_tree::children(index).map(|(left, right)| vec![left, right]);
    let expected = case["children"]
        .as_array()
        .map(|children| children.iter().map(uint).collect());
    assert_eq!(u64::from(flat_tree::depth(index)), uint(&case["depth"]), "{case}");
    assert_eq!(flat_tree::offset(index), uint(&case["offset"]), "{case}");
    assert_eq!(flat_tree::parent(index), uint(&case["parent"]), "{case}");
    assert_eq!(flat_tree::sibling(index), uint(&case["sibling"]), "{case}");
    assert_eq!(flat_tree::leaves(index), uint(&case["leaves"]), "{case}");
    assert_eq!(children, expected, "{case}");
    assert_eq!(
        spans.to_vec(),
        list(&case["spans"]).iter().map(uint).collect::<Vec<_>>(),
        "{case}"
    );
}

fn log(case: &Value) {
    let mut log = empty_log(text(&case["style"]), fixed(&case["seed"]));
    assert_eq!(log.key().to_hex(), case["key"], "{case}");
    assert_eq!(log.discovery_key().to_hex(), case["discoveryKey"], "{case}");
    for step in list(&case["steps"]) {
        run(&mut log, step);
        let state = &step["state"];
        let head = log.head();
        let roots: Vec<u64> = head.tree.roots().iter().map(|root| root.index).collect();
        let manifest = log.manifest().unwrap();
        let signable = manifest.signable(&log.key(), &manifest.signers()[0], &head.tree.head());
        assert_eq!(head.tree.length(), uint(&state["length"]), "{step}");
        assert_eq!(head.tree.byte_length(), uint(&state["byteLength"]), "{step}");
        assert_eq!(head.tree.fork(), uint(&state["fork"]), "{step}");
        assert_eq!(
            log.contiguous_length().0,
            uint(&state["contiguousLength"]),
            "{step}"
        );
        assert_eq!(
            roots,
            list(&state["roots"]).iter().map(uint).collect::<Vec<_>>(),
            "{step}"
        );
        assert_eq!(head.tree.hash().to_hex(), state["treeHash"], "{step}");
        assert_eq!(to_hex(&signable), state["signable"], "{step}");
        assert_eq!(
            to_hex(head.signature.as_ref().unwrap()),
            state["signature"],
            "{step}"
        );
    }

    let stored: Vec<Node> = log.nodes().values().copied().collect();
    if let Some(nodes) = case["nodes"].as_array() {
        // The reference leaves some nodes of the longer tree behind; we do not.
        let stale: Vec<u64> = case["staleNodes"]
            .as_array()
            .map_or(Vec::new(), |stale| stale.iter().map(uint).collect());
        let expected: Vec<Node> = nodes
            .iter()
            .map(node)
            .filter(|node| !stale.contains(&node.index))
            .collect();
        assert_eq!(stored, expected, "{}", case["name"]);
    }
    if let Some(roots) = case["roots"].as_array() {
        assert_eq!(
            log.head().tree.roots(),
            roots.iter().map(node).collect::<Vec<_>>()
        );
    }
    let tree = &log.head().tree;
    for seek in case["seeks"].as_array().into_iter().flatten() {
        let found = tree
            .seek(uint(&seek["bytes"]), uint(&seek["padding"]), log.nodes())
            .unwrap();
        let expected = seek["out"].as_array().map_or(Seek::Past, |out| Seek::Found {
            block: uint(&out[0]),
            offset: uint(&out[1]),
        });
        assert_eq!(found, expected, "{seek}");
    }
    for (block, offset) in (0..).zip(case["byteOffsets"].as_array().into_iter().flatten()) {
        assert_eq!(
            tree.byte_offset(2 * block, log.nodes()).unwrap(),
            uint(offset),
            "block {block}"
        );
    }
}

fn bitfield(case: &Value) {
    let mut field = Bitfield::default();
    let mut length = 0;
    for step in list(&case["steps"]) {
        if let Some(count) = step["append"].as_u64() {
            field.set(length..length + count);
        } else if let Some(range) = step["clear"].as_array() {
            field.clear(uint(&range[0])..uint(&range[1]));
        } else {
            field.truncate(uint(&step["truncate"]));
        }
        length = uint(&step["length"]);
        assert_eq!(
            field.contiguous_length(),
            uint(&step["contiguousLength"]),
            "{step}"
        );
        for (page, expected) in (0..).zip(list(&step["pages"])) {
            let parts = expected["parts"].as_array().into_iter().flatten();
            let bytes: Vec<u8> = parts.flat_map(block).collect();
            assert_eq!(to_hex(&field.wire_page(page, length)), to_hex(&bytes), "{step}");
        }
    }
}

/// Sessions of a core over a store in memory.
fn commit(case: &Value) {
    let env = MemoryEnv::new(1);
    let done = env.run(async {
        let store = memory_store(&env, None).await;
        let pair = Ed25519.key_pair(&Seed::new(fixed(&case["seed"])));
        let core = store.get(CoreOptions::key_pair(pair)).await.unwrap();
        assert_eq!(core.key().to_hex(), case["key"], "{case}");
        let mut sessions: BTreeMap<String, Core<MemoryEnv>> = BTreeMap::new();
        for step in list(&case["steps"]) {
            let result = commit_step(&core, &mut sessions, step).await;
            match result {
                Err(error) => assert!(!step["error"].is_null(), "{error}: {step}"),
                Ok(result) => {
                    assert!(step["error"].is_null(), "{step}");
                    let expected = &step["result"];
                    assert_eq!(result.is_some(), !expected.is_null(), "{step}");
                    if let Some(appended) = result {
                        assert_eq!(appended.length, Length(uint(&expected["length"])), "{step}");
                        assert_eq!(appended.byte_length, uint(&expected["byteLength"]), "{step}");
                    }
                }
            }
            assert_session(&core, &step["core"]);
            let signature = core.head().unwrap().signature;
            if let Some(expected) = step["core"]["signature"].as_str() {
                assert_eq!(to_hex(&signature.unwrap()), expected, "{step}");
            }
            for (name, state) in step["sessions"].as_object().into_iter().flatten() {
                assert_session(&sessions[name], state);
            }
        }
    });
    assert!(done.is_some(), "{case}");
}

async fn commit_step(
    core: &Core<MemoryEnv>,
    sessions: &mut BTreeMap<String, Core<MemoryEnv>>,
    step: &Value,
) -> Result<Option<LengthAndSize>, CoreError> {
    if let Some(name) = step["open"].as_str() {
        sessions.insert(name.to_owned(), core.named(name, NamedOptions::default()).await?);
        return Ok(None);
    }
    if let Some(name) = step["commit"].as_str() {
        return core.commit(&sessions[name], step["length"].as_u64(), None).await;
    }
    let (target, step) = match step["session"].as_str() {
        Some(name) => (&sessions[name], step),
        None => (core, &step["main"]),
    };
    if step["append"].is_null() {
        target
            .truncate(Length(uint(&step["truncate"])), step["fork"].as_u64())
            .await?;
        return Ok(None);
    }
    let blocks = blocks(&step["append"]).into_iter().map(Into::into).collect();
    target.append(blocks).await.map(Some)
}

fn assert_session(core: &Core<MemoryEnv>, state: &Value) {
    assert_eq!(core.length().unwrap(), Length(uint(&state["length"])), "{state}");
    assert_eq!(core.byte_length().unwrap(), uint(&state["byteLength"]), "{state}");
    assert_eq!(core.fork().unwrap(), uint(&state["fork"]), "{state}");
    assert_eq!(core.tree_hash().unwrap().to_hex(), state["treeHash"], "{state}");
    assert_eq!(
        core.signed_length().unwrap(),
        Length(uint(&state["signedLength"])),
        "{state}"
    );
}

/// A store of cores in memory, with a primary key if one is given.
pub(crate) async fn memory_store(env: &MemoryEnv, primary_key: Option<PrimaryKey>) -> Corestore<MemoryEnv> {
    let store = StoreHandle::open(env, &MemoryEngine).unwrap();
    let options = CorestoreOptions {
        primary_key,
        is_read_only: false,
    };
    Corestore::open(env.clone(), store, options).await.unwrap()
}

/// An empty log of one signer, by the vectors' name for the kind of manifest.
pub(crate) fn empty_log(style: &str, seed: [u8; 32]) -> Log {
    let pair = Ed25519.key_pair(&Seed::new(seed));
    let version = match style {
        "compat" => return Log::compat(pair),
        "v0" => 0,
        "v1" => 1,
        "v2" => 2,
        style => panic!("style {style}"),
    };
    let options = ManifestOptions {
        version: Some(version),
        signers: vec![Signer::new(pair.public)],
        ..ManifestOptions::default()
    };
    Log::with_manifest(Manifest::new(options).unwrap(), Some(pair))
}

/// One append or truncation.
pub(crate) fn run(log: &mut Log, step: &Value) {
    if !step["append"].is_null() {
        log.append(&Ed25519, blocks(&step["append"])).unwrap();
    } else {
        let fork = step["fork"].as_u64();
        log.truncate(&Ed25519, Length(uint(&step["truncate"])), fork)
            .unwrap();
    }
}

/// Blocks as vectors write them: a list, or a counter.
pub(crate) fn blocks(value: &Value) -> Vec<Vec<u8>> {
    match value.get("counter") {
        Some(counter) => {
            let from = uint(&counter["from"]);
            (from..from + uint(&counter["count"]))
                .map(|at| format!("{}{at}", text(&counter["prefix"])).into_bytes())
                .collect()
        }
        None => list(value).iter().map(block).collect(),
    }
}

pub(crate) fn node(value: &Value) -> Node {
    Node {
        index: uint(&value["index"]),
        size: uint(&value["size"]),
        hash: Hash::new(fixed(&value["hash"])),
    }
}

pub(crate) fn core_key(value: &Value) -> CoreKey {
    CoreKey::new(fixed(value))
}
