//! What every `Disk` does, faults apart.

use std::io::{ErrorKind, IoSlice};

use autobee::env::{Disk, DiskFile, Open};

/// Runs every law on a fresh disk each.
pub(crate) fn laws<D: Disk>(mut fresh: impl FnMut() -> D) {
    names_are_checked(&fresh());
    creating_is_exclusive(&fresh());
    reads_fill_or_fail(&fresh());
    writes_may_leave_gaps(&fresh());
    large_writes_arrive_whole(&fresh());
    truncation_cuts_and_zeros(&fresh());
    allocation_changes_no_contents(&fresh());
    files_opened_for_reading_stay(&fresh());
    renaming_replaces(&fresh());
    removed_files_live_while_open(&fresh());
    listing_is_sorted(&fresh());
    locking_is_exclusive(&fresh());
}

fn names_are_checked(disk: &impl Disk) {
    let long = "x".repeat(256);
    for name in [
        "", ".", "..", ".lock", "a/b", "../a", "a\\b", "a:b", "a b", "a\0b", "\u{e9}", &long,
    ] {
        for how in [Open::Read, Open::Write, Open::CreateNew] {
            assert_eq!(kind(disk.open(name, how)), ErrorKind::InvalidInput, "{name:?}");
        }
        assert_eq!(kind(disk.remove(name)), ErrorKind::InvalidInput, "{name:?}");
        assert_eq!(
            kind(disk.rename(name, "fine")),
            ErrorKind::InvalidInput,
            "{name:?}"
        );
        create(disk, "other", b"");
        assert_eq!(
            kind(disk.rename("other", name)),
            ErrorKind::InvalidInput,
            "{name:?}"
        );
        disk.remove("other").unwrap();
    }
    create(disk, "0123-AZ_az.seg~", b"");
}

fn creating_is_exclusive(disk: &impl Disk) {
    assert_eq!(kind(disk.open("log", Open::Read)), ErrorKind::NotFound);
    assert_eq!(kind(disk.open("log", Open::Write)), ErrorKind::NotFound);
    create(disk, "log", b"first");
    assert_eq!(kind(disk.open("log", Open::CreateNew)), ErrorKind::AlreadyExists);
    assert_eq!(contents(disk, "log"), b"first");
}

fn reads_fill_or_fail(disk: &impl Disk) {
    let file = create(disk, "log", b"abcdef");
    let mut buffer = [0; 4];
    file.read_at(2, &mut buffer).unwrap();
    assert_eq!(&buffer, b"cdef");
    assert_eq!(kind(file.read_at(3, &mut buffer)), ErrorKind::UnexpectedEof);
    assert_eq!(kind(file.read_at(6, &mut buffer)), ErrorKind::UnexpectedEof);
    assert_eq!(kind(file.read_at(1 << 40, &mut buffer)), ErrorKind::UnexpectedEof);
    file.read_at(6, &mut []).unwrap();
    file.read_at(100, &mut []).unwrap();
}

fn writes_may_leave_gaps(disk: &impl Disk) {
    let file = create(disk, "log", b"ab");
    write(&*file, 5, &[b"cd", b"", b"e"]);
    assert_eq!(contents(disk, "log"), b"ab\0\0\0cde");
    write(&*file, 1, &[b"XY"]);
    write(&*file, 100, &[]);
    assert_eq!(contents(disk, "log"), b"aXY\0\0cde");
}

fn large_writes_arrive_whole(disk: &impl Disk) {
    let file = create(disk, "log", b"");
    let large: Vec<u8> = (0..700_000_u32)
        .map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1])
        .collect();
    write(&*file, 3, &[b"head", &large, b"middle", &large[..5000], b"end"]);
    let expected = [
        b"\0\0\0head".as_slice(),
        &large,
        b"middle",
        &large[..5000],
        b"end",
    ]
    .concat();
    assert!(contents(disk, "log") == expected);
}

