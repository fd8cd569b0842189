//! The rules of a database, and the form in which its creator's manifest carries them.
//!
//! They stand behind the manifest data (spec/autobee.md 2.7), where the original reads no further: five letters, the number
//! of the rule set, and flags. So the key of the database commits to them, and whoever knows the creator's manifest knows
//! them. Without these bytes the rules are those of the original.

use std::fmt;

use super::system::ManifestData;
use super::{Decode as _, DecodeError, Decoder, Encode as _, EncodeError, Encoder};

/// The rules by which a state follows from entries: fixed when a database is made, and the same at every peer of it.
///
/// What they differ in is told by `docs/rules.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rules {
    is_safe: bool,
}

impl Rules {
    /// Rules under which strangers, dates and claims cannot be used against members. **JavaScript peers cannot join**: they
    /// would ignore these rules, and silently come to another state.
    #[must_use]
    pub const fn safe() -> Self {
        Self { is_safe: true }
    }

    /// The rules of the original, under which JavaScript peers can join.
    #[must_use]
    pub const fn interop() -> Self {
        Self { is_safe: false }
    }

    /// True for [`Rules::safe`].
    #[must_use]
    pub const fn is_safe(self) -> bool {
        self.is_safe
    }

    /// In one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        if self.is_safe { "safe" } else { "interop" }
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_safe {
            "safe rules: JavaScript peers cannot join, as they would ignore the rules and silently diverge"
        } else {
            "interop rules, those of the original: JavaScript peers can join"
        })
    }
}

/// What the creator's manifest says about rules.
///
/// ```
/// use autobee::wire::rules::{RecordedRules, Rules};
///
/// let recorded = RecordedRules { rules: Rules::safe(), optimistic: true };
/// let data = recorded.to_manifest_data()?;
/// assert_eq!(RecordedRules::of_manifest_data(Some(&data)), Ok(Some(recorded)));
/// assert_eq!(RecordedRules::of_manifest_data(None), Ok(None)); // as of the original
/// # Ok::<(), autobee::wire::EncodeError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedRules {
    /// The rules.
    pub rules: Rules,
    /// Whether batches of strangers are tried.
    pub optimistic: bool,
}

impl RecordedRules {
    /// What tells them from whatever else may stand there.
    const MARK: &[u8] = b"rules";
    const SAFE: u64 = 1;
    const OPTIMISTIC: u64 = 1;

    /// All that can be recorded.
    pub const ALL: [Self; 2] = [
        Self {
            rules: Rules::safe(),
            optimistic: true,
        },
        Self {
            rules: Rules::safe(),
            optimistic: false,
        },
    ];

    /// The user data of a creator's manifest. Rules of the original are not recorded: for those there is none.
    ///
    /// # Errors
    ///
    /// None that can happen: the numbers fit.
    pub fn to_manifest_data(self) -> Result<Vec<u8>, EncodeError> {
        let mut data = Encoder::new();
        ManifestData::default().encode(&mut data);
        data.raw(Self::MARK)
            .uint(Self::SAFE)
            .uint(if self.optimistic { Self::OPTIMISTIC } else { 0 });
        data.finish()
    }

    /// The rules that the user data of a creator's manifest records; none when it records none, which are those of the
    /// original.
    ///
    /// # Errors
    ///
    /// When there are rules that this version does not know. A peer must not go on then.
    pub fn of_manifest_data(data: Option<&[u8]>) -> Result<Option<Self>, DecodeError> {
        let mut from = Decoder::new(data.unwrap_or_default());
        // What is no manifest data says nothing, as to the original.
        if ManifestData::decode(&mut from).is_err() {
            return Ok(None);
        }
        let mut behind = Decoder::new(from.rest());
        if behind.take(Self::MARK.len() as u64) != Ok(Self::MARK) {
            return Ok(None);
        }
        match behind.uint()? {
            Self::SAFE => match behind.uint()? {
                flags @ (0 | Self::OPTIMISTIC) => Ok(Some(Self {
                    rules: Rules::safe(),
                    optimistic: flags == Self::OPTIMISTIC,
                })),
                other => Err(behind.unknown("flags of rules of a database", other)),
            },
            other => Err(behind.unknown("rules of a database", other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_recorded_is_read_and_the_original_reads_what_is_in_front() {
        for recorded in RecordedRules::ALL {
            let data = recorded.to_manifest_data().unwrap();
            assert_eq!(RecordedRules::of_manifest_data(Some(&data)), Ok(Some(recorded)));
            assert_eq!(ManifestData::from_bytes(&data), Ok(ManifestData::default()));
        }
    }

    #[test]
    fn without_them_the_rules_are_those_of_the_original() {
        let data = ManifestData {
            namespace: Some([7; 32]),
            ..ManifestData::default()
        };
        let data = data.to_bytes().unwrap();
        for data in [None, Some(&data[..]), Some(&[]), Some(b"anything at all")] {
            assert_eq!(RecordedRules::of_manifest_data(data), Ok(None));
        }
    }

    #[test]
    fn rules_of_later_versions_are_refused() {
        let mut data = RecordedRules::ALL[0].to_manifest_data().unwrap();
        let number = data.len() - 2;
        data[number + 1] = 3;
        assert!(
            RecordedRules::of_manifest_data(Some(&data)).is_err(),
            "another flag"
        );
        data[number] = 9;
        assert!(RecordedRules::of_manifest_data(Some(&data)).is_err());
        data.truncate(number);
        assert!(RecordedRules::of_manifest_data(Some(&data)).is_err(), "cut off");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = RecordedRules::of_manifest_data(Some(&bytes));
        }
    }
}
