//! The order, as slow and as obvious as it can be told: what the engine is held against.
//!
//! Source: spec/autobee.md 8.8, transcribed. No incremental state, no cleverness but that a question is answered once; a set
//! of batches in, everything that follows from it out.
//!
//! ```text
//! state := empty; out := []
//! emit(S, pulled):
//!    while batches of S remain unsettled:
//!       for each remaining v of S:
//!          trial := the state after `out` followed by v's unsettled ancestors, emitted by this same rule with
//!                   pulled = true
//!          w(v)  := weight of v resolved in trial
//!          ok(v) := v is admitted in trial
//!       candidates := the remaining v, without those that are not ok unless pulled
//!       if there is no candidate: return
//!       v := best candidate by (w, highest first; timestamp; key; length)
//!       emit(v's unsettled ancestors, pulled = true)
//!       settle v: admitted -> apply it, append it to out; refused -> it leaves no trace, but satisfies links to it
//! emit(all causally complete batches, pulled = false)
//! ```
//!
//! # Admission
//!
//! Admission is resolved like weight: in the state after the emitted prefix and the batch's own ancestors. A batch is
//! admitted when
//!
//! * its writer has a record there, removed or not, or is the creator; or
//! * it is optimistic, optimistic batches are on, something was applied before it, it has at most 32 nodes, and apply
//!   accepts it there.
//!
//! At the top level a batch that is not admitted is no candidate: it pulls nothing forward, leaves no trace, and is looked
//! at again after every pick (a grant may come). Pulled as somebody's ancestor it is settled for good. What remains at
//! the end is not part of the state. Which cores a peer must fetch follows from the final state: the members, removed ones
//! included, and whatever they link; a core whose grant a reorder took away may be there, and its blocks are then simply
//! not admitted.
//!
//! # Safe rules
//!
//! Under [`Rules::safe`] the same emission differs in four places.
//!
//! * A backer gates, and is no ancestor.
//! * The timestamp in a priority is the maximum of the batch's own and those of all of its ancestors.
//! * A claim counts only if its backer's block, and an entry that granted as much and was not taken back, are ancestors.
//! * A batch is admitted at the top level only if its writer is a member in its trial, removed or not, or the creator: what
//!   apply would say counts for pulled batches alone. A pulled batch of somebody else is recorded when apply accepts it, and
//!   its writer is a guest: as if there were no record, in all that is said above. Whoever is no member cannot change
//!   membership: apply that adds or removes somebody for an entry of his refuses that entry. A guest that a member's entry
//!   removes is refused from then on.
//!
//! # What goes wrong in apply
//!
//! A stranger's batch that apply refuses is not admitted. A member's batch that apply refuses is recorded, and has no
//! other effect.

mod decision;
mod log;
mod player;
mod state;

use std::collections::{BTreeMap, BTreeSet};

use autobee::crypto::CoreKey;
use autobee::db::OrderedEntry;
use autobee::engine::dag::{Claim, NewBatch};
use autobee::wire::{Length, Link, Rules, Timestamp, Weight};
use im::{OrdSet, Vector};

pub use decision::{Decision, Rule, decision};
pub use log::batches;
pub use player::{Play, Player};
pub use state::{ModelGrant, ModelRecord, ModelState};

/// What an anchor of a node is called.
pub type AnchorKey<'a> = &'a dyn Fn(CoreKey, Length) -> CoreKey;

/// What is the same at every peer of a database.
#[derive(Clone, Copy)]
pub struct ModelRules<'a> {
    /// The creator.
    pub bootstrap: CoreKey,
    /// Whether optimistic batches of strangers are tried at all.
    pub optimistic: bool,
    /// The rule set.
    pub set: Rules,
    /// What anchors are called.
    pub anchor: AnchorKey<'a>,
}

