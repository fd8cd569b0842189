//! One machine with what it reads and writes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use autobee::apply::ApplyFn;
use autobee::bee::{MemoryBlocks, Range};
use autobee::crypto::{CoreKey, KeyPair, hash};
use autobee::db::{Event, OrderedEntry};
use autobee::engine::{EngineOptions, GAP_ENTRIES, Trees, WINDOW_BATCHES};
use autobee::env::{Mono, Planted};
use autobee::sim_hooks::machine::{
    Effect, Input, Logs, Machine, MachineParts, Now, TreeCommit, TreeLengths, go_on,
};
use autobee::store::{Seq, StoreError};
use autobee::wire::{Length, Link, Rules, Timestamp};
use autobee::{Error, Settings};
use bytes::Bytes;

use super::{HeldLog, HistoryBlock, keys};
use crate::crypto::SimCrypto;
use crate::model::{ModelState, Play};
use crate::workload::JsonApply;

/// The time of day at the start, in milliseconds.
const START: u64 = 1_700_000_000_000;

/// Looks at the clock that may follow from one another while no time goes by.
const LOOKS_MAX: usize = 64;

/// How a peer takes what it is handed. None of it changes what comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Calls of apply in one portion of a drain.
    pub applies_max: usize,
    /// Batches that are held to be ordered anew.
    pub window_batches: usize,
    /// Whether blocks wait for others that are on their way.
    pub gathers: bool,
    /// Slips that are to be made; these do change it.
    pub planted: Planted,
}

impl Reading {
    /// All at once, with the usual window.
    #[must_use]
    pub const fn usual() -> Self {
        Self {
            applies_max: usize::MAX,
            window_batches: WINDOW_BATCHES,
            gathers: false,
            planted: Planted::none(),
        }
    }
}

impl Default for Reading {
    fn default() -> Self {
        Self::usual()
    }
}

/// A machine, what it has stored, and what it asked for.
pub struct Peer {
    machine: Machine<SimCrypto, HeldLog>,
    stored: PeerStore,
    /// Milliseconds since the start.
    now: u64,
    /// By how much the clock is ahead, in milliseconds.
    skew: i64,
    wake: Option<Mono>,
    commits: u64,
    events: Vec<Event>,
    stopped: Option<String>,
    /// How the store answers the next commit.
    answer: CommitAnswer,
}

/// How the store answers a commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum CommitAnswer {
    #[default]
    Made,
    /// The store fails.
    Fails,
    /// The own log is found contradicted just before.
    Contradicted,
    /// The own log does not take the blocks, and is as it was.
    Refused,
}

/// What outlives a machine.
struct PeerStore {
    database: CoreKey,
    rules: Rules,
    local: CoreKey,
    signatures: SimCrypto,
    reading: Reading,
    logs: BTreeMap<CoreKey, Arc<HeldLog>>,
    /// Logs that the machine took in.
    open: BTreeSet<CoreKey>,
    trees: Trees,
    blocks: Arc<MemoryBlocks>,
    /// Values that are kept with the own log.
    values: BTreeMap<&'static str, Bytes>,
}

impl PeerStore {
    /// A machine that goes on from here.
    fn machine(&self) -> Result<Machine<SimCrypto, HeldLog>, String> {
        let planted = self.reading.planted;
        for tree in [&self.trees.system, &self.trees.view] {
            tree.plant(planted);
        }
        let options = EngineOptions {
            key: self.database,
            name: String::new(),
            apply: ApplyFn::new(JsonApply),
            optimistic: true,
            rules: Some(self.rules),
            verify: self.signatures.clone(),
            trees: self.trees.clone(),
            window_batches: self.reading.window_batches,
        };
        let (engine, record) = go_on(options, self.trees.clone(), &self.values, self.local, planted)?;
        let mut logs = Logs::new(self.local);
        for core in &self.open {
            let log = self.logs.get(core).ok_or("a log that is open is held")?;
            logs.add(Arc::clone(log)).map_err(|error| error.to_string())?;
        }
        logs.begin_at(|core| engine.fed_from(core));
        let parts = MachineParts {
            engine,
            crypto: self.signatures.clone(),
            logs,
            record,
            strangers_waiting_max: None,
            looks_ahead: false,
            forward_gap: GAP_ENTRIES,
            boots_until: None,
            is_unconfirmed: false,
            planted,
            is_traced: false,
        };
        Ok(Machine::new(parts, &Settings::default()))
    }
}

