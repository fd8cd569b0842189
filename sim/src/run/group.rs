//! The replicas of a run: their processes, what is known of them, and what befalls them.

mod connections;
mod program;
mod strangers;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use autobee::crypto::CoreKey;
use autobee::db::{Appended, Autobee, View};
use autobee::env::{Clock as _, Env, Spawn as _};
use autobee::{Corestore, Error, ErrorKind, Settings};
use bytes::Bytes;

use crate::disk::{CrashPointStage, DiskOp, DiskSnapshot, SimDisk};
use crate::hostile::Ledger;
use crate::invariant::{Acknowledged, Claims, Seen, Violation};
use crate::replica::{Crash, ReplicaId};
use crate::scenario::{Action, Scenario};
use crate::side_core::SideCores;
use crate::simulated_world::SimulatedWorld;
use crate::world::NameError;

use super::subject::Subject;

/// How long a replica that apply stopped goes on answering before its program ends.
const INTERRUPTED: Duration = Duration::from_millis(500);

/// The key of every encrypted database of a simulation.
pub(crate) const ENCRYPTION_KEY: [u8; 32] = [7; 32];

/// Handles to all replicas. Clones share them.
pub(super) struct Group<E: Env>(Arc<Mutex<Members<E>>>);

/// A handle to a group that does not keep it.
pub(super) struct WeakGroup<E: Env>(Weak<Mutex<Members<E>>>);

struct Members<E: Env> {
    replicas: Vec<Member<E>>,
    /// The database that everybody joins.
    database: Option<CoreKey>,
    scenario: Scenario,
    claims: Claims,
    acknowledged: Arc<Vec<Acknowledged>>,
    failures: Vec<Violation>,
    /// All faults are over.
    is_healed: bool,
    /// The cores of the trees of all: what is read of a database that went on from the trees of another may be in any of
    /// them, as that one may have gone on from a third.
    tree_cores: BTreeSet<CoreKey>,
    ledger: Ledger,
    side_cores: SideCores,
    subject: Arc<dyn Subject>,
}

struct Member<E: Env> {
    id: ReplicaId,
    name: String,
    booted: bool,
    /// How often it was started.
    life: u32,
    /// It went on from the trees of a member, in this life or an earlier one.
    has_moved: bool,
    /// It is told at the next start that its directory is an older copy.
    is_restored: bool,
    /// Peers may have more of its log than it has, as it said last.
    is_in_doubt: bool,
    /// Virtual time from which its clock counts.
    since: Duration,
    /// That of its latest start.
    disk: SimDisk,
    /// Nobody starts it again.
    is_lost: bool,
    settings: Settings,
    /// Of its apply, as its program says.
    apply_version: u64,
    db: Option<Autobee<E>>,
    store: Option<Corestore<E>>,
    /// What of its own trees kept it from opening when it was tried last, since its latest start.
    unopened: Option<String>,
    /// The key of its writer, once it ran.
    local: Option<CoreKey>,
    former: BTreeSet<CoreKey>,
    /// What was injected into its disk may have made calls fail since it was started.
    is_disk_faulty: bool,
    /// Its next call of apply stops it.
    interrupt: Arc<AtomicBool>,
    /// Apply stopped it: its calls fail until it is started again.
    is_interrupted: bool,
    /// A call of it failed because of the disk: it has to be started again.
    is_broken: bool,
    backup: Option<DiskSnapshot>,
    /// Its power is lost once an append returns.
    blackout: Blackout,
    /// Behind which call of its disk its power goes: a call of this kind, after so many others.
    crash_point: Option<(DiskOp, u32)>,
    seen: Seen,
    /// An earlier version of the view, with what was in it.
    earlier: Option<(View, Entries)>,
}

/// Keys with their values, in order.
pub(super) type Entries = Arc<Vec<(Bytes, Bytes)>>;

/// Whether the end of an append takes the power of a replica.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Blackout {
    #[default]
    No,
    Armed,
    Due,
}

