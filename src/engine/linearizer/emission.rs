//! The rule itself, as a machine with its own stack: sets that are being emitted, each with the candidate it is at.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::engine::dag::{Batch, BatchId, Dag};
use crate::wire::Weight;

use super::picks::{Picks, Priority};
use super::timeline::{NodeId, Timeline, Trial};
use super::{GENESIS_WEIGHT, MAX_OPTIMISTIC_NODES, Replay, Rules, Stats, Suspended, resolve};

impl Rules {
    /// Whether a batch of a stranger is tried at all.
    pub(super) fn tries(&self, batch: &Batch) -> bool {
        self.optimistic && batch.optimistic && batch.nodes() <= MAX_OPTIMISTIC_NODES
    }
}

/// Claims that could count, by writer: the position of the batch among those of its writer, and the weight.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims {
    of: Vec<Vec<(u32, Weight)>>,
}

impl Claims {
    pub(super) fn add(&mut self, dag: &Dag, rules: &Rules, id: BatchId) {
        let batch = dag.batch(id);
        self.of.resize_with(dag.writers(), Vec::new);
        let of = &mut self.of[batch.writer_id.index()];
        if of.last().is_some_and(|(sequence, _)| *sequence >= batch.sequence) {
            return;
        }
        let genesis = batch.writer == rules.bootstrap && batch.sequence == 0;
        let claimed = batch
            .claim
            .filter(|claim| claim.valid && claim.backer.key != batch.writer)
            .map(|claim| claim.weight);
        // The creator's first batch lifts its later ones as a claim would.
        if let Some(weight) = claimed.max(genesis.then_some(GENESIS_WEIGHT)) {
            of.push((batch.sequence, weight));
        }
    }

    /// The highest of the writer from batch `from` up to this one.
    pub(super) fn highest(&self, batch: &Batch, from: u32) -> Weight {
        let claims = self.up_to(batch).iter().rev();
        claims
            .take_while(|(sequence, _)| *sequence >= from)
            .map(|(_, weight)| *weight)
            .max()
            .unwrap_or(Weight::ZERO)
    }

    /// Position of the last batch of the writer, up to this one, that claims.
    pub(super) fn last(&self, batch: &Batch) -> Option<u32> {
        self.up_to(batch).last().map(|(sequence, _)| *sequence)
    }

    fn up_to(&self, batch: &Batch) -> &[(u32, Weight)] {
        let claims = self
            .of
            .get(batch.writer_id.index())
            .map_or(&[][..], Vec::as_slice);
        let end = claims.partition_point(|(sequence, _)| *sequence <= batch.sequence);
        &claims[..end]
    }
}

/// One run of the rule, from where the timeline stands.
pub(super) struct Emission<'a, R: Replay> {
    pub(super) dag: &'a Dag,
    pub(super) replay: &'a mut R,
    pub(super) rules: &'a Rules,
    pub(super) timeline: &'a mut Timeline<R::State>,
    pub(super) claims: &'a Claims,
    pub(super) stats: &'a mut Stats,
    pub(super) marks: &'a mut Marks,
}

/// Which batches a walk has seen. Made once, so that a walk costs what it visits.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks {
    walk: u64,
    seen: Vec<u64>,
}

impl Marks {
    fn start(&mut self, dag: &Dag) {
        self.seen.resize(dag.len(), 0);
        self.walk += 1;
    }

    /// True the first time.
    fn see(&mut self, id: BatchId) -> bool {
        std::mem::replace(&mut self.seen[id.index()], self.walk) != self.walk
    }

    fn has_seen(&self, id: BatchId) -> bool {
        self.seen[id.index()] == self.walk
    }
}

/// A set that is being emitted.
struct Frame {
    /// Best first: with a bound of its priority, or with the exact one at a state.
    heap: BinaryHeap<Reverse<Candidate>>,
    /// Those that had a trial since the last pick of this frame: their bound counts again after the next.
    tried: Vec<BatchId>,
    /// Whether refused batches are settled, too.
    pulled: bool,
    current: Option<Current>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    priority: Priority,
    id: BatchId,
    exact: Option<NodeId>,
}

/// The candidate whose ancestors were emitted last.
struct Current {
    id: BatchId,
    /// Where the timeline was before them, if this is a trial.
    trial: Option<(usize, NodeId)>,
}

