//! One failure, with everything that is known of the run, and the order in which questions are asked.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use autobee::crypto::{CoreKey, Hash};
use autobee::wire::Length;
use bytes::Bytes;

use super::data::{Explanation, Phases, Verdict};
use super::judge::{Disagreement, Judge, ModelVerdict};
use super::names::Names;
use super::{differ, focus, gaps, happened, hint, since, waits};
use crate::events::TraceLine;
use crate::invariant::{Look, ReplicaLook};
use crate::run::Recording;
use crate::scenario::Scenario;
use crate::sweep::{SeedResult, failure};

/// What was recorded of a run.
#[derive(Debug)]
pub(crate) struct Recorded(pub(crate) Recording);

/// See the module.
pub(super) struct Case<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) recording: &'a Recording,
    pub(super) lines: &'a [TraceLine],
    pub(super) names: Names,
    /// The model knows the apply function.
    judge: Option<Judge>,
    judged: RefCell<BTreeMap<Hash, Option<Arc<ModelVerdict>>>>,
}

/// Whose state is looked at, and with what it is compared.
pub(super) struct Subject<'a> {
    pub(super) replica: &'a ReplicaLook,
    pub(super) look: &'a Look,
    /// Where it differs from the model of its own blocks.
    pub(super) wrong: Option<(Disagreement, Arc<ModelVerdict>)>,
    /// Another replica, or the same at another time, and when.
    pub(super) other: Option<(&'a ReplicaLook, &'a Look, Option<Duration>)>,
}

impl<'a> Case<'a> {
    pub(super) fn new(scenario: &'a Scenario, recorded: &'a Recorded, lines: &'a [TraceLine]) -> Self {
        let recording = &recorded.0;
        Self {
            scenario,
            recording,
            lines,
            names: Names::new(recording),
            judge: recording
                .database
                .zip(recording.crypto.clone())
                .map(|(key, crypto)| Judge::new(scenario, key, crypto)),
            judged: RefCell::default(),
        }
    }

    /// The same of an app's own apply function, which the model does not know. Its values have these names.
    pub(super) fn of_app(self, values: BTreeMap<Bytes, String>) -> Self {
        Self {
            names: self.names.with_values(values),
            judge: None,
            ..self
        }
    }

    /// The same of a store, with the key of its encryption.
    pub(super) fn of_store(self, encryption: Option<[u8; 32]>) -> Self {
        Self {
            judge: self.judge.map(|judge| judge.encrypted(encryption)),
            ..self
        }
    }

    /// Where the only replica differs from the model; none when it cannot be judged.
    pub(super) fn explain_store(&self) -> Option<Explanation> {
        let (replica, look) = self.open().next()?;
        self.judged(look)?;
        let mut told = Explanation {
            scenario: replica.name.clone(),
            verdicts: self.verdicts(),
            ..Explanation::default()
        };
        if let Some(wrong) = self.wrong(look) {
            told.failure = Some("reference".into());
            told.violations.push(format!(
                "{} differs from the model: {}",
                replica.name,
                self.in_words(&wrong.0, look, &wrong.1)
            ));
            let subject = Subject {
                replica,
                look,
                wrong: Some(wrong),
                other: None,
            };
            differ::compare(self, &subject, &mut told);
            focus::entries(self, &[], &mut told);
        }
        Some(told)
    }

    /// What two replicas differ in, whatever it was that failed; `failure` is its name.
    pub(super) fn explain_states(&self, seed: u64, failure: &str) -> Explanation {
        let mut told = Explanation {
            scenario: self.scenario.name.clone(),
            seed,
            failure: Some(failure.to_owned()),
            found_ms: self.recording.looks.last().map_or(0, |look| ms(look.at)),
            ..Explanation::default()
        };
        let subject = self.unequal_views().or_else(|| self.subject(&told, &[]));
        if let Some(subject) = subject {
            differ::compare(self, &subject, &mut told);
            told.since = since::of_state(self, &subject);
        }
        gaps::find(self, &mut told);
        focus::entries(self, &[], &mut told);
        happened::before(self, &mut told);
        told
    }

