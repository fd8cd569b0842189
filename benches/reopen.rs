//! Opening databases again whose histories are of different lengths: the time, and what is in memory then.
//!
//! One long history is made and reopened once, so this is no statistic: it prints what it found.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a bench fails by panicking, measures, and says what it found"
)]

mod databases;

use std::time::Instant;

use autobee::db::Durability;
use databases::{Peer, applied, value};
use tokio::runtime::Runtime;

const BATCH: usize = 64;

fn main() {
    let runtime = Runtime::new().unwrap();
    for entries in [10_000, 100_000, 1_000_000] {
        runtime.block_on(reopen(entries));
    }
}

async fn reopen(entries: usize) {
    let mut peer = Peer::open(None, Durability::Visible).await;
    let start = Instant::now();
    for at in (0..entries).step_by(BATCH) {
        let values = (at..at + BATCH).map(value).collect();
        peer.db.append_batch(values).await.unwrap();
    }
    let appended = start.elapsed();
    applied(&peer.db, peer.db.local(), entries as u64).await;
    let mut times = Vec::new();
    for _ in 0..3 {
        peer.db.close().await.unwrap();
        let directory = peer.directory;
        drop(peer.db);
        let start = Instant::now();
        peer = Peer::open_in(directory, None, Durability::Visible).await;
        times.push(start.elapsed());
    }
    let stats = peer.db.stats();
    println!(
        "reopen/{entries} entries by {BATCH}: {:?}; appended in {appended:?}; {} applies; {:?}",
        times.iter().min().unwrap(),
        stats.applies,
        peer.db.held(),
    );
    peer.close().await;
}
