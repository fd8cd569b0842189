//! The engine: from blocks of many writers to one order, one membership and one view.
//!
//! A machine without I/O: blocks and the time go in, the order and the state come out. What comes out is a function of
//! the set of blocks that went in, whatever their order of arrival. A drain collects what can be ordered, computes the
//! order once, goes back once to where the old and the new order part, and applies each entry behind that once.
//!
//! Source: spec/autobee.md 5 to 9.

pub mod anchor;
mod anchor_search;
mod attestations;
mod checkpoint;
mod compare;
mod compose;
mod covered;
pub mod dag;
pub mod encryption;
mod fast_forward;
mod forget;
mod history;
pub mod linearizer;
mod local;
mod outcome;
mod outputs;
mod outside;
mod reader;
mod recorded;
mod replay;
mod rules;
mod settled;
pub mod system;
mod trees;
mod vouch;
pub mod witness;

use std::collections::BTreeMap;

use bytes::Bytes;
use thiserror::Error;

pub use anchor::anchor;
pub use attestations::ATTESTATIONS_MAX;
pub use checkpoint::Checkpoint;
pub use compare::ViewClaim;
pub use compose::ComposeError;
pub use covered::{AnchorKeys, Covered};
pub use fast_forward::{
    CUT_ENTRIES, CUT_ENTRIES_MIN, CutRange, GAP_ENTRIES, STAMP_SEARCH_BLOCKS, StampedHead, Survey,
    SurveyError,
};
pub use forget::{Held, Portions, ResumeError, WINDOW_BATCHES};
pub(crate) use history::history_of;
pub(crate) use linearizer::{map, pairs};
pub use local::OwnBatch;
pub use outcome::Outcome;
pub(crate) use outcome::Stamped;
pub use outputs::{EngineStats, OrderedEntry, WriterStatus};
pub use outside::{LetGo, STRANGER_BLOCKS_MAX, STRANGER_BYTES_MAX};
pub use reader::{AHEAD_MS_MAX, BATCH_BLOCKS_MAX, Frozen};
pub use settled::Settled;
pub use trees::{MissingBlock, Restored, TreeSettings, Trees};

use crate::apply::ApplyFn;
use crate::bee::BeeError;
use crate::crypto::{CoreKey, Verify};
use crate::env::{Planted, Point, Sights, Slip};
use crate::wire::{Index, Length, Link, Timestamp};
use anchor::Anchor;
use attestations::{Attestations, EntryEffects};
use dag::Dag;
use encryption::DatabaseKeys;
use forget::Past;
use linearizer::{Linearizer, Rules};
use local::Round;
use outcome::Outcomes;
use reader::WriterReader;
use recorded::Recorded;
use replay::{ApplyRun, Pause, ReplayState};
use vouch::Vouched;

/// Entries that the order is moved over in a portion, for each call of apply that it may have.
const STEPS_OF_A_CALL: u64 = 16;

/// As many are they at least: what a portion begins with is done again by each.
const STEPS_MIN: u64 = 4096;

/// Options of an engine.
pub struct EngineOptions<V> {
    /// The key of the database: its creator's writer.
    pub key: CoreKey,
    /// A name for messages.
    pub name: String,
    /// The user's merge.
    pub apply: ApplyFn,
    /// Whether batches of strangers are tried.
    pub optimistic: bool,
    /// The rules of the database. None as long as the creator's manifest is not known: then nothing can be ordered, and
    /// [`Engine::set_rules`] tells them.
    pub rules: Option<crate::wire::Rules>,
    /// Checks signatures of attestations.
    pub verify: V,
    /// What is written.
    pub trees: Trees,
    /// About how many batches are held to be ordered anew when others arrive that belong before them. Twice as many
    /// take memory; fewer are held of more than four blocks each. See [`WINDOW_BATCHES`].
    pub window_batches: usize,
}

