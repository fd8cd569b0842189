//! Running a scenario with one seed.

mod group;
mod plan;
mod report;

use std::time::Duration;

use autobee::Settings;
use autobee::crypto::{CoreKey, Signature};
use autobee::db::{AppendOptions, HealGather};
use autobee::env::{Env as _, Spawn as _};
use autobee::hypercore::CoreOptions;
use autobee::wire::oplog::{Backer, OplogBlock, Witness};
use autobee::wire::{Encode as _, Length, Weight};
use bytes::Bytes;
use thiserror::Error;

pub use report::{ReplicaState, Report};

use crate::invariant::{
    Acknowledged, Healing, Outcome, Violation, acknowledged, convergence, gathering, reference,
};
use crate::lane::Lane;
use crate::replica::Crash;
use crate::scenario::{Action, CrashMode, CryptoChoice, Scenario};
use crate::trace::TraceSink;
use crate::workload::Op;
use crate::world::{NameError, RunError, World, WorldConfig};
use group::Group;
use plan::{Append, Step};

/// How often, in virtual time, replicas are compared once everything is healed.
const COMPARE_EVERY: Duration = Duration::from_millis(200);

/// How long replicas may take to start, in virtual time.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long a call may take that everything after it depends on, in virtual time.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// A run that could not be carried out: not a verdict on the replicas.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SimError {
    /// The world ended the run.
    #[error(transparent)]
    World(#[from] RunError),
    /// The scenario has replicas that cannot be.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The scenario plants a slip that nobody knows.
    #[error("planted: {0}")]
    Planted(String),
    /// The trace could not be written.
    #[error("the trace could not be written: {0}")]
    Trace(String),
    /// A call that the scenario needs failed.
    #[error("{what}: {why}")]
    Call {
        /// Which call.
        what: String,
        /// What it answered.
        why: String,
    },
}

/// Runs `scenario` with `seed`. The same pair gives the same report and the same trace, byte for byte.
///
/// # Errors
///
/// When the run could not be carried out. That replicas disagree is no error but part of the report.
pub fn run(scenario: &Scenario, seed: u64, trace: TraceSink) -> Result<Report, SimError> {
    Simulation::<World>::run(scenario, seed, trace)
}

/// As [`run`], with madsim scheduling the tasks. Reports of the two worlds differ in their traces, not in their verdict.
///
/// # Errors
///
/// As [`run`].
#[cfg(madsim)]
pub fn run_on_madsim(scenario: &Scenario, seed: u64, trace: TraceSink) -> Result<Report, SimError> {
    Simulation::<crate::madsim::MadsimWorld>::run(scenario, seed, trace)
}

struct Simulation<'a, S: Lane> {
    scenario: &'a Scenario,
    seed: u64,
    world: S,
    group: Group<S::Env>,
    /// When everything was healed, and how often each replica had undone something until then.
    healed: Option<(Duration, Vec<u64>)>,
}

impl<'a, S: Lane> Simulation<'a, S> {
    fn run(scenario: &'a Scenario, seed: u64, trace: TraceSink) -> Result<Report, SimError> {
        let mut simulation = Self::start(scenario, seed, trace)?;
        simulation.make_writers()?;
        simulation.play()?;
        simulation.heal();
        let violations = simulation.settle()?;
        simulation.report(violations)
    }

    /// Makes the world, lets the creator make the database, and starts everybody who is there from the start.
    fn start(scenario: &'a Scenario, seed: u64, trace: TraceSink) -> Result<Self, SimError> {
        if let Some(why) = scenario.unknown_slip() {
            return Err(SimError::Planted(why));
        }
        let world = S::new(WorldConfig {
            seed,
            path: scenario.network,
            disk: scenario.disk.clone(),
            planted: scenario.planted.clone(),
            ed25519: scenario.crypto == CryptoChoice::Ed25519,
            steps_max: scenario.events_max,
            trace,
            ..WorldConfig::default()
        });
        world.note(&format!("scenario {} seed {seed}", scenario.name));
        let group = Group::new(&world, scenario.replicas, settings(scenario))?;
        let simulation = Self {
            scenario,
            seed,
            world,
            group,
            healed: None,
        };
        simulation.group.boot(&simulation.world, 0);
        simulation.wait_for(
            |group| group.database().is_some(),
            "the creator did not open its database",
        )?;
        let late: Vec<usize> = scenario
            .event
            .iter()
            .filter_map(|event| event.action.joins())
            .collect();
        for replica in (1..scenario.replicas).filter(|replica| !late.contains(replica)) {
            simulation.group.boot(&simulation.world, replica);
        }
        simulation.wait_for(
            |group| {
                (0..scenario.replicas).all(|replica| late.contains(&replica) || group.db(replica).is_some())
            },
            "not every replica opened its database",
        )?;
        Ok(simulation)
    }

