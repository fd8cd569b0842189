//! Encryption of blocks, one by one, before they are hashed: peers replicate and verify what they cannot read.
//!
//! Each block carries a few bytes of padding in front, which hold the nonce. Tree, sizes and signatures cover the
//! stored bytes. There is no authentication beyond the tree, and none is needed: it is signed.
//!
//! Source: spec/hypercore.md 10 (`hypercore/lib/default-encryption.js`).

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::crypto::{CoreKey, HashKey, hash, keyed_hash, namespace, xsalsa20_xor};

/// A cipher for the blocks of a core.
pub trait BlockCipher: fmt::Debug + Send + Sync {
    /// Bytes in front of block `index` that are not content. A batch is padded as its first block.
    fn padding(&self, index: u64) -> usize;

    /// Encrypts in place; `block` begins with its padding.
    ///
    /// # Errors
    /// When no key is known, or there is less than the padding.
    fn encrypt(&self, index: u64, fork: u64, block: &mut [u8]) -> Result<(), CipherError>;

    /// Decrypts in place what follows the padding.
    ///
    /// # Errors
    /// When the key is not known, or there is less than the padding.
    fn decrypt(&self, index: u64, block: &mut [u8]) -> Result<(), CipherError>;
}

/// A block cannot be encrypted or decrypted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CipherError {
    /// The block is shorter than its padding. To blame: the owner of the core.
    #[error("block {index} of {size} bytes is shorter than its padding")]
    TooShort {
        /// The block.
        index: u64,
        /// Its size.
        size: usize,
    },
    /// The first byte of the padding names no way of encryption. To blame: the owner of the core.
    #[error("block {index} is encrypted in an unknown way, {kind}")]
    UnknownKind {
        /// The block.
        index: u64,
        /// The byte.
        kind: u8,
    },
    /// The padding says that the block is clear text, where none may be. To blame: the owner of the core.
    #[error("block {0} is clear text, in a database whose rules refuse it")]
    Clear(u64),
    /// The key of this block is not known here.
    #[error("no key for block {0}")]
    NoKey(u64),
}

/// The encryption of a core with one key.
///
/// ```
/// use autobee::crypto::CoreKey;
/// use autobee::hypercore::encryption::{BlockCipher as _, CoreCipher};
///
/// let cipher = CoreCipher::new(&[7; 32], &CoreKey::new([1; 32]), false);
/// let mut block = b"--------content".to_vec(); // eight bytes of padding in front
/// cipher.encrypt(0, 0, &mut block)?;
/// cipher.decrypt(0, &mut block)?;
/// assert_eq!(&block[8..], b"content");
/// # Ok::<(), autobee::hypercore::encryption::CipherError>(())
/// ```
#[derive(Clone)]
pub struct CoreCipher {
    block_key: Zeroizing<[u8; 32]>,
    blinding_key: Zeroizing<[u8; 32]>,
}

impl CoreCipher {
    /// Bytes in front of every block.
    pub const PADDING: usize = 8;

    /// Derives the keys of a core. `is_compat` says that its key is the public key of its signer.
    #[must_use]
    pub fn new(encryption_key: &[u8; 32], core: &CoreKey, is_compat: bool) -> Self {
        let block_key = if is_compat {
            keyed_hash(&HashKey::from(core.as_bytes()), &[encryption_key])
        } else {
            hash(&[
                namespace::DEFAULT_ENCRYPTION.as_bytes(),
                core.as_bytes(),
                encryption_key,
            ])
        };
        Self::with_block_key(block_key.as_bytes())
    }

    /// Uses a key that is that of the blocks already.
    #[must_use]
    pub fn with_block_key(block_key: &[u8; 32]) -> Self {
        Self {
            block_key: Zeroizing::new(*block_key),
            blinding_key: Zeroizing::new(*hash(&[block_key]).as_bytes()),
        }
    }

    /// The key that encrypts blocks. Enough to read them.
    #[must_use]
    pub fn block_key(&self) -> &[u8; 32] {
        &self.block_key
    }

    /// The key that hides the fork in the padding.
    #[must_use]
    pub fn blinding_key(&self) -> &[u8; 32] {
        &self.blinding_key
    }
}

impl BlockCipher for CoreCipher {
    fn padding(&self, _index: u64) -> usize {
        Self::PADDING
    }

    fn encrypt(&self, index: u64, fork: u64, block: &mut [u8]) -> Result<(), CipherError> {
        let (padding, content) = split(index, block)?;
        // The blinded fork makes the nonce of a block that was rewritten after a truncation another one.
        *padding = fork.to_le_bytes();
        xsalsa20_xor(&nonce(index, &[0; 8]), &self.blinding_key, padding);
        xsalsa20_xor(&nonce(index, padding), &self.block_key, content);
        Ok(())
    }

    fn decrypt(&self, index: u64, block: &mut [u8]) -> Result<(), CipherError> {
        let (padding, content) = split(index, block)?;
        xsalsa20_xor(&nonce(index, padding), &self.block_key, content);
        Ok(())
    }
}

impl fmt::Debug for CoreCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CoreCipher(..)")
    }
}

fn split(index: u64, block: &mut [u8]) -> Result<(&mut [u8; CoreCipher::PADDING], &mut [u8]), CipherError> {
    let size = block.len();
    block
        .split_first_chunk_mut()
        .ok_or(CipherError::TooShort { index, size })
}

fn nonce(index: u64, padding: &[u8; 8]) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce[..8].copy_from_slice(&index.to_le_bytes());
    nonce[8..16].copy_from_slice(padding);
    nonce
}
