//! Properties of proofs of random logs.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::crypto::{Ed25519, Seed, Sign as _};
use crate::hypercore::flat_tree;
use crate::hypercore::log::Log;
use crate::wire::compact::{Decode as _, Encode as _};
use crate::wire::{self, Length};

fn log_of(blocks: &[Vec<u8>]) -> Log {
    let mut log = Log::create(Ed25519.key_pair(&Seed::new([1; 32])));
    log.append(&Ed25519, blocks.to_vec()).unwrap();
    log
}

fn blocks(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<u8>>> {
    proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), count)
}

fn catch_up(log: &Log, copy: &mut Log, length: u64) {
    let start = copy.length().0;
    let upgrade = Some(UpgradeRequest {
        start,
        length: length - start,
    });
    let request = Request {
        upgrade,
        ..Request::default()
    };
    let mut proof = log.prove(&request).unwrap().unwrap();
    proof.manifest = log.manifest().cloned();
    assert!(copy.verify(&Ed25519, &proof).unwrap());
}

/// A request that makes sense for a copy of the first `known` blocks.
fn request(log: &Log, copy: &Log, block: u64, bytes: u64, parts: u8) -> Request {
    let (known, length) = (copy.length().0, log.length().0);
    let upgrade = (parts & 1 != 0 && known < length).then_some(UpgradeRequest {
        start: known,
        length: length - known,
    });
    let reach = if upgrade.is_some() { length } else { known };
    let block = block % reach.max(1);
    let nodes = copy.head().tree.missing_nodes(2 * block, copy.nodes()).unwrap();
    let is_wanted = parts & 2 != 0 && reach > 0;
    let seek = (parts & 4 != 0 && (upgrade.is_none() || !is_wanted)).then_some(SeekRequest {
        bytes: bytes % (log.head().tree.byte_length() + 1),
        padding: 0,
    });
    Request {
        block: (is_wanted && parts & 8 == 0).then_some(BlockRequest { index: block, nodes }),
        hash: (is_wanted && parts & 8 != 0).then_some(HashRequest {
            index: 2 * block,
            nodes,
        }),
        seek,
        upgrade,
    }
}

