//! The order of all batches, as a pure function of the set of ready batches.
//!
//! Source: spec/autobee.md 8.8 (canonical order with prefix-resolved weights and admission), 10 (weights).
//!
//! ```text
//! emit(S, pulled):
//!    while batches of S remain unsettled:
//!       for each remaining v:  trial := the state here, followed by v's unsettled ancestors, emitted by this same
//!                                       rule with pulled = true
//!                              weight and admission of v are those in its trial
//!       v := the best candidate by (weight, highest first; timestamp; key; length); at the top level a batch that
//!            is not admitted in its trial is no candidate
//!       emit v's unsettled ancestors with pulled = true; settle v
//! ```
//!
//! The same set gives the same order, whatever the order of arrival; `sim::model` is the slow transcription that the
//! tests hold this against.
//!
//! What is deliberately not consulted: when a block arrived, what this peer saw before, clocks, chance.
//!
//! # How it is evaluated
//!
//! * Each state is a node of a tree: the state before, one settled batch, its weight. Settling a batch where the tree
//!   knows the outcome only moves a cursor, so a heal undoes once, to the truly shared prefix, and calls apply
//!   once per entry behind it, however often the order is computed anew.
//! * Picks of the top level are kept with the priority they won with. New batches cut at the first pick that loses to
//!   one of them; everything before stands.
//! * A batch needs a trial only if a claim in its own unsettled chain could still raise it, or if its writer has no
//!   record. All others have the weight of their writer's record; ancestors that need no trial are emitted in one
//!   pass, worst last, backwards.
//! * A missing block suspends: the call returns, the next one continues from what is known.
//! * A start of the order can be forgotten ([`Linearizer::forget`]): what is remembered of it is the state behind it, and
//!   what tells whether a new batch would cut into it. Then the call returns, too, and the order has to be made anew from
//!   an earlier state ([`Linearizer::resume`]). Why that is rare is said in `base.rs`.
//!
//! # What it costs
//!
//! n batches with static weights: O(n log n), whatever the shape. A claim that cannot be decided at sight costs, for each
//! pick it might have beaten, one walk over the ancestors of its batch, and an apply for each state that is new. Trials inside
//! trials (claims that pull claims) are remembered per state; only writers that hold an unsettled, correctly signed claim
//! can build them.

mod ancestry;
mod base;
mod claims;
mod emission;
mod forget;
mod leave;
mod parked;
mod picks;
mod prefix;
mod sets;
mod settled;
mod timeline;

use std::collections::{BTreeMap, BTreeSet};

use crate::crypto::CoreKey;
use crate::env::{Planted, Slip};
use crate::wire::{Length, Link, Timestamp, Weight};

use super::dag::{Batch, BatchId, Dag};
use ancestry::Ancestry;
use base::Base;
use claims::WeightClaims;
use emission::{Emission, Marks};
use leave::Left;
use parked::Parked;
use picks::{Picks, Priority};
use timeline::{NodeId, Timeline};

pub use prefix::Prefix;
pub(crate) use prefix::{map, pairs};

/// Most nodes that a batch of a stranger may have.
pub const MAX_OPTIMISTIC_NODES: u64 = 32;

/// What the creator is granted by its first batch.
pub const GENESIS_WEIGHT: Weight = Weight(2);

/// What is part of the database and changes the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The creator's writer key: a writer before it has a record.
    pub bootstrap: CoreKey,
    /// Whether optimistic batches of strangers are tried at all.
    pub optimistic: bool,
    /// The rule set of the database.
    pub set: crate::wire::Rules,
}

/// What the membership state says about a writer. None of it: the writer is a stranger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterStanding {
    /// Weight of its next batch, if that claims nothing: the ceiling if it was granted by genesis, else the weight of
    /// the last one.
    pub weight: Weight,
    /// Highest weight that it may claim.
    pub ceiling: Weight,
    /// How much of it is applied.
    pub length: Length,
}

/// Who raised the ceiling of a writer, or would have if it had not been as high: an entry that was not taken back since.
/// Kept under safe rules alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CeilingGrant {
    /// The first block of the batch.
    pub by: Link,
    /// Up to which weight.
    pub weight: Weight,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<S> {
    /// It is part of the order, and this is the state behind it.
    Accepted(S),
    /// A stranger's batch that apply refused. It leaves no trace.
    Refused,
}

