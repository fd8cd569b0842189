//! Logs beside the database: one replica writes a log, truncates it, and takes in what named sessions wrote, and others
//! follow it over the connections of the database. Whoever follows looks whether each block, size and place is what the
//! owner wrote.

mod follow;
mod own;
mod small;
mod written;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use autobee::Corestore;
use autobee::env::{Entropy as _, Env, Spawn as _};

use crate::executor::lock;
use crate::invariant::Claims;
use crate::scenario::{Scenario, SideCore};
use written::{State, WrittenLog};

/// What the tasks of a replica are called.
pub(crate) const TASK: &str = "side core";

/// How far a run is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing is written yet.
    #[default]
    Before,
    /// Owners write.
    Changing,
    /// Owners write no more, and whoever follows fetches all.
    Settling,
    /// Nobody does anything.
    Over,
}

/// The logs beside the database of a run. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct SideCores(Arc<Mutex<Run>>);

#[derive(Default)]
struct Run {
    phase: Phase,
    plans: Vec<SideCore>,
    logs: Vec<WrittenLog>,
    claims: Claims,
    /// Replicas that close their store, until they start again: what they had open is closed.
    closing: BTreeSet<usize>,
    wrong: Vec<String>,
}

impl SideCores {
    pub(crate) fn new(scenario: &Scenario, claims: &Claims) -> Self {
        Self(Arc::new(Mutex::new(Run {
            plans: scenario.core.clone(),
            logs: scenario.core.iter().map(|_| WrittenLog::default()).collect(),
            claims: claims.clone(),
            ..Run::default()
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Run> {
        lock(&self.0)
    }

    /// Starts what a replica does with them.
    pub(crate) fn start<E: Env>(&self, env: &E, store: &Corestore<E>, replica: usize) {
        let mut run = self.lock();
        run.closing.remove(&replica);
        if run.phase == Phase::Over {
            return;
        }
        let plans = run.plans.clone();
        for (number, plan) in plans.into_iter().enumerate() {
            if plan.of == replica {
                let (env, store) = (env.clone(), store.clone());
                env.clone()
                    .spawn()
                    .spawn(TASK, self.clone().own(env, store, number, plan));
            } else if plan.is_followed_by(replica) {
                run.logs[number].followed.remove(&replica);
                let follower = follow::Follower::new(self.clone(), env.clone(), number, replica, plan);
                env.spawn().spawn(TASK, follower.run(store.clone()));
            }
        }
    }

    /// A replica begins to close its store.
    pub(crate) fn close(&self, replica: usize) {
        self.lock().closing.insert(replica);
    }

    /// The plan begins.
    pub(crate) fn begin(&self) {
        self.lock().phase = Phase::Changing;
    }

    /// Everything is healed.
    pub(crate) fn settle(&self) {
        self.lock().phase = Phase::Settling;
    }

    /// Ends all of it.
    pub(crate) fn end(&self) {
        self.lock().phase = Phase::Over;
    }

    /// What was wrong since the last call.
    pub(crate) fn take_wrong(&self) -> Option<String> {
        let wrong = std::mem::take(&mut self.lock().wrong);
        (!wrong.is_empty()).then(|| wrong.join("; "))
    }

    /// Whether a replica that follows a log, and has it with this fork and length, gets any block of it: from its owner, if
    /// that has the log so, or from a neighbour that follows it, too, and has all of it.
    fn is_there(&self, number: usize, replica: usize, state: State) -> bool {
        let run = self.lock();
        let claims = &run.claims;
        let (of, log) = (run.plans[number].of, &run.logs[number]);
        let follows = |other: usize| run.plans[number].is_followed_by(other) && is_sound(other, claims);
        if !follows(replica) {
            return false;
        }
        let head = log.head();
        let owner_has = !log.is_void() && head.fork == state.fork && state.length <= head.length;
        if owner_has && is_sound(of, claims) && reached(of, claims, follows).contains(&replica) {
            return true;
        }
        // Who has fewer blocks cannot prove them to who knows of more, nor who has other ones.
        let has_all = |other: usize| {
            let has = log.followed.get(&other);
            has.is_some_and(|(fork, blocks)| *fork == state.fork && *blocks >= state.length as u64)
        };
        let mut near = claims.staying.iter().filter(|(near, _)| *near == replica);
        !is_split(of, claims) && near.any(|(_, other)| follows(*other) && has_all(*other))
    }

    /// Somebody who follows a log and has not all of it, of those that run and reach its owner for good.
    pub(crate) fn behind(&self, is_up: impl Fn(usize) -> bool) -> Option<String> {
        let run = self.lock();
        let is_sound = |replica: usize| is_up(replica) && is_sound(replica, &run.claims);
        let logs = run.plans.iter().zip(&run.logs).enumerate();
        let mut claimed = logs.filter(|(_, (plan, log))| {
            // Nobody proves that a log has no blocks: that it was cut off to nothing is not followed.
            !log.is_void() && is_sound(plan.of) && log.head().length > 0
        });
        claimed.find_map(|(number, (plan, log))| {
            let State { fork, length } = log.head();
            let reached = reached(plan.of, &run.claims, |replica| {
                plan.is_followed_by(replica) && is_sound(replica)
            });
            let behind = reached.into_iter().find(|replica| {
                *replica != plan.of && log.followed.get(replica) != Some(&(fork, length as u64))
            })?;
            let has = match log.followed.get(&behind) {
                Some((fork, blocks)) => format!("{blocks} blocks at fork {fork}"),
                None => "nothing".into(),
            };
            Some(format!(
                "r{behind} has {has} of the log {number} beside the database, of which r{} has {length} at fork {fork}",
                plan.of
            ))
        })
    }
}

/// Whether a replica comes back, with a disk on which one can rely.
fn is_sound(replica: usize, claims: &Claims) -> bool {
    let faults = [&claims.lost, &claims.damaged, &claims.decaying, &claims.unsound];
    faults.iter().all(|replicas| !replicas.contains(&replica))
}

/// Those who get a log from its owner, or from each other.
fn reached(of: usize, claims: &Claims, follows: impl Fn(usize) -> bool) -> BTreeSet<usize> {
    let mut reached = BTreeSet::from([of]);
    let mut next = vec![of];
    while let Some(from) = next.pop() {
        let pairs = claims.staying.iter().filter(|(near, _)| *near == from);
        for (_, to) in pairs.filter(|(_, to)| follows(*to)) {
            if reached.insert(*to) {
                next.push(*to);
            }
        }
    }
    reached
}

/// Whether the logs of a replica may have two continuations of one fork.
fn is_split(replica: usize, claims: &Claims) -> bool {
    let faults = [
        &claims.forgetful,
        &claims.forking,
        &claims.decaying,
        &claims.damaged,
    ];
    faults.iter().any(|replicas| replicas.contains(&replica))
}

/// A number below `end`, which is above 0.
fn below<E: Env>(env: &E, end: u64) -> u64 {
    u64::from_le_bytes(env.entropy().array()) % end.max(1)
}
