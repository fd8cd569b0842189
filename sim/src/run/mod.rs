//! Running a scenario with one seed.

mod act;
mod checks;
mod group;
mod look;
mod outsiders;
mod plan;
mod reads;
mod report;
mod subject;

use std::sync::Arc;
use std::time::Duration;

use autobee::crypto::CoreKey;
use autobee::db::sim_hooks;
use autobee::env::Env as _;
use autobee::hypercore::{CoreOptions, Wait};
use autobee::wire::oplog::OplogBlock;
use autobee::wire::{Decode as _, Link};
use bytes::Bytes;
use thiserror::Error;

pub use report::{ReplicaState, Report};
pub(crate) use subject::{Now, Started, Subject, Watcher};

use crate::disk::DiskFaults;
use crate::hostile::{Hostiles, Known};
use crate::invariant::{Acknowledged, Healing, ReplicaLook, Violation, gathering, reopened};
use crate::lane::Lane;
use crate::reader::{self, Readers};
use crate::replica::Crash;
use crate::scenario::{Action, CryptoChoice, Scenario};
use crate::seed::Stream;
use crate::trace::TraceSink;
use crate::workload::{Op, SELF};
use crate::world::{NameError, RunError, World, WorldConfig};
use checks::Checks;
use group::Group;
use look::{Looks, at_once};
use plan::Step;
use subject::Reference;

/// How often, in virtual time, replicas are compared once everything is healed.
const COMPARE_EVERY: Duration = Duration::from_millis(200);

/// How long replicas may take to start, in virtual time.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long after an append a blackout strikes, at most.
const BLACKOUT_AFTER: Duration = Duration::from_micros(500);

/// How long a call may take that everything after it depends on, in virtual time.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// How long what is under way may take to end, once all agree.
const SETTLE: Duration = Duration::from_secs(8);

/// How long a peer that lost its connection may take to get another one.
const RECONNECT: Duration = Duration::from_secs(2);

/// How long a reader may wait for a block, once all agree.
const READ_LIMIT: Duration = Duration::from_secs(30);

/// How often each member writes once all agree.
const PIN_ROUNDS: usize = 3;

/// How long a database that was opened again may take to go through what it has: a link to a first block waits for five
/// seconds before it is known not to be to an anchor.
const REOPEN: Duration = Duration::from_secs(6);

/// How long it must be quiet then.
const QUIET: Duration = Duration::from_secs(20);

/// Deliveries that one keep-alive may need on a path that chops.
const KEEP_ALIVE_DELIVERIES: u64 = 8;

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
    Simulation::<World>::run(scenario, seed, trace, Arc::new(Reference))
}

/// As [`run`], with replicas that run something else. What only the engine can break is not checked then.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn run_subject(
    scenario: &Scenario,
    seed: u64,
    subject: Arc<dyn Subject>,
) -> Result<Report, SimError> {
    Simulation::<World>::run(scenario, seed, TraceSink::Discard, subject)
}

/// As [`run`], with madsim scheduling the tasks. Reports of the two worlds differ in their traces, not in their verdict.
///
/// # Errors
///
/// As [`run`].
#[cfg(madsim)]
pub fn run_on_madsim(scenario: &Scenario, seed: u64, trace: TraceSink) -> Result<Report, SimError> {
    Simulation::<crate::madsim::MadsimWorld>::run(scenario, seed, trace, Arc::new(Reference))
}

struct Simulation<'a, S: Lane> {
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
}

impl<'a, S: Lane> Simulation<'a, S> {
    fn run(
        scenario: &'a Scenario,
        seed: u64,
        trace: TraceSink,
        subject: Arc<dyn Subject>,
    ) -> Result<Report, SimError> {
        let mut simulation = Self::start(scenario, seed, trace, subject)?;
        simulation.make_writers()?;
        simulation.play()?;
        if simulation.is_clean() {
            simulation.heal();
            simulation.settle()?;
        }
        simulation.report()
    }

