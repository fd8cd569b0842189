//! Writing. Numbers that do not fit are remembered and reported once, at the end.

use thiserror::Error;

use super::{ARRAY_COUNT_MAX, UINT_MAX};

/// A value cannot be written: the fault of whoever made it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// An integer above `2^53 - 1`.
    #[error("integer {value} is above 2^53 - 1")]
    UintTooLarge {
        /// The integer.
        value: u64,
    },
    /// A signed integer outside `-2^52` to `2^52 - 1`.
    #[error("integer {value} is outside -2^52 to 2^52 - 1")]
    IntOutOfRange {
        /// The integer.
        value: i64,
    },
    /// More elements than a reader accepts.
    #[error("array of {count} elements")]
    ArrayTooLong {
        /// The number of elements.
        count: usize,
    },
    /// A value whose parts have no encoding together.
    #[error("{what}")]
    Unsupported {
        /// Why it has none.
        what: &'static str,
    },
}

/// A growing byte string. Methods return the encoder, so that the fields of a record can stand in one chain.
///
/// ```
/// use autobee::wire::compact::Encoder;
///
/// let mut encoder = Encoder::new();
/// encoder.uint(256).buffer(b"hi");
/// assert_eq!(encoder.finish()?, [0xfd, 0x00, 0x01, 2, b'h', b'i']);
/// # Ok::<(), autobee::wire::compact::EncodeError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
    error: Option<EncodeError>,
}

impl Encoder {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            error: None,
        }
    }

    /// Nothing yet, with room for about so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            error: None,
        }
    }

    /// The bytes.
    ///
    /// # Errors
    ///
    /// The first thing that could not be written.
    pub fn finish(self) -> Result<Vec<u8>, EncodeError> {
        self.error.map_or(Ok(self.bytes), Err)
    }

    /// As [`Encoder::new`], in memory that was used before. What stands there is overwritten.
    #[must_use]
    pub fn reusing(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        Self { bytes, error: None }
    }

    /// Makes the whole encoding fail, for a value that has none.
    pub fn fail(&mut self, error: EncodeError) -> &mut Self {
        self.error.get_or_insert(error);
        self
    }

    // Integers.

    /// A variable-length integer, at most `2^53 - 1`, in its shortest form.
    pub fn uint(&mut self, value: u64) -> &mut Self {
        let wide = value.to_le_bytes();
        match value {
            0..=0xfc => self.raw(&wide[..1]),
            0xfd..=0xffff => self.raw(&[0xfd]).raw(&wide[..2]),
            0x1_0000..=0xffff_ffff => self.raw(&[0xfe]).raw(&wide[..4]),
            0x1_0000_0000..=UINT_MAX => self.raw(&[0xff]).raw(&wide),
            _ => self.fail(EncodeError::UintTooLarge { value }),
        }
    }

    /// A zig-zag variable-length integer, `-2^52` to `2^52 - 1`.
    pub fn int(&mut self, value: i64) -> &mut Self {
        match zigzag(value) {
            Some(folded) => self.uint(folded),
            None => self.fail(EncodeError::IntOutOfRange { value }),
        }
    }

    /// A little-endian integer of `N` bytes (1 to 8), at most `2^53 - 1`.
    pub fn uint_le<const N: usize>(&mut self, value: u64) -> &mut Self {
        if !fits::<N>(value) {
            return self.fail(EncodeError::UintTooLarge { value });
        }
        self.raw(&value.to_le_bytes()[..N])
    }

    /// A big-endian integer of `N` bytes (1 to 8), at most `2^53 - 1`.
    pub fn uint_be<const N: usize>(&mut self, value: u64) -> &mut Self {
        if !fits::<N>(value) {
            return self.fail(EncodeError::UintTooLarge { value });
        }
        self.raw(&value.to_be_bytes()[8 - N..])
    }

    /// A zig-zag little-endian integer of `N` bytes (1 to 8).
    pub fn int_le<const N: usize>(&mut self, value: i64) -> &mut Self {
        match zigzag(value).filter(|folded| fits::<N>(*folded)) {
            Some(folded) => self.uint_le::<N>(folded),
            None => self.fail(EncodeError::IntOutOfRange { value }),
        }
    }

    /// One byte: 1 for true.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.raw(&[u8::from(value)])
    }

    // Bytes and text.

    /// Bytes as they are, without a length.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Bytes with their length in front.
    pub fn buffer(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len()).raw(bytes)
    }

    /// As [`Encoder::buffer`]. None and an empty buffer are the same bytes.
    pub fn optional_buffer(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        self.buffer(bytes.unwrap_or_default())
    }

    /// Text with its length in bytes in front.
    pub fn string(&mut self, text: &str) -> &mut Self {
        self.buffer(text.as_bytes())
    }

    // Composed values.

    /// A count, then every value as `item` writes it.
    pub fn array<T>(&mut self, items: &[T], mut item: impl FnMut(&T, &mut Self)) -> &mut Self {
        let count = items.len();
        self.count(count);
        if u64::try_from(count).map_or(true, |count| count > ARRAY_COUNT_MAX) {
            return self.fail(EncodeError::ArrayTooLong { count });
        }
        for value in items {
            item(value, self);
        }
        self
    }

    /// A count, then the words, little-endian.
    pub fn words(&mut self, words: &[u32]) -> &mut Self {
        self.count(words.len());
        for word in words {
            self.raw(&word.to_le_bytes());
        }
        self
    }

    /// The byte length of what `item` writes, then that.
    pub fn frame(&mut self, item: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::new();
        item(&mut inner);
        if let Some(error) = inner.error {
            return self.fail(error);
        }
        self.buffer(&inner.bytes)
    }

    fn count(&mut self, count: usize) -> &mut Self {
        self.uint(u64::try_from(count).unwrap_or(u64::MAX))
    }
}

/// True when `value` can stand in `N` bytes of this encoding.
const fn fits<const N: usize>(value: u64) -> bool {
    const { assert!(N >= 1 && N <= 8) };
    let max = if N == 8 { UINT_MAX } else { (1 << (8 * N)) - 1 };
    value <= UINT_MAX && value <= max
}

/// Folds the sign into the lowest bit, within the range of the encoding.
const fn zigzag(value: i64) -> Option<u64> {
    if value < -(1 << 52) || value >= 1 << 52 {
        return None;
    }
    Some(((value << 1) ^ (value >> 63)).cast_unsigned())
}
