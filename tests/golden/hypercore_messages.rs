//! `hypercore_messages.json`: messages of a replication channel.

use autobee::crypto::{CoreKey, TreeNode, discovery_key};
use autobee::hypercore::manifest::Manifest;
use autobee::replication::message::{Message, OpenMessage, Want};
use autobee::replication::{Role, capability};
use autobee::wire::{Decode as _, Encode as _};
use serde_json::{Value, json};

use super::manifest::to_json as manifest_json;
use super::{fixed, hex, text, to_hex};

pub(crate) fn check(case: &Value) -> Result<(), String> {
    match text(&case["kind"]) {
        "message" => {
            assert_eq!(case["value"], case["decoded"], "{case}");
            let read = read(case, &hex(&case["bytes"]))?.unwrap();
            assert_eq!(read.json, case["decoded"], "{case}");
            assert_eq!(to_hex(&read.written), case["bytes"], "{case}");
            assert_eq!(read.kind, case["type"].as_u64(), "{case}");
        }
        "decode" => {
            let read = read(case, &hex(&case["bytes"]))?.unwrap();
            assert_eq!(read.json, case["decoded"], "{case}");
        }
        "invalid" => assert!(read(case, &hex(&case["bytes"]))?.is_none(), "{case}"),
        "truncations" => {
            let bytes = hex(&case["bytes"]);
            let mut accepted = Vec::new();
            for length in 0..=bytes.len() {
                if read(case, &bytes[..length])?.is_some() {
                    accepted.push(length);
                }
            }
            assert_eq!(json!(accepted), case["acceptedLengths"], "{case}");
        }
        "capability" => {
            let role = if case["isInitiator"] == true {
                Role::Initiator
            } else {
                Role::Responder
            };
            let key = CoreKey::new(fixed(&case["key"]));
            let capability = capability::replication(&fixed(&case["handshakeHash"]), role, &key);
            assert_eq!(capability.to_hex(), case["capability"], "{case}");
            assert_eq!(discovery_key(&key).to_hex(), case["discoveryKey"], "{case}");
        }
        "manifest-hash" => {
            let manifest = Manifest::decode(&hex(&case["manifest"])).unwrap();
            assert_eq!(manifest.key().to_hex(), case["key"], "{case}");
        }
        kind => return Err(format!("kind {kind}")),
    }
    Ok(())
}

struct Read {
    json: Value,
    written: Vec<u8>,
    kind: Option<u64>,
}

/// Decodes bytes as the message that the case names. None when they are refused.
fn read(case: &Value, bytes: &[u8]) -> Result<Option<Read>, String> {
    let kind = match text(&case["message"]) {
        "handshake" => {
            return Ok(OpenMessage::from_bytes(bytes).ok().map(|handshake| Read {
                json: handshake_json(&handshake),
                written: handshake.to_bytes().unwrap(),
                kind: None,
            }));
        }
        "manifest" => {
            return Ok(Manifest::decode(bytes).ok().map(|manifest| Read {
                json: manifest_json(&manifest),
                written: manifest.as_bytes().to_vec(),
                kind: None,
            }));
        }
        name => {
            let names = [
                "sync",
                "request",
                "cancel",
                "data",
                "noData",
                "want",
                "unwant",
                "bitfield",
                "range",
                "extension",
            ];
            let position = names
                .iter()
                .position(|known| *known == name)
                .ok_or(format!("message {name}"))?;
            position as u64
        }
    };
    Ok(Message::decode(kind, bytes).ok().map(|message| {
        let message = message.unwrap();
        Read {
            json: message_json(&message),
            written: message.encode().unwrap(),
            kind: Some(message.kind()),
        }
    }))
}

pub(crate) fn handshake_json(handshake: &OpenMessage) -> Value {
    json!({"seeks": handshake.seeks, "capability": handshake.capability.to_hex()})
}

/// A message as the vectors write it.
pub(crate) fn message_json(message: &Message) -> Value {
    let want = |want: &Want| json!({"start": want.start, "length": want.length, "any": want.any});
    match message {
        Message::Sync(sync) => json!({
            "fork": sync.fork,
            "length": sync.length,
            "remoteLength": sync.remote_length,
            "canUpgrade": sync.can_upgrade,
            "uploading": sync.uploading,
            "downloading": sync.downloading,
            "hasManifest": sync.has_manifest,
            "allowPush": sync.allow_push,
        }),
        Message::Request(message) => json!({
            "id": message.id,
            "fork": message.fork,
            "block": message.request.block.map(|block| json!({"index": block.index, "nodes": block.nodes})),
            "hash": message.request.hash.map(|hash| json!({"index": hash.index, "nodes": hash.nodes})),
            "seek": message.request.seek.map(|seek| json!({"bytes": seek.bytes, "padding": seek.padding})),
            "upgrade": message.request.upgrade.map(|part| json!({"start": part.start, "length": part.length})),
            "manifest": message.manifest,
            "priority": message.priority,
        }),
        Message::Cancel { request } => json!({"request": request}),
        Message::Data(data) => {
            let proof = &data.proof;
            json!({
                "request": data.request,
                "fork": proof.fork,
                "block": proof.block.as_ref().map(|block| json!({
                    "index": block.index,
                    "value": to_hex(&block.value),
                    "nodes": nodes(&block.nodes),
                })),
                "hash": proof.hash.as_ref().map(|hash| json!({"index": hash.index, "nodes": nodes(&hash.nodes)})),
                "seek": proof.seek.as_ref().map(|seek| json!({"bytes": seek.bytes, "nodes": nodes(&seek.nodes)})),
                "upgrade": proof.upgrade.as_ref().map(|upgrade| json!({
                    "start": upgrade.start,
                    "length": upgrade.length,
                    "nodes": nodes(&upgrade.nodes),
                    "additionalNodes": nodes(&upgrade.additional_nodes),
                    "signature": upgrade.signature.as_ref().map(|signature| to_hex(signature)),
                })),
                "manifest": proof.manifest.as_ref().map(manifest_json),
            })
        }
        Message::NoData(none) => json!({"request": none.request, "reason": none.reason}),
        Message::Want(wanted) | Message::Unwant(wanted) => want(wanted),
        Message::Bitfield(bitfield) => json!({"start": bitfield.start, "bitfield": bitfield.words}),
        Message::Range(range) => json!({"drop": range.drop, "start": range.start, "length": range.length}),
        Message::Extension(extension) => {
            json!({"name": extension.name, "message": to_hex(&extension.message)})
        }
    }
}

fn nodes(nodes: &[TreeNode]) -> Value {
    nodes
        .iter()
        .map(|node| json!({"index": node.index, "size": node.size, "hash": node.hash.to_hex()}))
        .collect()
}
