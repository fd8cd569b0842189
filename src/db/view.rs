//! Reading the merged view.

use std::ops::Bound;

use bytes::Bytes;

use crate::apply::provisional_view::ViewMap;
use crate::error::Error;

/// A snapshot of the view: it never changes, whatever is applied later. Take a new one to see more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    map: ViewMap,
}

impl View {
    pub(super) const fn new(map: ViewMap) -> Self {
        Self { map }
    }

    /// The value under `key`.
    ///
    /// # Errors
    ///
    /// None yet: the whole view is local. With the tree, a block that no peer within reach has is `Unavailable`.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.map.get(key).cloned())
    }

    /// All entries with `from <= key < to`, in key order.
    ///
    /// # Errors
    ///
    /// As [`View::get`].
    pub async fn range(&self, from: &[u8], to: &[u8]) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let range = self.map.range(Bound::Included(from), Bound::Excluded(to));
        Ok(range.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    /// Everything, in key order.
    ///
    /// # Errors
    ///
    /// As [`View::get`].
    pub async fn all(&self) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let range = self.map.range(Bound::Unbounded, Bound::Unbounded);
        Ok(range.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}