impl<E: Env> Group<E> {
    pub(super) fn new(
        world: &impl SimulatedWorld<Env = E>,
        scenario: &Scenario,
        subject: Arc<dyn Subject>,
    ) -> Result<Self, NameError> {
        // A scenario that was loaded or generated has settings that can be.
        let settings = scenario.replica_settings().unwrap_or_default();
        let member = |number| {
            let name = format!("r{number}");
            let id = world.add_replica(&name)?;
            Ok(Member {
                id,
                disk: world.disk(id),
                name,
                booted: false,
                life: 0,
                has_moved: false,
                is_restored: false,
                is_in_doubt: false,
                since: world.now(),
                is_lost: false,
                settings: settings.clone(),
                apply_version: 0,
                db: None,
                store: None,
                unopened: None,
                local: None,
                former: BTreeSet::new(),
                is_disk_faulty: false,
                interrupt: Arc::default(),
                is_interrupted: false,
                is_broken: false,
                backup: None,
                blackout: Blackout::No,
                crash_point: None,
                seen: Seen::default(),
                earlier: None,
            })
        };
        let replicas = (0..scenario.replicas)
            .map(member)
            .collect::<Result<_, NameError>>()?;
        let claims = Claims::new(scenario);
        let members = Members {
            replicas,
            database: None,
            scenario: scenario.clone(),
            side_cores: SideCores::new(scenario, &claims),
            claims,
            acknowledged: Arc::default(),
            failures: Vec::new(),
            is_healed: false,
            tree_cores: BTreeSet::new(),
            ledger: Ledger::new(&scenario.hostile),
            subject,
        };
        Ok(Self(Arc::new(Mutex::new(members))))
    }

    /// The logs beside the database.
    pub(super) fn side_cores(&self) -> SideCores {
        self.lock().side_cores.clone()
    }

    // Processes.

    /// Starts the program of a replica for the first time.
    pub(super) fn boot(&self, world: &impl SimulatedWorld<Env = E>, replica: usize) {
        let id = {
            let mut members = self.lock();
            let member = &mut members.replicas[replica];
            if std::mem::replace(&mut member.booted, true) {
                return;
            }
            member.id
        };
        let group = self.clone();
        world.boot(id, move |env| group.clone().program(env, replica));
    }

    /// True when the program of a replica was started, whatever became of it.
    pub(super) fn has_run(&self, replica: usize) -> bool {
        self.lock().replicas[replica].booted
    }

    pub(super) fn crash(&self, world: &impl SimulatedWorld<Env = E>, replica: usize, how: Crash) {
        let handles = {
            let member = &mut self.lock().replicas[replica];
            member.seen = Seen::default();
            (member.db.take(), member.store.take(), member.earlier.take())
        };
        world.crash(self.id(replica), how);
        drop(handles);
    }

    /// Ends a replica for good.
    pub(super) fn lose(&self, world: &impl SimulatedWorld<Env = E>, replica: usize, how: Crash) {
        self.lock().replicas[replica].is_lost = true;
        self.crash(world, replica, how);
    }

    /// Whether a replica is told, when it starts the next time, that its directory is an older copy.
    pub(super) fn tell_restored(&self, replica: usize, is_restored: bool) {
        let member = &mut self.lock().replicas[replica];
        (member.is_restored, member.is_in_doubt) = (is_restored, false);
    }

    /// Starts a crashed replica again; one that never ran or is lost stays down, one that runs goes on.
    pub(super) fn restart(&self, world: &impl SimulatedWorld<Env = E>, replica: usize) {
        let (id, is_lost) = {
            let member = &self.lock().replicas[replica];
            (member.id, member.is_lost)
        };
        if !is_lost && !world.is_up(id) {
            {
                let member = &mut self.lock().replicas[replica];
                member.is_broken = false;
                member.is_interrupted = member.interrupt.load(Ordering::Relaxed);
                member.since = world.now();
                member.disk = world.disk(id);
            }
            world.restart(id);
        }
    }