/// Apply cannot go on before something arrives. Everything already applied is kept; call again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("apply waits for a block that is not here")]
pub struct Suspended;

/// The state machine that the order drives: apply, as a function of the state.
///
/// Must be deterministic: equal states, batches and weights give equal verdicts.
pub trait Replay {
    /// A state: a value, or a cheap handle of one. States of the past are kept and returned to.
    type State: Clone;

    /// What the state says about a writer.
    fn standing(&self, state: &Self::State, writer: &CoreKey) -> Option<WriterStanding>;

    /// Who granted a writer its ceiling, under safe rules; see [`CeilingGrant`].
    fn grants(&self, state: &Self::State, writer: &CoreKey) -> Vec<CeilingGrant> {
        _ = (state, writer);
        Vec::new()
    }

    /// The state after this batch. Refusal is only for batches whose writer has no record in `state`; what else goes
    /// wrong with a member's batch must be part of the state that is returned.
    fn apply(
        &mut self,
        state: &Self::State,
        step: PlacedBatch<'_>,
    ) -> Result<Verdict<Self::State>, Suspended>;

    /// True when an update that moved over so many entries is to be suspended, so that others get their turn.
    fn is_long(&self, steps: u64) -> bool {
        _ = steps;
        false
    }
}

/// A batch at its place in the order.
#[derive(Debug, Clone, Copy)]
pub struct PlacedBatch<'a> {
    /// Its id.
    pub id: BatchId,
    /// What the set knows of it.
    pub batch: &'a Batch,
    /// Its resolved weight.
    pub weight: Weight,
    /// The timestamp that it is ordered by.
    pub date: Timestamp,
}

/// An entry of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderEntry {
    /// The batch.
    pub batch: BatchId,
    /// The weight that its writer stands with behind it. The creator's first batch is resolved to 0 and stands with 2.
    pub weight: Weight,
}

/// How the order changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderUpdate {
    /// Entries at the start that are as they were.
    pub shared: usize,
    /// Entries behind those that are no longer there, or no longer there at this place.
    pub undone: usize,
}

/// Where an order goes on: a forgotten start of it, and what is known about the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Start {
    /// What was forgotten.
    pub prefix: Prefix,
    /// Shorter starts of the same order, the shortest first.
    pub ladder: Vec<Prefix>,
    /// Batches that were in the set when it was forgotten, by writer: all up to this length.
    pub considered: BTreeMap<CoreKey, Length>,
}

/// Work done since the linearizer was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinearizerStats {
    /// Calls of [`Replay::apply`].
    pub applies: u64,
    /// Those of them that refused a stranger.
    pub refusals: u64,
    /// Updates that took entries away.
    pub undos: u64,
    /// Entries that they took away.
    pub undone: u64,
    /// Trials.
    pub trials: u64,
    /// Batches that were settled in trials of strangers.
    pub stranger_steps: u64,
    /// Times the cursor moved over an entry, applied or known.
    pub steps: u64,
}

