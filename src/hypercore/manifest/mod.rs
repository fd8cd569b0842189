//! Manifests: who may sign a core, and what a core's key commits to (spec/hypercore.md 4 and 5; `hypercore` 11.37,
//! `lib/caps.js` and `lib/verifier.js`).
//!
//! The key of a core is the hash of its manifest, always of the clean encoding: a manifest that was received with
//! unknown flags, long integers or trailing bytes has the key of its clean form. The exception are compat cores, whose
//! key is the public key of their only signer.

mod encoding;
mod multisig;
mod signable;
mod verify;

use thiserror::Error;

pub use multisig::{
    MultiSignature, MultiSignatureV0, PartialSignature, PatchV0, SignerProof, SignerProofV0, signable_length,
};
pub use signable::Signable;
pub use verify::{SignError, TreeHead, VerifyError};

use crate::crypto::{CoreKey, Hash, PublicKey, hash, namespace};
use crate::wire::{Decode as _, DecodeError, Encode as _, EncodeError, Encoder};

/// The newest version of manifest that is read. It is encoded like version 2, and should not be written.
const VERSION_MAX: u64 = 3;

/// Who may sign a core, and which content is fixed from the start. Immutable, with its key.
///
/// ```
/// use autobee::crypto::PublicKey;
/// use autobee::hypercore::manifest::Manifest;
///
/// let manifest = Manifest::single(PublicKey::new([7; 32]));
/// assert_eq!(Manifest::parse(manifest.as_bytes(), Some(manifest.key())), Ok(manifest));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    fields: Fields,
    bytes: Vec<u8>,
    key: CoreKey,
}

/// A manifest cannot be made, or is not what it was said to be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The bytes are no manifest: the fault of whoever sent them.
    #[error("malformed manifest: {0}")]
    Malformed(#[from] DecodeError),
    /// More signatures are needed than there are signers.
    #[error("quorum of {quorum} among {signers} signers")]
    Quorum {
        /// Signatures needed.
        quorum: u64,
        /// Signers there are.
        signers: usize,
    },
    /// The manifest is not the one of the core.
    #[error("the manifest hashes to {found}, not to {expected}")]
    Key {
        /// Key of the core.
        expected: CoreKey,
        /// Key of the manifest.
        found: CoreKey,
    },
    /// A version that does not exist.
    #[error("unknown manifest version {0}")]
    Version(u64),
    /// Something that this version cannot hold.
    #[error("a manifest of version {version} has no {what}")]
    Field {
        /// Version asked for.
        version: u64,
        /// The field.
        what: &'static str,
    },
    /// A number that the encoding cannot carry.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// One key that may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signer {
    /// Keeps the signer's signatures apart from those of other uses of the key; part of what is signed in version 0.
    pub namespace: [u8; 32],
    /// The key.
    pub public_key: PublicKey,
}

impl Signer {
    /// A signer of the default namespace.
    #[must_use]
    pub const fn new(public_key: PublicKey) -> Self {
        Self {
            namespace: *namespace::DEFAULT_NAMESPACE.as_bytes(),
            public_key,
        }
    }
}

/// Content that is fixed from the start: the first `length` blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prologue {
    /// Hash of the tree over these blocks.
    pub hash: Hash,
    /// How many blocks. Version 0 forgets it.
    pub length: u64,
}

/// Options of a manifest. Everything has a default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ManifestOptions {
    /// Version; without it 2 where linked cores or user data need it, else 1.
    pub version: Option<u64>,
    /// Signers may be ahead of the tree that is signed.
    pub allow_patch: bool,
    /// Signatures needed; without it a majority of the signers.
    pub quorum: Option<u64>,
    /// Who may sign.
    pub signers: Vec<Signer>,
    /// Content that is fixed from the start.
    pub prologue: Option<Prologue>,
    /// Cores that belong to this one. Version 2 only.
    pub linked: Vec<CoreKey>,
    /// Bytes that the key commits to. Version 2 only.
    pub user_data: Option<Vec<u8>>,
}

impl Manifest {
    // Making one.

    /// Version 1 with one signer of the default namespace: what a core has that was made from a key pair.
    #[must_use]
    pub fn single(public_key: PublicKey) -> Self {
        #[expect(clippy::expect_used, reason = "one signer in version 1 is always valid")]
        Self::new(ManifestOptions {
            signers: vec![Signer::new(public_key)],
            ..ManifestOptions::default()
        })
        .expect("a valid manifest")
    }

    /// Makes a manifest.
    ///
    /// # Errors
    ///
    /// When the options contradict each other, or the version cannot hold them.
    pub fn new(options: ManifestOptions) -> Result<Self, ManifestError> {
        let ManifestOptions {
            version,
            allow_patch,
            quorum,
            signers,
            prologue,
            linked,
            user_data,
        } = options;
        let wants_version_2 = !linked.is_empty() || user_data.is_some();
        let version = version.unwrap_or(if wants_version_2 { 2 } else { 1 });
        if version > VERSION_MAX {
            return Err(ManifestError::Version(version));
        }
        if version < 2 && wants_version_2 {
            let what = if user_data.is_some() {
                "user data"
            } else {
                "linked cores"
            };
            return Err(ManifestError::Field { version, what });
        }
        let majority = || match u64::try_from(signers.len()) {
            Ok(0) | Err(_) => 0,
            Ok(count) => count / 2 + 1,
        };
        let quorum = quorum.unwrap_or_else(majority);
        let linked = Some(linked).filter(|keys| !keys.is_empty());
        let fields = Fields {
            version,
            allow_patch,
            quorum,
            signers,
            prologue,
            linked,
            user_data,
        };
        let manifest = Self::clean(fields)?;
        manifest.check_quorum()?;
        Ok(manifest)
    }

