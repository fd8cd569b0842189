//! The trees of a database in cores of its store: what a crash leaves, and what the format can hold.

use std::sync::Arc;
use std::time::Duration;

use autobee::bee::{Bee, BeeSettings, StoredBee};
use autobee::crypto::{CoreKey, Ed25519, KeyPair, Seed, Sign as _};
use autobee::db::Durability;
use autobee::engine::WINDOW_BATCHES;
use autobee::env::memory::MemoryEnv;
use autobee::env::{Env as _, Spawn as _};
use autobee::hypercore::{Core, CoreOptions, Corestore, CorestoreOptions, Wait};
use autobee::replication::session::{Replication, SessionSettings};
use autobee::store::{Seglog, StoreEngine as _, StoreHandle};
use autobee::wire::oplog::OplogBlock;
use autobee::wire::system::SystemKey;
use autobee::wire::{Decode as _, Encode as _, Index, InfoRecord, Length, Link, Timestamp};
use autobee::{Autobee, Role, Settings};
use autobee_sim::disk::{Choose as _, DiskCrash, Seeded, SimDisk};
use autobee_sim::workload::{JsonApply, Op};
use bytes::Bytes;

const SEEDS: u64 = 40;
const STEPS: u32 = 30;

type Store = Corestore<MemoryEnv>;

async fn store_on(env: &MemoryEnv, disk: &SimDisk) -> Store {
    let (store, owner) = StoreHandle::new(Seglog::default().open(Arc::new(disk.clone())).unwrap());
    env.spawn().dedicated("store", owner);
    Corestore::open(env.clone(), store, CorestoreOptions::default())
        .await
        .unwrap()
}

async fn database(store: Store, durability: Durability) -> Autobee<MemoryEnv> {
    let settings = Settings::with(|settings| settings.durability = durability);
    database_with(store, settings).await
}

async fn database_with(store: Store, settings: Settings) -> Autobee<MemoryEnv> {
    let builder = Autobee::builder(store).apply(JsonApply).settings(settings);
    // The creator's log is made again elsewhere from its key pair alone.
    let builder = builder.rules(autobee::Rules::interop());
    builder.open().await.unwrap()
}

async fn tree_core(store: &Store, namespace: &str) -> Core<MemoryEnv> {
    store
        .namespace(namespace)
        .get(CoreOptions::name("bee"))
        .await
        .unwrap()
}

/// The info record where the boot record says, and the entries of the view that it names. None before the first one.
async fn booted(store: &Store) -> Option<(InfoRecord, Vec<(Bytes, Bytes)>)> {
    let local = store.get(CoreOptions::name("local")).await.unwrap();
    let boot = local.user_data("autobee/head").unwrap()?;
    let boot = Link::from_bytes(&boot).unwrap();
    let bee = Bee::new(BeeSettings::default()).unwrap();
    let open = async |namespace: &str, head: Link| {
        let core = tree_core(store, namespace).await;
        assert!(head.key == core.key() && head.length <= core.length().unwrap());
        StoredBee::open(&bee, store.clone(), core, Some(head)).unwrap()
    };
    if boot.length == Length::ZERO {
        return None;
    }
    let system = open("system", boot).await;
    let info = system
        .get(&SystemKey::Info.to_bytes(), Wait::Local)
        .await
        .unwrap();
    let info = InfoRecord::from_bytes(&info.unwrap().value.unwrap()).unwrap();
    let view = open("view", info.view.unwrap()).await;
    let entries = view.range(autobee::bee::Range::all(), Wait::Local).await.unwrap();
    let entries = entries
        .into_iter()
        .filter_map(|entry| entry.value.map(|value| (entry.key, value)));
    Some((info, entries.collect()))
}

/// ```text
/// append ... append, the power is cut        the logs alone, in a store of their own
///        \-- what the store says of the trees    \-- applied anew
///             \-- opened again                        must be the same
/// ```
#[test]
fn after_a_power_cut_the_trees_are_those_of_the_logs() {
    let (mut taken_up, mut lost) = (0, 0);
    for seed in 0..SEEDS {
        let env = MemoryEnv::new(seed);
        let counts = env.run(cut_power(env.clone(), seed));
        let counts = counts.unwrap_or_else(|| panic!("seed {seed}: waits for something that cannot happen"));
        taken_up += counts.0;
        lost += counts.1;
    }
    assert!(taken_up > 0 && lost > 0, "{taken_up} entries found, {lost} lost");
}

