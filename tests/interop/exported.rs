//! Logs that are exported from a store of Node, and held against the reference model.

use std::path::Path;
use std::process::Command;

use autobee::Autobee;
use autobee_sim::workload::{JsonApply, Op};
use autobee_sim::{ExportedLogs, check_logs};
use serde_json::json;

use crate::{Node, Ours, Role, hex, texts};

/// What the database puts.
const PUTS: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_of_a_store_of_node_are_held_against_the_model() {
    let Some(mut node) = Node::start() else { return };
    let ours = Ours::new("exported").await;
    let builder = Autobee::builder(ours.store.clone()).apply(JsonApply);
    let db = builder.open().await.unwrap();
    for number in 0..PUTS {
        let op = Op::put(format!("k{}", number % 7), format!("v{number}"));
        db.append(op.to_value()).await.unwrap();
    }
    let key = db.key();
    let log = ours
        .store
        .get(autobee::hypercore::CoreOptions::key(key))
        .await
        .unwrap();

    // Beside it a log that was cut back once, one that is encrypted, and one of which Node has a block in the middle alone.
    node.open("cut", &json!({ "name": "cut" }));
    node.append("cut", &texts("cut", 0..9));
    node.ask(&json!({ "do": "truncate", "core": "cut", "length": 4 }));
    node.append("cut", &texts("again", 0..3));
    node.open(
        "sealed",
        &json!({ "name": "sealed", "encryption": hex(&[9; 32]) }),
    );
    node.append("sealed", &texts("sealed", 0..3));
    let sparse = ours.named("sparse").await;
    sparse.append(crate::bytes(&texts("sparse", 0..5))).await.unwrap();
    let port = node.ask(&json!({ "do": "listen", "initiator": false }))["port"].clone();
    let _session = ours.dial(&port, Role::Initiator).await;
    node.open("sparse", &json!({ "key": hex(sparse.key().as_bytes()) }));
    node.ask(&json!({ "do": "get", "core": "sparse", "index": 3 }));
    node.open("ours", &json!({ "key": hex(key.as_bytes()) }));
    node.ask(&json!({ "do": "follow", "core": "ours" }));
    let blocks = log.length().unwrap().0;
    node.ask(&json!({ "do": "whole", "core": "ours", "length": blocks }));

    let folder = node.ask(&json!({ "do": "folder" }))["folder"].clone();
    let exported = export(folder.as_str().unwrap());
    let logs = ExportedLogs::parse(&exported).unwrap();
    let [(left_out, why)] = logs.left_out() else {
        panic!("{:?}", logs.left_out());
    };
    assert_eq!(*left_out, sparse.key());
    assert!(why.contains("holes"), "{why}");
    let verdict = check_logs(&logs, key, None).unwrap();
    assert_eq!(verdict.told.failure, None, "{}", verdict.told);
    assert_eq!(verdict.entries as u64, PUTS);
    node.is_content(1);
    db.close().await.unwrap();

    // A block that its owner did not sign.
    let forged = exported.replacen("{\"block\":\"", "{\"block\":\"00", 1);
    let error = ExportedLogs::parse(&forged).unwrap_err().to_string();
    assert!(error.contains("signature"), "{error}");
}

/// What `sim/node/export.js` writes of a store, with the packages of this folder.
fn export(store: &str) -> String {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("node")
        .arg(package.join("sim/node/export.js"))
        .arg(store)
        .current_dir(package.join("tests/interop"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}