    /// Reads a manifest, from a peer or a disk, and checks that it can be satisfied and belongs to the core.
    ///
    /// # Errors
    ///
    /// When the bytes are no manifest, need more signatures than there are signers, or hash to another key. The key of
    /// a compat core is not the key of its manifest.
    pub fn parse(bytes: &[u8], key: Option<CoreKey>) -> Result<Self, ManifestError> {
        let manifest = Self::decode(bytes)?;
        manifest.check_quorum()?;
        match key {
            Some(expected) if expected != manifest.key => Err(ManifestError::Key {
                expected,
                found: manifest.key,
            }),
            _ => Ok(manifest),
        }
    }

    /// Reads a manifest without judging it. Bytes that follow it are ignored.
    ///
    /// # Errors
    ///
    /// When the bytes are no manifest.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        Self::clean(Fields::from_bytes(bytes)?)
    }

    // What it says.

    /// Rules of encoding and signing: 0 to 3.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.fields.version
    }

    /// Signers may be ahead of the tree that is signed.
    #[must_use]
    pub const fn allow_patch(&self) -> bool {
        self.fields.allow_patch
    }

    /// Signatures needed.
    #[must_use]
    pub const fn quorum(&self) -> u64 {
        self.fields.quorum
    }

    /// Who may sign.
    #[must_use]
    pub fn signers(&self) -> &[Signer] {
        &self.fields.signers
    }

    /// Content that is fixed from the start.
    #[must_use]
    pub const fn prologue(&self) -> Option<&Prologue> {
        self.fields.prologue.as_ref()
    }

    /// Cores that belong to this one.
    #[must_use]
    pub fn linked(&self) -> Option<&[CoreKey]> {
        self.fields.linked.as_deref()
    }

    /// Bytes that the key commits to.
    #[must_use]
    pub fn user_data(&self) -> Option<&[u8]> {
        self.fields.user_data.as_deref()
    }

    // What it is.

    /// The clean encoding.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The key of the core that this manifest makes.
    #[must_use]
    pub const fn key(&self) -> CoreKey {
        self.key
    }

    /// True when `key` is a core whose key is the public key of its only signer.
    #[must_use]
    pub fn is_compat(&self, key: &CoreKey) -> bool {
        matches!(self.signers(), [signer] if signer.public_key.as_bytes() == key.as_bytes())
    }

    fn clean(fields: Fields) -> Result<Self, ManifestError> {
        let mut encoder = Encoder::new();
        fields.encode(&mut encoder);
        let bytes = encoder.finish()?;
        let key = CoreKey::new(*hash(&[namespace::MANIFEST.as_bytes(), &bytes]).as_bytes());
        Ok(Self { fields, bytes, key })
    }

    fn check_quorum(&self) -> Result<(), ManifestError> {
        let (quorum, signers) = (self.quorum(), self.signers().len());
        if usize::try_from(quorum).is_ok_and(|quorum| quorum <= signers) {
            return Ok(());
        }
        Err(ManifestError::Quorum { quorum, signers })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Fields {
    version: u64,
    allow_patch: bool,
    quorum: u64,
    signers: Vec<Signer>,
    prologue: Option<Prologue>,
    linked: Option<Vec<CoreKey>>,
    user_data: Option<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn signer()(namespace: [u8; 32], key: [u8; 32]) -> Signer {
            Signer { namespace, public_key: PublicKey::new(key) }
        }
    }

    prop_compose! {
        fn options()(
            version in 0..=3u64,
            allow_patch: bool,
            signers in proptest::collection::vec(signer(), 0..4),
            prologue in proptest::option::of((any::<[u8; 32]>(), 0..1000u64)),
            linked in proptest::collection::vec(any::<[u8; 32]>(), 0..3),
            user_data: Option<Vec<u8>>,
        ) -> ManifestOptions {
            let extended = version >= 2;
            ManifestOptions {
                version: Some(version),
                allow_patch,
                quorum: None,
                // Version 0 keeps a prologue only without signers, and without its length.
                prologue: prologue
                    .filter(|_| version > 0 || (signers.is_empty() && !allow_patch))
                    .map(|(hash, length)| Prologue {
                        hash: Hash::new(hash),
                        length: if version == 0 { 0 } else { length },
                    }),
                signers,
                linked: linked.into_iter().filter(|_| extended).map(CoreKey::new).collect(),
                user_data: user_data.filter(|_| extended),
            }
        }
    }

    proptest! {
        #[test]
        fn every_manifest_survives(options in options()) {
            let manifest = Manifest::new(options).unwrap();
            prop_assert_eq!(Manifest::parse(manifest.as_bytes(), Some(manifest.key())), Ok(manifest));
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), head in 0..5u8) {
            bytes.insert(0, head);
            if let Ok(manifest) = Manifest::decode(&bytes) {
                prop_assert_eq!(Manifest::decode(manifest.as_bytes()), Ok(manifest));
            }
        }
    }

    #[test]
    fn a_version_holds_only_what_it_has_room_for() {
        let options = |version| ManifestOptions {
            version: Some(version),
            user_data: Some(vec![1]),
            ..ManifestOptions::default()
        };
        assert_eq!(
            Manifest::new(options(1)),
            Err(ManifestError::Field {
                version: 1,
                what: "user data"
            })
        );
        assert!(Manifest::new(options(2)).is_ok());
        assert_eq!(Manifest::new(options(4)), Err(ManifestError::Version(4)));
    }
}
