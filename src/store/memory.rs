//! A store that is one persistent map. Forgets everything; the oracle for engines that do not.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use im::OrdMap;

use super::{Key, Op, Read, Seq, Snapshot, Store, StoreBatch, StoreEngine, StoreError, SyncDone, SyncJob};
use crate::env::Disk;

/// Keeps everything in memory and nothing on disk.
///
/// ```
/// use autobee::env::memory::MemoryDisk;
/// use autobee::store::{StoreBatch, DataPointer, StoreEngine as _, Key, MemoryEngine};
/// use std::sync::Arc;
///
/// let mut store = MemoryEngine.open(Arc::new(MemoryDisk::default()))?;
/// let key = Key::Block(DataPointer(1), 0);
/// store.commit(StoreBatch::default().put(key.clone(), &b"hello"[..]))?;
/// assert_eq!(store.get(&key)?.unwrap(), "hello");
/// # Ok::<_, autobee::store::StoreError>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct MemoryEngine;

impl StoreEngine for MemoryEngine {
    fn open(&self, _disk: Arc<dyn Disk>) -> Result<Box<dyn Store>, StoreError> {
        Ok(Box::new(MemoryState::default()))
    }

    fn keeps_visible(&self) -> bool {
        false
    }
}

#[derive(Clone, Default)]
struct MemoryState {
    values: OrdMap<Key, Bytes>,
    seq: Seq,
}

impl Read for MemoryState {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        Ok(self.values.get(key).cloned())
    }

    fn scan(
        &self,
        from: &Key,
        to: &Key,
        reverse: bool,
        visit: &mut dyn FnMut(Key, Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let mut range = self.values.range(from.clone()..to.clone());
        while let Some((key, value)) = if reverse { range.next_back() } else { range.next() } {
            if visit(key.clone(), value.clone()).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Store for MemoryState {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(Box::new(self.clone()))
    }

    fn commit(&mut self, batch: &StoreBatch) -> Result<Seq, StoreError> {
        for op in batch.ops() {
            match op {
                Op::Put(key, value) => {
                    self.values.insert(key.clone(), value.clone());
                }
                Op::Delete(key) => {
                    self.values.remove(key);
                }
                Op::DeleteRange(from, to) => {
                    if from < to {
                        let range = self.values.range(from.clone()..to.clone());
                        let gone: Vec<Key> = range.map(|(key, _)| key.clone()).collect();
                        for key in gone {
                            self.values.remove(&key);
                        }
                    }
                }
            }
        }
        self.seq.0 += 1;
        Ok(self.seq)
    }

    fn begin_sync(&mut self) -> Result<Option<SyncJob>, StoreError> {
        Ok(None)
    }

    fn end_sync(&mut self, done: SyncDone) -> Result<Seq, StoreError> {
        done.into_outcome()
    }

    fn seq(&self) -> Seq {
        self.seq
    }

    /// Nothing outlives the process, so nothing is lost by calling it durable.
    fn durable(&self) -> Seq {
        self.seq
    }

    fn maintain(&mut self, _budget_bytes: u64) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Snapshot for MemoryState {
    fn seq(&self) -> Seq {
        self.seq
    }
}
