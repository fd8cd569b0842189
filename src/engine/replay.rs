//! One batch through apply: from the state before it to the state behind it.
//!
//! Apply is polled to its end at once. All it can wait for is a block of the view; then its future is dropped with
//! everything it wrote, and it runs again from the start when the linearizer asks again. What apply returned or asked
//! for after it could not read a block does not count.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::anchor::Anchor;
use super::attestations::{Named, WeightEffects};
use super::encryption::DatabaseKeys;
use super::linearizer::{CeilingGrant, PlacedBatch, Replay, Rules, Suspended, Verdict, WriterStanding};
use super::outcome;
use super::reader::WriterReader;
use super::recorded::Recorded;
use super::system::{Flush, System, SystemWrite};
use super::trees::{MissingBlock, Restored, Trees};
use crate::apply::{ApplyError, ApplyFn, ApplyView, Entry, Host, HostError, TreeSnapshot, WriterOptions};
use crate::bee::BeeError;
use crate::crypto::{CoreKey, DiscoveryKey, discovery_key};
use crate::env::{Planted, Slip, panic_words};
use crate::wire::{Length, Link, Weight, WriterRecord};

/// Membership and view behind an entry. A copy costs nothing.
#[derive(Debug, Clone)]
pub(super) struct ReplayState {
    pub(super) system: System,
    /// The same, as the tree that other peers can read.
    pub(super) records: TreeSnapshot,
    pub(super) view: TreeSnapshot,
    /// What the batch before it said about weights.
    pub(super) said: Option<Arc<WeightEffects>>,
}

impl ReplayState {
    /// Nothing applied, nothing written.
    pub(super) fn empty(trees: &Trees) -> Self {
        Self {
            system: System::default(),
            records: TreeSnapshot::empty(&trees.system),
            view: TreeSnapshot::empty(&trees.view),
            said: None,
        }
    }

    /// The state behind a flush that left the view at `view`.
    fn behind(&self, flush: Flush, view: TreeSnapshot, mut said: WeightEffects) -> Result<Self, BeeError> {
        let flushed = flush.finish();
        said.grants.clone_from(&flushed.grants);
        let writes = flushed.writes(view.head())?.into_iter().map(|write| match write {
            SystemWrite::Put { key, value } => (key.into(), Some(value.into())),
            SystemWrite::Delete { key } => (key.into(), None),
        });
        Ok(Self {
            system: flushed.system,
            // Each record has a clock that none had before.
            records: self.records.write_other(writes)?,
            view,
            said: said.shared(),
        })
    }
}

impl From<Restored> for ReplayState {
    fn from(restored: Restored) -> Self {
        let Restored {
            system,
            records,
            view,
        } = restored;
        Self {
            system,
            records,
            view,
            said: None,
        }
    }
}

/// The reason why a run of the linearizer ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pause {
    /// The budget is used up; there is more to do.
    Budget,
    /// A block is not here.
    Missing(MissingBlock),
    /// Apply, or what it stands on, stopped this peer.
    Stopped(String),
}

/// The replay for one run of the linearizer: everything that applying needs.
pub(super) struct ApplyRun<'a> {
    pub(super) apply: &'a ApplyFn,
    pub(super) name: &'a str,
    pub(super) rules: Rules,
    /// Of an encrypted database.
    pub(super) keys: Option<&'a DatabaseKeys>,
    pub(super) readers: &'a BTreeMap<CoreKey, WriterReader>,
    pub(super) recorded: &'a Recorded,
    /// Whose batches are to be told about.
    pub(super) local: Option<CoreKey>,
    /// Batches of that writer that left no trace, by their last blocks, and why.
    pub(super) refused: Vec<(Length, Arc<str>)>,
    pub(super) budget: usize,
    /// Entries that the order is moved over, applied or known, before the run ends.
    pub(super) steps_max: u64,
    pub(super) pause: Option<Pause>,
    pub(super) planted: Planted,
}

