//! Databases that find each other by iroh, on loopback, without relays.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::disallowed_methods,
    reason = "directories of this machine, sockets and time"
)]

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use autobee::env::native::NativeEnv;
use autobee::hypercore::Corestore;
use autobee::{
    IrohPeer, IrohSettings, IrohSwarm, JoinedSwarm, NativeAutobee, RetrySettings, Rules, Seed, Swarm as _,
    SwarmSettings, SwarmState,
};
use autobee_sim::workload::{JsonApply, Op};

const SOON: Duration = Duration::from_secs(60);

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("autobee-iroh-{}-{name}", std::process::id()));
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct OurPeer {
    db: NativeAutobee,
    joined: JoinedSwarm,
    address: IrohPeer,
    env: NativeEnv,
    directory: Directory,
}

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn settings(peers: Vec<IrohPeer>) -> IrohSettings {
    IrohSettings::with(|settings| {
        settings.peers = peers;
        settings.listen = vec![loopback()];
    })
}

async fn open(name: &str, other: Option<&NativeAutobee>) -> (NativeAutobee, NativeEnv, Directory) {
    let directory = Directory::new(name);
    let env = NativeEnv::new(&directory.0).unwrap();
    let store = Corestore::open_default(env.clone()).await.unwrap();
    let mut builder = NativeAutobee::builder(store)
        .apply(JsonApply)
        .rules(Rules::interop());
    if let Some(other) = other {
        builder = builder.key(other.key());
    }
    (builder.open().await.unwrap(), env, directory)
}

/// A database that joined a swarm of its own.
async fn join(name: &str, identity: u8, other: Option<&NativeAutobee>, settings: IrohSettings) -> OurPeer {
    let (db, env, directory) = open(name, other).await;
    let swarm = IrohSwarm::start(env.clone(), &Seed::new([identity; 32]), settings)
        .await
        .unwrap();
    let address = swarm.address();
    let joined = db.join_with(swarm, swarm_settings()).unwrap();
    OurPeer {
        db,
        joined,
        address,
        env,
        directory,
    }
}

fn swarm_settings() -> SwarmSettings {
    SwarmSettings::with(|settings| {
        settings.retry = RetrySettings::with(|retry| {
            (retry.pause_ms_min, retry.pause_ms_max) = (100, 1_000);
        });
    })
}

impl OurPeer {
    async fn reached(&self, what: &str, wanted: impl FnMut(&SwarmState) -> bool) {
        let reached = tokio::time::timeout(SOON, self.joined.reached(wanted)).await;
        assert!(reached.is_ok(), "{what}: {:#?}", self.joined.state());
    }

    async fn connected(&self, peers: usize) {
        self.reached("connected", |state| state.peers.len() == peers)
            .await;
    }

    fn streams(&self) -> BTreeSet<Vec<u8>> {
        let peers = self.joined.state().peers;
        let streams = peers
            .iter()
            .map(|peer| peer.session.progress().stream.unwrap().to_vec());
        streams.collect()
    }

    async fn put(&self, key: &str) {
        self.db.append(Op::put(key, "x").to_value()).await.unwrap();
    }

    async fn close(self) {
        self.joined.close().await;
        self.db.close().await.unwrap();
        drop(self.directory);
    }
}

