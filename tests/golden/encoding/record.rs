//! Records and messages of a core.

use autobee::crypto::TreeNode;
use autobee::crypto::{Hash, Signature};
use autobee::hypercore::manifest::{
    Manifest, MultiSignature, MultiSignatureV0, PatchV0, SignerProof, SignerProofV0,
};
use autobee::wire::replication::{Bitfield, Cancel, Extension, NoData, Open, Range, ReorgHint, Sync, Want};
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
            |value| Open {
                seeks: yes(&value["seeks"]),
                capability: Hash::new(fixed(&value["capability"])),
            },
            |open| json!({ "seeks": open.seeks, "capability": open.capability.to_hex() }),
        ),
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
            |value| Range {
                drop: yes(&value["drop"]),
                start: uint(&value["start"]),
                length: uint(&value["length"]),
            },
            |range| json!({ "drop": range.drop, "start": range.start, "length": range.length }),
        ),
        "wire.bitfield" => of(
            |value| Bitfield {
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
