//! Sets of batches by hand or at random, and peers that get them in some order.

use autobee::crypto::CoreKey;
use autobee::engine::dag::{Claim, Dag};
use autobee::engine::linearizer::{self, Linearizer, OrderUpdate};
use autobee::wire::{Length, Link, Timestamp, Weight};
use autobee_sim::model::{ModelBatch, ModelBlock, ModelRules, Play, Player, canonical};
use autobee_sim::workload::Op;

/// A writer. The first one is the creator.
pub(crate) fn writer(name: u8) -> CoreKey {
    CoreKey::new([name + 1; 32])
}

/// The first `length` blocks of a writer.
pub(crate) fn link(name: u8, length: u64) -> Link {
    Link {
        key: writer(name),
        length: Length(length),
    }
}

/// Anchors are told apart, which is all that matters here.
pub(crate) fn anchor(key: CoreKey, length: Length) -> CoreKey {
    autobee::engine::anchor::anchor(key, length).map_or(key, |link| link.key)
}

pub(crate) const RULES: ModelRules<'static> = ModelRules {
    bootstrap: CoreKey::new([1; 32]),
    optimistic: true,
    set: autobee::wire::Rules::interop(),
    anchor: &anchor,
};

/// The same under safe rules.
pub(crate) const SAFE: ModelRules<'static> = ModelRules {
    set: autobee::wire::Rules::safe(),
    ..RULES
};

/// One of both.
pub(crate) const fn rules(is_safe: bool) -> &'static ModelRules<'static> {
    if is_safe { &SAFE } else { &RULES }
}

/// As the order takes them.
pub(crate) const fn of_order(rules: &ModelRules<'_>) -> linearizer::Rules {
    linearizer::Rules {
        bootstrap: rules.bootstrap,
        optimistic: rules.optimistic,
        set: rules.set,
    }
}

/// A batch of one node that links these.
pub(crate) fn batch(name: u8, length: u64, timestamp: u64, links: &[(u8, u64)], op: &Op) -> ModelBatch {
    let node = ModelBlock {
        timestamp: Timestamp(timestamp),
        links: links.iter().map(|(name, length)| link(*name, *length)).collect(),
        optimistic: false,
        value: op.to_value(),
    };
    ModelBatch {
        writer: writer(name),
        first: Length(length),
        nodes: vec![node],
        claim: None,
    }
}

/// Such a batch with a flag.
pub(crate) fn optimistic(mut batch: ModelBatch) -> ModelBatch {
    for node in &mut batch.nodes {
        node.optimistic = true;
    }
    batch
}

/// Such a batch with an attestation that verifies.
pub(crate) fn claim(mut batch: ModelBatch, weight: u64, backer: (u8, u64)) -> ModelBatch {
    let backer = link(backer.0, backer.1);
    batch.claim = Some(Claim {
        weight: Weight(weight),
        backer,
        valid: true,
    });
    batch
}

/// A replica as far as the order goes.
pub(crate) struct Peer<'a> {
    rules: &'a ModelRules<'a>,
    batches: &'a [ModelBatch],
    pub(crate) dag: Dag,
    pub(crate) linearizer: Linearizer<Play>,
    pub(crate) player: Player<'a>,
    held: Vec<usize>,
}

impl<'a> Peer<'a> {
    pub(crate) fn new(rules: &'a ModelRules<'a>, batches: &'a [ModelBatch]) -> Self {
        Self {
            rules,
            batches,
            dag: Dag::new().following(rules.set),
            linearizer: Linearizer::new(of_order(rules), Play::default()),
            player: Player::new(rules, batches),
            held: Vec::new(),
        }
    }

    /// Gets a batch. Those of one writer have to come in order.
    pub(crate) fn receive(&mut self, at: usize) {
        let batch = &self.batches[at];
        for (length, _) in batch.numbered() {
            self.dag.add_anchor((self.rules.anchor)(batch.writer, length));
        }
        self.dag.insert(batch.outline()).unwrap();
        self.held.push(at);
    }

    /// Orders what it has.
    pub(crate) fn update(&mut self) -> OrderUpdate {
        loop {
            if let Ok(update) = self.linearizer.update(&self.dag, &mut self.player) {
                return update;
            }
        }
    }

    /// The order, as positions in the set.
    pub(crate) fn order(&self) -> Vec<(usize, Weight)> {
        let place = |entry: linearizer::OrderEntry| {
            let batch = self.dag.batch(entry.batch);
            let of = |at: &&usize| {
                (self.batches[**at].writer, self.batches[**at].first) == (batch.writer, batch.first)
            };
            (*self.held.iter().find(of).unwrap(), entry.weight)
        };
        self.linearizer.entries().map(place).collect()
    }

    /// Compares order, weights and state with what follows from the batches that it holds.
    pub(crate) fn check(&self) {
        let held: Vec<ModelBatch> = self.held.iter().map(|at| self.batches[*at].clone()).collect();
        let expected = canonical(self.rules, &held);
        let order = expected
            .order
            .iter()
            .map(|(at, weight)| (self.held[*at], *weight))
            .collect();
        let found = (self.order(), self.linearizer.state().to_model());
        let expected: (Vec<_>, _) = (order, expected.state);
        assert_eq!(found, expected);
    }
}

/// Delivers all batches in this order, with an update after each, and gives the last order.
pub(crate) fn deliver_under(
    rules: &ModelRules<'_>,
    batches: &[ModelBatch],
    delivery: &[usize],
) -> Vec<usize> {
    let mut peer = Peer::new(rules, batches);
    for at in delivery {
        peer.receive(*at);
        peer.update();
        peer.check();
    }
    peer.order().into_iter().map(|(at, _)| at).collect()
}
