//! Making blocks of what the user appends.
//!
//! Source: spec/autobee.md 4. Attestations, witnesses and positions of views are not written yet.

use bytes::Bytes;
use thiserror::Error;

use crate::crypto::CoreKey;
use crate::wire::oplog::{BatchPosition, OplogBlock};
use crate::wire::{Encode as _, EncodeError, Link, Timestamp};

/// Values that cannot be appended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ComposeError {
    /// The local writer is no member.
    #[error("{0} is not a writer of this database")]
    NotWritable(CoreKey),
    /// A number does not fit the encoding, for example a clock 285,000 years ahead.
    #[error("the entry cannot be encoded: {0}")]
    Encode(#[from] EncodeError),
}

/// The blocks of one batch.
///
/// # Errors
///
/// When a number does not fit the encoding.
pub(super) fn batch(
    values: &[Bytes],
    links: Vec<Link>,
    timestamp: Timestamp,
    optimistic: bool,
) -> Result<Vec<Bytes>, EncodeError> {
    let count = values.len() as u64;
    let mut links = Some(links);
    (0..count)
        .zip(values)
        .map(|(before, value)| {
            let block = OplogBlock {
                timestamp,
                links: links.take().unwrap_or_default(),
                batch: BatchPosition {
                    before,
                    after: count - 1 - before,
                },
                optimistic,
                value: Some(value.clone()),
                ..OplogBlock::default()
            };
            block.to_bytes().map(Bytes::from)
        })
        .collect()
}
