//! The power is cut after every single call of the disk, and everything that it may leave is opened again.
//!
//! What is found must be the state after some commit, at or after the last one that was acknowledged as durable, and
//! must take another commit. `AUTOBEE_CRASH_IMAGES` says how many images to try; the default is what a plain test run
//! can bear.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "store/recording.rs"]
mod recording;
#[path = "store/workload.rs"]
mod workload;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use autobee::store::{Key, Seglog, Seq, Store, StoreBatch, StoreEngine, StoreError, verify};
use autobee_sim::disk::{
    Choose as _, DiskCrash, DiskFault, DiskFaults, DiskOp, DiskSnapshot, Odometer, Seeded, SimDisk,
};

use recording::{Moment, Oracle, Recording, States};
use workload::{Step, Workload, contents};

/// Small segments and frequent checkpoints, so that a short workload reaches everything.
fn small() -> Seglog {
    Seglog::default()
        .segment_bytes(2048)
        .checkpoint_bytes(3000)
        .salt(7)
}

fn images_wanted(default: u64) -> u64 {
    let wanted = std::env::var("AUTOBEE_CRASH_IMAGES").ok();
    wanted
        .and_then(|text| text.replace('_', "").parse().ok())
        .unwrap_or(default)
}

#[test]
fn every_crash_leaves_the_state_after_some_commit() {
    let tried = try_crashes(&small(), images_wanted(100_000));
    println!("seglog: {tried} crash images, each found sound");
}

#[cfg(feature = "redb")]
#[test]
fn every_crash_of_redb_leaves_the_state_after_some_commit() {
    let tried = try_crashes(&autobee::store::RedbEngine, images_wanted(100_000) / 20);
    println!("redb: {tried} crash images, each found sound");
}

/// Two threads take one workload after the other until there were enough images.
fn try_crashes(engine: &dyn StoreEngine, wanted: u64) -> u64 {
    let (next_seed, tried) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while tried.load(Ordering::Relaxed) < wanted {
                    let seed = next_seed.fetch_add(1, Ordering::Relaxed);
                    tried.fetch_add(try_crashes_of(engine, seed), Ordering::Relaxed);
                }
            });
        }
    });
    tried.into_inner()
}

/// All moments of one workload, several fates each.
fn try_crashes_of(engine: &dyn StoreEngine, seed: u64) -> u64 {
    let recording = Recording::new(engine, seed, 60, seed.is_multiple_of(3));
    let mut tried = 0;
    for (number, moment) in recording.moments.iter().enumerate() {
        let fates: &[DiskCrash] = if moment.disk.is_synced() {
            &[DiskCrash::Kept]
        } else {
            &DiskCrash::ALL
        };
        for how in fates {
            let context = format!("workload {seed}, moment {number}, {how:?}");
            let mut choice = Seeded::new(seed << 32 | (number as u64) << 8 | *how as u64);
            let disk = moment.disk.crash(*how, &mut choice);
            tried += 1;
            if choice.below(4) == 0 {
                tried += crash_in_recovery(engine, &recording.states, moment, &disk, &mut choice, &context);
            }
            let least = match *how {
                DiskCrash::Kept if engine.keeps_visible() => moment.visible,
                _ => moment.durable,
            };
            check_found(
                engine,
                &recording.states,
                &disk,
                (least, moment.under_way),
                &context,
            );
        }
    }
    tried
}

/// Opens, compares, commits, syncs, and opens again.
fn check_found(engine: &dyn StoreEngine, states: &States, disk: &SimDisk, range: (Seq, Seq), context: &str) {
    let mut store = match engine.open(Arc::new(disk.clone())) {
        Ok(store) => store,
        Err(error) => panic!("{context}: {error}"),
    };
    check_state(&*store, states, range, context);
    let found = contents(&*store);
    let key = Key::Ext(b"after".to_vec().into());
    store
        .commit(StoreBatch::default().put(key.clone(), &b"the crash"[..]))
        .unwrap();
    store.sync().unwrap();
    drop(store);
    let disk = disk.crash(DiskCrash::Lost, &mut Seeded::new(0));
    let mut store = engine.open(Arc::new(disk)).unwrap();
    assert_eq!(store.get(&key).unwrap().unwrap(), "the crash", "{context}");
    store.commit(StoreBatch::default().delete(key)).unwrap();
    let old = found
        .iter()
        .filter(|(key, _)| *key != Key::Ext(b"after".to_vec().into()));
    assert!(
        contents(&*store).iter().eq(old),
        "{context}: the new commit changed the old state"
    );
}

