//! Two sides of a partition that wrote alone, healed: until both have everything in order, over memory streams.
//!
//! What each side did for it, counted from the heal on, is printed.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench fails by panicking and says what it found"
)]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the bench takes the time"
)]

#[path = "databases/connection.rs"]
mod connection;
mod databases;
#[path = "databases/member.rs"]
mod member;

use std::time::{Duration, Instant};

use autobee::db::{Durability, Stats};
use connection::connect;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use databases::{Peer, applied, value};
use member::member;
use tokio::runtime::Runtime;

/// The time of the heal, and what each side counted in it.
async fn heal(entries: usize) -> (Duration, [Stats; 2]) {
    let a = Peer::open(None, Durability::Visible).await;
    let b = member(&a).await;
    for at in 0..entries {
        a.db.append(value(at)).await.unwrap();
        b.db.append(value(entries + at)).await.unwrap();
    }
    a.synced().await;
    b.synced().await;
    let before = [a.db.stats(), b.db.stats()];
    let start = Instant::now();
    let link = connect(&a.db, &b.db);
    applied(&a.db, b.db.local(), entries as u64).await;
    applied(&b.db, a.db.local(), entries as u64 + 1).await;
    let taken = start.elapsed();
    link.end();
    assert_eq!(a.db.order().unwrap(), b.db.order().unwrap());
    let after = [a.db.stats(), b.db.stats()];
    a.close().await;
    b.close().await;
    let [ours, theirs] = [0, 1].map(|side| {
        let mut done = after[side];
        done.applies -= before[side].applies;
        done.undos -= before[side].undos;
        done.undone -= before[side].undone;
        done
    });
    (taken, [ours, theirs])
}

fn reorg(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("reorg");
    group.sample_size(10);
    group.throughput(Throughput::Elements(400));
    group.bench_function("200 each", |bencher| {
        bencher.iter_custom(|times| {
            runtime.block_on(async {
                let mut taken = Duration::ZERO;
                for _ in 0..times {
                    taken += heal(200).await.0;
                }
                taken
            })
        });
    });
    group.finish();
    let mut last: Option<Duration> = None;
    for entries in [200, 12_500, 25_000, 50_000] {
        let (taken, sides) = runtime.block_on(heal(entries));
        let growth = last
            .replace(taken)
            .map_or(0.0, |last| taken.as_secs_f64() / last.as_secs_f64());
        println!(
            "reorg/{entries} each: {taken:.2?}, {growth:.2} times the line before; applies, undos of each side: {:?}",
            sides.map(|done| (done.applies, done.undos))
        );
    }
}

criterion_group!(benches, reorg);
criterion_main!(benches);
