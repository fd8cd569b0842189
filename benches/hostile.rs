//! What claims of weight cost that come to nothing: those of strangers whose entries apply refuses, and those of a member
//! beyond its ceiling, or of a writer that was removed.

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

#[path = "../tests/database/hostile/strangers.rs"]
mod strangers;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use autobee::wire::Timestamp;
use autobee_sim::workload::Op;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use strangers::Local;

/// As many as are taken of one log.
const BLOCKS: u64 = 32;

const APPENDS: u32 = 100;

/// Steps of a portion, as the database asks for them.
const PORTION: usize = 4096;

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

/// Whose claims they are.
#[derive(Debug, Clone, Copy)]
enum Claims {
    Member,
    Removed,
    /// Of two members, each linking the other.
    Linked,
}

/// All claims of a member arrive at once, and an entry of another one that belongs before them. Gives the time until they
/// are ordered, that for what came late, the longest portion of both, and the moves over entries: appends have their turn
/// between two portions.
fn member(claims: Claims, count: u64) -> ([Duration; 3], u64) {
    let mut local = Local::new();
    local.append(&Op::put("a", "1"));
    let logs = match claims {
        Claims::Linked => local.linked_claims([7, 9], count / 2).to_vec(),
        Claims::Member | Claims::Removed => vec![local.member_claims(7, count)],
    };
    if matches!(claims, Claims::Removed) {
        local.append(&Op::remove_writer(logs[0].0));
    }
    let late = local.late(8);
    local.now += 10_000_000;
    let mut longest = Duration::ZERO;
    let mut drain = |local: &mut Local| {
        let start = Instant::now();
        loop {
            let portion = Instant::now();
            let more = local.engine.drain(Timestamp(local.now), PORTION).unwrap().more;
            longest = longest.max(portion.elapsed());
            if !more {
                return start.elapsed();
            }
        }
    };
    local.feed(&local.backer());
    for log in &logs {
        local.feed(log);
    }
    let all = drain(&mut local);
    local.feed(&late);
    let again = drain(&mut local);
    ([all, again, longest], local.engine.stats().steps)
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
    for claims in [Claims::Member, Claims::Removed, Claims::Linked] {
        let mut before = None::<(Duration, u64)>;
        for count in [250, 500, 1_000] {
            let ([all, again, longest], steps) = member(claims, count);
            let exponents = before.map(|(time, moves)| {
                let time = (all.as_secs_f64() / time.as_secs_f64()).log2();
                (time, (steps as f64 / moves as f64).log2())
            });
            println!(
                "{count} claims, {claims:?}: {all:?} and {steps} moves (exponents {exponents:.2?}), {again:?} for a late entry, portions up to {longest:?}"
            );
            before = Some((all, steps));
            group.throughput(Throughput::Elements(count));
            group.bench_function(format!("{count} claims, {claims:?}"), |bencher| {
                bencher.iter_custom(|times| (0..times).map(|_| member(claims, count).0[0]).sum());
            });
        }
    }
    group.finish();
}

criterion_group!(benches, hostile);
criterion_main!(benches);
