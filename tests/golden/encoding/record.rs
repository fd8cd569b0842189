//! Records and messages of a core.

use autobee::crypto::TreeNode;
use autobee::crypto::{Hash, Signature};
use autobee::hypercore::manifest::{
    Manifest, MultiSignature, MultiSignatureV0, PatchV0, SignerProof, SignerProofV0,
};
use autobee::hypercore::proof::{
    BlockProof, BlockRequest, DataMessage, HashProof, HashRequest, Proof, Request, RequestMessage, SeekProof,
    SeekRequest, UpgradeProof, UpgradeRequest,
};
use autobee::wire::replication::{
    BitfieldMessage, Cancel, Extension, NoData, OpenMessage, RangeMessage, ReorgHint, Sync, Want,
};
use autobee::wire::{Decode, DecodeErrorKind, Encode};
use serde_json::{Value, json};

use super::super::crypto::node;
use super::super::manifest::{options, to_json};
use super::super::{fixed, hex, list, optional, text, to_hex, uint};
use super::Codec;
use super::primitive::done;

pub(super) fn codec(name: &str) -> Option<Codec> {
    match name {
        "manifest" => Codec::new(
            |value, to| done(to.raw(Manifest::new(options(value)?).ok()?.as_bytes())),
            |from| match Manifest::decode(from.rest()) {
                Ok(manifest) => Ok(to_json(&manifest)),
                Err(_) => Err(from.error(DecodeErrorKind::Invalid { what: "manifest" })),
            },
        ),
        "wire.handshake" => of(
            |value| OpenMessage {
                seeks: yes(&value["seeks"]),
                capability: Hash::new(fixed(&value["capability"])),
            },
            |open| json!({ "seeks": open.seeks, "capability": open.capability.to_hex() }),
        ),
        "wire.request" => of(request, request_to_json),
        "wire.data" => of(data, data_to_json),
        "wire.cancel" => of(
            |value| Cancel {
                request: uint(&value["request"]),
            },
            |cancel| json!({ "request": cancel.request }),
        ),
        "wire.noData" => of(
            |value| NoData {
                request: uint(&value["request"]),
                reason: uint(&value["reason"]),
            },
            |answer| json!({ "request": answer.request, "reason": answer.reason }),
        ),
        "wire.want" | "wire.unwant" => of(
            |value| Want {
                start: uint(&value["start"]),
                length: uint(&value["length"]),
                any: yes(&value["any"]),
            },
            |want| json!({ "start": want.start, "length": want.length, "any": want.any }),
        ),
        "wire.range" => of(
            |value| RangeMessage {
                drop: yes(&value["drop"]),
                start: uint(&value["start"]),
                length: uint(&value["length"]),
            },
            |range| json!({ "drop": range.drop, "start": range.start, "length": range.length }),
        ),
        "wire.bitfield" => of(
            |value| BitfieldMessage {
                start: uint(&value["start"]),
                words: list(&value["bitfield"])
                    .iter()
                    .map(|word| u32::try_from(uint(word)).unwrap())
                    .collect(),
            },
            |field| json!({ "start": field.start, "bitfield": field.words }),
        ),
        "wire.sync" => of(sync, sync_to_json),
        "wire.reorgHint" => of(
            |value| ReorgHint {
                from: uint(&value["from"]),
                to: uint(&value["to"]),
                ancestors: uint(&value["ancestors"]),
            },
            |hint| json!({ "from": hint.from, "to": hint.to, "ancestors": hint.ancestors }),
        ),
        "wire.extension" => of(
            |value| Extension {
                name: text(&value["name"]).to_owned(),
                message: hex(&value["message"]).into(),
            },
            |message| json!({ "name": message.name, "message": to_hex(&message.message) }),
        ),
        "multiSignature" => of(multi_signature, multi_signature_to_json),
        "multiSignaturev0" => of(multi_signature_v0, multi_signature_v0_to_json),
        _ => None,
    }
}

fn of<T: Encode + Decode>(
    from_json: impl Fn(&Value) -> T + 'static,
    to_json: impl Fn(&T) -> Value + 'static,
) -> Option<Codec> {
    Codec::new(
        move |value, to| {
            from_json(value).encode(to);
            Some(())
        },
        move |from| T::decode(from).map(|value| to_json(&value)),
    )
}

fn yes(value: &Value) -> bool {
    value == true
}

fn sync(value: &Value) -> Sync {
    Sync {
        fork: uint(&value["fork"]),
        length: uint(&value["length"]),
        remote_length: uint(&value["remoteLength"]),
        can_upgrade: yes(&value["canUpgrade"]),
        uploading: yes(&value["uploading"]),
        downloading: yes(&value["downloading"]),
        has_manifest: yes(&value["hasManifest"]),
        allow_push: yes(&value["allowPush"]),
    }
}

fn sync_to_json(sync: &Sync) -> Value {
    json!({
        "fork": sync.fork,
        "length": sync.length,
        "remoteLength": sync.remote_length,
        "canUpgrade": sync.can_upgrade,
        "uploading": sync.uploading,
        "downloading": sync.downloading,
        "hasManifest": sync.has_manifest,
        "allowPush": sync.allow_push,
    })
}

fn request(value: &Value) -> RequestMessage {
    let pair = |part: &Value, first: &str, second: &str| {
        optional(part).map(|part| (uint(&part[first]), uint(&part[second])))
    };
    RequestMessage {
        id: uint(&value["id"]),
        fork: uint(&value["fork"]),
        request: Request {
            block: pair(&value["block"], "index", "nodes")
                .map(|(index, nodes)| BlockRequest { index, nodes }),
            hash: pair(&value["hash"], "index", "nodes").map(|(index, nodes)| HashRequest { index, nodes }),
            seek: pair(&value["seek"], "bytes", "padding")
                .map(|(bytes, padding)| SeekRequest { bytes, padding }),
            upgrade: pair(&value["upgrade"], "start", "length")
                .map(|(start, length)| UpgradeRequest { start, length }),
        },
        manifest: yes(&value["manifest"]),
        priority: uint(&value["priority"]),
    }
}