fn check_state(store: &dyn Store, states: &States, (least, most): (Seq, Seq), context: &str) {
    let seq = store.seq();
    assert!(
        seq >= least,
        "{context}: commit {} was acknowledged, {} is the last",
        least.0,
        seq.0
    );
    assert!(
        seq <= most,
        "{context}: commit {} was the last, {} is found",
        most.0,
        seq.0
    );
    let expected = states.get(seq).unwrap();
    assert!(
        contents(store) == **expected,
        "{context}: not the state after commit {}",
        seq.0
    );
}

/// The power is cut again at some moment while the store is being opened.
fn crash_in_recovery(
    engine: &dyn StoreEngine,
    states: &States,
    moment: &Moment,
    disk: &SimDisk,
    choice: &mut Seeded,
    context: &str,
) -> u64 {
    let before = disk.snapshot();
    let disk = before.crash(DiskCrash::Kept, choice);
    let shots = shots_of(&disk, || drop(engine.open(Arc::new(disk.clone())).unwrap()));
    let Some(shot) = shots.get(choice.below(shots.len() as u32) as usize) else {
        return 0;
    };
    let how = DiskCrash::ALL[choice.below(6) as usize];
    let context = format!("{context}, then {how:?} in recovery");
    let disk = shot.crash(how, choice);
    let store = match engine.open(Arc::new(disk)) {
        Ok(store) => store,
        Err(error) => panic!("{context}: {error}"),
    };
    check_state(&*store, states, (moment.durable, moment.under_way), &context);
    1
}

/// The disk after every call that changes it during `work`.
fn shots_of(disk: &SimDisk, work: impl FnOnce()) -> Vec<DiskSnapshot> {
    let shots = Arc::new(Mutex::new(Vec::new()));
    disk.observe({
        let (disk, shots) = (disk.clone(), shots.clone());
        move |event| {
            if event.op.changes() {
                shots.lock().unwrap().push(disk.snapshot());
            }
        }
    });
    work();
    std::mem::take(&mut shots.lock().unwrap())
}

/// Runs a workload on a disk with faults until it fails or ends. Gives what was acknowledged, and all states.
fn run_until_failure(
    engine: &dyn StoreEngine,
    disk: &SimDisk,
    seed: u64,
) -> (Seq, Seq, States, Option<StoreError>) {
    let mut states = States::default();
    let mut oracle = Oracle::new();
    states.reach(Seq(0), &oracle.state);
    let mut store = match engine.open(Arc::new(disk.clone())) {
        Ok(store) => store,
        Err(error) => return (Seq(0), Seq(0), states, Some(error)),
    };
    let mut durable = store.durable();
    for step in Workload::new(seed).take(60) {
        let reached = store.seq();
        let result = match step {
            Step::Commit(batch) => {
                // It may be found even when it failed: nobody knows what reached the disk.
                oracle.commit(&batch);
                store.commit(&batch).map(drop)
            }
            Step::Sync => store.sync().map(drop),
            Step::Maintain | Step::Reopen => store.maintain(1000).map(drop),
        };
        states.reach(
            Seq(store.seq().0.max(reached.0 + u64::from(result.is_err()))),
            &oracle.state,
        );
        if let Err(error) = result {
            return (durable, Seq(reached.0 + 1), states, Some(error));
        }
        durable = store.durable();
    }
    (durable, store.seq(), states, None)
}