impl Peer {
    /// A peer of a database, with a log of its own that is empty.
    ///
    /// # Panics
    ///
    /// When trees cannot be made, which does not happen.
    #[must_use]
    pub fn writer(database: CoreKey, pair: KeyPair, rules: Rules, reading: &Reading) -> Self {
        let own = Arc::new(HeldLog::own(pair));
        let local = autobee::sim_hooks::machine::StoredLog::key(&*own);
        let mut held = BTreeMap::from([(local, own)]);
        held.entry(database)
            .or_insert_with(|| Arc::new(HeldLog::of(database, manifest(&database))));
        let blocks = Arc::new(MemoryBlocks::new());
        let stored = PeerStore {
            database,
            rules,
            local,
            signatures: keys::signatures(),
            reading: *reading,
            open: held.keys().copied().collect(),
            logs: held,
            trees: trees(&local, &blocks),
            blocks,
            values: BTreeMap::new(),
        };
        let Ok(machine) = stored.machine() else {
            unreachable!("there is nothing to go on from");
        };
        let mut peer = Self {
            machine,
            stored,
            now: 0,
            skew: 0,
            wake: None,
            commits: 0,
            events: Vec::new(),
            stopped: None,
            answer: CommitAnswer::Made,
        };
        peer.begin();
        peer
    }

    /// The peer is closed, and opened again with what it has stored.
    ///
    /// # Errors
    ///
    /// With what it cannot go on from.
    pub fn reopen(&mut self) -> Result<(), String> {
        self.stored.trees = trees(&self.stored.local, &self.stored.blocks);
        self.machine = self.stored.machine()?;
        self.wake = None;
        self.begin();
        Ok(())
    }

    fn begin(&mut self) {
        let open: Vec<CoreKey> = self.stored.open.iter().copied().collect();
        for core in &open {
            self.step(Input::Loaded(*core));
        }
        self.step(Input::Started);
        self.drain();
        self.step(Input::Begun(open));
    }

    // What happens.

