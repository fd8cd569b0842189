//! Whole sessions between stores, in a world in memory.

use std::sync::Arc;
use std::time::Duration;

use autobee::crypto::{CoreKey, Seed};
use autobee::env::memory::MemoryEnv;
use autobee::env::{Clock as _, Env as _};
use autobee::hypercore::{CoreOptions, Corestore, CorestoreOptions, DownloadRange, Wait};
use autobee::replication::Role;
use autobee::replication::capability;
use autobee::replication::connection::{Connection, ConnectionEvent, ConnectionSettings};
use autobee::replication::message::{OpenMessage, PROTOCOL, RequestMessage};
use autobee::replication::mux::{self, OpenChannel};
use autobee::replication::noise::Keys;
use autobee::replication::session::{End, Misbehaviour, Replication, ReplicationSession, SessionSettings};
use autobee::replication::stream::StreamKeys;
use autobee::store::{Seglog, StoreHandle};
use autobee::wire::compact::Encode as _;
use autobee::wire::{Index, Length, Link};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const ALL: DownloadRange = DownloadRange::ALL;

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

    fn connect(&self, other: &Self, bytes: usize) -> (ReplicationSession, ReplicationSession) {
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
        assert_eq!(copy.get(Index(33), Wait::Forever).await.unwrap(), "block 33");
        assert_eq!(copy.contiguous_length().unwrap(), Length::ZERO);

        let _download = copy.download(ALL).unwrap();
        assert!(
            far.reached(|progress| progress.is_synced && progress.have == 70)
                .await
        );
        source.append(numbered(70..75)).await.unwrap();
        assert_eq!(copy.get(Index(74), Wait::Forever).await.unwrap(), "block 74");
        source.truncate(Length(40), None).await.unwrap();
        source.append(numbered(100..110)).await.unwrap();
        while copy.contiguous_length().unwrap() != Length(50) || copy.fork().unwrap() != 1 {
            bob.env.clock().sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(copy.head().unwrap(), source.head().unwrap());
        assert_eq!(copy.get(Index(45), Wait::Local).await.unwrap(), "block 105");

        near.close();
        assert!(matches!(far.ended().await, End::PeerEnded));
        assert!(matches!(near.ended().await, End::Closed));
    });
}

/// Who has dropped blocks says so: peers do not ask for them, and do not give it up because it has no answer.
#[test]
fn cleared_blocks_are_withdrawn_from_peers() {
    run(async |alice, bob, _| {
        let source = alice.store.get(CoreOptions::name("log")).await.unwrap();
        source.append(numbered(0..300)).await.unwrap();
        let (_near, far) = alice.connect(&bob, 1 << 16);
        let copy = bob.store.get(CoreOptions::key(source.key())).await.unwrap();
        assert_eq!(copy.get(Index(3), Wait::Forever).await.unwrap(), "block 3");

        source.clear(Index(100)..Index(200)).unwrap();
        bob.env.clock().sleep(Duration::from_secs(1)).await;
        let _download = copy.download(ALL).unwrap();
        bob.env.clock().sleep(Duration::from_secs(10)).await;
        assert!(copy.has(Index(0)..Index(100)).unwrap() && copy.has(Index(200)..Index(300)).unwrap());
        assert!(!copy.has(Index(100)..Index(101)).unwrap());
        source.append(numbered(300..301)).await.unwrap();
        assert_eq!(copy.get(Index(300), Wait::Forever).await.unwrap(), "block 300");
        assert!(far.blame().is_none());
    });
}

