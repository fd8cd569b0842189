//! Whole engines that hold a small window: with blocks, trees and checkpoints they are where an engine is that holds all.

use std::collections::{BTreeMap, BTreeSet};

use autobee::apply::{ApplyFn, OrderOnly};
use autobee::bee::Range;
use autobee::crypto::{CoreKey, Ed25519};
use autobee::engine::{Checkpoint, Engine, EngineOptions, Trees, WINDOW_BATCHES};
use autobee::wire::oplog::{BatchPosition, OplogBlock};
use autobee::wire::{Decode as _, Encode as _, Index, Length, Link, Rules, Timestamp};
use autobee_sim::model::ModelBatch;
use autobee_sim::workload::JsonApply;
use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample;

use super::forgetting::{Turn, build_honest, honest, turn};
use super::history::{RULES, rules, writer};
use super::order::{build, cases, delivery, spec};

const NOW: Timestamp = Timestamp(1_000);

fn options(trees: &Trees, window_batches: usize, rules: Rules) -> EngineOptions<Ed25519> {
    EngineOptions {
        key: RULES.bootstrap,
        name: String::new(),
        apply: ApplyFn::new(JsonApply),
        optimistic: RULES.optimistic,
        rules: Some(rules),
        verify: Ed25519,
        trees: trees.clone(),
        window_batches,
    }
}

fn trees() -> Trees {
    Trees::unshared(&RULES.bootstrap, 1 << 20).unwrap()
}

/// What its writer publishes; without its attestation, which would need signatures.
fn blocks(batch: &ModelBatch) -> Vec<Bytes> {
    let count = batch.nodes.len() as u64;
    let block = |(before, node): (u64, &autobee_sim::model::ModelBlock)| OplogBlock {
        timestamp: node.timestamp,
        links: node.links.clone(),
        batch: BatchPosition {
            before,
            after: count - 1 - before,
        },
        optimistic: node.optimistic,
        value: Some(node.value.clone().into()),
        ..OplogBlock::default()
    };
    (0..)
        .zip(&batch.nodes)
        .map(block)
        .map(|block| block.to_bytes().unwrap().into())
        .collect()
}

/// An engine and the logs that it is fed from.
struct Peer {
    engine: Engine<Ed25519>,
    trees: Trees,
    window: usize,
    rules: Rules,
    logs: BTreeMap<CoreKey, Vec<Bytes>>,
    now: Timestamp,
}

impl Peer {
    fn new(window: usize, rules: Rules) -> Self {
        let trees = trees();
        Self {
            engine: Engine::new(options(&trees, window, rules)),
            trees,
            window,
            rules,
            logs: BTreeMap::new(),
            now: NOW,
        }
    }

    fn receive(&mut self, batch: &ModelBatch) {
        let log = self.logs.entry(batch.writer).or_default();
        log.extend(blocks(batch));
        self.feed(batch.writer);
    }

    fn feed(&mut self, core: CoreKey) {
        let log = &self.logs[&core];
        let from = self.engine.fed_from(&core);
        let new = log.get(usize::try_from(from.0).unwrap()..).unwrap_or_default();
        self.engine.ingest(core, Index(from.0), new);
    }

    fn drain(&mut self) {
        for _ in 0..100 {
            let drained = self.engine.drain(self.now, usize::MAX).unwrap();
            if !drained.is_behind && !drained.more {
                return;
            }
            if drained.more {
                continue;
            }
            let before = self.engine.forgotten();
            self.engine.go_back().unwrap();
            assert!(self.engine.forgotten() < before);
            self.feed_all();
        }
        panic!("it goes back for ever");
    }

    fn feed_all(&mut self) {
        for core in self.logs.keys().copied().collect::<Vec<_>>() {
            self.feed(core);
        }
    }

    /// As after a restart. Trees in memory live as long as some version, so the old engine lives until the new one does.
    fn restart(&mut self) {
        let stored: Vec<Bytes> = self
            .engine
            .checkpoints()
            .iter()
            .map(|checkpoint| checkpoint.to_bytes().unwrap().into())
            .collect();
        let stored: Vec<Checkpoint> = stored
            .iter()
            .map(|bytes| Checkpoint::from_bytes(bytes).unwrap())
            .collect();
        assert_eq!(stored, self.engine.checkpoints());
        let engine = Engine::resume(options(&self.trees, self.window, self.rules), &stored).unwrap();
        std::mem::forget(std::mem::replace(&mut self.engine, engine));
        self.feed_all();
    }
}

