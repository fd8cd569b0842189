//! Somebody who knows the key of a database, and means no good.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use autobee::Corestore;
use autobee::crypto::{CoreKey, Ed25519, Seed};
use autobee::engine::witness;
use autobee::env::Mono;
use autobee::env::native::NativeEnv;
use autobee::hypercore::{Core, CoreOptions};
use autobee::replication::Role;
use autobee::replication::connection::{Connection, ConnectionSettings};
use autobee::replication::noise::Keys;
use autobee::replication::session::{Replication, ReplicationSession, SessionSettings, Wakeup};
use autobee::replication::stream::StreamKeys;
use autobee::wire::oplog::{Backer, OplogBlock, Witness};
use autobee::wire::{Encode as _, Index, Length, Link, Timestamp, Weight};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) type Log = std::rc::Rc<Core<NativeEnv>>;

/// A peer without a database: logs, and the protocol.
pub(crate) struct Attacker {
    store: Corestore<NativeEnv>,
    replication: Replication<NativeEnv>,
    topic: Wakeup,
    creator: Core<NativeEnv>,
    logs: RefCell<BTreeMap<String, Log>>,
    sessions: RefCell<Vec<ReplicationSession>>,
    written: Cell<u64>,
    dir: PathBuf,
}

impl Attacker {
    pub(crate) async fn new(key: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("attacker-{number}-{}", std::process::id()));
        let env = NativeEnv::new(&dir).unwrap();
        let store = Corestore::open_default(env.clone()).await.unwrap();
        let key: CoreKey = key.parse().unwrap();
        let replication = Replication::new(&env, &store, SessionSettings::default());
        Self {
            topic: replication.wakeup(key),
            creator: store.get(CoreOptions::key(key)).await.unwrap(),
            replication,
            store,
            logs: RefCell::default(),
            sessions: RefCell::default(),
            written: Cell::new(0),
            dir,
        }
    }

    pub(crate) async fn log(&self, name: &str) -> Log {
        if let Some(log) = self.logs.borrow().get(name) {
            return Log::clone(log);
        }
        let log = Log::new(self.store.get(CoreOptions::name(name)).await.unwrap());
        self.logs.borrow_mut().insert(name.to_owned(), Log::clone(&log));
        log
    }

    /// Appends entries that apply refuses, which each claim a weight that `backer` backs.
    pub(crate) async fn write(&self, log: &Log, blocks: u64, bytes: usize, backer: Option<&Log>) {
        let claim = backer.map(|backer| {
            let secret = backer.key_pair().unwrap().unwrap().secret;
            let manifest = backer.manifest().unwrap().unwrap();
            let (length, weight) = (Length(1), Weight(5));
            let signature =
                witness::attest(&Ed25519, &secret, &backer.key(), &log.key(), length, weight).unwrap();
            Witness {
                weight,
                backer: Backer {
                    key: backer.key(),
                    length,
                    signature,
                    manifest: Bytes::copy_from_slice(manifest.as_bytes()),
                },
            }
        });
        // A few at a time: a batch of many large ones would take more memory than the logs should.
        let mut left = blocks;
        while left > 0 {
            let count = left.min((4 << 20) / bytes.max(1) as u64).max(1);
            let blocks = (0..count).map(|_| self.block("!".repeat(bytes), claim.clone()));
            log.append(blocks.collect()).await.unwrap();
            left -= count;
        }
        self.announce(log);
    }

    /// Appends an entry that says this.
    pub(crate) async fn write_value(&self, log: &Log, value: &str) {
        log.append(vec![self.block(value.to_owned(), None)])
            .await
            .unwrap();
        self.announce(log);
    }

    fn block(&self, value: String, witness: Option<Witness>) -> Bytes {
        self.written.set(self.written.get() + 1);
        let block = OplogBlock {
            timestamp: Timestamp(1_700_000_000_000 + self.written.get()),
            links: vec![Link {
                key: self.creator.key(),
                length: Length(1),
            }],
            witness,
            optimistic: true,
            value: Some(value.into()),
            ..OplogBlock::default()
        };
        block.to_bytes().unwrap().into()
    }

    fn announce(&self, log: &Log) {
        self.topic.couple(log.key(), log.length().unwrap());
    }

    pub(crate) async fn connect(&self, address: &str) {
        let stream = TcpStream::connect(address).await.unwrap();
        let session = self.replication.start(stream, Role::Initiator);
        self.sessions.borrow_mut().push(session);
    }

    /// Bytes that were sent over all connections.
    pub(crate) fn sent(&self) -> u64 {
        let sessions = self.sessions.borrow();
        sessions.iter().map(|session| session.progress().sent).sum()
    }

    /// Ends all connections.
    pub(crate) fn leave(self) {
        drop(self);
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.replication.close();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// How many of these logs the store of a directory has something of.
pub(crate) async fn stored(dir: &Path, keys: &[CoreKey]) -> usize {
    let store = Corestore::open_default(NativeEnv::new(dir).unwrap())
        .await
        .unwrap();
    let mut stored = 0;
    for key in keys {
        let core = store.get(CoreOptions::key(*key)).await.unwrap();
        stored += usize::from(core.get_local(Index(0)).unwrap().is_some());
    }
    store.close().await.unwrap();
    stored
}

/// A connection that sends all but the end of the largest frame.
pub(crate) async fn unfinished(address: &str, number: u64) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let seed = |name: u8| {
        let mut seed = [name; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        Seed::new(seed)
    };
    let keys = StreamKeys {
        noise: Keys {
            identity: seed(1),
            ephemeral: seed(2),
        },
        header: [3; 24],
    };
    let mut connection = Connection::new(Role::Initiator, keys, ConnectionSettings::default(), Mono(0));
    let mut buffer = vec![0; 1 << 16];
    loop {
        let output = connection.output().split();
        stream.write_all(&output).await.unwrap();
        if connection.stream().is_some() {
            break;
        }
        let count = stream.read(&mut buffer).await.unwrap();
        assert_ne!(count, 0, "the handshake is refused");
        connection.receive(&buffer[..count], Mono(0));
        while let Ok(Some(_)) = connection.poll() {}
    }
    let length = (1_u32 << 24) - 1;
    // Whoever has no room for it may end the connection at any time.
    let _ = stream.write_all(&length.to_le_bytes()[..3]).await;
    let _ = stream.write_all(&vec![0x55; length as usize - 1_000]).await;
    stream
}

/// Sends one byte more on each. Gives how many connections take it; the others are gone.
pub(crate) async fn trickle(open: &mut Vec<TcpStream>) -> usize {
    let mut left = Vec::new();
    for mut stream in std::mem::take(open) {
        if stream.write_all(&[1]).await.is_ok() {
            left.push(stream);
        }
    }
    *open = left;
    open.len()
}
