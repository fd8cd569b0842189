//! Newtypes for the 32- and 64-byte values that would otherwise be mixed up.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroize;

/// A text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyParseError {
    /// The number of bytes is not the one that this kind of key has.
    #[error("a key of {expected} bytes was given {found}")]
    Length {
        /// Bytes that the key has.
        expected: usize,
        /// Bytes that were given.
        found: usize,
    },
    /// A text of a length that no written form of a key has.
    #[error("a key is 52 characters of z-base-32 or 64 of hexadecimal, not {found} bytes of text")]
    Text {
        /// Bytes of text that were given.
        found: usize,
    },
    /// A character is not of the alphabet.
    #[error("invalid character at position {position}")]
    Character {
        /// Offset of the character in the text.
        position: usize,
    },
}

macro_rules! bytes_newtype {
    ($(#[$doc:meta])* $name:ident, $size:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $size]);

        impl $name {
            /// Number of bytes.
            pub const SIZE: usize = $size;

            /// Wraps the bytes as they are.
            #[must_use]
            pub const fn new(bytes: [u8; $size]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $size] {
                &self.0
            }

            /// Lower-case hexadecimal.
            #[must_use]
            pub fn to_hex(&self) -> String {
                self.0.iter().fold(String::with_capacity($size * 2), |mut text, byte| {
                    use fmt::Write as _;
                    let _ = write!(text, "{byte:02x}");
                    text
                })
            }
        }

        impl From<[u8; $size]> for $name {
            fn from(bytes: [u8; $size]) -> Self {
                Self(bytes)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = KeyParseError;

            fn try_from(bytes: &[u8]) -> Result<Self, KeyParseError> {
                let bytes = bytes
                    .try_into()
                    .map_err(|_| KeyParseError::Length { expected: $size, found: bytes.len() })?;
                Ok(Self(bytes))
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.to_hex())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }
    };
}

bytes_newtype!(
    /// A BLAKE2b-256 digest.
    Hash, 32
);
bytes_newtype!(
    /// An Ed25519 public key: of a signer, or of a peer on the network. Not the key of a core.
    PublicKey, 32
);
bytes_newtype!(
    /// The key of a core: the hash of its manifest, or, for version 0, the public key of its signer.
    CoreKey, 32
);
bytes_newtype!(
    /// What a core is called in public: a hash of its key that does not give the key away.
    DiscoveryKey, 32
);
bytes_newtype!(
    /// A detached signature of 64 bytes.
    Signature, 64
);

/// The 32 bytes from which a key pair is made. Wiped when dropped; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed([u8; 32]);

impl Seed {
    /// Wraps the bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A libsodium secret key: the seed, then the public key. Wiped when dropped; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey([u8; 64]);

impl SecretKey {
    /// Joins the two halves.
    #[must_use]
    pub fn new(seed: &Seed, public: &PublicKey) -> Self {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&seed.0);
        bytes[32..].copy_from_slice(public.as_bytes());
        Self(bytes)
    }

    /// Takes the 64 bytes as libsodium stores them. That the halves belong together is not checked.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The seed half.
    #[must_use]
    pub fn seed(&self) -> Seed {
        let mut seed = [0; 32];
        seed.copy_from_slice(&self.0[..32]);
        Seed(seed)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        key.copy_from_slice(&self.0[32..]);
        PublicKey(key)
    }

    /// All 64 bytes, as libsodium stores them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}
