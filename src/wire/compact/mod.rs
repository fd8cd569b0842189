//! Compact encoding: the byte vocabulary of every format below (package `compact-encoding` 3.5; spec/hypercore.md 1).
//!
//! Guarantees of the decoder: it never reads past its range, never panics, and never allocates more than a small
//! multiple of the bytes that are really there. Integers stop at `2^53 - 1`, because the JavaScript side cannot hold
//! more; longer forms of small integers are accepted, as they are there. Bytes after a decoded value are left alone.
//!
//! Only what some format of this crate uses is here. The rest of the package (big integers, floats, `any`, network
//! addresses) is composed from these parts where the golden vectors need it.

mod decoder;
mod encoder;

pub use decoder::{DecodeError, DecodeErrorKind, Decoder};
pub use encoder::{EncodeError, Encoder};

use crate::crypto::{CoreKey, DiscoveryKey, Hash, PublicKey, Signature, TreeNode};

/// The largest integer of the encoding: `2^53 - 1`.
pub const UINT_MAX: u64 = (1 << 53) - 1;

/// The largest number of elements that an array may claim.
pub const ARRAY_COUNT_MAX: u64 = 0x10_0000;

/// A value that has one encoding.
pub trait Encode {
    /// Appends the value.
    fn encode(&self, to: &mut Encoder);

    /// The value alone, as bytes.
    ///
    /// # Errors
    ///
    /// When the value holds a number that the encoding cannot carry. That is the fault of whoever made the value.
    fn to_bytes(&self) -> Result<Vec<u8>, EncodeError> {
        // Most records are smaller.
        let mut encoder = Encoder::with_capacity(128);
        self.encode(&mut encoder);
        encoder.finish()
    }
}

/// A value that can be read from untrusted bytes.
pub trait Decode: Sized {
    /// Reads the value at the cursor.
    ///
    /// # Errors
    ///
    /// When the bytes are not such a value. That is the fault of whoever supplied the bytes.
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError>;

    /// Reads the value from the start of `bytes`; what follows it is ignored.
    ///
    /// # Errors
    ///
    /// As [`Decode::decode`].
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(&mut Decoder::new(bytes))
    }
}

impl Encode for u64 {
    fn encode(&self, to: &mut Encoder) {
        to.uint(*self);
    }
}

impl Decode for u64 {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        from.uint()
    }
}

impl<const N: usize> Encode for [u8; N] {
    fn encode(&self, to: &mut Encoder) {
        to.raw(self);
    }
}

impl<const N: usize> Decode for [u8; N] {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        from.fixed()
    }
}

macro_rules! fixed_key {
    ($($name:ident),*) => {$(
        impl Encode for $name {
            fn encode(&self, to: &mut Encoder) {
                to.raw(self.as_bytes());
            }
        }

        impl Decode for $name {
            fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                from.fixed().map(Self::new)
            }
        }
    )*};
}

fixed_key!(Hash, PublicKey, CoreKey, DiscoveryKey, Signature);

impl Encode for TreeNode {
    fn encode(&self, to: &mut Encoder) {
        to.uint(self.index).uint(self.size);
        self.hash.encode(to);
    }
}

impl Decode for TreeNode {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            index: from.uint()?,
            size: from.uint()?,
            hash: Hash::decode(from)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_uint_survives(value in 0..=UINT_MAX) {
            let bytes = value.to_bytes().unwrap();
            let mut decoder = Decoder::new(&bytes);
            prop_assert_eq!(decoder.uint(), Ok(value));
            prop_assert_eq!(decoder.remaining(), 0);
        }

        #[test]
        fn every_int_survives(value in -(1i64 << 52)..(1i64 << 52)) {
            let mut encoder = Encoder::new();
            encoder.int(value);
            let bytes = encoder.finish().unwrap();
            prop_assert_eq!(Decoder::new(&bytes).int(), Ok(value));
        }

        #[test]
        fn nested_values_survive(list in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..9)) {
            let mut encoder = Encoder::new();
            encoder.array(&list, |item, to| {
                to.frame(|to| {
                    to.buffer(item);
                });
            });
            let bytes = encoder.finish().unwrap();
            let back = Decoder::new(&bytes)
                .array(|from| from.frame(|from| from.buffer().map(<[u8]>::to_vec)));
            prop_assert_eq!(back, Ok(list));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut decoder = Decoder::new(&bytes);
            while decoder.remaining() > 0 {
                let before = decoder.position();
                let _ = decoder.array(|from| from.frame(|from| from.optional_buffer().map(drop)));
                let _ = decoder.int();
                let _ = decoder.string().map(drop);
                let _ = decoder.uint_le::<7>();
                prop_assert!(decoder.position() <= bytes.len());
                if decoder.position() == before {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_promised_length_costs_nothing() {
        // 2^53 - 1 elements, and a buffer of 2^53 - 1 bytes, in nine bytes.
        let bytes = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0x00];
        assert_eq!(
            Decoder::new(&bytes).array(Decoder::uint).unwrap_err().kind,
            DecodeErrorKind::ArrayTooLong { count: UINT_MAX }
        );
        assert_eq!(
            Decoder::new(&bytes).buffer().unwrap_err(),
            DecodeError {
                kind: DecodeErrorKind::OutOfBounds { missing: UINT_MAX },
                offset: 9
            }
        );
    }

    #[test]
    fn a_frame_confines_and_is_skipped_whole() {
        let mut decoder = Decoder::new(&[3, 5, 0xaa, 0xbb, 7]);
        assert_eq!(decoder.frame(Decoder::uint), Ok(5));
        assert_eq!(decoder.uint(), Ok(7));
        assert_eq!(
            Decoder::new(&[1, 0xfd, 1, 0])
                .frame(Decoder::uint)
                .unwrap_err()
                .offset,
            2
        );
    }

    #[test]
    fn a_number_that_does_not_fit_is_reported_at_the_end() {
        let mut encoder = Encoder::new();
        encoder.uint(1).uint(UINT_MAX + 1).uint(2);
        assert_eq!(
            encoder.finish(),
            Err(EncodeError::UintTooLarge { value: UINT_MAX + 1 })
        );
    }
}
