//! Checks of programs that are no databases: anything that is written against the traits of [`autobee::env`].

use std::fmt;
use std::future::Future;
use std::ops::RangeBounds;
use std::panic::Location;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::identity::CheckId;
use super::outside::{self, quietly};
use super::record::{CheckFailure, Counts};
use super::runner::{self, CheckJob};
use super::seed::Ran;
use super::{Faults, Property, REPLICAS, SEEDS, are_replicas, plan, replica_bounds, seed_bounds};
use crate::env::SimEnv;
use crate::executor::lock;
use crate::invariant::{Invariant, Watched};
use crate::replica::{Crash, ReplicaId};
use crate::scenario::{Action, CrashMode, Scenario};
use crate::world::{RunError, World, WorldConfig};

/// How often all replicas are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How long replicas go on when all faults ended, before they are looked at for the last time.
const SETTLE: Duration = Duration::from_secs(10);

/// A program that runs on each replica of a world, and again whenever one starts.
///
/// It gets its clock, its disk, its network and its randomness from [`Peer::env`], and shows what invariants look at by
/// [`Peer::show`]. `sim/tests/notes.rs` is a whole one.
pub trait Program: Send + Sync + 'static {
    /// What one process of it shows of itself. It begins with the default when a process starts.
    type Shown: Default + Clone + Send + 'static;

    /// Runs one process, until it ends or is ended.
    fn run(&self, peer: Peer<Self::Shown>) -> impl Future<Output = ()> + Send;
}

impl<P: Program> Watched for P {
    type Moment<'a> = Shown<'a, P::Shown>;
}

/// One process of a program.
pub struct Peer<S> {
    /// Its world.
    pub env: SimEnv,
    /// Its number among the replicas, from 0.
    pub number: usize,
    /// The names of all replicas, which are their addresses.
    pub names: Arc<[String]>,
    shown: Cell<S>,
}

/// What a process shows; nothing before it started.
type Cell<S> = Arc<Mutex<Option<S>>>;

/// What all replicas of a program show at one point of virtual time.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a, S> {
    /// Virtual time since the world began.
    pub now: Duration,
    /// What each replica shows, by number; none when it is down.
    pub replicas: &'a [Option<S>],
    /// All faults ended.
    pub is_calm: bool,
}

impl<S: Default> Peer<S> {
    /// Changes what invariants see of this process.
    pub fn show<T>(&self, change: impl FnOnce(&mut S) -> T) -> T {
        change(lock(&self.shown).get_or_insert_default())
    }

    /// Its own name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.names[self.number]
    }
}

impl<S> Clone for Peer<S> {
    fn clone(&self) -> Self {
        Self {
            env: self.env.clone(),
            number: self.number,
            names: Arc::clone(&self.names),
            shown: Arc::clone(&self.shown),
        }
    }
}

impl<S> fmt::Debug for Peer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({})", self.names[self.number])
    }
}

impl World {
    /// Starts a check of a program that is no database: its replicas run through partitions, crashes, wrong clocks and
    /// failing disks, and invariants look at what they show. As with [`crate::check`], a failure is shrunk, told in words,
    /// and can be seen again by its seed.
    #[track_caller]
    pub fn check<P: Program>(program: P) -> ProgramCheck<P> {
        ProgramCheck {
            program: Arc::new(program),
            invariants: Vec::new(),
            replicas: REPLICAS,
            faults: Faults::all(),
            seeds: SEEDS,
            name: None,
            place: outside::place(Location::caller()),
        }
    }
}

/// Makes an invariant as each run gets it.
type MakeInvariant<P> = Box<dyn Fn() -> Box<dyn Invariant<P>> + Send + Sync>;

/// A check of a program that is being put together; see [`World::check`].
#[must_use = "nothing is checked before `run`"]
pub struct ProgramCheck<P: Program> {
    program: Arc<P>,
    invariants: Vec<MakeInvariant<P>>,
    replicas: (usize, usize),
    faults: Faults,
    seeds: (u64, u64),
    name: Option<String>,
    place: String,
}