/// Each call of the disk fails once, in each way. Whatever was acknowledged before is there afterwards, whether only
/// the process is started again or the power is cut too.
#[test]
fn every_failing_call_loses_nothing_acknowledged() {
    let engine = small();
    let mut failures = [0; 2];
    for seed in 0..4 {
        for (fault, count) in [DiskFault::Error, DiskFault::Full].into_iter().zip(&mut failures) {
            for call in 1.. {
                let disk = SimDisk::new(seed ^ call);
                disk.plan(call, fault);
                let (durable, most, states, error) = run_until_failure(&engine, &disk, seed);
                let Some(error) = error else {
                    if disk.stats().calls < call {
                        break;
                    }
                    continue;
                };
                *count += 1;
                assert!(!matches!(error, StoreError::Corrupt(_)), "call {call}: {error}");
                for how in [DiskCrash::Kept, DiskCrash::Lost, DiskCrash::Sectors] {
                    let context = format!("workload {seed}, call {call}, {fault:?}, then {how:?}");
                    let image = disk.snapshot().crash(how, &mut Seeded::new(call));
                    check_found(&engine, &states, &image, (durable, most), &context);
                }
                // The cache says what the disk has not: a process that starts again must not build on it.
                let context = format!("workload {seed}, call {call}, {fault:?}, a restart, a power cut");
                let disk = disk.kill();
                let store = engine.open(Arc::new(disk.clone())).unwrap();
                let durable = store.durable();
                drop(store);
                let disk = disk.crash(DiskCrash::Lost, &mut Seeded::new(call));
                check_found(&engine, &states, &disk, (durable, most), &context);
            }
        }
    }
    assert!(failures.iter().all(|count| *count > 200), "{failures:?}");
}

/// A disk that lies about syncs: what is found is consistent, or called damaged. Never is it wrong.
#[test]
fn a_lying_disk_is_consistent_or_caught() {
    let engine = small();
    let (mut consistent, mut caught, mut lost) = (0, 0, 0);
    for seed in 0..600 {
        let disk = SimDisk::new(seed);
        disk.set_faults(DiskFaults {
            sync_lie: 1 << 14,
            ..DiskFaults::default()
        });
        let (durable, most, states, error) = run_until_failure(&engine, &disk, seed);
        assert!(error.is_none(), "{error:?}");
        let mut choice = Seeded::new(seed);
        let how = DiskCrash::ALL[choice.below(6) as usize];
        let disk = disk.snapshot().crash(how, &mut choice);
        match engine.open(Arc::new(disk)) {
            Ok(store) => match read_all(&*store) {
                Ok(found) => {
                    let seq = store.seq();
                    assert!(seq <= most);
                    assert!(found == **states.get(seq).unwrap(), "workload {seed}, {how:?}");
                    consistent += 1;
                    lost += u64::from(seq < durable);
                }
                Err(StoreError::Corrupt(_)) => caught += 1,
                Err(error) => panic!("{error}"),
            },
            Err(StoreError::Corrupt(_)) => caught += 1,
            Err(error) => panic!("{error}"),
        }
    }
    println!("lying disk: {consistent} consistent ({lost} of an older state), {caught} caught");
    assert!(
        consistent > 100 && caught > 50 && lost > 0,
        "{consistent} {caught} {lost}"
    );
}

