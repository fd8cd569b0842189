//! Files of a store may hold anything: opening, verifying and using what opens must not panic, hang, or take more memory
//! than the files are worth.
//!
//! ```text
//! cargo +stable fuzz run -s none store_recovery -- -len_control=0 -max_len=4096
//! ```
//!
//! The first byte says what follows. Even: edits of a sound store, five bytes each (file, place, value). Odd: the bytes of
//! a checkpoint and of a segment as they are, the length of the first in two bytes.
#![no_main]

use std::io::IoSlice;
use std::ops::ControlFlow;
use std::sync::Arc;

use autobee::env::memory::MemoryDisk;
use autobee::env::{Disk as _, Open};
use autobee::store::{DataPointer, Key, Seglog, StoreBatch, StoreEngine as _, verify};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((form, bytes)) = bytes.split_first() else {
        return;
    };
    let disk = Arc::new(MemoryDisk::default());
    if form % 2 == 0 {
        write_store(&disk, form % 4 == 0);
        edit(&disk, bytes);
    } else {
        let Some((length, rest)) = bytes.split_first_chunk::<2>() else {
            return;
        };
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        write(&disk, "checkpoint", &rest[..length]);
        write(&disk, "00000001.segment", &rest[length..]);
    }
    use_all(&disk);
});

fn small() -> Seglog {
    Seglog::default().segment_bytes(1024).checkpoint_bytes(1500)
}

fn write_store(disk: &Arc<MemoryDisk>, close: bool) {
    let mut store = small().open(disk.clone()).expect("a directory in memory");
    let data = DataPointer(1);
    for index in 0..20_u64 {
        let mut batch = StoreBatch::default();
        batch.put(Key::Block(data, index), vec![7; 60]);
        for depth in 0..=index.trailing_ones() {
            batch.put(Key::Tree(data, 2 * index + 1 - (1 << depth)), vec![1; 40]);
        }
        batch.put(Key::Head(data), vec![2; 100]);
        store.commit(&batch).expect("a disk in memory");
        store.maintain(500).expect("a disk in memory");
    }
    if close {
        store.close().expect("a disk in memory");
    }
}

fn edit(disk: &MemoryDisk, edits: &[u8]) {
    let names = disk.list().expect("a directory in memory");
    for edit in edits.as_chunks::<5>().0 {
        let name = &names[usize::from(edit[0]) % names.len()];
        let file = disk.open(name, Open::Write).expect("a listed file");
        let length = file.len().expect("an open file").max(1);
        let at = u64::from(u16::from_le_bytes([edit[1], edit[2]])) % length;
        match edit[3] % 8 {
            0 => file.truncate(at).expect("a disk in memory"),
            _ => file
                .write_at(at, &[IoSlice::new(&edit[4..])])
                .expect("a disk in memory"),
        }
    }
}

fn write(disk: &MemoryDisk, name: &str, bytes: &[u8]) {
    if !bytes.is_empty() {
        let file = disk.open(name, Open::CreateNew).expect("a new file");
        file.write_at(0, &[IoSlice::new(bytes)])
            .expect("a disk in memory");
    }
}

fn use_all(disk: &Arc<MemoryDisk>) {
    let _ = verify(&**disk);
    let Ok(mut store) = small().open(disk.clone()) else {
        return;
    };
    let _ = store.check();
    let end = Key::Ext(vec![0xff; 8].into());
    let _ = store.scan(
        &Key::StoreHead,
        &end,
        false,
        &mut |_, _| ControlFlow::Continue(()),
    );
    let mut batch = StoreBatch::default();
    batch.delete_range(Key::Block(DataPointer(0), 0), Key::Mark(DataPointer(9), 0));
    batch.put(Key::Block(DataPointer(1), 3), vec![1; 3000]);
    if store.commit(&batch).is_ok() {
        let read = store.get(&Key::Block(DataPointer(1), 3));
        assert!(read.is_ok_and(|value| value.is_some_and(|value| value.len() == 3000)));
    }
    for _ in 0..5 {
        let _ = store.maintain(1 << 20);
    }
    let _ = store.close();
}
