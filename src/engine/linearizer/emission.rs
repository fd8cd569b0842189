//! The ordering rule, as a state machine with a stack of its own: sets that are being emitted, each with the candidate it is at.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use crate::engine::dag::{Batch, BatchId, Dag, WriterId};
use crate::env::{Planted, Slip};
use crate::wire::{Length, Weight};

use super::ancestry::Ancestry;
use super::base::Base;
use super::claims::WeightClaims;
use super::parked::Parked;
use super::picks::{Picks, Priority};
use super::sets::CHAIN_AHEAD;
use super::timeline::{NodeId, Timeline, Trial};
use super::{CeilingGrant, LinearizerStats, MAX_OPTIMISTIC_NODES, Replay, Rules, Suspended, resolve};

impl Rules {
    /// Whether a batch of a stranger is tried at all.
    pub(crate) fn tries(&self, batch: &Batch) -> bool {
        self.optimistic && batch.optimistic && batch.nodes() <= MAX_OPTIMISTIC_NODES
    }
}

/// One run of the rule, from where the timeline stands.
pub(super) struct Emission<'a, R: Replay> {
    pub(super) dag: &'a Dag,
    pub(super) replay: &'a mut R,
    pub(super) rules: &'a Rules,
    pub(super) base: &'a Base,
    pub(super) timeline: &'a mut Timeline<R::State>,
    pub(super) claims: &'a WeightClaims,
    pub(super) ancestry: &'a mut Ancestry,
    /// Batches that cannot be placed: too much was forgotten of what they come behind.
    pub(super) unclear: &'a mut BTreeSet<BatchId>,
    pub(super) stats: &'a mut LinearizerStats,
    pub(super) marks: &'a mut Marks,
    pub(super) parked: &'a mut Parked,
    pub(super) lone: BTreeMap<WriterId, Lone>,
    /// The state that weights are read from, as a slip.
    pub(super) live: Option<R::State>,
    pub(super) planted: Planted,
}

/// The part of a writer's unsettled chain that has no unsettled ancestor outside of that chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lone {
    /// The first unsettled batch of the writer, and the first that is no part of this.
    head: u32,
    end: u32,
    /// Where this was found. It holds behind it, too.
    at: NodeId,
}

/// Which batches a walk has seen. Made once, so that a walk costs what it visits.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks {
    walk: u64,
    seen: Vec<u64>,
}

impl Marks {
    pub(super) fn start(&mut self, dag: &Dag) {
        self.seen.resize(dag.len(), 0);
        self.walk += 1;
    }

    /// True the first time.
    pub(super) fn see(&mut self, id: BatchId) -> bool {
        std::mem::replace(&mut self.seen[id.index()], self.walk) != self.walk
    }

    pub(super) fn has_seen(&self, id: BatchId) -> bool {
        self.seen[id.index()] == self.walk
    }
}

/// A set that is being emitted.
pub(super) struct EmissionFrame {
    /// Best first: with a bound of its priority, or with the exact one at a state.
    heap: BinaryHeap<Reverse<Candidate>>,
    /// Those that had a trial since the last pick of this frame: their bound counts again after the next.
    tried: Vec<BatchId>,
    /// Whether refused batches are settled, too.
    pulled: bool,
    current: Option<Current>,
    /// Writers some of whose candidates are here with a weight that was told without a trial.
    groups: BTreeMap<WriterId, Group>,
    epoch: u32,
    /// The set began before the forgotten start did: candidates are only those that were better than a pick of that, and
    /// this is the set. See [`Base`].
    spanning: Option<Vec<BatchId>>,
}

/// Candidates of one writer that all weigh what the first unsettled batch of it does, as long as that does not change.
struct Group {
    head: u32,
    weight: Weight,
    epoch: u32,
    ids: Vec<BatchId>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    priority: Priority,
    id: BatchId,
    known: Certainty,
}

/// How far the priority of a candidate can be trusted.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Certainty {
    /// The true one is not better.
    Bound,
    /// It is the one at this node.
    At(NodeId),
    /// It is the true one while the group of its writer is this one.
    While(u32),
}

/// The candidate whose ancestors were emitted last.
struct Current {
    id: BatchId,
    /// Where the timeline was before them, if this is a trial.
    trial: Option<(usize, NodeId)>,
    /// The last of its ancestors, which are still to be emitted: each comes before the next, and all others before the first.
    chain: Vec<BatchId>,
}