impl<P: Program> ProgramCheck<P> {
    /// What must hold. `make` makes a fresh one for each run.
    pub fn always<I: Invariant<P> + 'static>(mut self, make: impl Fn() -> I + Send + Sync + 'static) -> Self {
        self.invariants.push(Box::new(move || Box::new(make())));
        self
    }

    /// As [`crate::Check::replicas`].
    pub fn replicas(mut self, replicas: impl RangeBounds<usize>) -> Self {
        self.replicas = replica_bounds(&replicas);
        self
    }

    /// As [`crate::Check::faults`].
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// As [`crate::Check::seeds`].
    pub fn seeds(mut self, seeds: impl RangeBounds<u64>) -> Self {
        self.seeds = seed_bounds(&seeds);
        self
    }

    /// As [`crate::Check::name`].
    pub fn name(mut self, name: impl AsRef<str>) -> Self {
        self.name = Some(outside::file_name(name.as_ref()));
        self
    }

    /// Runs all seeds.
    ///
    /// # Panics
    ///
    /// When one of them fails.
    #[track_caller]
    pub fn run(self) {
        let id = CheckId::next(self.name.as_deref(), &self.place);
        let outcome = are_replicas(self.replicas).and_then(|()| {
            runner::run(&CheckJob {
                id: &id,
                seeds: self.seeds,
                draw: &|seed| plan::draw_program(&id.label, self.replicas, self.faults, seed),
                run: &|scenario, seed, _| one(self.begin(scenario, seed), scenario),
                explain: None,
                ops: None,
            })
        });
        #[expect(clippy::panic, reason = "a test fails by panicking")]
        if let Err(text) = outcome {
            panic!("{text}");
        }
    }

    /// A world in which the program runs, behind a face without types.
    fn begin(&self, scenario: &Scenario, seed: u64) -> Result<Begun, String> {
        let world = World::new(WorldConfig {
            seed,
            path: scenario.network,
            disk: scenario.disk.clone(),
            schedule: scenario.schedule,
            steps_max: scenario.events_max,
            ..WorldConfig::default()
        });
        let names: Arc<[String]> = (0..scenario.replicas)
            .map(|number| format!("r{number}"))
            .collect();
        let mut all: Vec<(ReplicaId, Cell<P::Shown>)> = Vec::new();
        let mut boots: Vec<Boot> = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let id = world.add_replica(name).map_err(|error| error.to_string())?;
            let shown: Cell<P::Shown> = Arc::default();
            all.push((id, Arc::clone(&shown)));
            let (program, names) = (Arc::clone(&self.program), Arc::clone(&names));
            boots.push(Box::new(move |world| {
                let (program, names, shown) = (Arc::clone(&program), Arc::clone(&names), Arc::clone(&shown));
                world.boot(id, move |env| {
                    *lock(&shown) = Some(P::Shown::default());
                    let shown = Arc::clone(&shown);
                    let names = Arc::clone(&names);
                    let program = Arc::clone(&program);
                    let peer = Peer {
                        env,
                        number,
                        names,
                        shown,
                    };
                    async move { program.run(peer).await }
                });
            }));
        }
        let ids = all.iter().map(|(id, _)| *id).collect();
        let mut invariants: Vec<Box<dyn Invariant<P>>> = self.invariants.iter().map(|make| make()).collect();
        let look = Box::new(move |world: &World, is_calm: bool, is_last: bool| {
            let shown =
                |(id, shown): &(ReplicaId, Cell<P::Shown>)| lock(shown).clone().filter(|_| world.is_up(*id));
            let replicas: Vec<Option<P::Shown>> = all.iter().map(shown).collect();
            let moment = Shown {
                now: world.now(),
                replicas: &replicas,
                is_calm,
            };
            for invariant in &mut invariants {
                let verdict = if is_last {
                    invariant.end(&moment)
                } else {
                    invariant.tick(&moment)
                };
                verdict.map_err(|what| (invariant.name().to_owned(), what))?;
            }
            Ok(())
        });
        Ok(Begun {
            world,
            ids,
            boots,
            look,
        })
    }
}

impl<P: Program> fmt::Debug for ProgramCheck<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgramCheck")
            .field("name", &self.name)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// Looks at all replicas; the error is the name of an invariant and what is wrong.
type Look = Box<dyn FnMut(&World, bool, bool) -> Result<(), (String, String)>>;

/// Starts the program of a replica.
type Boot = Box<dyn Fn(&World) + Send>;

/// A world whose program has no type any more.
struct Begun {
    world: World,
    ids: Vec<ReplicaId>,
    boots: Vec<Boot>,
    look: Look,
}

/// Why a run ended early.
enum Ended {
    Broken(String, String),
    World(RunError),
}

impl From<RunError> for Ended {
    fn from(error: RunError) -> Self {
        Self::World(error)
    }
}

/// One run of one plan.
fn one(begun: Result<Begun, String>, scenario: &Scenario) -> Ran {
    let mut counts = Counts::default();
    let failure = match begun {
        Err(why) => Some((Property::GoesOn, Duration::ZERO, why)),
        Ok(mut begun) => match quietly(|| begun.play(scenario, &mut counts)) {
            Ok(Ok(())) => None,
            Ok(Err(Ended::Broken(name, what))) => Some((Property::Always(name), begun.world.now(), what)),
            Ok(Err(Ended::World(error))) => Some((Property::GoesOn, begun.world.now(), error.to_string())),
            Err(panic) => Some((Property::NoPanic, begun.world.now(), panic.0)),
        },
    };
    Ran {
        failure: failure.map(|(property, at, what)| CheckFailure {
            property,
            at,
            lines: vec![what],
            replicas_differ: false,
        }),
        counts,
        steps: Vec::new(),
    }
}