    /// Apply stopped a replica. Its program ends when whoever watches it has seen so.
    fn interrupted(&self, env: &E, replica: usize, life: u32) {
        let group = self.clone();
        let clock = env.clock().clone();
        env.spawn().spawn("supervise", async move {
            clock.sleep(INTERRUPTED).await;
            let member = &mut group.lock().replicas[replica];
            member.is_broken |= member.life == life;
        });
    }

    /// The next call of apply at a replica stops it.
    pub(super) fn interrupt(&self, replica: usize) {
        let member = &mut self.lock().replicas[replica];
        member.interrupt.store(true, Ordering::Relaxed);
        member.is_interrupted = true;
    }

    /// An append of a replica was answered that it made in this life.
    pub(super) fn answered(&self, replica: usize, life: u32, appended: &Appended) {
        self.see(replica, life, |seen| seen.answered(appended));
    }

    fn see(&self, replica: usize, life: u32, note: impl FnOnce(&mut Seen)) {
        let member = &mut self.lock().replicas[replica];
        if member.life == life && member.db.is_some() {
            note(&mut member.seen);
        }
    }

    // What is known of them.

    pub(super) fn subject(&self) -> Arc<dyn Subject> {
        Arc::clone(&self.lock().subject)
    }

    pub(super) fn id(&self, replica: usize) -> ReplicaId {
        self.lock().replicas[replica].id
    }

    pub(super) fn name(&self, replica: usize) -> String {
        self.lock().replicas[replica].name.clone()
    }

    pub(super) fn life(&self, replica: usize) -> u32 {
        self.lock().replicas[replica].life
    }

    /// The cores in which trees may be that a replica went on from, once it did.
    fn moved_onto(&self, replica: usize) -> Option<BTreeSet<CoreKey>> {
        self.has_moved(replica).then(|| self.lock().tree_cores.clone())
    }

    /// True when it went on from the trees of others.
    pub(super) fn has_moved(&self, replica: usize) -> bool {
        let member = &mut self.lock().replicas[replica];
        // Before anybody could listen it may have moved, too.
        let moves = member.db.as_ref().map_or(0, |db| db.stats().fast_forwards);
        member.has_moved |= moves > 0;
        member.has_moved
    }

    pub(super) fn is_lost(&self, replica: usize) -> bool {
        self.lock().replicas[replica].is_lost
    }

    pub(super) fn db(&self, replica: usize) -> Option<Autobee<E>> {
        self.lock().replicas[replica].db.clone()
    }

    /// What of its own trees kept a replica from opening when it was tried last, since its latest start.
    pub(super) fn unopened(&self, replica: usize) -> Option<String> {
        self.lock().replicas[replica].unopened.clone()
    }

    pub(super) fn seen(&self, replica: usize) -> Seen {
        self.lock().replicas[replica].seen.clone()
    }

    /// An earlier version of the view of a replica that stayed up, with what was in it.
    pub(super) fn earlier(&self, replica: usize) -> Option<(View, Entries)> {
        self.lock().replicas[replica].earlier.clone()
    }

    pub(super) fn keep_earlier(&self, replica: usize, view: View, entries: Entries) {
        let member = &mut self.lock().replicas[replica];
        if member.db.is_some() {
            member.earlier = Some((view, entries));
        }
    }

    /// True while faults of its disk may fail calls of a replica.
    pub(super) fn is_disk_faulty(&self, replica: usize) -> bool {
        let members = self.lock();
        members.replicas[replica].is_disk_faulty || members.claims.damaged.contains(&replica)
    }

    pub(super) fn settings(&self, replica: usize) -> Settings {
        self.lock().replicas[replica].settings.clone()
    }

    pub(super) fn set_settings(&self, replica: usize, settings: Settings) {
        self.lock().replicas[replica].settings = settings;
    }

    /// From its next start on its apply says that it is of another version, if one is given.
    pub(super) fn set_apply_version(&self, replica: usize, version: Option<u64>) {
        let member = &mut self.lock().replicas[replica];
        member.apply_version = version.unwrap_or(member.apply_version);
    }

    /// The disk of a replica.
    pub(super) fn disk(&self, replica: usize) -> SimDisk {
        self.lock().replicas[replica].disk.clone()
    }

