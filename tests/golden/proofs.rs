//! `proofs.json`: proofs made, checked and refused; moves to a new fork; proofs that travel alone.

use std::collections::BTreeMap;

use autobee::crypto::{Ed25519, Seed, Sign as _};
use autobee::hypercore::flat_tree;
use autobee::hypercore::log::Log;
use autobee::hypercore::manifest::Manifest;
use autobee::hypercore::proof::{
    BlockRequest, DataMessage, HashRequest, Reorg, Request, RequestMessage, SeekRequest, Standalone,
    UpgradeRequest,
};
use autobee::wire::compact::{Decode as _, Encode as _};
use serde_json::Value;

use super::merkle::{core_key, empty_log};
use super::{Golden, fixed, hex, list, merkle, text, to_hex, uint};

pub(crate) fn run() {
    let mut golden = Golden::load("proofs");
    let sources: BTreeMap<String, Log> = golden.root()["sources"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, source)| (name.clone(), log(source)))
        .collect();
    golden.each(|case| {
        match text(&case["kind"]) {
            "proof" => proof(case, &sources[text(&case["source"])]),
            "walk" => walk(case, &sources[text(&case["source"])]),
            "apply" => apply(case),
            "reorg" => reorg(case),
            "remoteProof" => remote(case, &sources[text(&case["source"])]),
            kind => return Err(format!("kind {kind}")),
        }
        Ok(())
    });
    golden.finish();
}

fn log(source: &Value) -> Log {
    let mut log = match text(&source["style"]) {
        "compat" => empty_log("compat", fixed(&source["seed"])),
        _ => {
            let manifest = Manifest::decode(&hex(&source["manifest"])).unwrap();
            let pair = (!manifest.signers().is_empty())
                .then(|| Ed25519.key_pair(&Seed::new(fixed(&source["seed"]))));
            Log::with_manifest(manifest, pair)
        }
    };
    assert_eq!(log.key().to_hex(), source["key"], "{source}");
    for step in source["ops"].as_array().into_iter().flatten() {
        merkle::run(&mut log, step);
    }
    if let Some(hash) = source["treeHash"].as_str() {
        let head = log.head();
        assert_eq!(head.tree.hash().to_hex(), hash, "{source}");
        assert_eq!(
            head.signature.as_deref().map(to_hex).as_deref(),
            source["signature"].as_str(),
            "{source}"
        );
    }
    log
}

fn proof(case: &Value, log: &Log) {
    let request = request(&case["request"]);
    let bytes = hex(&case["requestHex"]);
    let message = RequestMessage::from_bytes(&bytes).unwrap();
    assert_eq!(message.request, request, "{case}");
    assert_eq!(message.to_bytes().unwrap(), bytes, "{case}");
    let made = log.prove(&request);
    if !case["error"].is_null() {
        assert!(made.is_err(), "{case}");
        return;
    }
    let data = made.unwrap().map(|proof| data(1, proof));
    assert_eq!(
        data.as_deref().map(to_hex).as_deref(),
        case["data"].as_str(),
        "{case}"
    );
}

fn walk(case: &Value, source: &Log) {
    let mut receiver = Log::replica(core_key(&case["key"]));
    for step in list(&case["steps"]) {
        let request = request(&step["request"]);
        let tree = &receiver.head().tree;
        let lacks = |index| tree.missing_nodes(index, receiver.nodes()).unwrap();
        if request.upgrade.is_none() {
            if let Some(block) = request.block {
                assert_eq!(lacks(2 * block.index), block.nodes, "{step}");
            }
            if let Some(hash) = request.hash {
                assert_eq!(lacks(hash.index), hash.nodes, "{step}");
            }
        }
        let bytes = hex(&step["data"]);
        let message = DataMessage::from_bytes(&bytes).unwrap();
        let mut made = source.prove(&request).unwrap().unwrap();
        made.manifest.clone_from(&message.proof.manifest);
        assert_eq!(to_hex(&data(message.request, made)), to_hex(&bytes), "{step}");
        deliver(&mut receiver, step);
    }
}

fn apply(case: &Value) {
    let key = core_key(&case["key"]);
    let mut receiver = match case["startManifest"].as_str() {
        Some(_) => {
            let manifest = Manifest::decode(&hex(&case["startManifest"])).unwrap();
            assert_eq!(manifest.key(), key, "{case}");
            Log::with_manifest(manifest, None)
        }
        None => Log::replica(key),
    };
    for step in list(&case["steps"]) {
        deliver(&mut receiver, step);
    }
}

