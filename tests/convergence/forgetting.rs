//! Peers that forget the start of the order, at any time and almost at once: what they have is always what a peer has
//! that forgets nothing.

use std::collections::BTreeMap;

use autobee::engine::dag::{Claim, Dag};
use autobee::engine::linearizer::{self, Linearizer, Prefix, Start};
use autobee::wire::{Decode as _, Encode as _, Length, Link, Timestamp, Weight};
use autobee_sim::model::{ModelBatch, ModelBlock, ModelRules, Play, Player, canonical};
use autobee_sim::workload::Op;
use proptest::prelude::*;
use proptest::sample::Index;

use super::history::{Peer, anchor, of_order, rules, writer};
use super::order::{OpSpec, WRITERS, build, cases, delivery, op, spec, value};

/// A replica that holds about `keep` batches, and what it needs to go back.
struct Forgetful<'a> {
    rules: &'static ModelRules<'static>,
    batches: &'a [ModelBatch],
    keep: usize,
    dag: Dag,
    linearizer: Linearizer<Play>,
    player: Player<'a>,
    received: Vec<usize>,
    /// States behind starts, by number of entries, and the entries.
    states: BTreeMap<u64, Play>,
    forgotten: Vec<(usize, Weight)>,
    went_back: usize,
    forgot: usize,
}

impl<'a> Forgetful<'a> {
    fn new(rules: &'static ModelRules<'static>, batches: &'a [ModelBatch], keep: usize) -> Self {
        Self {
            rules,
            batches,
            keep,
            dag: Dag::new().following(rules.set),
            linearizer: Linearizer::new(of_order(rules), Play::default()),
            player: Player::new(rules, batches),
            received: Vec::new(),
            states: [(0, Play::default())].into(),
            forgotten: Vec::new(),
            went_back: 0,
            forgot: 0,
        }
    }

    fn receive(&mut self, at: usize) {
        self.received.push(at);
        self.insert(at);
    }

    fn insert(&mut self, at: usize) {
        let batch = &self.batches[at];
        if batch.last() <= self.dag.base_length(&batch.writer) {
            return;
        }
        for (length, _) in batch.numbered() {
            self.dag.add_anchor(anchor(batch.writer, length));
        }
        self.dag.insert(batch.outline()).unwrap();
    }

    fn update(&mut self) {
        loop {
            match self.linearizer.update(&self.dag, &mut self.player) {
                Ok(_) => return,
                Err(_) if self.linearizer.is_behind() => {
                    let start = self.linearizer.way_back(&self.dag, &self.player);
                    assert!(start.prefix.entries() < self.linearizer.forgotten() as u64);
                    self.went_back += 1;
                    self.resume(start);
                }
                Err(_) => {}
            }
        }
    }

    fn forget(&mut self) {
        let order = self.order();
        if self.linearizer.forget(&mut self.dag, &self.player, self.keep) {
            self.forgot += 1;
            let count = self.linearizer.forgotten();
            self.forgotten = order[..count].to_vec();
            self.states
                .insert(count as u64, self.linearizer.state_at(count).clone());
            assert_eq!(self.order(), order);
        }
    }

    /// As after a restart.
    fn restart(&mut self) {
        let start = self.linearizer.start(&self.dag);
        let copy = |prefix: &Prefix| Prefix::from_bytes(&prefix.to_bytes().unwrap()).unwrap();
        let stored = Start {
            prefix: copy(&start.prefix),
            ladder: start.ladder.iter().map(copy).collect(),
            considered: start.considered.clone(),
        };
        assert_eq!(stored, start);
        self.resume(stored);
    }

    fn resume(&mut self, start: Start) {
        let root = self.states[&start.prefix.entries()].clone();
        self.forgotten
            .truncate(usize::try_from(start.prefix.entries()).unwrap());
        self.states
            .retain(|entries, _| *entries <= start.prefix.entries());
        let records = root.system.records().filter(|(_, record)| !record.is_anchor);
        let recorded = records.map(|(key, record)| (*key, record.length));
        self.dag = Dag::starting_at(start.prefix.lengths(recorded)).following(self.rules.set);
        for at in &self.received {
            for (length, _) in self.batches[*at].numbered() {
                self.dag.add_anchor(anchor(self.batches[*at].writer, length));
            }
        }
        self.linearizer = Linearizer::resume(of_order(self.rules), root, start);
        for at in self.received.clone() {
            self.insert(at);
        }
    }