    /// Two replicas with one order and two views.
    fn unequal_views(&self) -> Option<Subject<'a>> {
        let open: Vec<(&ReplicaLook, &Look)> = self.open().collect();
        open.iter().enumerate().find_map(|(number, (replica, look))| {
            let mut others = open.iter().skip(number + 1);
            let (peer, other) = others.find(|(_, other)| {
                look.order == other.order && look.view != other.view && !look.order.is_empty()
            })?;
            Some(Subject {
                replica,
                look,
                wrong: None,
                other: Some((peer, other, None)),
            })
        })
    }

    pub(super) fn explain(&self, seed: u64, result: &SeedResult) -> Explanation {
        let mut told = Explanation {
            scenario: self.scenario.name.clone(),
            seed,
            failure: failure(result),
            phases: Phases {
                plan_ms: self.recording.began.map(ms),
                healed_ms: self.recording.healed.map(ms),
            },
            ..Explanation::default()
        };
        let (violations, found): (Vec<String>, u64) = match result {
            Ok(report) => (
                report.violations.iter().map(ToString::to_string).collect(),
                report.sim_ms,
            ),
            Err(error) => {
                let last = self.lines.last().map_or(0, |line| line.at / 1_000_000);
                (vec![error.to_string()], last)
            }
        };
        told.found_ms = found;
        told.violations = violations.iter().map(|text| self.names.clean(text)).collect();
        if told.failure.is_none() {
            return told;
        }
        let text = told.violations.first().cloned().unwrap_or_default();
        let mentioned = self.names.mentioned(&text);
        let named = self.named(&text);
        told.verdicts = self.verdicts();
        if let Some(subject) = self.subject(&told, &named) {
            differ::compare(self, &subject, &mut told);
            told.since = since::of_state(self, &subject);
        }
        focus::entries(self, &mentioned, &mut told);
        focus::own_logs(self, &named, &mut told);
        focus::not_open(self, &mut told);
        gaps::find(self, &mut told);
        if told.verdicts.iter().all(|verdict| verdict.agrees != Some(false)) && !told.gaps.is_empty() {
            told.since = since::of_gap(self, &told).or(told.since);
        }
        for name in &named {
            if !told.who.contains(name) {
                told.who.push(name.clone());
            }
        }
        waits::find(self, &named, &mut told);
        happened::before(self, &mut told);
        waits::last_entry(self, &mut told);
        hint::give(self, &text, &mut told);
        told
    }

    /// Replicas that a text names, in its order.
    fn named(&self, text: &str) -> Vec<String> {
        let mut named: Vec<String> = Vec::new();
        for word in text.split(|letter: char| !letter.is_ascii_alphanumeric()) {
            let is_replica = self.latest().iter().any(|replica| replica.name == word);
            if is_replica && !named.iter().any(|known| known == word) {
                named.push(word.to_owned());
            }
        }
        named
    }

    /// All replicas at the last look.
    pub(super) fn latest(&self) -> &'a [Arc<ReplicaLook>] {
        self.recording.looks.last().map_or(&[], |look| &look.replicas)
    }

    /// The replicas that are open at the last look.
    pub(super) fn open(&self) -> impl Iterator<Item = (&'a ReplicaLook, &'a Look)> {
        self.latest()
            .iter()
            .filter_map(|replica| Some((&**replica, replica.look.as_ref()?)))
    }

    pub(super) const fn judge(&self) -> Option<&Judge> {
        self.judge.as_ref()
    }

    /// What the model makes of the blocks of a replica. Equal sets are judged once.
    pub(super) fn judged(&self, look: &Look) -> Option<Arc<ModelVerdict>> {
        let set = look.set_digest()?;
        if let Some(known) = self.judged.borrow().get(&set) {
            return known.clone();
        }
        let judged = self.judge.as_ref()?.judge(look).map(Arc::new);
        self.judged.borrow_mut().insert(set, judged.clone());
        judged
    }

    /// Where a replica differs from the model; none also where nobody can say.
    pub(super) fn wrong(&self, look: &Look) -> Option<(Disagreement, Arc<ModelVerdict>)> {
        let judged = self.judged(look)?;
        Some((judged.disagreement(look)?, judged))
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let verdict = |replica: &Arc<ReplicaLook>| {
            let Some(look) = &replica.look else {
                let why = replica.unseen.as_deref().map(|why| self.names.clean(why));
                return Verdict {
                    replica: replica.name.clone(),
                    agrees: None,
                    entries: 0,
                    what: Some(
                        why.map_or_else(|| "is not open".into(), |why| format!("shows nothing: {why}")),
                    ),
                };
            };
            let judged = self.judged(look);
            let what = match &judged {
                None if look.known.is_none() => Some("makes an order just now".to_owned()),
                None => Some("has too many batches for the model".to_owned()),
                Some(judged) => judged
                    .disagreement(look)
                    .map(|wrong| self.in_words(&wrong, look, judged)),
            };
            Verdict {
                replica: replica.name.clone(),
                agrees: judged.is_some().then_some(what.is_none()),
                entries: look.order.len(),
                what,
            }
        };
        self.latest().iter().map(verdict).collect()
    }

    fn in_words(&self, wrong: &Disagreement, look: &Look, judged: &ModelVerdict) -> String {
        match wrong {
            Disagreement::Order(at) => {
                let entry = look.order.get(*at).or_else(|| judged.order.get(*at));
                let name = entry.map_or_else(String::new, |entry| self.names.entry(&entry.key, entry.length));
                format!("its order is another one from position {at} on ({name})")
            }
            Disagreement::Weight(at) => {
                let name = |entry: &autobee::db::OrderedEntry| self.names.entry(&entry.key, entry.length);
                let entry = look.order.get(*at).map_or_else(String::new, name);
                let weight =
                    |order: &[autobee::db::OrderedEntry]| order.get(*at).map_or(0, |entry| entry.weight.0);
                format!(
                    "{entry} has weight {}, and {} by the rule",
                    weight(&look.order),
                    weight(&judged.order)
                )
            }
            Disagreement::Record(key) => format!("its record of {} is another one", self.names.writer(key)),
            Disagreement::Heads => "what an append would stand on is other".into(),
            Disagreement::Counts => format!(
                "it counts {} batches, and the model {}",
                look.flushes, judged.canonical.state.flushes
            ),
            Disagreement::View(key) => format!(
                "order, weights and records are right, and its view is another one at {}",
                crate::kit::bytes_text(key)
            ),
        }
    }

    /// Who is to be looked at: whoever differs from the model and is named, then whoever differs from it; then two replicas
    /// of one group that are not the same.
    fn subject(&self, told: &Explanation, named: &[String]) -> Option<Subject<'a>> {
        let is_named = |replica: &ReplicaLook| named.iter().position(|name| *name == replica.name);
        let mut open: Vec<(&ReplicaLook, &Look)> = self.open().collect();
        open.sort_by_key(|(replica, _)| is_named(replica).unwrap_or(usize::MAX));
        let mut wrong = open
            .iter()
            .filter_map(|(replica, look)| Some((*replica, *look, self.wrong(look)?)));
        if let Some((replica, look, wrong)) = wrong.next() {
            let set = look.set_digest();
            let mut peers = open
                .iter()
                .filter(|(peer, other)| peer.replica != replica.replica && other.set_digest() == set);
            return Some(Subject {
                replica,
                look,
                wrong: Some(wrong),
                other: peers.next().map(|(peer, look)| (*peer, *look, None)),
            });
        }
        if told.failure.as_deref() == Some("equal sets")
            && let Some(subject) = self.equal_sets(named)
        {
            return Some(subject);
        }
        self.recording.healed?;
        let claims = crate::invariant::Claims::new(self.scenario);
        for group in &claims.groups {
            let members = open
                .iter()
                .filter(|(replica, _)| group.contains(&replica.replica));
            let members: Vec<_> = members.copied().collect();
            let Some((first, look)) = members.first().copied() else {
                continue;
            };
            let differs = |other: &Look| {
                other.order != look.order || other.writers != look.writers || other.view != look.view
            };
            if let Some((peer, other)) = members.iter().skip(1).find(|(_, other)| differs(other)) {
                return Some(Subject {
                    replica: first,
                    look,
                    wrong: None,
                    other: Some((peer, other, None)),
                });
            }
        }
        None
    }

    /// A replica that is named now, and whoever had the same blocks and another state before.
    fn equal_sets(&self, named: &[String]) -> Option<Subject<'a>> {
        let (replica, look) = self
            .open()
            .find(|(replica, _)| named.first() == Some(&replica.name))?;
        let set = look.set_digest()?;
        for before in &self.recording.looks {
            for other in &before.replicas {
                let Some(then) = other.look.as_ref().filter(|then| then.set_digest() == Some(set)) else {
                    continue;
                };
                if then.order != look.order || then.writers != look.writers || then.view != look.view {
                    // Whichever of both is wrong by the model is the one to look at.
                    let subject = match self.wrong(then) {
                        Some(wrong) => Subject {
                            replica: other,
                            look: then,
                            wrong: Some(wrong),
                            other: Some((replica, look, None)),
                        },
                        None => Subject {
                            replica,
                            look,
                            wrong: self.wrong(look),
                            other: Some((other, then, Some(before.at))),
                        },
                    };
                    return Some(subject);
                }
            }
        }
        None
    }

    /// What an entry says, from whoever has its block.
    pub(super) fn op(&self, key: &CoreKey, length: Length) -> Option<(String, Option<i64>, Vec<String>)> {
        let looks = self.recording.looks.iter().rev();
        let mut replicas = looks.flat_map(|look| &look.replicas);
        let block = replicas.find_map(|replica| replica.look.as_ref()?.logs.get(key)?.block(length));
        block.map(|block| focus::shown(&self.names, block))
    }
}

/// Virtual time in milliseconds.
pub(super) fn ms(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}
