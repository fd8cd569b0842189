//! Random sets of batches, in random orders of arrival, with applies that stop at random: always what the model says.

use autobee::engine::dag::Claim;
use autobee::wire::{Length, Timestamp, Weight};
use autobee_sim::model::{ModelBatch, ModelBlock};
use autobee_sim::workload::Op;
use proptest::prelude::*;
use proptest::sample::Index;

use super::history::{Peer, anchor, rules, writer};
use autobee::wire::Link;

/// How one batch differs from others; positions are taken from what is there when it is written.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    writer: Index,
    timestamp: u64,
    links: Vec<Index>,
    /// Nodes behind the first, with the link of each.
    more: Vec<Option<Index>>,
    optimistic: bool,
    claim: Option<(u64, Index, bool)>,
    op: OpSpec,
    anchored: Option<Index>,
}

#[derive(Debug, Clone)]
pub(crate) enum OpSpec {
    Put(u8),
    Delete(u8),
    Add(Index, u64),
    Remove(Index),
    Ack(Index),
    Anchor,
    Reject,
    RejectIf(u8),
    Nothing,
}

pub(crate) fn op() -> impl Strategy<Value = OpSpec> {
    prop_oneof![
        4 => (0..3_u8).prop_map(OpSpec::Put),
        1 => (0..3_u8).prop_map(OpSpec::Delete),
        4 => (any::<Index>(), 0..4_u64).prop_map(|(who, weight)| OpSpec::Add(who, weight)),
        2 => any::<Index>().prop_map(OpSpec::Remove),
        1 => any::<Index>().prop_map(OpSpec::Ack),
        1 => Just(OpSpec::Anchor),
        1 => Just(OpSpec::Reject),
        2 => (0..3_u8).prop_map(OpSpec::RejectIf),
        1 => Just(OpSpec::Nothing),
    ]
}

pub(crate) fn spec() -> impl Strategy<Value = Spec> {
    (
        any::<Index>(),
        0..20_u64,
        prop::collection::vec(any::<Index>(), 0..4),
        prop::collection::vec(prop::option::of(any::<Index>()), 0..3),
        prop::bool::weighted(0.3),
        prop::option::weighted(0.4, (1..4_u64, any::<Index>(), prop::bool::weighted(0.9))),
        op(),
        prop::option::weighted(0.1, any::<Index>()),
    )
        .prop_map(
            |(writer, timestamp, links, more, optimistic, claim, op, anchored)| Spec {
                writer,
                timestamp,
                links,
                more,
                optimistic,
                claim,
                op,
                anchored,
            },
        )
}

pub(crate) const WRITERS: usize = 5;

/// What writer `name` does.
pub(crate) fn value(op: &OpSpec, name: usize) -> Op {
    let who = |index: &Index| writer(u8::try_from(index.index(WRITERS)).unwrap());
    let key = |name: u8| format!("k{name}");
    match op {
        OpSpec::Put(key_name) => Op::put(key(*key_name), name.to_string()),
        OpSpec::Delete(name) => Op {
            del: Some(key(*name)),
            ..Op::default()
        },
        OpSpec::Add(index, weight) => Op::add_writer(who(index), *weight),
        OpSpec::Remove(index) => Op::remove_writer(who(index)),
        OpSpec::Ack(index) => Op {
            ack: Some(who(index).to_hex()),
            ..Op::default()
        },
        OpSpec::Anchor => Op {
            anchor: true,
            ..Op::default()
        },
        OpSpec::Reject => Op {
            reject: true,
            ..Op::default()
        },
        OpSpec::RejectIf(name) => Op {
            reject_if: Some(key(*name)),
            ..Op::default()
        },
        OpSpec::Nothing => Op::default(),
    }
}