/// Gives how many entries were found again after all cuts, and how many were lost.
async fn cut_power(env: MemoryEnv, seed: u64) -> (u64, u64) {
    let mut choice = Seeded::new(seed);
    let mut disk = SimDisk::new(seed);
    let (mut taken_up, mut lost, mut appended) = (0, 0, 0);
    let windows = [1, 4, WINDOW_BATCHES];
    let settings = Settings::with(|settings| {
        settings.durability = Durability::Visible;
        settings.window_batches = windows[usize::try_from(seed % 3).unwrap()];
    });
    let mut db = database_with(store_on(&env, &disk).await, settings.clone()).await;
    for step in 0..STEPS {
        if choice.below(6) > 0 {
            let value = Op::put(format!("{}", choice.below(20)), format!("{seed} {step}")).to_value();
            appended = db.append(value).await.unwrap().0;
            continue;
        }
        if choice.below(3) == 0 {
            db.close().await.unwrap();
        }
        let how = DiskCrash::ALL[choice.below(6) as usize];
        drop(db);
        disk = disk.crash(how, &mut choice);
        let context = format!("seed {seed}, step {step}, {how:?}");

        let store = store_on(&env, &disk).await;
        let local = store.get(CoreOptions::name("local")).await.unwrap();
        let pair = local.key_pair().unwrap().unwrap();
        let length = local.length().unwrap();
        let log: Vec<Bytes> = (0..length.0)
            .map(|index| local.get_local(Index(index)).unwrap().unwrap())
            .collect();
        let applied = booted(&store).await.map_or(0, |(info, _)| {
            assert_eq!(info.heads.len(), 1, "{context}");
            info.heads[0].length.0
        });
        // What is written here is written together with what it led to.
        assert_eq!(applied, length.0, "{context}");
        if let Some((_, entries)) = booted(&store).await {
            let replayed = replay(&env, &pair, &log[..usize::try_from(applied).unwrap()]).await;
            assert_eq!(entries, replayed.view().all().await.unwrap(), "{context}");
        }
        drop(local);

        let before = lengths(&store).await;
        db = database_with(store.clone(), settings.clone()).await;
        assert_eq!(db.stats().applies, 0, "{context}");
        assert!(
            db.held().batches <= 2 * settings.window_batches + 2,
            "{context}: {:?}",
            db.held()
        );
        assert_eq!(
            lengths(&store).await,
            before,
            "{context}: nothing is written again"
        );
        taken_up += length.0;
        lost += appended - length.0;
        appended = length.0;
        let replayed = replay(&env, &pair, &log).await;
        assert_eq!(db.order().unwrap(), replayed.order().unwrap(), "{context}");
        assert_eq!(db.writers(), replayed.writers(), "{context}");
        assert_eq!(
            db.view().all().await.unwrap(),
            replayed.view().all().await.unwrap(),
            "{context}"
        );
    }
    db.close().await.unwrap();
    (taken_up, lost)
}

async fn lengths(store: &Store) -> [u64; 2] {
    let [system, view] = [tree_core(store, "system").await, tree_core(store, "view").await];
    [system, view].map(|core| core.length().unwrap().0)
}

/// A database of this log alone, in a store that has nothing else.
async fn replay(env: &MemoryEnv, pair: &KeyPair, log: &[Bytes]) -> Autobee<MemoryEnv> {
    let store = store_on(env, &SimDisk::new(0)).await;
    let core = writer(&store, pair.clone()).await;
    core.append(log.to_vec()).await.unwrap();
    let builder = Autobee::builder(store).key(core.key()).apply(JsonApply);
    builder.open().await.unwrap()
}

async fn writer(store: &Store, pair: KeyPair) -> Core<MemoryEnv> {
    let mut options = CoreOptions::key_pair(pair);
    options.manifest_version = 2;
    store.get(options).await.unwrap()
}

