//! What a stranger costs whose entries apply refuses, each with a claim that another log of it backs.

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

#[path = "../tests/engine/strangers.rs"]
mod strangers;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use autobee_sim::workload::Op;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use strangers::Local;

/// As many as are taken of one log.
const BLOCKS: u64 = 32;

const APPENDS: u32 = 100;

/// Refused entries are taken, 32 of each log, and let go. Gives the time of that, and of an own append before and behind.
fn attack(count: u64) -> (Duration, Duration, Duration) {
    let mut local = Local::new();
    local.append(&Op::put("a", "1"));
    let appends = |local: &mut Local| {
        let start = Instant::now();
        for number in 0..APPENDS {
            local.append(&Op::put("b", number.to_string()));
            local.engine.let_go(&mut BTreeSet::new());
        }
        start.elapsed() / APPENDS
    };
    let before = appends(&mut local);
    let backer = local.backer();
    let logs = 0..u32::try_from(count.div_ceil(BLOCKS)).unwrap();
    let logs: Vec<_> = logs
        .map(|name| local.claims(name + 2, BLOCKS.min(count)))
        .collect();
    let start = Instant::now();
    for log in &logs {
        // Its turn: as the machine, that has no more of them in the set than it may try in a second.
        local.feed(&backer);
        local.feed(log);
        local.drain();
        local.engine.let_go(&mut BTreeSet::new());
    }
    let taken = start.elapsed();
    (taken, before, appends(&mut local))
}

fn hostile(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hostile");
    group.sample_size(10);
    for count in [100, 1_000, 10_000] {
        let (taken, before, after) = attack(count);
        println!(
            "{count} refused claims: {taken:?} to take them, an own append {before:?} before, {after:?} behind"
        );
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("{count} refused claims"), |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| attack(count).0).sum());
        });
    }
    group.finish();
}

criterion_group!(benches, hostile);
criterion_main!(benches);
