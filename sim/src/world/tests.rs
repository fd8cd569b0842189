//! What whoever drives a world can rely on.

use std::collections::BTreeSet;
use std::future::{pending, poll_fn};
use std::io::{ErrorKind, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use autobee::env::{
    Clock as _, Entropy as _, Env as _, Listener as _, Mono, Network as _, Open, PeerAddr, Point, Spawn as _,
    TraceEvent, Wall, Worker, knob,
};
use autobee::store::{DataPointer, Key, Seglog, Seq, StoreBatch, StoreEngine as _, StoreHandle};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{NameError, Rest, RunError, World, WorldConfig};
use crate::disk::{DiskCrash, DiskFaults, Latency, Seeded};
use crate::replica::{Crash, ReplicaId};
use crate::trace::TraceSink;

const SECOND: Duration = Duration::from_secs(1);

fn world(seed: u64) -> (World, ReplicaId, ReplicaId) {
    let world = World::new(WorldConfig {
        seed,
        trace: TraceSink::Collect(Vec::new()),
        ..WorldConfig::default()
    });
    let [a, b] = ["a", "b"].map(|name| world.add_replica(name).unwrap());
    (world, a, b)
}

/// Sets its flag when it is dropped.
struct Bell(Arc<AtomicBool>);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn bell() -> (Bell, impl Fn() -> bool) {
    let flag = Arc::new(AtomicBool::new(false));
    let rings = Arc::clone(&flag);
    (Bell(flag), move || rings.load(Ordering::Relaxed))
}

/// Asks to be polled again, at once.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[test]
fn names_are_addresses() {
    let (world, ..) = world(0);
    assert_eq!(world.add_replica("a"), Err(NameError::Taken("a".into())));
    for name in ["", "a:1"] {
        assert_eq!(world.add_replica(name), Err(NameError::Invalid(name.into())));
    }
}

#[test]
fn time_jumps_to_the_next_event() {
    let (world, a, _) = world(0);
    let env = world.env(a);
    let slept = world.block_on(a, async move {
        env.clock().sleep(SECOND * 86_400 * 365).await;
        env.clock().sleep_until(Mono(5)).await;
        env.clock().now()
    });
    assert_eq!(slept, Ok(Mono(31_536_000_000_000_000)));
    world.run_for(SECOND).unwrap();
    assert_eq!(world.now(), SECOND * (86_400 * 365 + 1));
}

#[test]
fn a_crash_drops_everything_now() {
    let (world, a, _) = world(0);
    let (env, (sleeping, rings)) = (world.env(a), bell());
    let (unpolled, unpolled_rings) = bell();
    env.spawn().spawn("sleep", {
        let env = env.clone();
        async move {
            let _bell = sleeping;
            env.clock().sleep(SECOND).await;
        }
    });
    world.run_for(SECOND / 2).unwrap();
    env.spawn().spawn("never polled", async move { drop(unpolled) });
    assert!(!rings() && !unpolled_rings());
    world.crash(a, Crash::Kill);
    assert!(rings() && unpolled_rings());
    assert_eq!((world.tasks(), world.is_up(a)), (0, false));
    assert_eq!(
        world.run_until_idle(SECOND),
        Ok(Rest::Quiet),
        "its timers are gone, too"
    );
}

#[test]
fn handles_of_a_former_life_are_inert() {
    let (world, a, b) = world(0);
    let former = world.env(a);
    let mut door = world
        .block_on(a, {
            let env = former.clone();
            async move { env.network().listen(&PeerAddr::new("a")).await }
        })
        .unwrap()
        .unwrap();
    world.crash(a, Crash::PowerLoss);
    world.restart(a);
    let (dropped, rings) = bell();
    former.spawn().spawn("ghost", async move {
        let _bell = dropped;
        pending::<()>().await;
    });
    assert!(rings(), "a dead incarnation starts nothing");
    assert!(former.disk().list().is_err(), "nor touches the disk");
    assert_eq!(former.clock().now(), Mono(0));
    let outcome = world.block_on(b, async move {
        let listens = former.network().listen(&PeerAddr::new("a:7")).await.err();
        let dials = former.network().dial(&PeerAddr::new("b")).await.err();
        let accepts = door.accept().await.err();
        [listens, dials, accepts].map(|error| error.map(|error| error.kind()))
    });
    assert_eq!(outcome, Ok([Some(ErrorKind::NotConnected); 3]));
    let env = world.env(a);
    let port = world.block_on(a, async move {
        env.network().listen(&PeerAddr::new("a")).await.is_ok()
    });
    assert_eq!(
        port,
        Ok(true),
        "the dropped listener took nothing from the new life"
    );
}

#[test]
fn programs_run_again_after_a_restart() {
    let (world, a, _) = world(0);
    let starts = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&starts);
    world.boot(a, move |env| {
        count.fetch_add(1, Ordering::Relaxed);
        async move { env.clock().sleep(SECOND * 100).await }
    });
    world.run_for(SECOND).unwrap();
    world.restart(a);
    assert_eq!(starts.load(Ordering::Relaxed), 1, "it runs already");
    for how in [Crash::Kill, Crash::PowerLoss] {
        world.crash(a, how);
        world.crash(a, how);
        world.restart(a);
    }
    world.run_for(SECOND).unwrap();
    assert_eq!(starts.load(Ordering::Relaxed), 3);
    assert_eq!(
        world.env(a).clock().now(),
        Mono(1_000_000_000),
        "the clock starts with the incarnation"
    );
}

