//! Running a scenario with one seed.

mod act;
mod answers;
mod archive;
mod checks;
mod converge;
mod cores;
mod damaged;
mod files;
mod group;
mod look;
mod outsiders;
mod plan;
mod reads;
mod recording;
mod report;
mod subject;
mod trees;

use std::sync::Arc;
use std::time::Duration;

use autobee::env::Env as _;
use bytes::Bytes;
use thiserror::Error;

pub(crate) use look::look_at;
pub(crate) use recording::{Recorder, Recording};
pub use report::{ReplicaState, Report};
pub(crate) use subject::{Now, Started, Subject, Watcher};

use crate::hostile::{Hostiles, RunContext};
use crate::invariant::{ReplicaLook, Violation};
use crate::reader::Readers;
use crate::replica::Crash;
use crate::scenario::{CryptoChoice, Scenario};
use crate::seed::Stream;
use crate::simulated_world::SimulatedWorld;
use crate::trace::TraceSink;
use crate::workload::Op;
use crate::world::{NameError, Reseed, RunError, World, WorldConfig};
use checks::Checks;
pub(crate) use group::ENCRYPTION_KEY;
use group::Group;
use look::Looks;
use plan::Step;
use subject::Reference;

/// How long replicas may take to start, in virtual time.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long after an append a blackout strikes, at most.
const BLACKOUT_AFTER: Duration = Duration::from_micros(500);

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
    Simulation::<World>::run(scenario, seed, trace, Arc::new(Reference), Hooks::default())
}

/// The call by which the creator makes all writers.
pub(crate) const ADDING_WRITERS: &str = "adding the writers";

/// What is asked of a run besides its report.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hooks {
    /// Keeps what the run shows of itself.
    pub(crate) recorder: Option<Recorder>,
    /// From this moment on chance is drawn from another seed.
    pub(crate) reseed: Option<Reseed>,
}

/// As [`run`], with hooks.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn run_hooked(
    scenario: &Scenario,
    seed: u64,
    trace: TraceSink,
    hooks: Hooks,
) -> Result<Report, SimError> {
    Simulation::<World>::run(scenario, seed, trace, Arc::new(Reference), hooks)
}

/// As [`run`], with replicas that run something else. What only the engine can break is not checked then.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn run_subject(
    scenario: &Scenario,
    seed: u64,
    trace: TraceSink,
    subject: Arc<dyn Subject>,
    hooks: Hooks,
) -> Result<Report, SimError> {
    Simulation::<World>::run(scenario, seed, trace, subject, hooks)
}

/// As [`run`], with madsim scheduling the tasks. Reports of the two worlds differ in their traces, not in their verdict.
///
/// # Errors
///
/// As [`run`].
#[cfg(all(madsim, feature = "madsim"))]
pub fn run_on_madsim(scenario: &Scenario, seed: u64, trace: TraceSink) -> Result<Report, SimError> {
    Simulation::<crate::madsim::MadsimWorld>::run(
        scenario,
        seed,
        trace,
        Arc::new(Reference),
        Hooks::default(),
    )
}

struct Simulation<'a, S: SimulatedWorld> {
    scenario: &'a Scenario,
    seed: u64,
    world: S,
    subject: Arc<dyn Subject>,
    group: Group<S::Env>,
    looks: Looks,
    checks: Checks,
    hostiles: Hostiles,
    readers: Readers,
    /// What reads are drawn from.
    reads: Stream,
    /// When everything was healed, and how often each replica had undone something until then.
    healed: Option<(Duration, Vec<u64>)>,
    recorder: Option<Recorder>,
}

impl<'a, S: SimulatedWorld> Simulation<'a, S> {
    fn run(
        scenario: &'a Scenario,
        seed: u64,
        trace: TraceSink,
        subject: Arc<dyn Subject>,
        hooks: Hooks,
    ) -> Result<Report, SimError> {
        let mut simulation = Self::start(scenario, seed, trace, subject, hooks)?;
        let group = simulation.group.downgrade();
        simulation.make_writers()?;
        simulation.play()?;
        if simulation.is_clean() {
            simulation.heal();
            simulation.converge()?;
        }
        let report = simulation.report();
        // A sweep is of a million runs.
        assert!(
            !S::KEEPS_NOTHING || group.upgrade().is_none(),
            "a run that is over keeps its databases in memory"
        );
        report
    }

