//! Recorded blocks of real peers through the engine: every delivery must come to the recorded state.

use std::collections::BTreeMap;

use autobee::apply::{ApplyFn, LocalTree};
use autobee::bee::{Blocks as _, Range};
use autobee::crypto::{CoreKey, Ed25519, PublicKey};
use autobee::engine::encryption::{DatabaseCipher, DatabaseKeys, SYSTEM_NAME};
use autobee::engine::{Engine, EngineOptions, Trees};
use autobee::hypercore::encryption::BlockCipher as _;
use autobee::hypercore::manifest::{Manifest, ManifestOptions, Signer};
use autobee::wire::{Index, Timestamp};
use autobee_sim::workload::JsonApply;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{fixed, hex, list, optional, to_hex, uint};

/// Blocks were recorded in the past; the clock of the test is ahead of all of them.
const NOW: Timestamp = Timestamp(1 << 50);

/// For the caches of each engine.
const CACHE_BYTES: usize = 1 << 20;

/// Feeds a case to an engine in each of its deliveries and compares what comes out with `wanted`. What the case needs
/// and the engine does not have is the error.
pub(crate) fn check(
    case: &Value,
    deliveries: &[Vec<Vec<(CoreKey, u64)>>],
    wanted: &Value,
) -> Result<(), String> {
    if case.get("moveTo").is_some() {
        return super::fast_forward::check(case);
    }
    let keys = keys(case);
    let blocks: BTreeMap<CoreKey, Vec<Bytes>> = list(&case["writers"])
        .iter()
        .map(|writer| {
            (
                CoreKey::new(fixed(&writer["key"])),
                clear_blocks(writer, keys.as_ref()),
            )
        })
        .collect();
    let optimistic = case["options"]["optimistic"].as_bool().unwrap_or(true);
    for delivery in deliveries {
        let trees = trees(case);
        let open = || {
            let mut engine = Engine::new(EngineOptions {
                key: CoreKey::new(fixed(&case["bootstrap"])),
                name: String::new(),
                apply: ApplyFn::new(JsonApply),
                optimistic,
                rules: Some(autobee::wire::Rules::interop()),
                verify: Ed25519,
                trees: trees.clone(),
                window_batches: autobee::engine::WINDOW_BATCHES,
            });
            if let Some(keys) = keys.clone() {
                engine.set_keys(keys);
            }
            engine
        };
        let mut engine = open();
        let mut fed: BTreeMap<CoreKey, u64> = BTreeMap::new();
        for step in delivery {
            for (key, length) in step {
                let from = fed.get(key).copied().unwrap_or(0).min(*length);
                fed.insert(*key, from.max(*length));
                let range = usize::try_from(from).unwrap()..usize::try_from(*length).unwrap();
                engine.ingest(*key, Index(from), &blocks[key][range]);
            }
            engine.drain(NOW, usize::MAX).unwrap();
        }
        compare(case, &engine, wanted);
        compare_cores(case, &trees, keys.as_ref());
        let restored = trees.restore(engine.records().head()).unwrap();
        assert_eq!(restored.system, *engine.system(), "{}: restored", case["name"]);
        assert_eq!(restored.view.head(), engine.view().head(), "{}", case["name"]);
        drop(restored);

        let mut again = open();
        again.resume_from(engine.records().head()).unwrap();
        for (key, length) in &fed {
            let length = usize::try_from(*length).unwrap();
            again.ingest(*key, Index(0), &blocks[key][..length]);
        }
        again.drain(NOW, usize::MAX).unwrap();
        compare(case, &again, wanted);
        let heads = |engine: &Engine<_>| (engine.records().head(), engine.view().head());
        assert_eq!(heads(&again), heads(&engine), "{}: taken up", case["name"]);
        // Only those that are refused are tried again.
        let refused = again.stats().applies;
        assert!(
            refused <= engine.stats().applies - again.batches() as u64,
            "{}",
            case["name"]
        );
        drop(again);
        drop(engine);
        let kept = (trees.view.kept(), trees.system.kept());
        assert_eq!(kept, (0, 0), "{}: blocks that no state needs", case["name"]);
    }
    Ok(())
}

pub(crate) fn compare(case: &Value, engine: &Engine<Ed25519>, wanted: &Value) {
    let name = case["name"].as_str().unwrap_or_default();
    // After a fast-forward most entries are in the system tree alone. There each recorded batch is one block.
    let history = engine.history(|_, _| Some(0)).unwrap();
    let order: Vec<Value> = history
        .iter()
        .map(|entry| json!([entry.key.to_hex(), entry.length.0, entry.weight.0]))
        .collect();
    assert_eq!(Value::Array(order), wanted["order"], "{name}: order");
    let view: Vec<Value> = engine
        .view()
        .range(Range::all())
        .unwrap()
        .iter()
        .map(|(key, value)| json!([to_hex(key), to_hex(value)]))
        .collect();
    assert_eq!(Value::Array(view), wanted["view"], "{name}: view");
    for writer in wanted["writers"].as_array().into_iter().flatten() {
        let record = engine.system().record(&CoreKey::new(fixed(&writer["key"])));
        let record = record.unwrap_or_else(|| panic!("{name}: no record of {}", writer["key"]));
        let found = json!({
            "key": writer["key"],
            "isRemoved": record.is_removed,
            "isOplog": record.is_oplog,
            "weight": record.weight.0,
            "maxWeight": record.max_weight.map(|weight| weight.0),
            "length": record.length.0,
            "clock": record.clock,
            "isGenesis": record.is_genesis,
            "isAnchor": record.is_anchor,
            "timestamp": record.timestamp,
        });
        assert_eq!(&found, writer, "{name}: record");
    }
    assert_eq!(
        engine.system().records().count(),
        list(&wanted["writers"]).len(),
        "{name}: number of records"
    );
    if let Some(info) = wanted.get("info") {
        let heads: Vec<Value> = engine
            .system()
            .heads()
            .iter()
            .map(|head| json!([head.key.to_hex(), head.length.0]))
            .collect();
        assert_eq!(Value::Array(heads), info["heads"], "{name}: heads");
        assert_eq!(
            engine.system().flushes(),
            uint(&info["flushes"]),
            "{name}: flushes"
        );
        assert_eq!(
            engine.system().timestamp().0,
            uint(&info["timestamp"]),
            "{name}: timestamp"
        );
    }
}

