//! Keys as text (packages `hypercore-id-encoding` 1.3 and `z32` 1.1; spec/hypercore.md 3).
//!
//! What is printed is z-base-32: 52 characters. What is read is that, 64 hexadecimal digits, or a `pear://` link.

use std::borrow::Cow;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{CoreKey, DiscoveryKey, KeyParseError, PublicKey};

const ALPHABET: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";

/// The id of a key.
///
/// ```
/// use autobee::crypto::{CoreKey, id};
///
/// let key = CoreKey::new([0xff; 32]);
/// let text = id::encode(key.as_bytes());
/// assert_eq!(text, "999999999999999999999999999999999999999999999999999o");
/// assert_eq!(text.parse(), Ok(key));
/// assert_eq!("ff".repeat(32).parse(), Ok(key));
/// ```
#[must_use]
pub fn encode(key: &[u8; 32]) -> String {
    z32_encode(key)
}

/// The key that an id, 64 hexadecimal digits or a `pear://` link names.
///
/// The last character of an id carries one bit; its other bits are ignored, so 16 texts name the same key.
///
/// # Errors
///
/// When the text is none of these.
pub fn decode(text: &str) -> Result<[u8; 32], KeyParseError> {
    let text = match text.strip_prefix("pear://") {
        Some(link) => link.split('/').next().unwrap_or_default(),
        None => text,
    };
    let bytes = match text.len() {
        52 => z32_decode(text)?,
        64 => hex_decode(text)?,
        found => return Err(KeyParseError::Text { found }),
    };
    bytes.as_slice().try_into().map_err(|_| KeyParseError::Length {
        expected: 32,
        found: bytes.len(),
    })
}

/// z-base-32 of any bytes, without padding, the highest bit first.
#[must_use]
pub fn z32_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let mut bits = Bits::default();
    for byte in bytes {
        bits.push(*byte, 8);
        while let Some(five) = bits.pop(5) {
            text.push(char::from(ALPHABET[usize::from(five)]));
        }
    }
    if let Some(last) = bits.rest(5) {
        text.push(char::from(ALPHABET[usize::from(last)]));
    }
    text
}

/// The bytes of a z-base-32 text. Bits that do not fill a byte are ignored.
///
/// # Errors
///
/// When a character is not of the alphabet; upper case is not.
pub fn z32_decode(text: &str) -> Result<Vec<u8>, KeyParseError> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let mut bits = Bits::default();
    for (position, character) in text.bytes().enumerate() {
        let five = (0u8..)
            .zip(ALPHABET)
            .find_map(|(value, letter)| (*letter == character).then_some(value))
            .ok_or(KeyParseError::Character { position })?;
        bits.push(five, 5);
        bytes.extend(bits.pop(8));
    }
    Ok(bytes)
}

/// Hexadecimal digits in either case, two for each byte; a last one that is alone is passed over.
///
/// # Errors
///
/// When a character is no such digit.
pub fn hex_decode(text: &str) -> Result<Vec<u8>, KeyParseError> {
    let nibble = |position: usize, digit: u8| {
        char::from(digit)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
            .ok_or(KeyParseError::Character { position })
    };
    let (pairs, _) = text.as_bytes().as_chunks::<2>();
    pairs
        .iter()
        .enumerate()
        .map(|(at, [high, low])| Ok(nibble(2 * at, *high)? << 4 | nibble(2 * at + 1, *low)?))
        .collect()
}

/// At most 12 bits waiting to be regrouped, the oldest highest.
#[derive(Default)]
struct Bits {
    waiting: u16,
    count: u32,
}

impl Bits {
    fn push(&mut self, value: u8, width: u32) {
        self.waiting = self.waiting << width | u16::from(value);
        self.count += width;
    }

    fn pop(&mut self, width: u32) -> Option<u8> {
        self.count = self.count.checked_sub(width)?;
        let value = self.waiting >> self.count;
        self.waiting &= (1 << self.count) - 1;
        u8::try_from(value).ok()
    }

    /// What is left, filled up with zero bits.
    fn rest(&mut self, width: u32) -> Option<u8> {
        let missing = width.checked_sub(self.count).filter(|_| self.count > 0)?;
        self.push(0, missing);
        self.pop(width)
    }
}

macro_rules! text_form {
    ($($name:ident),*) => {$(
        impl FromStr for $name {
            type Err = KeyParseError;

            fn from_str(text: &str) -> Result<Self, KeyParseError> {
                decode(text).map(Self::new)
            }
        }

        impl $name {
            /// The id: 52 characters of z-base-32.
            #[must_use]
            pub fn to_id(&self) -> String {
                encode(self.as_bytes())
            }
        }
    )*};
}

text_form!(CoreKey, DiscoveryKey, PublicKey);

/// In formats for people a text, in others the 32 bytes.
impl Serialize for CoreKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.to_string())
        } else {
            self.as_bytes().serialize(serializer)
        }
    }
}

/// A text is a key in z-base-32, in hexadecimal digits, or a `pear://` link.
impl<'de> Deserialize<'de> for CoreKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = Cow::<'de, str>::deserialize(deserializer)?;
            text.parse().map_err(D::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self::new)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_key_survives(bytes: [u8; 32]) {
            let key = CoreKey::new(bytes);
            prop_assert_eq!(key.to_id().parse(), Ok(key));
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }

        #[test]
        fn any_bytes_survive_z32(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(z32_decode(&z32_encode(&bytes)), Ok(bytes));
        }

        #[test]
        fn any_text_is_a_key_or_an_error(text in "\\PC{0,70}") {
            if let Ok(key) = text.parse::<CoreKey>() {
                prop_assert_eq!(key.to_id().parse(), Ok(key));
            }
        }
    }

    #[test]
    fn a_key_is_read_in_both_spellings_and_written_in_one() {
        let key = CoreKey::new([7; 32]);
        for text in [
            encode(key.as_bytes()),
            key.to_hex(),
            format!("pear://{}", key.to_id()),
        ] {
            assert_eq!(text.parse(), Ok(key));
            let json = serde_json::to_string(&text).unwrap();
            assert_eq!(serde_json::from_str::<CoreKey>(&json).unwrap(), key);
        }
        assert!("7".parse::<CoreKey>().is_err());
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json, format!("\"{key}\""));
        assert!(serde_json::from_str::<CoreKey>("\"none\"").is_err());
    }
}