fn truncation_cuts_and_zeros(disk: &impl Disk) {
    let bytes = vec![7; 10_000];
    let file = create(disk, "log", &bytes);
    file.truncate(5000).unwrap();
    assert_eq!(file.len().unwrap(), 5000);
    file.truncate(9000).unwrap();
    let expected = [vec![7; 5000], vec![0; 4000]].concat();
    assert!(
        contents(disk, "log") == expected,
        "a cut part comes back as zeros"
    );
    file.truncate(0).unwrap();
    assert!(file.is_empty().unwrap());
}

fn allocation_changes_no_contents(disk: &impl Disk) {
    let file = create(disk, "log", b"abc");
    file.allocate(8192).unwrap();
    let after = contents(disk, "log");
    assert_eq!(&after[..3], b"abc");
    assert!(after[3..].iter().all(|byte| *byte == 0));
    file.allocate(1).unwrap();
    assert_eq!(contents(disk, "log"), after);
}

fn files_opened_for_reading_stay(disk: &impl Disk) {
    create(disk, "log", b"abc");
    let file = disk.open("log", Open::Read).unwrap();
    assert!(file.write_at(0, &[IoSlice::new(b"x")]).is_err());
    assert!(file.truncate(0).is_err());
    assert_eq!(contents(disk, "log"), b"abc");
}

fn renaming_replaces(disk: &impl Disk) {
    let old = create(disk, "log", b"old");
    let new = create(disk, "log.tmp", b"new");
    assert_eq!(kind(disk.rename("none", "log")), ErrorKind::NotFound);
    disk.rename("log.tmp", "log").unwrap();
    disk.sync_dir().unwrap();
    assert_eq!(disk.list().unwrap(), ["log"]);
    assert_eq!(contents(disk, "log"), b"new");
    // Handles belong to the file, not to the name.
    write(&*new, 3, &[b"er"]);
    write(&*old, 0, &[b"OLD"]);
    assert_eq!(contents(disk, "log"), b"newer");
}

fn removed_files_live_while_open(disk: &impl Disk) {
    let file = create(disk, "log", b"abc");
    disk.remove("log").unwrap();
    disk.sync_dir().unwrap();
    assert_eq!(kind(disk.remove("log")), ErrorKind::NotFound);
    assert_eq!(kind(disk.open("log", Open::Read)), ErrorKind::NotFound);
    let mut buffer = [0; 3];
    file.read_at(0, &mut buffer).unwrap();
    assert_eq!(&buffer, b"abc");
    file.sync().unwrap();
    create(disk, "log", b"");
    assert_eq!(contents(disk, "log"), b"");
}

fn listing_is_sorted(disk: &impl Disk) {
    assert!(disk.list().unwrap().is_empty());
    for name in ["b", "a", "c10", "c9"] {
        create(disk, name, b"");
    }
    assert_eq!(disk.list().unwrap(), ["a", "b", "c10", "c9"]);
}

fn locking_is_exclusive(disk: &impl Disk) {
    let lock = disk.lock().unwrap();
    assert_eq!(kind(disk.lock()), ErrorKind::WouldBlock);
    drop(lock);
    let _lock = disk.lock().unwrap();
    assert!(disk.list().unwrap().is_empty(), "a lock is no file");
}

fn create(disk: &impl Disk, name: &str, bytes: &[u8]) -> Box<dyn DiskFile> {
    let file = disk.open(name, Open::CreateNew).unwrap();
    write(&*file, 0, &[bytes]);
    file.sync().unwrap();
    disk.sync_dir().unwrap();
    file
}

fn write(file: &dyn DiskFile, offset: u64, parts: &[&[u8]]) {
    let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    file.write_at(offset, &slices).unwrap();
}

fn contents(disk: &impl Disk, name: &str) -> Vec<u8> {
    let file = disk.open(name, Open::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

fn kind<T>(result: std::io::Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => error.kind(),
    }
}
