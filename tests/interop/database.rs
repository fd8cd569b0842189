//! A database with many concurrent writers, as it lies in its store.

use autobee::Autobee;
use autobee::crypto::{Ed25519, KeyPair, Seed, Sign as _};
use autobee::env::memory::MemoryEnv;
use autobee::hypercore::{Core, CoreOptions, Corestore};
use autobee::wire::oplog::OplogBlock;
use autobee::wire::{Decode as _, Encode as _, Index, Length, Link, Timestamp};
use autobee_sim::workload::{JsonApply, Op};
use bytes::Bytes;

use crate::program::{Pair, Place};

/// Writers next to the creator, each with an entry that no other one knows of.
const WRITERS: u8 = 40;

/// What is in the store, and what it is to be read as. The view comes first, the system tree second.
pub(crate) struct Database {
    pub(crate) pairs: Vec<KeyPair>,
    pub(crate) cores: Vec<Vec<Bytes>>,
    pub(crate) heads: [Place; 2],
    pub(crate) view: Vec<Pair>,
    pub(crate) writers: usize,
}

pub(crate) fn write() -> Database {
    let env = MemoryEnv::new(1);
    env.run(write_in(&env)).unwrap()
}

async fn write_in(env: &MemoryEnv) -> Database {
    let store = Corestore::open_default(env.clone()).await.unwrap();
    let db = Autobee::builder(store.clone())
        .apply(JsonApply)
        // JavaScript reads it.
        .rules(autobee::Rules::interop())
        .open()
        .await
        .unwrap();
    let mut others = Vec::new();
    for seed in 1..=WRITERS {
        let mut options = CoreOptions::key_pair(Ed25519.key_pair(&Seed::new([seed; 32])));
        options.manifest_version = 2;
        let core = store.get(options).await.unwrap();
        db.append(Op::add_writer(core.key(), 1).to_value()).await.unwrap();
        others.push(core);
    }
    let values = (0..200).map(|key| Op::put(format!("key {key}"), "x".repeat(key)).to_value().into());
    let length = db.append_batch(values.collect()).await.unwrap();
    let creator = Link {
        key: db.local(),
        length,
    };
    for (at, core) in others.iter().enumerate() {
        // In the past of what is there: all of it is ordered anew.
        let block = OplogBlock {
            timestamp: Timestamp(at as u64 + 1),
            links: vec![Link {
                length: Length(u64::from(WRITERS)),
                ..creator
            }],
            value: Some(Op::put(format!("by {at}"), "here").to_value().into()),
            ..OplogBlock::default()
        };
        core.append(vec![block.to_bytes().unwrap().into()]).await.unwrap();
        let referrer = Bytes::copy_from_slice(db.key().as_bytes());
        core.set_user_data("referrer", Some(referrer)).await.unwrap();
    }
    db.close().await.unwrap();
    drop(others);

    let store = Corestore::open_default(env.clone()).await.unwrap();
    let db = Autobee::builder(store).apply(JsonApply).open().await.unwrap();
    let view = db.view();
    let (entries, writers) = (view.all().await.unwrap(), db.writers().len());
    let [_, _, current] = db.views().unwrap();
    db.close().await.unwrap();

    let store = Corestore::open_default(env.clone()).await.unwrap();
    let local = store.get(CoreOptions::name("local")).await.unwrap();
    let boot = local.user_data("autobee/head").unwrap().unwrap();
    let boot = Link::from_bytes(&boot).unwrap();
    assert_eq!((boot.key, boot.length), (current.key, current.length));
    let mut database = Database {
        pairs: Vec::new(),
        cores: Vec::new(),
        heads: [view.head(), boot]
            .map(|head| head.length.0)
            .map(|length| Place { core: 0, length }),
        view: entries
            .iter()
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect(),
        writers,
    };
    database.heads[1].core = 1;
    for namespace in ["view", "system"] {
        let core = store
            .namespace(namespace)
            .get(CoreOptions::name("bee"))
            .await
            .unwrap();
        database.pairs.push(core.key_pair().unwrap().unwrap());
        database.cores.push(blocks(&core));
    }
    database
}

fn blocks(core: &Core<MemoryEnv>) -> Vec<Bytes> {
    let length = core.length().unwrap();
    (0..length.0)
        .map(|index| core.get_local(Index(index)).unwrap().unwrap())
        .collect()
}
