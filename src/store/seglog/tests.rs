//! Damage to the files of a log, and what opening makes of it.

use std::io::IoSlice;

use proptest::prelude::*;

use super::super::DataPointer;
use super::*;
use crate::env::memory::MemoryDisk;
use crate::env::{DiskFile, Open};

fn small() -> Seglog {
    Seglog::default().segment_bytes(1024).checkpoint_bytes(1500)
}

/// A store of several segments and a checkpoint, with some log behind it.
fn written(disk: &Arc<MemoryDisk>, close: bool) {
    let mut store = small().open(disk.clone()).unwrap();
    let data = DataPointer(1);
    for index in 0..30_u64 {
        let mut batch = StoreBatch::default();
        batch.put(Key::Block(data, index), vec![7; 60]);
        for depth in 0..=index.trailing_ones() {
            batch.put(Key::Tree(data, 2 * index + 1 - (1 << depth)), vec![1; 40]);
        }
        batch.put(Key::Head(data), vec![2; 300]);
        batch.delete_range(Key::Block(data, index / 2), Key::Block(data, index / 2 + 1));
        store.commit(&batch).unwrap();
        store.maintain(500).unwrap();
    }
    if close {
        store.close().unwrap();
    }
}

fn bytes_of(file: &dyn DiskFile) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

fn use_all(disk: &Arc<MemoryDisk>) {
    let _ = verify(&**disk);
    let Ok(mut store) = small().open(disk.clone()) else {
        return;
    };
    let _ = store.check();
    let _ = store.scan(
        &Key::StoreHead,
        &Key::Ext(vec![0xff].into()),
        true,
        &mut |_, _| ControlFlow::Continue(()),
    );
    let mut batch = StoreBatch::default();
    batch.delete_range(Key::Block(DataPointer(0), 0), Key::Mark(DataPointer(9), 0));
    batch.put(Key::Block(DataPointer(1), 3), vec![1; 3000]);
    let _ = store.commit(&batch);
    for _ in 0..5 {
        let _ = store.maintain(1 << 20);
    }
    let _ = store.close();
}

/// A log of ten durable commits in one segment, and where each ends.
fn ten(disk: &Arc<MemoryDisk>) -> Vec<u64> {
    let mut store = Seglog::default().salt(9).open(disk.clone()).unwrap();
    let mut ends = Vec::new();
    for index in 0..10 {
        let key = Key::Block(DataPointer(1), index);
        store.commit(StoreBatch::default().put(key, vec![7; 50])).unwrap();
        store.sync().unwrap();
        ends.push(disk.open("00000001.segment", Open::Read).unwrap().len().unwrap());
    }
    ends
}

#[test]
fn an_end_that_was_cut_off_is_said() {
    let disk = Arc::new(MemoryDisk::default());
    let ends = ten(&disk);
    let file = disk.open("00000001.segment", Open::Write).unwrap();
    file.truncate(ends[6] - 3).unwrap();
    let report = verify(&*disk).unwrap();
    assert_eq!(report.damages.len(), 1, "{report:?}");
    assert!(report.damages[0].what.contains("commits 7 to 10"), "{report:?}");
    let store = Seglog::default().open(disk.clone()).unwrap();
    let recovered = store.recovered();
    assert_eq!(recovered.missing, Some((Seq(7), Seq(10))));
    assert_eq!(recovered.torn_bytes, ends[6] - 3 - ends[5]);
    assert_eq!(recovered.checkpoint, None);
    assert_eq!(store.seq(), Seq(6));
}

/// The same, and an eleventh commit that the process did not come to sync.
fn ten_and_one(disk: &Arc<MemoryDisk>) -> Vec<u64> {
    let ends = ten(disk);
    let mut store = Seglog::default().open(disk.clone()).unwrap();
    let key = Key::Block(DataPointer(1), 10);
    store.commit(StoreBatch::default().put(key, vec![7; 50])).unwrap();
    ends
}

#[test]
fn what_was_never_durable_is_not_missed() {
    let disk = Arc::new(MemoryDisk::default());
    let ends = ten_and_one(&disk);
    let file = disk.open("00000001.segment", Open::Write).unwrap();
    file.truncate(ends[9] + 5).unwrap();
    assert!(verify(&*disk).unwrap().is_sound());
    let store = Seglog::default().open(disk.clone()).unwrap();
    assert_eq!(store.recovered().missing, None);
    assert_eq!(store.recovered().torn_bytes, 5);
}

#[test]
fn what_an_opening_made_durable_is_missed() {
    let disk = Arc::new(MemoryDisk::default());
    let ends = ten_and_one(&disk);
    // The next process finds the commit in the cache, and syncs it.
    drop(Seglog::default().open(disk.clone()).unwrap());
    let file = disk.open("00000001.segment", Open::Write).unwrap();
    file.truncate(ends[9]).unwrap();
    let store = Seglog::default().open(disk.clone()).unwrap();
    assert_eq!(store.recovered().missing, Some((Seq(11), Seq(11))));
}

