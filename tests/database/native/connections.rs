//! Peers that are kept connected, and addresses at which peers are accepted.

use std::io::ErrorKind as IoErrorKind;
use std::time::Duration;

use autobee::env::memory::MemoryEnv;
use autobee::env::{Clock as _, Env as _, Listener as _, Mono, Network as _, PeerAddr};
use autobee::{Autobee, CloseReason, ConnectError, Corestore, ErrorKind, RetrySettings};
use autobee_sim::workload::{JsonApply, Op};

use super::{Directory, open, until};

const SOON: Duration = Duration::from_secs(20);

fn quick() -> RetrySettings {
    RetrySettings::with(|settings| (settings.pause_ms_min, settings.pause_ms_max) = (5, 20))
}

/// ```text
/// b dials, nobody listens     a listens: connected     the connection is closed: dialled again     b lets go: closed
/// ```
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_is_dialled_until_it_is_there_and_again_when_it_is_lost() {
    let [a_dir, b_dir] = [Directory::new("kept-a"), Directory::new("kept-b")];
    let a = open(&a_dir, None).await;
    let b = open(&b_dir, Some(&a)).await;
    let listening = a.listen("127.0.0.1:0").await.unwrap();
    let address = listening.local_addr().to_string();
    listening.close().await;

    let mut kept = b.keep_connected_with(&address, quick()).unwrap();
    tokio::time::timeout(SOON, kept.reached(|state| state.failures >= 3))
        .await
        .unwrap();
    assert!(!kept.is_connected());
    let refused = kept.last_error().unwrap();
    assert!(
        matches!(&refused, ConnectError::Unreachable { kind: IoErrorKind::ConnectionRefused, address: at, .. } if at.as_str() == address),
        "{refused}"
    );

    let mut listening = a.listen(&address).await.unwrap();
    assert_eq!(listening.local_addr().as_str(), address, "it was free at once");
    tokio::time::timeout(SOON, kept.reached(|state| state.is_connected()))
        .await
        .unwrap();
    assert_eq!(kept.state().failures, 0);
    a.append(Op::put("x", "1").to_value()).await.unwrap();
    until(&b, |db| db.order().unwrap().len() == 1).await;

    for accepted in 1..=3 {
        while listening.state().accepted < accepted {
            assert!(tokio::time::timeout(SOON, listening.changed()).await.unwrap());
        }
        let session = listening.state().last.unwrap();
        assert!(session.close_reason().is_none(), "one connection at a time");
        assert_eq!(a.status().peers.len(), 1);
        if accepted < 3 {
            session.close();
            session.ended().await;
        }
    }
    assert!(matches!(kept.last_error(), Some(ConnectError::Ended { .. })));
    tokio::time::timeout(SOON, kept.reached(|state| state.is_connected()))
        .await
        .unwrap();
    assert!(kept.changed().await);

    let session = listening.state().last.unwrap();
    tokio::time::timeout(SOON, kept.close()).await.unwrap();
    assert!(matches!(
        tokio::time::timeout(SOON, session.ended()).await.unwrap(),
        CloseReason::PeerEnded
    ));
    a_dir.env().clock().sleep(Duration::from_millis(100)).await;
    assert_eq!(listening.state().accepted, 3, "it is not dialled again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_either_or_closing_the_database_ends_it() {
    let [a_dir, b_dir] = [Directory::new("ends-a"), Directory::new("ends-b")];
    let a = open(&a_dir, None).await;
    let b = open(&b_dir, Some(&a)).await;
    let taken = a.listen("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().to_string();
    let refused = b.listen(&address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Network);
    assert!(refused.to_string().contains(&address), "{refused}");

    let kept = b.keep_connected(&address).unwrap();
    assert!(kept.reached(|state| state.is_connected()).await);
    let session = kept.state().session.unwrap();
    drop(kept);
    assert!(matches!(session.ended().await, CloseReason::Closed));

    let mut kept = b.keep_connected(&address).unwrap();
    assert!(kept.reached(|state| state.is_connected()).await);
    drop(taken);
    // What was accepted runs on, and nobody else is.
    assert!(kept.is_connected());
    let again = async {
        loop {
            match a.listen(&address).await {
                Ok(listening) => return listening,
                Err(_) => a_dir.env().clock().sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let mut listening = tokio::time::timeout(SOON, again).await.unwrap();

    a.close().await.unwrap();
    b.close().await.unwrap();
    tokio::time::timeout(SOON, async { while listening.changed().await {} })
        .await
        .unwrap();
    tokio::time::timeout(SOON, async { while kept.changed().await {} })
        .await
        .unwrap();
    assert!(!kept.is_connected());
    assert_eq!(a.listen(&address).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(b.keep_connected(&address).unwrap_err().kind(), ErrorKind::Closed);
    let nonsense = RetrySettings::with(|settings| settings.pause_ms_min = 0);
    let refused = b.keep_connected_with(&address, nonsense).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

/// An accept that fails, as with too many open files, is tried again after pauses that grow, and others come in.
#[test]
fn an_accept_that_fails_ends_nothing() {
    let world = MemoryEnv::new(1);
    world.network().fail_accepts(4);
    let peer = world.sibling(2);
    world
        .run(async {
            let store = Corestore::open_default(world.clone()).await.unwrap();
            let a = Autobee::builder(store).apply(JsonApply).open().await.unwrap();
            a.append(Op::put("x", "1").to_value()).await.unwrap();
            let store = Corestore::open_default(peer.clone()).await.unwrap();
            let b = Autobee::builder(store).apply(JsonApply).key(a.key());
            let b = b.open().await.unwrap();
            let start = world.clock().now();
            let listening = a.listen("a").await.unwrap();
            let _kept = b.keep_connected("a").unwrap();
            let mut changes = Default::default();
            while b.order().unwrap().is_empty() {
                b.changed(&mut changes).await;
            }
            let state = listening.state();
            assert_eq!(state.accepted, 1);
            assert_eq!(state.last_error.as_deref(), Some("too many open files"));
            // 200 + 400 + 800 + 1600 milliseconds at most, and half of that at least.
            let waited = world.clock().now().since(start).as_millis();
            assert!((1_500..4_500).contains(&waited), "{waited}");
        })
        .unwrap();
}

/// A peer that accepts and hangs up at once is dialled after pauses that grow, not in a circle.
#[test]
fn a_peer_that_hangs_up_is_not_dialled_in_a_circle() {
    let world = MemoryEnv::new(1);
    let peer = world.sibling(2);
    world
        .run(async {
            let store = Corestore::open_default(world.clone()).await.unwrap();
            let db = Autobee::builder(store).open().await.unwrap();
            let mut door = peer.network().listen(&PeerAddr::new("door")).await.unwrap();
            let kept = db.keep_connected("door").unwrap();
            let mut times: Vec<Mono> = Vec::new();
            while times.len() < 12 {
                let (stream, _) = door.accept().await.unwrap();
                times.push(world.clock().now());
                drop(stream);
            }
            let pauses: Vec<u128> = times
                .windows(2)
                .map(|pair| pair[1].since(pair[0]).as_millis())
                .collect();
            for (number, pause) in pauses.iter().enumerate() {
                let longest = (200_u128 << number).min(10_000);
                assert!(
                    (longest / 2..=longest + 50).contains(pause),
                    "{number}: {pauses:?}"
                );
            }
            let at_the_end = &pauses[7..];
            assert!(
                at_the_end.iter().any(|pause| pause != &at_the_end[0]),
                "pauses are drawn: {pauses:?}"
            );
            assert!(!kept.is_connected());
            assert!(matches!(kept.last_error(), Some(ConnectError::Ended { .. })));
        })
        .unwrap();
}
