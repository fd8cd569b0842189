//! The view as a persistent ordered map, until the tree lands.
//!
//! Snapshots are free, undo is taking an older one. What it is not: stored, encoded, or readable by a JavaScript
//! peer.

use std::ops::Bound;

use bytes::Bytes;
use im::OrdMap;

use super::ApplyError;

/// The longest key or value, in bytes, that one put may write.
pub const PUT_BYTES_MAX: usize = 1 << 24;

/// The contents of a view: an immutable map from key to value, ordered by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ViewMap(OrdMap<Bytes, Bytes>);

impl ViewMap {
    /// The value under `key`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Bytes> {
        self.0.get(key)
    }

    /// All entries within bounds, in key order.
    pub fn range<'a>(
        &'a self,
        from: Bound<&'a [u8]>,
        to: Bound<&'a [u8]>,
    ) -> impl DoubleEndedIterator<Item = (&'a Bytes, &'a Bytes)> {
        // An ordered map panics on a range that runs backwards; for a reader that range is just empty.
        let backwards = match (from, to) {
            (Bound::Included(a), Bound::Included(b)) => a > b,
            (Bound::Excluded(a) | Bound::Included(a), Bound::Excluded(b))
            | (Bound::Excluded(a), Bound::Included(b)) => a >= b,
            _ => false,
        };
        (!backwards)
            .then(|| self.0.range::<_, [u8]>((from, to)))
            .into_iter()
            .flatten()
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The view while a batch is applied: reads see what this apply wrote; nobody else does until it returned `Ok`.
#[derive(Debug)]
pub struct ApplyView {
    map: ViewMap,
    flushes: u64,
}

impl ApplyView {
    /// Starts on the contents of a view.
    #[must_use]
    pub fn new(map: ViewMap) -> Self {
        Self { map, flushes: 0 }
    }

    /// The value under `key`. A block that is not here yet suspends the whole apply, never this call.
    pub async fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.map.get(key).cloned()
    }

    /// All entries with `from <= key < to`, in key order.
    pub async fn range(&self, from: &[u8], to: &[u8]) -> Vec<(Bytes, Bytes)> {
        self.map
            .range(Bound::Included(from), Bound::Excluded(to))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Starts an atomic write.
    pub fn write(&mut self) -> ApplyWrite<'_> {
        ApplyWrite {
            view: self,
            ops: Vec::new(),
        }
    }

    /// What the view became, and how many writes were flushed.
    #[must_use]
    pub fn into_parts(self) -> (ViewMap, u64) {
        (self.map, self.flushes)
    }
}

/// Puts and deletes that become visible together, at [`ApplyWrite::flush`]; dropped without it, they do nothing.
#[derive(Debug)]
pub struct ApplyWrite<'a> {
    view: &'a mut ApplyView,
    ops: Vec<(Bytes, Option<Bytes>)>,
}

impl ApplyWrite<'_> {
    /// Sets `key` to `value`.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.ops
            .push((Bytes::copy_from_slice(key), Some(Bytes::copy_from_slice(value))));
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: &[u8]) {
        self.ops.push((Bytes::copy_from_slice(key), None));
    }

    /// Writes all of it. Refuses, the same at every peer, what is longer than [`PUT_BYTES_MAX`].
    pub async fn flush(self) -> Result<(), ApplyError> {
        for (key, value) in &self.ops {
            let longest = key.len().max(value.as_ref().map_or(0, Bytes::len));
            if longest > PUT_BYTES_MAX {
                return Err(ApplyError::Reject(format!(
                    "a key or value of {longest} bytes, more than {PUT_BYTES_MAX}"
                )));
            }
        }
        for (key, value) in self.ops {
            match value {
                Some(value) => self.view.map.0.insert(key, value),
                None => self.view.map.0.remove(key.as_ref()),
            };
        }
        self.view.flushes += 1;
        Ok(())
    }
}
