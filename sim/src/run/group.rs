//! The replicas of a run: processes that open the database, listen, and dial each other until they are connected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use autobee::bee::Range;
use autobee::crypto::CoreKey;
use autobee::db::{AllMembers, Appended, Autobee, Event, FastForward, Role, View};
use autobee::env::{Clock as _, Env, Listener as _, Network as _, PeerAddr, Spawn as _};
use autobee::{Corestore, Error, ErrorKind, Settings};
use bytes::Bytes;

use crate::disk::{CrashPointStage, DiskOp, DiskSnapshot, SimDisk};
use crate::hostile::Ledger;
use crate::invariant::{Acknowledged, Claims, Seen, Violation};
use crate::replica::{Crash, ReplicaId};
use crate::scenario::{Action, Scenario};
use crate::side_core::SideCores;
use crate::simulated_world::SimulatedWorld;
use crate::workload::JsonApply;
use crate::world::NameError;

use super::archive::Archive;
use super::subject::{Erased, Now, Subject};

/// So many changes one event of a watch has at most, at every second replica.
const WATCHED_AT_ONCE: u64 = 2;

/// How long a replica waits before it dials a peer again.
const REDIAL: Duration = Duration::from_millis(250);

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
                since: world.now(),
                is_lost: false,
                settings: settings.clone(),
                apply_version: 0,
                db: None,
                store: None,
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
        self.lock().replicas[replica].is_restored = is_restored;
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

    /// What a replica does: open, listen, dial everybody who comes after it and is to be dialled.
    async fn program(self, env: E, replica: usize) {
        let (name, life) = {
            let mut members = self.lock();
            let member = &mut members.replicas[replica];
            member.life += 1;
            (member.name.clone(), member.life)
        };
        let (db, store) = loop {
            match self.open(env.clone(), &name, replica).await {
                Ok(opened) => break opened,
                Err(error) if self.excuses(replica, &error) => env.clock().sleep(REDIAL).await,
                Err(error) => return self.fail(replica, "open", &error),
            }
        };
        {
            let mut members = self.lock();
            members.database.get_or_insert(db.key());
            members.replicas[replica].local = Some(db.local());
            members.replicas[replica].db = Some(db.clone());
            members.replicas[replica].store = Some(store.clone());
            let trees = db.views().into_iter().flatten();
            members.tree_cores.extend(trees.map(|core| core.key));
        }
        self.subject().opened(replica, db.local());
        let watching = self.clone();
        env.spawn()
            .spawn("watch", watching.watch(env.clone(), db.clone(), replica, life));
        let listening = self.clone();
        env.spawn()
            .spawn("events", listening.listen(env.clone(), db.clone(), replica, life));
        self.side_cores().start(&env, &store, replica);
        if self.lock().scenario.forward.contains(&replica) {
            let has_logs = !self.lock().scenario.passing.contains(&replica);
            let archive = Archive {
                db: db.clone(),
                store: store.clone(),
                has_logs,
            };
            let moved_onto = self.clone();
            let archiving = archive.run(env.clone(), move || moved_onto.moved_onto(replica));
            env.spawn().spawn("archive", archiving);
        }
        let peers: Vec<String> = {
            let members = self.lock();
            let all = members.replicas.iter().enumerate().skip(replica + 1);
            let dialled = all.filter(|(peer, _)| members.scenario.connects(replica, *peer));
            dialled.map(|(_, peer)| peer.name.clone()).collect()
        };
        for peer in peers {
            env.spawn().spawn("dial", dial(env.clone(), db.clone(), peer));
        }
        let Ok(mut listener) = env.network().listen(&PeerAddr::new(name)).await else {
            return;
        };
        let ledger = self.ledger();
        loop {
            match listener.accept().await {
                Ok((stream, from)) => match db.replicate(stream, Role::Responder) {
                    Ok(session) => ledger.watch(&env, &from, session),
                    Err(_) => return,
                },
                // A peer that went away while it was accepted says nothing about the next one.
                Err(_) => env.clock().sleep(REDIAL).await,
            }
        }
    }

    async fn open(&self, env: E, name: &str, replica: usize) -> Result<(Autobee<E>, Corestore<E>), Error> {
        let store = Corestore::open_default(env.clone()).await?;
        let (settings, encrypted, optimistic, rules, forward, since) = {
            let members = self.lock();
            let settings = members.replicas[replica].settings.clone();
            (
                settings,
                members.scenario.encrypted,
                !members.scenario.members_only,
                members.scenario.rules(),
                members.scenario.forward.contains(&replica),
                members.replicas[replica].since,
            )
        };
        let clock = env.clock().clone();
        let now: Now = Arc::new(move || since + Duration::from_nanos(clock.now().0));
        let started = self.subject().start(replica, now);
        let (interrupt, apply_version) = {
            let members = self.lock();
            let member = &members.replicas[replica];
            (Arc::clone(&member.interrupt), member.apply_version)
        };
        let mut builder = Autobee::builder(store.clone())
            .name(name)
            .apply(Erased {
                apply: started.apply,
                interrupt,
            })
            .apply_version(apply_version)
            .optimistic(optimistic)
            .rules(rules)
            .settings(settings);
        if let Some(watcher) = started.watcher {
            let disk = self.lock().replicas[replica].disk.clone();
            builder = builder.update(move |view, _| {
                // Whoever watches is no part of the world: what it reads costs nothing, and does not fail.
                disk.observe_only(true);
                watcher(view);
                disk.observe_only(false);
            });
        } else {
            // The database has the hook, and the group the database.
            let group = self.downgrade();
            let life = self.life(replica);
            builder = builder.update(move |view, update| {
                if let Some(group) = group.upgrade() {
                    group.see(replica, life, |seen| seen.updated(update, view.head()));
                }
            });
        }
        if let Some(key) = self.database() {
            builder = builder.key(key);
        }
        if encrypted {
            builder = builder.encryption_key(ENCRYPTION_KEY);
        }
        if forward {
            builder = builder.fast_forward(FastForward::trusting(AllMembers).liberal());
        }
        if std::mem::take(&mut self.lock().replicas[replica].is_restored) {
            builder = builder.restored();
        }
        Ok((builder.open().await?, store))
    }

    /// Closes the database of a replica as a program does that has another one in the same store, which it opens for that:
    /// then the store stays open, and has the first one opened once more, which must be what it was.
    pub(super) async fn close_beside_another(&self, db: Autobee<E>, replica: usize) {
        let Some(store) = self.lock().replicas[replica].store.clone() else {
            return;
        };
        if let Err(error) = self.open_once_more(&db, &store).await
            && !self.excuses(replica, &error)
        {
            self.fail(replica, "close and open again in one store", &error);
        }
    }

    async fn open_once_more(&self, db: &Autobee<E>, store: &Corestore<E>) -> Result<(), Error> {
        let other = Autobee::builder(store.namespace("another")).apply(JsonApply);
        let other = other.open().await?;
        let (key, encrypted) = (db.key(), self.lock().scenario.encrypted);
        db.close().await?;
        let mut builder = Autobee::builder(store.clone()).apply(JsonApply).key(key);
        if encrypted {
            builder = builder.encryption_key(ENCRYPTION_KEY);
        }
        let again = builder.open().await?;
        again.close().await?;
        other.close().await
    }

    /// Follows the whole view by its changes alone.
    async fn watch(self, env: E, db: Autobee<E>, replica: usize, life: u32) {
        // Half of them are told of few changes at once.
        let range = match replica % 2 {
            0 => Range::all(),
            _ => Range::all().limit(WATCHED_AT_ONCE),
        };
        let (mut watch, head, first) = loop {
            let start = db.view();
            let watch = db.watch(range.clone());
            match start.all().await {
                Ok(first) => break (watch, start.head(), first),
                Err(error) if error.kind() == ErrorKind::Closed => return,
                // A disk that fails now may not fail later.
                Err(_) => env.clock().sleep(REDIAL).await,
            }
        };
        self.see(replica, life, |seen| {
            let first = first.into_iter().collect::<BTreeMap<Bytes, Bytes>>();
            seen.view = Some((head, Arc::new(first)));
        });
        loop {
            match watch.next().await {
                Ok(event) => self.see(replica, life, |seen| seen.watched(&event)),
                Err(error) if error.kind() == ErrorKind::Closed => return,
                // The next call tries again.
                Err(_) => env.clock().sleep(REDIAL).await,
            }
        }
    }

    async fn listen(self, env: E, db: Autobee<E>, replica: usize, life: u32) {
        let mut events = db.events();
        let (local, start) = (db.local(), db.view().head());
        let is_writable = db.writable();
        let writers = db.writers();
        self.see(replica, life, |seen| {
            seen.begin(local, start, is_writable, &writers);
        });
        while let Ok(event) = events.next().await {
            if let Event::Error { .. } = event {
                let mut members = self.lock();
                let member = &mut members.replicas[replica];
                member.is_broken |= member.is_disk_faulty;
            }
            if let Event::Error { what } = &event
                && !self.is_disk_faulty(replica)
            {
                let mut members = self.lock();
                let name = &members.replicas[replica].name;
                let what = format!("{name} says that something failed, and its disk is sound: {what}");
                let invariant = "told";
                members.failures.push(Violation { invariant, what });
            }
            if let Event::Interrupt { .. } = event {
                self.interrupted(&env, replica, life);
            }
            if let Event::CutOff { first, last } = &event
                && !self.is_disk_faulty(replica)
            {
                let mut members = self.lock();
                let name = &members.replicas[replica].name;
                let what =
                    format!("{name} says that commits {first} to {last} are missing, and its disk is sound");
                let invariant = "told";
                members.failures.push(Violation { invariant, what });
            }
            if let Event::Rotated { .. } = &event {
                let trees = db.views().into_iter().flatten();
                self.lock().tree_cores.extend(trees.map(|core| core.key));
            }
            if let Event::MoveTo { from, to } = &event {
                let mut members = self.lock();
                members.tree_cores.extend([from.key, to.key]);
                members.replicas[replica].has_moved = true;
            }
            self.see(replica, life, |seen| seen.event(&event));
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
        let members = self.lock();
        let has_moved = members.replicas[replica].has_moved;
        has_moved.then(|| members.tree_cores.clone())
    }

    /// True when it went on from the trees of others.
    pub(super) fn has_moved(&self, replica: usize) -> bool {
        self.lock().replicas[replica].has_moved
    }

    pub(super) fn is_lost(&self, replica: usize) -> bool {
        self.lock().replicas[replica].is_lost
    }

    pub(super) fn db(&self, replica: usize) -> Option<Autobee<E>> {
        self.lock().replicas[replica].db.clone()
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
        self.lock().replicas[replica].former.clear();
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

    /// Neither an append nor a call of a disk takes power any more, and apply stops nobody.
    pub(super) fn disarm(&self) {
        for member in &mut self.lock().replicas {
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

/// Keeps one connection to a peer.
async fn dial<E: Env>(env: E, db: Autobee<E>, peer: String) {
    let peer = PeerAddr::new(peer);
    loop {
        if let Ok(stream) = env.network().dial(&peer).await {
            match db.replicate(stream, Role::Initiator) {
                Ok(session) => drop(session.ended().await),
                Err(_) => return,
            }
        }
        env.clock().sleep(REDIAL).await;
    }
}