    pub(super) fn store(&self, replica: usize) -> Option<Corestore<E>> {
        self.lock().replicas[replica].store.clone()
    }

    pub(super) fn database(&self) -> Option<CoreKey> {
        self.lock().database
    }

    /// Another log is a replica's writer's now.
    pub(super) fn rotated(&self, replica: usize, to: CoreKey) {
        let member = &mut self.lock().replicas[replica];
        let from = member.local.replace(to);
        member.former.extend(from.filter(|from| *from != to));
        member.former.remove(&to);
    }

    /// Logs that were a replica's writer's before it was `local`, also when the call that turned to that did not return
    /// yet.
    pub(super) fn former(&self, replica: usize, local: CoreKey) -> BTreeSet<CoreKey> {
        let member = &self.lock().replicas[replica];
        let mut former = member.former.clone();
        former.extend(member.local);
        former.remove(&local);
        former
    }

    /// The directory of a replica is gone, with what it wrote.
    pub(super) fn forget_former(&self, replica: usize) {
        let member = &mut self.lock().replicas[replica];
        member.former.clear();
        member.is_in_doubt = false;
    }

    /// The key of a replica's writer; none before it ran for the first time.
    pub(super) fn local_key(&self, replica: usize) -> Option<CoreKey> {
        self.lock().replicas[replica].local
    }

    /// The accounts of hostile peers.
    pub(super) fn ledger(&self) -> Ledger {
        self.lock().ledger.clone()
    }

    pub(super) fn encryption(&self) -> Option<[u8; 32]> {
        self.lock().scenario.encrypted.then_some(ENCRYPTION_KEY)
    }

    pub(super) fn takes_strangers(&self) -> bool {
        !self.lock().scenario.members_only
    }

    pub(super) fn keep_backup(&self, replica: usize, backup: DiskSnapshot) {
        self.lock().replicas[replica].backup = Some(backup);
    }

    pub(super) fn backup(&self, replica: usize) -> Option<DiskSnapshot> {
        self.lock().replicas[replica].backup.clone()
    }

    // What befalls them.

    /// From now on calls of a replica may fail because of its disk.
    pub(super) fn expect_disk_faults(&self, replica: usize) {
        self.lock().replicas[replica].is_disk_faulty = true;
    }

    /// The disk is sound. True when the replica has to be started again, because it may have met faults before.
    pub(super) fn forgive_disk(&self, replica: usize) -> bool {
        let mut members = self.lock();
        let member = &mut members.replicas[replica];
        std::mem::take(&mut member.is_disk_faulty)
    }

    /// True when a call failed for the disk, so that the replica has to be started again.
    pub(super) fn is_broken(&self, replica: usize) -> bool {
        self.lock().replicas[replica].is_broken
    }

    pub(super) fn acknowledge(&self, entry: Acknowledged) {
        let mut members = self.lock();
        let member = &mut members.replicas[entry.replica];
        if member.blackout == Blackout::Armed {
            member.blackout = Blackout::Due;
        }
        Arc::make_mut(&mut members.acknowledged).push(entry);
    }

    /// The next append that returns at a replica takes its power.
    pub(super) fn arm(&self, replica: usize) {
        self.lock().replicas[replica].blackout = Blackout::Armed;
    }

    /// True while the power of some replica waits for an append.
    pub(super) fn is_armed(&self) -> bool {
        let members = self.lock();
        members
            .replicas
            .iter()
            .any(|member| member.blackout != Blackout::No)
    }

    /// Replicas whose power is to be cut now.
    pub(super) fn take_due(&self) -> Vec<usize> {
        let mut members = self.lock();
        let due = |(replica, member): (usize, &mut Member<E>)| {
            let is_due = member.blackout == Blackout::Due;
            if is_due {
                member.blackout = Blackout::No;
            }
            is_due.then_some(replica)
        };
        members.replicas.iter_mut().enumerate().filter_map(due).collect()
    }

    /// A call of the disk of a replica takes its power.
    pub(super) fn set_crash_point(&self, replica: usize, op: DiskOp, left: u32) {
        self.lock().replicas[replica].crash_point = Some((op, left));
    }