    /// Milliseconds since the start.
    pub fn set_time(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    /// From now on the clock is ahead by so many milliseconds.
    pub const fn set_skew(&mut self, skew: i64) {
        self.skew = skew;
    }

    /// What waits for a time that has come goes on.
    pub fn look_at_clock(&mut self) {
        for _ in 0..LOOKS_MAX {
            if self.wake.is_none_or(|at| at > self.now().mono) {
                return;
            }
            self.wake = None;
            self.step(Input::Wake { is_early: false });
        }
    }

    /// A block of a log comes, whatever else of that log is here.
    pub fn hand_over(&mut self, block: &HistoryBlock) {
        let log = self.stored(block.core);
        log.put(block.index, block.bytes.clone());
        let core = block.core;
        if self.stored.open.contains(&core) {
            let gathers = self.stored.reading.gathers;
            self.step(Input::Changed { core, gathers });
        } else {
            // Somebody tells it of the log, and it asks for that.
            self.step(Input::Announced(vec![(None, core)]));
        }
    }

    /// Somebody tells it of a log that it knows and has not open.
    pub fn announce(&mut self, core: &CoreKey) {
        if !self.stored.open.contains(core) && self.stored.logs.contains_key(core) {
            self.step(Input::Announced(vec![(None, *core)]));
        }
    }

    /// Time goes on until nothing waits for it any more.
    pub fn wait(&mut self) {
        while let Some(at) = self.wake.take() {
            self.now = self.now.max(at.0.div_ceil(1_000_000));
            self.step(Input::Wake { is_early: false });
        }
    }

    /// The peer appends a batch.
    ///
    /// # Panics
    ///
    /// When it may not.
    pub fn append(&mut self, values: Vec<Bytes>, optimistic: bool) {
        let outcome = self.try_append(values, optimistic);
        assert!(outcome.is_ok(), "{outcome:?}");
    }

    /// The same. Gives the length of its log.
    ///
    /// # Errors
    ///
    /// When it may not, or the log cannot be written.
    pub fn try_append(&mut self, values: Vec<Bytes>, optimistic: bool) -> Result<Length, Error> {
        self.append_while(values, optimistic, |_| {})
    }

    /// The next commit fails.
    pub const fn fail_commit(&mut self) {
        self.answer = CommitAnswer::Fails;
    }

    /// The next commit of own blocks is refused, as it is found meanwhile that the own log has two continuations.
    pub const fn contradict_commit(&mut self) {
        self.answer = CommitAnswer::Contradicted;
    }

    /// The next commit of own blocks is refused, and leaves the own log as it was.
    pub const fn refuse_commit(&mut self) {
        self.answer = CommitAnswer::Refused;
    }

    /// Commits are made again.
    pub const fn allow_commits(&mut self) {
        self.answer = CommitAnswer::Made;
    }

    /// The own log is known to have two continuations from now on.
    pub fn contradict(&mut self) {
        let local = self.stored.local;
        self.stored(local).contradict();
    }

    /// The peer appends a batch, and `meanwhile` happens between that and the drain that writes it.
    ///
    /// # Errors
    ///
    /// As [`Peer::try_append`].
    pub fn append_while(
        &mut self,
        values: Vec<Bytes>,
        optimistic: bool,
        meanwhile: impl FnOnce(&mut Self),
    ) -> Result<Length, Error> {
        self.drain();
        self.step(Input::Append {
            values,
            optimistic,
            named: None,
        });
        if let Some(refused) = self.machine.take_outcome() {
            return Ok(refused?.0);
        }
        meanwhile(self);
        self.drain();
        self.machine
            .take_outcome()
            .map_or(Err(Error::Closed), |outcome| Ok(outcome?.0))
    }

    /// From now on a log cannot be read.
    pub fn fail_log(&mut self, core: &CoreKey) {
        if let Some(log) = self.stored.logs.get(core) {
            log.fail();
        }
    }

    /// Orders and applies everything that is here.
    pub fn drain(&mut self) {
        loop {
            let drained = self.step(Input::Drain {
                applies_max: self.stored.reading.applies_max,
            });
            self.step(Input::ChooseLogs {
                gone: BTreeSet::new(),
            });
            if !drained {
                return;
            }
        }
    }

    // What came out.

    /// The order that the machine has in memory, with what it forgot.
    ///
    /// # Panics
    ///
    /// When it cannot be read.
    #[must_use]
    pub fn order(&self) -> Vec<OrderedEntry> {
        self.machine.order().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same, as readers see it: from the system tree alone.
    ///
    /// # Panics
    ///
    /// When it cannot be read.
    #[must_use]
    pub fn published_order(&mut self) -> Vec<OrderedEntry> {
        let published = self.machine.publish();
        published.order().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Records and view.
    ///
    /// # Panics
    ///
    /// When the view cannot be read.
    #[must_use]
    pub fn state(&self) -> ModelState {
        let engine = self.machine.engine();
        let view = engine.view().range(Range::all());
        let view = view.unwrap_or_else(|error| panic!("{error}"));
        let play = Play {
            system: engine.system().clone(),
            view: view
                .into_iter()
                .map(|(key, value)| (key.to_vec(), value.to_vec()))
                .collect(),
        };
        play.to_model()
    }

    /// The machine.
    #[must_use]
    pub const fn machine(&self) -> &Machine<SimCrypto, HeldLog> {
        &self.machine
    }

    /// All leading blocks of a log.
    #[must_use]
    pub fn log(&self, core: &CoreKey) -> Vec<Bytes> {
        self.stored
            .logs
            .get(core)
            .map_or_else(Vec::new, |log| log.leading())
    }

    /// How many leading blocks of a log are here.
    #[must_use]
    pub fn log_length(&self, core: &CoreKey) -> u64 {
        self.stored.logs.get(core).map_or(0, |log| log.leading_length())
    }

    /// Why nothing is applied any more.
    #[must_use]
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// What listeners were told.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    // The machine.

    const fn now(&self) -> Now {
        Now {
            mono: Mono(self.now * 1_000_000),
            wall: Timestamp((START + self.now).saturating_add_signed(self.skew)),
        }
    }

    /// Tells the machine what happened, and carries out what follows. True when a portion of a drain left more to do.
    fn step(&mut self, input: Input<HeldLog>) -> bool {
        let (mut has_more, mut drains) = (false, false);
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for effect in self.machine.step(self.now(), input) {
                match effect {
                    Effect::Fetch(core) => inputs.push_back(Input::Opened(self.stored(core))),
                    Effect::Follow(core) => {
                        self.stored.open.insert(core);
                        let gathers = self.stored.reading.gathers;
                        inputs.push_back(Input::Changed { core, gathers });
                    }
                    Effect::Release(log) => {
                        let core = autobee::sim_hooks::machine::StoredLog::key(&*log);
                        self.stored.open.remove(&core);
                    }
                    Effect::Write(write) => {
                        let written = self.commit_or_fail(write);
                        inputs.push_back(Input::Written(written));
                    }
                    Effect::Drain => drains = true,
                    Effect::Drained(Ok(more)) => has_more = more,
                    Effect::Drained(Err(error)) => self.stopped = Some(error.to_string()),
                    Effect::ChooseLogs => inputs.push_back(Input::ChooseLogs {
                        gone: BTreeSet::new(),
                    }),
                    Effect::Wake(at) => self.wake = Some(at),
                    Effect::Tell(event) => self.events.push(event),
                    // Everything is durable, and nobody listens; what became of a log is asked for.
                    Effect::Unreadable { .. }
                    | Effect::Sync(_)
                    | Effect::Announce(_)
                    | Effect::Download { .. }
                    | Effect::Notify
                    | Effect::Trace(_)
                    | Effect::Ask(_)
                    | Effect::Compare(_)
                    | Effect::Reopen(_)
                    | Effect::LookAhead(_) => {}
                }
            }
        }
        if drains {
            self.drain();
        }
        has_more
    }

    fn commit_or_fail(&mut self, write: TreeCommit) -> Result<TreeLengths, Error> {
        match self.answer {
            CommitAnswer::Contradicted if !write.own.is_empty() => {
                self.contradict();
                let local = self.stored.local;
                let length = Length(self.log_length(&local));
                self.answer = CommitAnswer::Made;
                Err(Error::Contradicted { local, length })
            }
            CommitAnswer::Refused if !write.own.is_empty() => {
                let local = self.stored.local;
                self.answer = CommitAnswer::Made;
                Err(Error::Unconfirmed { local })
            }
            CommitAnswer::Fails => {
                self.answer = CommitAnswer::Made;
                Err(StoreError::Fenced.into())
            }
            CommitAnswer::Made | CommitAnswer::Contradicted | CommitAnswer::Refused => Ok(self.commit(write)),
        }
    }

    fn commit(&mut self, write: TreeCommit) -> TreeLengths {
        let TreeCommit {
            system,
            view,
            own,
            values,
        } = write;
        for (name, value) in values {
            match value {
                Some(value) => self.stored.values.insert(name, value),
                None => self.stored.values.remove(name),
            };
        }
        self.stored.blocks.append(self.stored.trees.system.core(), system);
        self.stored.blocks.append(self.stored.trees.view.core(), view);
        self.commits += 1;
        let has_own = !own.is_empty();
        TreeLengths {
            system: self.stored.blocks.length(&self.stored.trees.system.core()),
            view: self.stored.blocks.length(&self.stored.trees.view.core()),
            own: has_own.then(|| Length(self.stored(self.stored.local).append(own))),
            seq: Seq(self.commits),
        }
    }

    fn stored(&mut self, core: CoreKey) -> Arc<HeldLog> {
        let log = self.stored.logs.entry(core);
        Arc::clone(log.or_insert_with(|| Arc::new(HeldLog::of(core, manifest(&core)))))
    }
}

fn manifest(core: &CoreKey) -> Option<Bytes> {
    keys::manifest(core).map(|manifest| Bytes::copy_from_slice(manifest.as_bytes()))
}

/// Trees that are written to blocks in memory, as a store keeps them.
fn trees(local: &CoreKey, blocks: &Arc<MemoryBlocks>) -> Trees {
    let end = |name: &[u8]| {
        let key = CoreKey::new(*hash(&[name, local.as_bytes()]).as_bytes());
        let length = blocks.length(&key);
        Link { key, length }
    };
    let stored = Trees::stored(
        (end(b"view"), Arc::clone(blocks)),
        (end(b"system"), Arc::clone(blocks)),
        1 << 20,
    );
    match stored {
        Ok(trees) => trees,
        Err(error) => unreachable!("the usual settings are in order: {error}"),
    }
}