/// Keeps the canonical order of a growing set.
///
/// Every call of [`Linearizer::update`] must see the same [`Dag`], which may have grown.
///
/// ```
/// use autobee::crypto::CoreKey;
/// use autobee::engine::dag::{Dag, NewBatch};
/// use autobee::engine::linearizer::{Linearizer, Replay, Rules, WriterStanding, PlacedBatch, Suspended, Verdict};
/// use autobee::wire::{self, Length, Timestamp, Weight};
///
/// /// Everybody is a member; the state is the number of batches.
/// struct Count;
///
/// impl Replay for Count {
///     type State = u32;
///
///     fn standing(&self, _: &u32, _: &CoreKey) -> Option<WriterStanding> {
///         Some(WriterStanding { weight: Weight(1), ceiling: Weight(1), length: Length(0) })
///     }
///
///     fn apply(&mut self, state: &u32, _: PlacedBatch<'_>) -> Result<Verdict<u32>, Suspended> {
///         Ok(Verdict::Accepted(state + 1))
///     }
/// }
///
/// let mut dag = Dag::new();
/// let rules = Rules { bootstrap: CoreKey::new([1; 32]), optimistic: true, set: wire::Rules::interop() };
/// let mut order = Linearizer::new(rules, 0);
/// for (writer, timestamp) in [(1, 20), (2, 10)] {
///     dag.insert(NewBatch {
///         writer: CoreKey::new([writer; 32]),
///         first: Length(1),
///         last: Length(1),
///         timestamp: Timestamp(timestamp),
///         optimistic: false,
///         links: Vec::new(),
///         gates: Vec::new(),
///         claim: None,
///     })
///     .unwrap();
///     order.update(&dag, &mut Count).unwrap();
/// }
/// assert_eq!(*order.state(), 2);
/// let first = order.entries().next().unwrap();
/// assert_eq!(dag.batch(first.batch).timestamp, Timestamp(10));
/// assert_eq!(order.stats().undos, 1);
/// ```
#[derive(Debug, Clone)]
pub struct Linearizer<S> {
    rules: Rules,
    base: Base,
    timeline: Timeline<S>,
    picks: Picks,
    /// The first of them, if it comes before some pick of the forgotten start.
    spanned: Option<Priority>,
    claims: WeightClaims,
    ancestry: Ancestry,
    /// Ready batches that the picks are right for.
    considered: usize,
    /// All of those that are not settled, but for those that are parked; some that are.
    unsettled: Vec<BatchId>,
    parked: Parked,
    /// Writers whose batches left the set.
    left: BTreeMap<CoreKey, Left>,
    published: PublishedOrder,
    stats: LinearizerStats,
    marks: Marks,
    planted: Planted,
}

/// The last complete order.
#[derive(Debug, Clone, Default)]
struct PublishedOrder {
    /// Everything settled, also what was refused.
    path: Vec<NodeId>,
    /// Accepted entries alone.
    order: Vec<NodeId>,
    /// The timeline did not change before this position since.
    low_water: usize,
}

impl<S: Clone> Linearizer<S> {
    /// The order of the empty set, on an empty state.
    #[must_use]
    pub fn new(rules: Rules, genesis: S) -> Self {
        Self::resume(rules, genesis, Start::default())
    }

    /// The order that goes on behind a forgotten start, on the state behind that. The set must begin where the start
    /// ends.
    #[must_use]
    pub fn resume(rules: Rules, root: S, start: Start) -> Self {
        let entries = start.prefix.entries();
        Self {
            rules,
            base: Base::new(start),
            timeline: Timeline::new(entries, root),
            picks: Picks::default(),
            spanned: None,
            claims: WeightClaims::default(),
            ancestry: Ancestry::default(),
            considered: 0,
            unsettled: Vec::new(),
            parked: Parked::default(),
            left: BTreeMap::new(),
            published: PublishedOrder::default(),
            stats: LinearizerStats::default(),
            marks: Marks::default(),
            planted: Planted::default(),
        }
    }

    /// Goes on with the counts of another one.
    #[must_use]
    pub fn counting_on(mut self, before: &Self) -> Self {
        self.stats = before.stats;
        let undone = before.len().saturating_sub(self.len());
        self.stats.undone += undone as u64;
        self.stats.undos += u64::from(undone > 0);
        self
    }

    pub(crate) const fn plant(&mut self, planted: Planted) {
        self.base.planted = planted;
        self.picks.planted = planted;
        self.planted = planted;
    }

    // ---- growing