/// Applies the data of a step, and compares result and state.
fn deliver(receiver: &mut Log, step: &Value) {
    let result = match DataMessage::from_bytes(&hex(&step["data"])) {
        Ok(message) => {
            if let Some(block) = message
                .proof
                .block
                .as_ref()
                .filter(|_| !step["missingNodes"].is_null())
            {
                let missing = receiver
                    .head()
                    .tree
                    .missing_nodes(2 * block.index, receiver.nodes());
                assert_eq!(missing.unwrap(), uint(&step["missingNodes"]), "{step}");
            }
            receiver.verify(&Ed25519, &message.proof).map_err(|error| {
                assert!(error.blames_peer(), "{error}");
                error.to_string()
            })
        }
        Err(error) => Err(error.to_string()),
    };
    if step["error"].is_null() {
        assert_eq!(Ok(step["result"].as_bool().unwrap()), result, "{step}");
    } else {
        assert!(result.is_err(), "{step}");
    }
    if !step["state"].is_null() {
        assert_state(receiver, &step["state"]);
    }
}

fn reorg(case: &Value) {
    let key = core_key(&case["key"]);
    let mut receiver = Log::replica(key);
    for data in list(&case["setup"]) {
        let message = DataMessage::from_bytes(&hex(data)).unwrap();
        assert!(receiver.verify(&Ed25519, &message.proof).unwrap(), "{data}");
    }
    assert_state(&receiver, &case["stateBefore"]);
    for rejected in list(&case["rejected"]) {
        let started = match DataMessage::from_bytes(&hex(&rejected["data"])) {
            Ok(message) => Reorg::start(&receiver.receiver(&Ed25519), &message.proof).map_err(|error| {
                assert!(error.blames_peer(), "{error}");
            }),
            Err(_) => Err(()),
        };
        assert!(started.is_err(), "{rejected}");
    }
    let message = DataMessage::from_bytes(&hex(&case["proof"])).unwrap();
    let mut reorg = Reorg::start(&receiver.receiver(&Ed25519), &message.proof).unwrap();
    assert_reorg(&reorg, &case["reorg"]);
    for step in list(&case["steps"]) {
        let before = (reorg.wanted(), reorg.ancestors(), reorg.difference());
        if !step["refused"].is_null()
            && let Ok(message) = DataMessage::from_bytes(&hex(&step["refused"]["data"]))
        {
            let used = reorg.advance(&receiver.receiver(&Ed25519), &message.proof);
            assert!(!matches!(used, Ok(true)), "{step}");
            assert_eq!(
                before,
                (reorg.wanted(), reorg.ancestors(), reorg.difference()),
                "{step}"
            );
        }
        let wanted = reorg.wanted().unwrap();
        let hash = &step["request"]["hash"];
        assert_eq!(wanted.nodes, uint(&hash["nodes"]), "{step}");
        assert!(
            (wanted.start..wanted.end).contains(&(uint(&hash["index"]) / 2)),
            "{step}"
        );
        let message = DataMessage::from_bytes(&hex(&step["data"])).unwrap();
        assert!(
            reorg
                .advance(&receiver.receiver(&Ed25519), &message.proof)
                .unwrap(),
            "{step}"
        );
        assert_eq!(reorg.is_finished(), step["result"].as_bool().unwrap(), "{step}");
        assert_reorg(&reorg, &step["reorg"]);
    }
    let applied = reorg.finish().is_some_and(|rewound| receiver.rewind(rewound));
    assert_eq!(applied, case["applied"].as_bool().unwrap(), "{case}");
    assert_state(&receiver, &case["stateAfter"]);
}

