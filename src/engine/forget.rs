//! Holding a window of the order, and going on from where it begins.
//!
//! The engine forgets the start of the order while it grows: what stays of it are the two trees, a checkpoint, and older
//! checkpoints that get sparser the further they are. What a peer does with them:
//!
//! ```text
//! store   checkpoints(), whenever moves() changed, once is_settled()
//! open    resume(checkpoints); feed each core from fed_from(core); drain
//! drain   is_behind: go_back(); feed each core from fed_from(core); drain
//! stamp   the log does not take the own batch: withdraw(); feed each core from fed_from(core); drain
//! ```
//!
//! Going back costs the applies from the checkpoint on: at most about twice as many as are needed, because the way to the
//! next older checkpoint is at most about as long as that to the newer one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use thiserror::Error;

use super::anchor::Anchor;
use super::anchor_search::{AnchorPace, AnchorSearch};
use super::attestations::Attestations;
use super::checkpoint::Checkpoint;
use super::dag::Dag;
use super::linearizer::{Linearizer, Start};
use super::outcome::Stamped;
use super::reader::WriterReader;
use super::replay::{ApplyRun, ReplayState};
use super::system::System;
use super::trees::Trees;
use super::{Engine, EngineOptions};
use crate::bee::BeeError;
use crate::crypto::{CoreKey, Verify};
use crate::env::{Env, Point, Sights, Slip, knob};
use crate::wire::{Index, Length, Link, Timestamp};

/// The default of [`EngineOptions::window_batches`].
pub const WINDOW_BATCHES: usize = 8192;

/// Fewer batches are held when they have more blocks than this.
const BLOCKS_OF_A_BATCH: usize = 4;

/// Portions of an engine that change nothing of the result.
#[derive(Debug, Clone, Copy)]
pub struct Portions {
    blocks_of_a_batch: usize,
    anchors: AnchorPace,
}

impl Default for Portions {
    fn default() -> Self {
        Self {
            blocks_of_a_batch: BLOCKS_OF_A_BATCH,
            anchors: AnchorPace::default(),
        }
    }
}

impl Portions {
    /// The numbers that a simulator chose for this run; the usual ones elsewhere.
    #[must_use]
    pub fn tuned<E: Env>(env: &E) -> Self {
        let usual = Self::default();
        Self {
            blocks_of_a_batch: knob::ENGINE_BLOCKS_OF_A_BATCH.size(env, usual.blocks_of_a_batch),
            anchors: AnchorPace {
                patience_ms: knob::ENGINE_ANCHOR_PATIENCE_MS.of(env, usual.anchors.patience_ms),
                portion: knob::ENGINE_ANCHOR_PORTION.size(env, usual.anchors.portion),
            },
        }
    }
}

/// An engine cannot go on from a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// A tree cannot be read. When a block is not here, once it is.
    #[error("the system tree cannot be read: {0}")]
    Tree(#[from] BeeError),
    /// The system tree has no info record, or a record that is none.
    #[error("the system tree at {} of {} holds no membership: {what}", head.length, head.key)]
    Record {
        /// The version that was read.
        head: Link,
        /// What is wrong.
        what: String,
    },
    /// The checkpoint is of another place.
    #[error("the checkpoint is behind {expected} entries, the system tree behind {found}")]
    Place {
        /// Entries before the checkpoint.
        expected: u64,
        /// Entries in the system tree.
        found: u64,
    },
}

/// Counts of what an engine has in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// Batches of the order.
    pub batches: usize,
    /// Batches that are ready, with those outside of the order.
    pub ready: usize,
    /// Batches that wait for others.
    pub waiting: usize,
    /// Blocks of all writers.
    pub blocks: usize,
    /// Checkpoints.
    pub checkpoints: usize,
}

/// The past of an engine: what it keeps of what it forgot.
pub(super) struct Past {
    pub(super) trees: Trees,
    window_batches: usize,
    blocks_of_a_batch: usize,
    /// The states at checkpoints, by number of entries.
    pub(super) states: BTreeMap<u64, BatchSource>,
    /// Nothing is forgotten before this much of each core is here again: or it would be behind at once.
    pub(super) hold: BTreeMap<CoreKey, Length>,
    /// How much of each core took part in the order before the engine went back, or was closed.
    pub(super) taken: BTreeMap<CoreKey, Length>,
    pub(super) search: AnchorSearch,
    /// How often the start of what is held moved.
    moves: u64,
    /// How often the engine went on from the trees of another writer.
    pub(super) moves_onto: u64,

