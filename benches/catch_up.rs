//! A new peer fetches a whole history and applies it, over memory streams.

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

use autobee::db::Durability;
use connection::connect;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use databases::{Peer, applied, value};
use tokio::runtime::Runtime;

const ENTRIES: usize = 64 * 400;

async fn catch_up(from: &Peer) -> Duration {
    let peer = Peer::open(Some(from.db.key()), Durability::Visible).await;
    let start = Instant::now();
    let link = connect(&from.db, &peer.db);
    applied(&peer.db, from.db.local(), ENTRIES as u64).await;
    let taken = start.elapsed();
    link.end();
    peer.close().await;
    taken
}

fn bench(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let from = runtime.block_on(async {
        let from = Peer::open(None, Durability::Visible).await;
        for batch in 0..ENTRIES / 64 {
            let values = (0..64).map(|at| value(batch * 64 + at)).collect();
            from.db.append_batch(values).await.unwrap();
        }
        from
    });
    let mut group = criterion.benchmark_group("catch_up");
    group.sample_size(10);
    group.throughput(Throughput::Elements(ENTRIES as u64));
    group.bench_function("batches of 64", |bencher| {
        bencher.iter_custom(|times| {
            runtime.block_on(async {
                let mut taken = Duration::ZERO;
                for _ in 0..times {
                    taken += catch_up(&from).await;
                }
                taken
            })
        });
    });
    group.finish();
    runtime.block_on(from.close());
}

criterion_group!(benches, bench);
criterion_main!(benches);