fn remote(case: &Value, log: &Log) {
    let manifest = log.manifest().unwrap();
    let show = |bytes: &[u8]| {
        let proof = Standalone::from_bytes(bytes).map_err(|error| error.to_string())?;
        assert_eq!(proof.discovery_key, log.discovery_key());
        // A core whose key is no hash of a manifest cannot be proven this way.
        if manifest.is_compat(&log.key()) {
            return Ok(None);
        }
        proof.check(manifest, &Ed25519).map_err(|error| error.to_string())
    };
    let shown = show(&hex(&case["hex"])).unwrap();
    match case["out"].as_object() {
        None => assert_eq!(shown, None, "{case}"),
        Some(out) => {
            let shown = shown.unwrap();
            assert_eq!(shown.length, uint(&out["length"]), "{case}");
            if !out["block"].is_null() {
                let (index, value) = shown.block.unwrap();
                assert_eq!(index, uint(&out["block"]["index"]), "{case}");
                assert_eq!(to_hex(&value), out["block"]["value"], "{case}");
            }
        }
    }
    assert!(
        !matches!(show(&hex(&case["mutated"]["hex"])), Ok(Some(_))),
        "{case}"
    );

    let upgrade = upgrade(&case["upgrade"]);
    let block = case["index"].as_u64();
    let made = Standalone::prove(
        &log.source(),
        log.discovery_key(),
        manifest.clone(),
        block,
        upgrade,
    );
    let mut made = made.unwrap();
    if let Some(block) = &mut made.proof.block {
        block.value = log.get(autobee::wire::Index(block.index)).unwrap().clone();
    }
    assert_eq!(to_hex(&made.to_bytes().unwrap()), case["hex"], "{case}");
}

fn assert_state(log: &Log, state: &Value) {
    let head = &log.head().tree;
    assert_eq!(head.length(), uint(&state["length"]), "{state}");
    assert_eq!(head.byte_length(), uint(&state["byteLength"]), "{state}");
    assert_eq!(head.fork(), uint(&state["fork"]), "{state}");
    assert_eq!(
        log.contiguous_length().0,
        uint(&state["contiguousLength"]),
        "{state}"
    );
    assert_eq!(head.hash().to_hex(), state["treeHash"], "{state}");
    assert_eq!(
        log.manifest().is_some(),
        state["manifest"].as_bool().unwrap(),
        "{state}"
    );
    let blocks: Vec<u64> = (0..head.length())
        .filter(|&block| log.get(autobee::wire::Index(block)).is_some())
        .collect();
    assert_eq!(
        blocks,
        list(&state["have"]).iter().map(uint).collect::<Vec<_>>(),
        "{state}"
    );
    let nodes: Vec<u64> = log.nodes().keys().copied().collect();
    // The reference may leave nodes of a longer tree behind; we do not.
    let expected: Vec<u64> = list(&state["nodes"])
        .iter()
        .map(uint)
        .filter(|&node| flat_tree::end_block(node) <= head.length())
        .collect();
    assert_eq!(nodes, expected, "{state}");
}

fn assert_reorg(reorg: &Reorg, state: &Value) {
    assert_eq!(
        reorg.is_finished(),
        state["finished"].as_bool().unwrap(),
        "{state}"
    );
    assert_eq!(reorg.ancestors(), uint(&state["ancestors"]), "{state}");
    assert_eq!(reorg.difference(), state["diff"].as_u64(), "{state}");
    match reorg.wanted() {
        None => assert!(state["want"].is_null(), "{state}"),
        Some(wanted) => {
            let expected = ["start", "end", "nodes"].map(|field| uint(&state["want"][field]));
            assert_eq!([wanted.start, wanted.end, wanted.nodes], expected, "{state}");
        }
    }
}

fn request(value: &Value) -> Request {
    let pair = |part: &Value, first: &str, second: &str| {
        (!part.is_null()).then(|| (uint(&part[first]), part[second].as_u64().unwrap_or(0)))
    };
    Request {
        block: pair(&value["block"], "index", "nodes").map(|(index, nodes)| BlockRequest { index, nodes }),
        hash: pair(&value["hash"], "index", "nodes").map(|(index, nodes)| HashRequest { index, nodes }),
        seek: pair(&value["seek"], "bytes", "padding").map(|(bytes, padding)| SeekRequest { bytes, padding }),
        upgrade: upgrade(&value["upgrade"]),
    }
}

fn upgrade(value: &Value) -> Option<UpgradeRequest> {
    (!value.is_null()).then(|| UpgradeRequest {
        start: uint(&value["start"]),
        length: uint(&value["length"]),
    })
}

fn data(request: u64, proof: autobee::hypercore::proof::Proof) -> Vec<u8> {
    DataMessage { request, proof }.to_bytes().unwrap()
}
