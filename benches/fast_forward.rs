//! A new peer goes on from the trees of the creator, and reads a value of the view: over memory streams, with histories of
//! 1,000, 10,000 and 100,000 entries.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the bench takes the time"
)]

#[path = "databases/connection.rs"]
mod connection;
mod databases;

use std::time::{Duration, Instant};

use autobee::db::{AllMembers, Durability, FastForward};
use connection::connect;
use criterion::{Criterion, criterion_group, criterion_main};
use databases::{Peer, applied, value};
use tokio::runtime::Runtime;

const HISTORIES: [usize; 3] = [1_000, 10_000, 100_000];

async fn join(from: &Peer, entries: usize) -> Duration {
    let peer = Peer::open(Some(from.db.key()), Durability::Visible).await;
    let forward = FastForward::trusting(AllMembers);
    peer.db.set_fast_forward(forward).await.unwrap();
    let start = Instant::now();
    let link = connect(&from.db, &peer.db);
    applied(&peer.db, from.db.local(), entries as u64).await;
    let read = peer.db.view().get(&value(7)[..8]).await.unwrap();
    let taken = start.elapsed();
    assert!(read.is_some());
    assert_eq!(peer.db.stats().fast_forwards, 1, "it went on from the trees");
    link.end();
    peer.close().await;
    taken
}

fn bench(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("fast_forward");
    group.sample_size(10);
    for entries in HISTORIES {
        let from = runtime.block_on(async {
            let from = Peer::open(None, Durability::Visible).await;
            for at in 0..entries {
                from.db.append(value(at)).await.unwrap();
            }
            from.synced().await;
            from
        });
        group.bench_function(format!("{entries} entries"), |bencher| {
            bencher.iter_custom(|times| {
                runtime.block_on(async {
                    let mut taken = Duration::ZERO;
                    for _ in 0..times {
                        taken += join(&from, entries).await;
                    }
                    taken
                })
            });
        });
        runtime.block_on(from.close());
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