    fn order(&self) -> Vec<(usize, Weight)> {
        let place = |entry: linearizer::OrderEntry| {
            let batch = self.dag.batch(entry.batch);
            let of = |at: &&usize| {
                (self.batches[**at].writer, self.batches[**at].first) == (batch.writer, batch.first)
            };
            (*self.received.iter().find(of).unwrap(), entry.weight)
        };
        let held = self.linearizer.entries().map(place);
        self.forgotten.iter().copied().chain(held).collect()
    }

    fn check(&self) {
        let held: Vec<ModelBatch> = self.received.iter().map(|at| self.batches[*at].clone()).collect();
        let expected = canonical(self.rules, &held);
        let order: Vec<_> = expected
            .order
            .iter()
            .map(|(at, weight)| (self.received[*at], *weight))
            .collect();
        assert_eq!(self.order(), order);
        assert_eq!(self.linearizer.state().to_model(), expected.state);
        assert_eq!(self.linearizer.len(), order.len());
    }
}

/// One batch of a writer that links all heads it knows, as honest writers do.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    writer: Index,
    /// It hears of all that there is first.
    syncs: bool,
    /// How far its clock is off.
    late: u64,
    optimistic: bool,
    claim: Option<(u64, Index)>,
    op: OpSpec,
}

pub(crate) fn honest() -> impl Strategy<Value = Turns> {
    (
        any::<Index>(),
        prop::bool::weighted(0.6),
        prop_oneof![3 => Just(0), 1 => 0..30_u64],
        prop::bool::weighted(0.2),
        prop::option::weighted(0.3, (1..4_u64, any::<Index>())),
        op(),
    )
        .prop_map(|(writer, syncs, late, optimistic, claim, op)| Turns {
            writer,
            syncs,
            late,
            optimistic,
            claim,
            op,
        })
}

/// As in a real database: what differs from batch to batch is who has heard of what.
pub(crate) fn build_honest(turns: &[Turns]) -> Vec<ModelBatch> {
    let mut batches = vec![super::history::batch(0, 1, 3, &[], &Op::add_writer(writer(1), 2))];
    // Of each writer how much it knows of each.
    let mut known = [[0_u64; WRITERS]; WRITERS];
    known[0][0] = 1;
    let mut lengths = [0_u64; WRITERS];
    lengths[0] = 1;
    // What each block knows.
    let mut clocks: BTreeMap<(usize, u64), [u64; WRITERS]> = [((0, 1), known[0])].into();
    for (now, turn) in (4_u64..).zip(turns) {
        let name = turn.writer.index(WRITERS);
        if turn.syncs {
            known[name] = lengths;
        }
        let knows = known[name];
        let is_head = |of: usize| {
            (0..WRITERS)
                .filter(|other| *other != of && knows[*other] > 0)
                .all(|other| clocks[&(other, knows[other])][of] < knows[of])
        };
        let heads = (0..WRITERS).filter(|of| *of != name && knows[*of] > 0 && is_head(*of));
        let to = |of: usize| Link {
            key: writer(u8::try_from(of).unwrap()),
            length: Length(knows[of]),
        };
        let links: Vec<Link> = heads.map(to).collect();
        let claim = turn.claim.as_ref().and_then(|(weight, of)| {
            let of = of.index(WRITERS);
            (knows[of] > 0 && of != name).then(|| Claim {
                weight: Weight(*weight),
                backer: to(of),
                valid: true,
            })
        });
        lengths[name] += 1;
        known[name][name] = lengths[name];
        clocks.insert((name, lengths[name]), known[name]);
        batches.push(ModelBatch {
            writer: writer(u8::try_from(name).unwrap()),
            first: Length(lengths[name]),
            nodes: vec![ModelBlock {
                timestamp: Timestamp(now.saturating_sub(turn.late)),
                links,
                optimistic: turn.optimistic,
                value: value(&turn.op, name).to_value(),
            }],
            claim,
        });
    }
    batches
}

/// What a peer does after it got a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) updates: bool,
    pub(crate) forgets: bool,
    pub(crate) restarts: bool,
}

pub(crate) fn turn() -> impl Strategy<Value = Turn> {
    (
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.7),
        prop::bool::weighted(0.15),
    )
        .prop_map(|(updates, forgets, restarts)| Turn {
            updates,
            forgets,
            restarts,
        })
}