impl Replay for ApplyRun<'_> {
    type State = ReplayState;

    fn standing(&self, state: &ReplayState, writer: &CoreKey) -> Option<WriterStanding> {
        state.system.standing(writer)
    }

    fn grants(&self, state: &ReplayState, writer: &CoreKey) -> Vec<CeilingGrant> {
        state.system.grants(writer).to_vec()
    }

    fn is_long(&self, steps: u64) -> bool {
        steps >= self.steps_max
    }

    fn apply(
        &mut self,
        state: &ReplayState,
        step: PlacedBatch<'_>,
    ) -> Result<Verdict<ReplayState>, Suspended> {
        let Some(budget) = self.budget.checked_sub(1) else {
            self.pause = Some(Pause::Budget);
            return Err(Suspended);
        };
        self.budget = budget;
        let Some(mut reused) = self.reuse_recorded(state, &step) else {
            return self.apply_anew(state, &step);
        };
        // Its writer is told whether apply took it, which records do not say.
        if self.local == Some(step.batch.writer)
            && !self.planted.has(Slip::RejectionUnread)
            && self.recorded.is_bare(&state.records, &state.view)
            && let Verdict::Accepted(anew) = self.apply_anew(state, &step)?
        {
            reused.said = anew.said;
        }
        Ok(Verdict::Accepted(reused))
    }
}

