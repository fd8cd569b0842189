//! The end of a run: everything is healed, all must agree, be connected and quiet, and be the same after they were started
//! again.

use std::time::Duration;

use autobee::crypto::CoreKey;
use autobee::db::{Durability, sim_hooks};
use autobee::env::Env as _;
use autobee::hypercore::{CoreOptions, Wait};
use autobee::wire::oplog::OplogBlock;
use autobee::wire::{Decode as _, Index, Link};
use bytes::Bytes;

use super::cores::check_cores;
use super::files::check_files;
use super::group::Group;
use super::look::at_once;
use super::trees::check_trees;
use super::{CALL_LIMIT, SimError, Simulation};
use crate::disk::DiskFaults;
use crate::invariant::{
    Acknowledged, Claims, Healing, ReplicaLook, Violation, gathering, remembered, reopened,
};
use crate::network::PathConfig;
use crate::reader;
use crate::replica::Crash;
use crate::scenario::Action;
use crate::simulated_world::SimulatedWorld;
use crate::workload::{Op, SELF};

/// How often, in virtual time, replicas are compared once everything is healed.
const COMPARE_EVERY: Duration = Duration::from_millis(200);

/// How long what is written at rest may take to be everywhere: a half of the time after which is asked again what nobody
/// answers.
const PROMPT: Duration = Duration::from_secs(15);

/// How long what is under way may take to end, once all agree.
const SETTLE: Duration = Duration::from_secs(8);

/// How long a peer that lost its connection may take to get another one.
const RECONNECT: Duration = Duration::from_secs(2);

/// How long a reader may wait for a block, once all agree.
const READ_LIMIT: Duration = Duration::from_secs(30);

/// How long a replica may take to fetch the rest of a log beside the database, once all agree.
const FOLLOW_LIMIT: Duration = Duration::from_secs(30);

/// How often each member writes once all agree.
const PIN_ROUNDS: usize = 3;

/// How long a database that was opened again may take to go through what it has: a link to a first block waits for five
/// seconds before it is known not to be to an anchor.
const REOPEN: Duration = Duration::from_secs(6);

/// How long it must be quiet then.
const QUIET: Duration = Duration::from_secs(20);

/// Deliveries that one keep-alive may need on a path that chops.
const KEEP_ALIVE_DELIVERIES: u64 = 8;

impl<S: SimulatedWorld> Simulation<'_, S> {
    /// Checks each replica, until something is found.
    fn check_each(
        &mut self,
        looks: &[ReplicaLook],
        check: impl Fn(&Group<S::Env>, &ReplicaLook, &Claims) -> Option<Violation>,
    ) {
        let found = self.observe(|simulation| {
            let (group, claims) = (&simulation.group, simulation.checks.claims());
            looks.iter().find_map(|replica| check(group, replica, claims))
        });
        if let Some(violation) = found {
            self.checks.found(violation);
        }
    }

    /// Ends all faults but those that last.
    pub(super) fn heal(&mut self) {
        self.healed = Some((self.world.now(), self.undos()));
        if let Some(recorder) = &self.recorder {
            recorder.heals(self.world.now());
        }
        self.group.disarm();
        self.group.side_cores().settle();
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
    pub(super) fn converge(&mut self) -> Result<(), SimError> {
        let most = Duration::from_millis(self.scenario.converge_ms);
        if !self.agree(most)? || !self.subject.is_reference() {
            return Ok(());
        }
        self.checks.gathering(self.gathering());
        self.answered();
        self.connected()?;
        let agreed = self.take_looks();
        // What a grant owes takes a round of appends each to be attested, claimed, and recorded.
        for _ in 0..PIN_ROUNDS {
            self.pin()?;
            if !self.agree(if self.is_calm() { most.min(PROMPT) } else { most })? {
                return Ok(());
            }
        }
        self.read_by_readers()?;
        self.follow_side_cores()?;
        self.ask(&agreed)?;
        // They do not keep quiet either.
        self.hostiles.end(&self.world);
        self.readers.end(&self.world);
        self.rest()?;
        let looks = self.take_looks();
        let verify = self.world.env(self.group.id(0)).crypto().clone();
        self.checks.end(&self.group, &looks, self.world.now(), &verify);
        self.check_each(&looks, check_trees);
        self.check_each(&looks, check_cores);
        self.check_each(&looks, |group, replica, claims| {
            check_files(group, replica, claims, true)
        });
        if self.checks.is_clean() {
            self.rebuilt()?;
        }
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
        // Half of them also lose what was not synced: that may be blocks of others, which can be fetched again.
        let loses_power: Vec<bool> = (0..self.scenario.replicas)
            .map(|replica| {
                let is_durable = self.group.settings(replica).durability == Durability::Durable;
                replica % 2 == 1 && is_durable && !claims.forgetful.contains(&replica)
            })
            .collect();
        for (replica, loses_power) in loses_power.iter().enumerate() {
            if self.group.db(replica).is_some() {
                let how = match loses_power {
                    true => Crash::PowerLoss,
                    false => Crash::Kill,
                };
                self.group.crash(&self.world, replica, how);
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
        self.check_each(&after, check_cores);
        self.check_each(&after, |group, replica, claims| {
            check_files(group, replica, claims, false)
        });
        for (before, after) in before.iter().zip(&after) {
            let found = match loses_power[before.replica] {
                true => remembered(before, after),
                false => reopened(before, after),
            };
            if let Some(what) = found {
                self.checks.found(Violation {
                    invariant: "reopened",
                    what: format!("{} was started again without peers: {what}", before.name),
                });
            }
        }
        Ok(())
    }

    /// True when all reach each other by the usual network, and nobody is there who keeps them busy.
    fn is_calm(&self) -> bool {
        let claims = self.checks.claims();
        let is_whole = claims.is_whole() && !claims.may_disagree && !claims.is_restless;
        is_whole
            && claims.hostile == 0
            && claims.lost.is_empty()
            && self.scenario.network == PathConfig::default()
    }

    /// Waits until all agree, at most for this time; false when they do not.
    fn agree(&mut self, most: Duration) -> Result<bool, SimError> {
        let limit = self.world.now() + most;
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

    /// Whoever follows a log beside the database has all of it.
    fn follow_side_cores(&mut self) -> Result<(), SimError> {
        let side_cores = self.group.side_cores();
        let is_claimed = self.checks.claims().hostile == 0;
        let limit = self.world.now() + FOLLOW_LIMIT;
        let what = loop {
            let wrong = side_cores.take_wrong();
            if wrong.is_some() {
                break wrong;
            }
            let group = &self.group;
            let behind = side_cores.behind(|replica| group.db(replica).is_some());
            match behind.filter(|_| is_claimed) {
                Some(_) if self.world.now() < limit => self.world.run_for(COMPARE_EVERY)?,
                behind => break behind,
            }
        };
        side_cores.end();
        if let Some(what) = what {
            let invariant = "side cores";
            self.checks.found(Violation { invariant, what });
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
            at_once(core.get_stored(Index(index), Wait::Local))?.ok()
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
        // Views may still be compared for what was written last.
        let compare_ms = (0..self.scenario.replicas)
            .map(|replica| self.group.settings(replica).compare_ms)
            .max();
        let compared = Duration::from_millis(compare_ms.unwrap_or(0)) + RECONNECT;
        self.world.run_for(SETTLE.max(compared))?;
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
    pub(super) fn undos(&self) -> Vec<u64> {
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
}
