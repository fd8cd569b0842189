//! Encryption of a database: the keys of writers, views and anchors, and the form of their blocks.
//!
//! Source: spec/autobee.md 13. A block is 8 bytes of padding, then the body. The padding is a keyed hash of the body and
//! the nonce, so that equal bodies give equal blocks and nothing has to be remembered.
//!
//! Under the rules of the original, blocks whose padding says "clear" are accepted in an encrypted database, and the keys
//! of views and of the system depend on the database key alone, so that everybody who has it reads them. Under safe rules
//! clear blocks are refused, and all keys depend on the secret. Who joins does not know the rules before it has the
//! creator's manifest: so ciphers ask for them when they are used, and none is used for anything that counts before.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;
use zeroize::Zeroizing;

use crate::crypto::{CoreKey, Hash, HashKey, hash, keyed_hash_128, namespace, xsalsa20_xor};
use crate::hypercore::encryption::{BlockCipher, CipherError, CoreCipher};
use crate::hypercore::manifest::Manifest;
use crate::wire::oplog::OplogBlock;
use crate::wire::system::ManifestData;
use crate::wire::{Decode as _, Rules};

/// Name under which the system core is encrypted.
pub const SYSTEM_NAME: &str = "_system";

/// From what all keys of one database are derived.
///
/// ```
/// use autobee::crypto::{CoreKey, PublicKey};
/// use autobee::engine::encryption::DatabaseKeys;
/// use autobee::hypercore::encryption::BlockCipher as _;
/// use autobee::hypercore::manifest::{Manifest, ManifestOptions, Signer};
///
/// let keys = DatabaseKeys::new(CoreKey::new([1; 32]), [2; 32]);
/// let manifest = Manifest::new(ManifestOptions {
///     version: Some(2),
///     signers: vec![Signer::new(PublicKey::new([3; 32]))],
///     ..ManifestOptions::default()
/// })?;
/// let cipher = keys.writer(&manifest.key(), &manifest);
/// let mut block = b"--------body".to_vec(); // eight bytes of padding in front
/// cipher.encrypt(0, 0, &mut block)?;
/// cipher.decrypt(0, &mut block)?;
/// assert_eq!(&block[8..], b"body");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct DatabaseKeys {
    bootstrap: CoreKey,
    secret: Zeroizing<[u8; 32]>,
    rules: Arc<CipherRules>,
}

/// What the rules of the database say about encryption: shared by all that was made of the same keys, and said once.
#[derive(Debug, Default)]
struct CipherRules {
    /// Trees are keyed by the secret.
    has_secret_trees: AtomicBool,
    /// Blocks that say that they are clear are no blocks.
    refuses_clear: AtomicBool,
}

/// The way in which a peer's encryption key contradicts its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyMismatch {
    /// The database is encrypted with another key.
    #[error("the database is encrypted with another key than the one that is given or remembered")]
    Other,
    /// The database is encrypted, and there is no key.
    #[error("the database is encrypted, and no key is given or remembered")]
    Missing,
    /// The database is in clear, and there is a key.
    #[error("the database is in clear, and an encryption key is given or remembered")]
    Clear,
}

/// The encryption of the blocks of one core of a database.
#[derive(Debug, Clone)]
pub enum DatabaseCipher {
    /// As cores with a manifest of version 2 are.
    Hashed(HashedCipher),
    /// As older cores are: hypercore's own way.
    Compat(CoreCipher),
    /// As trees are, by the rules.
    Tree(Box<TreeCipher>),
}

/// Encryption of the blocks of a tree: as the rules of the database say by the time.
#[derive(Debug, Clone)]
pub struct TreeCipher {
    shared: HashedCipher,
    secret: HashedCipher,
    rules: Arc<CipherRules>,
}

/// Encryption with a nonce that is a keyed hash of the content.
#[derive(Clone)]
pub struct HashedCipher {
    block_key: Zeroizing<[u8; 32]>,
    hash_key: Zeroizing<[u8; 32]>,
    rules: Arc<CipherRules>,
}

impl DatabaseKeys {
    /// The keys of the database `bootstrap` with this encryption key.
    #[must_use]
    pub fn new(bootstrap: CoreKey, encryption_key: [u8; 32]) -> Self {
        Self::with_secret(bootstrap, Zeroizing::new(encryption_key))
    }