/// Who lets go of a core leaves its channel, is found again when it takes the core up, and serves what it stores to who
/// still asks.
#[test]
fn a_core_that_nobody_uses_any_more_leaves_its_channel() {
    run(async |alice, bob, env| {
        let source = alice.store.get(CoreOptions::name("log")).await.unwrap();
        source.append(numbered(0..70)).await.unwrap();
        let (near, far) = alice.connect(&bob, 1 << 16);
        let copy = bob.store.get(CoreOptions::key(source.key())).await.unwrap();
        assert_eq!(copy.get(Index(33), Wait::Forever).await.unwrap(), "block 33");
        assert!(far.progress().cores == 1 && !far.progress().is_synced);
        drop(copy);
        assert!(far.reached(|progress| progress.cores == 0).await);
        assert!(near.reached(|progress| progress.cores == 0).await);
        // Not a second session of the two that are there.
        let copy = bob.store.get(CoreOptions::key(source.key())).await.unwrap();
        let second = bob.store.get(CoreOptions::key(source.key())).await.unwrap();
        assert_eq!(copy.get(Index(34), Wait::Forever).await.unwrap(), "block 34");
        drop(second);
        bob.env.clock().sleep(Duration::from_secs(1)).await;
        assert_eq!((near.progress().cores, far.progress().cores), (1, 1));

        let carol = Replica::new(env, SessionSettings::default()).await;
        bob.connect(&carol, 1 << 16);
        let third = carol.store.get(CoreOptions::key(source.key())).await.unwrap();
        assert_eq!(third.get(Index(33), Wait::Forever).await.unwrap(), "block 33");
        let mut missing = Box::pin(third.get(Index(34), Wait::Forever));
        drop(copy);
        assert_eq!(missing.as_mut().await.unwrap(), "block 34");
        assert!(near.reached(|progress| progress.cores == 0).await);
        carol.env.clock().sleep(Duration::from_secs(1)).await;
        assert_eq!(third.get(Index(34), Wait::Local).await.unwrap(), "block 34");
        let wanted = third.get(Index(35), Wait::For(Duration::from_secs(1))).await;
        assert!(wanted.is_err(), "bob has no block 35, and asks nobody for it");
    });
}

