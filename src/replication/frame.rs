//! Cutting a byte stream into frames: three bytes of length, little endian, then that many bytes.
//!
//! The reader takes bytes in pieces of any size and holds no more than what came: a length that is only promised costs
//! nothing.
//!
//! Source: spec/replication.md 3.1.

use bytes::{Buf as _, BufMut as _, BytesMut};
use thiserror::Error;

/// The largest frame that a length can express, in bytes.
pub const FRAME_MAX: usize = (1 << 24) - 1;

const LENGTH_SIZE: usize = 3;

/// The peer announced a frame larger than we are ready to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the peer announced a frame of {size} bytes, where {limit} are allowed")]
pub struct FrameTooLarge {
    /// The announced size in bytes.
    pub size: usize,
    /// The allowed size in bytes.
    pub limit: usize,
}

/// Bytes in, frames out.
///
/// ```
/// use autobee::replication::frame::FrameReader;
///
/// let mut reader = FrameReader::new(100);
/// reader.extend(&[2, 0]);
/// assert_eq!(reader.next_frame()?, None);
/// reader.extend(&[0, b'h', b'i', 1]);
/// assert_eq!(reader.next_frame()?.as_deref(), Some(&b"hi"[..]));
/// assert_eq!(reader.next_frame()?, None);
/// # Ok::<(), autobee::replication::frame::FrameTooLarge>(())
/// ```
#[derive(Debug, Clone)]
pub struct FrameReader {
    buffer: BytesMut,
    limit: usize,
}

impl FrameReader {
    /// A reader that takes frames of up to `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            limit,
        }
    }

    /// Takes frames of up to `limit` bytes from now on.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Adds bytes as they came from the stream.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Where a shell may read into directly, which spares the copy of [`FrameReader::extend`]. Append only.
    pub const fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Bytes held.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The next whole frame, without its length.
    ///
    /// # Errors
    ///
    /// As soon as the length is known to be above the limit.
    pub fn next_frame(&mut self) -> Result<Option<BytesMut>, FrameTooLarge> {
        let Some([low, middle, high]) = self.buffer.first_chunk::<LENGTH_SIZE>() else {
            return Ok(None);
        };
        let size = usize::from(*low) | usize::from(*middle) << 8 | usize::from(*high) << 16;
        if size > self.limit {
            return Err(FrameTooLarge {
                size,
                limit: self.limit,
            });
        }
        if self.buffer.len() < LENGTH_SIZE + size {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_SIZE);
        Ok(Some(self.buffer.split_to(size)))
    }
}

/// Writes the length of a frame of `size` bytes. False, and nothing is written, when no length can express it.
#[must_use]
pub fn put_length(out: &mut BytesMut, size: usize) -> bool {
    if size > FRAME_MAX {
        return false;
    }
    let bytes = size.to_le_bytes();
    out.put_slice(&bytes[..LENGTH_SIZE]);
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_cut_into_pieces_does_not_matter(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
            cuts in proptest::collection::vec(1usize..40, 1..60),
        ) {
            let mut stream = BytesMut::new();
            for frame in &frames {
                prop_assert!(put_length(&mut stream, frame.len()));
                stream.put_slice(frame);
            }
            let (mut reader, mut read) = (FrameReader::new(FRAME_MAX), Vec::new());
            let mut sizes = cuts.iter().cycle();
            while !stream.is_empty() {
                let size = sizes.next().copied().unwrap_or(1).min(stream.len());
                reader.extend(&stream.split_to(size));
                while let Some(frame) = reader.next_frame().unwrap() {
                    read.push(frame.to_vec());
                }
            }
            prop_assert_eq!(read, frames);
            prop_assert_eq!(reader.buffered(), 0);
        }

        #[test]
        fn never_holds_more_than_came(bytes in proptest::collection::vec(any::<u8>(), 0..200), limit in 0usize..300) {
            let mut reader = FrameReader::new(limit);
            reader.extend(&bytes);
            let mut taken = 0;
            while let Ok(Some(frame)) = reader.next_frame() {
                prop_assert!(frame.len() <= limit);
                taken += LENGTH_SIZE + frame.len();
            }
            prop_assert_eq!(taken + reader.buffered(), bytes.len());
        }
    }

    #[test]
    fn an_oversized_frame_is_refused_by_its_length_alone() {
        let mut reader = FrameReader::new(256);
        reader.extend(&[1, 1, 0]);
        assert_eq!(
            reader.next_frame(),
            Err(FrameTooLarge {
                size: 257,
                limit: 256
            })
        );
    }
}