    /// Lets the creator add the writers, before anything else happens.
    fn make_writers(&mut self) -> Result<(), SimError> {
        let weight = self.scenario.writer_weight;
        for replica in self.scenario.writers() {
            // Who joins later is added by an event.
            if let Some(key) = self.group.local_key(replica).filter(|_| replica != 0) {
                self.call(0, "adding a writer", Op::add_writer(key, weight))?;
            }
        }
        Ok(())
    }

    /// Carries out what the scenario and the seed planned.
    fn play(&mut self) -> Result<(), SimError> {
        let began = self.world.now();
        for (at_ms, step) in plan::plan(self.scenario, &mut self.world.stream("plan")) {
            let at = began + Duration::from_millis(at_ms);
            self.world.run_for(at.saturating_sub(self.world.now()))?;
            match step {
                Step::Append(append) => self.append(&append),
                Step::Action(action) => self.act(&action),
            }
        }
        Ok(())
    }

    /// Ends all faults.
    fn heal(&mut self) {
        self.healed = Some((self.world.now(), self.undos()));
        self.world.heal();
        for replica in 0..self.scenario.replicas {
            self.world.resume(self.group.id(replica));
            self.group.restart(&self.world, replica);
        }
    }

    /// Waits until everybody agrees, at most for the time that the scenario gives; then says what is wrong.
    fn settle(&self) -> Result<Vec<Violation>, SimError> {
        let limit = self.world.now() + Duration::from_millis(self.scenario.converge_ms);
        loop {
            self.world.run_for(COMPARE_EVERY)?;
            let mut violations = self.violations()?;
            if violations.is_empty() {
                // The model is slow: one look, at one of many equals.
                violations.extend(self.reference()?);
                violations.extend(self.gathering());
                return Ok(violations);
            }
            if self.world.now() >= limit {
                return Ok(violations);
            }
        }
    }

    fn violations(&self) -> Result<Vec<Violation>, SimError> {
        let mut violations = self.group.failures();
        match self.outcomes()? {
            Ok(outcomes) => {
                violations.extend(convergence(&outcomes));
                violations.extend(acknowledged(&self.group.acknowledged(), &outcomes));
            }
            Err(down) => violations.push(Violation {
                invariant: "running",
                what: format!("{down} is not up"),
            }),
        }
        Ok(violations)
    }

    /// How often each replica undid something since it was started.
    fn undos(&self) -> Vec<u64> {
        let undos = |replica| self.group.db(replica).map_or(0, |db| db.stats().undos);
        (0..self.scenario.replicas).map(undos).collect()
    }

    fn gathering(&self) -> Option<Violation> {
        let gather = Duration::from_millis(self.scenario.gather_ms?);
        let (at, before) = self.healed.as_ref()?;
        let healing = Healing {
            taken: self.world.now().saturating_sub(*at),
            gather,
        };
        let undos = self.undos().into_iter().zip(before);
        let undos: Vec<(String, u64)> = undos
            .enumerate()
            .map(|(replica, (after, before))| (self.group.name(replica), after.saturating_sub(*before)))
            .collect();
        gathering(healing, &undos)
    }

    fn reference(&self) -> Result<Option<Violation>, SimError> {
        let outcomes = self.outcomes()?.unwrap_or_default();
        let verify = self.world.env(self.group.id(0)).crypto().clone();
        let database = self.group.database().zip(outcomes.first());
        Ok(database.and_then(|(database, outcome)| reference(database, outcome, &verify)))
    }

    /// What every replica holds; or the name of one that is not up.
    fn outcomes(&self) -> Result<Result<Vec<Outcome>, String>, SimError> {
        let mut outcomes = Vec::new();
        for replica in 0..self.scenario.replicas {
            let Some(db) = self.group.db(replica) else {
                return Ok(Err(self.group.name(replica)));
            };
            let snapshot = db.view();
            let view = self
                .world
                .block_on_for(
                    self.group.id(replica),
                    CALL_LIMIT,
                    async move { snapshot.all().await },
                )?;
            let view = view.map_err(|error| self.failed("reading the view", &error))?;
            let name = self.group.name(replica);
            outcomes.push(Outcome {
                replica: name,
                order: db.order(),
                writers: db.writers(),
                view,
                cores: db.cores().into_iter().map(|key| (key, db.blocks(&key))).collect(),
            });
        }
        Ok(Ok(outcomes))
    }

    fn act(&mut self, action: &Action) {
        self.world.note(&format!("{action:?}"));
        let id = |replica: &usize| self.group.id(*replica);
        match action {
            Action::Partition { groups } => {
                let groups: Vec<Vec<_>> = groups
                    .iter()
                    .map(|group| group.iter().map(id).collect())
                    .collect();
                self.world.partition(&groups);
            }
            Action::Cut { from, to } => self.world.cut(id(from), id(to)),
            Action::Heal => self.world.heal(),
            Action::Join { replica } => self.group.boot(&self.world, *replica),
            Action::Crash { replica, mode } => {
                let how = match mode {
                    CrashMode::Kill => Crash::Kill,
                    CrashMode::PowerLoss => Crash::PowerLoss,
                };
                self.group.crash(&self.world, *replica, how);
            }
            Action::Restart { replica } => self.group.restart(&self.world, *replica),
            Action::Pause { replica } => self.world.pause(id(replica)),
            Action::Resume { replica } => self.world.resume(id(replica)),
            Action::Skew { replica, ms } => self.world.skew(id(replica), *ms),
            Action::Add { by, target, weight } => {
                self.about(*by, *target, |key| Op::add_writer(key, *weight));
            }
            Action::Forge { by, backer } => self.forge(*by, *backer),
            Action::Remove { by, target } => {
                self.about(*by, *target, Op::remove_writer);
            }
        }
    }

