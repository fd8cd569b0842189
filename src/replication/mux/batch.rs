//! Several messages in one frame: `00 00`, a channel, then items with their length in front; a length of 0 switches
//! the channel.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::take_uint;
use crate::wire::compact::DecodeError;

/// The longest integer, in bytes.
pub(super) const UINT_SIZE_MAX: usize = 9;

/// What stands in front of the first item at most, in bytes.
pub(super) const HEAD_SIZE_MAX: usize = 2 + 3 * UINT_SIZE_MAX;

/// A received batch that is taken apart.
#[derive(Debug)]
pub(super) struct BatchReader {
    channel: u64,
    rest: Bytes,
    /// Whether answers are being collected until it is read to its end.
    pub(super) corked: bool,
}

impl BatchReader {
    pub(super) const fn new(channel: u64, rest: Bytes) -> Self {
        Self {
            channel,
            rest,
            corked: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next item and the channel it is for.
    pub(super) fn next_item(&mut self) -> Result<Option<(u64, Bytes)>, DecodeError> {
        while !self.rest.is_empty() {
            let length = take_uint(&mut self.rest)?;
            if length == 0 {
                self.channel = take_uint(&mut self.rest)?;
                continue;
            }
            // An item that claims more than there is ends with the frame; the original does not mind.
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(self.rest.len());
            return Ok(Some((self.channel, self.rest.split_to(length))));
        }
        Ok(None)
    }
}

/// A batch that is being written.
#[derive(Debug, Default)]
pub(super) struct BatchWriter {
    bytes: BytesMut,
    channel: u64,
}

impl BatchWriter {
    /// Adds a message. Gives the batch so far when it is full.
    pub(super) fn add(&mut self, channel: u64, kind: u64, payload: &[u8], limit: usize) -> Option<Bytes> {
        let full = self.bytes.len().saturating_add(payload.len()) > limit;
        let done = if full { self.take() } else { None };
        if self.bytes.is_empty() {
            self.bytes.put_slice(&[0, 0]);
            put_uint(&mut self.bytes, channel);
        } else if self.channel != channel {
            self.bytes.put_u8(0);
            put_uint(&mut self.bytes, channel);
        }
        self.channel = channel;
        let size = uint_size(kind) + payload.len();
        put_uint(&mut self.bytes, u64::try_from(size).unwrap_or(u64::MAX));
        put_uint(&mut self.bytes, kind);
        self.bytes.put_slice(payload);
        done
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The batch, if anything was added.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        self.bytes.has_remaining().then(|| self.bytes.split().freeze())
    }
}

/// A variable-length integer in its shortest form.
pub(super) fn put_uint(out: &mut BytesMut, value: u64) {
    let wide = value.to_le_bytes();
    match uint_size(value) {
        1 => out.put_u8(wide[0]),
        3 => {
            out.put_u8(0xfd);
            out.put_slice(&wide[..2]);
        }
        5 => {
            out.put_u8(0xfe);
            out.put_slice(&wide[..4]);
        }
        _ => {
            out.put_u8(0xff);
            out.put_slice(&wide);
        }
    }
}

const fn uint_size(value: u64) -> usize {
    match value {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => UINT_SIZE_MAX,
    }
}