/// Orders and applies the blocks of one database.
///
/// ```
/// use autobee::apply::{ApplyFn, OrderOnly};
/// use autobee::crypto::{CoreKey, Ed25519, Seed, Sign as _};
/// use autobee::engine::{Engine, EngineOptions, Trees, WINDOW_BATCHES};
/// use autobee::wire::{Rules, Timestamp};
///
/// let creator = CoreKey::new([1; 32]);
/// let mut engine = Engine::new(EngineOptions {
///     key: creator,
///     name: String::new(),
///     apply: ApplyFn::new(OrderOnly),
///     optimistic: false,
///     rules: Some(Rules::interop()),
///     verify: Ed25519,
///     trees: Trees::unshared(&creator, 1 << 20).unwrap(),
///     window_batches: WINDOW_BATCHES,
/// });
/// engine.set_local(creator);
/// let batch = engine.append(&["hello".into()], false, Timestamp(1_000), |_| None).unwrap();
/// engine.drain(Timestamp(1_000), usize::MAX).unwrap();
/// let secret = Ed25519.key_pair(&Seed::new([1; 32])).secret;
/// let blocks = engine.stamp(batch, &Ed25519, &secret).unwrap(); // for the creator's log
/// assert_eq!(engine.order().len(), 1);
/// ```
pub struct Engine<V> {
    rules: Rules,
    knows_rules: bool,
    name: String,
    apply: ApplyFn,
    verify: V,
    readers: BTreeMap<CoreKey, WriterReader>,
    dag: Dag,
    order: Linearizer<ReplayState>,
    /// Up to which length the anchors of a writer's entries are known to the set.
    anchored: BTreeMap<CoreKey, Length>,
    /// The entries of those who are no members that those anchors are of.
    anchor_of: BTreeMap<CoreKey, Link>,
    /// Up to where logs of those who are no members have to stay, as batches need them that they do not order.
    needed: BTreeMap<CoreKey, Length>,
    past: Past,
    keys: Option<DatabaseKeys>,
    attestations: Attestations,
    vouched: Vouched,
    round: Round,
    /// The last drain applied all there was: the next one begins a round.
    round_over: bool,
    /// Whom the next own entry calls trusted.
    named: Option<Link>,
    recorded: Recorded,
    outcomes: Outcomes,
    stamped: Stamped,
    claim: Option<Box<ViewClaim>>,
    /// Blocks that all readers hold.
    blocks: usize,
    stopped: Option<String>,
    planted: Planted,
    sights: Sights,
}

/// The result of a drain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    /// The budget ran out: drain again.
    pub more: bool,
    /// A batch is too far ahead of the clock: drain again at this time.
    pub wake_at: Option<Timestamp>,
    /// How many batches of the order were taken back.
    pub undone: usize,
    /// Apply needs a block of the view that is not here: drain again once it is. The order is the one of before.
    pub missing: Option<MissingBlock>,
    /// A stranger's batch could not be tried without this block: drain again once it is here. The order is complete.
    pub wanted: Option<MissingBlock>,
    /// A batch belongs into the part of the order that is not in memory: [`Engine::go_back`], and feed every core anew.
    /// The order is the one of before.
    pub is_behind: bool,
}

/// Apply stopped this peer. Nothing is lost; a new engine on the same blocks tries again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("apply stopped this peer: {reason}")]
pub struct Stop {
    /// The reason that apply gave.
    pub reason: String,
}

impl<V: Verify> Engine<V> {
    /// An engine that knows no block.
    pub fn new(options: EngineOptions<V>) -> Self {
        let rules = Rules {
            bootstrap: options.key,
            optimistic: options.optimistic,
            set: options.rules.unwrap_or(crate::wire::Rules::interop()),
        };
        Self {
            rules,
            knows_rules: options.rules.is_some(),
            name: options.name,
            apply: options.apply,
            verify: options.verify,
            readers: BTreeMap::new(),
            dag: Dag::new().following(rules.set),
            order: Linearizer::new(rules, ReplayState::empty(&options.trees)),
            anchored: BTreeMap::new(),
            anchor_of: BTreeMap::new(),
            needed: BTreeMap::new(),
            past: Past::new(options.trees, options.window_batches),
            keys: None,
            attestations: Attestations::default(),
            vouched: Vouched::default(),
            round: Round::default(),
            round_over: true,
            named: None,
            recorded: Recorded::default(),
            outcomes: Outcomes::default(),
            stamped: Stamped::default(),
            claim: None,
            blocks: 0,
            stopped: None,
            planted: Planted::default(),
            sights: Sights::default(),
        }
    }

    /// Makes it the engine of an encrypted database. Before anything is ingested: anchors depend on the keys. The
    /// blocks that go in and out are clear all the same; what stores them encrypts them.
    pub fn set_keys(&mut self, keys: DatabaseKeys) {
        self.set_rules_of(&keys);
        self.keys = Some(keys);
    }

