//! `replication_requests.json`: what a source answers, and what a reader makes of answers.

use autobee::crypto::{CoreKey, Ed25519, Seed, Sign as _};
use autobee::env::Mono;
use autobee::hypercore::log::Log;
use autobee::hypercore::manifest::Manifest;
use autobee::replication::core::MemoryCore;
use autobee::replication::message::Message;
use autobee::replication::replicator::{PeerId, Replicator};
use autobee::replication::settings::ReplicatorSettings;
use autobee::wire::{Index, Length};
use serde_json::Value;

use super::hypercore_messages::message_json;
use super::{fixed, hex, list, text, to_hex, uint};

const PEER: PeerId = PeerId(1);

pub(crate) fn check(case: &Value) -> Result<(), String> {
    match text(&case["kind"]) {
        "serve" => serve(case),
        "verify" => verify(case),
        kind => return Err(format!("kind {kind}")),
    }
    Ok(())
}

fn serve(case: &Value) {
    let core = &case["core"];
    let blocks: Vec<_> = list(&core["blocks"]).iter().map(hex).collect();
    let mut log = writer(core);
    if uint(&core["fork"]) > 0 {
        log.append(&Ed25519, [b"gone".to_vec()]).unwrap();
        log.truncate(&Ed25519, Length::ZERO, Some(uint(&core["fork"])))
            .unwrap();
    }
    log.append(&Ed25519, blocks).unwrap();
    assert_eq!(log.length().0, uint(&core["length"]));
    assert_eq!(to_hex(log.head().signature.as_ref().unwrap()), core["signature"]);
    for request in list(&case["requests"]) {
        let message = Message::decode(1, &hex(&request["request"]["bytes"]))
            .unwrap()
            .unwrap();
        assert_eq!(message_json(&message), request["request"]["fields"], "{request}");
        let reply = answer(&log, message);
        assert_eq!(
            to_hex(&reply.encode().unwrap()),
            request["reply"]["bytes"],
            "{}: {request}",
            case["name"]
        );
        assert_eq!(
            message_json(&reply),
            request["reply"]["fields"],
            "{}: {request}",
            case["name"]
        );
    }
}

/// What our source answers to a request of a peer that has just come.
pub(crate) fn answer(log: &Log, request: Message) -> Message {
    let mut core = MemoryCore::new(log.clone(), Ed25519);
    let mut replicator = Replicator::new(&core, ReplicatorSettings::default()).unwrap();
    replicator.open(PEER, true, &core).unwrap();
    replicator.receive(PEER, request, &mut core, Mono(0)).unwrap();
    loop {
        let message = replicator.pull(PEER, &core, Mono(0)).unwrap().unwrap();
        if matches!(message, Message::Data(_) | Message::NoData(_)) {
            return message;
        }
    }
}

/// The empty log of the writer of a core.
pub(crate) fn writer(core: &Value) -> Log {
    let pair = core["writerSeed"]
        .is_string()
        .then(|| Ed25519.key_pair(&Seed::new(fixed(&core["writerSeed"]))));
    let log = match core["manifest"].as_str() {
        Some(_) => {
            let manifest = Manifest::decode(&hex(&core["manifest"])).unwrap();
            let signs = pair.filter(|pair| {
                manifest
                    .signers()
                    .iter()
                    .any(|signer| signer.public_key == pair.public)
            });
            match signs {
                Some(pair) if core["key"] == pair.public.to_hex() => Log::compat(pair),
                signs => Log::with_manifest(manifest, signs),
            }
        }
        None => Log::compat(pair.unwrap()),
    };
    assert_eq!(log.key().to_hex(), core["key"], "{core}");
    log
}

fn verify(case: &Value) {
    let mut log = Log::replica(CoreKey::new(fixed(&case["core"]["key"])));
    for step in list(&case["steps"]) {
        let context = format!("{}: {}", case["name"], step["note"]);
        let before = log.clone();
        let result = match Message::decode(3, &hex(&step["bytes"])) {
            Err(_) => "rejected",
            Ok(Some(Message::Data(data))) => {
                assert_eq!(
                    message_json(&Message::Data(data.clone())),
                    step["fields"],
                    "{context}"
                );
                match log.verify(&Ed25519, &data.proof) {
                    Ok(true) => "applied",
                    Ok(false) => "ignored",
                    Err(error) => {
                        assert!(error.blames_peer(), "{context}: {error}");
                        "rejected"
                    }
                }
            }
            Ok(other) => panic!("{context}: {other:?}"),
        };
        assert_eq!(Some(result), text(&step["result"]).split(' ').next(), "{context}");
        if result != "applied" {
            assert_eq!(
                (before.head(), before.nodes()),
                (log.head(), log.nodes()),
                "{context}"
            );
        }
        let after = &step["after"];
        let tree = &log.head().tree;
        assert_eq!(log.fork(), uint(&after["fork"]), "{context}");
        assert_eq!(log.length().0, uint(&after["length"]), "{context}");
        assert_eq!(tree.byte_length(), uint(&after["byteLength"]), "{context}");
        if !after["treeHash"].is_null() {
            assert_eq!(tree.hash().to_hex(), after["treeHash"], "{context}");
        }
        assert_eq!(log.manifest().is_some(), after["hasManifest"], "{context}");
        assert_eq!(
            log.contiguous_length().0,
            uint(&after["contiguousLength"]),
            "{context}"
        );
        let blocks: Vec<_> = (0..log.length().0)
            .filter(|index| log.get(Index(*index)).is_some())
            .collect();
        assert_eq!(Value::from(blocks), after["blocks"], "{context}");
    }
}
