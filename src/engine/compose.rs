//! Making blocks of what the user appends.
//!
//! Source: spec/autobee.md 4.

use bytes::Bytes;
use thiserror::Error;

use super::linearizer::MAX_OPTIMISTIC_NODES;
use super::{STRANGER_BLOCKS_MAX, STRANGER_BYTES_MAX};
use crate::crypto::CoreKey;
use crate::hypercore::log::BLOCK_SIZE_MAX;
use crate::wire::oplog::{BatchPosition, OplogBlock};
use crate::wire::{EncodeError, Link, Timestamp};

/// Bytes that an own block may have before stamps and attestations are added, which take half a mebibyte at most.
pub(super) const OWN_BLOCK_BYTES_MAX: usize = BLOCK_SIZE_MAX - (1 << 19);

/// Values that cannot be appended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ComposeError {
    /// The local writer is no member.
    #[error("{0} is not a writer of this database")]
    NotWritable(CoreKey),
    /// The engine does not know whose log to continue.
    #[error("this engine has no local writer")]
    NoWriter,
    /// A batch has at least one block.
    #[error("a batch without values")]
    Empty,
    /// No peer tries a longer batch of somebody who is no member.
    #[error("an optimistic batch of {blocks} blocks, more than {MAX_OPTIMISTIC_NODES}")]
    LongOptimistic {
        /// How many blocks it would have.
        blocks: u64,
    },
    /// Peers look at no more of the log of somebody who is no member.
    #[error(
        "the log would have {blocks} blocks of {bytes} bytes; of somebody who is no member peers look at \
         {STRANGER_BLOCKS_MAX} blocks and {STRANGER_BYTES_MAX} bytes"
    )]
    NoRoom {
        /// Blocks of the log with the batch.
        blocks: u64,
        /// Bytes of the log with the batch.
        bytes: u64,
    },
    /// With what may still have to be added to it, the block is more than a core can hold.
    #[error("block {position} of the batch would have {bytes} bytes, more than {OWN_BLOCK_BYTES_MAX}")]
    TooLarge {
        /// Which block of the batch.
        position: usize,
        /// How many bytes it would have.
        bytes: usize,
    },
    /// Peers take nothing behind what is in the log already.
    #[error("the log of the local writer {0} cannot be continued")]
    BrokenLog(CoreKey),
    /// A number does not fit the encoding, for example a clock 285,000 years ahead.
    #[error("the entry cannot be encoded: {0}")]
    Encode(#[from] EncodeError),
}

/// The blocks of one batch, without a witness and without stamps.
pub(super) fn batch(
    values: &[Bytes],
    links: Vec<Link>,
    timestamp: Timestamp,
    optimistic: bool,
) -> Vec<OplogBlock> {
    let count = values.len() as u64;
    let mut links = Some(links);
    let blocks = (0..count).zip(values).map(|(before, value)| OplogBlock {
        timestamp,
        links: links.take().unwrap_or_default(),
        batch: BatchPosition {
            before,
            after: count - 1 - before,
        },
        optimistic,
        value: Some(value.clone()),
        // As the original: on all blocks but the last of a round, which gets stamps.
        trusted: Some(Vec::new()),
        ..OplogBlock::default()
    });
    blocks.collect()
}
