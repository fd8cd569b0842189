//! Keys of a store of cores: one primary key, from which the key pair of every named core follows.
//!
//! Source: spec/hypercore.md 11.1 (`corestore`).

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::crypto::{HashKey, KeyPair, Seed, Sign, hash, keyed_hash, namespace};

/// The secret from which all named key pairs of a store follow. Never printed.
///
/// ```
/// use autobee::crypto::Ed25519;
/// use autobee::hypercore::keys::{Namespace, PrimaryKey};
///
/// let primary = PrimaryKey::new([1; 32]);
/// let pair = primary.key_pair(&Ed25519, &Namespace::ROOT.child("todo"), "local");
/// assert_ne!(pair, primary.key_pair(&Ed25519, &Namespace::ROOT, "local"));
/// ```
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PrimaryKey([u8; 32]);

/// A place for names. Names in different namespaces have nothing in common.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace([u8; 32]);

impl PrimaryKey {
    /// Wraps the secret bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes, for storing them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key pair of a name.
    #[must_use]
    pub fn key_pair(&self, crypto: &impl Sign, space: &Namespace, name: impl AsRef<[u8]>) -> KeyPair {
        let parts = [namespace::CORESTORE.as_bytes(), &space.0[..], name.as_ref()];
        crypto.key_pair(&Seed::new(
            *keyed_hash(&HashKey::from(&self.0), &parts).as_bytes(),
        ))
    }
}

impl Namespace {
    /// Where a store begins.
    pub const ROOT: Self = Self([0; 32]);

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

    /// A namespace inside this one. Steps do not run together: `a` then `b` is not `ab`.
    #[must_use]
    pub fn child(&self, name: impl AsRef<[u8]>) -> Self {
        Self(*hash(&[&self.0, name.as_ref()]).as_bytes())
    }
}

impl fmt::Debug for PrimaryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrimaryKey(..)")
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Namespace(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}
