//! What cores do to a store, drawn from a seed: appends with nodes, heads, truncations, clears, sparse blocks.

use std::ops::ControlFlow;

use autobee::store::{CorePointer, DataPointer, Key, Read, StoreBatch};
use autobee_sim::disk::{Choose as _, Seeded};
use bytes::Bytes;

/// One step of a workload.
pub(crate) enum Step {
    Commit(StoreBatch),
    Sync,
    Maintain,
    Reopen,
}

/// An endless sequence of steps.
pub(crate) struct Workload {
    choice: Seeded,
    lengths: [u64; 3],
    count: u64,
}

impl Workload {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            choice: Seeded::new(seed),
            lengths: [0; 3],
            count: 0,
        }
    }

    fn commit(&mut self) -> StoreBatch {
        let mut batch = StoreBatch::default();
        for _ in 0..=self.choice.below(2) {
            self.change(&mut batch);
        }
        batch
    }

    fn change(&mut self, batch: &mut StoreBatch) {
        let line = self.choice.below(3) as usize;
        let data = DataPointer(line as u64 + 1);
        let length = self.lengths[line];
        match self.choice.below(16) {
            0..8 => {
                let count = u64::from(self.choice.below(4)) + 1;
                for index in length..length + count {
                    self.append(batch, data, index);
                }
                self.lengths[line] = length + count;
                batch.put(Key::Head(data), self.value(100));
            }
            8 => {
                let to = u64::from(self.choice.below(length as u32 + 1));
                batch.delete_range(Key::Block(data, to), Key::Tree(data, 0));
                batch.delete_range(Key::Tree(data, to * 2), Key::Bitfield(data, 0));
                self.lengths[line] = to;
                if self.choice.below(2) == 0 {
                    self.append(batch, data, to);
                    self.lengths[line] = to + 1;
                }
            }
            9 => {
                let from = u64::from(self.choice.below(length as u32 + 1));
                batch.delete_range(Key::Block(data, from), Key::Block(data, from + 5));
            }
            10 => {
                // A block comes back, or comes before others, with or without its nodes.
                let index = u64::from(self.choice.below(length as u32 + 40));
                if self.choice.below(2) == 0 {
                    self.append(batch, data, index);
                } else {
                    batch.put(Key::Block(data, index), self.value(60));
                }
            }
            11 => {
                let node = u64::from(self.choice.below(2 * length as u32 + 20));
                let size = [40, 40, 40, 3][self.choice.below(4) as usize];
                batch.put(Key::Tree(data, node), self.value(size));
                if self.choice.below(3) == 0 {
                    batch.delete(Key::Tree(data, node + 1));
                }
            }
            12 => {
                let (from, to) = (any_key(&mut self.choice), any_key(&mut self.choice));
                batch.delete_range(from, to);
            }
            13 => {
                let key = any_key(&mut self.choice);
                batch.delete(key);
            }
            _ => {
                let key = any_key(&mut self.choice);
                let size = [0, 10, 100, 700][self.choice.below(4) as usize];
                batch.put(key, self.value(size));
            }
        }
    }

    fn append(&mut self, batch: &mut StoreBatch, data: DataPointer, index: u64) {
        let size = self.choice.below(120) as usize;
        batch.put(Key::Block(data, index), self.value(size));
        for depth in 0..=index.trailing_ones() {
            batch.put(Key::Tree(data, 2 * index + 1 - (1 << depth)), self.value(40));
        }
    }

    /// Bytes that no other value has.
    fn value(&mut self, size: usize) -> Bytes {
        self.count += 1;
        let pattern = self.count.to_le_bytes();
        pattern.iter().copied().cycle().take(size).collect()
    }
}

impl Iterator for Workload {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        Some(match self.choice.below(10) {
            0 => Step::Sync,
            1 => Step::Maintain,
            2 if self.choice.below(4) == 0 => Step::Reopen,
            _ => Step::Commit(self.commit()),
        })
    }
}

/// Some key, near those of the workload.
pub(crate) fn any_key(choice: &mut Seeded) -> Key {
    let data = DataPointer(u64::from(choice.below(5)));
    let index = u64::from(choice.below(40));
    let name = Bytes::from(vec![b'a'; choice.below(3) as usize]);
    match choice.below(16) {
        0 => Key::StoreHead,
        1 => Key::CoreByAlias([choice.below(2).to_le_bytes()[0]; 32], name),
        2 => Key::Auth(CorePointer(index % 4)),
        3 => Key::Sessions(CorePointer(index % 4)),
        4 => Key::Head(data),
        5 => Key::Hints(data),
        6..9 => Key::Block(data, index),
        9..12 => Key::Tree(data, 2 * index + u64::from(choice.below(2))),
        12 => Key::Bitfield(data, index % 3),
        13 => Key::UserData(data, name),
        14 => Key::Local(data, name),
        _ => Key::Ext(name),
    }
}

/// Everything that can be read, in order.
pub(crate) fn contents(store: &(impl Read + ?Sized)) -> Vec<(Key, Bytes)> {
    let mut all = Vec::new();
    let end = Key::Ext(Bytes::from_static(&[0xff; 8]));
    let mut visit = |key, value| {
        all.push((key, value));
        ControlFlow::Continue(())
    };
    store.scan(&Key::StoreHead, &end, false, &mut visit).unwrap();
    all
}