/// A batch with its values.
#[derive(Debug, Clone)]
pub struct ModelBatch {
    /// Who wrote it.
    pub writer: CoreKey,
    /// Length of the writer's core with the first node.
    pub first: Length,
    /// At least one.
    pub nodes: Vec<ModelBlock>,
    /// Of the first node.
    pub claim: Option<Claim>,
}

/// One block of a batch.
#[derive(Debug, Clone, Default)]
pub struct ModelBlock {
    /// As its writer saw it.
    pub timestamp: Timestamp,
    /// What it names.
    pub links: Vec<Link>,
    /// Written by somebody who was no member.
    pub optimistic: bool,
    /// An operation of [`crate::workload::JsonApply`] as JSON; anything else is refused, nothing is not applied.
    pub value: Vec<u8>,
}

impl ModelBatch {
    /// Length of the writer's core with the last node.
    #[must_use]
    pub fn last(&self) -> Length {
        Length(self.first.0 + self.nodes.len() as u64 - 1)
    }

    /// Each node with the length of the core that it makes.
    pub fn numbered(&self) -> impl Iterator<Item = (Length, &ModelBlock)> {
        (self.first.0..).map(Length).zip(&self.nodes)
    }

    /// The batch without its values, for the engine.
    #[must_use]
    pub fn outline(&self) -> NewBatch {
        NewBatch {
            writer: self.writer,
            first: self.first,
            last: self.last(),
            timestamp: self.nodes[0].timestamp,
            optimistic: self.nodes[0].optimistic,
            links: self.nodes[0].links.clone(),
            gates: self.nodes[1..]
                .iter()
                .flat_map(|node| node.links.iter().copied())
                .collect(),
            claim: self.claim,
        }
    }
}

/// What follows from a set of batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canonical {
    /// Batches in order, by position in the set, each with the weight its writer stands with behind it.
    pub order: Vec<(usize, Weight)>,
    /// Batches of the order that have no effect beyond the record of their writer, by position in the set.
    pub rejected: BTreeSet<usize>,
    /// The state behind the last.
    pub state: ModelState,
}

impl Canonical {
    /// The order entry by entry, of the set that it is the order of.
    #[must_use]
    pub fn entries(&self, set: &[ModelBatch]) -> Vec<OrderedEntry> {
        let entries = self.order.iter().flat_map(|(at, weight)| {
            let batch = &set[*at];
            batch.numbered().map(|(length, _)| OrderedEntry {
                key: batch.writer,
                length,
                weight: *weight,
            })
        });
        entries.collect()
    }
}

/// Orders and applies a set of batches.
#[must_use]
pub fn canonical(rules: &ModelRules<'_>, batches: &[ModelBatch]) -> Canonical {
    let mut run = ModelRun::new(rules, batches);
    let ready = run.ready.clone();
    let end = run.emit(0, &ready, false);
    let end = run.places.swap_remove(end);
    Canonical {
        order: end.out.into_iter().collect(),
        rejected: end.rejected.into_iter().collect(),
        state: end.state,
    }
}

/// The rule at work. States that were reached are kept, and what follows from them is computed once: the rule asks the same
/// trials again after every pick.
struct ModelRun<'a> {
    rules: &'a ModelRules<'a>,
    batches: &'a [ModelBatch],
    ready: BTreeSet<usize>,
    ancestors: Vec<BTreeSet<usize>>,
    /// When each batch counts as written.
    dates: Vec<Timestamp>,
    /// Which batch holds a block.
    holder: BTreeMap<(CoreKey, Length), usize>,
    /// Of each writer, its batches that claim a weight.
    claims: BTreeMap<CoreKey, Vec<usize>>,
    places: Vec<EmissionPlace>,
    /// Where a batch leads that is settled at a place.
    settled: BTreeMap<(At, usize), At>,
    /// Where the unsettled ancestors of a batch lead that are emitted at a place.
    pulled: BTreeMap<(At, usize), At>,
}

/// Names a place.
type At = usize;

