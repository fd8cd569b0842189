//! Every fault of the simulated disk shows when it is on, and none does when it is off. A fault that no test can see
//! is decoration.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::{ErrorKind, IoSlice};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autobee::env::{Disk as _, DiskFile, Open};
use autobee_sim::disk::{DiskCrash, DiskFault, DiskFaults, Latency, Odometer, Seeded, SimDisk};

const ALWAYS: u16 = u16::MAX;

#[test]
fn without_faults_a_synced_write_survives_every_crash() {
    for how in DiskCrash::ALL {
        for seed in 0..50 {
            let disk = SimDisk::new(seed);
            let file = created(&disk, "log");
            write(&*file, 0, b"synced");
            file.sync().unwrap();
            write(&*file, 6, &[b'u'; 5000]);
            let disk = disk.crash(how, &mut Seeded::new(seed));
            assert_eq!(&contents(&disk, "log")[..6], b"synced", "{how:?} {seed}");
        }
    }
}

#[test]
fn crashes_lose_keep_tear_and_reorder_unsynced_writes() {
    let disk = SimDisk::new(1);
    let file = created(&disk, "log");
    for sector in 0..4_u8 {
        write(&*file, u64::from(sector) * 512, &[sector + 1; 512]);
    }
    let moment = disk.snapshot();
    let seen = |how| -> BTreeSet<Vec<u8>> {
        let mut choice = Seeded::new(9);
        let images = (0..300).map(|_| contents(&moment.crash(how, &mut choice), "log"));
        images.collect()
    };
    let whole: Vec<u8> = (1..=4).flat_map(|byte| [byte; 512]).collect();
    assert_eq!(seen(DiskCrash::Lost), BTreeSet::from([Vec::new()]));
    assert_eq!(seen(DiskCrash::Kept), BTreeSet::from([whole.clone()]));
    for image in seen(DiskCrash::Prefix) {
        assert!(whole.starts_with(&image));
    }
    assert!(
        seen(DiskCrash::Prefix).iter().any(|image| image.len() % 512 != 0),
        "torn at a byte"
    );
    let reordered =
        |image: &Vec<u8>| image.len() == 2048 && image[..512] == [0; 512] && image[1536..] == [4; 512];
    assert!(seen(DiskCrash::Calls).iter().any(reordered));
    assert!(seen(DiskCrash::Sectors).iter().any(reordered));
    assert!(
        seen(DiskCrash::Sectors)
            .iter()
            .any(|image| image.len() % 512 != 0),
        "a torn sector"
    );
    assert_eq!(
        seen(DiskCrash::Pages),
        BTreeSet::from([whole, vec![0; 2048]]),
        "one page: all or zeros"
    );
}

#[test]
fn names_are_not_durable_before_the_directory_is() {
    let disk = SimDisk::new(1);
    let file = disk.open("new", Open::CreateNew).unwrap();
    write(&*file, 0, b"contents");
    file.sync().unwrap();
    let old = created(&disk, "old"); // also makes "new" durable
    drop((file, old));
    disk.rename("old", "renamed").unwrap();
    disk.remove("new").unwrap();
    let moment = disk.snapshot();
    let mut choice = Seeded::new(3);
    let mut seen = BTreeSet::new();
    for _ in 0..200 {
        seen.insert(
            moment
                .crash(DiskCrash::Calls, &mut choice)
                .list()
                .unwrap()
                .join(" "),
        );
    }
    let expected = ["new old", "new renamed", "old", "renamed"].map(String::from);
    assert_eq!(seen, BTreeSet::from(expected));
    disk.sync_dir().unwrap();
    assert_eq!(
        disk.crash(DiskCrash::Lost, &mut choice).list().unwrap(),
        ["renamed"]
    );
}