impl ApplyRun<'_> {
    /// Has apply say what is behind a batch.
    fn apply_anew(
        &mut self,
        state: &ReplayState,
        step: &PlacedBatch<'_>,
    ) -> Result<Verdict<ReplayState>, Suspended> {
        let batch = step.batch;
        let is_stranger =
            state.system.member(&batch.writer).is_none() && batch.writer != self.rules.bootstrap;
        let mut flush = self.begin(state, step);
        let is_removed = |record: &WriterRecord| record.is_removed;
        let applies_anyway = self.planted.has(Slip::RemovedApplies)
            && state.system.record(&batch.writer).is_some_and(is_removed);
        if !flush.may_apply(batch.optimistic) && !applies_anyway {
            if is_stranger {
                // A guest that a member removed.
                return Ok(self.refuse(step, outcome::REMOVED.into()));
            }
            let mut said = self.rejected(step, outcome::REMOVED);
            said.named = Named::Unknown;
            let behind = state.behind(flush, state.view.clone(), said);
            return self.accept(state, behind);
        }
        let entries = self.entries(step);
        let mut view = ApplyView::new(state.view.clone());
        let mut host = Hosted {
            flush: &mut flush,
            run: self,
            batch: (batch.writer, batch.first, batch.last),
            interrupt: None,
            acknowledged: false,
            overreached: false,
        };
        let mut kept = state.view.clone();
        let outcome = poll_once(self.apply, &entries, &mut view, &mut host);
        let interrupt = host.interrupt.take();
        let overreached = host.overreached;
        let mut said = host.run.said(step);
        // Under safe rules a member acknowledged it, or it would not be here.
        said.wants_ack = host.acknowledged && batch.optimistic && !host.run.rules.set.is_safe();
        let named = Named::These(host.flush.take_named());
        said.named = named.clone();
        if let Some(error) = view.stall() {
            return self.suspend(state, error);
        }
        if let Some(reason) = interrupt {
            return self.stop(reason);
        }
        let outcome = match outcome {
            Ok(outcome) => outcome,
            // Nothing says what its values are worth now, at this peer or at others.
            Err(words) => return self.stop(format!("apply panicked: {words}")),
        };
        let mut reason = outcome::UNWRITABLE.to_owned();
        match outcome {
            None => return self.stop("apply waits for something that is not its view".into()),
            Some(Err(ApplyError::Fatal(reason))) => return self.stop(reason),
            Some(Ok(())) if overreached => outcome::NO_MEMBER.clone_into(&mut reason),
            Some(Ok(())) => match state.behind(flush, view.into_snapshot(), said) {
                // Apply granted a weight that no record can hold, as it does at every peer.
                Err(BeeError::Encode(_)) => {}
                behind => return self.accept(state, behind),
            },
            Some(Err(ApplyError::Reject(why))) => {
                reason = why;
                if self.planted.has(Slip::ViewBeforeSystem) {
                    kept = view.into_snapshot();
                }
            }
        }
        let is_recorded = if is_stranger {
            self.planted.has(Slip::RefusedStranger)
        } else {
            !self.planted.has(Slip::RefusedMember)
        };
        if !is_recorded {
            return Ok(self.refuse(step, reason.into()));
        }
        // A member's batch is recorded and has no effect, at every peer alike.
        let mut said = self.rejected(step, &reason);
        said.named = named;
        let behind = state.behind(self.begin(state, step), kept, said);
        self.accept(state, behind)
    }

    /// A batch leaves no trace, and why.
    fn refuse(&mut self, step: &PlacedBatch<'_>, reason: Arc<str>) -> Verdict<ReplayState> {
        if self.local == Some(step.batch.writer) && !self.planted.has(Slip::ReasonLost) {
            self.refused.push((step.batch.last, reason));
        }
        Verdict::Refused
    }

    /// The state behind a batch that was applied before, if the system tree has it.
    fn reuse_recorded(&self, before: &ReplayState, step: &PlacedBatch<'_>) -> Option<ReplayState> {
        let bare = || self.begin(before, step).finish().system;
        let trees = (&before.system, &before.records);
        let (system, records, view, grants) = self.recorded.behind(trees, step, bare)?;
        let mut said = self.said(step);
        said.grants = grants;
        said.named = Named::Unknown;
        // Nobody but apply lets a stranger in.
        said.wants_ack = step.batch.optimistic && before.system.record(&step.batch.writer).is_none();
        said.wants_ack &= !self.rules.set.is_safe();
        Some(ReplayState {
            system,
            records,
            view,
            said: said.shared(),
        })
    }

    /// The flush of a batch with its blocks recorded, before apply.
    fn begin(&self, state: &ReplayState, step: &PlacedBatch<'_>) -> Flush {
        let batch = step.batch;
        let rules = if self.planted.has(Slip::GuestMember) {
            crate::wire::Rules::interop()
        } else {
            self.rules.set
        };
        let mut flush = Flush::new(&state.system, batch.writer, step.weight)
            .under(rules)
            .dated(step.date);
        if batch.writer == self.rules.bootstrap && batch.first == Length(1) {
            flush.grant_genesis();
        }
        for (length, block) in (batch.first.0..).zip(self.blocks(step)) {
            flush.record(Length(length), block.timestamp, &block.links);
        }
        flush
    }

    fn said(&self, step: &PlacedBatch<'_>) -> WeightEffects {
        WeightEffects::by(step.batch.first, self.blocks(step))
    }

    /// What a batch says that has no effect.
    fn rejected(&self, step: &PlacedBatch<'_>, reason: &str) -> WeightEffects {
        let mut said = self.said(step);
        said.rejected = (self.local == Some(step.batch.writer)).then(|| reason.into());
        said
    }

    fn entries(&self, step: &PlacedBatch<'_>) -> Vec<Entry> {
        let blocks = (step.batch.first.0..).zip(self.blocks(step));
        blocks
            .filter_map(|(length, block)| {
                let value = block.value.as_ref().filter(|value| !value.is_empty())?;
                Some(Entry {
                    key: step.batch.writer,
                    length: Length(length),
                    value: value.clone(),
                    optimistic: block.optimistic,
                    timestamp: block.timestamp,
                    weight: step.weight,
                    batch: (block.batch.before, block.batch.after),
                    links: block.links.clone(),
                })
            })
            .collect()
    }

    fn blocks(&self, step: &PlacedBatch<'_>) -> &[crate::wire::oplog::OplogBlock] {
        let reader = self.readers.get(&step.batch.writer);
        reader.map_or(&[], |reader| reader.blocks_of(step.batch.first, step.batch.last))
    }

    fn accept(
        &mut self,
        before: &ReplayState,
        behind: Result<ReplayState, BeeError>,
    ) -> Result<Verdict<ReplayState>, Suspended> {
        match behind {
            Ok(state) => Ok(Verdict::Accepted(state)),
            Err(error) => self.suspend(before, &error),
        }
    }

    /// Ends the run at what could not be read behind `state`: to go on when it is here, or not at all. Nobody else has
    /// what we write.
    fn suspend(&mut self, state: &ReplayState, error: &BeeError) -> Result<Verdict<ReplayState>, Suspended> {
        let BeeError::Unavailable { core, index } = *error else {
            return self.stop(error.to_string());
        };
        if [&state.view, &state.records]
            .into_iter()
            .any(|tree| tree.tree().core() == core)
        {
            return self.stop(format!("{error}, although we wrote it: the store is corrupt"));
        }
        self.pause = Some(Pause::Missing(MissingBlock { core, index }));
        Err(Suspended)
    }

    fn stop(&mut self, reason: String) -> Result<Verdict<ReplayState>, Suspended> {
        self.pause = Some(Pause::Stopped(reason));
        Err(Suspended)
    }
}

/// Runs apply to its end; none when it waits.
///
/// # Errors
///
/// With the words of a panic. What it wrote is in values that nobody looks at again.
fn poll_once(
    apply: &ApplyFn,
    entries: &[Entry],
    view: &mut ApplyView,
    host: &mut dyn Host,
) -> Result<Option<Result<(), ApplyError>>, String> {
    let poll = AssertUnwindSafe(|| {
        let mut future = apply.apply(entries, view, host);
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    });
    catch_unwind(poll).map_err(|panic| panic_words(panic.as_ref()).to_owned())
}