    /// Brings the order up to what is ready in `dag`.
    ///
    /// When a batch may belong into the forgotten start ([`Linearizer::is_behind`]), this and all further calls change
    /// nothing.
    ///
    /// When apply suspends, the order, the states and the entries remain those of the last complete update, nothing
    /// that was applied is lost, and the next call goes on, also when the set has grown in between.
    pub fn update<R: Replay<State = S>>(
        &mut self,
        dag: &Dag,
        replay: &mut R,
    ) -> Result<OrderUpdate, Suspended> {
        self.timeline.grow(dag);
        let root = self.timeline.state_of(NodeId::ROOT);
        self.base
            .judge(dag, replay, &self.rules, (&mut self.claims, &self.left), root);
        if self.base.is_behind() {
            return Err(Suspended);
        }
        let live = self.planted.has(Slip::LiveWeight).then(|| self.state().clone());
        let cut = self.cut(dag, replay);
        if !self.planted.has(Slip::SkippedUndo) {
            self.truncate(cut);
        }
        self.unsettled
            .extend(dag.ready_since(self.considered).map(|(id, _)| id));
        self.considered = dag.len();
        self.unsettled.sort_unstable();
        self.unsettled.dedup();

        let mut unclear = BTreeSet::new();
        let mut emission = Emission {
            dag,
            replay,
            rules: &self.rules,
            base: &self.base,
            timeline: &mut self.timeline,
            claims: &self.claims,
            ancestry: &mut self.ancestry,
            unclear: &mut unclear,
            stats: &mut self.stats,
            marks: &mut self.marks,
            parked: &mut self.parked,
            lone: BTreeMap::new(),
            live,
            planted: self.planted,
        };
        let outcome = emission.run(&mut self.unsettled, &mut self.picks, &mut self.spanned);
        if let Err(suspended) = outcome {
            let end = self.picks.end();
            self.rewind(end);
            self.base.offend(&unclear);
            return Err(suspended);
        }
        Ok(self.publish())
    }

    // ---- reading

    /// True when the order is that of all batches that are ready in `dag`.
    pub(crate) fn has_seen_all(&self, dag: &Dag) -> bool {
        self.considered == dag.len()
    }

    /// Number of entries, with those that were forgotten.
    #[must_use]
    pub fn len(&self) -> usize {
        self.forgotten() + self.published.order.len()
    }

    /// True when there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of forgotten entries.
    #[must_use]
    pub fn forgotten(&self) -> usize {
        usize::try_from(self.base.prefix.entries).unwrap_or(usize::MAX)
    }