fn read_all(store: &dyn Store) -> Result<Vec<(Key, bytes::Bytes)>, StoreError> {
    let mut all = Vec::new();
    let end = Key::Ext(vec![0xff; 8].into());
    store.scan(&Key::StoreHead, &end, false, &mut |key, value| {
        all.push((key, value));
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(all)
}

/// One bit anywhere flips after an orderly end: whatever is read is right or an error, and a verification tells.
#[test]
fn bit_rot_is_never_silent() {
    let engine = small();
    let (mut refused, mut unreadable, mut harmless) = (0, 0, 0);
    for seed in 0..6 {
        let disk = closed_store(&engine, seed);
        let expected = read_all(
            &*engine
                .open(Arc::new(
                    disk.snapshot().crash(DiskCrash::Kept, &mut Seeded::new(0)),
                ))
                .unwrap(),
        )
        .unwrap();
        let report = verify(&disk).unwrap();
        assert!(
            report.is_sound() && report.values == expected.len() as u64,
            "{report:?}"
        );
        let mut choice = Seeded::new(seed);
        for (name, length) in files(&disk) {
            for _ in 0..200 {
                let offset = u64::from(choice.below(length as u32));
                let bit = choice.below(8) as u8;
                let context = format!("workload {seed}, bit {bit} of byte {offset} of {name}");
                let disk = disk.snapshot().crash(DiskCrash::Kept, &mut choice);
                assert!(disk.rot(&name, offset, bit));
                assert!(
                    !verify(&disk).unwrap().is_sound(),
                    "{context}: the verification saw nothing"
                );
                match engine.open(Arc::new(disk)) {
                    Err(StoreError::Corrupt(damage)) => {
                        assert_eq!(damage.file, name, "{context}");
                        refused += 1;
                    }
                    Err(error) => panic!("{context}: {error}"),
                    Ok(store) => match read_all(&*store) {
                        Ok(found) => {
                            assert!(found == expected, "{context}: wrong data");
                            harmless += 1;
                        }
                        Err(StoreError::Corrupt(damage)) => {
                            assert_eq!(damage.file, name, "{context}");
                            unreadable += 1;
                        }
                        Err(error) => panic!("{context}: {error}"),
                    },
                }
            }
        }
    }
    println!("bit rot: {refused} refused, {unreadable} unreadable, {harmless} harmless");
    assert!(refused > 100 && unreadable > 100);
}

/// A bit flips in a store that did not end in an orderly way. Only the last commit, for which nothing vouches yet, can
/// be taken for one that a crash tore off.
#[test]
fn damage_is_not_taken_for_a_torn_tail() {
    let engine = small();
    let (mut caught, mut torn) = (0, 0);
    for seed in 0..10 {
        let recording = Recording::new(&engine, seed, 40, true);
        let last = recording.moments.last().unwrap();
        let mut choice = Seeded::new(seed);
        let files = files(&last.disk.crash(DiskCrash::Kept, &mut choice));
        for _ in 0..200 {
            let disk = last.disk.crash(DiskCrash::Kept, &mut choice);
            let (name, length) = &files[choice.below(files.len() as u32) as usize];
            assert!(disk.rot(name, u64::from(choice.below(*length as u32)), 3));
            match engine.open(Arc::new(disk)) {
                Err(StoreError::Corrupt(_)) => caught += 1,
                Err(error) => panic!("{error}"),
                Ok(store) => {
                    assert!(
                        store.seq().0 + 1 >= last.durable.0,
                        "a durable commit was cut off"
                    );
                    torn += u64::from(store.seq() < last.durable);
                }
            }
        }
    }
    assert!(caught > 100 && torn > 0, "{caught} {torn}");
}

/// A crash loses a commit and keeps the next one. When another commit of the same length takes the place of the lost
/// one, what stands behind it must not come back.
#[test]
fn a_torn_tail_never_comes_back() {
    let engine = small();
    let put = |byte| {
        let mut batch = StoreBatch::default();
        batch.put(Key::Ext(vec![byte].into()), vec![byte; 50]);
        batch
    };
    let disk = SimDisk::new(1);
    let mut store = engine.open(Arc::new(disk.clone())).unwrap();
    for byte in 1..5 {
        store.commit(&put(byte)).unwrap();
    }
    let moment = disk.snapshot();
    let mut odometer = Odometer::default();
    let mut images = 0;
    loop {
        let disk = moment.crash(DiskCrash::Calls, &mut odometer);
        let mut store = engine.open(Arc::new(disk.clone())).unwrap();
        store.commit(&put(9)).unwrap();
        let expected = contents(&*store);
        drop(store);
        let store = engine.open(Arc::new(disk.kill())).unwrap();
        assert!(contents(&*store) == expected);
        images += 1;
        if !odometer.advance() {
            break;
        }
    }
    assert!(images >= 16, "{images}");
}

/// Files that end before their time, and files that are gone.
#[test]
fn missing_bytes_are_never_silent() {
    let engine = small();
    let mut caught = 0;
    for seed in 0..10 {
        let disk = closed_store(&engine, seed);
        for (name, length) in files(&disk) {
            for cut in [0, 1, length / 2, length - 1] {
                let disk = disk.snapshot().crash(DiskCrash::Kept, &mut Seeded::new(0));
                assert!(disk.shorten(&name, cut));
                assert!(
                    !verify(&disk).unwrap().is_sound(),
                    "{name} cut to {cut} of {length}"
                );
                let result = engine.open(Arc::new(disk)).map(drop);
                assert!(
                    matches!(result, Err(StoreError::Corrupt(_))),
                    "{name} cut to {cut} of {length}"
                );
                caught += 1;
            }
            let disk = disk.snapshot().crash(DiskCrash::Kept, &mut Seeded::new(0));
            autobee::env::Disk::remove(&disk, &name).unwrap();
            match engine.open(Arc::new(disk)) {
                Err(StoreError::Corrupt(_)) => caught += 1,
                // Without a checkpoint the log is read from its beginning, if that is still there.
                Ok(store) if name == "checkpoint" => assert!(read_all(&*store).is_ok()),
                other => panic!("{name} removed: {:?}", other.map(drop)),
            }
        }
    }
    assert!(caught > 50);
}

/// Any bytes in place of a file: an error or a store, never a panic.
#[test]
fn garbage_in_a_file_does_not_panic() {
    let engine = small();
    for seed in 0..300 {
        let disk = closed_store(&engine, seed % 5);
        let mut choice = Seeded::new(seed);
        let files = files(&disk);
        let (name, length) = &files[choice.below(files.len() as u32) as usize];
        let from = choice.below(*length as u32);
        for offset in from..(from + choice.below(200)).min(*length as u32) {
            disk.rot(name, u64::from(offset), choice.below(8) as u8);
        }
        let _ = verify(&disk);
        if let Ok(store) = engine.open(Arc::new(disk)) {
            let _ = store.check();
            let _ = read_all(&*store);
        }
    }
}

/// A salvage brings over all that is sound, and nothing else.
#[test]
fn salvage_copies_what_is_sound() {
    let engine = small();
    let mut lost = 0;
    for seed in 0..40 {
        let disk = closed_store(&engine, seed % 8);
        let expected = read_all(&*engine.open(Arc::new(disk.clone())).unwrap()).unwrap();
        let mut choice = Seeded::new(seed);
        let segments: Vec<_> = files(&disk)
            .into_iter()
            .filter(|(name, _)| name != "checkpoint")
            .collect();
        let (name, length) = &segments[choice.below(segments.len() as u32) as usize];
        disk.rot(name, u64::from(choice.below(*length as u32)), 1);
        let target = SimDisk::new(0);
        let mut into = engine.open(Arc::new(target)).unwrap();
        let salvaged = autobee::store::salvage(&disk, &mut *into).unwrap();
        assert!(!salvaged.report.is_sound());
        let kept: Vec<_> = expected
            .iter()
            .filter(|(key, _)| !salvaged.lost.contains(key))
            .cloned()
            .collect();
        assert!(read_all(&*into).unwrap() == kept, "workload {seed}");
        assert_eq!(salvaged.lost.len() + kept.len(), expected.len());
        lost += salvaged.lost.len();
    }
    assert!(lost > 5, "{lost}");
}

fn closed_store(engine: &dyn StoreEngine, seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    let mut store = engine.open(Arc::new(disk.clone())).unwrap();
    for step in Workload::new(seed).take(80) {
        match step {
            Step::Commit(batch) => drop(store.commit(&batch).unwrap()),
            Step::Sync => drop(store.sync().unwrap()),
            Step::Maintain | Step::Reopen => drop(store.maintain(500).unwrap()),
        }
    }
    store.close().unwrap();
    disk
}

/// The files of a log. The mark beside it is a hint, and says nothing when it does not check out.
fn files(disk: &SimDisk) -> Vec<(String, u64)> {
    use autobee::env::{Disk as _, Open};
    let names = disk.list().unwrap();
    let length = |name: &String| disk.open(name, Open::Read).unwrap().len().unwrap();
    names
        .into_iter()
        .filter(|name| name != "durable")
        .map(|name| (name.clone(), length(&name)))
        .collect()
}

/// The tests above would pass on a store that syncs too little if the crashes were too kind: this one is not kind.
#[test]
fn a_sync_that_does_nothing_is_noticed() {
    let engine = small();
    let mut noticed = 0;
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let opened = engine.open(Arc::new(disk.clone())).unwrap();
        drop(opened);
        let seen = disk.stats().calls;
        // From now on every sync of a file lies.
        disk.set_faults(DiskFaults {
            sync_lie: u16::MAX,
            ..DiskFaults::default()
        });
        let (durable, ..) = run_until_failure(&engine, &disk, seed);
        assert!(disk.stats().calls > seen);
        let disk = disk.snapshot().crash(DiskCrash::Lost, &mut Seeded::new(seed));
        match engine.open(Arc::new(disk)) {
            Ok(store) => noticed += u64::from(store.seq() < durable),
            Err(_) => noticed += 1,
        }
    }
    assert!(noticed >= 19, "{noticed}");
    assert!(DiskOp::Sync.changes());
}

/// A child process writes to real files until it is killed; whatever it said before is there.
#[cfg(feature = "tokio")]
mod kill {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};

    use autobee::env::native::NativeDisk;

    use super::*;

    const DIRECTORY: &str = "AUTOBEE_KILLED_CHILD";

    /// Says after every commit what is visible and what is durable. Only the test below starts it.
    #[test]
    fn child_that_is_killed() {
        let Some(directory) = std::env::var_os(DIRECTORY) else {
            return;
        };
        let seed = seed_of(Path::new(&directory));
        let mut store = small()
            .open(Arc::new(NativeDisk::new(&directory).unwrap()))
            .unwrap();
        for step in Workload::new(seed).take(100_000) {
            match step {
                Step::Commit(batch) => drop(store.commit(&batch).unwrap()),
                Step::Sync => drop(store.sync().unwrap()),
                Step::Maintain | Step::Reopen => drop(store.maintain(1000).unwrap()),
            }
            println!("{} {}", store.seq().0, store.durable().0);
            std::io::stdout().flush().unwrap();
        }
    }

    fn seed_of(directory: &Path) -> u64 {
        let name = directory.file_name().unwrap().to_str().unwrap();
        name.rsplit('-').next().unwrap().parse().unwrap()
    }

    #[test]
    fn a_killed_process_loses_no_commit() {
        for seed in 0..8 {
            let name = format!("autobee-kill-{}-{seed}", std::process::id());
            let directory = Scratch(std::env::temp_dir().join(name));
            let said = run_and_kill(&directory.0, 50 + 37 * seed);
            let store = small()
                .open(Arc::new(NativeDisk::new(&directory.0).unwrap()))
                .unwrap();
            assert!(
                store.seq() >= said,
                "workload {seed}: {said:?} was said, {:?} is found",
                store.seq()
            );
            assert_eq!(store.durable(), store.seq());
            let expected = state_at(seed, store.seq());
            assert!(
                contents(&*store) == expected,
                "workload {seed}: not the state after {:?}",
                store.seq()
            );
            store.check().unwrap();
        }
    }

    /// Kills the child after it said so many lines. Gives the last commit of which it said that it was there.
    fn run_and_kill(directory: &Path, lines: u64) -> Seq {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child_that_is_killed", "--nocapture"])
            .env(DIRECTORY, directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut said = Seq(0);
        let mut count = 0;
        for line in output.lines() {
            let line = line.unwrap();
            // The first line is also what the test harness prints before it.
            let mut numbers = line.split_whitespace().rev().map(str::parse);
            let (Some(Ok::<u64, _>(_)), Some(Ok(seq))) = (numbers.next(), numbers.next()) else {
                continue;
            };
            said = Seq(seq);
            count += 1;
            if count == lines {
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success(), "it ended by itself");
        assert!(count >= lines);
        said
    }

    /// What the workload has written when commit `seq` is the last one.
    fn state_at(seed: u64, seq: Seq) -> Vec<(Key, bytes::Bytes)> {
        let mut oracle = Oracle::new();
        let mut store = small().open(Arc::new(SimDisk::new(0))).unwrap();
        for step in Workload::new(seed) {
            if store.seq() >= seq {
                break;
            }
            match step {
                Step::Commit(batch) => {
                    store.commit(&batch).unwrap();
                    oracle.commit(&batch);
                }
                Step::Sync => drop(store.sync().unwrap()),
                Step::Maintain | Step::Reopen => drop(store.maintain(1000).unwrap()),
            }
        }
        oracle.state.to_vec()
    }

    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
