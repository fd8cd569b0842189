//! Changes that take effect together or not at all.

use bytes::Bytes;

use super::Key;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets a value.
    Put(Key, Bytes),
    /// Removes a value; nothing happens when there is none.
    Delete(Key),
    /// Removes all values from the first key up to, and without, the second.
    DeleteRange(Key, Key),
}

/// Changes of one commit, over any number of cores. Later ones see what earlier ones did.
///
/// ```
/// use autobee::store::{StoreBatch, DataPointer, Key};
///
/// let data = DataPointer(1);
/// let mut batch = StoreBatch::default();
/// batch.put(Key::Block(data, 0), &b"hello"[..]).delete(Key::Hints(data));
/// assert_eq!(batch.ops().len(), 2);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreBatch {
    ops: Vec<Op>,
    bytes: usize,
}

impl StoreBatch {
    /// Sets a value.
    pub fn put(&mut self, key: Key, value: impl Into<Bytes>) -> &mut Self {
        let value = value.into();
        self.bytes += value.len();
        self.ops.push(Op::Put(key, value));
        self
    }

    /// Removes a value.
    pub fn delete(&mut self, key: Key) -> &mut Self {
        self.ops.push(Op::Delete(key));
        self
    }

    /// Removes all values from `from` up to, and without, `to`.
    pub fn delete_range(&mut self, from: Key, to: Key) -> &mut Self {
        self.ops.push(Op::DeleteRange(from, to));
        self
    }

    /// Adds the changes of another batch behind these.
    pub fn append(&mut self, other: Self) -> &mut Self {
        self.bytes += other.bytes;
        self.ops.extend(other.ops);
        self
    }

    /// The changes, in order.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// True when there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes of the values in it.
    #[must_use]
    pub const fn value_bytes(&self) -> usize {
        self.bytes
    }
}
