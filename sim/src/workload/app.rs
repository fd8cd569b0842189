//! Operations of apps that bring their own apply function.

use serde::{Deserialize, Serialize};

/// An operation of an app that is tested with [`crate::check`]: bytes that only its apply function understands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppOp {
    /// Which operation of its seed it is, from 0.
    pub number: u32,
    /// What it is called for people.
    pub shown: String,
    /// Its bytes, in hexadecimal digits.
    pub hex: String,
}

impl AppOp {
    /// An operation of these bytes.
    #[must_use]
    pub fn new(number: u32, shown: impl Into<String>, bytes: &[u8]) -> Self {
        Self {
            number,
            shown: shown.into(),
            hex: hex(bytes),
        }
    }

    /// Its bytes; none when the digits are not hexadecimal.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let pairs = self.hex.as_bytes().chunks(2).map(|pair| {
            let [high, low] = <[u8; 2]>::try_from(pair).ok()?;
            u8::try_from(digit(high)? * 16 + digit(low)?).ok()
        });
        pairs.collect()
    }
}

/// Two digits for each byte.
fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    // A half of a byte is a digit.
    digits
        .map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or('0'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_their_digits() {
        for bytes in [&b""[..], b"\x00\xff", b"text"] {
            assert_eq!(AppOp::new(1, "x", bytes).bytes().as_deref(), Some(bytes));
        }
        for hex in ["0", "zz", "+0"] {
            let hex = hex.to_owned();
            assert_eq!(
                AppOp {
                    hex,
                    ..AppOp::default()
                }
                .bytes(),
                None
            );
        }
    }
}
