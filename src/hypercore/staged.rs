//! The state of a store with changes on top that are not committed yet.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::store::{Key, Op, Read, Snapshot, StoreBatch, StoreError};

/// A state with the changes of a batch on top. A scan does not show the changes: lines are scanned when they are
/// loaded, and what the batch changes is loaded already.
pub(super) struct Staged<'a> {
    base: &'a dyn Snapshot,
    ops: &'a [Op],
}

impl<'a> Staged<'a> {
    #[expect(
        clippy::borrowed_box,
        reason = "the box of the change is what there is to borrow"
    )]
    pub(super) fn new(base: &'a Box<dyn Snapshot>, batch: &'a StoreBatch) -> Self {
        Self {
            base: &**base,
            ops: batch.ops(),
        }
    }
}

impl Read for Staged<'_> {
    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        for op in self.ops.iter().rev() {
            match op {
                Op::Put(other, value) if other == key => return Ok(Some(value.clone())),
                Op::Delete(other) if other == key => return Ok(None),
                Op::DeleteRange(from, to) if from <= key && key < to => return Ok(None),
                _ => {}
            }
        }
        self.base.get(key)
    }

    fn scan(
        &self,
        from: &Key,
        to: &Key,
        reverse: bool,
        visit: &mut dyn FnMut(Key, Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.base.scan(from, to, reverse, visit)
    }
}