/// Waits until all have the same order of so many entries.
async fn agree(all: &[&OurPeer], entries: usize) {
    let all_agree = async {
        let orders = || all.iter().map(|peer| peer.db.order().unwrap());
        while !orders().all(|order| order.len() == entries && order == all[0].db.order().unwrap()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let lengths = || {
        let lengths = all.iter().map(|peer| peer.db.order().unwrap().len());
        lengths.collect::<Vec<_>>()
    };
    let agreed = tokio::time::timeout(SOON, all_agree).await;
    assert!(agreed.is_ok(), "{entries} entries, not {:?}", lengths());
}

/// What is sent to this address crosses to another one, and back, until it is cut. Those who dial are told apart by no more
/// than their number: there is one.
struct Wire {
    address: SocketAddr,
    is_cut: Arc<AtomicBool>,
}

impl Wire {
    fn to(peer: SocketAddr) -> Self {
        let (near, far) = (
            UdpSocket::bind(loopback()).unwrap(),
            UdpSocket::bind(loopback()).unwrap(),
        );
        far.connect(peer).unwrap();
        let address = near.local_addr().unwrap();
        let is_cut = Arc::new(AtomicBool::new(false));
        let carried = Arc::clone(&is_cut);
        let (near, far) = (tokio_socket(near), tokio_socket(far));
        tokio::spawn(async move {
            let (mut from_near, mut from_far) = (vec![0; 65_536], vec![0; 65_536]);
            let mut dialler = None;
            loop {
                tokio::select! {
                    received = near.recv_from(&mut from_near) => {
                        let Ok((size, from)) = received else { continue };
                        dialler = Some(from);
                        if !carried.load(Ordering::Relaxed) {
                            let _ = far.send(&from_near[..size]).await;
                        }
                    }
                    received = far.recv(&mut from_far) => {
                        let (Ok(size), Some(dialler)) = (received, dialler) else { continue };
                        if !carried.load(Ordering::Relaxed) {
                            let _ = near.send_to(&from_far[..size], dialler).await;
                        }
                    }
                }
            }
        });
        Self { address, is_cut }
    }
}

fn tokio_socket(socket: UdpSocket) -> tokio::net::UdpSocket {
    socket.set_nonblocking(true).unwrap();
    tokio::net::UdpSocket::from_std(socket).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_know_each_other_have_one_connection_and_converge() {
    let a = join("two-a", 1, None, settings(Vec::new())).await;
    let b = join("two-b", 2, Some(&a.db), settings(vec![a.address.clone()])).await;
    a.db.append(Op::add_writer(b.db.local(), 2).to_value())
        .await
        .unwrap();
    a.connected(1).await;
    b.connected(1).await;
    assert_eq!(a.joined.state().peers[0].key, b.address.key);
    assert_eq!(b.joined.state().peers[0].key, a.address.key);
    agree(&[&a, &b], 1).await;
    for round in 0..20 {
        a.put(&format!("a{round}")).await;
        b.put(&format!("b{round}")).await;
    }
    agree(&[&a, &b], 41).await;
    assert_eq!(
        a.streams(),
        b.streams(),
        "a connection is one, seen from both sides"
    );
    assert_eq!(
        (a.joined.state().connections, b.joined.state().connections),
        (1, 1)
    );
    a.close().await;
    b.close().await;
}

/// Those who know only the first one are told of each other by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_find_each_other_through_one() {
    let a = join("three-a", 3, None, settings(Vec::new())).await;
    let b = join("three-b", 4, Some(&a.db), settings(vec![a.address.clone()])).await;
    let c = join("three-c", 5, Some(&a.db), settings(vec![a.address.clone()])).await;
    for peer in [&b, &c] {
        let add = Op::add_writer(peer.db.local(), 2);
        a.db.append(add.to_value()).await.unwrap();
    }
    let all = [a, b, c];
    for peer in &all {
        peer.connected(2).await;
    }
    let [a, b, c] = all;
    agree(&[&a, &b, &c], 2).await;
    // Without the one through which they found each other.
    a.close().await;
    b.put("b").await;
    c.put("c").await;
    agree(&[&b, &c], 4).await;
    b.close().await;
    c.close().await;
}

/// Without the exchange the one in the middle carries everything, and those at the ends never meet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_where_the_exchange_is_off() {
    let quiet = |peers| {
        let mut settings = settings(peers);
        settings.told_max = 0;
        settings.again_ms = 50;
        settings
    };
    let a = join("quiet-a", 6, None, quiet(Vec::new())).await;
    let b = join("quiet-b", 7, Some(&a.db), quiet(vec![a.address.clone()])).await;
    let mut telling = settings(vec![a.address.clone()]);
    telling.again_ms = 50;
    let c = join("quiet-c", 8, Some(&a.db), telling).await;
    a.connected(2).await;
    a.put("a").await;
    agree(&[&a, &b, &c], 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    for peer in [&b, &c] {
        let state = peer.joined.state();
        assert_eq!((state.peers.len(), state.known), (1, 1), "{state:?}");
    }
    for peer in [a, b, c] {
        peer.close().await;
    }
}

/// A peer that ends and comes back is dialled again; so is one to which the way was cut, without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_comes_back() {
    let a = join("lost-a", 9, None, settings(Vec::new())).await;
    let wire = Wire::to(a.address.addresses[0]);
    let by_wire = IrohPeer::new(a.address.key, vec![wire.address]);
    let b = join("lost-b", 10, Some(&a.db), settings(vec![by_wire])).await;
    b.connected(1).await;
    a.put("first").await;
    agree(&[&a, &b], 1).await;
    let before = b.streams();
    wire.is_cut.store(true, Ordering::Relaxed);
    b.reached("the loss is noticed", |state| state.peers.is_empty())
        .await;
    a.put("second").await;
    wire.is_cut.store(false, Ordering::Relaxed);
    agree(&[&a, &b], 2).await;
    assert!(b.streams().is_disjoint(&before));

    // The other one leaves, and comes back at the same address.
    let mut same = settings(Vec::new());
    same.listen = a.address.addresses.clone();
    let OurPeer {
        db,
        env,
        joined,
        address,
        directory,
    } = a;
    joined.close().await;
    b.reached("who left is gone", |state| state.peers.is_empty())
        .await;
    wait_for_port(&address).await;
    let swarm = IrohSwarm::start(env.clone(), &Seed::new([9; 32]), same)
        .await
        .unwrap();
    let joined = db.join_with(swarm, swarm_settings()).unwrap();
    let a = OurPeer {
        db,
        env,
        joined,
        address,
        directory,
    };
    b.connected(1).await;
    a.put("third").await;
    agree(&[&a, &b], 3).await;
    a.close().await;
    b.close().await;
}

/// The port is free once the endpoint is closed, which is when its last connection has said farewell.
async fn wait_for_port(peer: &IrohPeer) {
    let is_free = async {
        while UdpSocket::bind(peer.addresses[0]).is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, is_free).await.unwrap();
}

/// Who dials for another database is closed out, and learns of it nothing but that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_of_another_topic_is_refused() {
    let a = join("topic-a", 11, None, settings(Vec::new())).await;
    let b = join("topic-b", 12, None, settings(vec![a.address.clone()])).await;
    b.reached("it is refused", |state| {
        let error = state.last_error.as_deref().unwrap_or_default();
        error.contains("the peer is not of this topic")
    })
    .await;
    for peer in [&a, &b] {
        let state = peer.joined.state();
        assert_eq!((state.connections, state.peers.len()), (0, 0), "{state:?}");
    }
    a.close().await;
    b.close().await;
}