fn play(rules: Rules, batches: &[ModelBatch], order: &[usize], window: usize, turns: &[Turn]) {
    let mut at_once = Peer::new(WINDOW_BATCHES, rules);
    let mut peer = Peer::new(window, rules);
    let mut turns = turns.iter().cycle();
    for at in order {
        at_once.receive(&batches[*at]);
        peer.receive(&batches[*at]);
        let Some(turn) = turns.next() else { continue };
        if turn.updates {
            peer.drain();
        }
        if turn.restarts {
            peer.restart();
        }
    }
    at_once.drain();
    peer.drain();
    // Anchors that nobody made take longer to find, one behind the other.
    for _ in 0..batches.len() {
        peer.now.0 += 5_000;
        peer.drain();
    }
    let (found, expected) = (&peer.engine, &at_once.engine);
    assert_eq!(expected.forgotten(), 0);
    assert_eq!(found.batches(), expected.batches());
    let order = expected.history(|_, _| None).unwrap();
    assert_eq!(order, expected.order());
    let blocks: BTreeSet<_> = order.iter().map(|entry| (entry.key, entry.length)).collect();
    let mut read = found.history(|_, _| None).unwrap();
    // What was refused before its writer was let in, the trees do not tell from the batch that let it in.
    read.retain(|entry| blocks.contains(&(entry.key, entry.length)));
    assert_eq!(read, order);
    assert_eq!(found.system(), expected.system());
    let all = |engine: &Engine<Ed25519>| engine.view().range(Range::all()).unwrap();
    assert_eq!(all(found), all(expected));
}

fn without_claims(mut batches: Vec<ModelBatch>) -> Vec<ModelBatch> {
    for batch in &mut batches {
        batch.claim = None;
    }
    batches
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn engines_with_a_window_are_where_others_are(
        specs in prop::collection::vec(spec(), 0..40),
        choices in prop::collection::vec(any::<sample::Index>(), 1..16),
        window in sample::select(vec![1_usize, 2, 5]),
        turns in prop::collection::vec(turn(), 1..20),
        is_safe: bool,
    ) {
        let batches = without_claims(build(&specs));
        play(rules(is_safe).set, &batches, &delivery(&batches, &choices), window, &turns);
    }

    #[test]
    fn engines_with_a_window_follow_honest_histories(
        history in prop::collection::vec(honest(), 0..60),
        choices in prop::collection::vec(any::<sample::Index>(), 1..16),
        window in sample::select(vec![1_usize, 2, 5, 20]),
        turns in prop::collection::vec(turn(), 1..20),
        is_safe: bool,
    ) {
        let batches = without_claims(build_honest(&history));
        play(rules(is_safe).set, &batches, &delivery(&batches, &choices), window, &turns);
    }
}

/// Three writers who are caught up or almost, for as long as one likes: what is held does not grow.
#[test]
fn what_is_held_is_bounded() {
    const WINDOW: usize = 1_000;
    const BATCHES: u64 = 200_000;
    let mut engine = Engine::new(EngineOptions {
        apply: ApplyFn::new(OrderOnly),
        ..options(&trees(), WINDOW, Rules::interop())
    });
    let mut lengths = [0_u64; 3];
    let mut applies = Vec::new();
    for number in 0..BATCHES {
        let name = u8::try_from(number % 3).unwrap();
        let links = (0..3_u8)
            .filter(|other| *other != name)
            // The last batch of the writer before has not come yet.
            .map(|other| {
                (
                    other,
                    lengths[usize::from(other)].saturating_sub(u64::from((other + 1) % 3 == name)),
                )
            })
            .filter(|(_, length)| *length > 0)
            .map(|(other, length)| Link {
                key: writer(other),
                length: Length(length),
            });
        let block = OplogBlock {
            timestamp: Timestamp(number / 4),
            links: links.collect(),
            optimistic: true,
            value: Some("x".into()),
            ..OplogBlock::default()
        };
        let length = &mut lengths[usize::from(name)];
        engine.ingest(writer(name), Index(*length), &[block.to_bytes().unwrap().into()]);
        *length += 1;
        if number % 10 == 9 {
            assert!(
                !engine.drain(Timestamp(BATCHES), usize::MAX).unwrap().is_behind,
                "batch {number}"
            );
            let held = engine.held();
            assert!(held.batches <= 4 * WINDOW + 10, "{held:?}");
            assert!(held.blocks <= 4 * WINDOW + 20, "{held:?}");
            assert!(held.ready <= 4 * WINDOW + 20, "{held:?}");
            assert!(held.waiting <= 20 && held.checkpoints <= 20, "{held:?}");
        }
        if number % (BATCHES / 10) == BATCHES / 10 - 1 {
            applies.push(engine.stats().applies);
        }
    }
    assert_eq!(engine.batches() as u64, BATCHES);
    let bytes: Vec<usize> = engine
        .checkpoints()
        .iter()
        .map(|checkpoint| checkpoint.to_bytes().unwrap().len())
        .collect();
    assert!(bytes.iter().all(|bytes| *bytes < 1_000), "{bytes:?}");
    let steady = applies
        .windows(2)
        .all(|pair| pair[1] - pair[0] <= BATCHES / 10 * 3);
    assert!(steady, "it gets slower: {applies:?}");
}