#[test]
fn segments_that_are_all_gone_are_missed() {
    for left in [None, Some(0), Some(20)] {
        let disk = Arc::new(MemoryDisk::default());
        ten(&disk);
        remove_if_there(&disk, checkpoint::NAME);
        match left {
            None => disk.remove("00000001.segment").unwrap(),
            Some(length) => {
                let file = disk.open("00000001.segment", Open::Write).unwrap();
                file.truncate(length).unwrap();
            }
        }
        for _ in 0..2 {
            let opened = Seglog::default().open(disk.clone());
            let Err(StoreError::Corrupt(damage)) = opened else {
                panic!("{left:?}: {:?}", opened.err());
            };
            assert_eq!(damage.file, mark::NAME);
        }
    }
}

fn remove_if_there(disk: &MemoryDisk, name: &str) {
    if disk.list().unwrap().iter().any(|there| there == name) {
        disk.remove(name).unwrap();
    }
}

#[test]
fn its_space_is_that_of_its_segments() {
    let disk = Arc::new(MemoryDisk::default());
    written(&disk, false);
    let mut store = small().open(disk.clone()).unwrap();
    while store.maintain(1 << 20).unwrap() {}
    let space = store.space().unwrap();
    let names = disk
        .list()
        .unwrap()
        .into_iter()
        .filter(|name| name.ends_with(".segment"));
    let lengths = names.map(|name| disk.open(&name, Open::Read).unwrap().len().unwrap());
    assert_eq!(space.bytes, lengths.sum::<u64>());
    assert!(
        !space.is_shrinking && space.wanted_bytes < space.bytes,
        "{space:?}"
    );
}

#[test]
fn a_mark_that_does_not_check_out_says_nothing() {
    let disk = Arc::new(MemoryDisk::default());
    let ends = ten(&disk);
    let mark = disk.open(mark::NAME, Open::Write).unwrap();
    mark.write_at(17, &[IoSlice::new(&[0xff])]).unwrap();
    let file = disk.open("00000001.segment", Open::Write).unwrap();
    file.truncate(ends[6]).unwrap();
    let store = Seglog::default().open(disk.clone()).unwrap();
    assert_eq!(store.recovered(), &Recovered::default());
}

#[test]
fn a_garbled_checkpoint_is_left_aside() {
    let disk = Arc::new(MemoryDisk::default());
    ten(&disk);
    let store = Seglog::default().open(disk.clone()).unwrap();
    store.close().unwrap();
    let file = disk.open(checkpoint::NAME, Open::Write).unwrap();
    for (offset, length) in [(0, 40), (14, 26), (30, 1), (5, 0)] {
        file.write_at(offset, &[IoSlice::new(&vec![0x55; length])])
            .unwrap();
        if length == 0 {
            file.truncate(offset).unwrap();
        }
        let store = Seglog::default().open(disk.clone()).unwrap();
        assert_eq!(store.seq(), Seq(10));
        assert!(store.recovered().checkpoint.is_some());
        let key = Key::Block(DataPointer(1), 4);
        assert_eq!(store.get(&key).unwrap().unwrap().len(), 50);
        drop(store);
        assert!(!verify(&*disk).unwrap().is_sound());
    }
    // The next one takes its place.
    let mut store = Seglog::default().open(disk.clone()).unwrap();
    store
        .commit(StoreBatch::default().put(Key::StoreHead, vec![1]))
        .unwrap();
    store.close().unwrap();
    let store = Seglog::default().open(disk).unwrap();
    assert_eq!((store.seq(), store.recovered()), (Seq(11), &Recovered::default()));
}

/// Where the log begins with a later segment, its state cannot be told without the checkpoint.
#[test]
fn a_garbled_checkpoint_without_the_first_segment_is_an_error() {
    let disk = Arc::new(MemoryDisk::default());
    written(&disk, true);
    assert!(!disk.list().unwrap().contains(&segment::name_of(1)));
    let file = disk.open(checkpoint::NAME, Open::Write).unwrap();
    file.write_at(20, &[IoSlice::new(&[0x55; 8])]).unwrap();
    assert!(matches!(
        small().open(disk).map(drop),
        Err(StoreError::Corrupt(damage)) if damage.file == checkpoint::NAME
    ));
}