impl Begun {
    fn play(&mut self, scenario: &Scenario, counts: &mut Counts) -> Result<(), Ended> {
        let is_late = |number: usize| {
            let mut events = scenario.event.iter();
            events.any(|event| event.action.joins() == Some(number))
        };
        for (number, boot) in self.boots.iter().enumerate() {
            if !is_late(number) {
                boot(&self.world);
            }
        }
        let mut joined: Vec<bool> = (0..self.ids.len()).map(|number| !is_late(number)).collect();
        let mut events: Vec<_> = scenario.event.iter().collect();
        events.sort_by_key(|event| event.at_ms);
        for event in events {
            self.run_until(Duration::from_millis(event.at_ms), false, counts)?;
            if let Action::Join { replica } = event.action {
                if !std::mem::replace(&mut joined[replica], true) {
                    self.boots[replica](&self.world);
                }
            } else {
                self.act(&event.action, &scenario.disk, &joined);
            }
        }
        self.run_until(Duration::from_millis(scenario.heal_ms()), false, counts)?;
        self.heal(scenario, &mut joined);
        let end = self.world.now() + SETTLE;
        self.run_until(end, true, counts)?;
        self.look(true, true, counts)
    }

    fn run_until(&mut self, until: Duration, is_calm: bool, counts: &mut Counts) -> Result<(), Ended> {
        while self.world.now() < until {
            self.world.run_until(until.min(self.world.now() + LOOK))?;
            self.look(is_calm, false, counts)?;
        }
        Ok(())
    }

    fn look(&mut self, is_calm: bool, is_last: bool, counts: &mut Counts) -> Result<(), Ended> {
        counts.views += 1;
        (self.look)(&self.world, is_calm, is_last).map_err(|(name, what)| Ended::Broken(name, what))
    }

    /// What happens to programs that are no databases.
    fn act(&self, action: &Action, usual: &crate::disk::DiskFaults, joined: &[bool]) {
        let world = &self.world;
        let id = |replica: &usize| self.ids[*replica];
        match action {
            Action::Partition { groups } => {
                let groups: Vec<Vec<_>> = groups
                    .iter()
                    .map(|group| group.iter().map(id).collect())
                    .collect();
                world.partition(&groups);
            }
            Action::Cut { from, to, .. } => world.cut(id(from), id(to)),
            Action::Open { from, to } => world.open(id(from), id(to)),
            Action::Reset { a, b } => world.reset_between(id(a), id(b)),
            Action::Path { from, to, path } => world.set_path(id(from), id(to), *path),
            Action::Heal => world.heal(),
            Action::Crash { replica, mode, .. } => world.crash(
                id(replica),
                match mode {
                    CrashMode::Kill => Crash::Kill,
                    CrashMode::PowerLoss => Crash::PowerLoss,
                },
            ),
            Action::Blackout { replica } | Action::CrashPoint { replica, .. } => {
                world.crash(id(replica), Crash::PowerLoss);
            }
            Action::Restart { replica } if joined[*replica] => drop(world.restart(id(replica))),
            Action::Reopen { replica, .. } => {
                world.crash(id(replica), Crash::Kill);
                if joined[*replica] {
                    world.restart(id(replica));
                }
            }
            Action::Disk { replica, faults } => {
                let latency = usual.latency.clone();
                world.disk(id(replica)).set_faults(crate::disk::DiskFaults {
                    latency,
                    ..faults.clone()
                });
            }
            Action::Drift { replica, ppm } => world.drift(id(replica), *ppm),
            Action::Pause { replica } => world.pause(id(replica)),
            Action::Resume { replica } => world.resume(id(replica)),
            Action::Skew { replica, ms } => world.skew(id(replica), *ms),
            // What concerns the members of a database.
            _ => {}
        }
    }

    /// Ends all faults.
    fn heal(&self, scenario: &Scenario, joined: &mut [bool]) {
        let world = &self.world;
        world.heal();
        world.set_paths(crate::network::PathConfig {
            tear_64k: 0,
            corrupt_64k: 0,
            refuse_64k: 0,
            hang_64k: 0,
            ..scenario.network
        });
        for (number, id) in self.ids.iter().enumerate() {
            world.disk(*id).set_faults(scenario.disk.clone());
            world.resume(*id);
            world.drift(*id, 0);
            world.skew(*id, 0);
            if std::mem::replace(&mut joined[number], true) {
                world.restart(*id);
            } else {
                self.boots[number](world);
            }
        }
    }
}
