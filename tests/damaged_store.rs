//! A store whose derived records are not what was written: a database of it makes them anew, or says what is wrong.
//!
//! What peers wrote is checked by signatures, what the disk gives back by checksums. These are about what is left: a view
//! that is shorter than the system tree says, and records that lead somewhere else.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, OnceLock};

use autobee::bee::{Bee, BeeSettings, StoredBee};
use autobee::crypto::{CoreKey, Ed25519, KeyPair, Seed, Sign as _, hash};
use autobee::db::{Durability, OrderedEntry, WriterStatus};
use autobee::env::memory::MemoryEnv;
use autobee::env::{Env as _, Spawn as _};
use autobee::hypercore::{Core, CoreOptions, Corestore, CorestoreOptions, Wait};
use autobee::store::{Seglog, StoreEngine as _, StoreHandle};
use autobee::wire::oplog::OplogBlock;
use autobee::wire::system::SystemKey;
use autobee::wire::{
    Decode as _, Encode as _, Index, InfoRecord, Length, Link, Timestamp, Weight, WriterRecord,
};
use autobee::{Autobee, Error, ErrorKind, Event, LocalWriter, Settings};
use autobee_sim::disk::{DiskCrash, DiskSnapshot, Seeded, SimDisk};
use autobee_sim::workload::{JsonApply, Op};
use bytes::Bytes;
use proptest::prelude::*;

type Store = Corestore<MemoryEnv>;
type Found = (Vec<OrderedEntry>, Vec<WriterStatus>, Vec<(Bytes, Bytes)>);

const WINDOW: usize = 4;
const ENTRIES: u64 = 30;

/// Of a database of two writers that forgot most of its order; and what it had.
fn written() -> &'static (DiskSnapshot, Found) {
    static WRITTEN: OnceLock<(DiskSnapshot, Found)> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let env = MemoryEnv::new(1);
        let made = env.run(async {
            let disk = SimDisk::new(1);
            let store = store_on(&env, &disk).await;
            let db = open(store.clone()).await.unwrap();
            let other = other(&store).await;
            db.append(Op::add_writer(other.key(), 1).to_value())
                .await
                .unwrap();
            for number in 0..ENTRIES {
                let value = Op::put(format!("{}", number % 7), number.to_string()).to_value();
                let length = db.append(value).await.unwrap();
                let block = OplogBlock {
                    timestamp: Timestamp(1),
                    links: vec![Link {
                        key: db.local(),
                        length,
                    }],
                    value: Some(Op::put(format!("other {}", number % 3), "x").to_value().into()),
                    ..OplogBlock::default()
                };
                other
                    .append(vec![block.to_bytes().unwrap().into()])
                    .await
                    .unwrap();
            }
            db.close().await.unwrap();
            let store = store_on(&env, &disk.kill()).await;
            let other = self::other(&store).await;
            let referrer = Bytes::copy_from_slice(db.key().as_bytes());
            other.set_user_data("referrer", Some(referrer)).await.unwrap();
            let db = open(store.clone()).await.unwrap();
            db.append(Op::put("last", "").to_value()).await.unwrap();
            assert!(
                db.held().checkpoints > 2 && db.held().batches < 16,
                "{:?}",
                db.held()
            );
            let found = found(&db).await;
            assert_eq!(found.0.len() as u64, 2 * ENTRIES + 2);
            db.close().await.unwrap();
            (disk.snapshot(), found)
        });
        made.unwrap()
    })
}

async fn store_on(env: &MemoryEnv, disk: &SimDisk) -> Store {
    let (store, owner) = StoreHandle::new(Seglog::default().open(Arc::new(disk.clone())).unwrap());
    env.spawn().dedicated("store", owner);
    Corestore::open(env.clone(), store, CorestoreOptions::default())
        .await
        .unwrap()
}

async fn open(store: Store) -> Result<Autobee<MemoryEnv>, Error> {
    let settings = Settings::with(|settings| {
        settings.durability = Durability::Visible;
        settings.window_batches = WINDOW;
    });
    Autobee::builder(store)
        .apply(JsonApply)
        .settings(settings)
        .open()
        .await
}

async fn found(db: &Autobee<MemoryEnv>) -> Found {
    (db.order().unwrap(), db.writers(), db.view().all().await.unwrap())
}

async fn other(store: &Store) -> Core<MemoryEnv> {
    let pair: KeyPair = Ed25519.key_pair(&Seed::new([5; 32]));
    let mut options = CoreOptions::key_pair(pair);
    options.manifest_version = 2;
    store.get(options).await.unwrap()
}

async fn tree_core(store: &Store, namespace: &str) -> Core<MemoryEnv> {
    let options = CoreOptions::name("bee");
    store.namespace(namespace).get(options).await.unwrap()
}

