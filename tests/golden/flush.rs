//! The `flush` cases of `system_records.json`: batches and membership calls, and what each flush writes.

use autobee::crypto::CoreKey;
use autobee::engine::system::{Flush, System, SystemWrite};
use autobee::wire::{Length, Link, Timestamp, Weight};
use serde_json::{Value, json};

use super::oplog::{link, link_to_json};
use super::{fixed, list, text, to_hex, uint};

pub(crate) fn check(case: &Value) {
    let mut system = System::default();
    for step in list(&case["steps"]) {
        let nodes = list(&step["batch"]);
        let writer = key(&nodes[0]["key"]);
        let mut flush = Flush::new(&system, writer, Weight(uint(&nodes[0]["weight"])));
        for call in list(&step["before"]) {
            assert_eq!((text(&call[0]), key(&call[1])), ("addWriter", writer), "{call}");
            assert_eq!(call[2], json!({"weight": 2, "isGenesis": true}));
            flush.grant_genesis();
        }
        for node in nodes {
            assert_eq!(key(&node["key"]), writer);
            let links: Vec<Link> = list(&node["links"]).iter().map(link).collect();
            flush.record(
                Length(uint(&node["length"])),
                Timestamp(uint(&node["timestamp"])),
                &links,
            );
        }
        for call in list(&step["calls"]) {
            let target = key(&call[1]);
            match text(&call[0]) {
                "addWriter" => flush.add_writer(target, weight(&call[2])),
                "removeWriter" => flush.remove_writer(target),
                "ackWriter" => flush.ack_writer(target),
                "addAnchor" => flush.add_anchor(target),
                call => panic!("call {call}"),
            }
        }
        let may = &step["canApply"];
        assert_eq!(
            flush.may_apply(may["optimistic"] == true),
            may["result"] == true,
            "{step}"
        );

        let flushed = flush.finish();
        let writes = flushed.writes(link(&step["view"])).unwrap();
        assert_eq!(
            json!(writes.iter().map(write_to_json).collect::<Vec<_>>()),
            step["writes"],
            "{step}"
        );
        let grants = flushed.grants.iter();
        let grants = grants.map(|grant| json!({"key": grant.key.to_hex(), "weight": grant.weight.0}));
        assert_eq!(json!(grants.collect::<Vec<_>>()), step["witnessed"], "{step}");
        let changes = flushed.changes.iter().map(
            |change| json!({"key": change.key.to_hex(), "added": change.added, "isAnchor": change.is_anchor}),
        );
        assert_eq!(json!(changes.collect::<Vec<_>>()), step["changed"], "{step}");
        system = flushed.system;
        let heads = system.heads().iter().map(|head| link_to_json(&head));
        assert_eq!(json!(heads.collect::<Vec<_>>()), step["heads"], "{step}");
        assert_eq!(system.flushes(), uint(&step["flushes"]));
        assert_eq!(system.timestamp().0, uint(&step["timestamp"]));
    }
}

/// `{weight}`, 1 by default: that of 2 for indexers is made by the host, not by the system.
fn weight(options: &Value) -> Weight {
    Weight(options["weight"].as_u64().unwrap_or(1))
}

fn key(value: &Value) -> CoreKey {
    CoreKey::new(fixed(value))
}

fn write_to_json(write: &SystemWrite) -> Value {
    match write {
        SystemWrite::Put { key, value } => json!(["put", to_hex(key), to_hex(value)]),
        SystemWrite::Delete { key } => json!(["del", to_hex(key), null]),
    }
}
