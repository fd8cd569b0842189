//! Whole sessions between stores, in a world in memory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use autobee::env::memory::MemoryEnv;
use autobee::env::{Clock as _, Env as _};
use autobee::hypercore::{CoreOptions, Corestore, CorestoreOptions, DownloadRange, Wait};
use autobee::replication::Role;
use autobee::replication::session::{End, Misbehaviour, Replication, Session, SessionSettings};
use autobee::store::{Seglog, StoreHandle};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const ALL: DownloadRange = DownloadRange {
    start: 0,
    end: None,
    is_linear: false,
};

struct Replica {
    env: MemoryEnv,
    store: Corestore<MemoryEnv>,
    replication: Replication<MemoryEnv>,
}

impl Replica {
    async fn new(env: MemoryEnv, settings: SessionSettings) -> Self {
        let store = StoreHandle::open(&env, &Seglog::default()).unwrap();
        let store = Corestore::open(env.clone(), store, CorestoreOptions::default())
            .await
            .unwrap();
        let replication = Replication::new(&env, &store, settings);
        Self {
            env,
            store,
            replication,
        }
    }

    fn connect(&self, other: &Self, bytes: usize) -> (Session, Session) {
        let (near, far) = tokio::io::duplex(bytes);
        (
            self.replication.start(near, Role::Initiator),
            other.replication.start(far, Role::Responder),
        )
    }
}

fn numbered(range: std::ops::Range<u32>) -> Vec<Bytes> {
    range.map(|index| Bytes::from(format!("block {index}"))).collect()
}

fn run(test: impl AsyncFnOnce(Replica, Replica, MemoryEnv)) {
    let world = MemoryEnv::new(1);
    let env = world.clone();
    let done = world.run(async move {
        let alice = Replica::new(env.clone(), SessionSettings::default()).await;
        let bob = Replica::new(env.sibling(2), SessionSettings::default()).await;
        test(alice, bob, env.sibling(3)).await;
    });
    assert!(done.is_some(), "the test waits for something that cannot happen");
}

#[test]
fn a_core_is_downloaded_followed_and_moved_to_a_fork_through_a_pipe_of_one_byte() {
    run(async |alice, bob, _| {
        let source = alice.store.get(CoreOptions::name("log")).await.unwrap();
        source.append(numbered(0..70)).await.unwrap();
        let (near, far) = alice.connect(&bob, 1);
        // Opened only after the peers met.
        let copy = bob.store.get(CoreOptions::key(source.key())).await.unwrap();
        assert_eq!(copy.get(33, Wait::Forever).await.unwrap(), "block 33");
        assert_eq!(copy.contiguous_length().unwrap(), 0);

        let _download = copy.download(ALL).unwrap();
        assert!(
            far.reached(|progress| progress.is_synced && progress.have == 70)
                .await
        );
        source.append(numbered(70..75)).await.unwrap();
        assert_eq!(copy.get(74, Wait::Forever).await.unwrap(), "block 74");
        source.truncate(40, None).await.unwrap();
        source.append(numbered(100..110)).await.unwrap();
        while copy.contiguous_length().unwrap() != 50 || copy.fork().unwrap() != 1 {
            bob.env.clock().sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(copy.head().unwrap(), source.head().unwrap());
        assert_eq!(copy.get(45, Wait::Local).await.unwrap(), "block 105");

        near.close();
        assert!(matches!(far.ended().await, End::PeerEnded));
        assert!(matches!(near.ended().await, End::Closed));
    });
}

#[test]
fn a_third_one_gets_what_the_second_got() {
    run(async |alice, bob, third| {
        let carol = Replica::new(third, SessionSettings::default()).await;
        let (one, two) = (
            alice.store.get(CoreOptions::name("one")).await.unwrap(),
            alice.store.get(CoreOptions::name("two")).await.unwrap(),
        );
        one.append(numbered(0..20)).await.unwrap();
        let _sessions = (alice.connect(&bob, 512), bob.connect(&carol, 512));
        let mut copies = Vec::new();
        for key in [one.key(), two.key()] {
            for replica in [&bob, &carol] {
                let copy = replica.store.get(CoreOptions::key(key)).await.unwrap();
                let download = copy.download(ALL).unwrap();
                copies.push((copy, download));
            }
        }
        two.append(numbered(0..9)).await.unwrap();
        assert_eq!(copies[3].0.get(8, Wait::Forever).await.unwrap(), "block 8");
        assert_eq!(copies[1].0.get(19, Wait::Forever).await.unwrap(), "block 19");
    });
}

#[test]
fn a_silent_peer_is_left_and_a_garbled_one_blamed() {
    run(async |alice, _, _| {
        let (near, _far) = tokio::io::duplex(64);
        let session = alice.replication.start(near, Role::Initiator);
        assert!(matches!(
            session.ended().await,
            End::StreamFailed(std::io::ErrorKind::TimedOut)
        ));
        let (near, mut far) = tokio::io::duplex(4096);
        let session = alice.replication.start(near, Role::Responder);
        far.write_all(&[7; 64]).await.unwrap();
        let end = session.ended().await;
        assert!(matches!(end, End::Misbehaved(Misbehaviour::Stream(_))), "{end}");
        assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0);
    });
}

#[test]
fn who_is_not_admitted_is_refused() {
    run(async |alice, _, third| {
        let settings = SessionSettings {
            admit: Some(Arc::new(|_| false)),
            ..SessionSettings::default()
        };
        let strict = Replica::new(third, settings).await;
        let (session, other) = strict.connect(&alice, 4096);
        let end = session.ended().await;
        assert!(
            matches!(end, End::Refused(key) if key == alice.replication.public_key()),
            "{end}"
        );
        other.ended().await;
    });
}