    /// Has disks know behind which calls their power goes. Nothing else may run the world meanwhile.
    pub(super) fn arm_crash_points(&self, world: &impl SimulatedWorld<Env = E>) {
        let Some(interrupt) = world.interrupt() else {
            return;
        };
        for member in &self.lock().replicas {
            if let Some((op, left)) = member.crash_point {
                let disk = world.disk(member.id);
                disk.set_crash_point(op, left, Arc::clone(&interrupt));
            }
        }
    }

    /// Replicas whose power went behind a call of their disk. Disks know of none any more.
    pub(super) fn take_struck(&self, world: &impl SimulatedWorld<Env = E>) -> Vec<usize> {
        let mut members = self.lock();
        let struck = |(replica, member): (usize, &mut Member<E>)| {
            let stage = world.disk(member.id).take_crash_point()?;
            member.crash_point = match (stage, member.crash_point) {
                (CrashPointStage::Left(left), Some((op, _))) => Some((op, left)),
                _ => None,
            };
            (stage == CrashPointStage::Struck).then_some(replica)
        };
        members
            .replicas
            .iter_mut()
            .enumerate()
            .filter_map(struck)
            .collect()
    }

    /// True when all faults are over.
    pub(super) fn is_healed(&self) -> bool {
        self.lock().is_healed
    }

    /// Neither an append nor a call of a disk takes power any more, apply stops nobody, and peers are no longer let go.
    pub(super) fn disarm(&self) {
        let mut members = self.lock();
        members.is_healed = true;
        for member in &mut members.replicas {
            member.interrupt.store(false, Ordering::Relaxed);
            member.blackout = Blackout::No;
            member.crash_point = None;
        }
    }

    pub(super) fn acknowledged(&self) -> Arc<Vec<Acknowledged>> {
        Arc::clone(&self.lock().acknowledged)
    }

    /// Notes why an append failed, unless that was to be expected.
    pub(super) fn append_failed(&self, replica: usize, error: &Error) {
        if matches!(error.kind(), ErrorKind::Denied | ErrorKind::Closed) {
            return;
        }
        if self.excuses(replica, error) {
            self.lock().replicas[replica].is_broken = true;
        } else {
            self.fail(replica, "append", error);
        }
    }

    /// True for an error that a faulty disk explains, or a log that somebody else wrote to.
    fn excuses(&self, replica: usize, error: &Error) -> bool {
        let forges = |event: &crate::scenario::Event| matches!(event.action, Action::Forge { by, .. } if by == replica);
        if error.kind() == ErrorKind::Corrupt && self.lock().scenario.event.iter().any(forges) {
            return true;
        }
        if error.kind() == ErrorKind::Interrupted && self.lock().replicas[replica].is_interrupted {
            return true;
        }
        let is_of_disk = matches!(
            error.kind(),
            ErrorKind::Disk | ErrorKind::Interrupted | ErrorKind::Corrupt | ErrorKind::Internal
        );
        let members = self.lock();
        is_of_disk && (members.replicas[replica].is_disk_faulty || members.claims.damaged.contains(&replica))
    }

    pub(super) fn failures(&self) -> Vec<Violation> {
        self.lock().failures.clone()
    }

    fn fail(&self, replica: usize, what: &str, error: &Error) {
        let what = format!("{what} at {}: {error}", self.name(replica));
        self.lock().failures.push(Violation {
            invariant: "no failure",
            what,
        });
    }

    fn lock(&self) -> MutexGuard<'_, Members<E>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Env> Clone for Group<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: Env> Group<E> {
    /// A handle that does not keep the databases.
    pub(super) fn downgrade(&self) -> WeakGroup<E> {
        WeakGroup(Arc::downgrade(&self.0))
    }
}

impl<E: Env> WeakGroup<E> {
    /// The group, as long as somebody keeps it.
    pub(super) fn upgrade(&self) -> Option<Group<E>> {
        self.0.upgrade().map(Group)
    }
}