/// How far the emission is.
#[derive(Clone, Default)]
struct EmissionPlace {
    state: ModelState,
    settled: OrdSet<usize>,
    out: Vector<(usize, Weight)>,
    /// Those of the order that have no effect.
    rejected: OrdSet<usize>,
    /// True when the batch that was settled last was refused.
    is_refusal: bool,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
struct Priority(std::cmp::Reverse<Weight>, Timestamp, CoreKey, Length);

impl<'a> ModelRun<'a> {
    fn new(rules: &'a ModelRules<'a>, batches: &'a [ModelBatch]) -> Self {
        let mut holder: BTreeMap<(CoreKey, Length), usize> = BTreeMap::new();
        let mut anchors = BTreeSet::new();
        for (at, batch) in batches.iter().enumerate() {
            for (length, _) in batch.numbered() {
                holder.insert((batch.writer, length), at);
                anchors.insert((rules.anchor)(batch.writer, length));
            }
        }
        let named = |batch: &ModelBatch, nodes: &[ModelBlock], backs: bool| -> Vec<Option<usize>> {
            let chain = Length(batch.first.0 - 1);
            let chain = (chain > Length::ZERO).then_some(Link {
                key: batch.writer,
                length: chain,
            });
            let links = nodes.iter().flat_map(|node| node.links.iter().copied());
            let backer = batch.claim.filter(|_| backs).map(|claim| claim.backer);
            let is_anchor = |link: &Link| link.length == Length(1) && anchors.contains(&link.key);
            let all = chain
                .into_iter()
                .chain(links)
                .chain(backer)
                .filter(|link| !is_anchor(link));
            all.map(|link| holder.get(&(link.key, link.length)).copied())
                .collect()
        };

        // Only what is causally complete takes part: every link of every node gates.
        let mut ready = BTreeSet::new();
        loop {
            let before = ready.len();
            for (at, batch) in batches.iter().enumerate() {
                if named(batch, &batch.nodes, true)
                    .iter()
                    .all(|on| on.is_some_and(|on| ready.contains(&on)))
                {
                    ready.insert(at);
                }
            }
            if ready.len() == before {
                break;
            }
        }

        // But only those of the first node order.
        let mut ancestors = vec![BTreeSet::new(); batches.len()];
        for at in &ready {
            let mut next = vec![*at];
            while let Some(batch) = next.pop() {
                for parent in named(&batches[batch], &batches[batch].nodes[..1], !rules.set.is_safe())
                    .into_iter()
                    .flatten()
                {
                    if ancestors[*at].insert(parent) {
                        next.push(parent);
                    }
                }
            }
        }
        let own = |at: usize| batches[at].nodes[0].timestamp;
        let date = |at: usize| {
            let ancestors = ancestors[at].iter().filter(|_| rules.set.is_safe());
            ancestors.map(|before| own(*before)).fold(own(at), Timestamp::max)
        };
        let dates = (0..batches.len()).map(date).collect();
        let mut claims: BTreeMap<CoreKey, Vec<usize>> = BTreeMap::new();
        for (at, batch) in batches.iter().enumerate() {
            if batch.claim.is_some() {
                claims.entry(batch.writer).or_default().push(at);
            }
        }
        Self {
            rules,
            batches,
            ready,
            ancestors,
            dates,
            holder,
            claims,
            places: vec![EmissionPlace::default()],
            settled: BTreeMap::new(),
            pulled: BTreeMap::new(),
        }
    }

    /// Emits a set of batches at a place. Gives the place behind them.
    fn emit(&mut self, mut at: At, set: &BTreeSet<usize>, pulled: bool) -> At {
        loop {
            let Some(v) = self.pick(at, set, pulled) else {
                return at;
            };
            let pulled = self.pull(at, v);
            at = self.settle(pulled, v);
        }
    }