/// Plays a delivery.
fn play<'a>(
    is_safe: bool,
    batches: &'a [ModelBatch],
    keep: usize,
    order: &[usize],
    turns: &[Turn],
    checks: bool,
) -> Forgetful<'a> {
    let mut peer = Forgetful::new(rules(is_safe), batches, keep);
    let mut turns = turns.iter().cycle();
    for at in order {
        peer.receive(*at);
        let Some(turn) = turns.next() else { continue };
        if turn.updates {
            peer.update();
            if checks {
                peer.check();
            }
        }
        if turn.forgets {
            peer.forget();
        }
        if turn.restarts {
            peer.restart();
        }
    }
    peer.update();
    if checks {
        peer.check();
    }
    peer
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn what_is_forgotten_is_as_the_model_says(
        specs in prop::collection::vec(spec(), 0..14),
        choices in prop::collection::vec(any::<Index>(), 1..16),
        keep in prop::sample::select(vec![1_usize, 2, 5]),
        turns in prop::collection::vec(turn(), 1..20),
        is_safe: bool,
    ) {
        let batches = build(&specs);
        play(is_safe, &batches, keep, &delivery(&batches, &choices), &turns, true);
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn what_is_forgotten_of_an_honest_history_is_as_the_model_says(
        history in prop::collection::vec(honest(), 0..16),
        choices in prop::collection::vec(any::<Index>(), 1..16),
        keep in prop::sample::select(vec![1_usize, 2, 5]),
        turns in prop::collection::vec(turn(), 1..20),
        is_safe: bool,
    ) {
        let batches = build_honest(&history);
        play(is_safe, &batches, keep, &delivery(&batches, &choices), &turns, true);
    }
}

proptest! {
    #![proptest_config(cases(150))]

    /// In the order in which they were written, and almost so, as they mostly come.
    #[test]
    fn an_honest_history_is_the_same_to_those_who_forget(
        history in prop::collection::vec(honest(), 30..100),
        swaps in prop::collection::vec((any::<Index>(), 0..6_usize), 0..20),
        keep in prop::sample::select(vec![1_usize, 2, 5, 20]),
        turns in prop::collection::vec(turn(), 1..20),
        is_safe: bool,
    ) {
        let batches = build_honest(&history);
        let mut order: Vec<usize> = (0..batches.len()).collect();
        for (from, by) in &swaps {
            let from = from.index(order.len());
            let to = (from + by).min(order.len() - 1);
            // The set takes those of one writer in order only.
            if order[from..=to].iter().skip(1).all(|at| batches[*at].writer != batches[order[from]].writer) {
                let at = order.remove(from);
                order.insert(to, at);
            }
        }
        let mut at_once = Peer::new(rules(is_safe), &batches);
        for at in 0..batches.len() {
            at_once.receive(at);
        }
        at_once.update();
        let peer = play(is_safe, &batches, keep, &order, &turns, false);
        prop_assert_eq!(peer.order(), at_once.order());
        prop_assert_eq!(peer.linearizer.state().to_model(), at_once.linearizer.state().to_model());
        if std::env::var_os("COUNTS").is_some() {
            println!("{} batches, keep {keep}: forgot {}, went back {}", batches.len(), peer.forgot, peer.went_back);
        }
    }
}

proptest! {
    #![proptest_config(cases(150))]

    /// Too many for the model: held against a peer that forgets nothing.
    #[test]
    fn a_large_set_is_the_same_to_those_who_forget(
        specs in prop::collection::vec(spec(), 30..80),
        choices in prop::collection::vec(any::<Index>(), 1..40),
        keep in prop::sample::select(vec![1_usize, 2, 5, 20]),
        turns in prop::collection::vec(turn(), 1..20),
        is_safe: bool,
    ) {
        let batches = build(&specs);
        let mut at_once = Peer::new(rules(is_safe), &batches);
        for at in 0..batches.len() {
            at_once.receive(at);
        }
        at_once.update();
        let peer = play(is_safe, &batches, keep, &delivery(&batches, &choices), &turns, false);
        prop_assert_eq!(peer.order(), at_once.order());
        prop_assert_eq!(peer.linearizer.state().to_model(), at_once.linearizer.state().to_model());
    }
}
