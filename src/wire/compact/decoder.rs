//! Reading, bounded by the bytes that are there.

use std::borrow::Cow;

use thiserror::Error;

use super::{ARRAY_COUNT_MAX, UINT_MAX};

/// Bytes are not what they were said to be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{kind} at byte {offset}")]
pub struct DecodeError {
    /// What is wrong.
    pub kind: DecodeErrorKind,
    /// Where, counted from the start of the outermost input.
    pub offset: usize,
}

/// The fault of bytes that cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The input, or the frame around the value, ends before the value does.
    #[error("input ends {missing} bytes too early")]
    OutOfBounds {
        /// How many bytes more the value needs at least.
        missing: u64,
    },
    /// An integer above `2^53 - 1`.
    #[error("integer above 2^53 - 1")]
    UintTooLarge,
    /// An array that claims more than 1,048,576 elements.
    #[error("array of {count} elements")]
    ArrayTooLong {
        /// The claimed number of elements.
        count: u64,
    },
    /// A version, kind or identifier that this decoder does not know.
    #[error("unknown {what} {value}")]
    Unknown {
        /// What kind of number it is.
        what: &'static str,
        /// The number.
        value: u64,
    },
    /// Well-formed parts that contradict each other.
    #[error("invalid {what}")]
    Invalid {
        /// The part that is wrong.
        what: &'static str,
    },
}

/// Elements of an array that get their memory before they were read.
const ARRAY_ROOM: u64 = 8;

