//! Replicators over the cores of a store, in a world in memory.

use autobee::env::Mono;
use autobee::env::memory::MemoryEnv;
use autobee::hypercore::{
    Core, CoreOptions, Corestore, CorestoreOptions, DownloadRange, SessionOptions, Wait,
};
use autobee::replication::message::Message;
use autobee::replication::replicator::{PeerId, Replicator};
use autobee::replication::settings::ReplicatorSettings;
use autobee::store::{Seglog, StoreHandle};
use autobee::wire::{Index, Length};
use bytes::Bytes;

type MemoryCore = Core<MemoryEnv>;

async fn store(env: &MemoryEnv) -> Corestore<MemoryEnv> {
    let store = StoreHandle::open(env, &Seglog::default()).unwrap();
    Corestore::open(env.clone(), store, CorestoreOptions::default())
        .await
        .unwrap()
}

fn numbered(range: std::ops::Range<u32>) -> Vec<Bytes> {
    range.map(|index| Bytes::from(format!("block {index}"))).collect()
}

/// Two replicators that talk until neither has anything to say.
struct Pair {
    sides: [(MemoryCore, Replicator); 2],
}

impl Pair {
    fn new(source: MemoryCore, copy: MemoryCore) -> Self {
        let sides = [source, copy].map(|core| {
            let mut replicator = Replicator::new(&core.peer_access(), ReplicatorSettings::default()).unwrap();
            replicator.open(PeerId(1), true, &core.peer_access()).unwrap();
            (core, replicator)
        });
        Self { sides }
    }

    fn talk(&mut self) {
        let now = Mono(0);
        for round in 0.. {
            let mut silent = true;
            for from in [0, 1] {
                let (core, replicator) = &mut self.sides[from];
                let demand = core.peer_access().demand().unwrap();
                replicator.set_demand(&demand, &core.peer_access(), now).unwrap();
                let mut said = Vec::new();
                while let Some(message) = replicator.pull(PeerId(1), &core.peer_access(), now).unwrap() {
                    said.push(message);
                }
                silent &= said.is_empty();
                let (core, replicator) = &mut self.sides[1 - from];
                for message in said {
                    let bytes = message.encode().unwrap();
                    let read = Message::decode(message.kind(), &bytes).unwrap().unwrap();
                    replicator
                        .receive(PeerId(1), read, &mut core.peer_access(), now)
                        .unwrap();
                }
            }
            if silent {
                break;
            }
            assert!(round < 1_000, "they talk for ever");
        }
    }
}

#[test]
fn a_core_is_copied_followed_and_moved_to_a_fork() {
    let env = MemoryEnv::new(1);
    let other = env.sibling(2);
    let done = env.run(async {
        let (source, target) = (store(&env).await, store(&other).await);
        let source = source.get(CoreOptions::name("log")).await.unwrap();
        source.append(numbered(0..100)).await.unwrap();
        let copy = target.get(CoreOptions::key(source.key())).await.unwrap();
        let session = SessionOptions::default;
        let mut pair = Pair::new(
            source.session(session()).await.unwrap(),
            copy.session(session()).await.unwrap(),
        );
        pair.talk();
        assert_eq!(copy.length().unwrap(), Length(100));
        assert_eq!(copy.contiguous_length().unwrap(), Length::ZERO);

        let all = DownloadRange::ALL;
        let download = copy.download(all).unwrap();
        pair.talk();
        assert_eq!(copy.contiguous_length().unwrap(), Length(100));
        assert_eq!(copy.get(Index(7), Wait::Local).await.unwrap(), "block 7");

        source.append(numbered(100..103)).await.unwrap();
        pair.talk();
        assert_eq!(copy.contiguous_length().unwrap(), Length(103));

        source.truncate(Length(50), None).await.unwrap();
        source.append(numbered(200..210)).await.unwrap();
        pair.talk();
        assert_eq!(copy.head().unwrap(), source.head().unwrap());
        assert_eq!(
            (copy.fork().unwrap(), copy.contiguous_length().unwrap().0),
            (1, 60)
        );
        assert_eq!(copy.get(Index(55), Wait::Local).await.unwrap(), "block 205");
        drop(download);
    });
    assert!(done.is_some(), "the test waits for something that cannot happen");
}

/// Between a truncation and its sync the blocks are gone, and peers are still shown what was before. They wait.
#[test]
fn a_request_that_meets_a_truncation_blames_nobody() {
    let env = MemoryEnv::new(1);
    let other = env.sibling(2);
    let done = env.run(async {
        let (store, target) = (store(&env).await, store(&other).await);
        let source = store.get(CoreOptions::name("log")).await.unwrap();
        source.append(numbered(0..300)).await.unwrap();
        let copy = target.get(CoreOptions::key(source.key())).await.unwrap();
        let session = SessionOptions::default;
        let mut pair = Pair::new(
            source.session(session()).await.unwrap(),
            copy.session(session()).await.unwrap(),
        );
        pair.talk();
        assert_eq!(copy.length().unwrap(), Length(300));
        let ((), cut) = store
            .transact(|change| change.truncate(&source, Length(50)))
            .unwrap();
        let (_, grown) = store
            .transact(|change| change.append(&source, numbered(500..700)))
            .unwrap();
        assert!(cut < grown);

        let all = DownloadRange::ALL;
        let _download = copy.download(all).unwrap();
        pair.talk();
        assert_eq!((copy.fork().unwrap(), copy.length().unwrap().0), (0, 300));
        assert_eq!(copy.contiguous_length().unwrap(), Length::ZERO);

        store.synced(grown).await.unwrap();
        pair.talk();
        assert_eq!(copy.head().unwrap(), source.head().unwrap());
        assert_eq!(
            (copy.fork().unwrap(), copy.contiguous_length().unwrap().0),
            (1, 250)
        );
        for (_, replicator) in &mut pair.sides {
            assert!(replicator.status(PeerId(1)).is_some_and(|status| !status.paused));
        }
    });
    assert!(done.is_some(), "the test waits for something that cannot happen");
}