/// Trees in the cores of the first recorded peer.
fn trees(case: &Value) -> Trees {
    let peer = &case["peers"][0];
    match (peer["viewCore"].as_str(), peer["systemCore"].as_str()) {
        (Some(_), Some(_)) => {
            let [view, system] = ["viewCore", "systemCore"].map(|core| CoreKey::new(fixed(&peer[core])));
            Trees::new(view, system, CACHE_BYTES)
        }
        _ => Trees::unshared(&CoreKey::new(fixed(&case["bootstrap"])), CACHE_BYTES),
    }
    .unwrap()
}

/// What one writer alone does, it writes in the same blocks in whatever portions it comes. With several writers the
/// blocks tell how the order came about, and nobody else's are like them.
fn compare_cores(case: &Value, trees: &Trees, keys: Option<&DatabaseKeys>) {
    let Some(cores) = case.get("cores").filter(|_| list(&case["writers"]).len() == 1) else {
        return;
    };
    for (tree, name) in [(&trees.view, "view"), (&trees.system, SYSTEM_NAME)] {
        let cipher = keys.map(|keys| keys.view(name));
        let key = tree.core().to_hex();
        let recorded = list(cores).iter().find(|core| core["key"] == json!(key));
        let recorded = recorded.unwrap_or_else(|| panic!("{}: no core {key}", case["name"]));
        assert_eq!(
            json!(blocks_of(tree, cipher.as_ref())),
            recorded["blocks"],
            "{}: {}",
            case["name"],
            recorded["role"]
        );
    }
}

fn blocks_of(tree: &LocalTree, cipher: Option<&DatabaseCipher>) -> Vec<String> {
    (0..tree.length().0)
        .map(|index| {
            let block = tree.block(&tree.core(), Index(index)).unwrap();
            to_hex(&stored(cipher, index, &block))
        })
        .collect()
}

/// The keys of a case, if it is encrypted.
pub(crate) fn keys(case: &Value) -> Option<DatabaseKeys> {
    let key = optional(case.get("encryptionKey").unwrap_or(&Value::Null))?;
    Some(DatabaseKeys::new(
        CoreKey::new(fixed(&case["bootstrap"])),
        fixed(key),
    ))
}

/// The manifest of a recorded writer.
pub(crate) fn manifest(writer: &Value) -> Manifest {
    let options = ManifestOptions {
        version: Some(2),
        signers: vec![Signer::new(PublicKey::new(fixed(&writer["publicKey"])))],
        ..ManifestOptions::default()
    };
    Manifest::new(options).unwrap()
}

/// The blocks of a recorded writer. What cannot be decrypted is passed on as it is: the engine finds out.
pub(crate) fn clear_blocks(writer: &Value, keys: Option<&DatabaseKeys>) -> Vec<Bytes> {
    let key = CoreKey::new(fixed(&writer["key"]));
    let cipher = keys.map(|keys| keys.writer(&key, &manifest(writer)));
    let blocks = (0..).zip(list(&writer["blocks"])).map(|(index, block)| {
        let mut block = hex(block);
        if let Some(cipher) = &cipher
            && cipher.decrypt(index, &mut block).is_ok()
        {
            block.drain(..cipher.padding(index));
        }
        block.into()
    });
    blocks.collect()
}

/// A block as it is stored.
pub(crate) fn stored(cipher: Option<&DatabaseCipher>, index: u64, clear: &[u8]) -> Vec<u8> {
    let Some(cipher) = cipher else {
        return clear.to_vec();
    };
    let mut block = vec![0; cipher.padding(index)];
    block.extend_from_slice(clear);
    cipher.encrypt(index, 0, &mut block).unwrap();
    block
}

/// The deliveries of a scenario: drained after each pair.
pub(crate) fn scenario_deliveries(case: &Value) -> Vec<Vec<Vec<(CoreKey, u64)>>> {
    let deliveries = case["deliveries"].as_array().into_iter().flatten();
    deliveries
        .map(|delivery| {
            list(&delivery["delivery"])
                .iter()
                .map(|pair| vec![read_pair(pair)])
                .collect()
        })
        .collect()
}

/// The deliveries of a divergence: drained after each feed. The original does not survive all of them to their end, so
/// each is followed by whatever the others delivered.
pub(crate) fn divergence_deliveries(case: &Value) -> Vec<Vec<Vec<(CoreKey, u64)>>> {
    let runs = case["runs"].as_array().into_iter().flatten();
    let runs: Vec<Vec<Vec<(CoreKey, u64)>>> = runs
        .map(|run| {
            let steps = list(&run["delivery"]).iter();
            steps
                .map(|step| list(&step["feed"]).iter().map(read_pair).collect())
                .collect()
        })
        .collect();
    let everything: Vec<(CoreKey, u64)> = runs.concat().concat();
    runs.into_iter()
        .map(|run| run.into_iter().chain([everything.clone()]).collect())
        .collect()
}

fn read_pair(pair: &Value) -> (CoreKey, u64) {
    (CoreKey::new(fixed(&pair[0])), uint(&pair[1]))
}