    /// One replica appends something about another, which must have run.
    fn about(&self, by: usize, target: usize, op: impl FnOnce(CoreKey) -> Op) {
        if let Some(key) = self.group.local_key(target) {
            self.append(&Append {
                replica: by,
                ops: vec![op(key)],
                optimistic: false,
            });
        }
    }

    /// Puts a block into a log past the program that writes it. See [`Action::Forge`].
    fn forge(&self, by: usize, backer: usize) {
        let Some((store, db)) = self.group.store(by).zip(self.group.db(by)) else {
            return;
        };
        let Some(key) = self.group.local_key(backer) else {
            return;
        };
        let block = OplogBlock {
            witness: Some(Witness {
                weight: Weight(1),
                backer: Backer {
                    key,
                    length: Length(db.blocks(&key).len() as u64),
                    signature: Signature::new([0; 64]),
                    manifest: Bytes::new(),
                },
            }),
            value: Some(Op::put("forged", key.to_hex()).to_value().into()),
            ..OplogBlock::default()
        };
        let env = self.world.env(self.group.id(by));
        env.spawn().spawn("forge", async move {
            if let Ok(core) = store.get(CoreOptions::key(db.local())).await
                && let Ok(block) = block.to_bytes()
            {
                // A log that is closed by now gets no block.
                let _ = core.append(vec![block.into()]).await;
            }
        });
    }

    /// Starts an append and does not wait for it. A replica that is down, or is no writer now, appends nothing.
    fn append(&self, append: &Append) {
        let Some(db) = self.group.db(append.replica) else {
            return;
        };
        if !self.world.is_up(self.group.id(append.replica)) {
            return;
        }
        let values: Vec<Bytes> = append.ops.iter().map(|op| Bytes::from(op.to_value())).collect();
        let group = self.group.clone();
        let env = self.world.env(self.group.id(append.replica));
        let options = AppendOptions {
            optimistic: append.optimistic,
        };
        let (replica, optimistic) = (append.replica, append.optimistic);
        env.spawn().spawn("append", async move {
            match db.append_with(values, options).await {
                Ok(length) if !optimistic => {
                    group.acknowledge(Acknowledged {
                        key: db.local(),
                        length,
                    });
                }
                Ok(_) => {}
                Err(error) => group.append_failed(replica, &error),
            }
        });
    }

    /// An append that everything after it depends on.
    fn call(&self, replica: usize, what: &str, op: Op) -> Result<(), SimError> {
        let Some(db) = self.group.db(replica) else {
            return Err(self.failed(what, &"the replica is down"));
        };
        let appended = self
            .world
            .block_on_for(self.group.id(replica), CALL_LIMIT, async move {
                db.append(op.to_value()).await
            })?;
        appended.map(|_| ()).map_err(|error| self.failed(what, &error))
    }

    fn wait_for(&self, done: impl Fn(&Group<S::Env>) -> bool, what: &str) -> Result<(), SimError> {
        let limit = self.world.now() + START_LIMIT;
        while !done(&self.group) {
            if self.world.now() >= limit {
                return Err(self.failed("start", &what));
            }
            self.world.run_for(Duration::from_millis(1))?;
        }
        Ok(())
    }

    fn report(&self, violations: Vec<Violation>) -> Result<Report, SimError> {
        let outcomes = self.outcomes()?.unwrap_or_default();
        self.world
            .finish_trace()
            .map_err(|error| SimError::Trace(error.to_string()))?;
        Ok(Report::new(
            self.scenario,
            self.seed,
            &self.world,
            &outcomes,
            violations,
        ))
    }

    #[expect(clippy::unused_self, reason = "reads as a method beside the calls that fail")]
    fn failed(&self, what: &str, why: &impl ToString) -> SimError {
        SimError::Call {
            what: what.to_owned(),
            why: why.to_string(),
        }
    }
}

/// How the replicas of a scenario are set.
fn settings(scenario: &Scenario) -> Settings {
    let mut settings = Settings::default();
    settings.window_batches = scenario.window_batches.unwrap_or(settings.window_batches);
    if let Some(gather_ms) = scenario.gather_ms {
        settings.heal_gather = HealGather {
            time_ms: gather_ms,
            quiet_ms: gather_ms,
            ..settings.heal_gather
        };
    }
    settings
}