    /// The same, of a key that is wiped from memory when it is dropped.
    #[must_use]
    pub fn with_secret(bootstrap: CoreKey, secret: Zeroizing<[u8; 32]>) -> Self {
        Self {
            bootstrap,
            secret,
            rules: Arc::default(),
        }
    }

    /// Says what the rules of the database are, those of the original otherwise: also to what was made of these keys, or
    /// of a copy of them.
    pub fn set_rules(&self, rules: Rules) {
        let is_safe = rules.is_safe();
        self.rules.has_secret_trees.store(is_safe, Ordering::Relaxed);
        self.rules.refuses_clear.store(is_safe, Ordering::Relaxed);
    }

    /// Has clear blocks taken all the same: a slip.
    pub(crate) fn take_clear(&self) {
        self.rules.refuses_clear.store(false, Ordering::Relaxed);
    }

    /// Of the log of a writer.
    #[must_use]
    pub fn writer(&self, core: &CoreKey, manifest: &Manifest) -> DatabaseCipher {
        if manifest.version() <= 1 {
            return self.writer_compat(core, manifest.is_compat(core));
        }
        let data = manifest
            .user_data()
            .and_then(|data| ManifestData::from_bytes(data).ok());
        let name = data.and_then(|data| data.namespace);
        DatabaseCipher::Hashed(self.named(name.as_ref().unwrap_or(core.as_bytes())))
    }

    /// How a stored block of a writer's log contradicts these keys, or that there are none. None when it does not, or does
    /// not tell: of cores with an older manifest than version 2 nothing tells, as their padding is no hash.
    #[must_use]
    pub fn mismatch(
        keys: Option<&Self>,
        core: &CoreKey,
        manifest: &Manifest,
        (index, stored): (u64, &[u8]),
    ) -> Option<KeyMismatch> {
        if manifest.version() < 2 {
            return None;
        }
        let is_sealed = HashedCipher::is_sealed(stored);
        let clear = OplogBlock::from_bytes(stored).ok();
        let Some(keys) = keys else {
            let has_value = clear.is_some_and(|block| block.value.is_some());
            return (is_sealed && !has_value).then_some(KeyMismatch::Missing);
        };
        if !is_sealed {
            let is_padded = stored.first() == Some(&HashedCipher::CLEAR);
            return (!is_padded && clear.is_some()).then_some(KeyMismatch::Clear);
        }
        let DatabaseCipher::Hashed(cipher) = keys.writer(core, manifest) else {
            return None;
        };
        let mut block = stored.to_vec();
        cipher.decrypt(index, &mut block).ok()?;
        let body = block.get(HashedCipher::PADDING..)?;
        // Whoever pads in another way is read all the same.
        let is_opened = stored.get(..HashedCipher::PADDING) == Some(&cipher.padding_of(body)[..])
            || OplogBlock::from_bytes(body).is_ok();
        (!is_opened).then_some(KeyMismatch::Other)
    }

    /// Of the log of a writer with a manifest of version 0 or 1, or with none.
    #[must_use]
    pub fn writer_compat(&self, core: &CoreKey, is_compat: bool) -> DatabaseCipher {
        DatabaseCipher::Compat(CoreCipher::new(&self.secret, core, is_compat))
    }

    /// Of a tree of this name, in a core with a manifest of version 2: by the rules, also if they are said later.
    #[must_use]
    pub fn tree(&self, name: &str) -> DatabaseCipher {
        let secret = hash(&[
            namespace::VIEW_BLOCK_KEY.as_bytes(),
            self.bootstrap.as_bytes(),
            &*self.secret,
            namespace::GENESIS_ENTROPY.as_bytes(),
            name.as_bytes(),
        ]);
        DatabaseCipher::Tree(Box::new(TreeCipher {
            shared: self.cipher(&self.view_key(name)),
            secret: self.cipher(&secret),
            rules: Arc::clone(&self.rules),
        }))
    }

    /// Of a view of this name, in a core with a manifest of version 2, by the rules of the original.
    #[must_use]
    pub fn view(&self, name: &str) -> DatabaseCipher {
        DatabaseCipher::Hashed(self.cipher(&self.view_key(name)))
    }

