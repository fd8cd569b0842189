//! Requests and proofs come from peers: no bytes may panic, hang, or get anything into a log that its owner did not
//! sign.
//!
//! ```text
//! cargo +stable fuzz run -s none proofs -- -len_control=0 -max_len=4096
//! ```
//!
//! The first byte says what the rest is. Seeds: the `data`, `requestHex` and `hex` fields of `tests/vectors/proofs.json`,
//! each with a byte 0, 1 or 2 in front.
#![no_main]

use std::sync::LazyLock;

use autobee::crypto::{Ed25519, Seed, Sign as _};
use autobee::hypercore::log::Log;
use autobee::hypercore::proof::{DataMessage, Reorg, Request, RequestMessage, Standalone, UpgradeRequest};
use autobee::wire::{Decode as _, Encode as _, Index};
use libfuzzer_sys::fuzz_target;

/// A log, a copy that knows its head, and one that knows nothing.
static LOGS: LazyLock<(Log, Log, Log)> = LazyLock::new(|| {
    let mut log = Log::create(Ed25519.key_pair(&Seed::new([7; 32])));
    log.append(&Ed25519, (0..13u8).map(|at| vec![at; usize::from(at)]))
        .expect("an own log");
    let fresh = Log::replica(log.key());
    let mut copy = fresh.clone();
    let request = Request {
        upgrade: Some(UpgradeRequest { start: 0, length: 13 }),
        ..Request::default()
    };
    let mut proof = log
        .prove(&request)
        .expect("a valid request")
        .expect("no block was asked for");
    proof.manifest = log.manifest().cloned();
    assert_eq!(copy.verify(&Ed25519, &proof).ok(), Some(true), "an honest proof");
    (log, copy, fresh)
});

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    match kind % 3 {
        0 => data(bytes),
        1 => request(bytes),
        _ => standalone(bytes),
    }
});

fn data(bytes: &[u8]) {
    let Ok(message) = DataMessage::from_bytes(bytes) else {
        return;
    };
    let written = message.to_bytes().expect("what was read can be written");
    assert_eq!(DataMessage::from_bytes(&written).as_ref(), Ok(&message));
    let (log, copy, fresh) = &*LOGS;
    for start in [log, copy, fresh] {
        let mut target = start.clone();
        match target.verify(&Ed25519, &message.proof) {
            Err(error) => assert!(error.blames_peer(), "{error}"),
            Ok(_) => {
                assert!(
                    target.length().0 == 0 || target.head().tree == log.head().tree,
                    "only what is signed"
                );
                for index in (0..log.length().0).map(Index) {
                    assert!(target.get(index).is_none() || target.get(index) == log.get(index));
                }
            }
        }
        if let Ok(mut reorg) = Reorg::start(&start.receiver(&Ed25519), &message.proof) {
            let _ = reorg.advance(&start.receiver(&Ed25519), &message.proof);
        }
    }
}

fn request(bytes: &[u8]) {
    let Ok(message) = RequestMessage::from_bytes(bytes) else {
        return;
    };
    let written = message.to_bytes().expect("what was read can be written");
    assert_eq!(RequestMessage::from_bytes(&written), Ok(message));
    let (log, copy, fresh) = &*LOGS;
    for source in [log, copy, fresh] {
        if let Ok(Some(proof)) = source.prove(&message.request) {
            let request = message.id;
            let written = DataMessage { request, proof }
                .to_bytes()
                .expect("a proof can be written");
            assert!(
                written.len() < 1 << 14,
                "an answer is not larger than the log it is about"
            );
        }
    }
}

fn standalone(bytes: &[u8]) {
    let Ok(proof) = Standalone::from_bytes(bytes) else {
        return;
    };
    let (log, ..) = &*LOGS;
    let manifest = log.manifest().expect("an own log");
    if let Ok(Some(shown)) = proof.check(manifest, &Ed25519) {
        assert_eq!(shown.length, log.length().0, "only what is signed");
    }
}
