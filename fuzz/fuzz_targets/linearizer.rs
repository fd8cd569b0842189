//! Whatever batches faulty writers make, and in whatever order they arrive: the linearizer ends, and says what the
//! model says.
//!
//! ```text
//! cargo +stable fuzz run -s none linearizer -- -len_control=0 -max_len=256
//! ```
//!
//! Each byte is one choice: who writes, when, which links, flags, claims and operation, and what arrives next. When
//! there are no more bytes all choices are the first.
#![no_main]

use autobee::crypto::CoreKey;
use autobee::engine::dag::{Claim, Dag};
use autobee::engine::linearizer::{self, Linearizer};
use autobee::wire::{Length, Link, Timestamp, Weight};
use autobee_sim::model::{ModelBatch, ModelBlock, ModelRules, Play, Player, canonical};
use autobee_sim::workload::Op;
use libfuzzer_sys::fuzz_target;

/// The model tries everything: more batches would take it too long.
const BATCHES_MAX: usize = 10;
const WRITERS: usize = 5;

struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn below(&mut self, end: usize) -> usize {
        let Some((byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        usize::from(*byte) % end
    }

    fn weight(&mut self) -> u64 {
        self.below(4) as u64
    }

    fn writer(&mut self) -> CoreKey {
        writer(self.below(WRITERS))
    }

    /// Something that was written, or is now.
    fn link(&mut self, batches: &[ModelBatch]) -> Link {
        match batches.get(self.below(batches.len() + 1)) {
            Some(batch) => Link {
                key: batch.writer,
                length: batch.last(),
            },
            None => Link {
                key: self.writer(),
                length: Length(self.below(4) as u64),
            },
        }
    }

    fn op(&mut self) -> Op {
        let key = |choice: usize| format!("k{choice}");
        match self.below(8) {
            0 => Op::put(key(self.below(2)), "x"),
            1 | 2 => Op::add_writer(self.writer(), self.weight()),
            3 => Op::remove_writer(self.writer()),
            4 => Op {
                ack: Some(self.writer().to_hex()),
                ..Op::default()
            },
            5 => Op {
                reject_if: Some(key(self.below(2))),
                ..Op::default()
            },
            6 => Op {
                del: Some(key(self.below(2))),
                ..Op::default()
            },
            _ => Op {
                reject: true,
                ..Op::default()
            },
        }
    }

    fn batches(&mut self) -> Vec<ModelBatch> {
        let mut batches: Vec<ModelBatch> = Vec::new();
        let mut lengths = [0; WRITERS];
        for _ in 0..=self.below(BATCHES_MAX) {
            let name = if batches.is_empty() {
                0
            } else {
                self.below(WRITERS)
            };
            let timestamp = Timestamp(self.below(16) as u64);
            let optimistic = self.below(3) == 1;
            let claim = (self.below(3) == 1).then(|| Claim {
                weight: Weight(self.weight()),
                backer: self.link(&batches),
                valid: self.below(8) != 7,
            });
            let nodes = (0..=self.below(3)).map(|_| ModelBlock {
                timestamp,
                links: (0..self.below(3)).map(|_| self.link(&batches)).collect(),
                optimistic,
                value: self.op().to_value(),
            });
            let nodes: Vec<ModelBlock> = nodes.collect();
            let first = Length(lengths[name] + 1);
            lengths[name] += nodes.len() as u64;
            batches.push(ModelBatch {
                writer: writer(name),
                first,
                nodes,
                claim,
            });
        }
        batches
    }
}

fn writer(name: usize) -> CoreKey {
    CoreKey::new([name as u8 + 1; 32])
}

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices(bytes);
    let batches = choices.batches();
    let rules = ModelRules {
        bootstrap: writer(0),
        optimistic: true,
        set: autobee::wire::Rules::interop(),
        // No operation here makes an anchor.
        anchor: &|_, _| CoreKey::new([0xff; 32]),
    };
    let mut player = Player::new(&rules, &batches);
    let mut dag = Dag::new();
    let order = linearizer::Rules {
        bootstrap: writer(0),
        optimistic: true,
        set: autobee::wire::Rules::interop(),
    };
    let mut linearizer = Linearizer::new(order, Play::default());
    let mut left: Vec<&ModelBatch> = batches.iter().collect();
    while !left.is_empty() {
        let at = choices.below(left.len());
        let next = left.iter().position(|batch| batch.writer == left[at].writer);
        let batch = left.remove(next.unwrap_or(at));
        dag.insert(batch.outline()).expect("batches of a writer in order");
        if choices.below(3) != 2 {
            linearizer.update(&dag, &mut player).expect("nothing to wait for");
        }
    }
    linearizer.update(&dag, &mut player).expect("nothing to wait for");

    let expected = canonical(&rules, &batches);
    assert_eq!(linearizer.state().to_model(), expected.state);
    let order = linearizer.entries().map(|entry| {
        let batch = dag.batch(entry.batch);
        (batch.writer, batch.first, entry.weight)
    });
    let expected = expected.order.iter().map(|(at, weight)| {
        let batch = &batches[*at];
        (batch.writer, batch.first, *weight)
    });
    assert!(order.eq(expected));
});