#[test]
fn an_aborted_task_is_dropped() {
    let (world, a, _) = world(0);
    let (inside, rings) = bell();
    let handle = world.env(a).spawn().spawn("wait", async move {
        let _bell = inside;
        pending::<()>().await;
    });
    world.run_for(SECOND).unwrap();
    assert!(!rings());
    handle.abort();
    assert!(rings());
    world.run_for(SECOND).unwrap();
    assert_eq!(world.tasks(), 0);
}

#[test]
fn dropping_the_world_drops_its_tasks() {
    let (world, a, _) = world(0);
    let (inside, rings) = bell();
    let env = world.env(a);
    world.boot(a, move |env| {
        let bell = Bell(Arc::clone(&inside.0));
        async move {
            let _bell = bell;
            env.clock().sleep(SECOND * 9).await;
        }
    });
    world.run_for(SECOND).unwrap();
    drop(world);
    assert!(rings());
    env.spawn().spawn("late", async {});
    assert!(!env.buggify("late"));
}

#[test]
fn a_paused_replica_does_nothing_and_catches_up() {
    let (world, a, _) = world(0);
    let beats = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&beats);
    world.boot(a, move |env| {
        let count = Arc::clone(&count);
        async move {
            loop {
                env.clock().sleep(SECOND).await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let beats_after = |seconds| {
        world.run_for(SECOND * seconds).unwrap();
        beats.load(Ordering::Relaxed)
    };
    assert_eq!(beats_after(3), 3);
    world.pause(a);
    assert_eq!(beats_after(3), 3);
    world.resume(a);
    assert_eq!(beats_after(2), 6, "one late, two in time");
    world.pause(a);
    world.crash(a, Crash::Kill);
    world.restart(a);
    assert_eq!(beats_after(2), 8, "a new life is not paused");
}

#[test]
fn runs_are_bounded() {
    let world = World::new(WorldConfig {
        steps_max: 1_000,
        ..WorldConfig::default()
    });
    let a = world.add_replica("a").unwrap();
    let stuck = world.block_on(a, pending::<()>());
    assert_eq!(stuck, Err(RunError::Stuck { at: Duration::ZERO }));
    let env = world.env(a);
    let late = world.block_on_for(a, SECOND, async move { env.clock().sleep(SECOND * 2).await });
    assert_eq!(late, Err(RunError::Limit { at: SECOND }));
    assert_eq!(world.tasks(), 0, "what did not come to its end is dropped");
    let spin = world.block_on(a, async {
        loop {
            yield_now().await;
        }
    });
    let budget = RunError::Budget {
        steps: 1_000,
        at: world.now(),
    };
    assert_eq!(spin, Err::<(), _>(budget.clone()));
    assert_eq!(world.run_for(SECOND), Err(budget));
    world.crash(a, Crash::Kill);
    let down = World::new(WorldConfig::default());
    let a = down.add_replica("a").unwrap();
    down.crash(a, Crash::Kill);
    let outcome = down.block_on(a, async {});
    assert_eq!(
        outcome,
        Err(RunError::Down {
            replica: a,
            at: Duration::ZERO
        })
    );
}

#[test]
fn quiet_is_more_than_timers() {
    let (world, a, _) = world(0);
    world.boot(a, |env| async move {
        for round in 0_u32.. {
            env.clock().sleep(SECOND / 10).await;
            if round < 20 {
                env.trace(|| TraceEvent::Note {
                    text: format!("round {round}"),
                });
            }
        }
    });
    assert_eq!(world.run_until_quiet(SECOND, SECOND), Ok(Rest::Limit));
    assert_eq!(world.now(), SECOND);
    assert_eq!(world.run_until_quiet(SECOND, SECOND * 60), Ok(Rest::Quiet));
    assert_eq!(world.now(), SECOND * 3);
    assert_eq!(world.run_until_idle(SECOND), Ok(Rest::Limit));
}

#[test]
fn clocks_of_day_are_apart() {
    let (world, a, b) = world(0);
    world.skew(a, -7_200_000);
    world.drift(b, 1_000);
    world.run_for(SECOND * 10).unwrap();
    let walls = [a, b].map(|id| world.env(id).clock().wall());
    assert_eq!(
        walls,
        [Wall(1_700_000_010_000 - 7_200_000), Wall(1_700_000_010_010)]
    );
}

#[test]
fn entropy_belongs_to_an_incarnation() {
    let draw = |world: &World, id| world.env(id).entropy().array::<16>();
    let mut seen = BTreeSet::new();
    for seed in 0..3 {
        let (world, a, b) = world(seed);
        seen.insert(draw(&world, a));
        seen.insert(draw(&world, b));
        seen.insert(draw(&world, b));
        world.crash(a, Crash::Kill);
        world.restart(a);
        seen.insert(draw(&world, a));
    }
    assert_eq!(seen.len(), 12);
    let (world, a, _) = world(0);
    assert!(seen.contains(&draw(&world, a)), "whatever the others draw");
}

#[test]
fn the_scheduler_tries_orders() {
    let orders: BTreeSet<Vec<u32>> = (0..100)
        .map(|seed| {
            let (world, a, _) = world(seed);
            let order = Arc::new(Mutex::new(Vec::new()));
            for number in 0..3 {
                let order = Arc::clone(&order);
                let run = async move { order.lock().unwrap().push(number) };
                world.env(a).spawn().spawn("number", run);
            }
            world.run_for(SECOND).unwrap();
            order.lock().unwrap().clone()
        })
        .collect();
    assert_eq!(orders.len(), 6, "{orders:?}");
}

#[test]
fn a_quarter_of_the_fault_points_is_armed_and_fires_in_a_quarter() {
    let (mut armed, mut fired) = (0, 0);
    for seed in 0..400 {
        let world = World::new(WorldConfig {
            seed,
            buggify: true,
            planted: BTreeSet::from(["defect".to_owned()]),
            disarmed: BTreeSet::from(["quiet".to_owned()]),
            ..WorldConfig::default()
        });
        let env = world.env(world.add_replica("a").unwrap());
        let fires = (0..40).filter(|_| env.buggify("point")).count();
        assert!((0..40).all(|_| !env.buggify("quiet")));
        assert!(env.planted("defect") && !env.planted("other"));
        armed += world.armed().len();
        fired += fires;
    }
    assert!((60..140).contains(&armed), "{armed} of 400");
    assert!(
        (armed * 8..armed * 12).contains(&fired),
        "{fired} of {}",
        armed * 40
    );
    let (world, a, _) = world(0);
    assert!(
        (0..1_000).all(|_| !world.env(a).buggify("point")),
        "off unless asked for"
    );
}

#[test]
fn points_that_are_reached_are_counted() {
    let (world, a, _) = world(0);
    for seen in [true, false, true] {
        world.env(a).sometimes(Point::LeafSplit, seen);
    }
    assert_eq!(world.sometimes().get(&Point::LeafSplit), Some(&(3, 2)));
}

#[test]
fn a_run_chooses_numbers_within_their_range() {
    let knobs = [("view_degree", 2), ("db_events", 9_999)];
    let world = World::new(WorldConfig {
        knobs: knobs.map(|(name, value)| (name.to_owned(), value)).into(),
        ..WorldConfig::default()
    });
    let a = world.add_replica("a").unwrap();
    let env = world.env(a);
    assert_eq!(knob::VIEW_DEGREE.of(&env, 128), 2);
    assert_eq!(knob::DB_EVENTS.size(&env, 256), 256, "no more than the most");
    assert_eq!(knob::SYSTEM_DEGREE.of(&env, 128), 128, "nobody chose");
}

/// Writes one byte a step, as often as it is told to.
struct Scribe {
    steps: u32,
    disk: Arc<dyn autobee::env::Disk>,
}

impl Worker for Scribe {
    async fn ready(&mut self) -> bool {
        self.steps > 0
    }

    fn start(&mut self) -> bool {
        self.steps -= 1;
        false
    }

    fn finish(&mut self) {
        let file = self
            .disk
            .open(&format!("step-{}", self.steps), Open::CreateNew)
            .unwrap();
        file.write_at(0, &[IoSlice::new(b"x")]).unwrap();
        file.sync().unwrap();
        self.disk.sync_dir().unwrap();
    }
}

#[test]
fn a_crash_during_a_step_finds_it_undone() {
    let world = World::new(WorldConfig {
        disk: DiskFaults {
            latency: Latency {
                sync_us: 1_000,
                ..Latency::default()
            },
            ..DiskFaults::default()
        },
        ..WorldConfig::default()
    });
    let a = world.add_replica("a").unwrap();
    let env = world.env(a);
    let disk = env.disk();
    env.spawn().dedicated("scribe", Scribe { steps: 2, disk });
    world.run_for(Duration::from_micros(900)).unwrap();
    assert_eq!(
        env.disk().list().unwrap(),
        [""; 0],
        "the step takes a millisecond"
    );
    world.run_for(Duration::from_micros(200)).unwrap();
    assert_eq!(env.disk().list().unwrap(), ["step-1"]);
    world.crash(a, Crash::PowerLoss);
    world.restart(a);
    world.run_for(SECOND).unwrap();
    assert_eq!(
        world.env(a).disk().list().unwrap(),
        ["step-1"],
        "synced, and no second step"
    );
}

/// A store with two commits, the second made while the first is synced, after a power cut at `cut_us` microseconds.
fn after_a_cut_during_a_sync(cut_us: u64) -> Vec<bool> {
    let latency = Latency {
        sync_us: 1_000,
        ..Latency::default()
    };
    let world = World::new(WorldConfig {
        disk: DiskFaults {
            latency,
            ..DiskFaults::default()
        },
        ..WorldConfig::default()
    });
    let a = world.add_replica("a").unwrap();
    let keys = [0, 1].map(|index| Key::Block(DataPointer(1), index));
    let env = world.env(a);
    let store = StoreHandle::open(&env, &Seglog::default()).unwrap();
    // Opening took time, too.
    let _ = world.disk(a).take_debt();
    let start = world.now();
    let commit = |key: &Key| {
        store
            .commit(StoreBatch::default().put(key.clone(), &b"x"[..]))
            .unwrap()
    };
    let first = commit(&keys[0]);
    store.request_sync();
    world.run_for(Duration::from_micros(500)).unwrap();
    let second = commit(&keys[1]);
    world.run_until(start + Duration::from_micros(cut_us)).unwrap();
    let expected = if cut_us < 1_000 { Seq(0) } else { first };
    assert_eq!(store.durable(), expected, "a sync ends after its latency");
    assert!(second > first);
    let left = world
        .disk(a)
        .snapshot()
        .crash(DiskCrash::Lost, &mut Seeded::new(1));
    let store = Seglog::default().open(Arc::new(left)).unwrap();
    keys.iter().map(|key| store.get(key).unwrap().is_some()).collect()
}

#[test]
fn a_power_cut_meets_a_sync_half_done() {
    assert_eq!(after_a_cut_during_a_sync(1_200), [true, false]);
    assert_eq!(after_a_cut_during_a_sync(900), [false, false]);
}

#[test]
fn computations_take_virtual_time() {
    let (world, a, _) = world(0);
    let env = world.env(a);
    let sum = world.block_on(
        a,
        async move { env.spawn().cpu("sum", || (0..10).sum::<u32>()).await },
    );
    assert_eq!((sum, world.now()), (Ok(45), Duration::from_micros(100)));
}

/// The dialler of a stream to `b`, and what it sees after `b` went down and came back.
fn after(how: Crash) -> [Option<ErrorKind>; 2] {
    let (world, a, b) = world(3);
    world.boot(b, |env| async move {
        let mut door = env.network().listen(&PeerAddr::new("b")).await.unwrap();
        let mut streams = Vec::new();
        loop {
            streams.push(door.accept().await.unwrap());
        }
    });
    let env = world.env(a);
    let dialled = world.block_on(a, async move {
        env.network().dial(&PeerAddr::new("b")).await.unwrap()
    });
    let stream = Arc::new(tokio::sync::Mutex::new(dialled.unwrap()));
    world.run_for(SECOND).unwrap();
    world.crash(b, how);
    let probe = |write: &'static [u8]| {
        let stream = Arc::clone(&stream);
        let outcome = world.block_on_for(a, SECOND, async move {
            let mut stream = stream.lock().await;
            stream.write_all(write).await?;
            stream.read_u8().await
        });
        match outcome {
            Ok(read) => Some(read.unwrap_err().kind()),
            Err(limit) => {
                assert!(matches!(limit, RunError::Stuck { .. }), "{limit}");
                None
            }
        }
    };
    let down = probe(b"");
    world.restart(b);
    [down, probe(b"are you there")]
}

#[test]
fn a_kill_is_heard_and_a_power_loss_is_not() {
    let reset = Some(ErrorKind::ConnectionReset);
    assert_eq!(after(Crash::Kill), [reset, reset]);
    assert_eq!(after(Crash::PowerLoss), [None, reset]);
}

#[test]
fn what_a_driver_does_is_in_the_trace() {
    let (world, a, b) = world(0);
    world.partition(&[vec![a], vec![b]]);
    world.note("half time");
    world.heal();
    let text = String::from_utf8(world.trace_bytes()).unwrap();
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            r#"{"t":0,"e":"partition","who":"a,b"}"#,
            r#"{"t":0,"e":"note","what":"half time"}"#,
            r#"{"t":0,"e":"heal","who":""}"#,
        ]
    );
    assert_eq!(world.trace_events(), 3);
}