#[test]
fn a_killed_process_loses_nothing_and_a_later_crash_does() {
    let disk = SimDisk::new(1);
    let file = created(&disk, "log");
    write(&*file, 0, b"written");
    let disk = disk.kill();
    assert_eq!(file.len().unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(contents(&disk, "log"), b"written");
    let disk = disk.crash(DiskCrash::Lost, &mut Seeded::new(1));
    assert_eq!(contents(&disk, "log"), b"");
}

#[test]
fn a_restored_backup_forgets_what_came_after() {
    let disk = SimDisk::new(1);
    let file = created(&disk, "log");
    write(&*file, 0, b"one");
    let backup = disk.snapshot();
    write(&*file, 3, b"two");
    file.sync().unwrap();
    assert_eq!(contents(&disk.restore(&backup), "log"), b"one");
}

#[test]
fn the_odometer_enumerates_every_crash() {
    let disk = SimDisk::new(1);
    let file = created(&disk, "log");
    for byte in 0..5 {
        write(&*file, byte, b"x");
    }
    let moment = disk.snapshot();
    let mut odometer = Odometer::default();
    let mut lengths = Vec::new();
    loop {
        lengths.push(contents(&moment.crash(DiskCrash::Prefix, &mut odometer), "log").len());
        if !odometer.advance() {
            break;
        }
    }
    assert_eq!(lengths, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn errors_strike_reads_writes_and_syncs() {
    let on = |faults: DiskFaults| {
        let disk = SimDisk::new(1);
        let file = created(&disk, "log");
        write(&*file, 0, b"abc");
        disk.set_faults(faults);
        let read = file.read_at(0, &mut [0; 3]).is_err();
        let written = file.write_at(0, &[IoSlice::new(b"x")]).is_err();
        let synced = file.sync().is_err();
        [read, written, synced]
    };
    let none = DiskFaults::default;
    assert_eq!(on(none()), [false, false, false]);
    assert_eq!(
        on(DiskFaults {
            read_error: ALWAYS,
            ..none()
        }),
        [true, false, false]
    );
    assert_eq!(
        on(DiskFaults {
            write_error: ALWAYS,
            ..none()
        }),
        [false, true, false]
    );
    assert_eq!(
        on(DiskFaults {
            sync_error: ALWAYS,
            ..none()
        }),
        [false, false, true]
    );
}

#[test]
fn a_failed_sync_is_never_made_good_by_the_next() {
    let disk = SimDisk::new(1);
    let file = created(&disk, "log");
    write(&*file, 0, &[1; 4096]);
    disk.plan(disk.stats().calls + 1, DiskFault::Error);
    assert!(file.sync().is_err());
    file.sync().unwrap();
    let after = contents(&disk.crash(DiskCrash::Lost, &mut Seeded::new(1)), "log");
    assert_ne!(after, [1; 4096], "what the failed sync dropped stays dropped");
}

#[test]
fn a_lying_sync_keeps_nothing() {
    let disk = SimDisk::new(1);
    let file = created(&disk, "log");
    disk.set_faults(DiskFaults {
        sync_lie: ALWAYS,
        ..DiskFaults::default()
    });
    write(&*file, 0, b"abc");
    file.sync().unwrap();
    assert_eq!(contents(&disk, "log"), b"abc");
    assert_eq!(
        contents(&disk.crash(DiskCrash::Lost, &mut Seeded::new(1)), "log"),
        b""
    );
}

#[test]
fn a_quota_fills_up_and_keeps_what_fits() {
    let disk = SimDisk::new(1);
    let file = created(&disk, "log");
    disk.set_faults(DiskFaults {
        quota_bytes: Some(10),
        ..DiskFaults::default()
    });
    write(&*file, 0, b"12345678");
    let error = file.write_at(8, &[IoSlice::new(b"90ab")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(contents(&disk, "log"), b"1234567890");
    write(&*file, 0, b"overwriting needs no space"[..10].as_ref());
    assert_eq!(file.truncate(11).unwrap_err().kind(), ErrorKind::StorageFull);
    file.truncate(2).unwrap();
    write(&*file, 2, b"room");
}

#[test]
fn rot_flips_one_bit_for_good() {
    let disk = SimDisk::new(1);
    let file = created(&disk, "log");
    write(&*file, 0, &[0; 100]);
    file.sync().unwrap();
    disk.plan(disk.stats().calls + 1, DiskFault::Rot);
    let mut first = [0; 100];
    file.read_at(0, &mut first).unwrap();
    assert_eq!(first.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    let disk = disk.crash(DiskCrash::Lost, &mut Seeded::new(1));
    assert_eq!(contents(&disk, "log"), first);
    assert!(disk.rot("log", 99, 3));
    assert!(!disk.rot("log", 100, 3), "no such byte");
    assert_ne!(contents(&disk, "log"), first);
}

#[test]
fn a_write_astray_lands_in_another_sector() {
    let disk = SimDisk::new(1);
    let file = created(&disk, "log");
    write(&*file, 0, &[0; 8192]);
    disk.plan(disk.stats().calls + 1, DiskFault::Astray);
    write(&*file, 4096, b"x");
    let after = contents(&disk, "log");
    let at = after.iter().position(|byte| *byte == b'x').unwrap();
    assert_eq!((at % 512, at == 4096), (0, false));
}

#[test]
fn files_shrink_without_a_word() {
    let disk = SimDisk::new(1);
    let file = created(&disk, "log");
    write(&*file, 0, &[7; 20_000]);
    file.sync().unwrap();
    disk.set_faults(DiskFaults {
        short_file: ALWAYS,
        ..DiskFaults::default()
    });
    let disk = disk.crash(DiskCrash::Kept, &mut Seeded::new(1));
    assert!(contents(&disk, "log").len() < 20_000);
    assert!(disk.shorten("log", 5));
    assert_eq!(contents(&disk, "log"), [7; 5]);
}

#[test]
fn latency_is_a_debt_and_a_sync_can_be_paid_before() {
    let disk = SimDisk::new(1);
    let file = created(&disk, "log");
    let latency = Latency {
        read_us: 1,
        write_us: 20,
        sync_us: 300,
        jitter_us: 0,
    };
    disk.set_faults(DiskFaults {
        latency,
        ..DiskFaults::default()
    });
    write(&*file, 0, b"abc");
    file.read_at(0, &mut [0]).unwrap();
    file.sync().unwrap();
    assert_eq!(disk.take_debt(), Duration::from_micros(321));
    let begun = disk.begin_sync(true);
    assert_eq!(begun.latency(), Duration::from_micros(300));
    disk.end_sync(begun, || file.sync()).unwrap();
    assert_eq!(disk.take_debt(), Duration::ZERO);
    file.sync().unwrap();
    assert_eq!(disk.take_debt(), Duration::from_micros(300));
}

#[test]
fn a_sync_keeps_what_there_was_at_its_begin_and_not_before_its_end() {
    let disk = SimDisk::new(1);
    let file = created(&disk, "log");
    write(&*file, 0, b"before");
    let begun = disk.begin_sync(true);
    write(&*file, 6, b", meanwhile");
    let during = disk.snapshot();
    let mut choice = Seeded::new(1);
    assert_eq!(contents(&during.crash(DiskCrash::Lost, &mut choice), "log"), b"");
    let images: BTreeSet<Vec<u8>> = (0..200)
        .map(|_| contents(&during.crash(DiskCrash::Calls, &mut choice), "log"))
        .collect();
    let later = b"\0\0\0\0\0\0, meanwhile";
    let any = [&b""[..], b"before", later, b"before, meanwhile"].map(<[u8]>::to_vec);
    assert_eq!(images, BTreeSet::from(any), "any subset");
    disk.end_sync(begun, || file.sync()).unwrap();
    assert_eq!(contents(&disk, "log"), b"before, meanwhile");
    assert_eq!(
        contents(&disk.snapshot().crash(DiskCrash::Lost, &mut choice), "log"),
        b"before"
    );
    file.sync().unwrap();
    assert!(
        disk.snapshot().is_synced(),
        "another sync is about everything again"
    );
}

#[test]
fn a_whole_sync_may_fall_within_another() {
    let disk = SimDisk::new(1);
    let file = created(&disk, "log");
    write(&*file, 0, b"one");
    let begun = disk.begin_sync(true);
    write(&*file, 3, b", two");
    file.sync().unwrap();
    write(&*file, 8, b", three");
    disk.end_sync(begun, || file.sync()).unwrap();
    let disk = disk.crash(DiskCrash::Lost, &mut Seeded::new(1));
    assert_eq!(contents(&disk, "log"), b"one, two");
}

#[test]
fn a_failed_sync_takes_nothing_that_was_written_since_it_began() {
    let mut kept = BTreeSet::new();
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let file = created(&disk, "log");
        write(&*file, 0, &[1; 512]);
        let begun = disk.begin_sync(true);
        write(&*file, 512, &[2; 512]);
        disk.plan(disk.stats().calls + 1, DiskFault::Error);
        assert!(disk.end_sync(begun, || file.sync()).is_err());
        kept.insert(contents(&disk, "log")[0]);
        assert_eq!(contents(&disk, "log")[512..], [2; 512]);
        file.sync().unwrap();
        let disk = disk.crash(DiskCrash::Lost, &mut Seeded::new(seed));
        assert_eq!(contents(&disk, "log")[512..], [2; 512]);
    }
    assert_eq!(
        kept,
        BTreeSet::from([0, 1]),
        "what the sync lost may be in the cache"
    );
}

#[test]
fn a_sync_of_a_process_that_is_gone_ends_nothing() {
    let disk = SimDisk::new(1);
    let file = created(&disk, "log");
    write(&*file, 0, b"one");
    let begun = disk.begin_sync(true);
    let next = disk.kill();
    assert!(disk.end_sync(begun, || file.sync()).is_err());
    assert_eq!(
        contents(&next.crash(DiskCrash::Lost, &mut Seeded::new(1)), "log"),
        b""
    );
}

#[test]
fn calls_are_counted_observed_and_alike_for_equal_seeds() {
    let run = |seed| {
        let disk = SimDisk::new(seed);
        let seen = Arc::new(Mutex::new(Vec::new()));
        disk.observe({
            let seen = seen.clone();
            move |event| seen.lock().unwrap().push(format!("{event:?}"))
        });
        disk.set_faults(DiskFaults {
            write_error: 1 << 14,
            ..DiskFaults::default()
        });
        let file = disk.open("log", Open::CreateNew);
        for at in 0..50 {
            if let Ok(file) = &file {
                let _ = file.write_at(at, &[IoSlice::new(b"xyz")]);
            }
        }
        let events = seen.lock().unwrap().clone();
        assert_eq!(events.len() as u64, disk.stats().calls);
        (disk.stats(), events)
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5).1, run(6).1);
    assert!(run(5).1.iter().any(|event| event.contains("fault: Some(Error)")));
}

fn created(disk: &SimDisk, name: &str) -> Box<dyn DiskFile> {
    let file = disk.open(name, Open::CreateNew).unwrap();
    disk.sync_dir().unwrap();
    file
}

fn write(file: &dyn DiskFile, offset: u64, bytes: &[u8]) {
    file.write_at(offset, &[IoSlice::new(bytes)]).unwrap();
}

fn contents(disk: &SimDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name, Open::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}
