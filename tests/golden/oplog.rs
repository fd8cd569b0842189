//! `oplog.json`: blocks of a writer's log.

use autobee::crypto::{CoreKey, Signature};
use autobee::wire::oplog::{
    Attestation, Backer, BatchPosition, Checkpointer, Legacy, OplogBlock, TrustedHead, ValueOptions,
    ViewStamp, ViewStamps, Witness, decode_value, encode_value,
};
use autobee::wire::{Decode as _, Encode as _, Length, Link, Timestamp, Weight};
use serde_json::{Value, json};

use super::{fixed, hex, list, optional, text, to_hex, uint};

pub(crate) fn check(case: &Value) -> Result<(), String> {
    let bytes = || hex(&case["hex"]);
    match text(&case["kind"]) {
        "v3" => {
            assert_eq!(
                to_hex(&block(&case["input"]).to_bytes().unwrap()),
                case["hex"],
                "{case}"
            );
            let read = OplogBlock::from_bytes(&bytes()).unwrap();
            assert_eq!(block_to_json(&read), case["decoded"], "{case}");
        }
        "legacy" => {
            let read = OplogBlock::from_bytes(&bytes()).unwrap();
            assert_eq!(block_to_json(&read), case["decoded"], "{case}");
            assert_eq!(raw_to_json(&read), case["raw"], "{case}");
        }
        "decode" => match OplogBlock::from_bytes(&bytes()) {
            Ok(read) => {
                assert_eq!(case["ok"], true, "{case}");
                assert_eq!(block_to_json(&read), case["decoded"], "{case}");
            }
            Err(error) => assert_eq!(case["ok"], false, "{error}: {case}"),
        },
        "encodeValue" => {
            let value = optional(&case["value"]).map(hex);
            match encode_value(value.as_deref(), &value_options(&case["opts"])) {
                Ok(bytes) => assert_eq!(Some(to_hex(&bytes).as_str()), case["hex"].as_str(), "{case}"),
                Err(error) => assert!(case.get("error").is_some(), "{error}: {case}"),
            }
        }
        "decodeValue" => {
            if case["opts"].as_object().is_some_and(|opts| !opts.is_empty()) {
                return Err("decodeValue with keys".into());
            }
            match decode_value(&bytes()) {
                Ok(value) => assert_eq!(json!(value.as_deref().map(to_hex)), case["value"], "{case}"),
                Err(error) => assert!(case.get("error").is_some(), "{error}: {case}"),
            }
        }
        kind => return Err(format!("kind {kind}")),
    }
    Ok(())
}

/// A link of a vector.
pub(crate) fn link(value: &Value) -> Link {
    Link {
        key: CoreKey::new(fixed(&value["key"])),
        length: Length(uint(&value["length"])),
    }
}

/// A link as vectors write it.
pub(crate) fn link_to_json(link: &Link) -> Value {
    json!({ "key": link.key.to_hex(), "length": link.length.0 })
}

/// A witness of a vector.
pub(crate) fn witness(value: &Value) -> Witness {
    let backer = &value["backer"];
    Witness {
        weight: Weight(uint(&value["weight"])),
        backer: Backer {
            key: CoreKey::new(fixed(&backer["key"])),
            length: Length(uint(&backer["length"])),
            signature: Signature::new(fixed(&backer["signature"])),
            manifest: hex(&backer["manifest"]).into(),
        },
    }
}

fn block(value: &Value) -> OplogBlock {
    OplogBlock {
        timestamp: Timestamp(uint(&value["timestamp"])),
        links: list(&value["links"]).iter().map(link).collect(),
        batch: optional(&value["batch"])
            .map(|batch| BatchPosition {
                before: uint(&batch["start"]),
                after: uint(&batch["end"]),
            })
            .unwrap_or_default(),
        views: optional(&value["views"]).map(views),
        optimistic: value["optimistic"] == true,
        value: optional(&value["value"]).map(|value| hex(value).into()),
        witness: optional(&value["witness"]).map(witness),
        attestations: optional(&value["attestations"]).map(|all| {
            list(all)
                .iter()
                .map(|value| Attestation {
                    key: CoreKey::new(fixed(&value["key"])),
                    weight: Weight(uint(&value["weight"])),
                    signature: Signature::new(fixed(&value["signature"])),
                })
                .collect()
        }),
        trusted: optional(&value["trusted"]).map(|all| {
            list(all)
                .iter()
                .map(|value| TrustedHead {
                    key: CoreKey::new(fixed(&value["key"])),
                    length: Length(uint(&value["length"])),
                    flushes: uint(&value["flushes"]),
                })
                .collect()
        }),
        ..OplogBlock::default()
    }
}