    /// Makes the world, lets the creator make the database, and starts everybody who is there from the start.
    fn start(
        scenario: &'a Scenario,
        seed: u64,
        trace: TraceSink,
        subject: Arc<dyn Subject>,
        hooks: Hooks,
    ) -> Result<Self, SimError> {
        if let Some(why) = scenario.unknown_slip() {
            return Err(SimError::Planted(why));
        }
        let world = S::new(WorldConfig {
            seed,
            path: scenario.network,
            disk: scenario.disk.clone(),
            planted: scenario.planted.clone(),
            ed25519: scenario.crypto == CryptoChoice::Ed25519,
            buggify: scenario.buggify,
            knobs: scenario.knobs.clone(),
            schedule: scenario.schedule,
            steps_max: scenario.events_max,
            reseed: hooks.reseed,
            trace,
            ..WorldConfig::default()
        });
        if let Some(recorder) = &hooks.recorder {
            recorder.signatures(world.signatures());
        }
        world.note(&format!("scenario {} seed {seed}", scenario.name));
        let group = Group::new(&world, scenario, Arc::clone(&subject))?;
        let known: Arc<dyn RunContext<S::Env>> = Arc::new(group.clone());
        let hostiles = Hostiles::start(&world, scenario, &known, &group.ledger())?;
        let readers = Readers::start(&world, scenario, &known)?;
        let checks = Checks::new(scenario, world.stream("checks"), subject.is_reference());
        let reads = world.stream("reads");
        let mut simulation = Self {
            scenario,
            seed,
            world,
            subject,
            group,
            hostiles,
            readers,
            looks: Looks::default(),
            reads,
            checks,
            healed: None,
            recorder: hooks.recorder,
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
        simulation.look();
        Ok(simulation)
    }

    /// Nothing was found so far.
    fn is_clean(&self) -> bool {
        self.checks.is_clean() && !self.subject.has_failed()
    }

    /// Traces call the logs of replicas by their names.
    fn name_cores(&self) {
        for replica in 0..self.scenario.replicas {
            if let Some(key) = self.group.local_key(replica) {
                self.world.name_core(key, &self.group.name(replica));
            }
        }
    }

    /// Lets the creator add the writers, before anything else happens.
    fn make_writers(&mut self) -> Result<(), SimError> {
        let weight = self.scenario.writer_weight;
        if !self.subject.is_reference() {
            return self.make_members(weight);
        }
        for replica in self.scenario.writers() {
            // Who joins later is added by an event.
            if let Some(key) = self.group.local_key(replica).filter(|_| replica != 0) {
                self.call(0, "adding a writer", &[Op::add_writer(key, weight)])?;
            }
        }
        self.wait_for(
            |_| self.hostiles.writers().is_some(),
            "not every hostile peer made its log",
        )?;
        for (key, weight) in self.hostiles.writers().unwrap_or_default() {
            self.call(0, "adding a hostile writer", &[Op::add_writer(key, weight)])?;
        }
        Ok(())
    }

    /// Lets the creator add all writers at once, by operations of the app.
    fn make_members(&self, weight: u64) -> Result<(), SimError> {
        let writers = self.scenario.writers().into_iter();
        let keys: Vec<_> = writers
            .filter(|replica| *replica != 0)
            .filter_map(|replica| self.group.local_key(replica))
            .collect();
        let ops: Vec<Op> = keys.iter().map(|key| Op::add_writer(*key, weight)).collect();
        if ops.is_empty() {
            return Ok(());
        }
        self.call(0, ADDING_WRITERS, &ops)?;
        let added = || {
            let records = self.group.db(0).map(|db| db.writers()).unwrap_or_default();
            let is_writer = |key: &&autobee::crypto::CoreKey| {
                let mut records = records.iter();
                records.any(|record| record.key == **key && !record.is_removed && !record.is_guest)
            };
            keys.iter().filter(is_writer).count()
        };
        let limit = self.world.now() + START_LIMIT;
        while !self.subject.has_failed() && added() < keys.len() {
            if self.world.now() >= limit {
                let why = match added() {
                    0 => "the operations that add writers added none".to_owned(),
                    some => format!("the operations that add writers added {some} of {}", keys.len()),
                };
                return Err(failed(ADDING_WRITERS, &why));
            }
            self.world.run_for(Duration::from_millis(1))?;
            self.name_cores();
        }
        Ok(())
    }

    /// Carries out what the scenario and the seed planned.
    fn play(&mut self) -> Result<(), SimError> {
        let began = self.world.now();
        self.subject.begins(began);
        if let Some(recorder) = &self.recorder {
            recorder.begins(began);
        }
        self.hostiles.begin();
        self.readers.begin();
        self.group.side_cores().begin();
        for (at_ms, step) in plan::plan(self.scenario, &mut self.world.stream("plan")) {
            self.run_until(began + Duration::from_millis(at_ms))?;
            if !self.is_clean() {
                return Ok(());
            }
            match step {
                Step::Append(append) => self.append(&append),
                Step::Action(action) => self.act(&action)?,
            }
        }
        Ok(())
    }

    /// Lets time pass, and looks at all replicas now and then.
    fn run_until(&mut self, until: Duration) -> Result<(), SimError> {
        while self.world.now() < until {
            let next = self.checks.next_look(self.world.now());
            self.pass(next.min(until))?;
            if self.world.now() >= next {
                self.look();
                self.mend();
                if !self.is_clean() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Lets time pass, and cuts the power of those whose append takes it.
    fn pass(&mut self, until: Duration) -> Result<(), SimError> {
        loop {
            let left = until.saturating_sub(self.world.now());
            self.group.arm_crash_points(&self.world);
            self.world.run_for(match self.group.is_armed() {
                true => BLACKOUT_AFTER.min(left),
                false => left,
            })?;
            let mut struck = self.group.take_struck(&self.world);
            struck.extend(self.group.take_due());
            for replica in &struck {
                self.group.crash(&self.world, *replica, Crash::PowerLoss);
            }
            // What happens at that very moment happens yet.
            if struck.is_empty() && self.world.now() >= until {
                return Ok(());
            }
        }
    }

    /// Does something for which disks take no time, and do not fail.
    fn observe<T>(&mut self, look: impl FnOnce(&mut Self) -> T) -> T {
        let disks: Vec<_> = (0..self.scenario.replicas)
            .map(|replica| self.world.disk(self.group.id(replica)))
            .collect();
        disks.iter().for_each(|disk| disk.observe_only(true));
        let seen = look(self);
        disks.iter().for_each(|disk| disk.observe_only(false));
        seen
    }

    /// What all replicas are now. Looking moves nothing in their world.
    fn take_looks(&mut self) -> Vec<ReplicaLook> {
        self.name_cores();
        let looks = self.observe(|simulation| {
            let mut looks =
                simulation
                    .looks
                    .take(&simulation.world, &simulation.group, simulation.scenario.replicas);
            for violation in simulation.looks.take_misread() {
                simulation.checks.found(violation);
            }
            simulation.readers.offer(&mut looks);
            if let Some(violation) = reads::read_views(&simulation.group, &looks, &mut simulation.reads) {
                simulation.checks.found(violation);
            }
            looks
        });
        if let Some(recorder) = &self.recorder {
            recorder.look(&self.group, &looks, self.world.now());
        }
        looks
    }

    /// Looks at all replicas, with all invariants.
    fn look(&mut self) {
        if !self.subject.is_reference() {
            return;
        }
        let looks = self.take_looks();
        if let Some(what) = self.group.side_cores().take_wrong() {
            let invariant = "side cores";
            self.checks.found(Violation { invariant, what });
        }
        let verify = self.world.env(self.group.id(0)).crypto().clone();
        self.checks.tick(
            &self.group,
            &looks,
            self.world.now(),
            self.healed.is_some(),
            &verify,
        );
    }

    /// Starts those again whose disks failed them.
    fn mend(&self) {
        for replica in 0..self.scenario.replicas {
            if self.group.is_broken(replica) {
                self.group.crash(&self.world, replica, Crash::Kill);
                self.group.restart(&self.world, replica);
            }
        }
    }

    /// An append that everything after it depends on.
    fn call(&self, replica: usize, what: &str, ops: &[Op]) -> Result<(), SimError> {
        let Some(db) = self.group.db(replica) else {
            return Err(failed(what, &"the replica is down"));
        };
        let values: Vec<Bytes> = ops.iter().filter_map(|op| self.subject.value(op)).collect();
        let appended = self
            .world
            .block_on_for(self.group.id(replica), CALL_LIMIT, async move {
                db.append_batch(values).await
            })?;
        appended.map(|_| ()).map_err(|error| failed(what, &error))
    }

    fn wait_for(&self, done: impl Fn(&Group<S::Env>) -> bool, what: &str) -> Result<(), SimError> {
        let limit = self.world.now() + START_LIMIT;
        while !done(&self.group) {
            if self.world.now() >= limit {
                return Err(failed("start", &what));
            }
            self.world.run_for(Duration::from_millis(1))?;
            self.name_cores();
        }
        Ok(())
    }

    fn report(mut self) -> Result<Report, SimError> {
        let looks = self.take_looks();
        self.world
            .finish_trace()
            .map_err(|error| SimError::Trace(error.to_string()))?;
        let hostile = self.group.ledger().deeds();
        Ok(Report {
            hostile,
            ..Report::new(self.scenario, self.seed, &self.world, &looks, self.checks)
        })
    }
}

fn failed(what: &str, why: &impl ToString) -> SimError {
    SimError::Call {
        what: what.to_owned(),
        why: why.to_string(),
    }
}