    /// The own batch that is not in its log yet: after going back nobody else feeds it.
    pub(super) own: Option<(CoreKey, Index, Vec<Bytes>)>,
    /// What it takes to withdraw the own batch that was begun last.
    pub(super) unwritten: Option<Unwritten>,
}

/// What was so before an own batch was begun.
#[derive(Debug, Clone)]
pub(super) struct Unwritten {
    pub(super) local: CoreKey,
    /// The length of the log.
    pub(super) before: Length,
    /// [`Past::moves`].
    pub(super) moves: u64,
    /// What was to be attested, once the batch attests it.
    pub(super) attestations: Option<Attestations>,
}

pub(super) enum BatchSource {
    /// Also keeps the blocks of trees that are not stored.
    Here(Box<ReplayState>),
    Stored(Link),
}

impl Past {
    pub(super) fn new(trees: Trees, window_batches: usize) -> Self {
        Self {
            trees,
            window_batches,
            blocks_of_a_batch: BLOCKS_OF_A_BATCH,
            states: BTreeMap::new(),
            hold: BTreeMap::new(),
            taken: BTreeMap::new(),
            search: AnchorSearch::default(),
            moves: 0,
            moves_onto: 0,
            own: None,
            unwritten: None,
        }
    }

    /// See [`Engine::moves`].
    pub(super) const fn moves(&self) -> u64 {
        self.moves
    }

    pub(super) fn take_sights(&self) -> Sights {
        let mut sights = self.trees.view.take_sights();
        sights.add(self.trees.system.take_sights());
        sights
    }

    fn state(&self, entries: u64) -> Result<ReplayState, ResumeError> {
        match self.states.get(&entries) {
            Some(BatchSource::Here(state)) => Ok((**state).clone()),
            Some(BatchSource::Stored(head)) => {
                let state = ReplayState::from(self.trees.restore(*head)?);
                let found = state.system.flushes();
                if found != entries {
                    return Err(ResumeError::Place {
                        expected: entries,
                        found,
                    });
                }
                Ok(state)
            }
            None => Ok(ReplayState::empty(&self.trees)),
        }
    }
}

impl<V: Verify> Engine<V> {
    /// An engine that goes on from the first of these checkpoints of the same database, newest first. None of them:
    /// one that knows no block.
    ///
    /// # Errors
    ///
    /// When the system tree cannot be read there. The same without the first checkpoint may work.
    pub fn resume(options: EngineOptions<V>, checkpoints: &[Checkpoint]) -> Result<Self, ResumeError> {
        let mut engine = Self::new(options);
        let Some((newest, older)) = checkpoints.split_first() else {
            return Ok(engine);
        };
        let places = checkpoints
            .iter()
            .map(|at| (at.prefix.entries(), BatchSource::Stored(at.head)));
        engine.past.states = places.collect();
        engine.past.hold = newest.considered.clone();
        engine.past.taken = newest.considered.clone();
        engine
            .sights
            .note_if(Point::AttestationKept, newest.attestations.is_some());
        engine.attestations = Attestations::resume(newest.attestations.clone(), newest.prefix.entries());
        engine.begin(Start {
            prefix: newest.prefix.clone(),
            ladder: older.iter().rev().map(|at| at.prefix.clone()).collect(),
            considered: newest.considered.clone(),
        })?;
        engine.note_considered();
        Ok(engine)
    }

    /// Sets portions that change nothing of the result. Before anything is ingested.
    pub const fn set_portions(&mut self, portions: Portions) {
        self.past.blocks_of_a_batch = portions.blocks_of_a_batch;
        self.past.search.set_pace(portions.anchors);
    }

    /// From where every core has to be fed once [`Engine::go_back`] was called: what is not among these from its start.
    ///
    /// # Errors
    ///
    /// As [`Engine::go_back`].
    pub fn way_back(&self) -> Result<BTreeMap<CoreKey, Length>, ResumeError> {
        let start = self.order.way_back(&self.dag, &self.run(0));
        let root = self.past.state(start.prefix.entries())?;
        let records = root.system.records().filter(|(_, record)| !record.is_anchor);
        Ok(start
            .prefix
            .lengths(records.map(|(key, record)| (*key, record.length))))
    }

