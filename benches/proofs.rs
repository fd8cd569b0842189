//! Proofs in a log of a million blocks: making one, checking one, catching up with the head.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;

use autobee::crypto::{Ed25519, Seed, Sign as _};
use autobee::hypercore::log::Log;
use autobee::hypercore::proof::{BlockRequest, DataMessage, Request, UpgradeRequest};
use autobee::wire::{Decode as _, Encode as _};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const LENGTH: u64 = 1_000_000;

fn proofs(criterion: &mut Criterion) {
    let mut log = Log::create(Ed25519.key_pair(&Seed::new([1; 32])));
    log.append(&Ed25519, (0..LENGTH).map(|at| vec![at as u8; 100]))
        .unwrap();
    let upgrade = Request {
        upgrade: Some(UpgradeRequest {
            start: 0,
            length: LENGTH,
        }),
        ..Request::default()
    };
    let mut copy = Log::replica(log.key());
    let mut head = log.prove(&upgrade).unwrap().unwrap();
    head.manifest = log.manifest().cloned();
    copy.verify(&Ed25519, &head).unwrap();
    let request = |index| Request {
        block: Some(BlockRequest {
            index,
            nodes: copy.head().tree.missing_nodes(2 * index, copy.nodes()).unwrap(),
        }),
        ..Request::default()
    };
    let far = request(123_456);
    let proof = log.prove(&far).unwrap().unwrap();
    let message = DataMessage { request: 1, proof };
    let bytes = message.to_bytes().unwrap();

    let mut group = criterion.benchmark_group("proofs");
    group.throughput(Throughput::Elements(1));
    group.bench_function("make/block", |bencher| {
        bencher.iter(|| log.prove(black_box(&far)).unwrap());
    });
    group.bench_function("check/block", |bencher| {
        let receiver = copy.receiver(&Ed25519);
        bencher.iter(|| receiver.check(black_box(&message.proof)).unwrap());
    });
    group.bench_function("decode/block", |bencher| {
        bencher.iter(|| DataMessage::from_bytes(black_box(&bytes)).unwrap());
    });
    group.bench_function("make/upgrade", |bencher| {
        bencher.iter(|| log.prove(black_box(&upgrade)).unwrap());
    });
    group.bench_function("check/upgrade", |bencher| {
        let empty = Log::replica(log.key());
        let receiver = empty.receiver(&Ed25519);
        bencher.iter(|| receiver.check(black_box(&head)).unwrap());
    });
    group.finish();
}

criterion_group!(benches, proofs);
criterion_main!(benches);