fn views(value: &Value) -> ViewStamps {
    let stamp = |value: &Value| ViewStamp {
        key: CoreKey::new(fixed(&value["key"])),
        start: Length(uint(&value["start"])),
        length: Length(uint(&value["length"])),
    };
    ViewStamps {
        flushes: uint(&value["flushes"]),
        system: stamp(&value["system"]),
        view: optional(&value["view"]).map(stamp),
    }
}

fn value_options(opts: &Value) -> ValueOptions {
    let legacy = opts["legacy"] == true;
    ValueOptions {
        timestamp: Timestamp(optional(&opts["timestamp"]).map_or(0, uint)),
        links: opts[if legacy { "heads" } else { "links" }]
            .as_array()
            .into_iter()
            .flatten()
            .map(link)
            .collect(),
        views: optional(&opts["views"]).map(views),
        optimistic: opts["optimistic"] == true,
        legacy,
        padding: optional(&opts["padding"]).map_or(0, |padding| usize::try_from(uint(padding)).unwrap()),
        encrypted: opts["encrypted"] == true,
    }
}

fn block_to_json(block: &OplogBlock) -> Value {
    // JavaScript subtracts one from a legacy batch even when it is zero.
    let after = match &block.legacy {
        Some(legacy) if legacy.batch == 0 => json!(-1),
        _ => json!(block.batch.after),
    };
    let stamp = |stamp: &ViewStamp| json!({ "key": stamp.key.to_hex(), "start": stamp.start.0, "length": stamp.length.0 });
    let mut value = json!({
        "version": block.version,
        "timestamp": block.timestamp.0,
        "links": block.links.iter().map(link_to_json).collect::<Vec<_>>(),
        "batch": { "start": block.batch.before, "end": after },
        "views": block.views.as_ref().map(|views| json!({
            "flushes": views.flushes,
            "system": stamp(&views.system),
            "view": views.view.as_ref().map(stamp),
        })),
        "optimistic": block.optimistic,
        "value": block.value.as_deref().map(to_hex),
    });
    if block.legacy.is_none() {
        value["witness"] = json!(block.witness.as_ref().map(|witness| json!({
            "weight": witness.weight.0,
            "backer": {
                "key": witness.backer.key.to_hex(),
                "length": witness.backer.length.0,
                "signature": witness.backer.signature.to_hex(),
                "manifest": to_hex(&witness.backer.manifest),
            },
        })));
        value["attestations"] = json!(block.attestations.as_ref().map(|all| {
            all.iter()
                .map(|attestation| {
                    json!({
                        "key": attestation.key.to_hex(),
                        "weight": attestation.weight.0,
                        "signature": attestation.signature.to_hex(),
                    })
                })
                .collect::<Vec<_>>()
        }));
        value["trusted"] = json!(block.trusted.as_ref().map(|all| {
            all.iter()
                .map(|head| json!({ "key": head.key.to_hex(), "length": head.length.0, "flushes": head.flushes }))
                .collect::<Vec<_>>()
        }));
    }
    value
}

/// The block as the JavaScript schema has it, before it is brought to the common form.
fn raw_to_json(block: &OplogBlock) -> Value {
    let legacy: &Legacy = block.legacy.as_deref().unwrap();
    let checkpointer = |checkpointer: &Checkpointer| {
        json!({
            "checkpointer": checkpointer.pointer,
            "checkpoint": checkpointer.checkpoint.as_ref().map(|signed| json!({
                "signature": signed.signature.to_hex(),
                "length": signed.length.0,
            })),
        })
    };
    let mut value = json!({
        "version": block.version,
        "node": {
            "heads": block.links.iter().map(link_to_json).collect::<Vec<_>>(),
            "batch": legacy.batch,
            "value": block.value.as_deref().map(to_hex),
        },
        "checkpoint": legacy.checkpoint.as_ref().map(|checkpoint| json!({
            "system": checkpoint.system.as_ref().map(checkpointer),
            "encryption": checkpoint.encryption.as_ref().map(checkpointer),
            "user": checkpoint.user.as_ref().map(|user| user.iter().map(checkpointer).collect::<Vec<_>>()),
        })),
        "digest": legacy.digest.as_ref().map(|digest| json!({
            "pointer": digest.pointer,
            "key": digest.key.as_ref().map(CoreKey::to_hex),
        })),
        "optimistic": if block.version == 0 { Value::Null } else { json!(block.optimistic) },
    });
    if block.version == 2 {
        value["trace"] = json!(legacy.trace.as_ref().map(|trace| json!({
            "system": trace.system,
            "encryption": trace.encryption,
            "user": trace.user.iter().map(|view| json!({ "view": view.view, "blocks": view.blocks })).collect::<Vec<_>>(),
        })));
    } else {
        value["maxSupportedVersion"] = json!(legacy.max_supported);
    }
    value
}
