//! One entry as apply sees it.

use bytes::Bytes;

use crate::crypto::CoreKey;
use crate::wire::{Length, Link, Timestamp, Weight};

/// One block of a writer's log that has a value, in its place in the order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The writer.
    pub key: CoreKey,
    /// The length of the writer's log up to and including this block.
    pub length: Length,
    /// What was appended; never empty.
    pub value: Bytes,
    /// True when the writer was not a member when it wrote this.
    pub optimistic: bool,
    /// When the writer says that it wrote this.
    pub timestamp: Timestamp,
    /// The sort weight that the batch has in this place.
    pub weight: Weight,
    /// How many blocks of the same batch come before and after this one.
    pub batch: (u64, u64),
    /// What the writer had applied when it wrote this; only on the first block of a batch.
    pub links: Vec<Link>,
}

impl Entry {
    /// What was appended.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.value
    }
}