/// Nobody signs for nobody: only once a peer has the channel of the core open too.
#[test]
fn heads_are_signed_for_whoever_wants_them() {
    run(async |alice, bob, _| {
        let source = alice.store.get(CoreOptions::name("tree")).await.unwrap();
        let append = |range| {
            let appended = alice
                .store
                .transact(|change| change.append_unsigned(&source, numbered(range)));
            appended.unwrap();
        };
        append(0..3);
        let (_near, far) = alice.connect(&bob, 1 << 16);
        bob.env.clock().sleep(Duration::from_secs(1)).await;
        assert_eq!(source.signed_length().unwrap(), Length::ZERO);

        let copy = bob.store.get(CoreOptions::key(source.key())).await.unwrap();
        assert_eq!(copy.get(Index(2), Wait::Forever).await.unwrap(), "block 2");
        assert_eq!(source.signed_length().unwrap(), Length(3));
        append(3..5);
        assert_eq!(copy.get(Index(4), Wait::Forever).await.unwrap(), "block 4");
        assert_eq!(source.signed_length().unwrap(), Length(5));

        far.close();
        bob.env.clock().sleep(Duration::from_secs(1)).await;
        append(5..6);
        bob.env.clock().sleep(Duration::from_secs(1)).await;
        assert_eq!(source.signed_length().unwrap(), Length(5), "nobody looks");
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
        assert_eq!(copies[3].0.get(Index(8), Wait::Forever).await.unwrap(), "block 8");
        assert_eq!(
            copies[1].0.get(Index(19), Wait::Forever).await.unwrap(),
            "block 19"
        );
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

/// A peer that speaks the protocol of streams and channels, and does with them what `act` wants.
async fn hostile(
    replica: &Replica,
    mut act: impl FnMut(&mut Connection, &ConnectionEvent, &mut Vec<u8>),
) -> (ReplicationSession, tokio::io::DuplexStream) {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let session = replica.replication.start(near, Role::Responder);
    let keys = StreamKeys {
        noise: Keys {
            identity: Seed::new([1; 32]),
            ephemeral: Seed::new([2; 32]),
        },
        header: [3; 24],
    };
    let clock = replica.env.clock();
    let mut connection = Connection::new(Role::Initiator, keys, ConnectionSettings::default(), clock.now());
    let (mut buffer, mut raw) = ([0; 4096], Vec::new());
    loop {
        let mut said = connection.output().split();
        said.extend(raw.drain(..));
        if far.write_all(&said).await.is_err() || session.end().is_some() {
            return (session, far);
        }
        let Ok(bytes @ 1..) = far.read(&mut buffer).await else {
            return (session, far);
        };
        connection.receive(&buffer[..bytes], clock.now());
        while let Ok(Some(event)) = connection.poll() {
            act(&mut connection, &event, &mut raw);
        }
    }
}

fn offer(connection: &mut Connection, core: CoreKey, proven: CoreKey) -> mux::Channel {
    let handshake = OpenMessage {
        seeks: true,
        capability: capability::replication(connection.stream().unwrap(), Role::Initiator, &proven),
    };
    let name = autobee::crypto::discovery_key(&core);
    let open = OpenChannel {
        protocol: PROTOCOL,
        aliases: &[],
        id: name.as_bytes(),
        handshake: &handshake.to_bytes().unwrap(),
        unique: true,
    };
    connection.open(&open).unwrap()
}

/// Alice meets a hostile peer while Bob follows her core: she finds out, and Bob notices nothing.
fn found_out(
    act: impl FnMut(&mut Connection, &ConnectionEvent, &mut Vec<u8>, CoreKey),
    is_right: impl Fn(&Misbehaviour) -> bool,
) {
    let mut act = act;
    run(async |alice, bob, _| {
        let source = alice.store.get(CoreOptions::name("log")).await.unwrap();
        source.append(numbered(0..50)).await.unwrap();
        let key = source.key();
        let (near, far) = alice.connect(&bob, 100);
        let copy = bob.store.get(CoreOptions::key(key)).await.unwrap();
        let _download = copy.download(ALL).unwrap();
        let (session, _) = hostile(&alice, |connection, event, raw| act(connection, event, raw, key)).await;
        match session.ended().await {
            End::Misbehaved(what) => assert!(is_right(&what), "{what}"),
            other => panic!("{other}"),
        }
        source.append(numbered(50..60)).await.unwrap();
        assert_eq!(copy.get(Index(59), Wait::Forever).await.unwrap(), "block 59");
        assert!(far.reached(|progress| progress.have == 60).await);
        assert!(near.end().is_none());
    });
}

#[test]
fn writers_that_a_peer_lacks_are_announced_to_it() {
    run(async |alice, bob, _| {
        let bootstrap = alice.store.get(CoreOptions::name("bootstrap")).await.unwrap();
        bootstrap.append(numbered(0..2)).await.unwrap();
        let writer = alice.store.get(CoreOptions::name("writer")).await.unwrap();
        writer.append(numbered(0..3)).await.unwrap();
        let _copy = bob.store.get(CoreOptions::key(bootstrap.key())).await.unwrap();
        let ours = alice.replication.wakeup(bootstrap.key());
        ours.couple(bootstrap.key(), Length(2));
        ours.couple(writer.key(), Length(3));
        let _sessions = alice.connect(&bob, 512);
        // Joined only when the stream is up.
        bob.env.clock().sleep(Duration::from_secs(1)).await;
        let theirs = bob.replication.wakeup(bootstrap.key());
        let link = |key, length| Link {
            key,
            length: Length(length),
        };
        assert_eq!(theirs.announced().await, [link(writer.key(), 3)]);
        // What is asked for is told, whatever is replicated.
        theirs.lookup();
        let mut all = [link(bootstrap.key(), 2), link(writer.key(), 3)];
        all.sort_by_key(|link| link.key);
        assert_eq!(theirs.announced().await, all);
        let new = CoreKey::new([9; 32]);
        ours.couple(new, Length(1));
        assert_eq!(theirs.announced().await, [link(new, 1)]);
    });
}

#[test]
fn who_does_not_know_the_key_is_found_out() {
    found_out(
        |connection, event, _, key| {
            if let ConnectionEvent::Connected { .. } = event {
                offer(connection, key, CoreKey::new([7; 32]));
            }
        },
        |what| matches!(what, Misbehaviour::Capability { .. }),
    );
}

#[test]
fn who_sends_bytes_that_do_not_open_is_found_out() {
    found_out(
        |_, event, raw, _| {
            if let ConnectionEvent::Connected { .. } = event {
                raw.extend([20, 0, 0]);
                raw.extend([9; 20]);
            }
        },
        |what| matches!(what, Misbehaviour::Stream(_)),
    );
}

#[test]
fn who_sends_garbage_about_a_core_is_found_out() {
    found_out(
        |connection, event, _, key| match event {
            ConnectionEvent::Connected { .. } => {
                offer(connection, key, key);
            }
            ConnectionEvent::Channel(mux::MuxEvent::Opened { channel, .. }) => {
                connection.send(*channel, 1, &[0xff; 30]).unwrap();
            }
            ConnectionEvent::Channel(_) => {}
        },
        |what| matches!(what, Misbehaviour::Message { .. }),
    );
}

#[test]
fn who_floods_with_requests_is_found_out() {
    found_out(
        |connection, event, _, key| match event {
            ConnectionEvent::Connected { .. } => {
                offer(connection, key, key);
            }
            ConnectionEvent::Channel(mux::MuxEvent::Opened { channel, .. }) => {
                for id in 1..5_000_u64 {
                    let request = RequestMessage {
                        id,
                        ..RequestMessage::default()
                    };
                    connection
                        .send(*channel, 1, &request.to_bytes().unwrap())
                        .unwrap();
                }
            }
            ConnectionEvent::Channel(_) => {}
        },
        |what| matches!(what, Misbehaviour::Replication { .. }),
    );
}

#[test]
fn a_frame_above_the_bound_is_not_read() {
    run(async |alice, _, _| {
        let (near, mut far) = tokio::io::duplex(4096);
        let session = alice.replication.start(near, Role::Responder);
        far.write_all(&[0xff, 0xff, 0xff]).await.unwrap();
        let end = session.ended().await;
        assert!(matches!(end, End::Misbehaved(Misbehaviour::Stream(_))), "{end}");
    });
}

/// A peer that begins a frame of 16 MiB, and stops after so many bytes of it.
async fn fat_frame(replica: &Replica, bytes: usize) -> (ReplicationSession, tokio::io::DuplexStream) {
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let session = replica.replication.start(near, Role::Responder);
    let keys = StreamKeys {
        noise: Keys {
            identity: Seed::new([1; 32]),
            ephemeral: Seed::new([2; 32]),
        },
        header: [3; 24],
    };
    let clock = replica.env.clock();
    let mut connection = Connection::new(Role::Initiator, keys, ConnectionSettings::default(), clock.now());
    let mut buffer = [0; 4096];
    loop {
        let said = connection.output().split();
        far.write_all(&said).await.unwrap();
        if connection.stream().is_some() {
            far.write_all(&[0xff, 0xff, 0xff]).await.unwrap();
            far.write_all(&vec![0; bytes]).await.unwrap();
            return (session, far);
        }
        let read = far.read(&mut buffer).await.unwrap();
        connection.receive(&buffer[..read], clock.now());
        while let Ok(Some(_)) = connection.poll() {}
    }
}

#[test]
fn unfinished_frames_of_all_peers_together_are_bounded() {
    run(async |alice, bob, env| {
        let settings = SessionSettings {
            unfinished_bytes_max: 20 << 20,
            ..SessionSettings::default()
        };
        let carol = Replica::new(env, settings).await;
        let mut fat = Vec::new();
        for _ in 0..8 {
            fat.push(fat_frame(&carol, 6 << 20).await);
        }
        let ended: Vec<_> = fat.iter().map(|(session, _)| session.end()).collect();
        let gone = |end: &Option<End>| matches!(end, Some(End::Crowded(bytes)) if *bytes > 5 << 20);
        assert!(ended[..4].iter().all(gone), "{ended:?}");
        assert_eq!(ended.iter().filter(|end| end.is_none()).count(), 3, "{ended:?}");

        // Who sends its frames to their end is not in the way.
        let source = alice.store.get(CoreOptions::name("log")).await.unwrap();
        let copy = carol.store.get(CoreOptions::key(source.key())).await.unwrap();
        source.append(vec![Bytes::from(vec![7; 9 << 20])]).await.unwrap();
        let (_near, far) = alice.connect(&carol, 1 << 20);
        assert_eq!(copy.get(Index(0), Wait::Forever).await.unwrap().len(), 9 << 20);
        assert!(far.end().is_none());
        drop(bob);
    });
}

#[test]
fn sessions_are_bounded() {
    run(async |alice, bob, env| {
        let settings = SessionSettings {
            sessions_max: 2,
            ..SessionSettings::default()
        };
        let carol = Replica::new(env, settings).await;
        let (_near, first) = alice.connect(&carol, 1 << 16);
        let (_other, second) = bob.connect(&carol, 1 << 16);
        let (_third, refused) = bob.connect(&carol, 1 << 16);
        assert!(matches!(refused.ended().await, End::Full(2)));
        assert!(first.end().is_none() && second.end().is_none());
        first.close();
        first.ended().await;
        let (_third, fourth) = alice.connect(&carol, 1 << 16);
        carol.env.clock().sleep(Duration::from_secs(1)).await;
        assert!(fourth.end().is_none());
    });
}
