//! Four writers that appended alone, interleaved in time, meet at one peer.

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

const WRITERS: usize = 4;

/// The time from the first connection to the last entry applied, and what the peer did for it.
async fn merge(each: usize) -> (Duration, Stats) {
    let meeting = Peer::open(None, Durability::Visible).await;
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        writers.push(member(&meeting).await);
    }
    for at in 0..each {
        for (number, writer) in writers.iter().enumerate() {
            writer.db.append(value(number * each + at)).await.unwrap();
        }
    }
    for writer in &writers {
        writer.synced().await;
    }
    let before = meeting.db.stats();
    let start = Instant::now();
    let links: Vec<_> = writers
        .iter()
        .map(|writer| connect(&meeting.db, &writer.db))
        .collect();
    for writer in &writers {
        applied(&meeting.db, writer.db.local(), each as u64).await;
    }
    let taken = start.elapsed();
    links.into_iter().for_each(connection::Connection::end);
    let mut done = meeting.db.stats();
    done.applies -= before.applies;
    done.undos -= before.undos;
    done.undone -= before.undone;
    for writer in writers {
        writer.close().await;
    }
    meeting.close().await;
    (taken, done)
}

fn linearize(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("linearize");
    group.sample_size(10);
    for each in [100, 1_000] {
        group.throughput(Throughput::Elements((WRITERS * each) as u64));
        group.bench_function(format!("4 writers of {each}"), |bencher| {
            bencher.iter_custom(|times| {
                runtime.block_on(async {
                    let mut taken = Duration::ZERO;
                    for _ in 0..times {
                        taken += merge(each).await.0;
                    }
                    taken
                })
            });
        });
        let (_, done) = runtime.block_on(merge(each));
        println!(
            "linearize/4 writers of {each}: {} applies, {} undos of {} batches",
            done.applies, done.undos, done.undone
        );
    }
    group.finish();
}

criterion_group!(benches, linearize);
criterion_main!(benches);