    /// Has it make slips. Before anything is ingested.
    #[doc(hidden)]
    pub fn plant(&mut self, planted: Planted) {
        self.planted = planted;
        self.dag.plant(planted);
        self.order.plant(planted);
        self.recorded.plant(planted);
    }

    // Growing.

    /// Takes up what an earlier engine applied, up to this version of the system tree. To be called before the first
    /// drain: batches that come in the same order again are not applied again, and nothing is written for them. The
    /// blocks of all cores must be those that the earlier engine had, or more of the same.
    ///
    /// # Errors
    ///
    /// When the system tree cannot be read. Then everything is applied anew.
    pub fn resume_from(&mut self, head: Link) -> Result<(), BeeError> {
        let ReplayState { records, view, .. } = self.order.state();
        self.recorded
            .read((records.tree(), view.tree()), records.head(), head)
    }

    /// Takes verified blocks of a core, the first of them at `from`. Blocks that are here already are passed over.
    pub fn ingest(&mut self, core: CoreKey, from: Index, blocks: &[Bytes]) {
        let base = self.dag.base_length(&core);
        let taken = self.past.taken.get(&core).copied().unwrap_or_default();
        let reader = self
            .readers
            .entry(core)
            .or_insert_with(|| WriterReader::new(core, base, taken));
        let before = reader.held();
        for (index, block) in (from.0..).zip(blocks) {
            reader.take(Index(index), block, &self.verify);
        }
        self.blocks += reader.held() - before;
    }

    /// True when what is here of this writer, and not ordered yet, comes behind all that is in the order, and nobody else
    /// may write but `local`: ordering it now is not undone by what follows. It may be false of some that would not be
    /// undone either.
    #[must_use]
    pub fn is_continued_by(&self, writer: &CoreKey, local: &CoreKey) -> bool {
        let mut records = self.order.state().system.records();
        let is_other = |key: &CoreKey| key != writer && key != local;
        let writes =
            |record: &crate::wire::WriterRecord| !(record.is_removed || record.is_anchor || record.is_guest);
        if records.any(|(key, record)| is_other(key) && writes(record)) {
            return false;
        }
        let Some(reader) = self.readers.get(writer) else {
            return true;
        };
        let Some(links) = reader.next_links() else {
            return true;
        };
        let covers = |link: &Link, head: &Link| link.key == head.key && link.length >= head.length;
        let mut heads = self.order.state().system.heads().iter();
        heads.all(|head| head.key == *writer || links.iter().any(|link| covers(link, &head)))
    }

    /// Orders and applies what can be, with at most `applies_max` calls of apply.
    ///
    /// # Errors
    ///
    /// When apply stopped this peer, now or before.
    pub fn drain(&mut self, now: Timestamp, applies_max: usize) -> Result<Drained, Stop> {
        if let Some(reason) = &self.stopped {
            return Err(Stop {
                reason: reason.clone(),
            });
        }
        self.begin_round();
        self.feed_own();
        let wake_at = self.collect(now);
        let mut run = ApplyRun {
            apply: &self.apply,
            name: &self.name,
            rules: self.rules,
            keys: self.keys.as_ref(),
            readers: &self.readers,
            recorded: &self.recorded,
            local: self.attestations.local(),
            refused: Vec::new(),
            budget: applies_max,
            steps_max: STEPS_MIN.max((applies_max as u64).saturating_mul(STEPS_OF_A_CALL)),
            pause: None,
            planted: self.planted,
        };
        let redated = self.order.redated();
        let updated = self.order.update(&self.dag, &mut run);
        let ApplyRun { pause, refused, .. } = run;
        self.note_refused(refused);
        self.sights
            .note_if(Point::DateRaised, self.order.redated() > redated);
        match (updated, pause) {
            (Ok(update), _) => {
                // Whatever comes next is not what was there before.
                self.recorded.clear();
                self.listen(update.shared);
                self.note_claim(update.shared);
                self.note_outcomes(update.shared);
                self.sights.note_if(Point::OrderUndone, update.undone > 0);
                self.sights.note_if(Point::ReorderDeep, update.undone > 20);
                let has_many_heads = self.system().heads().iter().nth(28).is_some();
                self.sights.note_if(Point::ManyHeads, has_many_heads);
                self.round_over = true;
                let wanted = self.try_strangers();
                self.note_needs();
                self.forget();
                Ok(Drained {
                    more: self.is_searching(),
                    wake_at,
                    wanted,
                    undone: update.undone,
                    ..Drained::default()
                })
            }
            (Err(_), _) if self.order.is_behind() => Ok(Drained {
                wake_at,
                is_behind: true,
                ..Drained::default()
            }),
            (Err(_), Some(Pause::Stopped(reason))) => {
                self.stopped = Some(reason.clone());
                Err(Stop { reason })
            }
            (Err(_), pause) => {
                let missing = match pause {
                    Some(Pause::Missing(block)) => Some(block),
                    _ => None,
                };
                Ok(Drained {
                    more: missing.is_none(),
                    wake_at,
                    missing,
                    ..Drained::default()
                })
            }
        }
    }