/// The creator's first batch grants one more writer; the rest is as the specs say.
pub(crate) fn build(specs: &[Spec]) -> Vec<ModelBatch> {
    let mut batches = vec![super::history::batch(0, 1, 3, &[], &Op::add_writer(writer(1), 2))];
    let mut lengths = [0_u64; WRITERS];
    lengths[0] = 1;
    for spec in specs {
        let name = spec.writer.index(WRITERS);
        let pick = |index: &Index| {
            let batch: &ModelBatch = index.get(&batches);
            Link {
                key: batch.writer,
                length: batch.last(),
            }
        };
        let op = value(&spec.op, name);
        let node = |links, value| ModelBlock {
            timestamp: Timestamp(spec.timestamp),
            links,
            optimistic: spec.optimistic,
            value,
        };
        let mut links: Vec<Link> = spec.links.iter().map(pick).collect();
        if let Some(index) = &spec.anchored {
            let of = pick(index);
            links.push(Link {
                key: anchor(of.key, of.length),
                length: Length(1),
            });
        }
        let mut nodes = vec![node(links, op.to_value())];
        for more in &spec.more {
            nodes.push(node(
                more.iter().map(pick).collect(),
                Op::put("more", "x").to_value(),
            ));
        }
        let claim = spec.claim.as_ref().map(|(weight, index, valid)| Claim {
            weight: Weight(*weight),
            backer: pick(index),
            valid: *valid,
        });
        let first = Length(lengths[name] + 1);
        lengths[name] += nodes.len() as u64;
        batches.push(ModelBatch {
            writer: writer(u8::try_from(name).unwrap()),
            first,
            nodes,
            claim,
        });
    }
    batches
}

/// A delivery that keeps each writer's batches in order.
pub(crate) fn delivery(batches: &[ModelBatch], choices: &[Index]) -> Vec<usize> {
    let mut queues: Vec<Vec<usize>> = Vec::new();
    for name in 0..WRITERS {
        let of = writer(u8::try_from(name).unwrap());
        let queue: Vec<usize> = (0..batches.len())
            .rev()
            .filter(|at| batches[*at].writer == of)
            .collect();
        queues.push(queue);
    }
    let mut choices = choices.iter().cycle();
    let mut order = Vec::new();
    while order.len() < batches.len() {
        queues.retain(|queue| !queue.is_empty());
        let choice = choices.next().map_or(0, |index| index.index(queues.len()));
        order.extend(queues[choice].pop());
    }
    order
}

pub(crate) fn cases(default: u32) -> ProptestConfig {
    // More by PROPTEST_CASES; what was found stays in the regressions beside this file.
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = default;
    }
    config
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn every_delivery_gives_what_the_model_says(
        specs in prop::collection::vec(spec(), 0..13),
        choices in prop::collection::vec(any::<Index>(), 1..16),
        pauses in prop::collection::vec(0..4_u8, 1..16),
        stops in prop::collection::vec(prop::bool::weighted(0.25), 1..40),
        is_safe: bool,
    ) {
        let batches = build(&specs);
        let mut peer = Peer::new(rules(is_safe), &batches);
        // A run of `true` must end, or apply would never go on.
        let mut stops = stops.into_iter().chain([false]).cycle();
        peer.player.suspend = Box::new(move || stops.next().unwrap_or(false));
        let mut pauses = pauses.iter().cycle();
        for at in delivery(&batches, &choices) {
            peer.receive(at);
            match pauses.next() {
                Some(0) => {}
                // Stops where apply stops first: more arrives before it goes on.
                Some(1) => { let _ = peer.linearizer.update(&peer.dag, &mut peer.player); }
                _ => { peer.update(); peer.check(); }
            }
        }
        peer.update();
        peer.check();
    }
}

proptest! {
    #![proptest_config(cases(60))]

    /// Too many for the model: but one at a time, in any order, is the same as all at once.
    #[test]
    fn a_large_set_does_not_depend_on_its_delivery(
        specs in prop::collection::vec(spec(), 30..80),
        choices in prop::collection::vec(any::<Index>(), 1..40),
        pauses in prop::collection::vec(0..6_u8, 1..16),
        is_safe: bool,
    ) {
        let batches = build(&specs);
        let mut at_once = Peer::new(rules(is_safe), &batches);
        for at in 0..batches.len() {
            at_once.receive(at);
        }
        at_once.update();
        let mut peer = Peer::new(rules(is_safe), &batches);
        let mut pauses = pauses.iter().cycle();
        for at in delivery(&batches, &choices) {
            peer.receive(at);
            if pauses.next() != Some(&0) {
                peer.update();
            }
        }
        peer.update();
        prop_assert_eq!(peer.order(), at_once.order());
        prop_assert_eq!(peer.linearizer.state().to_model(), at_once.linearizer.state().to_model());
    }
}
