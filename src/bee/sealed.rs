//! Encrypted cores: the tree itself never sees a cipher.
//!
//! Padding and encryption surround the blocks of the tree and change none of them: sizes, splits and pointers count
//! plain bytes (spec/hyperbee.md 10). A tree spans many cores, so the cipher is asked for by core.

use std::sync::Arc;

use bytes::Bytes;

use crate::crypto::CoreKey;
use crate::hypercore::encryption::{BlockCipher, CipherError};
use crate::wire::Index;

use super::batch::WrittenBatch;
use super::source::{BlockError, Blocks};

/// Finds the cipher of a core; none for a core that is not encrypted.
pub trait Ciphers {
    /// The cipher of `core`.
    fn cipher(&self, core: &CoreKey) -> Option<Arc<dyn BlockCipher>>;
}

impl<F: Fn(&CoreKey) -> Option<Arc<dyn BlockCipher>>> Ciphers for F {
    fn cipher(&self, core: &CoreKey) -> Option<Arc<dyn BlockCipher>> {
        self(core)
    }
}

/// A source of stored blocks, decrypted and without padding.
#[derive(Debug, Clone)]
pub struct Unsealed<B, C> {
    blocks: B,
    ciphers: C,
}

impl<B: Blocks, C: Ciphers> Unsealed<B, C> {
    /// Reads the stored blocks of `blocks` with the ciphers of `ciphers`.
    pub const fn new(blocks: B, ciphers: C) -> Self {
        Self { blocks, ciphers }
    }
}

impl<B: Blocks, C: Ciphers> Blocks for Unsealed<B, C> {
    fn block(&self, core: &CoreKey, index: Index) -> Result<Bytes, BlockError> {
        let stored = self.blocks.block(core, index)?;
        let Some(cipher) = self.ciphers.cipher(core) else {
            return Ok(stored);
        };
        let mut block = Vec::from(stored);
        cipher.decrypt(index.0, &mut block)?;
        let padding = cipher.padding(index.0);
        let mut block = Bytes::from(block);
        if padding > block.len() {
            let size = block.len();
            return Err(BlockError::Cipher(CipherError::TooShort { index: index.0, size }));
        }
        Ok(block.split_off(padding))
    }

    fn want(&self, core: &CoreKey, index: Index) {
        self.blocks.want(core, index);
    }
}

impl WrittenBatch {
    /// The blocks as an encrypted core stores them, padding included.
    ///
    /// # Errors
    ///
    /// When the cipher has no key.
    pub fn sealed(&self, cipher: &dyn BlockCipher, fork: u64) -> Result<Vec<Bytes>, CipherError> {
        // A batch is padded as its first block.
        let padding = cipher.padding(self.start().0);
        let seal = |(index, block): (u64, &Bytes)| {
            let mut sealed = vec![0; padding];
            sealed.extend_from_slice(block);
            cipher.encrypt(index, fork, &mut sealed)?;
            Ok(Bytes::from(sealed))
        };
        (self.start().0..).zip(self.blocks()).map(seal).collect()
    }
}