    /// After a drain that was behind: goes back to the newest checkpoint from which all batches that are here can be
    /// ordered. Blocks are forgotten: every core has to be fed from [`Engine::fed_from`] on, as far as it was before at
    /// least, and best before the next drain. Does nothing when no drain was behind.
    ///
    /// # Errors
    ///
    /// When the system tree cannot be read there. Nothing is changed then.
    pub fn go_back(&mut self) -> Result<(), ResumeError> {
        if !self.order.is_behind() {
            return Ok(());
        }
        let start = self.order.way_back(&self.dag, &self.run(0));
        let lengths = self.readers.iter().map(|(core, reader)| (*core, reader.length()));
        let lengths: Vec<_> = lengths.collect();
        let taken = self.readers.iter().map(|(core, reader)| (*core, reader.taken()));
        let taken: Vec<_> = taken.collect();
        let reached = self.order.state().records.head();
        let from_the_start = start.prefix.is_empty();
        self.sights.note(Point::WentBack);
        self.begin(start)?;
        self.past.hold.extend(lengths);
        self.past.taken.extend(taken);
        // Up to where the orders part nothing has to be applied again. What cannot be read is.
        let _ = self.resume_from(reached);
        let is_anew = from_the_start && !self.planted.has(Slip::ElsewhereTaken);
        if is_anew && self.recorded.is_elsewhere(&self.past.trees.system.core()) {
            // What apply reads of those versions is in blocks of other writers, which nobody may have any more; and all that
            // it takes to do without is here.
            self.recorded.clear();
        }
        Ok(())
    }

    /// True when [`Engine::withdraw`] begins with the first entry of all: what was forgotten since the batch was begun may rest
    /// on it.
    #[must_use]
    pub fn withdraws_from_the_start(&self) -> bool {
        let unwritten = self.past.unwritten.as_ref();
        unwritten.is_none_or(|unwritten| unwritten.moves != self.past.moves)
    }

    /// Takes the own batch back that was begun last, as its log will not get it: what is held of the order is made anew
    /// without it. Every core has to be fed as after [`Engine::go_back`], and no further own batch be begun before the next
    /// drain.
    ///
    /// # Errors
    ///
    /// When the system tree cannot be read where the order begins: the engine has to be given up then.
    pub fn withdraw(&mut self) -> Result<(), ResumeError> {
        let from_the_start = self.withdraws_from_the_start();
        let Some(unwritten) = self.past.unwritten.take() else {
            return Ok(());
        };
        let Unwritten {
            local,
            before,
            attestations,
            ..
        } = unwritten;
        self.past.own = None;
        self.outcomes.forget_from(Length(before.0 + 1));
        self.round_over = false;
        if from_the_start {
            return self.start_over();
        }
        let mut start = self.order.start(&self.dag);
        let lengths = self.readers.iter().map(|(core, reader)| (*core, reader.length()));
        let lengths: Vec<_> = lengths.collect();
        let taken = self.readers.iter().map(|(core, reader)| (*core, reader.taken()));
        let taken: Vec<_> = taken.collect();
        let cut = |lengths: &mut BTreeMap<CoreKey, Length>| {
            if let Some(length) = lengths.get_mut(&local) {
                *length = before.min(*length);
            }
        };
        cut(&mut start.considered);
        // In the place of the batch may come another one of the same log, which its place and length do not tell from it.
        let mut reached = self.order.state_at(self.forgotten()).records.head();
        for (entry, state) in self.order.entries_since(0) {
            let batch = self.dag.batch(entry.batch);
            if batch.writer == local && batch.last > before {
                break;
            }
            reached = state.records.head();
        }
        self.sights.note(Point::WentBack);
        self.begin(start)?;
        self.past.hold.extend(lengths);
        self.past.taken.extend(taken);
        cut(&mut self.past.hold);
        cut(&mut self.past.taken);
        if let Some(attestations) = attestations {
            self.attestations = attestations;
        }
        // Up to the batch nothing has to be applied again. What cannot be read is.
        let _ = self.resume_from(reached);
        Ok(())
    }

    /// Goes back to the start, and forgets all blocks: every core has to be fed anew. For when cores have other blocks
    /// by now than those that were fed.
    ///
    /// # Errors
    ///
    /// None: the empty state needs no tree.
    pub fn start_over(&mut self) -> Result<(), ResumeError> {
        self.past.search = AnchorSearch::new(self.past.search.pace());
        self.past.hold.clear();
        self.past.taken.clear();
        self.sights.note(Point::StartedOver);
        self.begin(Start::default())?;
        self.recorded.clear();
        if let Some(local) = self.attestations.local() {
            self.attestations.set_local(local, System::default());
        }
        Ok(())
    }

