//! Live replication with corestore and hypercore on Node, and with Autobee where `AUTOBEE_JS` names a checkout of it, over
//! loopback TCP.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "processes of this machine, and their time"
)]
#![cfg(feature = "tokio")]

#[path = "interop/exported.rs"]
mod exported;
#[path = "native/group.rs"]
mod group;
#[path = "interop/live.rs"]
mod live;
#[path = "interop/node.rs"]
mod node;
#[path = "interop/node_process.rs"]
mod node_process;
#[path = "process/peer.rs"]
mod peer;
#[path = "native/plan.rs"]
mod plan;
#[path = "native/proxy.rs"]
mod proxy;

use std::path::PathBuf;
use std::time::Duration;

use autobee::env::native::{NativeEnv, NativeListener};
use autobee::env::{Clock as _, Env as _, Listener as _, Network as _, PeerAddr};
use autobee::hypercore::{
    Core, CoreOptions, Corestore, CorestoreOptions, Download, DownloadRange, Encryption, Wait,
};
use autobee::replication::Role;
use autobee::replication::session::{End, Replication, ReplicationSession, SessionSettings};
use autobee::store::{Seglog, StoreHandle};
use autobee::wire::{Index, Length};
use bytes::Bytes;
use node_process::NodeProcess;
use serde_json::{Value, json};

const PATIENCE: Wait = Wait::For(Duration::from_secs(20));

const ALL: DownloadRange = DownloadRange::ALL;

type View = std::collections::BTreeMap<String, String>;

/// The peer on Node.
struct Node(NodeProcess);

impl Node {
    fn start() -> Option<Self> {
        NodeProcess::start("peer.js").map(Self)
    }

    fn ask(&mut self, command: &Value) -> Value {
        self.0.ask(command)
    }

    fn open(&mut self, label: &str, how: &Value) -> String {
        let mut command = json!({ "do": "open", "core": label });
        command
            .as_object_mut()
            .unwrap()
            .extend(how.as_object().unwrap().clone());
        self.ask(&command)["key"].as_str().unwrap().to_owned()
    }

    fn append(&mut self, label: &str, blocks: &[String]) {
        self.ask(&json!({ "do": "append", "core": label, "blocks": blocks }));
    }

    /// Waits until it has a core as a whole.
    fn reached(&mut self, label: &str, fork: u64, blocks: &[String], core: &Core<NativeEnv>) {
        let command = json!({ "do": "reached", "core": label, "length": blocks.len(), "fork": fork });
        let answer = self.ask(&command);
        assert_eq!(answer["blocks"], json!(blocks));
        assert_eq!(answer["treeHash"], hex(core.tree_hash().unwrap().as_bytes()));
    }

    /// It has found nothing wrong with us.
    fn is_content(&mut self, streams: usize) {
        let answer = self.ask(&json!({ "do": "errors" }));
        assert_eq!(answer, json!({ "errors": [], "streams": streams }));
    }
}

/// Our peer.
struct Ours {
    env: NativeEnv,
    store: Corestore<NativeEnv>,
    replication: Replication<NativeEnv>,
    folder: PathBuf,
}