    fn view_key(&self, name: &str) -> Hash {
        hash(&[
            namespace::VIEW_BLOCK_KEY.as_bytes(),
            self.bootstrap.as_bytes(),
            namespace::GENESIS_ENTROPY.as_bytes(),
            name.as_bytes(),
        ])
    }

    /// Of a view of this name, in a core with an older manifest.
    #[must_use]
    pub fn view_compat(&self, name: &str) -> DatabaseCipher {
        let block_key = hash(&[
            namespace::VIEW_BLOCK_KEY.as_bytes(),
            self.bootstrap.as_bytes(),
            &*self.secret,
            name.as_bytes(),
        ]);
        DatabaseCipher::Compat(CoreCipher::with_block_key(block_key.as_bytes()))
    }

    /// Of an anchor with this namespace, whose only block is `clear`, padding included.
    #[must_use]
    pub fn anchor(&self, namespace: &[u8; 32], clear: &[u8]) -> HashedCipher {
        // Unlike elsewhere the key of the hash comes from the block, not from its key.
        HashedCipher {
            hash_key: hash_key(clear),
            ..self.named(namespace)
        }
    }

    fn named(&self, name: &[u8; 32]) -> HashedCipher {
        self.cipher(&hash(&[
            namespace::VIEW_BLOCK_KEY.as_bytes(),
            self.bootstrap.as_bytes(),
            &*self.secret,
            namespace::GENESIS_ENTROPY.as_bytes(),
            name,
        ]))
    }

    fn cipher(&self, block_key: &Hash) -> HashedCipher {
        HashedCipher {
            block_key: Zeroizing::new(*block_key.as_bytes()),
            hash_key: hash_key(block_key.as_bytes()),
            rules: Arc::clone(&self.rules),
        }
    }
}

impl fmt::Debug for DatabaseKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseKeys")
            .field("bootstrap", &self.bootstrap)
            .finish_non_exhaustive()
    }
}

impl HashedCipher {
    /// Bytes in front of every block.
    pub const PADDING: usize = 8;

    const CLEAR: u8 = 0;
    const HASHED: u8 = 1;

    /// The key that encrypts blocks. Enough to read them.
    #[must_use]
    pub fn block_key(&self) -> &[u8; 32] {
        &self.block_key
    }

    /// The key of the hash in the padding.
    #[must_use]
    pub fn hash_key(&self) -> &[u8; 32] {
        &self.hash_key
    }

    /// True for what looks like a block that is encrypted in this way. A block of a log in clear begins with its version,
    /// which is a later one in cores with such a manifest.
    fn is_sealed(stored: &[u8]) -> bool {
        matches!(stored, [Self::HASHED, _, _, _, 0, 0, 0, 0, ..])
    }

    /// The padding of a block with this body.
    fn padding_of(&self, body: &[u8]) -> [u8; Self::PADDING] {
        let digest = keyed_hash_128(&HashKey::from(&*self.hash_key), &[body]);
        // The second half is the id of the key, of which there is one.
        [Self::HASHED, digest[1], digest[2], digest[3], 0, 0, 0, 0]
    }

    fn split(index: u64, block: &mut [u8]) -> Result<(&mut [u8; Self::PADDING], &mut [u8]), CipherError> {
        let size = block.len();
        block
            .split_first_chunk_mut()
            .ok_or(CipherError::TooShort { index, size })
    }

    fn apply(&self, index: u64, padding: [u8; Self::PADDING], body: &mut [u8]) {
        let mut nonce = [0; 24];
        nonce[..8].copy_from_slice(&index.to_le_bytes());
        nonce[8..16].copy_from_slice(&padding);
        xsalsa20_xor(&nonce, &self.block_key, body);
    }
}

impl BlockCipher for HashedCipher {
    fn padding(&self, _index: u64) -> usize {
        Self::PADDING
    }

    fn encrypt(&self, index: u64, _fork: u64, block: &mut [u8]) -> Result<(), CipherError> {
        let (padding, body) = Self::split(index, block)?;
        *padding = self.padding_of(body);
        let padding = *padding;
        self.apply(index, padding, body);
        Ok(())
    }

    fn decrypt(&self, index: u64, block: &mut [u8]) -> Result<(), CipherError> {
        let (padding, body) = Self::split(index, block)?;
        match padding[0] {
            Self::CLEAR if self.rules.refuses_clear.load(Ordering::Relaxed) => {
                return Err(CipherError::Clear(index));
            }
            Self::CLEAR => {}
            Self::HASHED => {
                let padding = *padding;
                self.apply(index, padding, body);
            }
            kind => return Err(CipherError::UnknownKind { index, kind }),
        }
        Ok(())
    }
}