    /// Makes the world, lets the creator make the database, and starts everybody who is there from the start.
    fn start(
        scenario: &'a Scenario,
        seed: u64,
        trace: TraceSink,
        subject: Arc<dyn Subject>,
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
            trace,
            ..WorldConfig::default()
        });
        world.note(&format!("scenario {} seed {seed}", scenario.name));
        let group = Group::new(&world, scenario, Arc::clone(&subject))?;
        let known: Arc<dyn Known<S::Env>> = Arc::new(group.clone());
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
        self.call(0, "adding the writers", &ops)?;
        let has_all = |group: &Group<S::Env>| {
            let records = group.db(0).map(|db| db.writers()).unwrap_or_default();
            keys.iter().all(|key| {
                records
                    .iter()
                    .any(|record| record.key == *key && !record.is_removed)
            })
        };
        self.wait_for(
            |group| self.subject.has_failed() || has_all(group),
            "the operations that add writers added none",
        )
    }

    /// Carries out what the scenario and the seed planned.
    fn play(&mut self) -> Result<(), SimError> {
        let began = self.world.now();
        self.subject.begins(began);
        self.hostiles.begin();
        self.readers.begin();
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
        while self.group.is_armed() && self.world.now() < until {
            self.world
                .run_for(BLACKOUT_AFTER.min(until.saturating_sub(self.world.now())))?;
            for replica in self.group.take_due() {
                self.group.crash(&self.world, replica, Crash::PowerLoss);
            }
        }
        Ok(self.world.run_for(until.saturating_sub(self.world.now()))?)
    }

    /// What all replicas are now. Looking moves nothing in their world.
    fn take_looks(&mut self) -> Vec<ReplicaLook> {
        self.name_cores();
        let disks: Vec<_> = (0..self.scenario.replicas)
            .map(|replica| self.world.disk(self.group.id(replica)))
            .collect();
        disks.iter().for_each(|disk| disk.observe_only(true));
        let looks = self.looks.take(&self.world, &self.group, self.scenario.replicas);
        if let Some(violation) = reads::read_views(&self.group, &looks, &mut self.reads) {
            self.checks.found(violation);
        }
        disks.iter().for_each(|disk| disk.observe_only(false));
        looks
    }

    /// Looks at all replicas, with all invariants.
    fn look(&mut self) {
        if !self.subject.is_reference() {
            return;
        }
        let looks = self.take_looks();
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

    /// Ends all faults but those that last.
    fn heal(&mut self) {
        self.healed = Some((self.world.now(), self.undos()));
        self.group.disarm();
        self.heal_network();
        self.heal_paths();
        self.heal_clocks();
        for replica in 0..self.scenario.replicas {
            self.spoil_disk(replica, &DiskFaults::default());
            self.world.resume(self.group.id(replica));
            if self.group.has_run(replica) {
                self.group.restart(&self.world, replica);
            }
        }
        // Whoever never joined, because the plan that would have started it was cut short, joins now.
        for replica in 0..self.scenario.replicas {
            self.group.boot(&self.world, replica);
        }
    }

    /// Waits until everybody agrees, then lets everybody write once more and agree again, then looks whether it is quiet.
    fn settle(&mut self) -> Result<(), SimError> {
        if !self.agree()? || !self.subject.is_reference() {
            return Ok(());
        }
        self.checks.gathering(self.gathering());
        self.answered();
        self.connected()?;
        // What a grant owes takes a round of appends each to be attested, claimed, and recorded.
        for _ in 0..PIN_ROUNDS {
            self.pin()?;
            if !self.agree()? {
                return Ok(());
            }
        }
        self.read_by_readers()?;
        // They do not keep quiet either.
        self.hostiles.end(&self.world);
        self.readers.end(&self.world);
        self.rest()?;
        let looks = self.take_looks();
        let verify = self.world.env(self.group.id(0)).crypto().clone();
        self.checks.end(&self.group, &looks, self.world.now(), &verify);
        if self.checks.is_clean() {
            self.reopened(&looks)?;
        }
        Ok(())
    }

    /// Who is killed and started again without any peer has what it had.
    fn reopened(&mut self, before: &[ReplicaLook]) -> Result<(), SimError> {
        let claims = self.checks.claims().clone();
        if !claims.damaged.is_empty() || !claims.forged.is_empty() {
            return Ok(());
        }
        let alone: Vec<_> = (0..self.scenario.replicas)
            .map(|replica| vec![self.group.id(replica)])
            .collect();
        self.world.partition(&alone);
        for replica in 0..self.scenario.replicas {
            if self.group.db(replica).is_some() {
                self.group.crash(&self.world, replica, Crash::Kill);
                self.group.restart(&self.world, replica);
            }
        }
        let was_open =
            |replica: &ReplicaLook| replica.look.is_some() && !claims.lost.contains(&replica.replica);
        self.wait_for(
            |group| {
                let mut open = before.iter().filter(|replica| was_open(replica));
                open.all(|replica| group.db(replica.replica).is_some())
            },
            "not every replica opened its database again",
        )?;
        self.world.run_for(REOPEN)?;
        let after = self.take_looks();
        let verify = self.world.env(self.group.id(0)).crypto().clone();
        self.checks
            .tick(&self.group, &after, self.world.now(), true, &verify);
        for (before, after) in before.iter().zip(&after) {
            if let Some(what) = reopened(before, after) {
                self.checks.found(Violation {
                    invariant: "reopened",
                    what: format!("{} was started again without peers: {what}", before.name),
                });
            }
        }
        Ok(())
    }

    /// Waits until all agree, at most for the time that the scenario gives; false when they do not.
    fn agree(&mut self) -> Result<bool, SimError> {
        let limit = self.world.now() + Duration::from_millis(self.scenario.converge_ms);
        loop {
            self.world.run_for(COMPARE_EVERY)?;
            if self.subject.has_failed() {
                return Ok(false);
            }
            self.mend();
            let looks = self.take_looks();
            let verify = self.world.env(self.group.id(0)).crypto().clone();
            self.checks
                .tick(&self.group, &looks, self.world.now(), true, &verify);
            if !self.checks.is_clean() {
                return Ok(false);
            }
            match self.checks.agreement(&self.group, &looks, self.world.now()) {
                None => return Ok(true),
                Some((_, true)) if self.world.now() >= limit => return Ok(true),
                Some((violation, _)) if self.world.now() >= limit => {
                    self.checks.found(violation);
                    return Ok(false);
                }
                Some(_) => {}
            }
        }
    }

    /// Whoever lost a peer noticed it after a while, and connected again, though nobody had anything to say.
    fn connected(&mut self) -> Result<(), SimError> {
        // Only those that run: nobody looks after the streams of a machine without power.
        let replicas: Vec<_> = (0..self.scenario.replicas)
            .filter(|replica| self.group.db(*replica).is_some())
            .map(|replica| self.group.id(replica))
            .collect();
        let dead = self.world.dead_streams(&replicas);
        if self.checks.claims().is_restless && dead.is_empty() {
            return Ok(());
        }
        self.world.run_for(self.silence())?;
        let held = self.world.dead_streams(&replicas).intersection(&dead).count();
        if held > 0 {
            self.checks.found(Violation {
                invariant: "connected",
                what: format!("{held} streams are held whose other ends are gone since a long time"),
            });
        }
        if self.checks.claims().is_restless {
            return Ok(());
        }
        for replica in 0..self.scenario.replicas {
            let Some(db) = self.group.db(replica) else {
                continue;
            };
            let neighbours =
                (0..self.scenario.replicas).filter(|other| self.scenario.connects(replica, *other));
            let (connected, wanted) = (db.status().peers.len(), neighbours.count());
            if connected < wanted {
                self.checks.found(Violation {
                    invariant: "connected",
                    what: format!(
                        "{} has {connected} of {wanted} connections at rest",
                        self.group.name(replica)
                    ),
                });
            }
        }
        Ok(())
    }

    /// Each reader still gets blocks, and all that any got are those of the log.
    fn read_by_readers(&mut self) -> Result<(), SimError> {
        let is_claimed = self.checks.claims().is_whole() && !self.checks.claims().is_restless;
        let before = self.readers.reads().len();
        let limit = self.world.now() + READ_LIMIT;
        let waiting = |simulation: &Self| {
            let reads = simulation.readers.reads();
            (0..simulation.readers.count()).find(|number| {
                let log = simulation.group.local_key(simulation.scenario.reader[*number].of);
                log.is_some_and(|log| simulation.stored(&log, 0).is_some())
                    && !reads[before..].iter().any(|read| read.reader == *number)
            })
        };
        while is_claimed && let Some(number) = waiting(self) {
            if self.world.now() >= limit {
                self.checks.found(Violation {
                    invariant: "reads",
                    what: format!("{} gets no block in {READ_LIMIT:?}", reader::name(number)),
                });
                return Ok(());
            }
            self.world.run_for(COMPARE_EVERY)?;
        }
        if self.checks.claims().may_fork() {
            return Ok(());
        }
        for read in self.readers.reads() {
            if let Some(block) = self.stored(&read.core, read.index)
                && block != read.block
            {
                self.checks.found(Violation {
                    invariant: "reads",
                    what: format!(
                        "{} got another block {} of a log than is stored",
                        reader::name(read.reader),
                        read.index
                    ),
                });
            }
        }
        Ok(())
    }

    /// A block of a log, as any replica stores it.
    fn stored(&self, core: &CoreKey, index: u64) -> Option<Bytes> {
        (0..self.scenario.replicas).find_map(|replica| {
            // Only where it is open: asking for another one would make it.
            let is_open = self.group.db(replica)?.cores().contains(core);
            let store = self.group.store(replica).filter(|_| is_open)?;
            let core = at_once(store.get(CoreOptions::key(*core)))?.ok()?;
            at_once(core.get_stored(index, Wait::Local))?.ok()
        })
    }

    /// A stranger that was let in was acknowledged by a member, where nothing kept members from it.
    fn answered(&mut self) {
        let is_calm = |event: &crate::scenario::Event| {
            matches!(
                event.action,
                Action::Ack { .. } | Action::Heal | Action::Path { .. }
            )
        };
        if !self.scenario.event.iter().all(is_calm) || !self.scenario.hostile.is_empty() {
            return;
        }
        let looks = self.take_looks();
        for replica in &looks {
            let Some(look) = replica.look.as_ref().filter(|look| look.is_writable) else {
                continue;
            };
            let asks = |head: &Link| {
                let block = look.logs.get(&head.key)?.block(head.length)?;
                let block = OplogBlock::from_bytes(block).ok()?;
                let op: Op = serde_json::from_slice(&block.value?).ok()?;
                (block.optimistic && op.ack.as_deref() == Some(SELF)).then_some(())
            };
            if let Some(head) = look
                .heads
                .iter()
                .find(|head| head.key != look.local && asks(head).is_some())
            {
                self.checks.found(Violation {
                    invariant: "answered",
                    what: format!(
                        "{} let a stranger in with block {} of its log, and no member acknowledges that",
                        replica.name, head.length
                    ),
                });
                return;
            }
        }
    }

    /// How long it may take until everybody has noticed that a connection is dead, and connected again.
    ///
    /// Twice a silence: a frame that never ends is looked at once a silence would be over, and begins anywhere in that
    /// time. A handshake whose bytes were flipped before the heal has its own limit.
    fn silence(&self) -> Duration {
        let silence = (0..self.scenario.replicas)
            .map(|replica| self.group.settings(replica))
            .map(|settings| settings.silence_ms_max.max(settings.handshake_ms_max))
            .max();
        Duration::from_millis(2 * silence.unwrap_or(0)) + RECONNECT
    }

    /// True when cores of strangers take turns, of which each is looked at for a while, or an entry waits for its time.
    fn has_turns(&self, replica: usize) -> bool {
        let held = self.group.db(replica).and_then(|db| sim_hooks::held(&db).ok());
        held.is_some_and(|held| held.sizes.strangers_waiting > 0 || held.waits_until.is_some())
    }

    /// Each member that is there writes once more: what strangers wrote and was accepted is linked by members then.
    fn pin(&mut self) -> Result<(), SimError> {
        for replica in 0..self.scenario.replicas {
            let Some(db) = self.group.db(replica).filter(|db| db.writable()) else {
                continue;
            };
            if self.group.is_lost(replica) {
                continue;
            }
            let value = Op::put("pin", self.group.name(replica)).to_value();
            let value = Bytes::from(value);
            let (key, values) = (db.local(), vec![value.clone()]);
            let appended = self
                .world
                .block_on_for(self.group.id(replica), CALL_LIMIT, async move {
                    db.append(value).await
                })?;
            match appended {
                Ok(length) => self.group.acknowledge(Acknowledged {
                    replica,
                    key,
                    length,
                    values,
                }),
                Err(error) => self.group.append_failed(replica, &error),
            }
        }
        Ok(())
    }

    /// Nothing happens any more, once all agree: nothing is applied, and messages are keep-alives.
    fn rest(&mut self) -> Result<(), SimError> {
        // Where replicas need not agree nobody has waited yet for what is on its way, nor for who has to notice first that
        // its connection is dead.
        if self.checks.claims().may_disagree {
            self.world.run_for(self.silence())?;
        }
        let limit = self.world.now() + Duration::from_millis(self.scenario.converge_ms);
        while self.checks.claims().may_disagree && self.world.now() < limit {
            let before = self.activity();
            self.world.run_for(SETTLE)?;
            if self.activity() == before {
                break;
            }
        }
        self.world.run_for(SETTLE)?;
        let before: Vec<_> = self.activity();
        let turns: Vec<bool> = (0..self.scenario.replicas)
            .map(|replica| self.has_turns(replica))
            .collect();
        let (traffic, opened) = (self.world.delivered(), self.world.opened());
        self.world.run_for(QUIET)?;
        let after = self.activity();
        let traffic = self.world.delivered().saturating_sub(traffic);
        let opened = self.world.opened().saturating_sub(opened);
        if opened > 0 && !self.checks.claims().is_restless {
            self.checks.found(Violation {
                invariant: "quiet",
                what: format!("{opened} connections were made in {QUIET:?} of rest"),
            });
        }
        for (replica, (before, after)) in before.iter().zip(&after).enumerate() {
            if before != after && !turns[replica] {
                self.checks.found(Violation {
                    invariant: "quiet",
                    what: format!(
                        "{} goes on applying at rest: {before:?}, then {after:?}",
                        self.group.name(replica)
                    ),
                });
            }
        }
        let most = self.deliveries_max();
        if traffic > most && !self.checks.claims().is_restless && !turns.contains(&true) {
            self.checks.found(Violation {
                invariant: "quiet",
                what: format!("{traffic} messages in {QUIET:?} of rest, with keep-alives {most} at most"),
            });
        }
        Ok(())
    }

    /// Deliveries of keep-alives on all connections, in both directions, while nothing else is sent. Chopped paths need
    /// several for one.
    fn deliveries_max(&self) -> u64 {
        let keep_alive = self.group.settings(0).keep_alive_ms.max(1);
        let turns = u64::try_from(QUIET.as_millis()).unwrap_or(u64::MAX) / keep_alive + 2;
        let pairs = (0..self.scenario.replicas)
            .flat_map(|a| (0..a).map(move |b| (a, b)))
            .filter(|(a, b)| self.scenario.connects(*a, *b))
            .count();
        turns * 2 * pairs as u64 * KEEP_ALIVE_DELIVERIES
    }

    fn activity(&self) -> Vec<Option<(u64, u64)>> {
        let activity = |replica| {
            let db = self.group.db(replica)?;
            Some((db.stats().applies, db.stats().undos))
        };
        (0..self.scenario.replicas).map(activity).collect()
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
