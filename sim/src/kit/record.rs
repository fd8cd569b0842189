//! What the replicas of one run did: which batch became what, where, when; and the first thing that is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autobee::apply::Entry;
use autobee::crypto::{CoreKey, hash_128};
use autobee::db::View;
use autobee::wire::Length;
use bytes::Bytes;

use super::attempt::{AttemptEnd, AttemptResult, HostCall, ValueChange};
use super::words::{bytes_text, ms, shorten};
use super::{Always, Property};
use crate::executor::lock;

/// Lines that tell how two instances differ; the last says why.
const INSTANCES_LINES: usize = 5;

/// A batch that a replica tries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TriedBatch {
    pub(super) replica: usize,
    pub(super) at: Duration,
    pub(super) entries: Vec<(CoreKey, Length)>,
}

/// What was seen when a batch was tried again, by fresh instances and by the one in use, in turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Fresh instances agree each time, and the one in use never with them.
    InUseDiffers,
    /// Fresh instances do not agree.
    FreshDiffer,
    /// The one in use agrees with fresh ones at times, which agree each time.
    InUseAgrees,
}

/// The first thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CheckFailure {
    pub(super) property: Property,
    /// Since the history began.
    pub(super) at: Duration,
    /// What is wrong, line by line.
    pub(super) lines: Vec<String>,
    /// It is two replicas that differ, and not only two instances of the apply function of one of them.
    pub(super) replicas_differ: bool,
}

/// How often what happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Entries that some replica applied.
    pub(super) entries: u64,
    /// Those of them that apply refused, at some place of the order.
    pub(super) refused: u64,
    /// Batches that apply was handed.
    pub(super) batches: u64,
    /// Batches that two replicas were handed in the same state.
    pub(super) compared: u64,
    /// Versions of views that were looked at.
    pub(super) views: u64,
    /// Operations without a byte, which databases hand to no apply function.
    pub(super) empty: u64,
}

/// See the module.
pub(super) struct Recorder {
    always: Vec<Arc<dyn Always>>,
    /// What the values of entries are called, the kit's wrapping taken off.
    shown: Mutex<BTreeMap<Bytes, String>>,
    state: Mutex<RecordState>,
}

#[derive(Default)]
struct RecordState {
    began: Duration,
    /// Whose log is whose.
    logs: BTreeMap<CoreKey, usize>,
    /// What the first replica made of an input.
    known: BTreeMap<[u8; 16], (TriedBatch, Arc<AttemptResult>)>,
    /// The last batch that each replica applied.
    last: BTreeMap<usize, (Vec<String>, Arc<AttemptResult>)>,
    steps: Vec<String>,
    seen: BTreeSet<(CoreKey, Length)>,
    refused: BTreeSet<(CoreKey, Length)>,
    counts: Counts,
    failure: Option<CheckFailure>,
}

impl Recorder {
    pub(super) fn new(always: Vec<Arc<dyn Always>>, shown: BTreeMap<Bytes, String>) -> Self {
        Self {
            always,
            shown: Mutex::new(shown),
            state: Mutex::default(),
        }
    }

    // What the run tells.

    pub(super) fn begins(&self, at: Duration) {
        lock(&self.state).began = at;
    }

    pub(super) fn opened(&self, replica: usize, log: CoreKey) {
        lock(&self.state).logs.insert(log, replica);
    }

    /// Values that the run makes itself have names, too.
    pub(super) fn name_value(&self, value: Bytes, shown: String) {
        lock(&self.shown).insert(value, shown);
    }

    // What was found.

    /// True when the run may end: when instances differ, what replicas make of it is waited for.
    pub(super) fn has_failed(&self) -> bool {
        let state = lock(&self.state);
        let is_over =
            |failure: &CheckFailure| failure.property != Property::Function || failure.replicas_differ;
        state.failure.as_ref().is_some_and(is_over)
    }

    pub(super) fn failure(&self) -> Option<CheckFailure> {
        lock(&self.state).failure.clone()
    }

    pub(super) fn counts(&self) -> Counts {
        let state = lock(&self.state);
        Counts {
            entries: state.seen.len() as u64,
            refused: state.refused.len() as u64,
            ..state.counts
        }
    }

    /// Every batch that was applied, in words that another process gives for the same run.
    pub(super) fn steps(&self) -> Vec<String> {
        lock(&self.state).steps.clone()
    }

    /// The last batch that a replica applied, and what became of it, in words.
    pub(super) fn last(&self, replica: usize) -> Option<(String, String)> {
        let state = lock(&self.state);
        let (names, outcome) = state.last.get(&replica)?;
        Some((names.join(" and "), summary(outcome)))
    }

    /// Takes note of something that is wrong; the first one counts.
    pub(super) fn fail(&self, property: Property, at: Duration, lines: Vec<String>) {
        let mut state = lock(&self.state);
        let at = at.saturating_sub(state.began);
        state.failure.get_or_insert(CheckFailure {
            property,
            at,
            lines,
            replicas_differ: false,
        });
    }