/// ```text
/// creator: adds all ---- w1: one entry
///                   \--- w2: one entry
///                   \--- ...
/// ```
#[test]
fn two_hundred_heads_are_written_and_read_again() {
    const WRITERS: u8 = 200;
    let env = MemoryEnv::new(1);
    let ended = env.run(async {
        let disk = SimDisk::new(1);
        let store = store_on(&env, &disk).await;
        let db = database(store.clone(), Durability::Visible).await;
        let mut cores = Vec::new();
        for seed in 1..=WRITERS {
            let pair = Ed25519.key_pair(&Seed::new([seed; 32]));
            let core = writer(&store, pair).await;
            db.append(Op::add_writer(core.key(), 1).to_value()).await.unwrap();
            cores.push(core);
        }
        let link = Link {
            key: db.local(),
            length: Length(u64::from(WRITERS)),
        };
        for (at, core) in cores.iter().enumerate() {
            let block = OplogBlock {
                timestamp: Timestamp(at as u64 + 1),
                links: vec![link],
                value: Some(Op::put(format!("{at}"), "here").to_value().into()),
                ..OplogBlock::default()
            };
            let blocks = vec![block.to_bytes().unwrap().into()];
            core.append(blocks).await.unwrap();
            let referrer = Bytes::copy_from_slice(db.key().as_bytes());
            core.set_user_data("referrer", Some(referrer)).await.unwrap();
        }
        db.close().await.unwrap();

        // All at once, and then from the tree as it is stored.
        let db = database(store_on(&env, &disk.kill()).await, Durability::Visible).await;
        let order = db.order().unwrap();
        assert_eq!(order.len(), 2 * usize::from(WRITERS));
        db.close().await.unwrap();
        let store = store_on(&env, &disk.kill()).await;
        let (info, entries) = booted(&store).await.unwrap();
        assert_eq!(info.heads.len(), usize::from(WRITERS));
        assert!(
            info.to_bytes().unwrap().len() > 1024,
            "beyond what a tree holds inline"
        );
        let heads: std::collections::BTreeSet<CoreKey> = info.heads.iter().map(|head| head.key).collect();
        assert!(cores.iter().all(|core| heads.contains(&core.key())));
        assert!(entries.len() > usize::from(WRITERS));
        let before = lengths(&store).await;
        let db = database(store.clone(), Durability::Visible).await;
        assert_eq!(db.order().unwrap(), order);
        assert_eq!(db.view().all().await.unwrap(), entries);
        assert_eq!((db.stats().applies, lengths(&store).await), (0, before));
    });
    assert!(ended.is_some(), "the test waits for something that cannot happen");
}

/// Whatever was written before, opening takes up the same.
#[test]
fn opening_reads_a_window_and_applies_nothing() {
    const WINDOW: usize = 200;
    let env = MemoryEnv::new(1);
    let ended = env.run(async {
        let disk = SimDisk::new(1);
        let settings = Settings::with(|settings| {
            settings.durability = Durability::Visible;
            settings.window_batches = WINDOW;
        });
        let mut db = database_with(store_on(&env, &disk).await, settings.clone()).await;
        let mut appended = 0;
        for round in 0..4 {
            while appended < 2_500 * (round + 1) {
                let values =
                    (appended..appended + 3).map(|at| Op::put(format!("{}", at % 300), at.to_string()));
                let values = values.map(|op| Bytes::from(op.to_value())).collect();
                appended = db.append_batch(values).await.unwrap().0;
            }
            let found = async |db: &Autobee<MemoryEnv>| {
                let view = db.view().all().await.unwrap();
                (
                    db.order().unwrap(),
                    db.writers(),
                    view,
                    db.views().unwrap().map(|core| core.length),
                )
            };
            let before = found(&db).await;
            assert_eq!(before.0.len() as u64, appended);
            if round % 2 == 0 {
                db.close().await.unwrap();
            }
            drop(db);
            let store = store_on(&env, &disk.kill()).await;
            let written = lengths(&store).await;
            db = database_with(store.clone(), settings.clone()).await;
            let held = db.held();
            assert_eq!((db.stats().applies, lengths(&store).await), (0, written));
            assert!(held.batches <= 2 * WINDOW + 2, "{held:?}");
            assert!(held.blocks <= 8 * WINDOW + 8, "{held:?}");
            assert!(held.checkpoints <= 16, "{held:?}");
            assert!(
                found(&db).await == before,
                "round {round}: it is another database"
            );
        }
    });
    assert!(ended.is_some(), "the test waits for something that cannot happen");
}