impl Frame {
    const fn new(pulled: bool) -> Self {
        Self {
            heap: BinaryHeap::new(),
            tried: Vec::new(),
            pulled,
            current: None,
        }
    }

    fn push(&mut self, priority: Priority, id: BatchId, exact: Option<NodeId>) {
        self.heap.push(Reverse(Candidate { priority, id, exact }));
    }
}

impl<R: Replay> Emission<'_, R> {
    /// Emits `batches` and records the picks. What is left unsettled cannot be admitted.
    pub(super) fn run(&mut self, batches: &[BatchId], picks: &mut Picks) -> Result<(), Suspended> {
        let mut top = Frame::new(false);
        self.offer(&mut top, batches);
        // Sets that are emitted on behalf of the one before.
        let mut pulled: Vec<Frame> = Vec::new();
        loop {
            let is_top = pulled.is_empty();
            let frame = pulled.last_mut().unwrap_or(&mut top);
            let next = match frame.current.take() {
                Some(current) => self.decide(frame, &current)?,
                None => self.choose(frame)?,
            };
            match next {
                Next::Again => {}
                Next::Pull(frame) => pulled.push(frame),
                Next::Picked(priority) => {
                    if is_top {
                        picks.push(priority, self.timeline.len());
                    }
                }
                Next::Done => {
                    if pulled.pop().is_none() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Takes the candidate with the best bound, and emits its ancestors: to find out, or for good.
    fn choose(&mut self, frame: &mut Frame) -> Result<Next, Suspended> {
        let here = self.timeline.node();
        loop {
            let Some(Reverse(Candidate { priority, id, exact })) = frame.heap.pop() else {
                return Ok(Next::Done);
            };
            if self.timeline.settled(id).is_some() {
                continue;
            }
            if exact == Some(here) {
                return self.start(frame, id, None);
            }
            if exact.is_some() {
                // Of an earlier state; the same batch is here with its bound as well.
                continue;
            }
            let (bound, floor) = self.bound(id);
            let bounded = Priority::new(self.dag.batch(id), bound);
            if bounded > priority {
                frame.push(bounded, id, None);
                continue;
            }
            if bound == floor && (frame.pulled || self.is_known(id)) {
                return self.start(frame, id, None);
            }
            match self.timeline.trial(id) {
                Some(trial) if frame.pulled || trial.admitted.is_some() => self.weigh(frame, id, trial, here),
                _ => return self.start(frame, id, Some((self.timeline.len(), here))),
            }
        }
    }

    /// The ancestors of the current candidate are emitted: settles it, or steps back and tries others.
    fn decide(&mut self, frame: &mut Frame, current: &Current) -> Result<Next, Suspended> {
        let id = current.id;
        let batch = self.dag.batch(id);
        let weight = resolve(self.replay, self.timeline.state(), batch);
        let priority = Priority::new(batch, weight);
        if let Some((start, before)) = current.trial {
            let behind = self.timeline.len();
            let admitted = if frame.pulled {
                None
            } else {
                Some(self.is_known(id) || self.settle(id, weight)?)
            };
            let trial = Trial { weight, admitted };
            self.timeline.remember(before, id, trial);
            self.timeline.rewind(behind);
            let wins = admitted != Some(false)
                && frame
                    .heap
                    .peek()
                    .is_none_or(|Reverse(next)| priority <= next.priority);
            if !wins {
                self.timeline.rewind(start);
                self.weigh(frame, id, trial, before);
                return Ok(Next::Again);
            }
        }
        self.settle(id, weight)?;
        let tried = std::mem::take(&mut frame.tried);
        self.offer(frame, &tried);
        Ok(Next::Picked(priority))
    }

    /// Puts a candidate back with what its trial found.
    fn weigh(&self, frame: &mut Frame, id: BatchId, trial: Trial, at: NodeId) {
        frame.tried.push(id);
        if frame.pulled || trial.admitted == Some(true) {
            frame.push(Priority::new(self.dag.batch(id), trial.weight), id, Some(at));
        }
    }

    /// Makes a candidate the current one, and its unsettled ancestors the next set.
    fn start(
        &mut self,
        frame: &mut Frame,
        id: BatchId,
        trial: Option<(usize, NodeId)>,
    ) -> Result<Next, Suspended> {
        self.stats.trials += u64::from(trial.is_some());
        frame.current = Some(Current { id, trial });
        let ancestors = self.ancestors(id);
        if ancestors.iter().any(|id| self.could_rise(*id)) {
            let mut set = Frame::new(true);
            self.offer(&mut set, &ancestors);
            return Ok(Next::Pull(set));
        }
        for id in self.sort(&ancestors) {
            let weight = resolve(self.replay, self.timeline.state(), self.dag.batch(id));
            self.settle(id, weight)?;
        }
        Ok(Next::Again)
    }

    // ---- pieces

    fn settle(&mut self, id: BatchId, weight: Weight) -> Result<bool, Suspended> {
        self.timeline
            .settle(self.dag, self.replay, self.rules, self.stats, (id, weight))
    }

    /// Adds unsettled batches with their bounds.
    fn offer(&self, frame: &mut Frame, batches: &[BatchId]) {
        for &id in batches {
            if self.timeline.settled(id).is_none() {
                let (bound, _) = self.bound(id);
                frame.push(Priority::new(self.dag.batch(id), bound), id, None);
            }
        }
    }

    /// The weight that this batch cannot exceed, and the one that it has at least.
    fn bound(&self, id: BatchId) -> (Weight, Weight) {
        let batch = self.dag.batch(id);
        let floor = self
            .replay
            .standing(self.timeline.state(), &batch.writer)
            .map_or(Weight::ZERO, |standing| standing.weight);
        let claimed = self.claims.highest(batch, self.timeline.head(batch.writer_id));
        (floor.max(claimed), floor)
    }

    /// True when the batch itself, settled among others, could lift its writer.
    fn could_rise(&self, id: BatchId) -> bool {
        let batch = self.dag.batch(id);
        let claimed = self.claims.highest(batch, batch.sequence);
        let floor = || self.replay.standing(self.timeline.state(), &batch.writer);
        claimed > Weight::ZERO && claimed > floor().map_or(Weight::ZERO, |standing| standing.weight)
    }

    fn is_known(&self, id: BatchId) -> bool {
        let writer = &self.dag.batch(id).writer;
        *writer == self.rules.bootstrap || self.replay.standing(self.timeline.state(), writer).is_some()
    }

    /// Unsettled ancestors, oldest id first.
    fn ancestors(&mut self, id: BatchId) -> Vec<BatchId> {
        self.marks.start(self.dag);
        let mut found = Vec::new();
        let mut next = vec![id];
        while let Some(id) = next.pop() {
            for &parent in &self.dag.batch(id).parents {
                if self.timeline.settled(parent).is_none() && self.marks.see(parent) {
                    found.push(parent);
                    next.push(parent);
                }
            }
        }
        found.sort_unstable();
        found
    }

    /// The order of a set in which nothing can rise; the last walk must have been the one that found it.
    ///
    /// The best goes as far to the front as its ancestors allow, then the next best: the same as taking, from the back,
    /// the worst of those that nothing left depends on.
    fn sort(&self, set: &[BatchId]) -> Vec<BatchId> {
        if set.len() < 2 {
            return set.to_vec();
        }
        let inside = |id: &BatchId| self.marks.has_seen(*id) && self.timeline.settled(*id).is_none();
        let mut children: BTreeMap<BatchId, u32> = set.iter().map(|id| (*id, 0)).collect();
        for id in set {
            for parent in self.dag.batch(*id).parents.iter().filter(|id| inside(id)) {
                *children.entry(*parent).or_default() += 1;
            }
        }
        let priority = |id: BatchId| {
            let batch = self.dag.batch(id);
            Priority::new(batch, self.bound(id).1)
        };
        let free = children.iter().filter(|(_, children)| **children == 0);
        let mut last: BinaryHeap<_> = free.map(|(id, _)| (priority(*id), *id)).collect();
        let mut sorted = Vec::new();
        while let Some((_, id)) = last.pop() {
            sorted.push(id);
            for parent in self.dag.batch(id).parents.iter().filter(|id| inside(id)) {
                if let Some(children) = children.get_mut(parent) {
                    *children -= 1;
                    if *children == 0 {
                        last.push((priority(*parent), *parent));
                    }
                }
            }
        }
        sorted.reverse();
        sorted
    }
}

enum Next {
    /// The same frame goes on.
    Again,
    /// First this set.
    Pull(Frame),
    /// A batch was settled by choice of this frame.
    Picked(Priority),
    /// No candidate is left.
    Done,
}
