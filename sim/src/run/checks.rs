//! What is checked in a run, when, and what was found.

use std::collections::BTreeMap;
use std::time::Duration;

use autobee::crypto::Verify;
use autobee::engine::encryption::DatabaseKeys;
use autobee::env::Env;
use autobee::wire::Rules;

use super::group::{ENCRYPTION_KEY, Group};
use crate::invariant::{
    self, Claims, Invariant, Model, Moment, ReplicaLook, Violation, convergence, is_beyond_reach, outcomes,
    reference,
};
use crate::scenario::Scenario;
use crate::seed::Stream;

/// Entries with which replicas are looked at half as often, with twice as many a third, and so on.
const LOOK_ENTRIES: usize = 400;

/// Between two looks, in milliseconds.
const LOOK_MS_MIN: u64 = 60;
const LOOK_MS_MAX: u64 = 400;

/// One in so many looks is shown to the model, too.
const MODEL_SHARE: u64 = 6;

/// The invariants of one run and their findings.
pub(super) struct Checks {
    invariants: Vec<Box<dyn Invariant>>,
    claims: Claims,
    encrypted: bool,
    optimistic: bool,
    rules: Rules,
    /// The model knows the apply function, and the engine is checked.
    is_judging: bool,
    stream: Stream,
    next_look: Option<Duration>,
    /// Entries of the longest order that was seen.
    entries: usize,
    violations: Vec<Violation>,
    looks: u64,
    judged: u64,
    unjudged: u64,
    outcomes: u64,
}

impl Checks {
    pub(super) fn new(scenario: &Scenario, stream: Stream, is_judging: bool) -> Self {
        Self {
            invariants: if is_judging { invariant::all() } else { Vec::new() },
            claims: Claims::new(scenario),
            encrypted: scenario.encrypted,
            optimistic: !scenario.members_only,
            rules: scenario.rules(),
            is_judging,
            stream,
            next_look: None,
            entries: 0,
            violations: Vec::new(),
            looks: 0,
            judged: 0,
            unjudged: 0,
            outcomes: 0,
        }
    }

    pub(super) const fn claims(&self) -> &Claims {
        &self.claims
    }

    pub(super) const fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    pub(super) fn found(&mut self, violation: Violation) {
        if !self.violations.contains(&violation) {
            self.violations.push(violation);
        }
    }

    pub(super) fn gathering(&mut self, violation: Option<Violation>) {
        self.violations.extend(violation);
    }

    /// When replicas are looked at next. A look reads everything, so that with many entries there are fewer of them: what
    /// they cost in a second of virtual time does not grow with the run.
    pub(super) fn next_look(&mut self, now: Duration) -> Duration {
        match self.next_look {
            Some(at) if at > now => at,
            _ => {
                let usual = Duration::from_millis(self.stream.between(LOOK_MS_MIN, LOOK_MS_MAX));
                let sparser = 1 + self.entries / LOOK_ENTRIES;
                let at = now + usual * u32::try_from(sparser).unwrap_or(u32::MAX);
                self.next_look = Some(at);
                at
            }
        }
    }

    /// Shows a moment to every invariant, and some moments to the model.
    pub(super) fn tick<E: Env>(
        &mut self,
        group: &Group<E>,
        looks: &[ReplicaLook],
        now: Duration,
        is_calm: bool,
        verify: &impl Verify,
    ) {
        self.looks += 1;
        let orders = looks.iter().filter_map(|replica| replica.look.as_ref());
        let longest = orders.map(|look| look.order.len()).max();
        self.entries = self.entries.max(longest.unwrap_or_default());
        self.show(group, looks, now, is_calm, |invariant, moment| {
            invariant.tick(moment)
        });
        if self.is_judging && self.is_clean() && self.stream.below(MODEL_SHARE) == 0 {
            let chosen = self.stream.index(looks.len());
            self.judge(group, looks, now, (chosen, false), verify);
        }
    }