    /// Two replicas differ. When two instances of one did before, that says why.
    fn replicas_differ(&self, at: Duration, mut lines: Vec<String>) {
        let mut state = lock(&self.state);
        let at = at.saturating_sub(state.began);
        match &state.failure {
            Some(failure) if failure.property == Property::Function && !failure.replicas_differ => {
                lines.extend(failure.lines.iter().skip(INSTANCES_LINES - 1).cloned());
            }
            Some(_) => return,
            None => lines.push(
                "  Two instances at one replica agree: it reads what differs between replicas, or changes with time.".into(),
            ),
        }
        state.failure = Some(CheckFailure {
            property: Property::Function,
            at,
            lines,
            replicas_differ: true,
        });
    }

    /// A batch became something. Gives what counts, and compares it with what another replica made of the same.
    pub(super) fn applied(
        &self,
        batch: TriedBatch,
        entries: &[Entry],
        input: [u8; 16],
        outcome: AttemptResult,
    ) -> Arc<AttemptResult> {
        let outcome = Arc::new(outcome);
        let names = self.names(entries);
        self.ended(&batch, &names, &outcome);
        let mut state = lock(&self.state);
        state.counts.batches += 1;
        state.seen.extend(&batch.entries);
        if let AttemptEnd::Refused(_) = outcome.end {
            state.refused.extend(&batch.entries);
        }
        let step = format!(
            "{} ms r{} applies {}\t{}\t{}",
            ms(batch.at),
            batch.replica,
            names.join(" and "),
            digest(&outcome),
            summary(&outcome)
        );
        state.steps.push(step);
        // What is kept until the end is without long values.
        let brief = Arc::new(outcome.brief());
        state
            .last
            .insert(batch.replica, (names.clone(), Arc::clone(&brief)));
        match state.known.get(&input) {
            Some((_, known)) if known.agrees(&brief) => state.counts.compared += 1,
            Some((first, known)) => {
                let (first, known) = (first.clone(), Arc::clone(known));
                let began = state.began;
                drop(state);
                let mut lines = vec![
                    format!(
                        "r{} applied what r{} had applied at {}, on an equal view, and they differ:",
                        batch.replica,
                        first.replica,
                        seconds(first.at.saturating_sub(began)),
                    ),
                    format!("  the entry: {}", names.join(" and ")),
                ];
                let sides = [format!("r{}", first.replica), format!("r{}", batch.replica)];
                lines.extend(difference(&known, &brief, &sides));
                self.replicas_differ(batch.at, lines);
            }
            None => {
                state.known.insert(input, (batch, brief));
            }
        }
        outcome
    }

    /// Two instances made different things of one batch.
    pub(super) fn instances_differ(
        &self,
        batch: &TriedBatch,
        entries: &[Entry],
        own: &AttemptResult,
        fresh: &AttemptResult,
        again: Again,
    ) {
        let names = self.names(entries);
        let mut lines = vec![
            format!(
                "r{} applied it twice on one view, by two instances, and they differ:",
                batch.replica
            ),
            format!("  the entry: {}", names.join(" and ")),
        ];
        let sides = [
            format!("r{}'s own instance", batch.replica),
            "a fresh instance, as another replica has".to_owned(),
        ];
        lines.extend(difference(own, fresh, &sides));
        lines.push(
            match again {
                Again::InUseDiffers => {
                    "  Fresh instances agree, the one in use does not, each time: it remembers something (a counter, a cache, a first value seen)."
                }
                Again::FreshDiffer => {
                    "  Two fresh instances differ on one view: apply reads the order of a hash map, a clock, randomness, or a global."
                }
                Again::InUseAgrees => {
                    "  Tried again, the one in use and fresh ones agree: a clock or randomness decides, another thread, or a count of calls."
                }
            }
            .to_owned(),
        );
        self.fail(Property::Function, batch.at, lines);
    }

    /// Looks whether a batch ended as batches may.
    fn ended(&self, batch: &TriedBatch, names: &[String], outcome: &AttemptResult) {
        let (property, what) = match &outcome.end {
            AttemptEnd::Accepted | AttemptEnd::Refused(_) => return,
            AttemptEnd::Panicked(text) => (Property::NoPanic, format!("it panicked: {text}")),
            AttemptEnd::Fatal(why) => (Property::GoesOn, format!("it gave up: {why}")),
            AttemptEnd::Interrupted(why) => (Property::GoesOn, format!("it interrupted: {why}")),
            AttemptEnd::Waits => (
                Property::GoesOn,
                "it waits for something that is not its view".into(),
            ),
        };
        let lines = vec![
            format!("r{} applied an entry, and {what}", batch.replica),
            format!("  the entry: {}", names.join(" and ")),
        ];
        self.fail(property, batch.at, lines);
    }

    /// A replica shows a new version of its view.
    pub(super) fn shown(&self, replica: usize, at: Duration, view: &View) {
        if self.failure().is_some() {
            return;
        }
        lock(&self.state).counts.views += 1;
        for always in &self.always {
            let Err(what) = always.check(view) else { continue };
            let mut lines = vec![format!("on r{replica}: {what}")];
            if let Some((names, outcome)) = lock(&self.state).last.get(&replica) {
                lines.push(format!("  after it applied {}", names.join(" and ")));
                lines.push(format!("  which {}", summary(outcome)));
            }
            lines.push("  No two replicas differ: all make the same of the same entries.".into());
            self.fail(Property::Always(always.name().to_owned()), at, lines);
        }
    }