async fn local(store: &Store) -> Core<MemoryEnv> {
    store.get(CoreOptions::name("local")).await.unwrap()
}

/// Has a copy of the store changed, and opens a database of it. Gives what it has, and how many calls of apply that took.
fn reopened(damage: impl AsyncFnOnce(&Store)) -> Result<(Found, u64), Error> {
    let (disk, _) = written();
    let env = MemoryEnv::new(2);
    let ended = env.run(async {
        let disk = disk.crash(DiskCrash::Kept, &mut Seeded::new(0));
        let store = store_on(&env, &disk).await;
        damage(&store).await;
        let db = open(store).await?;
        let applies = db.stats().applies;
        let found = found(&db).await;
        // It goes on, and another opening finds the same.
        if let Ok(length) = db.append(Op::put("more", "x").to_value()).await {
            let now = self::found(&db).await;
            assert_eq!(now.0.last().unwrap().length, length);
            db.close().await?;
            let db = open(store_on(&env, &disk.kill()).await).await?;
            assert_eq!(self::found(&db).await, now);
        }
        Ok((found, applies))
    });
    ended.unwrap_or_else(|| panic!("it waits for something that cannot happen"))
}

/// The power is cut between two commits that should be one.
#[test]
fn a_view_or_system_that_is_shorter_than_the_other_says_is_made_anew() {
    let expected = &written().1;
    for (namespace, lost) in [
        ("view", 1),
        ("view", 3),
        ("view", 40),
        ("system", 1),
        ("system", 30),
    ] {
        let (found, applies) = reopened(async |store| {
            let core = tree_core(store, namespace).await;
            let length = core.length().unwrap();
            assert!(length > Length(lost));
            core.truncate(Length(length.0 - lost), None).await.unwrap();
        })
        .unwrap();
        let context = format!("{lost} blocks of the {namespace}");
        assert_eq!(&found, expected, "{context}");
        assert!(applies > 0);
    }
    assert_eq!(reopened(async |_| {}).unwrap(), (expected.clone(), 0));
}

/// A block of a tree was damaged, found out, and dropped. What is made anew then stays.
#[test]
fn trees_of_which_a_block_was_dropped_are_made_anew() {
    let expected = &written().1;
    for (namespace, from_end) in [("view", 1), ("view", 20), ("system", 1), ("system", 30)] {
        let context = format!("{namespace}, {from_end} from the end");
        let (disk, _) = written();
        let env = MemoryEnv::new(2);
        let made = env.run(async {
            let disk = disk.crash(DiskCrash::Kept, &mut Seeded::new(0));
            let store = store_on(&env, &disk).await;
            let core = tree_core(&store, namespace).await;
            let index = core.length().unwrap().0 - from_end;
            core.clear(Index(index)..Index(index + 1)).unwrap();
            drop(core);
            let db = open(store).await.unwrap();
            assert!(db.stats().applies > 0, "{context}");
            assert_eq!(
                db.events().next().await.unwrap(),
                Event::Rebuilt { from: 0, to: 0 }
            );
            assert_eq!(&found(&db).await, expected, "{context}");
            assert_eq!(db.status().rebuild, None);
            db.close().await.unwrap();

            let db = open(store_on(&env, &disk.kill()).await).await.unwrap();
            assert_eq!(db.stats().applies, 0, "{context}");
            assert_eq!(&found(&db).await, expected, "{context}");
            db.append(Op::put("more", "x").to_value()).await.unwrap();
            // Where the trees begin now goes along with the local writer.
            db.set_local(LocalWriter::New).await.unwrap();
            db.close().await.unwrap();

            let db = open(store_on(&env, &disk.kill()).await).await.unwrap();
            assert_eq!(db.stats().applies, 0, "{context}, and another local writer");
            assert_eq!(db.status().rebuild, None);
            db.close().await.unwrap();
        });
        made.unwrap_or_else(|| panic!("{context}: it waits for something that cannot happen"));
    }
}

/// A change of bytes: one is replaced, or there are fewer or more.
#[derive(Debug, Clone)]
struct Change {
    at: prop::sample::Index,
    to: u8,
    cuts: bool,
    adds: usize,
}

impl Change {
    fn any() -> impl Strategy<Value = Self> {
        (any::<prop::sample::Index>(), any::<u8>(), 0..8_u8, 0..3_usize).prop_map(|(at, to, cuts, adds)| {
            Self {
                at,
                to,
                cuts: cuts == 0,
                adds,
            }
        })
    }