    /// The best candidate of a set at a place.
    fn pick(&mut self, at: At, set: &BTreeSet<usize>, pulled: bool) -> Option<usize> {
        let settled = &self.places[at].settled;
        let left = set.iter().copied().filter(|v| !settled.contains(v));
        let mut candidates: Vec<(Priority, usize)> =
            left.map(|v| (self.priority(v, self.bound(at, v)), v)).collect();
        candidates.sort();
        // A trial can only make a candidate worse than its bound, so those behind the best need none.
        let mut best: Option<(Priority, usize)> = None;
        for (bound, v) in candidates {
            if best.is_some_and(|(best, _)| best < bound) {
                break;
            }
            let trial = self.pull(at, v);
            let weight = self.resolve(trial, v);
            let admitted = pulled || self.is_admitted(trial, v);
            let exact = (self.priority(v, weight), v);
            if admitted && best.is_none_or(|best| exact < best) {
                best = Some(exact);
            }
        }
        best.map(|(_, v)| v)
    }

    /// Whether a batch whose ancestors are settled at a place is a candidate there at the top level.
    fn is_admitted(&mut self, trial: At, v: usize) -> bool {
        if self.rules.set.is_safe() {
            let writer = self.batches[v].writer;
            return self.places[trial].state.is_member(self.rules, &writer);
        }
        let behind = self.settle(trial, v);
        !self.places[behind].is_refusal
    }

    /// Emits the unsettled ancestors of a batch at a place.
    fn pull(&mut self, at: At, v: usize) -> At {
        if let Some(known) = self.pulled.get(&(at, v)) {
            return *known;
        }
        let settled = &self.places[at].settled;
        let ancestors = self.ancestors[v].iter().copied();
        let left = ancestors.filter(|batch| !settled.contains(batch)).collect();
        let behind = self.emit(at, &left, true);
        self.pulled.insert((at, v), behind);
        behind
    }

    /// Settles a batch whose ancestors are settled at a place.
    fn settle(&mut self, at: At, v: usize) -> At {
        if let Some(known) = self.settled.get(&(at, v)) {
            return *known;
        }
        let mut place = self.places[at].clone();
        let batch = &self.batches[v];
        let weight = self.resolve(at, v);
        let applied = place.state.apply(self.rules, batch, (weight, self.dates[v]));
        place.is_refusal = applied.is_err();
        if let Ok((state, has_effect)) = applied {
            if !has_effect {
                place.rejected.insert(v);
            }
            let record = state.records.get(&batch.writer);
            let pinned = record.map_or(weight, |record| record.weight);
            place.state = state;
            place.out.push_back((v, pinned));
        }
        place.settled.insert(v);
        self.places.push(place);
        let behind = self.places.len() - 1;
        self.settled.insert((at, v), behind);
        behind
    }

    /// The weight of a batch whose ancestors are settled at a place.
    fn resolve(&self, at: At, v: usize) -> Weight {
        let comes_before = |link: &Link| {
            let holder = self.holder.get(&(link.key, link.length));
            holder.is_some_and(|holder| self.ancestors[v].contains(holder))
        };
        self.places[at]
            .state
            .resolve(self.rules, &self.batches[v], comes_before)
    }

    /// No weight is above the writer's standing and all of its claims that are not settled.
    fn bound(&self, at: At, v: usize) -> Weight {
        let of = &self.batches[v];
        let EmissionPlace { state, settled, .. } = &self.places[at];
        let claims = self.claims.get(&of.writer).into_iter().flatten();
        let claimed = claims
            .filter(|batch| !settled.contains(*batch) && self.batches[**batch].first <= of.first)
            .filter_map(|batch| self.batches[*batch].claim)
            .map(|claim| claim.weight)
            .max();
        let standing = state.member(&of.writer).map(ModelRecord::standing);
        let creator = (of.writer == self.rules.bootstrap && of.first > Length(1)).then_some(Weight(2));
        claimed.max(standing).max(creator).unwrap_or_default()
    }

    fn priority(&self, v: usize, weight: Weight) -> Priority {
        let batch = &self.batches[v];
        Priority(
            std::cmp::Reverse(weight),
            self.dates[v],
            batch.writer,
            batch.first,
        )
    }
}