    /// The points that it passed since the last call; see [`Sights`].
    pub fn take_sights(&mut self) -> Sights {
        let mut sights = self.sights.take();
        sights.add(self.past.take_sights());
        sights
    }

    /// Notes what the order from this position on says about the local writer, and what that owes to others.
    fn listen(&mut self, shared: usize) {
        // What is forgotten was listened to before.
        let shared = shared.max(self.forgotten());
        let (dag, order) = (&self.dag, &self.order);
        let entries = order.entries_since(shared).map(|(entry, state)| {
            let batch = dag.batch(entry.batch);
            let spoken = EntryEffects {
                batch: Link {
                    key: batch.writer,
                    length: batch.last,
                },
                said: state.said.as_deref(),
            };
            (entry.batch, spoken)
        });
        let entries: Vec<_> = entries.collect();
        let from = (order.len() - entries.len()) as u64;
        // An earlier engine wrote it.
        let own = entries
            .iter()
            .rfind(|(_, spoken)| self.attestations.is_unknown_stamp(spoken));
        if let Some((own, _)) = own {
            let behind = order
                .has_forgotten_in_past(*own)
                .then(|| order.state_at(order.forgotten()).system.clone());
            self.attestations.restore_past(dag.past_of(*own), behind);
        }
        let entries = entries.into_iter().map(|(_, spoken)| spoken);
        self.attestations.follow(from, entries, self.planted);
    }

    /// Hands complete batches over to the set. Returns when the next one that waits for the clock may go.
    fn collect(&mut self, now: Timestamp) -> Option<Timestamp> {
        let mut wake_at = None;
        for (key, reader) in &mut self.readers {
            while let Some(mut batch) = reader.next(now) {
                if self.planted.has(Slip::ClockClamps) {
                    batch.timestamp = batch.timestamp.min(now);
                }
                if self.planted.has(Slip::DroppedRemoved)
                    && let Some(record) = self.order.state().system.record(&batch.writer)
                    && record.is_removed
                {
                    continue;
                }
                // A reader gives batches without gaps, and ids run out after 4 billion batches.
                if self.dag.insert(batch).is_err() {
                    break;
                }
            }
            let due = wake_at.into_iter().chain(reader.due());
            wake_at = match self.planted.has(Slip::LastAlarm) {
                true => due.max(),
                false => due.min(),
            };
            self.stamped.look(key, reader, self.planted);
        }
        self.add_anchors();
        wake_at.into_iter().chain(self.find_anchors(now)).min()
    }

    /// Tells the set which links are to anchors: those that an entry which is here could have made. Their keys are
    /// computed only while something waits for a first block, because that costs four hashes an entry.
    fn add_anchors(&mut self) {
        if !self.dag.missing().any(|link| link.length == Length(1)) {
            return;
        }
        self.sights.note(Point::AnchorAwaited);
        for writer in self.readers.keys() {
            let record = self.order.state().system.member(writer);
            let is_stranger = record.is_none() && *writer != self.rules.bootstrap;
            let known = self.dag.known_length(writer);
            let done = self.anchored.entry(*writer).or_default();
            for length in done.0 + 1..=known.0 {
                if let Ok(anchor) = Anchor::new(self.keys.as_ref(), *writer, Length(length)) {
                    let key = anchor.link().key;
                    if is_stranger {
                        let length = Length(length);
                        let of = Link { key: *writer, length };
                        self.anchor_of.insert(key, of);
                    }
                    self.dag.add_anchor(key);
                }
            }
            *done = known;
        }
    }
}

impl<V> std::fmt::Debug for Engine<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("key", &self.rules.bootstrap)
            .field("batches", &self.order.len())
            .finish_non_exhaustive()
    }
}