/// A cursor over untrusted bytes.
///
/// ```
/// use autobee::wire::compact::Decoder;
///
/// let mut decoder = Decoder::new(&[0xfd, 0x00, 0x01, 2, b'h', b'i']);
/// assert_eq!(decoder.uint(), Ok(256));
/// assert_eq!(decoder.buffer(), Ok(&b"hi"[..]));
/// assert!(decoder.uint().is_err());
/// ```
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Decoder<'a> {
    /// A cursor at the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    // Where it stands.

    /// Offset of the cursor from the start of the outermost input.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }

    /// Bytes after the cursor.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    // Errors with a place.

    /// An error at the cursor.
    #[must_use]
    pub const fn error(&self, kind: DecodeErrorKind) -> DecodeError {
        DecodeError {
            kind,
            offset: self.position,
        }
    }

    /// The error for a number that this decoder does not know, at the cursor.
    #[must_use]
    pub const fn unknown(&self, what: &'static str, value: u64) -> DecodeError {
        self.error(DecodeErrorKind::Unknown { what, value })
    }

    // Integers.

    /// A variable-length integer, at most `2^53 - 1`.
    ///
    /// # Errors
    ///
    /// When the input ends, or the integer is larger.
    pub fn uint(&mut self) -> Result<u64, DecodeError> {
        match self.byte()? {
            0xfd => self.uint_le::<2>(),
            0xfe => self.uint_le::<4>(),
            0xff => self.uint_le::<8>(),
            small => Ok(u64::from(small)),
        }
    }

    /// A zig-zag variable-length integer, `-2^52` to `2^52 - 1`.
    ///
    /// # Errors
    ///
    /// As [`Decoder::uint`].
    pub fn int(&mut self) -> Result<i64, DecodeError> {
        self.uint().map(unzigzag)
    }

    /// A little-endian integer of `N` bytes (1 to 8), at most `2^53 - 1`.
    ///
    /// # Errors
    ///
    /// As [`Decoder::uint`].
    pub fn uint_le<const N: usize>(&mut self) -> Result<u64, DecodeError> {
        self.wide(|bytes: [u8; N]| {
            bytes
                .into_iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | u64::from(byte))
        })
    }

    /// A big-endian integer of `N` bytes (1 to 8), at most `2^53 - 1`.
    ///
    /// # Errors
    ///
    /// As [`Decoder::uint`].
    pub fn uint_be<const N: usize>(&mut self) -> Result<u64, DecodeError> {
        self.wide(|bytes: [u8; N]| bytes.into_iter().fold(0, |sum, byte| sum << 8 | u64::from(byte)))
    }

    /// A zig-zag little-endian integer of `N` bytes (1 to 8).
    ///
    /// # Errors
    ///
    /// As [`Decoder::uint`].
    pub fn int_le<const N: usize>(&mut self) -> Result<i64, DecodeError> {
        self.uint_le::<N>().map(unzigzag)
    }

    /// One byte.
    ///
    /// # Errors
    ///
    /// When the input ends.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        self.fixed::<1>().map(|[byte]| byte)
    }

    /// One byte, of which only 1 reads as true.
    ///
    /// # Errors
    ///
    /// When the input ends.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.byte()? == 1)
    }

    // Bytes and text.

    /// The next `count` bytes.
    ///
    /// # Errors
    ///
    /// When fewer are left.
    pub fn take(&mut self, count: u64) -> Result<&'a [u8], DecodeError> {
        let left = self.remaining();
        let Some(size) = usize::try_from(count).ok().filter(|size| *size <= left) else {
            let missing = count.saturating_sub(u64::try_from(left).unwrap_or(u64::MAX));
            return Err(self.error(DecodeErrorKind::OutOfBounds { missing }));
        };
        let taken = &self.bytes[self.position..self.position + size];
        self.position += size;
        Ok(taken)
    }

    /// Exactly `N` bytes.
    ///
    /// # Errors
    ///
    /// When fewer are left.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some(array) = self.bytes[self.position..].first_chunk::<N>() else {
            let missing = u64::try_from(N - self.remaining()).unwrap_or(u64::MAX);
            return Err(self.error(DecodeErrorKind::OutOfBounds { missing }));
        };
        self.position += N;
        Ok(*array)
    }

    /// Bytes with their length in front.
    ///
    /// # Errors
    ///
    /// When the input ends before the promised length.
    pub fn buffer(&mut self) -> Result<&'a [u8], DecodeError> {
        let count = self.uint()?;
        self.take(count)
    }

    /// As [`Decoder::buffer`], where length 0 means that there is none.
    ///
    /// # Errors
    ///
    /// As [`Decoder::buffer`].
    pub fn optional_buffer(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        Ok(Some(self.buffer()?).filter(|bytes| !bytes.is_empty()))
    }

    /// Text with its length in bytes in front. Malformed UTF-8 is replaced, as JavaScript does.
    ///
    /// # Errors
    ///
    /// As [`Decoder::buffer`].
    pub fn string(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        self.buffer().map(String::from_utf8_lossy)
    }

    /// Everything up to the end of the range.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.position..];
        self.position = self.bytes.len();
        rest
    }

    // Composed values.

    /// A count, then that many values read by `item`.
    ///
    /// # Errors
    ///
    /// When the count is above 1,048,576, or whatever `item` fails with.
    pub fn array<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.uint()?;
        if count > ARRAY_COUNT_MAX {
            return Err(self.error(DecodeErrorKind::ArrayTooLong { count }));
        }
        // Grows with what was really read: the count is only a promise.
        let mut items = Vec::with_capacity(usize::try_from(count.min(ARRAY_ROOM)).unwrap_or(0));
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// A count, then that many little-endian words of 32 bits.
    ///
    /// # Errors
    ///
    /// When the input ends before the last of them.
    pub fn words(&mut self) -> Result<Vec<u32>, DecodeError> {
        let count = self.uint()?;
        let (words, _) = self.take(count.saturating_mul(4))?.as_chunks::<4>();
        Ok(words.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }

    /// A byte length, then a value read by `item`, which sees only that many bytes; those that it leaves are skipped.
    ///
    /// # Errors
    ///
    /// When the frame is longer than the input, or whatever `item` fails with.
    pub fn frame<T>(
        &mut self,
        item: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let size = self.uint()?;
        let start = self.position;
        self.take(size)?;
        let mut inner = Self {
            bytes: &self.bytes[..self.position],
            position: start,
        };
        item(&mut inner)
    }

    fn wide<const N: usize>(&mut self, read: impl FnOnce([u8; N]) -> u64) -> Result<u64, DecodeError> {
        const { assert!(N >= 1 && N <= 8) };
        let value = read(self.fixed::<N>()?);
        if value > UINT_MAX {
            self.position -= N;
            return Err(self.error(DecodeErrorKind::UintTooLarge));
        }
        Ok(value)
    }
}

/// Undoes zig-zag. Exact for any value below `2^63`.
const fn unzigzag(value: u64) -> i64 {
    let half = (value >> 1).cast_signed();
    if value & 1 == 0 { half } else { -half - 1 }
}