    /// All entries that are not forgotten, in order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = OrderEntry> + DoubleEndedIterator {
        self.published.order.iter().map(|node| self.timeline.entry(*node))
    }

    /// Entries from this position on, as far as they are not forgotten, each with the state behind it.
    pub fn entries_since(
        &self,
        position: usize,
    ) -> impl ExactSizeIterator<Item = (OrderEntry, &S)> + DoubleEndedIterator {
        let from = position.saturating_sub(self.forgotten());
        let from = from.min(self.published.order.len());
        self.published.order[from..]
            .iter()
            .map(|node| (self.timeline.entry(*node), self.timeline.state_of(*node)))
    }

    /// The state behind the last entry.
    #[must_use]
    pub fn state(&self) -> &S {
        self.state_at(self.len())
    }

    /// The state behind the first `entries` entries; behind all of them if there are fewer, behind the forgotten ones if
    /// those are more.
    #[must_use]
    pub fn state_at(&self, entries: usize) -> &S {
        let order = &self.published.order;
        let node = entries
            .saturating_sub(self.forgotten())
            .min(order.len())
            .checked_sub(1)
            .map_or(NodeId::ROOT, |at| order[at]);
        self.timeline.state_of(node)
    }

    /// True when a batch, accepted or refused, is settled where the last complete order has it.
    pub(crate) fn is_settled(&self, id: BatchId) -> bool {
        self.timeline.is_settled(id)
    }

    /// How many batches count as written later than they say, of those that were looked at since this order was made.
    pub(crate) const fn redated(&self) -> u64 {
        self.base.redated
    }

    /// True when linking this batch sends nobody back behind what is forgotten.
    pub(crate) fn date_of(&self, dag: &Dag, id: BatchId) -> Timestamp {
        self.base.date_of(dag, id)
    }

    /// True when that is known.
    pub(crate) fn is_told(&self, id: BatchId) -> bool {
        self.base.is_told(id)
    }

    /// Ready batches that are not part of the order: those of strangers.
    pub fn outside(&self) -> impl Iterator<Item = BatchId> {
        let left = self.unsettled.iter().copied().chain(self.parked.iter());
        left.filter(|id| self.timeline.settled(*id).is_none())
    }

    /// What was done so far.
    #[must_use]
    pub const fn stats(&self) -> LinearizerStats {
        self.stats
    }

    // ---- private

    /// The first pick that loses to a new batch.
    ///
    /// Picks before it stand: their trials do not see the new batches, and no new batch was a better candidate. It
    /// may be too early where only a trial could tell; then the same picks are made again.
    fn cut<R: Replay<State = S>>(&mut self, dag: &Dag, replay: &R) -> usize {
        let mut cut = self.picks.len();
        if let Some(spanning) = self.base.take_spanning()
            && self.spanned.is_none_or(|best| spanning < best)
        {
            cut = 0;
        }
        for (id, batch) in dag.ready_since(self.considered) {
            // Once all claims of its chain are settled a writer stands where it stands now.
            let decided = self.claims.last(batch).map_or(0, |claim| {
                let chain = dag.batches_of(&batch.writer);
                let settled = chain
                    .get(claim as usize)
                    .and_then(|claim| self.timeline.settled(*claim));
                settled.map_or(self.picks.len(), |at| {
                    let early = usize::from(self.planted.has(Slip::DecidedEarly));
                    self.picks.starting_up_to(at).saturating_sub(early)
                })
            });
            let standing = replay.standing(self.timeline.state(), &batch.writer);
            let floor = standing.map_or(Weight::ZERO, |standing| standing.weight);
            let bound = if self.planted.has(Slip::LateClaim) {
                floor
            } else {
                floor.max(self.claims.highest(batch, 0))
            };
            let loses_to = |range, weight| {
                let mut priority = self.base.priority(dag, id, weight);
                if self.planted.has(Slip::TieBreak) {
                    priority = priority.behind_ties();
                }
                self.picks.first_worse(range, &priority)
            };
            // It was there when the first ones were made, and is here again.
            let from = self.picks_with(&batch.writer, batch.last);
            let middle = decided.clamp(from, cut.max(from));
            let found = loses_to(from..middle.min(cut), bound).or_else(|| loses_to(middle..cut, floor));
            cut = found.unwrap_or(cut);
        }
        cut
    }

    fn truncate(&mut self, cut: usize) {
        let cut = cut + usize::from(self.planted.has(Slip::UndoOneShort));
        if cut < self.picks.len() {
            if cut == 0 {
                self.spanned = None;
            }
            self.picks.truncate(cut);
            if !self.planted.has(Slip::LeftKeepsPicks) {
                self.picks_end_at(cut);
            }
            let end = self.picks.end();
            self.unsettled.extend(self.timeline.path_since(end));
            self.unsettled.extend(self.parked.take());
            self.rewind(end);
        }
    }

    fn rewind(&mut self, length: usize) {
        self.timeline.rewind(length);
        self.published.low_water = self.published.low_water.min(length);
    }

    fn publish(&mut self) -> OrderUpdate {
        let timeline = &mut self.timeline;
        let published = &mut self.published;
        self.unsettled.retain(|id| timeline.settled(*id).is_none());

        let path = timeline.path();
        let low = published.low_water.min(published.path.len());
        let same = published.path[low..].iter().zip(&path[low.min(path.len())..]);
        let kept = low + same.take_while(|(before, now)| before == now).count();
        let before = published.order.len();
        let shared = kept.checked_sub(1).map_or(0, |at| timeline.position(path[at]));
        let forgotten = usize::try_from(self.base.prefix.entries).unwrap_or(usize::MAX);
        published.path.truncate(kept);
        published.path.extend(&path[kept..]);
        published.order.truncate(shared);
        published
            .order
            .extend(path[kept..].iter().filter(|node| timeline.is_accepted(**node)));
        published.low_water = path.len();
        timeline.sweep(self.planted);

        let undone = before - shared;
        self.stats.undone += undone as u64;
        self.stats.undos += u64::from(undone > 0);
        OrderUpdate {
            shared: forgotten + shared,
            undone,
        }
    }
}

/// The weight of a batch in this state, which must hold its ancestors.
///
/// Source: spec/autobee.md 10.
fn resolve<R: Replay>(replay: &R, state: &R::State, batch: &Batch) -> Weight {
    let Some(standing) = replay.standing(state, &batch.writer) else {
        return Weight::ZERO;
    };
    let counts = |claim: &super::dag::Claim| {
        claim.valid
            && claim.weight > standing.weight
            && claim.weight <= standing.ceiling
            && claim.backer.key != batch.writer
            && replay
                .standing(state, &claim.backer.key)
                .is_some_and(|backer| backer.length >= claim.backer.length)
    };
    batch
        .claim
        .filter(counts)
        .map_or(standing.weight, |claim| claim.weight)
}
