//! `system_records.json`: records of the system view, and user data of cores.

use autobee::crypto::CoreKey;
use autobee::wire::system::{AutobaseBoot, InfoRecord, ManifestData, SystemKey, WriterRecord};
use autobee::wire::{Decode, DecodeError, Encode as _, Length, Link, Timestamp, Weight};
use serde_json::{Value, json};

use super::oplog::{link, link_to_json};
use super::{fixed, hex, list, optional, text, to_hex, uint};

pub(crate) fn check(case: &Value) -> Result<(), String> {
    let input = &case["input"];
    match text(&case["kind"]) {
        "keys" => {
            let writer = CoreKey::new(fixed(&case["writer"]));
            for (key, field) in [
                (SystemKey::Info, "info"),
                (SystemKey::LegacyInfo, "legacyInfo"),
                (SystemKey::Writer(writer), "writerKey"),
                (SystemKey::Indexer(writer), "indexerKey"),
            ] {
                assert_eq!(to_hex(&key.to_bytes()), case[field], "{case}");
                assert_eq!(SystemKey::from_bytes(&hex(&case[field])), Some(key), "{case}");
            }
        }
        "writer" => {
            assert_eq!(to_hex(&writer(input).to_bytes().unwrap()), case["hex"], "{case}");
            read(case, writer_to_json);
        }
        "writer-decode" => read(case, writer_to_json),
        "info" => {
            assert_eq!(to_hex(&info(input).to_bytes().unwrap()), case["hex"], "{case}");
            read(case, info_to_json);
        }
        "info-decode" => read(case, info_to_json),
        "boot-record" => {
            assert_eq!(to_hex(&link(input).to_bytes().unwrap()), case["hex"], "{case}");
            read(case, |link: Link| link_to_json(&link));
        }
        "previous-drain" => {
            assert_eq!(to_hex(&uint(input).to_bytes().unwrap()), case["hex"], "{case}");
            assert_eq!(u64::from_bytes(&hex(&case["hex"])), Ok(uint(input)), "{case}");
        }
        "manifest-data" => {
            let data = ManifestData {
                version: uint(&input["version"]),
                legacy_blocks: uint(&input["legacyBlocks"]),
                namespace: optional(&input["namespace"]).map(fixed),
            };
            assert_eq!(to_hex(&data.to_bytes().unwrap()), case["hex"], "{case}");
            read(case, |data: ManifestData| {
                json!({
                    "version": data.version,
                    "legacyBlocks": data.legacy_blocks,
                    "namespace": data.namespace.map(|namespace| to_hex(&namespace)),
                })
            });
        }
        "autobase-boot-decode" => read(case, |boot| boot_to_json(&boot)),
        "flush" => super::flush::check(case),
        kind => return Err(format!("kind {kind}")),
    }
    Ok(())
}

/// Decodes the case's bytes and compares, or expects a failure where the case says so.
fn read<T: Decode>(case: &Value, to_json: impl Fn(T) -> Value) {
    let result: Result<T, DecodeError> = T::from_bytes(&hex(&case["hex"]));
    match result {
        Ok(value) => {
            assert_ne!(case["ok"], false, "{case}");
            assert_eq!(to_json(value), case["decoded"], "{case}");
        }
        Err(error) => assert_eq!(case["ok"], false, "{error}: {case}"),
    }
}

fn writer(value: &Value) -> WriterRecord {
    WriterRecord {
        is_removed: value["isRemoved"] == true,
        is_oplog: value["isOplog"] == true,
        is_genesis: value["isGenesis"] == true,
        is_anchor: value["isAnchor"] == true,
        weight: Weight(uint(&value["weight"])),
        max_weight: Some(Weight(uint(&value["maxWeight"]))),
        length: Length(uint(&value["length"])),
        clock: uint(&value["clock"]),
        timestamp: value["timestamp"].as_i64().unwrap(),
        ..WriterRecord::default()
    }
}

fn writer_to_json(record: WriterRecord) -> Value {
    match record.max_weight {
        // JavaScript keeps the bare flag of an Autobase record.
        None => json!({
            "version": 0,
            "isRemoved": if record.is_removed { 2 } else { 0 },
            "weight": record.weight.0,
            "length": record.length.0,
        }),
        Some(max_weight) => json!({
            "version": record.version,
            "isRemoved": record.is_removed,
            "isOplog": record.is_oplog,
            "weight": record.weight.0,
            "maxWeight": max_weight.0,
            "length": record.length.0,
            "clock": record.clock,
            "isGenesis": record.is_genesis,
            "isAnchor": record.is_anchor,
            "timestamp": record.timestamp,
        }),
    }
}

fn info(value: &Value) -> InfoRecord {
    InfoRecord {
        timestamp: Timestamp(uint(&value["timestamp"])),
        flushes: uint(&value["flushes"]),
        view: Some(link(&value["view"])),
        heads: list(&value["heads"]).iter().map(link).collect(),
        indexers: optional(&value["indexers"]).map(|all| list(all).iter().map(link).collect()),
        ..InfoRecord::default()
    }
}

fn info_to_json(record: InfoRecord) -> Value {
    let links = |links: &[Link]| links.iter().map(link_to_json).collect::<Vec<_>>();
    let indexers = record.indexers.as_deref().map(links);
    let heads = links(&record.heads);
    match record.legacy {
        None => json!({
            "version": record.version,
            "timestamp": record.timestamp.0,
            "flushes": record.flushes,
            "view": record.view.as_ref().map(link_to_json),
            "heads": heads,
            "indexers": indexers,
        }),
        // JavaScript hands version 2 out as it is; we bring it to the common form like version 1.
        Some(legacy) if record.version == 2 => json!({
            "version": record.version,
            "members": legacy.members,
            "pendingIndexers": legacy.pending_indexers.iter().map(CoreKey::to_hex).collect::<Vec<_>>(),
            "indexers": indexers,
            "heads": heads,
            "views": links(&legacy.views),
            "encryptionLength": legacy.encryption_length,
            "entropy": legacy.entropy.map(|entropy| to_hex(&entropy)),
        }),
        Some(legacy) => json!({
            "version": record.version,
            "timestamp": record.timestamp.0,
            "flushes": record.flushes,
            "view": record.view.as_ref().map(link_to_json),
            "views": links(&legacy.views),
            "heads": heads,
            "indexers": indexers,
        }),
    }
}

fn boot_to_json(boot: &AutobaseBoot) -> Value {
    let mut value = json!({
        "version": boot.version,
        "key": boot.system.key.to_hex(),
        "systemLength": boot.system.length.0,
        "indexersUpdated": boot.indexers_updated,
        "fastForwarding": boot.fast_forwarding,
        "recoveries": boot.recoveries,
    });
    if boot.version == 0 {
        value["migrating"] = json!(false);
        value["heads"] = json!(boot.heads.iter().map(link_to_json).collect::<Vec<_>>());
    }
    value
}