impl Ours {
    async fn new(name: &str) -> Self {
        let unique = format!("autobee-interop-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(unique);
        let env = NativeEnv::new(&folder).unwrap();
        let store = StoreHandle::open(&env, &Seglog::default()).unwrap();
        let store = Corestore::open(env.clone(), store, CorestoreOptions::default())
            .await
            .unwrap();
        let replication = Replication::new(&env, &store, SessionSettings::default());
        Self {
            env,
            store,
            replication,
            folder,
        }
    }

    async fn dial(&self, port: &Value, role: Role) -> ReplicationSession {
        let to = PeerAddr::new(format!("127.0.0.1:{port}"));
        self.replication
            .start(self.env.network().dial(&to).await.unwrap(), role)
    }

    async fn listen(&self) -> (NativeListener, Value) {
        let listener = self
            .env
            .network()
            .listen(&PeerAddr::new("127.0.0.1:0"))
            .await
            .unwrap();
        let port = listener.local_addr().as_str().rsplit(':').next().unwrap().parse();
        (listener, json!(port.unwrap_or(0_u16)))
    }

    async fn named(&self, name: &str) -> Core<NativeEnv> {
        self.store.get(CoreOptions::name(name)).await.unwrap()
    }

    async fn copy(&self, key: &str) -> (Core<NativeEnv>, Download<NativeEnv>) {
        let core = self
            .store
            .get(CoreOptions::key(key.parse().unwrap()))
            .await
            .unwrap();
        let download = core.download(ALL).unwrap();
        (core, download)
    }

    /// Waits until we have a core as a whole.
    async fn reached(&self, core: &Core<NativeEnv>, fork: u64, blocks: &[String]) {
        let length = blocks.len() as u64;
        for _ in 0..2_000 {
            if core.fork().unwrap() == fork
                && core.length().unwrap() == Length(length)
                && core.contiguous_length().unwrap() == Length(length)
            {
                break;
            }
            self.env.clock().sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(
            (core.fork().unwrap(), core.contiguous_length().unwrap().0),
            (fork, length)
        );
        for (index, block) in (0..).zip(blocks) {
            assert_eq!(core.get(Index(index), Wait::Local).await.unwrap(), block);
        }
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.replication.close();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn texts(what: &str, range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|index| format!("{what} {index}")).collect()
}

fn bytes(blocks: &[String]) -> Vec<Bytes> {
    blocks.iter().cloned().map(Bytes::from).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One stream: both sides serve a core and follow the other's, which then is truncated; each has a core that the other does
/// not know.
async fn exchange(name: &str, role: Role, is_dialling: bool) {
    let Some(mut node) = Node::start() else { return };
    let ours = Ours::new(name).await;
    let log = ours.named("log").await;
    let mut our_blocks = texts("ours", 0..300);
    log.append(bytes(&our_blocks)).await.unwrap();
    let secret = ours.named("unknown to them").await;
    secret.append(bytes(&texts("secret", 0..3))).await.unwrap();
    let their_key = node.open("theirs", &json!({ "name": "log" }));
    node.open("unknown to us", &json!({ "name": "other" }));
    let mut their_blocks = texts("theirs", 0..300);
    node.append("theirs", &their_blocks);
    node.append("unknown to us", &texts("hidden", 0..3));

    let their_initiator = !role.is_initiator();
    let session = if is_dialling {
        let port = &node.ask(&json!({ "do": "listen", "initiator": their_initiator }))["port"];
        ours.dial(port, role).await
    } else {
        let (mut listener, port) = ours.listen().await;
        node.ask(&json!({ "do": "connect", "port": port, "initiator": their_initiator }));
        ours.replication.start(listener.accept().await.unwrap().0, role)
    };
    node.open("ours", &json!({ "key": hex(log.key().as_bytes()) }));

    // Single blocks, and nothing else.
    let copy = ours
        .store
        .get(CoreOptions::key(their_key.parse().unwrap()))
        .await
        .unwrap();
    assert_eq!(copy.get(Index(130), PATIENCE).await.unwrap(), "theirs 130");
    assert!(!copy.has(Index(129)..Index(130)).unwrap());
    let got = node.ask(&json!({ "do": "get", "core": "ours", "index": 130 }));
    assert_eq!(got["text"], "ours 130");
    let other = node.ask(&json!({ "do": "missing", "core": "ours", "index": 100 }));
    assert_eq!(other["has"], false);

    // Everything, and what comes later.
    let (copy, _download) = ours.copy(&their_key).await;
    node.ask(&json!({ "do": "follow", "core": "ours" }));
    node.reached("ours", 0, &our_blocks, &log);
    ours.reached(&copy, 0, &their_blocks).await;
    for batch in [300..301, 301..340] {
        let (new, theirs) = (texts("ours", batch.clone()), texts("theirs", batch));
        log.append(bytes(&new)).await.unwrap();
        node.append("theirs", &theirs);
        our_blocks.extend(new);
        their_blocks.extend(theirs);
        node.reached("ours", 0, &our_blocks, &log);
        ours.reached(&copy, 0, &their_blocks).await;
    }
    let progress = session.progress();
    assert_eq!((progress.cores, progress.have, progress.want), (2, 680, 680));

    // Another fork.
    our_blocks.truncate(250);
    their_blocks.truncate(140);
    log.truncate(Length(250), None).await.unwrap();
    node.ask(&json!({ "do": "truncate", "core": "theirs", "length": 140 }));
    let (new, theirs) = (texts("new of ours", 0..7), texts("new of theirs", 0..9));
    log.append(bytes(&new)).await.unwrap();
    node.append("theirs", &theirs);
    our_blocks.extend(new);
    their_blocks.extend(theirs);
    ours.reached(&copy, 1, &their_blocks).await;
    node.reached("ours", 1, &our_blocks, &log);

    node.is_content(1);
    assert!(session.end().is_none());
    assert_eq!(ours.store.list().unwrap().len(), 3);
    session.close();
    assert!(matches!(session.ended().await, End::Closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_dial_and_speak_first() {
    exchange("dial-first", Role::Initiator, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_dial_and_speak_second() {
    exchange("dial-second", Role::Responder, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_listen_and_speak_second() {
    exchange("listen-second", Role::Responder, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_is_resumed() {
    let Some(mut node) = Node::start() else { return };
    let ours = Ours::new("cut").await;
    let key = node.open("theirs", &json!({ "name": "log" }));
    let mut blocks = texts("theirs", 0..2_000);
    node.append("theirs", &blocks);
    let port = node.ask(&json!({ "do": "listen", "initiator": false }))["port"].clone();
    let (copy, _download) = ours.copy(&key).await;
    let session = ours.dial(&port, Role::Initiator).await;
    assert!(session.reached(|progress| progress.have > 20).await);
    node.ask(&json!({ "do": "cut" }));
    let end = session.ended().await;
    assert!(
        matches!(end, End::StreamFailed(_) | End::PeerEnded),
        "not the peer's fault: {end}"
    );
    let new = texts("theirs", 2_000..2_010);
    node.append("theirs", &new);
    blocks.extend(new);
    let again = ours.dial(&port, Role::Initiator).await;
    ours.reached(&copy, 0, &blocks).await;
    assert!(again.end().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypted_blocks_are_read_on_both_sides() {
    let Some(mut node) = Node::start() else { return };
    let ours = Ours::new("encrypted").await;
    let key = [9; 32];
    let mut options = CoreOptions::name("sealed");
    options.session.encryption = Some(Encryption::Key(key));
    let log = ours.store.get(options).await.unwrap();
    log.append(bytes(&texts("ours", 0..5))).await.unwrap();
    let their_key = node.open("theirs", &json!({ "name": "sealed", "encryption": hex(&key) }));
    node.append("theirs", &texts("theirs", 0..5));
    let port = node.ask(&json!({ "do": "listen", "initiator": false }))["port"].clone();
    let _session = ours.dial(&port, Role::Initiator).await;

    let mut options = CoreOptions::key(their_key.parse().unwrap());
    options.session.encryption = Some(Encryption::Key(key));
    let copy = ours.store.get(options).await.unwrap();
    assert_eq!(copy.get(Index(3), PATIENCE).await.unwrap(), "theirs 3");
    let how = json!({ "key": hex(log.key().as_bytes()), "encryption": hex(&key) });
    node.open("ours", &how);
    let got = node.ask(&json!({ "do": "get", "core": "ours", "index": 3 }));
    assert_eq!(got["text"], "ours 3");
    node.is_content(1);
}