    fn make(&self, bytes: &[u8]) -> Bytes {
        let mut bytes = bytes.to_vec();
        if !bytes.is_empty() {
            let at = self.at.index(bytes.len());
            bytes[at] = self.to;
            if self.cuts {
                bytes.truncate(at);
            } else if self.adds > 0 {
                // A longer number, perhaps.
                bytes.splice(
                    at..=at,
                    [0xfe, 0xff, 0xff, 0xff, self.to].into_iter().take(2 * self.adds),
                );
            }
        }
        bytes.into()
    }
}

/// The records with the local writer.
const RECORDS: [&str; 3] = ["autobee/head", "autobee/forks", "autobee/checkpoints"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn damaged_records_are_found_out_or_lead_to_the_same(
        which in 0..RECORDS.len(),
        changes in prop::collection::vec(Change::any(), 1..4),
    ) {
        let opened = reopened(async |store| {
            let local = local(store).await;
            let record = local.user_data(RECORDS[which]).unwrap().unwrap_or_else(|| vec![0].into());
            let record = changes.iter().fold(record, |record, change| change.make(&record));
            local.set_user_data(RECORDS[which], Some(record)).await.unwrap();
        });
        match opened {
            Ok((found, _)) => prop_assert_eq!(&found, &written().1),
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error),
        }
    }

    /// No checksum tells these from good ones.
    #[test]
    fn checkpoints_that_nobody_made_do_no_harm(changes in prop::collection::vec(Change::any(), 1..4)) {
        let _ = reopened(async |store| {
            let local = local(store).await;
            let record = local.user_data(RECORDS[2]).unwrap().unwrap();
            let record = changes.iter().fold(record.slice(32..), |record, change| change.make(&record));
            seal(&local, &record).await;
        });
    }

    #[test]
    fn trees_that_nobody_wrote_do_no_harm(
        numbers in prop::collection::vec(number(), 6),
        changes in prop::collection::vec(Change::any(), 0..2),
        is_view_kept in any::<bool>(),
        takes_up in any::<bool>(),
    ) {
        let _ = reopened(async |store| {
            let local = local(store).await;
            let boot = Link::from_bytes(&local.user_data(RECORDS[0]).unwrap().unwrap()).unwrap();
            let bee = Bee::new(BeeSettings::default()).unwrap();
            let core = tree_core(store, "system").await;
            let system = StoredBee::open(&bee, store.clone(), core, Some(boot)).unwrap();
            let info = system.get(&SystemKey::Info.to_bytes(), Wait::Local).await.unwrap();
            let mut info = InfoRecord::from_bytes(&info.unwrap().value.unwrap()).unwrap();
            info.timestamp = Timestamp(numbers[0]);
            info.flushes = if numbers[1] % 2 == 0 { info.flushes } else { numbers[1] };
            info.heads.push(Link { key: local.key(), length: Length(numbers[2]) });
            if !is_view_kept {
                info.view = info.view.map(|view| Link { length: Length(numbers[3]), ..view });
            }
            let record = WriterRecord {
                is_oplog: true,
                length: Length(numbers[4]),
                weight: Weight(numbers[5]),
                ..WriterRecord::default()
            };
            let change = |bytes: Vec<u8>| changes.iter().fold(bytes.into(), |bytes: Bytes, change| change.make(&bytes));
            let writes = [
                (SystemKey::Info.to_bytes(), change(info.to_bytes().unwrap())),
                (SystemKey::Writer(local.key()).to_bytes(), change(record.to_bytes().unwrap())),
                (SystemKey::Writer(CoreKey::new([9; 32])).to_bytes(), change(record.to_bytes().unwrap())),
            ];
            system
                .write(Wait::Local, |batch, blocks| {
                    writes.iter().try_for_each(|(key, value)| batch.put(blocks, key, value).map(drop))
                })
                .await
                .unwrap();
            let head = system.snapshot().head();
            let head = head.to_bytes().unwrap();
            if takes_up {
                local.set_user_data(RECORDS[0], Some(head.into())).await.unwrap();
            } else {
                // The newest checkpoint begins with a version, and then has its place.
                let record = local.user_data(RECORDS[2]).unwrap().unwrap();
                let mut record = record[32..].to_vec();
                let old = 2..2 + Link::from_bytes(&record[2..]).map_or(33, |link| link.to_bytes().unwrap().len());
                record.splice(old, head);
                seal(&local, &record).await;
            }
        });
    }
}

fn cases() -> u32 {
    std::env::var("CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(100)
}

/// Numbers as they come, and the largest there are.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..100_u64, Just((1 << 53) - 1), Just(1 << 32), 0..1_u64 << 53]
}

async fn seal(local: &Core<MemoryEnv>, checkpoints: &[u8]) {
    let sum = hash(&[checkpoints]);
    let record = [sum.as_bytes(), checkpoints].concat();
    local
        .set_user_data(RECORDS[2], Some(record.into()))
        .await
        .unwrap();
}