proptest! {
    #[test]
    fn every_proof_that_is_made_is_accepted(
        blocks in blocks(1..40), split: Index, block: u64, bytes: u64, parts in 0..16u8,
    ) {
        let log = log_of(&blocks);
        let mut copy = Log::replica(log.key());
        let known = split.index(blocks.len() + 1) as u64;
        // A copy that stopped at `known` because the log did.
        if known > 0 {
            let short = log_of(&blocks[..known as usize]);
            catch_up(&short, &mut copy, known);
        }
        let request = request(&log, &copy, block, bytes, parts);
        // A seek outside of the requested subtree is refused by the responder.
        let Ok(Some(mut proof)) = log.prove(&request) else {
            prop_assert!(request.seek.is_some());
            return Ok(());
        };
        proof.manifest = log.manifest().cloned();
        let message = DataMessage { request: 1, proof };
        let bytes = message.to_bytes().unwrap();
        prop_assert_eq!(&DataMessage::from_bytes(&bytes).unwrap(), &message);
        prop_assert!(copy.verify(&Ed25519, &message.proof).unwrap());
        if let Some(wanted) = request.block {
            prop_assert_eq!(copy.get(wire::Index(wanted.index)), log.get(wire::Index(wanted.index)));
        }
        if request.upgrade.is_some() {
            prop_assert_eq!(copy.head(), log.head());
        }
        for (index, node) in copy.nodes() {
            prop_assert_eq!(log.nodes().get(index), Some(node));
        }
    }

    /// A flipped bit is refused, or it is in a place that says nothing: then no wrong byte gets in.
    #[test]
    fn no_flipped_bit_gets_in(blocks in blocks(2..20), block: Index, at: Index, bit in 0..8u8, parts in 0..4u8) {
        let log = log_of(&blocks);
        let mut copy = Log::replica(log.key());
        if parts & 1 == 0 {
            catch_up(&log, &mut copy, log.length().0);
        }
        let index = block.index(blocks.len()) as u64;
        let request = request(&log, &copy, index, 0, parts | 2);
        let mut proof = log.prove(&request).unwrap().unwrap();
        proof.manifest = log.manifest().cloned().filter(|_| parts & 1 != 0);
        let mut bytes = DataMessage { request: 1, proof }.to_bytes().unwrap();
        let position = at.index(bytes.len());
        bytes[position] ^= 1 << bit;
        let Ok(message) = DataMessage::from_bytes(&bytes) else {
            return Ok(());
        };
        let before = copy.clone();
        match copy.verify(&Ed25519, &message.proof) {
            Err(error) => {
                prop_assert!(error.blames_peer());
                prop_assert_eq!(copy.nodes(), before.nodes());
                prop_assert_eq!(copy.head(), before.head());
            }
            Ok(_) => {
                let length = copy.length().0;
                prop_assert!(length == 0 || copy.head().tree == log.head().tree);
                for index in 0..length {
                    let stored = copy.get(wire::Index(index));
                    prop_assert!(stored.is_none() || stored == log.get(wire::Index(index)));
                }
                for (index, node) in copy.nodes() {
                    prop_assert_eq!(log.nodes().get(index).map(|node| node.hash), Some(node.hash));
                }
            }
        }
    }

    #[test]
    fn truncating_and_appending_equals_a_fresh_log(
        blocks in blocks(1..40), cut: Index, more in blocks(0..20),
    ) {
        let mut log = log_of(&blocks);
        let cut = cut.index(blocks.len() + 1);
        log.truncate(&Ed25519, Length(cut as u64), Some(0)).unwrap();
        log.append(&Ed25519, more.clone()).unwrap();
        let fresh: Vec<Vec<u8>> = blocks[..cut].iter().chain(&more).cloned().collect();
        let fresh = log_of(&fresh);
        prop_assert_eq!(&log.head().tree, &fresh.head().tree);
        prop_assert_eq!(log.nodes(), fresh.nodes());
        for node in log.nodes().values() {
            prop_assert!(flat_tree::end_block(node.index) <= log.length().0);
        }
    }

    #[test]
    fn a_reorg_ends_at_the_common_blocks(blocks in blocks(1..40), cut: Index, more in blocks(0..30)) {
        let mut log = log_of(&blocks);
        let mut copy = Log::replica(log.key());
        copy.accept(&Ed25519, log.export(Length::ZERO)).unwrap();
        let cut = cut.index(blocks.len() + 1) as u64;
        log.truncate(&Ed25519, Length(cut), None).unwrap();
        log.append(&Ed25519, more).unwrap();
        prop_assume!(log.length().0 > 0);
        let upgrade = Some(UpgradeRequest { start: 0, length: log.length().0 });
        let proof = log.prove(&Request { upgrade, ..Request::default() }).unwrap().unwrap();
        let mut reorg = Reorg::start(&copy.receiver(&Ed25519), &proof).unwrap();
        let mut steps = 0;
        while let Some(wanted) = reorg.wanted() {
            let hash = Some(HashRequest { index: 2 * wanted.start, nodes: wanted.nodes });
            let proof = log.prove(&Request { hash, ..Request::default() }).unwrap().unwrap();
            prop_assert!(reorg.advance(&copy.receiver(&Ed25519), &proof).unwrap());
            steps += 1;
            prop_assert!(steps < 10, "each step goes down, and the tree is not that high");
        }
        let shared = (0..log.length().0.min(copy.length().0))
            .take_while(|&index| log.get(wire::Index(index)) == copy.get(wire::Index(index)))
            .count() as u64;
        prop_assert_eq!(reorg.ancestors(), shared);
        prop_assert!(copy.rewind(reorg.finish().unwrap()));
        prop_assert_eq!(copy.head(), log.head());
        prop_assert_eq!(copy.contiguous_length().0, shared);
    }

    #[test]
    fn no_request_panics(blocks in blocks(0..9), numbers: [u64; 8], parts in 0..16u8) {
        let log = log_of(&blocks);
        let part = |bit: u8| parts & bit != 0;
        let [a, b, c, d, e, f, g, h] = numbers.map(|number| if number % 3 == 0 { number } else { number % 40 });
        let request = Request {
            block: part(1).then_some(BlockRequest { index: a, nodes: b }),
            hash: part(2).then_some(HashRequest { index: c, nodes: d }),
            seek: part(4).then_some(SeekRequest { bytes: e, padding: f }),
            upgrade: part(8).then_some(UpgradeRequest { start: g, length: h }),
        };
        let _ = log.prove(&request);
    }
}

proptest! {
    /// Proofs that are checked together are judged as if each was stored before the next.
    #[test]
    fn proofs_in_a_row_are_judged_one_after_the_other(
        blocks in blocks(1..40),
        asked in proptest::collection::vec((any::<u64>(), any::<bool>(), 0..6u8, any::<Index>()), 1..12),
    ) {
        let log = log_of(&blocks);
        let mut copy = Log::replica(log.key());
        catch_up(&log, &mut copy, blocks.len() as u64);
        let proofs: Vec<Proof> = asked.iter().map(|(block, is_hash, damage, at)| {
            let parts = if *is_hash { 2 | 8 } else { 2 };
            let mut proof = log.prove(&request(&log, &copy, *block, 0, parts)).unwrap().unwrap();
            let nodes = match (&mut proof.block, &mut proof.hash) {
                (Some(block), _) => &mut block.nodes,
                (_, Some(hash)) => &mut hash.nodes,
                _ => unreachable!("one was asked for"),
            };
            match damage {
                0 if !nodes.is_empty() => {
                    let at = at.index(nodes.len());
                    nodes[at].size += 1;
                }
                1 if !nodes.is_empty() => {
                    let at = at.index(nodes.len());
                    nodes[at].hash = crate::crypto::Hash::new([3; 32]);
                }
                2 => drop(nodes.pop()),
                _ => {}
            }
            proof
        }).collect();
        let together = copy.receiver(&Ed25519).check_all(&proofs.iter().collect::<Vec<_>>());
        for (proof, together) in proofs.iter().zip(together) {
            let alone = copy.receiver(&Ed25519).check(proof);
            match (together, alone) {
                (Ok(together), Ok(alone)) => {
                    prop_assert_eq!(together, alone);
                    prop_assert!(copy.verify(&Ed25519, proof).unwrap());
                }
                (Err(together), Err(alone)) => prop_assert_eq!(together.to_string(), alone.to_string()),
                (together, alone) => prop_assert!(false, "{:?} and {:?}", together, alone),
            }
        }
    }
}
