//! Databases on Hyperswarm, on a DHT of this machine that Node runs: with a corestore on Node, and with each other.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::disallowed_methods,
    reason = "processes and directories of this machine, and their time"
)]

#[path = "interop/node.rs"]
mod node;
#[path = "interop/node_process.rs"]
mod node_process;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use autobee::env::native::NativeEnv;
use autobee::hypercore::{CoreOptions, Corestore, Wait};
use autobee::wire::Index;
use autobee::{
    Hyperswarm, HyperswarmSettings, JoinedSwarm, NativeAutobee, RetrySettings, Rules, Seed, SwarmSettings,
    SwarmState,
};
use autobee_sim::workload::{JsonApply, Op};
use node_process::NodeProcess;
use serde_json::{Value, json};

/// The DHT finds peers within seconds.
const SOON: Duration = Duration::from_secs(60);

/// The peer on Node.
struct NodePeer(NodeProcess);

impl NodePeer {
    fn start() -> Option<Self> {
        NodeProcess::start("swarm.js").map(Self)
    }

    fn ask(&mut self, command: &Value) -> Value {
        self.0.ask(command)
    }

    fn port(&mut self) -> u64 {
        self.ask(&json!({ "command": "dht" }))["port"].as_u64().unwrap()
    }

    fn read(&mut self, key: &str, index: u64) -> String {
        let answer = self.ask(&json!({ "command": "read", "key": key, "index": index }));
        answer["block"].as_str().unwrap().to_owned()
    }
}

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("autobee-hyperswarm-{}-{name}", std::process::id()));
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct OurPeer {
    store: Corestore<NativeEnv>,
    db: NativeAutobee,
    joined: JoinedSwarm,
    directory: Directory,
}

async fn join(name: &str, identity: u8, port: u64, other: Option<&NativeAutobee>) -> OurPeer {
    let directory = Directory::new(name);
    let env = NativeEnv::new(&directory.0).unwrap();
    let store = Corestore::open_default(env.clone()).await.unwrap();
    let mut builder = NativeAutobee::builder(store.clone())
        .apply(JsonApply)
        .rules(Rules::interop());
    if let Some(other) = other {
        builder = builder.key(other.key());
    }
    let db = builder.open().await.unwrap();
    let settings = HyperswarmSettings::with(|settings| {
        settings.bootstrap = vec![format!("127.0.0.1:{port}")];
        settings.host = "127.0.0.1".into();
    });
    let swarm = Hyperswarm::start(env, &Seed::new([identity; 32]), settings)
        .await
        .unwrap();
    let settings = SwarmSettings::with(|settings| {
        settings.retry = RetrySettings::with(|retry| {
            (retry.pause_ms_min, retry.pause_ms_max) = (100, 1_000);
        });
    });
    let joined = db.join_with(swarm, settings).unwrap();
    OurPeer {
        store,
        db,
        joined,
        directory,
    }
}

impl OurPeer {
    async fn reached(&self, what: &str, wanted: impl FnMut(&SwarmState) -> bool) {
        let reached = tokio::time::timeout(SOON, self.joined.reached(wanted)).await;
        assert!(reached.is_ok(), "{what}: {:#?}", self.joined.state());
    }

    fn streams(&self) -> BTreeSet<Vec<u8>> {
        let peers = self.joined.state().peers;
        let streams = peers
            .iter()
            .map(|peer| peer.session.progress().stream.unwrap().to_vec());
        streams.collect()
    }
}

/// A peer on Node is found by the topic, logs cross both ways, and when Node cuts the connection there is another one.
async fn exchange(name: &str, server: bool, client: bool) {
    let Some(mut node) = NodePeer::start() else { return };
    let port = node.port();
    let peer = join(name, 7, port, None).await;
    peer.db.append(Op::put("first", "x").to_value()).await.unwrap();
    peer.reached("it is announced", |state| state.is_joined).await;
    let topic = peer.joined.topic().to_hex();
    node.ask(&json!({ "command": "join", "topic": topic, "server": server, "client": client }));
    peer.reached("node is connected", |state| state.peers.len() == 1)
        .await;
    let remote = node.ask(&json!({ "command": "dht" }))["peer"].clone();
    assert_eq!(
        peer.joined.state().peers[0].key.to_hex(),
        remote.as_str().unwrap()
    );

    let local = peer.db.local();
    let block = |index| peer.db.block(&local, Index(index)).unwrap().unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(node.read(&local.to_string(), 0), hex(&block(0)));
    // Frames of all sizes, and more than a window of them.
    let large: Vec<String> = (0..40).map(|n| "x".repeat(1 << (n % 17))).collect();
    let log = node.ask(&json!({ "command": "append", "values": large }));
    let key = log["key"].as_str().unwrap().parse().unwrap();
    let copy = peer.store.get(CoreOptions::key(key)).await.unwrap();
    for (index, value) in large.iter().enumerate() {
        let read = copy.get(Index(index as u64), Wait::For(SOON)).await.unwrap();
        assert_eq!(read, value.as_bytes());
    }

    let before = peer.streams();
    node.ask(&json!({ "command": "cut" }));
    peer.reached("node is connected again", |state| {
        let stream = state
            .peers
            .first()
            .and_then(|peer| peer.session.progress().stream);
        stream.is_some_and(|stream| !before.contains(stream.as_slice()))
    })
    .await;
    peer.db.append(Op::put("second", "x").to_value()).await.unwrap();
    assert_eq!(node.read(&local.to_string(), 1), hex(&block(1)));
    let open = node.ask(&json!({ "command": "connections" }));
    assert_eq!(open["open"], 1, "{open}");

    peer.joined.close().await;
    peer.db.close().await.unwrap();
    drop(peer.directory);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_waits_is_dialled() {
    exchange("waits", true, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_dials_is_accepted() {
    exchange("dials", false, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_does_both_has_one_connection() {
    exchange("both", true, true).await;
}

/// Three of ours find each other, both ways at once, and converge.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_databases_find_each_other_and_converge() {
    let Some(mut node) = NodePeer::start() else { return };
    let port = node.port();
    let a = join("three-a", 1, port, None).await;
    let b = join("three-b", 2, port, Some(&a.db)).await;
    let c = join("three-c", 3, port, Some(&a.db)).await;
    let all = [a, b, c];
    for peer in &all[1..] {
        let add = Op::add_writer(peer.db.local(), 2);
        all[0].db.append(add.to_value()).await.unwrap();
    }
    for peer in &all {
        peer.reached("all are connected", |state| {
            assert!(state.peers.len() <= 2);
            state.peers.len() == 2
        })
        .await;
    }
    let agree = async |entries: usize| {
        let all_agree = async {
            let orders = || all.iter().map(|peer| peer.db.order().unwrap());
            while !orders().all(|order| order.len() == entries && order == all[0].db.order().unwrap()) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let lengths = || {
            all.iter()
                .map(|peer| peer.db.order().unwrap().len())
                .collect::<Vec<_>>()
        };
        let agreed = tokio::time::timeout(SOON, all_agree).await;
        assert!(agreed.is_ok(), "{entries} entries, not {:?}", lengths());
    };
    agree(2).await;
    for (number, peer) in all.iter().enumerate() {
        let put = Op::put(format!("{number}"), "x").to_value();
        peer.db.append(put).await.unwrap();
    }
    agree(5).await;
    // A connection is one, seen from both sides.
    let streams: BTreeSet<_> = all.iter().flat_map(OurPeer::streams).collect();
    assert_eq!(streams.len(), 3);
    for peer in all {
        peer.joined.close().await;
        peer.db.close().await.unwrap();
    }
}