    /// Where the next block of a core is awaited: all before is known, or forgotten.
    #[must_use]
    pub fn fed_from(&self, core: &CoreKey) -> Length {
        let reader = self.readers.get(core).map(WriterReader::length);
        reader.unwrap_or_else(|| self.dag.base_length(core))
    }

    /// Says how much of each core there is to be fed, after going back or resuming: nothing more is waited for before the
    /// start of the order is forgotten again.
    pub fn set_available(&mut self, there_is: impl Fn(&CoreKey) -> Length) {
        for (core, length) in &mut self.past.hold {
            *length = there_is(core).min(*length);
        }
    }

    /// True when `there_is` as much of each core as is forgotten. Of strangers' cores nothing has to be here. Else it was
    /// resumed from a checkpoint of other logs than these.
    #[must_use]
    pub fn is_within(&self, there_is: impl Fn(&CoreKey) -> Option<Length>) -> bool {
        let is_here = |(core, length)| there_is(&core).is_none_or(|here| length <= here);
        let is_applied = |core: &CoreKey| self.system().length(core) > Length::ZERO;
        let mut forgotten = self.dag.base_lengths();
        forgotten.all(|core| is_here(core) && (!is_applied(&core.0) || there_is(&core.0).is_some()))
    }

    /// How much of each log is forgotten.
    pub fn forgotten_lengths(&self) -> impl Iterator<Item = (CoreKey, Length)> {
        self.dag.base_lengths()
    }

    /// Changes whenever there are other [`Engine::checkpoints`] to be stored. Those that were stored before are good as
    /// long as all blocks are there that they were made with: they only lead to more work.
    #[must_use]
    pub const fn moves(&self) -> u64 {
        self.past.moves
    }