    /// Shows the last moment to every invariant, and to the model.
    pub(super) fn end<E: Env>(
        &mut self,
        group: &Group<E>,
        looks: &[ReplicaLook],
        now: Duration,
        verify: &impl Verify,
    ) {
        self.show(group, looks, now, true, |invariant, moment| invariant.end(moment));
        let first = looks.iter().position(|replica| replica.look.is_some());
        if let Some(first) = first.filter(|_| self.is_clean()) {
            self.judge(group, looks, now, (first, true), verify);
        }
        // Where a log has two continuations each may hold another one to the end.
        if self.is_clean() && looks.len() > 1 && self.claims.is_whole() && !self.claims.may_fork() {
            let zero = self
                .counts()
                .into_iter()
                .find(|(name, count)| *name == "equal sets" && *count == 0);
            if let Some((name, _)) = zero {
                self.found(Violation {
                    invariant: "comparisons",
                    what: format!("no {name} were ever compared"),
                });
            }
        }
    }

    /// Shows these replicas to the model.
    pub(super) fn judge_each<E: Env>(
        &mut self,
        group: &Group<E>,
        looks: &[ReplicaLook],
        now: Duration,
        replicas: &[usize],
        verify: &impl Verify,
    ) {
        for replica in replicas {
            if self.is_judging && self.is_clean() {
                self.judge(group, looks, now, (*replica, false), verify);
            }
        }
    }

    /// What keeps replicas that reach each other from being the same, and whether they may wait for it in vain.
    pub(super) fn agreement<E: Env>(
        &self,
        group: &Group<E>,
        looks: &[ReplicaLook],
        now: Duration,
    ) -> Option<(Violation, bool)> {
        let database = group.database()?;
        let acknowledged = group.acknowledged();
        let moment = Moment {
            now,
            database,
            replicas: looks,
            acknowledged: &acknowledged,
            claims: &self.claims,
            is_calm: true,
        };
        Some((convergence(&moment)?, is_beyond_reach(&moment)))
    }

    /// How often what was compared.
    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        let counts = self.invariants.iter().flat_map(|invariant| invariant.counts());
        let own = [
            ("looks", self.looks),
            ("states judged by the model", self.judged),
            ("states too large for the model", self.unjudged),
            ("outcomes of appends", self.outcomes),
        ];
        counts.chain(own).collect()
    }

    pub(super) fn into_violations(self) -> Vec<Violation> {
        self.violations
    }

    fn show<E: Env>(
        &mut self,
        group: &Group<E>,
        looks: &[ReplicaLook],
        now: Duration,
        is_calm: bool,
        check: impl Fn(&mut dyn Invariant, &Moment<'_>) -> Result<(), String>,
    ) {
        for violation in group.failures() {
            self.found(violation);
        }
        let Some(database) = group.database() else {
            return;
        };
        let acknowledged = group.acknowledged();
        let moment = Moment {
            now,
            database,
            replicas: looks,
            acknowledged: &acknowledged,
            claims: &self.claims,
            is_calm,
        };
        let mut found = Vec::new();
        for invariant in &mut self.invariants {
            if let Err(what) = check(&mut **invariant, &moment) {
                found.push(Violation {
                    invariant: invariant.name(),
                    what: format!("{what}, at {} ms", now.as_millis()),
                });
            }
        }
        self.violations.extend(found);
    }

    fn judge<E: Env>(
        &mut self,
        group: &Group<E>,
        looks: &[ReplicaLook],
        now: Duration,
        (replica, is_at_rest): (usize, bool),
        verify: &impl Verify,
    ) {
        let (Some(database), Some(replica)) = (group.database(), looks.get(replica)) else {
            return;
        };
        let Some(look) = &replica.look else { return };
        let keys = self
            .encrypted
            .then(|| DatabaseKeys::new(database, ENCRYPTION_KEY));
        let model = Model {
            database,
            optimistic: self.optimistic,
            rules: self.rules,
            keys: keys.as_ref(),
            verify,
        };
        let acknowledged = group.acknowledged();
        let moment = Moment {
            now,
            database,
            replicas: looks,
            acknowledged: &acknowledged,
            claims: &self.claims,
            is_calm: false,
        };
        let effective = match reference(&model, &moment, replica, look) {
            None => return self.unjudged += 1,
            Some(Ok(effective)) => effective,
            Some(Err(violation)) => return self.found(violation),
        };
        self.judged += 1;
        if is_at_rest {
            match outcomes(&moment, replica.replica, &effective) {
                Ok(compared) => self.outcomes += compared,
                Err(violation) => self.found(violation),
            }
        }
    }
}