    /// Each entry of a batch: whose it is, and what it says.
    fn names(&self, entries: &[Entry]) -> Vec<String> {
        let (state, shown) = (lock(&self.state), lock(&self.shown));
        let name = |entry: &Entry| {
            let writer = state.logs.get(&entry.key).map_or_else(
                || entry.key.to_hex()[..8].to_owned(),
                |replica| format!("r{replica}"),
            );
            let op = shown
                .get(&entry.value)
                .cloned()
                .unwrap_or_else(|| bytes_text(&entry.value));
            format!("{writer}:{} {}", entry.length, shorten(&op))
        };
        entries.iter().map(name).collect()
    }
}

pub(super) fn seconds(at: Duration) -> String {
    format!("{:.3} s", at.as_secs_f64())
}

/// Where two outcomes begin to differ, with both sides.
fn difference(left: &AttemptResult, right: &AttemptResult, sides: &[String; 2]) -> Vec<String> {
    let width = sides.iter().map(String::len).max().unwrap_or(0);
    let both = |left: String, right: String| {
        let line = |(side, what): (&String, String)| format!("  {side:<width$}  {what}");
        sides.iter().zip([left, right]).map(line).collect()
    };
    if std::mem::discriminant(&left.end) != std::mem::discriminant(&right.end) {
        return both(summary(left), summary(right));
    }
    let keys = left
        .changes
        .iter()
        .chain(&right.changes)
        .map(|change| &change.key);
    let of = |outcome: &AttemptResult, key: &Bytes| {
        let mut changes = outcome.changes.iter();
        changes.find(|change| change.key == *key).cloned()
    };
    let mut keys: Vec<&Bytes> = keys.filter(|key| of(left, key) != of(right, key)).collect();
    keys.sort_unstable();
    if let Some(key) = keys.first() {
        let shown = |outcome: &AttemptResult| {
            of(outcome, key).map_or_else(
                || format!("left {} as it was", bytes_text(key)),
                |change| changed(&change),
            )
        };
        return both(shown(left), shown(right));
    }
    let asked = |calls: &[HostCall]| match calls {
        [] => "asked its host for nothing".to_owned(),
        calls => format!("asked its host for {}", shorten(&format!("{calls:?}"))),
    };
    both(asked(&left.calls), asked(&right.calls))
}

fn ended(end: &AttemptEnd) -> String {
    match end {
        // Whoever asks says what it wrote.
        AttemptEnd::Accepted => String::new(),
        AttemptEnd::Refused(why) => format!("refused it: {}", shorten(why)),
        AttemptEnd::Fatal(why) => format!("gave up: {}", shorten(why)),
        AttemptEnd::Interrupted(why) => format!("interrupted: {}", shorten(why)),
        AttemptEnd::Waits => "waits for something that is not its view".into(),
        AttemptEnd::Panicked(text) => format!("panicked: {}", shorten(text)),
    }
}

fn changed(change: &ValueChange) -> String {
    match &change.new {
        Some(value) => format!("wrote {} = {}", bytes_text(&change.key), bytes_text(value)),
        None => format!("removed {}", bytes_text(&change.key)),
    }
}

/// What a batch did, in one line.
fn summary(outcome: &AttemptResult) -> String {
    let mut text = match &outcome.end {
        AttemptEnd::Accepted if outcome.changes.is_empty() => "wrote nothing".to_owned(),
        AttemptEnd::Accepted => String::new(),
        end => return ended(end),
    };
    for (number, change) in outcome.changes.iter().enumerate() {
        let separator = if number > 0 { ", " } else { "" };
        if number == 3 {
            let more = outcome.changes.len() - number;
            // Writing to a text cannot fail.
            let _ = write!(text, " and {more} more");
            break;
        }
        text.push_str(separator);
        text.push_str(&changed(change));
    }
    text
}

/// A hash over what a batch did.
fn digest(outcome: &AttemptResult) -> String {
    let end: &[u8] = match &outcome.end {
        AttemptEnd::Accepted => b"accepted",
        // Why is for people.
        AttemptEnd::Refused(_) => b"refused",
        AttemptEnd::Fatal(_) => b"fatal",
        AttemptEnd::Interrupted(_) => b"interrupted",
        AttemptEnd::Waits => b"waits",
        AttemptEnd::Panicked(_) => b"panicked",
    };
    let calls = format!("{:?}", outcome.calls);
    let mut hashes = vec![hash_128(&[end]), hash_128(&[calls.as_bytes()])];
    for change in &outcome.changes {
        hashes.push(hash_128(&[&change.key]));
        for value in [&change.old, &change.new] {
            hashes.push(value.as_ref().map_or([0; 16], |value| hash_128(&[value])));
        }
    }
    let hash = hash_128(&[hashes.as_flattened()]);
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
