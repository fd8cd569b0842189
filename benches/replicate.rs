//! A verified, encrypted download of a whole core into an empty store on disk.
//!
//! `tcp` goes over a real loopback socket, `pipe` over memory, so that what the system's sockets cost shows. Each end has
//! a runtime of its own, as two processes have. Neither waits for syncs, as the JavaScript stack does not.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the bench needs directories of its own")]
#![expect(clippy::disallowed_types, reason = "the bench takes the time")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use autobee::env::native::NativeEnv;
use autobee::env::{Env as _, Listener as _, Network as _, PeerAddr};
use autobee::hypercore::{CoreOptions, Corestore, Wait};
use autobee::replication::Role;
use autobee::replication::session::{Replication, SessionSettings};
use autobee::wire::Index;
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "autobee-bench-replicate-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A store with the ways to reach others.
struct Peer {
    env: NativeEnv,
    store: Corestore<NativeEnv>,
    replication: Replication<NativeEnv>,
    _directory: Directory,
}

impl Peer {
    async fn new() -> Self {
        let directory = Directory::new();
        let env = NativeEnv::new(&directory.0).unwrap();
        let store = Corestore::open_default(env.clone()).await.unwrap();
        let replication = Replication::new(&env, &store, SessionSettings::default());
        Self {
            env,
            store,
            replication,
            _directory: directory,
        }
    }

    async fn close(self) {
        self.replication.close();
        self.store.close().await.unwrap();
    }
}

#[derive(Clone, Copy)]
enum Way {
    Tcp,
    Pipe,
}

/// How long it takes a new peer to fetch all blocks, from the first byte to the last block stored.
async fn download(
    (there, server): (&Runtime, &Peer),
    key: autobee::crypto::CoreKey,
    blocks: u64,
    way: Way,
) -> Duration {
    let reader = Peer::new().await;
    let core = reader.store.get(CoreOptions::key(key)).await.unwrap();
    let all = core.download((Index(0)..Index(blocks)).into()).unwrap();
    let start = match way {
        Way::Tcp => {
            let at = PeerAddr::new("127.0.0.1:0");
            let network = server.env.network().clone();
            let listener = there.spawn(async move { network.listen(&at).await.unwrap() });
            let mut listener = listener.await.unwrap();
            let address = listener.local_addr();
            let accepted = there.spawn(async move { listener.accept().await.unwrap() });
            let start = Instant::now();
            let dialled = reader.env.network().dial(&address).await.unwrap();
            let (accepted, _) = accepted.await.unwrap();
            server.replication.start(accepted, Role::Responder);
            reader.replication.start(dialled, Role::Initiator);
            start
        }
        Way::Pipe => {
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            let start = Instant::now();
            server.replication.start(theirs, Role::Responder);
            reader.replication.start(ours, Role::Initiator);
            start
        }
    };
    assert!(all.done(Wait::For(Duration::from_secs(60))).await.unwrap());
    let taken = start.elapsed();
    drop((all, core));
    reader.close().await;
    taken
}

fn replicate(criterion: &mut Criterion) {
    let [runtime, there] = [0, 1].map(|_| Runtime::new().unwrap());
    let mut group = criterion.benchmark_group("replicate");
    group.sample_size(10);
    for (size, blocks) in [(1 << 10, 40_000), (1 << 16, 2_000)] {
        let server = there.block_on(Peer::new());
        let key = there.block_on(async {
            let core = server.store.get(CoreOptions::name("log")).await.unwrap();
            for _ in 0..blocks / 100 {
                let batch = vec![Bytes::from(vec![7; size]); 100];
                core.append(batch).await.unwrap();
            }
            core.key()
        });
        group.throughput(Throughput::Elements(blocks));
        for (name, way) in [("tcp", Way::Tcp), ("pipe", Way::Pipe)] {
            group.bench_function(format!("{name}/{size}"), |bencher| {
                bencher.iter_custom(|times| {
                    runtime.block_on(async {
                        let mut taken = Duration::ZERO;
                        for _ in 0..times {
                            taken += download((&there, &server), key, blocks, way).await;
                        }
                        taken
                    })
                });
            });
        }
        there.block_on(server.close());
    }
    group.finish();
}

criterion_group!(benches, replicate);
criterion_main!(benches);