/// The engine, as apply sees it while one batch is applied.
struct Hosted<'a, 'b> {
    flush: &'a mut Flush,
    run: &'a ApplyRun<'b>,
    batch: (CoreKey, Length, Length),
    interrupt: Option<String>,
    acknowledged: bool,
    /// It changed membership for an entry of somebody who is no member.
    overreached: bool,
}

impl Hosted<'_, '_> {
    fn may_change_members(&mut self) -> bool {
        let is_by_guest = self.flush.is_by_guest(&self.run.rules.bootstrap);
        self.overreached |= is_by_guest;
        !is_by_guest
    }
}

impl Host for Hosted<'_, '_> {
    fn add_writer(&mut self, key: CoreKey, options: WriterOptions) {
        if !self.may_change_members() {
            return;
        }
        if self.run.planted.has(Slip::ReAddIgnored)
            && let Some(record) = self.flush.before().record(&key)
            && record.is_removed
        {
            return;
        }
        self.flush.add_writer(key, Weight(options.weight));
    }

    fn remove_writer(&mut self, key: CoreKey) {
        if !self.may_change_members() {
            return;
        }
        if self.run.planted.has(Slip::CeilingKept) {
            return self.flush.remove(key);
        }
        self.flush.remove_writer(key);
    }

    fn ack_writer(&mut self, key: CoreKey) {
        self.acknowledged = true;
        if self.run.planted.has(Slip::AckForgotten) {
            return;
        }
        self.flush.ack_writer(key);
    }

    fn create_anchor(&mut self, key: CoreKey, length: Length) -> Result<Link, HostError> {
        let (writer, first, last) = self.batch;
        let outside = HostError::AnchorOutsideBatch { key, length };
        if key != writer || length < first || length > last {
            return Err(outside);
        }
        // Lengths of batches that were read are far below what an encoding can carry.
        let length = if self.run.planted.has(Slip::AnchorMisplaced) {
            first
        } else {
            length
        };
        let anchor = Anchor::new(self.run.keys, key, length).map_err(|_| outside)?;
        let link = anchor.link();
        self.flush.add_anchor(link.key);
        Ok(link)
    }

    fn interrupt(&mut self, reason: &str) {
        self.interrupt = Some(reason.to_owned());
    }

    fn genesis(&self) -> bool {
        self.flush.is_genesis()
    }

    fn key(&self) -> CoreKey {
        self.run.rules.bootstrap
    }

    fn discovery_key(&self) -> DiscoveryKey {
        discovery_key(&self.run.rules.bootstrap)
    }

    fn id(&self) -> String {
        self.run.rules.bootstrap.to_id()
    }

    fn name(&self) -> &str {
        self.run.name
    }