/// A block of a peer that is full of heads of frames, behind the end of what was durable.
#[test]
fn a_torn_tail_of_heads_is_looked_through_once() {
    let mut block = vec![0_u8; 6 << 20];
    let size = block.len();
    for at in (0..size - 28).step_by(28) {
        block[at..at + 4].copy_from_slice(b"aBc\x01");
        let left = u32::try_from((size - at).saturating_sub(4096)).unwrap();
        block[at + 8..at + 12].copy_from_slice(&left.to_le_bytes());
        block[at + 20..at + 28].copy_from_slice(&u64::MAX.to_le_bytes());
    }
    let disk = Arc::new(MemoryDisk::default());
    let ends = ten(&disk);
    let mut store = Seglog::default().open(disk.clone()).unwrap();
    let key = Key::Block(DataPointer(2), 0);
    store.commit(StoreBatch::default().put(key, block)).unwrap();
    drop(store);
    let file = disk.open("00000001.segment", Open::Write).unwrap();
    file.truncate(file.len().unwrap() - 64).unwrap();
    let store = Seglog::default().open(disk.clone()).unwrap();
    assert_eq!(store.seq(), Seq(10));
    assert_eq!(
        disk.open("00000001.segment", Open::Read).unwrap().len().unwrap(),
        ends[9]
    );
}

/// Frames of any length are found behind anything.
#[test]
fn a_frame_behind_damage_is_found() {
    for size in [10, 900, 1_100, 70_000] {
        let disk = Arc::new(MemoryDisk::default());
        let ends = ten(&disk);
        let mut store = Seglog::default().open(disk.clone()).unwrap();
        for index in 0..2 {
            let key = Key::Block(DataPointer(2), index);
            store
                .commit(StoreBatch::default().put(key, vec![5; size]))
                .unwrap();
            store.sync().unwrap();
        }
        drop(store);
        let file = disk.open("00000001.segment", Open::Write).unwrap();
        // The first of the two is damaged; the second says that it was durable.
        file.write_at(ends[9] + 30, &[IoSlice::new(&[0xee])]).unwrap();
        assert!(
            matches!(
                Seglog::default().open(disk).map(drop),
                Err(StoreError::Corrupt(damage)) if damage.offset == ends[9]
            ),
            "{size}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// A checkpoint whose checksum fits and whose contents make no sense: errors, but no panic and no giant
    /// allocation.
    #[test]
    fn a_senseless_checkpoint_does_no_harm(edits in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
        let disk = Arc::new(MemoryDisk::default());
        written(&disk, true);
        let file = disk.open(checkpoint::NAME, Open::Write).unwrap();
        let mut bytes = bytes_of(&*file);
        let items = 12 + 8..bytes.len();
        for (at, byte) in edits {
            let at = items.start + at % items.len();
            bytes[at] = byte;
        }
        let crc = checkpoint::chunk_crc(1, 0, &bytes[items]);
        bytes[16..20].copy_from_slice(&crc.to_le_bytes());
        file.write_at(0, &[IoSlice::new(&bytes)]).unwrap();
        use_all(&disk);
    }

    /// The same for a frame of the log: one record's bytes changed, all checksums right.
    #[test]
    fn a_senseless_frame_does_no_harm(records in proptest::collection::vec((0..7_u8, 0..40_u64, 0..80_u64, any::<u64>()), 1..6)) {
        let disk = Arc::new(MemoryDisk::default());
        written(&disk, true);
        let mut store = small().open(disk.clone()).unwrap();
        let (seq, durable) = (store.seq(), store.durable());
        store.commit(StoreBatch::default().put(Key::StoreHead, vec![1])).unwrap();
        drop(store);
        let name = disk.list().unwrap().into_iter().rfind(|name| segment::number_of(name).is_some()).unwrap();
        let number = segment::number_of(&name).unwrap();
        let file = disk.open(&name, Open::Write).unwrap();
        let length = file.len().unwrap();
        let head_record = 28 + 1 + 1 + 1 + 1 + 4 + 1;
        let at = length - head_record;
        let mut out = Vec::new();
        frame::begin(&mut out);
        for (kind, low, high, any) in records {
            let data = DataPointer(any % 3);
            let node = [any.to_le_bytes()[0]; 40];
            match kind {
                0 => record::encode_block(&mut out, data, low, [(0, &node[..])].into_iter(), None),
                1 => record::encode_block(&mut out, data, any, std::iter::empty(), Some(&node)),
                2 => record::encode_put(&mut out, &Key::Tree(data, any), &node[..3]),
                3 => record::encode_put(&mut out, &Key::Block(data, low), &node),
                4 => record::encode_delete(&mut out, &Key::Tree(data, any)),
                5 => record::encode_delete_range(&mut out, &Key::Tree(data, low), &Key::Tree(data, high)),
                _ => record::encode_delete_range(&mut out, &Key::Block(data, high), &Key::Block(data, low)),
            }
        }
        let kind = if seq.0 % 2 == 0 { FrameKind::Commit } else { FrameKind::Move };
        frame::finish(&mut out, kind, Seq(seq.0 + 1), durable, 0, (number, at)).unwrap();
        file.truncate(at).unwrap();
        file.write_at(at, &[IoSlice::new(&out)]).unwrap();
        let store = small().open(disk.clone()).unwrap();
        assert_eq!(store.seq(), Seq(seq.0 + 1), "the frame was taken");
        drop(store);
        use_all(&disk);
    }
}