/// One endpoint serves two databases, each with its own peers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_endpoint_serves_two_databases() {
    let (first, env, _first) = open("both-first", None).await;
    let (second, _, _second) = open("both-second", None).await;
    let swarm = IrohSwarm::start(env, &Seed::new([13; 32]), settings(Vec::new()))
        .await
        .unwrap();
    let both = swarm.address();
    let held = swarm.clone();
    let of_first = first.join_with(swarm.clone(), swarm_settings()).unwrap();
    let of_second = second.join_with(swarm, swarm_settings()).unwrap();
    let b = join("both-b", 14, Some(&first), settings(vec![both.clone()])).await;
    let c = join("both-c", 15, Some(&second), settings(vec![both.clone()])).await;
    first.append(Op::put("first", "x").to_value()).await.unwrap();
    second.append(Op::put("second", "x").to_value()).await.unwrap();
    agree(&[&b], 1).await;
    agree(&[&c], 1).await;
    let peers = |joined: &JoinedSwarm| {
        let peers = joined.state().peers;
        peers.iter().map(|peer| peer.key).collect::<Vec<_>>()
    };
    assert_eq!(peers(&of_first), [b.address.key]);
    assert_eq!(peers(&of_second), [c.address.key]);
    for peer in [b, c] {
        peer.close().await;
    }
    for (joined, db) in [(of_first, first), (of_second, second)] {
        joined.close().await;
        db.close().await.unwrap();
    }
    tokio::time::timeout(SOON, held.close()).await.unwrap();
    wait_for_port(&both).await;
}

/// Who dropped what a join gave is dialled for nothing, and its peers hear that it left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_leaves() {
    let a = join("drop-a", 16, None, settings(Vec::new())).await;
    let b = join("drop-b", 17, Some(&a.db), settings(vec![a.address.clone()])).await;
    b.connected(1).await;
    // What was appended before still goes out.
    a.put("last").await;
    agree(&[&a, &b], 1).await;
    let OurPeer {
        db,
        joined,
        address,
        directory,
        ..
    } = a;
    drop(joined);
    b.reached("who left is gone", |state| {
        state.peers.is_empty() && state.failures > 1
    })
    .await;
    // Its endpoint is closed, too.
    wait_for_port(&address).await;
    b.close().await;
    db.close().await.unwrap();
    drop(directory);
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let directory = Directory::new("settings");
    let env = NativeEnv::new(&directory.0).unwrap();
    let start = async |change: fn(&mut IrohSettings)| {
        let (env, identity) = (env.clone(), Seed::new([18; 32]));
        let started = IrohSwarm::start(env, &identity, IrohSettings::with(change)).await;
        let error = started.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        error.to_string()
    };
    let told = start(|settings| settings.told_max = 257).await;
    assert_eq!(told, "settings: told_max is 257: it must be 256 or less");
    let waiting = start(|settings| settings.waiting_max = 0).await;
    assert_eq!(waiting, "settings: waiting_max is 0: it must be 1 or more");
    let relay = start(|settings| settings.relays = vec!["no url".into()]).await;
    assert!(relay.starts_with("settings: a relay: "), "{relay}");
    let listen = start(|settings| settings.listen = vec![loopback(), loopback()]).await;
    assert!(listen.starts_with("settings: 127.0.0.1:0: "), "{listen}");
}

/// A topic is joined once at a time.
#[tokio::test]
async fn a_topic_is_joined_once() {
    let directory = Directory::new("once");
    let env = NativeEnv::new(&directory.0).unwrap();
    let swarm = IrohSwarm::start(env, &Seed::new([19; 32]), settings(Vec::new()))
        .await
        .unwrap();
    let name = autobee::DiscoveryKey::new([1; 32]);
    let topic = swarm.join(name).await.unwrap();
    let again = swarm.join(name).await.unwrap_err();
    assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
    drop(topic);
    swarm.join(name).await.unwrap();
}