    /// True when the last drain came to its end, and nothing was begun since. Only then is the order that of the blocks
    /// that are here, and its head and checkpoints may replace those that are stored.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.round_over
    }

    /// What to store, newest first, to be able to go on from here. Good as long as no drain was behind.
    pub fn checkpoints(&mut self) -> Vec<Checkpoint> {
        let Start {
            prefix,
            ladder,
            considered,
        } = self.order.start(&self.dag);
        if prefix.is_empty() {
            return Vec::new();
        }
        let mut considered = Some(considered);
        let mut attestations = self.attestations.keep(prefix.entries());
        let newest_first = std::iter::once(prefix).chain(ladder.into_iter().rev());
        let checkpoint = |prefix: super::linearizer::Prefix| {
            let head = match self.past.states.get(&prefix.entries())? {
                BatchSource::Here(state) => state.records.head(),
                BatchSource::Stored(head) => *head,
            };
            Some(Checkpoint {
                head,
                prefix,
                considered: considered.take().unwrap_or_default(),
                attestations: attestations.take(),
            })
        };
        newest_first.filter_map(checkpoint).collect()
    }

    /// Number of batches of the order that are forgotten.
    #[must_use]
    pub fn forgotten(&self) -> usize {
        self.order.forgotten()
    }

    /// What is in memory.
    #[must_use]
    pub fn held(&self) -> Held {
        Held {
            batches: self.order.held(),
            ready: self.dag.len(),
            waiting: self.dag.waiting(),
            blocks: self.blocks,
            checkpoints: self.past.states.len(),
        }
    }

    /// Feeds the own batch again once its log is here again.
    pub(super) fn feed_own(&mut self) {
        if let Some((local, index, blocks)) = &self.past.own
            && self.fed_from(local).0 == index.0
        {
            let (local, index, blocks) = (*local, *index, blocks.clone());
            self.ingest(local, index, &blocks);
        }
    }

    /// Forgets what is too much, after a drain that came to its end.
    pub(super) fn forget(&mut self) {
        let is_here = |(core, length): (&CoreKey, &Length)| self.fed_from(core) >= *length;
        if !self.past.hold.iter().all(is_here) {
            return;
        }
        self.past.hold.clear();
        let window = self.window();
        let run = ApplyRun {
            apply: &self.apply,
            name: &self.name,
            rules: self.rules,
            keys: self.keys.as_ref(),
            readers: &self.readers,
            recorded: &self.recorded,
            local: None,
            refused: Vec::new(),
            planted: self.planted,
            budget: 0,
            steps_max: u64::MAX,
            pause: None,
        };
        if !self.order.forget(&mut self.dag, &run, window) {
            return;
        }
        for (core, reader) in &mut self.readers {
            let before = reader.held();
            reader.forget(self.dag.base_length(core));
            self.blocks -= before - reader.held();
        }
        self.past.moves += 1;
        self.sights.note(Point::OrderForgotten);
        let ahead = usize::from(self.planted.has(Slip::CheckpointAhead));
        let state = self.order.state_at(self.order.forgotten() + ahead).clone();
        self.know_anchors(&state.system);
        let Start { prefix, ladder, .. } = self.order.start(&self.dag);
        let entries = prefix.entries();
        self.past
            .states
            .insert(entries, BatchSource::Here(Box::new(state)));
        if self.planted.has(Slip::StatesPile) {
            return;
        }
        self.past
            .states
            .retain(|at, _| *at == entries || ladder.iter().any(|prefix| prefix.entries() == *at));
    }

    /// Tells the set of anchors of forgotten entries that it waits for. Gives when to look again.
    pub(super) fn find_anchors(&mut self, now: Timestamp) -> Option<Timestamp> {
        let dag = &self.dag;
        let awaited = dag.missing().filter(|link| link.length == Length(1));
        let awaited: BTreeSet<CoreKey> = awaited.map(|link| link.key).collect();
        let keys = self.keys.as_ref();
        let anchor = |writer, length| {
            let anchor = Anchor::new(keys, writer, length).ok()?;
            Some(anchor.link().key)
        };
        let search = &mut self.past.search;
        let found = if self.order.forgotten() == 0 {
            Vec::new()
        } else {
            search.step(now, &awaited, || dag.base_lengths().collect(), anchor)
        };
        self.sights.note_if(Point::AnchorFound, !found.is_empty());
        for key in found {
            self.dag.add_anchor(key);
        }
        self.past.search.due()
    }

    /// True while it is not known whether a link that is awaited is to an anchor of a forgotten entry.
    pub(super) fn is_awaiting_anchors(&self) -> bool {
        self.order.forgotten() > 0 && (self.is_searching() || self.past.search.due().is_some())
    }

    pub(super) const fn is_searching(&self) -> bool {
        self.past.search.is_running()
    }

    /// How many batches are to be held: as many as wished for, or as have that many blocks in all.
    fn window(&self) -> usize {
        let window = self.past.window_batches;
        let blocks = self.blocks;
        debug_assert_eq!(
            blocks,
            self.readers.values().map(WriterReader::held).sum::<usize>()
        );
        let blocks_max = window.saturating_mul(self.past.blocks_of_a_batch);
        if blocks <= blocks_max {
            return window;
        }
        let batches_max = blocks_max.saturating_mul(self.order.held()) / blocks;
        window.min(batches_max).max(1)
    }

    pub(super) fn begin(&mut self, start: Start) -> Result<(), ResumeError> {
        let entries = start.prefix.entries();
        let root = self.past.state(entries)?;
        self.past.moves += 1;
        let starts_over = self.planted.has(Slip::RemovedStartsOver);
        let records = root
            .system
            .records()
            .filter(|(_, record)| !(record.is_anchor || starts_over && record.is_removed));
        let recorded = records.map(|(key, record)| (*key, record.length));
        self.dag = Dag::starting_at(start.prefix.lengths(recorded)).following(self.rules.set);
        self.readers.clear();
        self.stamped = Stamped::default();
        self.blocks = 0;
        self.past.search.restart();
        self.know_anchors(&root.system);
        self.past.states.retain(|at, _| *at < entries);
        if entries > 0 {
            self.past
                .states
                .insert(entries, BatchSource::Here(Box::new(root.clone())));
        }
        let order = Linearizer::resume(self.rules, root, start);
        self.order = order.counting_on(&self.order).remembering(&self.order);
        self.plant(self.planted);
        Ok(())
    }

    /// Anchors of forgotten entries are known by their records.
    fn know_anchors(&mut self, system: &System) {
        let anchors = system.records().filter(|(_, record)| record.is_anchor);
        let anchors = anchors.map(|(key, _)| *key).chain(self.past.search.found());
        self.dag.reset_anchors(anchors);
        self.anchored = self.dag.base_lengths().collect();
    }

    pub(super) fn run(&self, budget: usize) -> ApplyRun<'_> {
        ApplyRun {
            apply: &self.apply,
            name: &self.name,
            rules: self.rules,
            keys: self.keys.as_ref(),
            readers: &self.readers,
            recorded: &self.recorded,
            local: None,
            refused: Vec::new(),
            planted: self.planted,
            budget,
            steps_max: u64::MAX,
            pause: None,
        }
    }
}
