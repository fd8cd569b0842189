//! Why a run failed: what differs, between whom, since when, and what happened before.
//!
//! A run is a function of scenario and seed, so nothing of this costs a run that is good: what failed is run once more,
//! and everything that it shows of itself is kept. The reference model ([`crate::model`]) says who is wrong, and which part
//! of the rule puts an entry where it stands; looks from before say since when.

mod case;
mod data;
mod differ;
mod focus;
mod gaps;
mod happened;
mod hint;
mod judge;
mod names;
mod since;
mod text;
mod waits;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

pub use data::{
    EntryShown, Explanation, Fork, Gap, Happening, Lacking, LayerHint, Phases, Place, RecordDifference,
    RuleSaid, Side, Since, Stage, ValueDifference, Verdict,
};

use autobee::crypto::CoreKey;
use autobee::wire::{Length, Link};
use bytes::Bytes;

use crate::events::{self, TraceLine};
use crate::executor::lock;
use crate::kit::{Panicked, quietly};
use crate::run::{Hooks, Recorder, Recording, SimError, Subject, run_hooked, run_subject};
use crate::scenario::Scenario;
use crate::sweep::SeedResult;
use crate::trace::TraceSink;
use crate::workload::Op;
use crate::world::Reseed;
use case::Case;
use names::Names;

pub(crate) use case::Recorded;

/// Runs a scenario with a seed once more, and says why it fails. Of a run that does not fail it says so.
#[must_use]
pub fn explain(scenario: &Scenario, seed: u64) -> Explanation {
    Observed::run(scenario, seed).explanation()
}

/// A run with everything that it showed of itself.
pub struct Observed<'a> {
    scenario: &'a Scenario,
    seed: u64,
    result: SeedResult,
    lines: Vec<TraceLine>,
    recorded: Recorded,
}

impl<'a> Observed<'a> {
    /// Runs a scenario with a seed.
    #[must_use]
    pub fn run(scenario: &'a Scenario, seed: u64) -> Self {
        Self::run_from(scenario, seed, None)
    }

    /// Runs a scenario with a seed, with another future from a moment on.
    #[must_use]
    pub fn run_from(scenario: &'a Scenario, seed: u64, reseed: Option<Reseed>) -> Self {
        let (bytes, recorder) = (SharedBytes::default(), Recorder::default());
        let hooks = Hooks {
            recorder: Some(recorder.clone()),
            reseed,
        };
        let sink = TraceSink::Write(Box::new(bytes.clone()));
        let ran = quietly(|| run_hooked(scenario, seed, sink, hooks));
        let result = ran.unwrap_or_else(|Panicked(why)| {
            Err(SimError::Call {
                what: "panicked".into(),
                why,
            })
        });
        let text = std::mem::take(&mut *lock(&bytes.0));
        // What the run wrote itself can be read back.
        let lines = events::read(&String::from_utf8_lossy(&text)).unwrap_or_default();
        Self {
            scenario,
            seed,
            result,
            lines,
            recorded: Recorded(recorder.take()),
        }
    }

    /// What replicas of an app's own apply function differ in when a run failed. Values have the names of `values`.
    pub(crate) fn states_of_app(
        scenario: &Scenario,
        seed: u64,
        subject: Arc<dyn Subject>,
        values: BTreeMap<Bytes, String>,
    ) -> Explanation {
        let (bytes, recorder) = (SharedBytes::default(), Recorder::default());
        let hooks = Hooks {
            recorder: Some(recorder.clone()),
            reseed: None,
        };
        let sink = TraceSink::Write(Box::new(bytes.clone()));
        // What it comes to is known.
        let _ = quietly(|| run_subject(scenario, seed, sink, subject, hooks));
        let text = std::mem::take(&mut *lock(&bytes.0));
        let lines = events::read(&String::from_utf8_lossy(&text)).unwrap_or_default();
        let recorded = Recorded(recorder.take());
        let case = Case::new(scenario, &recorded, &lines).of_app(values);
        case.explain_states(seed, "convergence")
    }

    /// What it came to.
    pub const fn result(&self) -> &SeedResult {
        &self.result
    }

    /// Its trace.
    #[must_use]
    pub fn lines(&self) -> &[TraceLine] {
        &self.lines
    }

    /// What was recorded of it.
    pub(crate) const fn recorded(&self) -> &Recorded {
        &self.recorded
    }

    /// The scenario.
    pub(crate) const fn scenario(&self) -> &Scenario {
        self.scenario
    }

    /// The number of the line from which it failed: the last that the replica did by which it was seen first. None when it
    /// did not fail.
    #[must_use]
    pub fn violation_line(&self) -> Option<u64> {
        let told = self.explanation();
        told.failure.as_ref()?;
        let (replica, until) = match &told.since {
            Some(since) => (Some(&since.replica), since.bad_ms),
            None => (told.who.first(), told.found_ms),
        };
        let before = || {
            self.lines
                .iter()
                .rev()
                .filter(|line| line.at / 1_000_000 <= until)
        };
        let own =
            before().find(|line| line.deed().is_some() && line.replica() == replica.map(String::as_str));
        own.or_else(|| before().next()).map(|line| line.number)
    }

    /// Why it failed.
    #[must_use]
    pub fn explanation(&self) -> Explanation {
        Case::new(self.scenario, &self.recorded, &self.lines).explain(self.seed, &self.result)
    }
}

/// Where a store differs from the model, if it does; none when it cannot be judged.
pub(crate) fn of_store(
    recording: Recording,
    encryption: Option<[u8; 32]>,
    is_safe: bool,
) -> Option<Explanation> {
    let text = format!("about = \"\"\nreplicas = 1\nsafe = {is_safe}\n");
    let scenario = Scenario::parse("store", &text).ok()?;
    let recorded = Recorded(recording);
    Case::new(&scenario, &recorded, &[])
        .of_store(encryption)
        .explain_store()
}

/// Names of logs and entries of a run, for whoever shows it in another way.
pub(crate) struct EntryNames(Names);

impl EntryNames {
    /// Those of a run.
    pub(crate) fn new(observed: &Observed<'_>) -> Self {
        Self(Names::new(&observed.recorded.0))
    }

    /// The name of whoever writes a log.
    pub(crate) fn writer(&self, key: &CoreKey) -> String {
        self.0.writer(key)
    }

    /// An entry, as `name@length`.
    pub(crate) fn entry(&self, key: &CoreKey, length: Length) -> String {
        self.0.entry(key, length)
    }

    /// What a link names.
    pub(crate) fn link(&self, link: &Link) -> String {
        self.0.link(link)
    }

    /// A text without keys.
    pub(crate) fn clean(&self, text: &str) -> String {
        self.0.clean(text)
    }

    /// What a block says, its timestamp in milliseconds of virtual time, and what it links.
    pub(crate) fn shown(&self, block: &Bytes) -> (String, Option<i64>, Vec<String>) {
        focus::shown(&self.0, block)
    }

    /// An operation in words.
    pub(crate) fn op(&self, op: &Op) -> String {
        focus::op_text(&self.0, op)
    }
}

/// Bytes that outlive the run that writes them.
#[derive(Clone, Default)]
struct SharedBytes(Arc<Mutex<Vec<u8>>>);

impl Write for SharedBytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