    fn clock(&self) -> u64 {
        let behind = u64::from(self.run.planted.has(Slip::ClockBehind));
        self.flush.clock().saturating_sub(behind)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::apply::{Apply, LocalTree};
    use crate::bee::{BeeSettings, Blocks as _, MemoryBlocks};
    use crate::crypto::{Ed25519, Seed, Sign as _};
    use crate::engine::linearizer::Linearizer;
    use crate::engine::{Drained, Engine, EngineOptions, OwnBatch};
    use crate::wire::oplog::OplogBlock;
    use crate::wire::{Decode as _, Index, Timestamp};

    const NOW: Timestamp = Timestamp(1_000);

    /// Copies the value of `a` to `b`, or does something that it must not.
    enum Copy {
        Properly,
        /// Goes on without the value if it does not come at once.
        Impatiently,
        /// Waits for what never comes.
        Never,
        /// Writes something, and panics.
        Badly,
    }

    impl Apply for Copy {
        async fn apply(
            &self,
            _: &[Entry],
            view: &mut ApplyView,
            host: &mut dyn Host,
        ) -> Result<(), ApplyError> {
            let value = match self {
                Self::Properly => view.get(b"a").await,
                Self::Impatiently => match poll(pin!(view.get(b"a"))) {
                    Poll::Ready(value) => value,
                    Poll::Pending => {
                        host.interrupt("the value did not come at once");
                        None
                    }
                },
                Self::Never => std::future::pending().await,
                Self::Badly => None,
            };
            let mut write = view.write();
            write.put(b"b", &value.unwrap_or_default());
            write.flush().await?;
            assert!(!matches!(self, Self::Badly), "a defect of {}", host.id());
            Ok(())
        }
    }

    /// ```text
    /// their core: a=1       not here at first
    /// our core:     \-- b=1 by apply
    /// ```
    #[test]
    fn a_block_that_is_not_here_is_named_and_apply_runs_again_once_it_is() {
        for apply in [Copy::Properly, Copy::Impatiently] {
            let theirs =
                LocalTree::new(CoreKey::new([2; 32]), BeeSettings::default(), MemoryBlocks::new()).unwrap();
            let before = TreeSnapshot::empty(&theirs)
                .write([("a".into(), Some("1".into()))])
                .unwrap();
            let fetched = Arc::new(MemoryBlocks::new());
            let (mut engine, own) = engine(apply, Arc::clone(&fetched), Some(before.head()));

            let missing = MissingBlock {
                core: theirs.core(),
                index: Index(0),
            };
            for _ in 0..2 {
                let drained = engine.drain(NOW, usize::MAX).unwrap();
                assert_eq!((drained.missing, drained.more), (Some(missing), false));
                assert_eq!(engine.batches(), 0);
            }
            // The writer does not wait for it: what is written says nothing about views.
            let secret = Ed25519.key_pair(&Seed::new([1; 32])).secret;
            let blocks = engine.stamp(own, &Ed25519, &secret).unwrap();
            assert_eq!(OplogBlock::from_bytes(&blocks[0]).unwrap().views, None);

            fetched.append(theirs.core(), theirs.block(&theirs.core(), Index(0)));
            assert_eq!(engine.drain(NOW, usize::MAX), Ok(Drained::default()));
            assert_eq!(engine.batches(), 1);
            assert_eq!(engine.view().get(b"b").unwrap().as_deref(), Some(&b"1"[..]));

            let own = engine.append(&["y".into()], false, NOW, |_| None).unwrap();
            assert_eq!((own.first(), own.end()), (Length(2), Length(2)));
            assert_eq!(engine.drain(NOW, usize::MAX), Ok(Drained::default()));
            let blocks = engine.stamp(own, &Ed25519, &secret).unwrap();
            let views = OplogBlock::from_bytes(&blocks[0]).unwrap().views.unwrap();
            assert_eq!((views.flushes, views.system.start), (2, Length(1)));
        }
    }

    #[test]
    fn waiting_for_anything_else_stops_the_peer() {
        let (mut engine, _) = engine(Copy::Never, Arc::new(MemoryBlocks::new()), None);
        let stop = engine.drain(NOW, usize::MAX).unwrap_err();
        assert!(stop.reason.contains("waits"), "{stop}");
    }

    #[test]
    fn a_panic_stops_the_peer_and_leaves_nothing() {
        let (mut engine, _) = engine(Copy::Badly, Arc::new(MemoryBlocks::new()), None);
        for _ in 0..2 {
            let stop = engine.drain(NOW, usize::MAX).unwrap_err();
            let words = format!("apply panicked: a defect of {}", engine.key().to_id());
            assert_eq!(stop.reason, words);
            assert_eq!((engine.batches(), engine.order.outside().count()), (0, 1));
            assert_eq!(engine.view().get(b"b"), Ok(None));
            assert_eq!(engine.stopped(), Some(&words[..]));
        }
    }

    /// An engine with one entry to apply, on a view that is at `view`.
    fn engine(apply: Copy, others: Arc<MemoryBlocks>, view: Option<Link>) -> (Engine<Ed25519>, OwnBatch) {
        let creator = CoreKey::new([1; 32]);
        let mut trees = Trees::unshared(&creator, 1 << 20).unwrap();
        trees.view = LocalTree::new(trees.view.core(), BeeSettings::default(), others).unwrap();
        let mut start = ReplayState::empty(&trees);
        if let Some(head) = view {
            start.view = TreeSnapshot::at(&trees.view, head);
        }
        let mut engine = Engine::new(EngineOptions {
            key: creator,
            name: String::new(),
            apply: ApplyFn::new(apply),
            optimistic: false,
            rules: Some(crate::wire::Rules::interop()),
            verify: Ed25519,
            trees,
            window_batches: crate::engine::WINDOW_BATCHES,
        });
        engine.order = Linearizer::new(engine.rules, start);
        engine.set_local(creator);
        let own = engine.append(&["x".into()], false, NOW, |_| None).unwrap();
        (engine, own)
    }

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }
}
