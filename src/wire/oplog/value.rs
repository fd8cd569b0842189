//! A block around one value, made outside of any database: to be sent to a writer, or to be an anchor (spec/autobee.md
//! 2.8).

use bytes::Bytes;

use super::{OplogBlock, ViewStamps};
use crate::crypto::hash_128;
use crate::wire::{Decode as _, DecodeError, Encode as _, EncodeError, Encoder, Link, Timestamp};

/// Options of a block around one value. Everything has a default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValueOptions {
    /// When the value was made.
    pub timestamp: Timestamp,
    /// What it refers to.
    pub links: Vec<Link>,
    /// Positions of the writer's views.
    pub views: Option<ViewStamps>,
    /// For a writer that is not a member.
    pub optimistic: bool,
    /// Writes version 2, which has neither timestamp nor views.
    pub legacy: bool,
    /// Zero bytes to leave in front.
    pub padding: usize,
    /// Puts the eight bytes in front that say "clear text" in an encrypted core. Only for optimistic values, and only for
    /// databases with the rules of the original: under [`Rules::safe`](crate::wire::Rules::safe) such a block freezes its
    /// writer.
    pub encrypted: bool,
}

/// A block around `value`.
///
/// # Errors
///
/// When the block would have to be encrypted, or holds a number that does not fit.
///
/// ```
/// use autobee::wire::oplog::{ValueOptions, decode_value, encode_value};
///
/// let block = encode_value(Some(b"hello"), &ValueOptions::default())?;
/// assert_eq!(decode_value(&block).unwrap().as_deref(), Some(&b"hello"[..]));
/// # Ok::<(), autobee::wire::EncodeError>(())
/// ```
pub fn encode_value(value: Option<&[u8]>, options: &ValueOptions) -> Result<Vec<u8>, EncodeError> {
    if options.encrypted && !options.optimistic {
        return Err(EncodeError::Unsupported {
            what: "an encrypted value that is not optimistic",
        });
    }
    let block = if options.legacy {
        encode_version_2(value, options)?
    } else {
        encode_version_3(value, options)?
    };
    let mut bytes = if options.encrypted {
        clear_text_mark(&block).to_vec()
    } else {
        vec![0; options.padding]
    };
    bytes.extend(block);
    Ok(bytes)
}

/// The value in a block that is not encrypted, if it has one.
///
/// # Errors
///
/// When the bytes are no block.
pub fn decode_value(block: &[u8]) -> Result<Option<Bytes>, DecodeError> {
    OplogBlock::from_bytes(block).map(|block| block.value)
}

fn encode_version_3(value: Option<&[u8]>, options: &ValueOptions) -> Result<Vec<u8>, EncodeError> {
    OplogBlock {
        timestamp: options.timestamp,
        links: options.links.clone(),
        views: options.views,
        optimistic: options.optimistic,
        value: value.map(Bytes::copy_from_slice),
        ..OplogBlock::default()
    }
    .to_bytes()
}

fn encode_version_2(value: Option<&[u8]>, options: &ValueOptions) -> Result<Vec<u8>, EncodeError> {
    const OPTIMISTIC: u64 = 4;
    let mut encoder = Encoder::new();
    encoder
        .uint(2)
        .array(&options.links, Link::encode)
        .uint(1)
        .optional_buffer(value)
        .uint(if options.optimistic { OPTIMISTIC } else { 0 });
    encoder.finish()
}

/// A zero byte, which means "clear text" where the kind of encryption stands, then seven bytes of the block's hash.
fn clear_text_mark(block: &[u8]) -> [u8; 8] {
    let [_, b, c, d, e, f, g, h, ..] = hash_128(&[block]);
    [0, b, c, d, e, f, g, h]
}
