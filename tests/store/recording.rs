//! A workload that ran once, with the disk as it was after every call, and the state after every commit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use autobee::store::{Key, MemoryEngine, Seq, Store, StoreBatch, StoreEngine};
use autobee_sim::disk::{DiskSnapshot, SimDisk};
use bytes::Bytes;

use super::workload::{Step, Workload, contents};

/// All that can be read of a store.
pub(crate) type State = Arc<Vec<(Key, Bytes)>>;

/// The disk right after one of its calls, or between two calls of the store.
pub(crate) struct Moment {
    pub(crate) disk: DiskSnapshot,
    /// The last commit that was acknowledged as durable before.
    pub(crate) durable: Seq,
    /// The last commit that was acknowledged as visible before.
    pub(crate) visible: Seq,
    /// The last commit of the call of the store that was under way.
    pub(crate) under_way: Seq,
}

/// What ran, and what must be found.
pub(crate) struct Recording {
    pub(crate) moments: Vec<Moment>,
    pub(crate) states: States,
}

/// The state after every commit; housekeeping has numbers too.
#[derive(Default)]
pub(crate) struct States {
    by_seq: BTreeMap<Seq, State>,
}

impl States {
    pub(crate) fn get(&self, seq: Seq) -> Option<&State> {
        self.by_seq.get(&seq)
    }

    /// All up to `seq`, from the last that is known, are this state.
    pub(crate) fn reach(&mut self, seq: Seq, state: &State) {
        let next = self.by_seq.keys().next_back().map_or(0, |last| last.0 + 1);
        for seq in next..=seq.0 {
            self.by_seq.insert(Seq(seq), state.clone());
        }
    }
}

/// The model: what the store must hold.
pub(crate) struct Oracle {
    store: Box<dyn Store>,
    pub(crate) state: State,
}

impl Oracle {
    pub(crate) fn new() -> Self {
        let store = MemoryEngine.open(Arc::new(SimDisk::new(0))).unwrap();
        Self {
            store,
            state: State::default(),
        }
    }

    pub(crate) fn commit(&mut self, batch: &StoreBatch) {
        self.store.commit(batch).unwrap();
        self.state = Arc::new(contents(&*self.store));
    }
}

impl Recording {
    /// Runs `steps` steps. `sync_each` makes every commit durable.
    pub(crate) fn new(engine: &dyn StoreEngine, seed: u64, steps: usize, sync_each: bool) -> Self {
        let disk = SimDisk::new(seed);
        let shots = Arc::new(Mutex::new(Vec::new()));
        disk.observe({
            let (disk, shots) = (disk.clone(), shots.clone());
            move |event| {
                if event.op.changes() {
                    shots.lock().unwrap().push(disk.snapshot());
                }
            }
        });
        let mut moments = Vec::new();
        let mut states = States::default();
        let mut oracle = Oracle::new();
        let (mut durable, mut visible) = (Seq(0), Seq(0));
        states.reach(Seq(0), &oracle.state);
        let take = |moments: &mut Vec<Moment>, durable, visible, under_way| {
            let disks = std::mem::take(&mut *shots.lock().unwrap());
            moments.extend(disks.into_iter().map(|disk| Moment {
                disk,
                durable,
                visible,
                under_way,
            }));
        };
        let mut store = engine.open(Arc::new(disk.clone())).unwrap();
        take(&mut moments, durable, visible, Seq(0));
        for step in Workload::new(seed).take(steps) {
            match step {
                Step::Commit(batch) => {
                    store.commit(&batch).unwrap();
                    oracle.commit(&batch);
                    if sync_each {
                        // Two calls: what the first did is visible, before the second makes it durable.
                        states.reach(store.seq(), &oracle.state);
                        take(&mut moments, durable, visible, store.seq());
                        visible = store.seq();
                        store.sync().unwrap();
                    }
                }
                Step::Sync => drop(store.sync().unwrap()),
                Step::Maintain => drop(store.maintain(1000).unwrap()),
                Step::Reopen => {
                    store.close().unwrap();
                    store = engine.open(Arc::new(disk.clone())).unwrap();
                }
            }
            states.reach(store.seq(), &oracle.state);
            take(&mut moments, durable, visible, store.seq());
            (durable, visible) = (store.durable(), store.seq());
            moments.push(Moment {
                disk: disk.snapshot(),
                durable,
                visible,
                under_way: visible,
            });
        }
        Self { moments, states }
    }
}