fn request_to_json(message: &RequestMessage) -> Value {
    let Request {
        block,
        hash,
        seek,
        upgrade,
    } = message.request;
    json!({
        "id": message.id,
        "fork": message.fork,
        "block": block.map(|block| json!({ "index": block.index, "nodes": block.nodes })),
        "hash": hash.map(|hash| json!({ "index": hash.index, "nodes": hash.nodes })),
        "seek": seek.map(|seek| json!({ "bytes": seek.bytes, "padding": seek.padding })),
        "upgrade": upgrade.map(|upgrade| json!({ "start": upgrade.start, "length": upgrade.length })),
        "manifest": message.manifest,
        "priority": message.priority,
    })
}

fn data(value: &Value) -> DataMessage {
    DataMessage {
        request: uint(&value["request"]),
        proof: Proof {
            fork: uint(&value["fork"]),
            block: optional(&value["block"]).map(|block| BlockProof {
                index: uint(&block["index"]),
                value: hex(&block["value"]).into(),
                nodes: nodes(&block["nodes"]),
            }),
            hash: optional(&value["hash"]).map(|hash| HashProof {
                index: uint(&hash["index"]),
                nodes: nodes(&hash["nodes"]),
            }),
            seek: optional(&value["seek"]).map(|seek| SeekProof {
                bytes: uint(&seek["bytes"]),
                nodes: nodes(&seek["nodes"]),
            }),
            upgrade: optional(&value["upgrade"]).map(|upgrade| UpgradeProof {
                start: uint(&upgrade["start"]),
                length: uint(&upgrade["length"]),
                nodes: nodes(&upgrade["nodes"]),
                additional_nodes: nodes(&upgrade["additionalNodes"]),
                signature: optional(&upgrade["signature"]).map(|signature| hex(signature).into()),
            }),
            manifest: optional(&value["manifest"])
                .map(|manifest| Manifest::new(options(manifest).unwrap()).unwrap()),
        },
    }
}

fn data_to_json(message: &DataMessage) -> Value {
    let proof = &message.proof;
    json!({
        "request": message.request,
        "fork": proof.fork,
        "block": proof.block.as_ref().map(|block| json!({
            "index": block.index,
            "value": to_hex(&block.value),
            "nodes": nodes_to_json(&block.nodes),
        })),
        "hash": proof.hash.as_ref().map(|hash| json!({
            "index": hash.index,
            "nodes": nodes_to_json(&hash.nodes),
        })),
        "seek": proof.seek.as_ref().map(|seek| json!({
            "bytes": seek.bytes,
            "nodes": nodes_to_json(&seek.nodes),
        })),
        "upgrade": proof.upgrade.as_ref().map(|upgrade| json!({
            "start": upgrade.start,
            "length": upgrade.length,
            "nodes": nodes_to_json(&upgrade.nodes),
            "additionalNodes": nodes_to_json(&upgrade.additional_nodes),
            "signature": upgrade.signature.as_deref().map(to_hex),
        })),
        "manifest": proof.manifest.as_ref().map(to_json),
    })
}

fn nodes(value: &Value) -> Vec<TreeNode> {
    list(value).iter().map(node).collect()
}

fn nodes_to_json(nodes: &[TreeNode]) -> Value {
    let node =
        |node: &TreeNode| json!({ "index": node.index, "size": node.size, "hash": node.hash.to_hex() });
    nodes.iter().map(node).collect()
}

fn multi_signature(value: &Value) -> MultiSignature {
    let proof = |proof: &Value| SignerProof {
        signer: uint(&proof["signer"]),
        signature: Signature::new(fixed(&proof["signature"])),
        patch: uint(&proof["patch"]),
    };
    MultiSignature {
        proofs: list(&value["proofs"]).iter().map(proof).collect(),
        nodes: nodes(&value["patch"]),
    }
}

fn multi_signature_to_json(value: &MultiSignature) -> Value {
    let proof = |proof: &SignerProof| json!({ "signer": proof.signer, "signature": proof.signature.to_hex(), "patch": proof.patch });
    json!({
        "proofs": value.proofs.iter().map(proof).collect::<Value>(),
        "patch": nodes_to_json(&value.nodes),
    })
}

fn multi_signature_v0(value: &Value) -> MultiSignatureV0 {
    let patch = |patch: &Value| PatchV0 {
        start: uint(&patch["start"]),
        length: uint(&patch["length"]),
        nodes: list(&patch["nodes"]).iter().map(uint).collect(),
    };
    let proof = |proof: &Value| SignerProofV0 {
        signer: uint(&proof["signer"]),
        signature: Signature::new(fixed(&proof["signature"])),
        patch: optional(&proof["patch"]).map(patch),
    };
    MultiSignatureV0 {
        proofs: list(&value["proofs"]).iter().map(proof).collect(),
        nodes: nodes(&value["patch"]),
    }
}

fn multi_signature_v0_to_json(value: &MultiSignatureV0) -> Value {
    let patch =
        |patch: &PatchV0| json!({ "start": patch.start, "length": patch.length, "nodes": patch.nodes });
    let proof = |proof: &SignerProofV0| {
        json!({
            "signer": proof.signer,
            "signature": proof.signature.to_hex(),
            "patch": proof.patch.as_ref().map(patch),
        })
    };
    json!({
        "proofs": value.proofs.iter().map(proof).collect::<Value>(),
        "patch": nodes_to_json(&value.nodes),
    })
}
