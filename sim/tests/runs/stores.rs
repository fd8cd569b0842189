//! What real stores and exported logs hold, against the model.

use std::time::Duration;

use autobee::Corestore;
use autobee::crypto::CoreKey;
use autobee::db::Autobee;
use autobee::env::{Disk as _, Open};
use autobee::hypercore::{CoreOptions, Wait};
use autobee::wire::Index;
use autobee_sim::workload::{JsonApply, Op};
use autobee_sim::{ExportedLogs, World, WorldConfig, check_logs, check_store};
use bytes::Bytes;

/// How long opening may take, in virtual time.
const OPEN_LIMIT: Duration = Duration::from_secs(120);

/// A store that a database of this engine wrote, as files.
fn store(planted: &str) -> (Vec<(String, Vec<u8>)>, CoreKey) {
    let world = World::new(WorldConfig {
        ed25519: true,
        seed: 5,
        planted: [planted.to_owned()].into(),
        ..WorldConfig::default()
    });
    let id = world.add_replica("writer").unwrap();
    let env = world.env(id);
    let batches: Vec<Vec<Bytes>> = (0..12).map(put).collect();
    let key = world
        .block_on_for(id, OPEN_LIMIT, async move {
            let store = Corestore::open_default(env.clone()).await.unwrap();
            let db = Autobee::builder(store).name("writer").apply(JsonApply);
            let db = db.open().await.unwrap();
            for batch in batches {
                db.append_batch(batch).await.unwrap();
            }
            db.close().await.unwrap();
            db.key()
        })
        .unwrap();
    let disk = world.disk(id);
    let files = disk.list().unwrap().into_iter().map(|name| {
        let file = disk.open(&name, Open::Read).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(0, &mut bytes).unwrap();
        (name, bytes)
    });
    (files.collect(), key)
}

fn put(number: u64) -> Vec<Bytes> {
    let put = |of: u64| {
        Op::put(format!("k{}", of % 3), format!("v{number}"))
            .to_value()
            .into()
    };
    vec![put(number), put(number + 1)]
}

#[test]
fn a_store_is_what_the_model_makes_of_its_blocks() {
    let (files, key) = store("");
    let verdict = check_store(&files, key, None).unwrap();
    assert_eq!((verdict.logs, verdict.entries), (1, 24));
    assert_eq!(verdict.told.failure, None, "{}", verdict.told);
}

#[test]
fn a_store_that_holds_something_else_is_told_with_the_entry() {
    let (files, key) = store("put_of_equal_length_skipped");
    let told = check_store(&files, key, None).unwrap().told;
    assert_eq!(told.failure.as_deref(), Some("reference"));
    let value = told.value.clone().unwrap();
    assert!(
        value.our_value != value.their_value && value.differing > 0,
        "{told}"
    );
    assert!(
        told.entries.iter().any(|entry| entry.starts_with("creator@")),
        "{told}"
    );
}

#[test]
fn another_key_and_no_files_are_told() {
    let (mut files, key) = store("");
    let other = check_store(&files, CoreKey::new([9; 32]), None);
    let is_judged_right = other.is_ok_and(|verdict| verdict.entries > 0);
    assert!(!is_judged_right);
    files.clear();
    let empty = check_store(&files, key, None);
    assert!(!empty.is_ok_and(|verdict| verdict.entries > 0));
}

/// The log of a database as lines, and its key.
fn exported() -> (String, CoreKey) {
    let world = World::new(WorldConfig {
        ed25519: true,
        seed: 6,
        ..WorldConfig::default()
    });
    let id = world.add_replica("writer").unwrap();
    let env = world.env(id);
    let exported = world.block_on_for(id, OPEN_LIMIT, async move {
        let store = Corestore::open_default(env).await.unwrap();
        let builder = Autobee::builder(store.clone()).name("writer").apply(JsonApply);
        let db = builder.open().await.unwrap();
        for number in 0..5 {
            db.append_batch(put(number)).await.unwrap();
        }
        let core = store.get(CoreOptions::key(db.key())).await.unwrap();
        let head = core.peer_access().offered().unwrap();
        let mut text = String::from("{\"format\":\"hypercore-logs\",\"version\":1}\n");
        let line = serde_json::json!({
            "log": db.key().to_hex(),
            "manifest": core.manifest().unwrap().map(|manifest| hex(manifest.as_bytes())),
            "fork": head.tree.fork(),
            "length": head.tree.length(),
            "signature": hex(&head.signature.unwrap()),
        });
        text += &format!("{line}\n");
        for index in 0..head.tree.length() {
            let block = core.get(Index(index), Wait::Local).await.unwrap();
            text += &format!("{{\"block\":\"{}\"}}\n", hex(&block));
        }
        let empty = CoreKey::new([8; 32]).to_hex();
        text += &format!("{{\"left_out\":\"{empty}\",\"why\":\"is empty\"}}\n");
        (text, db.key())
    });
    exported.unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn exported_logs_are_what_the_model_makes_of_them() {
    let (text, key) = exported();
    let logs = ExportedLogs::parse(&text).unwrap();
    assert_eq!(logs.left_out().len(), 1);
    let verdict = check_logs(&logs, key, None).unwrap();
    assert_eq!((verdict.logs, verdict.entries), (2, 10));
    assert!(verdict.keys > 0);
    assert_eq!(verdict.told.failure, None, "{}", verdict.told);
}

#[test]
fn what_is_wrong_with_exported_logs_is_told_with_the_line() {
    let (text, _) = exported();
    let lines: Vec<&str> = text.lines().collect();
    let told = |lines: &[&str]| ExportedLogs::parse(&lines.join("\n")).unwrap_err().to_string();
    assert!(told(&lines[1..]).contains("line 1"), "no first line");
    assert!(told(&lines[..4]).contains("the file ends with 2 of"), "cut");
    let missing = [&lines[..3], &lines[4..]].concat();
    assert!(told(&missing).contains("blocks"), "{}", told(&missing));
    let mut swapped = lines.clone();
    swapped.swap(2, 3);
    assert!(told(&swapped).contains("signature"), "{}", told(&swapped));
    for (wrong, expected) in [
        ("{}", "line 3: expected a log"),
        ("{\"block\":\"0g\"}", "line 3: expected hex"),
    ] {
        let mut lines = lines.clone();
        lines[2] = wrong;
        assert!(told(&lines).contains(expected), "{}", told(&lines));
    }
}