impl EmissionFrame {
    const fn new(pulled: bool) -> Self {
        Self {
            heap: BinaryHeap::new(),
            tried: Vec::new(),
            pulled,
            current: None,
            groups: BTreeMap::new(),
            epoch: 0,
            spanning: None,
        }
    }

    fn push(&mut self, priority: Priority, id: BatchId, known: Certainty) {
        self.heap.push(Reverse(Candidate { priority, id, known }));
    }

    /// After a pick: what was known where it was made is of no use any more. Where that is much, it is thrown away at once,
    /// and would be passed over otherwise.
    fn forget_known(&mut self) {
        if self.tried.len() >= self.heap.len() / 4 {
            let is_of_use = |candidate: &Reverse<Candidate>| !matches!(candidate.0.known, Certainty::At(_));
            self.heap.retain(is_of_use);
        }
    }
}

impl<R: Replay> Emission<'_, R> {
    /// Emits `batches`, which are sorted, and records the picks. What is left unsettled cannot be admitted. Gives the
    /// first pick when that came before some pick of the forgotten start.
    pub(super) fn run(
        &mut self,
        batches: &mut Vec<BatchId>,
        picks: &mut Picks,
        spanned: &mut Option<Priority>,
    ) -> Result<(), Suspended> {
        let shuts_out = self.shuts_out();
        self.parked.park(
            self.dag,
            self.replay,
            (self.rules, shuts_out),
            self.timeline,
            batches,
        );
        let mut top = self.frame(batches, false, self.timeline.len() == 0);
        // Sets that are emitted on behalf of the one before.
        let mut pulled: Vec<EmissionFrame> = Vec::new();
        let begun = self.stats.steps;
        loop {
            if !self.unclear.is_empty() {
                return Err(Suspended);
            }
            let is_top = pulled.is_empty();
            let frame = pulled.last_mut().unwrap_or(&mut top);
            let is_spanning = frame.spanning.is_some();
            let next = match frame.current.take() {
                Some(current) => self.decide(frame, &current)?,
                None => self.choose(frame)?,
            };
            match next {
                Next::Again => {}
                Next::Pull(frame) => pulled.push(frame),
                Next::Picked(priority) => {
                    if is_top {
                        if is_spanning {
                            *spanned = Some(priority);
                        }
                        picks.push(priority, self.timeline.len());
                        let woken = self.parked.wake(self.replay, self.timeline.state(), self.planted);
                        self.offer(&mut top, &woken);
                        batches.extend(woken);
                    }
                }
                Next::Done => {
                    if pulled.pop().is_none() {
                        return if self.unclear.is_empty() {
                            Ok(())
                        } else {
                            Err(Suspended)
                        };
                    }
                }
            }
            // What was picked or tried by now is remembered: each run gets further.
            let is_between = pulled.is_empty() && top.current.is_none();
            if is_between && self.replay.is_long(self.stats.steps - begun) {
                return Err(Suspended);
            }
        }
    }

    /// Takes the candidate with the best bound, and emits its ancestors: to find out, or for good.
    fn choose(&mut self, frame: &mut EmissionFrame) -> Result<Next, Suspended> {
        let here = self.timeline.node();
        loop {
            let next = frame.heap.pop();
            if frame.spanning.is_some()
                && next
                    .as_ref()
                    .is_none_or(|next| !self.base.spans(&next.0.priority))
            {
                self.go_on(frame);
                continue;
            }
            let Some(Reverse(Candidate { priority, id, known })) = next else {
                return Ok(Next::Done);
            };
            if self.timeline.settled(id).is_some() {
                continue;
            }
            let writer = self.dag.batch(id).writer_id;
            match known {
                Certainty::Bound => {}
                Certainty::At(node) if node == here => return self.start(frame, id, None),
                Certainty::While(epoch)
                    if frame
                        .groups
                        .get(&writer)
                        .is_some_and(|group| group.epoch == epoch) =>
                {
                    return self.start(frame, id, None);
                }
                // Of an earlier state; the same batch is here with its bound as well.
                Certainty::At(_) | Certainty::While(_) => continue,
            }
            let (bound, floor) = self.bound(id);
            let bounded = self.priority(id, bound);
            if bounded > priority {
                frame.push(bounded, id, Certainty::Bound);
                continue;
            }
            if bound == floor && (frame.pulled || self.is_known(id)) {
                return self.start(frame, id, None);
            }
            if self.is_known(id)
                && let Some(weight) = self.lone_weight(id)
            {
                self.group(frame, id, weight);
                continue;
            }
            if frame.spanning.is_none() && !frame.pulled && self.timeline.trial(id, false).is_none() {
                self.try_chain(id)?;
            }
            match self.timeline.trial(id, frame.spanning.is_some()) {
                Some(trial) if frame.pulled || trial.admitted.is_some() => self.weigh(frame, id, trial, here),
                _ => return self.start(frame, id, Some((self.timeline.len(), here))),
            }
        }
    }

    /// The ancestors of the current candidate are emitted: settles it, or steps back and tries others.
    fn decide(&mut self, frame: &mut EmissionFrame, current: &Current) -> Result<Next, Suspended> {
        for id in &current.chain {
            let trial = self.settle_trial(*id)?;
            if let Some((_, before)) = current.trial {
                self.timeline.remember((before, *id, false), trial);
            }
        }
        let id = current.id;
        let weight = self.resolve(id);
        let priority = self.priority(id, weight);
        if let Some((start, before)) = current.trial {
            let behind = self.timeline.len();
            let admitted = if frame.pulled {
                None
            } else {
                Some(self.is_known(id) || (!self.shuts_out() && self.settle(id, weight)?))
            };
            let trial = Trial { weight, admitted };
            let is_spanning = frame.spanning.is_some();
            self.timeline.remember((before, id, is_spanning), trial);
            self.timeline.rewind(behind);
            let wins = admitted != Some(false)
                && (!is_spanning || self.base.spans(&priority))
                && frame
                    .heap
                    .peek()
                    .is_none_or(|Reverse(next)| priority <= next.priority);
            if !wins {
                let way = behind - start;
                if way >= CHAIN_AHEAD && !is_spanning {
                    self.try_behind(id, way, before)?;
                }
                self.timeline.rewind(start);
                self.weigh(frame, id, trial, before);
                return Ok(Next::Again);
            }
        }
        self.settle(id, weight)?;
        if frame.spanning.is_some() {
            self.go_on(frame);
            return Ok(Next::Picked(priority));
        }
        frame.forget_known();
        let tried = std::mem::take(&mut frame.tried);
        self.offer(frame, &tried);
        self.ungroup(frame);
        Ok(Next::Picked(priority))
    }

    /// Puts a candidate back with what its trial found.
    fn weigh(&self, frame: &mut EmissionFrame, id: BatchId, trial: Trial, at: NodeId) {
        if trial.admitted != Some(false) || !self.planted.has(Slip::RefusedOnce) {
            frame.tried.push(id);
        }
        if frame.pulled || trial.admitted == Some(true) {
            frame.push(self.priority(id, trial.weight), id, Certainty::At(at));
        }
    }

    /// Puts a candidate back with the weight of its writer's first unsettled batch.
    fn group(&self, frame: &mut EmissionFrame, id: BatchId, weight: Weight) {
        let batch = self.dag.batch(id);
        let epoch = frame.epoch;
        let group = frame.groups.entry(batch.writer_id).or_insert_with(|| Group {
            head: self.timeline.head(batch.writer_id),
            weight,
            epoch,
            ids: Vec::new(),
        });
        group.ids.push(id);
        let known = Certainty::While(group.epoch);
        frame.push(self.priority(id, weight), id, known);
    }

    /// After a pick: gives those candidates their bounds back whose writer does not stand as it did.
    fn ungroup(&mut self, frame: &mut EmissionFrame) {
        frame.epoch += 1;
        let changed = frame.groups.extract_if(.., |writer, group| {
            let head = self.timeline.head(*writer);
            let first = group.ids.first().map(|id| self.dag.batch(*id).writer);
            let first = first.and_then(|key| self.dag.batches_of(&key).get(head as usize));
            let weight = first.map(|id| self.resolve_here(*id));
            let is_other = weight != Some(group.weight) && !self.planted.has(Slip::GroupKept);
            head != group.head || is_other
        });
        let ids: Vec<BatchId> = changed.flat_map(|(_, group)| group.ids).collect();
        self.offer(frame, &ids);
    }

    /// Makes a candidate the current one, and its unsettled ancestors the next set.
    fn start(
        &mut self,
        frame: &mut EmissionFrame,
        id: BatchId,
        trial: Option<(usize, NodeId)>,
    ) -> Result<Next, Suspended> {
        self.stats.trials += u64::from(trial.is_some());
        let current = frame.current.insert(Current {
            id,
            trial,
            chain: Vec::new(),
        });
        let ancestors = self.ancestors(id);
        if trial.is_some() && !self.is_known(id) {
            self.stats.stranger_steps += 1 + ancestors.len() as u64;
        }
        let is_spanning = frame.spanning.is_some();
        if !self.has_choice(&ancestors, is_spanning) {
            return self.emit_sorted(&ancestors);
        }
        if is_spanning {
            return Ok(Next::Pull(self.frame(&ancestors, true, true)));
        }
        let set = if let Some((rest, chain)) = self.split(&ancestors) {
            current.chain = chain;
            if !self.has_choice(&rest, false) {
                return self.emit_sorted(&rest);
            }
            rest
        } else {
            self.ancestors(id)
        };
        if self.emit_refused(&set)? {
            return Ok(Next::Again);
        }
        Ok(Next::Pull(self.frame(&set, true, false)))
    }

    // ---- pieces

    /// A set that is emitted from here, or from before the forgotten start.
    fn frame(&self, batches: &[BatchId], pulled: bool, spanning: bool) -> EmissionFrame {
        let mut frame = EmissionFrame::new(pulled);
        let first: Vec<BatchId> = if spanning {
            let spans = |id: &BatchId| self.could_span(*id);
            batches.iter().copied().filter(spans).collect()
        } else {
            Vec::new()
        };
        if first.is_empty() {
            self.offer(&mut frame, batches);
        } else {
            self.offer(&mut frame, &first);
            frame.spanning = Some(batches.to_vec());
        }
        frame
    }

    /// All that is left of the set is a candidate now: the forgotten start is emitted.
    fn go_on(&self, frame: &mut EmissionFrame) {
        frame.heap.clear();
        frame.tried.clear();
        frame.groups.clear();
        frame.epoch += 1;
        let batches = frame.spanning.take().unwrap_or_default();
        self.offer(frame, &batches);
    }

    /// True when the batch could be better than some pick of the forgotten start, and pull the rest of that.
    pub(super) fn could_span(&self, id: BatchId) -> bool {
        self.base.covers(id) && self.base.spans(&self.priority(id, self.bound(id).0))
    }

    /// True when batches of somebody without a record are no candidates, whatever apply says of them.
    pub(super) const fn shuts_out(&self) -> bool {
        self.rules.set.is_safe() && !self.planted.has(Slip::StrangerCandidate)
    }

    /// The priority of a batch with this weight.
    pub(super) fn priority(&self, id: BatchId, weight: Weight) -> Priority {
        self.base.priority(self.dag, id, weight)
    }

    /// The weight of a batch whose ancestors are settled here.
    pub(super) fn resolve(&mut self, id: BatchId) -> Weight {
        let state = self.live.as_ref().unwrap_or_else(|| self.timeline.state());
        let weight = resolve(self.replay, state, self.dag.batch(id));
        self.without_foundation(id, weight)
    }

    fn resolve_here(&mut self, id: BatchId) -> Weight {
        let weight = resolve(self.replay, self.timeline.state(), self.dag.batch(id));
        self.without_foundation(id, weight)
    }

    /// What is left of a resolved weight when the claim that raised it rests on what does not come before it: under safe
    /// rules it does not count then.
    fn without_foundation(&mut self, id: BatchId, weight: Weight) -> Weight {
        let batch = self.dag.batch(id);
        let Some(claim) = batch.claim.filter(|_| self.rules.set.is_safe()) else {
            return weight;
        };
        let state = self.live.as_ref().unwrap_or_else(|| self.timeline.state());
        let standing = self.replay.standing(state, &batch.writer);
        let floor = standing.map_or(Weight::ZERO, |standing| standing.weight);
        if weight <= floor {
            return weight;
        }
        let grants = self.replay.grants(state, &batch.writer);
        let mut is_before = |link| {
            let answer = self.ancestry.is_before(self.dag, self.base, link, id);
            if answer.is_none() {
                self.unclear.insert(id);
            }
            answer == Some(true)
        };
        let is_granted = |grant: &CeilingGrant| grant.weight >= claim.weight;
        let counts = is_before(claim.backer)
            && (self.planted.has(Slip::ClaimUngranted)
                || grants
                    .iter()
                    .filter(|grant| is_granted(grant))
                    .any(|grant| is_before(grant.by)));
        if counts { weight } else { floor }
    }

    pub(super) fn settle(&mut self, id: BatchId, weight: Weight) -> Result<bool, Suspended> {
        if !self.base.is_told(id) {
            self.unclear.insert(id);
        }
        if !self.unclear.is_empty() {
            return Err(Suspended);
        }
        let step = (id, weight, self.base.date_of(self.dag, id));
        self.timeline
            .settle(self.dag, self.replay, self.rules, self.stats, step)
    }

    /// Adds unsettled batches with their bounds.
    fn offer(&self, frame: &mut EmissionFrame, batches: &[BatchId]) {
        let unsettled = batches.iter().filter(|id| self.timeline.settled(**id).is_none());
        let candidates = unsettled.map(|&id| {
            let priority = self.priority(id, self.bound(id).0);
            let known = Certainty::Bound;
            Reverse(Candidate { priority, id, known })
        });
        // All at once: a heap of many is made faster than grown.
        let candidates: Vec<_> = candidates.collect();
        frame.heap.extend(candidates);
    }

    /// The weight that this batch cannot exceed, and the one that it has at least.
    pub(super) fn bound(&self, id: BatchId) -> (Weight, Weight) {
        let batch = self.dag.batch(id);
        let floor = self
            .replay
            .standing(self.timeline.state(), &batch.writer)
            .map_or(Weight::ZERO, |standing| standing.weight);
        let claimed = self.claims.highest(batch, self.timeline.head(batch.writer_id));
        (floor.max(claimed), floor)
    }

    /// True when the batch itself, settled among others, could lift its writer.
    pub(super) fn could_rise(&self, id: BatchId) -> bool {
        let batch = self.dag.batch(id);
        if self.planted.has(Slip::RaiseUnseen) {
            return false;
        }
        let claimed = self.claims.highest(batch, batch.sequence);
        let floor = || self.replay.standing(self.timeline.state(), &batch.writer);
        claimed > Weight::ZERO && claimed > floor().map_or(Weight::ZERO, |standing| standing.weight)
    }

    /// The weight of a batch of which this can be told without a trial: it has no unsettled ancestors but its own
    /// chain, and only the first of that chain claims.
    fn lone_weight(&mut self, id: BatchId) -> Option<Weight> {
        let batch = self.dag.batch(id);
        let writer = batch.writer_id;
        let head = self.timeline.head(writer);
        let chain = self.dag.batches_of(&batch.writer);
        let is_genesis = || {
            let first = chain.get(head as usize).map(|id| self.dag.batch(*id).first);
            batch.writer == self.rules.bootstrap && first == Some(Length(1))
        };
        if self.claims.only(batch, head) != Some(head) || is_genesis() {
            return None;
        }
        let known = self
            .lone
            .get(&writer)
            .filter(|lone| lone.head == head && self.timeline.has_passed(lone.at));
        let mut end = known.map_or(head, |lone| lone.end);
        let is_lone = |id: &BatchId| {
            self.dag.batch(*id).parents.iter().all(|parent| {
                self.timeline.settled(*parent).is_some() || self.dag.batch(*parent).writer_id == writer
            })
        };
        while end <= batch.sequence && chain.get(end as usize).is_some_and(is_lone) {
            end += 1;
        }
        self.lone.insert(
            writer,
            Lone {
                head,
                end,
                at: self.timeline.node(),
            },
        );
        let first = chain.get(head as usize).filter(|_| end > batch.sequence)?;
        Some(self.resolve_here(*first))
    }

    pub(super) fn is_known(&self, id: BatchId) -> bool {
        let writer = &self.dag.batch(id).writer;
        *writer == self.rules.bootstrap || self.replay.standing(self.timeline.state(), writer).is_some()
    }
}

pub(super) enum Next {
    /// The same frame goes on.
    Again,
    /// First this set.
    Pull(EmissionFrame),
    /// A batch was settled by choice of this frame.
    Picked(Priority),
    /// No candidate is left.
    Done,
}