impl TreeCipher {
    fn now(&self) -> &HashedCipher {
        if self.rules.has_secret_trees.load(Ordering::Relaxed) {
            &self.secret
        } else {
            &self.shared
        }
    }
}

impl fmt::Debug for HashedCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashedCipher(..)")
    }
}

impl BlockCipher for DatabaseCipher {
    fn padding(&self, index: u64) -> usize {
        match self {
            Self::Hashed(cipher) => cipher.padding(index),
            Self::Compat(cipher) => cipher.padding(index),
            Self::Tree(_) => HashedCipher::PADDING,
        }
    }

    fn encrypt(&self, index: u64, fork: u64, block: &mut [u8]) -> Result<(), CipherError> {
        match self {
            Self::Hashed(cipher) => cipher.encrypt(index, fork, block),
            Self::Compat(cipher) => cipher.encrypt(index, fork, block),
            Self::Tree(cipher) => cipher.now().encrypt(index, fork, block),
        }
    }

    fn decrypt(&self, index: u64, block: &mut [u8]) -> Result<(), CipherError> {
        match self {
            Self::Hashed(cipher) => cipher.decrypt(index, block),
            Self::Compat(cipher) => cipher.decrypt(index, block),
            Self::Tree(cipher) => cipher.now().decrypt(index, block),
        }
    }
}

fn hash_key(of: &[u8]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(*hash(&[namespace::HASH_KEY.as_bytes(), of]).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(cipher: &impl BlockCipher, body: &[u8]) -> Vec<u8> {
        let mut block = [&[0; HashedCipher::PADDING], body].concat();
        cipher.encrypt(3, 0, &mut block).unwrap();
        block
    }

    fn opened(cipher: &impl BlockCipher, block: &[u8]) -> Result<Vec<u8>, CipherError> {
        let mut block = block.to_vec();
        cipher.decrypt(3, &mut block)?;
        Ok(block.split_off(HashedCipher::PADDING))
    }

    #[test]
    fn trees_are_keyed_by_the_secret_once_the_rules_are_known_to_be_safe() {
        let keys = |secret| DatabaseKeys::new(CoreKey::new([1; 32]), [secret; 32]);
        let (ours, theirs) = (keys(2), keys(3));
        let (tree, other) = (ours.tree("view"), theirs.tree("view"));
        let by_all = sealed(&tree, b"body");
        assert_eq!(by_all, sealed(&ours.view("view"), b"body"), "as the original");
        assert_eq!(opened(&other, &by_all).as_deref(), Ok(&b"body"[..]));
        // A copy knows it, too, and what was made before.
        let copy = ours.clone();
        ours.set_rules(Rules::safe());
        let by_us = sealed(&tree, b"body");
        assert_ne!(by_us, by_all);
        assert_eq!(opened(&tree, &by_us).as_deref(), Ok(&b"body"[..]));
        assert_eq!(by_us, sealed(&copy.tree("view"), b"body"));
        for keys in [&theirs, &DatabaseKeys::new(CoreKey::new([1; 32]), [0; 32])] {
            keys.set_rules(Rules::safe());
            assert_ne!(opened(&keys.tree("view"), &by_us).as_deref(), Ok(&b"body"[..]));
        }
        assert_ne!(
            sealed(&ours.tree("view"), b"body"),
            sealed(&ours.tree("_system"), b"body")
        );
    }

    #[test]
    fn clear_blocks_are_refused_under_safe_rules() {
        let keys = DatabaseKeys::new(CoreKey::new([1; 32]), [2; 32]);
        let cipher = keys.named(&[7; 32]);
        let clear = [&[0; HashedCipher::PADDING], &b"body"[..]].concat();
        assert_eq!(opened(&cipher, &clear).as_deref(), Ok(&b"body"[..]));
        keys.set_rules(Rules::safe());
        assert_eq!(opened(&cipher, &clear), Err(CipherError::Clear(3)));
        assert_eq!(opened(&keys.tree("view"), &clear), Err(CipherError::Clear(3)));
    }
}