/// Who has the key of a tree's core gets its blocks with a signature that holds, and more as they come.
#[test]
fn a_peer_can_fetch_the_trees() {
    let env = MemoryEnv::new(1);
    let ended = env.run(async {
        let db = database(store_on(&env, &SimDisk::new(1)).await, Durability::Durable).await;
        db.append(Op::put("a", "1").to_value()).await.unwrap();
        let signed = || db.views().unwrap().map(|core| core.signed_length.0);
        assert_eq!(signed(), [0, 0, 0]);

        let there = env.sibling(2);
        let store = store_on(&there, &SimDisk::new(2)).await;
        let replication = Replication::new(&there, &store, SessionSettings::default());
        let (near, far) = tokio::io::duplex(1 << 16);
        let _session = db.replicate(near, Role::Initiator).unwrap();
        let _other = replication.start(far, Role::Responder);

        for value in ["1", "2", "3"] {
            db.append(Op::put("a", value).to_value()).await.unwrap();
            let [system, view, _] = db.views().unwrap();
            for tree in [system, view] {
                let copy = store.get(CoreOptions::key(tree.key)).await.unwrap();
                copy.get(Index(tree.length.0 - 1), Wait::For(Duration::from_secs(60)))
                    .await
                    .unwrap();
                assert!(copy.length().unwrap() >= tree.length);
            }
        }
        let [system, view, current] = db.views().unwrap();
        assert_eq!(signed(), [system.length.0, view.length.0, current.length.0]);
    });
    assert!(ended.is_some(), "the test waits for something that cannot happen");
}

/// ```text
/// w: 1 -- 2        applied, and the database closed
/// w: 1'            what its owner made of it meanwhile
/// ```
#[test]
fn what_was_applied_of_a_rewritten_log_is_not_taken_up() {
    let env = MemoryEnv::new(1);
    let ended = env.run(async {
        let disk = SimDisk::new(1);
        let store = store_on(&env, &disk).await;
        let db = database(store.clone(), Durability::Durable).await;
        let log = writer(&store, Ed25519.key_pair(&Seed::new([5; 32]))).await;
        db.append(Op::add_writer(log.key(), 1).to_value()).await.unwrap();
        let creator = Link {
            key: db.local(),
            length: Length(1),
        };
        let block = |value: &str| {
            let block = OplogBlock {
                links: vec![creator],
                value: Some(Op::put(value, "here").to_value().into()),
                ..OplogBlock::default()
            };
            Bytes::from(block.to_bytes().unwrap())
        };
        let key = db.key();
        log.append(vec![block("old"), block("older")]).await.unwrap();
        let referrer = Bytes::copy_from_slice(key.as_bytes());
        log.set_user_data("referrer", Some(referrer)).await.unwrap();
        db.close().await.unwrap();
        drop(log);

        let keys = async |db: &Autobee<MemoryEnv>| -> Vec<Bytes> {
            let old = db.view().get(b"old").await.unwrap();
            let new = db.view().get(b"new").await.unwrap();
            [("old", old), ("new", new)]
                .into_iter()
                .filter(|(_, value)| value.is_some())
                .map(|(key, _)| key.into())
                .collect()
        };
        let mut applies = Vec::new();
        for rewrites in [false, false, true, false] {
            let store = store_on(&env, &disk.kill()).await;
            if rewrites {
                let log = writer(&store, Ed25519.key_pair(&Seed::new([5; 32]))).await;
                log.truncate(Length::ZERO, None).await.unwrap();
                log.append(vec![block("new")]).await.unwrap();
            }
            let db = database(store, Durability::Durable).await;
            applies.push((db.stats().applies, keys(&db).await));
            db.close().await.unwrap();
        }
        let expected = [(0, "old"), (0, "old"), (2, "new"), (0, "new")];
        assert_eq!(
            applies,
            expected.map(|(applies, key)| (applies, vec![Bytes::from(key)]))
        );
    });
    assert!(ended.is_some(), "the test waits for something that cannot happen");
}
