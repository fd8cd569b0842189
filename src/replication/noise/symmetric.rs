//! The symmetric state of a handshake: a hash of everything that was said, and keys that follow from it.

use blake2::{Blake2b512, Digest as _};
use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce, Tag};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::replication::noise::{HASH_SIZE, HMAC_BLOCK_SIZE, KEY_SIZE, NoiseError, TAG_SIZE};

/// The running hash, chaining key and cipher key of a handshake.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Symmetric {
    pub(super) hash: [u8; HASH_SIZE],
    pub(super) chaining_key: [u8; HASH_SIZE],
    key: Option<[u8; KEY_SIZE]>,
    counter: u64,
}

impl std::fmt::Debug for Symmetric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Symmetric")
            .field("counter", &self.counter)
            .finish_non_exhaustive()
    }
}

impl Symmetric {
    pub(super) fn new(name: &str) -> Self {
        let mut hash = [0; HASH_SIZE];
        // Both names are shorter than a hash: they are padded, not hashed.
        hash[..name.len()].copy_from_slice(name.as_bytes());
        Self {
            hash,
            chaining_key: hash,
            key: None,
            counter: 0,
        }
    }

    /// The hash over everything so far.
    #[must_use]
    pub const fn hash(&self) -> &[u8; HASH_SIZE] {
        &self.hash
    }

    /// The chaining key.
    #[must_use]
    pub const fn chaining_key(&self) -> &[u8; HASH_SIZE] {
        &self.chaining_key
    }

    /// The cipher key, once there is one.
    #[must_use]
    pub const fn key(&self) -> Option<&[u8; KEY_SIZE]> {
        self.key.as_ref()
    }

    /// Seals made or opened with the present key.
    #[must_use]
    pub const fn counter(&self) -> u64 {
        self.counter
    }

    pub(super) const fn overhead(&self) -> usize {
        if self.key.is_some() { TAG_SIZE } else { 0 }
    }

    pub(super) fn mix_hash(&mut self, data: &[u8]) {
        self.hash = Blake2b512::new()
            .chain_update(self.hash)
            .chain_update(data)
            .finalize()
            .into();
    }

    pub(super) fn mix_key(&mut self, material: &[u8]) {
        let (chaining_key, key) = hkdf(&self.chaining_key, material);
        self.chaining_key = *chaining_key;
        self.key = Some(front(&key));
        self.counter = 0;
    }

    pub(super) fn encrypt_and_hash(&mut self, plain: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let mut sealed = plain.to_vec();
        if let Some((cipher, nonce)) = self.cipher() {
            let tag = cipher
                .encrypt_inout_detached(&nonce, &self.hash, InOutBuf::from(sealed.as_mut_slice()))
                .map_err(|_| NoiseError::OutOfTurn)?;
            sealed.extend_from_slice(&tag);
            self.counter += 1;
        }
        self.mix_hash(&sealed);
        Ok(sealed)
    }

    pub(super) fn decrypt_and_hash(&mut self, sealed: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let mut plain = sealed.to_vec();
        if let Some((cipher, nonce)) = self.cipher() {
            let (body, tag) = sealed.split_last_chunk::<TAG_SIZE>().ok_or(NoiseError::Short)?;
            plain.truncate(body.len());
            cipher
                .decrypt_inout_detached(
                    &nonce,
                    &self.hash,
                    InOutBuf::from(plain.as_mut_slice()),
                    &Tag::from(*tag),
                )
                .map_err(|_| NoiseError::Seal)?;
            self.counter += 1;
        }
        self.mix_hash(sealed);
        Ok(plain)
    }

    fn cipher(&self) -> Option<(ChaCha20Poly1305, Nonce)> {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.counter.to_le_bytes());
        self.key
            .map(|key| (ChaCha20Poly1305::new(&key.into()), nonce.into()))
    }
}

/// HMAC over BLAKE2b-512.
#[must_use]
pub fn hmac(key: &[u8], data: &[u8]) -> Zeroizing<[u8; HASH_SIZE]> {
    let mut block = Zeroizing::new([0; HMAC_BLOCK_SIZE]);
    if key.len() > HMAC_BLOCK_SIZE {
        block[..HASH_SIZE].copy_from_slice(&Blake2b512::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Blake2b512::new()
        .chain_update(block.map(|byte| byte ^ 0x36))
        .chain_update(data)
        .finalize();
    let outer = Blake2b512::new()
        .chain_update(block.map(|byte| byte ^ 0x5c))
        .chain_update(inner);
    Zeroizing::new(outer.finalize().into())
}

/// Two keys from a chaining key and new material.
#[must_use]
pub fn hkdf(
    chaining_key: &[u8; HASH_SIZE],
    material: &[u8],
) -> (Zeroizing<[u8; HASH_SIZE]>, Zeroizing<[u8; HASH_SIZE]>) {
    let extracted = hmac(chaining_key, material);
    let first = hmac(extracted.as_ref(), &[1]);
    let mut input = Zeroizing::new([2; HASH_SIZE + 1]);
    input[..HASH_SIZE].copy_from_slice(first.as_ref());
    let second = hmac(extracted.as_ref(), input.as_ref());
    (first, second)
}

pub(super) fn front(long: &[u8; HASH_SIZE]) -> [u8; KEY_SIZE] {
    let mut short = [0; KEY_SIZE];
    short.copy_from_slice(&long[..KEY_SIZE]);
    short
}
