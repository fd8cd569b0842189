//! One run of one plan.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autobee::apply::{Apply, ApplyError, ApplyFn, ApplyView, Entry, Host};
use autobee::crypto::CoreKey;
use bytes::Bytes;

use super::outside::{Panicked, quietly};
use super::record::{CheckFailure, Counts, Recorder};
use super::tested::{APP, Tested, Tries, member_op};
use super::words::shorten;
use super::{Always, CheckParts, Members, Property, tested::Maker};
use crate::explain::Observed;
use crate::run::{ADDING_WRITERS, Hooks, Now, SimError, Started, Subject, Watcher, run_subject};
use crate::scenario::Scenario;
use crate::trace::TraceSink;
use crate::workload::Op;

/// What runs need to know of a check: everything but how operations are drawn.
pub(super) struct Setup {
    make: Maker,
    always: Vec<Arc<dyn Always>>,
    members: Option<Members>,
}

/// What a run came to.
pub(super) struct Ran {
    pub(super) failure: Option<CheckFailure>,
    pub(super) counts: Counts,
    /// Every batch that was applied.
    pub(super) steps: Vec<String>,
}

impl Setup {
    pub(super) fn new(parts: &CheckParts) -> Self {
        Self {
            make: Arc::clone(&parts.make),
            always: parts.always.clone(),
            members: parts.members.clone(),
        }
    }

    /// What replicas hold when a plan failed: a run more, of which everything is kept.
    pub(super) fn explain(&self, scenario: &Scenario, seed: u64, tries: Tries) -> Vec<String> {
        let (_, subject) = self.subject(scenario, tries);
        let values = shown(scenario)
            .into_iter()
            .map(|(value, shown)| match self.members {
                Some(_) => (value, shown),
                None => ([&[APP], &value[..]].concat().into(), shown),
            });
        let values = values.collect();
        Observed::states_of_app(scenario, seed, subject, values).in_short()
    }

    fn subject(&self, scenario: &Scenario, tries: Tries) -> (Arc<Recorder>, Arc<App>) {
        let recorder = Arc::new(Recorder::new(self.always.clone(), shown(scenario)));
        let subject = Arc::new(App {
            make: watched(&self.make, &recorder),
            members: self.members.clone(),
            recorder: Arc::clone(&recorder),
            hidden: u64::from(self.members.is_none() && has_first_writers(scenario)),
            tries,
        });
        (recorder, subject)
    }

    /// Runs a plan.
    pub(super) fn run(&self, scenario: &Scenario, seed: u64, tries: Tries) -> Ran {
        let (recorder, subject) = self.subject(scenario, tries);
        let ran = quietly(|| run_subject(scenario, seed, TraceSink::Discard, subject, Hooks::default()));
        let found = match ran {
            Ok(Ok(report)) => report.violations.first().map(ToString::to_string),
            Ok(Err(SimError::Call { what, why })) if what == ADDING_WRITERS && self.members.is_some() => {
                let mut lines = vec![why];
                if let Some((entries, became)) = recorder.last(0) {
                    lines.push(format!("  r0 applied {}", shorten(&entries)));
                    lines.push(format!("  which {became}"));
                }
                lines.push("  For each of them apply must call `host.add_writer`, with the key that `members_by` was given.".into());
                recorder.fail(Property::Members, Duration::MAX, lines);
                None
            }
            Ok(Err(error)) => Some(format!("the run could not be carried out: {error}")),
            Err(panic) => Some(format!("the database panicked: {}", panic.0)),
        };
        if let Some(what) = found {
            let lines = vec![
                what,
                "  Apply did the same everywhere and nothing else is wrong with it: this is most likely a mistake of".into(),
                "  Autobee and not of the app. Please report it with the file of the plan.".into(),
            ];
            let kind = lines[0].split(':').next().unwrap_or_default().to_owned();
            recorder.fail(Property::Convergence(kind), Duration::MAX, lines);
        }
        Ran {
            failure: recorder.failure(),
            counts: recorder.counts(),
            steps: recorder.steps(),
        }
    }
}

/// As the factory of the app; when it panics, that is what is wrong, and what it makes gives up.
fn watched(make: &Maker, recorder: &Arc<Recorder>) -> Maker {
    let (make, recorder) = (Arc::clone(make), Arc::clone(recorder));
    Arc::new(move || {
        quietly(|| make()).unwrap_or_else(|Panicked(text)| {
            let what = format!("the closure that makes apply functions panicked: {text}");
            recorder.fail(Property::NoPanic, Duration::ZERO, vec![what]);
            ApplyFn::new(NotMade)
        })
    })
}

/// What could not be made.
struct NotMade;

impl Apply for NotMade {
    async fn apply(&self, _: &[Entry], _: &mut ApplyView, _: &mut dyn Host) -> Result<(), ApplyError> {
        Err(ApplyError::fatal("there is no apply function"))
    }
}

/// What the operations of a plan are called, by their bytes.
fn shown(scenario: &Scenario) -> BTreeMap<Bytes, String> {
    let ops = scenario.append.iter().flat_map(|append| &append.ops);
    ops.filter_map(|op| op.app.as_ref())
        .filter_map(|op| Some((op.bytes()?.into(), op.shown.clone())))
        .collect()
}

/// Writers are made before anything else happens.
fn has_first_writers(scenario: &Scenario) -> bool {
    let is_late = |replica: usize| {
        let mut events = scenario.event.iter();
        events.any(|event| event.action.joins() == Some(replica))
    };
    let mut writers = scenario.writers().into_iter();
    writers.any(|writer| writer != 0 && !is_late(writer))
}

/// The app under test, as the replicas of one run have it.
struct App {
    make: Maker,
    members: Option<Members>,
    recorder: Arc<Recorder>,
    hidden: u64,
    tries: Tries,
}

impl Subject for App {
    fn start(&self, replica: usize, now: Now) -> Started {
        let recorder = Arc::clone(&self.recorder);
        let clock = Arc::clone(&now);
        let watcher: Watcher = Box::new(move |view| recorder.shown(replica, clock(), view));
        let apply = Tested {
            replica,
            own: (self.make)(),
            make: Arc::clone(&self.make),
            recorder: Arc::clone(&self.recorder),
            now,
            is_wrapped: self.members.is_none(),
            hidden: self.hidden,
            tries: self.tries,
            shadow: Mutex::default(),
            contents: Mutex::default(),
        };
        Started {
            apply: ApplyFn::new(apply),
            watcher: Some(watcher),
        }
    }

    fn value(&self, op: &Op) -> Option<Bytes> {
        if let Some(app) = &op.app {
            let bytes = app.bytes()?;
            return Some(match &self.members {
                Some(_) => bytes.into(),
                None => [&[APP], &bytes[..]].concat().into(),
            });
        }
        let key: CoreKey = op.add_writer.as_ref()?.parse().ok()?;
        let Some(members) = &self.members else {
            return Some(member_op(key, op.weight.unwrap_or(2)).into());
        };
        let (bytes, shown) = members(key);
        let bytes = Bytes::from(bytes);
        self.recorder.name_value(bytes.clone(), shown);
        Some(bytes)
    }

    fn is_reference(&self) -> bool {
        false
    }

    fn opened(&self, replica: usize, log: CoreKey) {
        self.recorder.opened(replica, log);
    }

    fn begins(&self, at: Duration) {
        self.recorder.begins(at);
    }

    fn has_failed(&self) -> bool {
        self.recorder.has_failed()
    }
}
