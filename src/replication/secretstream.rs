//! The cipher of an established stream: libsodium's `crypto_secretstream_xchacha20poly1305`.
//!
//! One [`Cipher`] is one direction. Messages must be opened in the order in which they were sealed; a message that
//! was changed, left out, repeated or moved does not open.
//!
//! Source: spec/replication.md 3.3 (sodium-secretstream 1.2 over libsodium). The padding of the authenticated text by
//! `length mod 16` zeros is a known slip of libsodium, and part of the format.

use bytes::{BufMut as _, BytesMut};
use chacha20::cipher::array::Array;
use chacha20::cipher::{KeyIvInit as _, StreamCipher as _};
use chacha20::{ChaCha20, R20, hchacha};
use poly1305::universal_hash::{KeyInit as _, UniversalHash as _};
use poly1305::{Block, Poly1305};
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::noise::SessionKey;

/// Bytes that a seal adds: the sealed tag in front, the authenticator behind.
pub const OVERHEAD: usize = 1 + MAC_SIZE;

/// Bytes of the header that starts a direction: random, chosen by the sender.
pub const HEADER_SIZE: usize = 24;

const MAC_SIZE: usize = 16;
const CIPHER_BLOCK: usize = 64;
const MAC_BLOCK: usize = 16;
const REKEY_BIT: u8 = 2;

/// The tag of a message: what it is to the receiver. The original sends only [`Tag::MESSAGE`], and looks at nothing but
/// the rekeying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag(pub u8);

impl Tag {
    /// An ordinary message.
    pub const MESSAGE: Self = Self(0);
    /// The end of a set of messages.
    pub const PUSH: Self = Self(1);
    /// The key is replaced after this message.
    pub const REKEY: Self = Self(2);
    /// The end of the stream.
    pub const FINAL: Self = Self(3);
}

/// A sealed message that is not the next one of this stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Shorter than an empty message.
    #[error("a sealed message of {size} bytes, which is shorter than the overhead")]
    Short {
        /// Bytes that came.
        size: usize,
    },
    /// The authenticator does not fit.
    #[error("a sealed message that does not open")]
    Forged,
}

/// One direction of a stream. Wiped when dropped.
///
/// ```
/// use autobee::replication::noise::SessionKey;
/// use autobee::replication::secretstream::{Cipher, Tag};
///
/// let key = SessionKey::new([7; 32]);
/// let (mut sender, mut receiver) = (Cipher::new(&key, &[1; 24]), Cipher::new(&key, &[1; 24]));
/// let mut message = sender.seal(Tag::MESSAGE, b"hello", &[]);
/// assert_eq!(receiver.open(&mut message, &[])?, (Tag::MESSAGE, &b"hello"[..]));
/// # Ok::<(), autobee::replication::secretstream::OpenError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Cipher {
    key: [u8; 32],
    counter: u32,
    nonce: [u8; 8],
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cipher")
            .field("counter", &self.counter)
            .finish_non_exhaustive()
    }
}

impl Cipher {
    /// The start of a direction: the session key, and the header that its sender chose.
    #[must_use]
    pub fn new(key: &SessionKey, header: &[u8; HEADER_SIZE]) -> Self {
        let (mut input, mut nonce) = ([0; 16], [0; 8]);
        input.copy_from_slice(&header[..16]);
        nonce.copy_from_slice(&header[16..]);
        Self {
            key: hchacha::<R20>(&Array(*key.as_bytes()), &Array(input)).0,
            counter: 1,
            nonce,
        }
    }

    /// A direction in mid-stream, from its parts as libsodium stores them.
    #[must_use]
    pub const fn resume(key: [u8; 32], counter: u32, nonce: [u8; 8]) -> Self {
        Self { key, counter, nonce }
    }

    /// Key, counter and nonce, as libsodium stores them.
    #[must_use]
    pub const fn parts(&self) -> (&[u8; 32], u32, &[u8; 8]) {
        (&self.key, self.counter, &self.nonce)
    }

    /// The sealed form of `plain`. `ad` is authenticated with it and not sent; the original never has any.
    #[must_use]
    pub fn seal(&mut self, tag: Tag, plain: &[u8], ad: &[u8]) -> BytesMut {
        let mut sealed = BytesMut::with_capacity(plain.len() + OVERHEAD);
        self.seal_into(&mut sealed, tag, plain, ad);
        sealed
    }

    /// As [`Cipher::seal`], at the end of `out`.
    pub fn seal_into(&mut self, out: &mut BytesMut, tag: Tag, plain: &[u8], ad: &[u8]) {
        let start = out.len();
        out.put_u8(0);
        out.extend_from_slice(plain);
        let (mut keystream, mac, mut first) = self.begin(ad);
        first[0] ^= tag.0;
        out[start] = first[0];
        keystream.apply_keystream(&mut out[start + 1..]);
        let code = authenticate(mac, ad, &first, &out[start + 1..]);
        out.extend_from_slice(&code);
        self.advance(&code, tag.0);
    }

    /// Opens a message in place, and gives the tag and the plain text within `sealed`. After an error the cipher is
    /// unchanged, and so is `sealed`.
    ///
    /// # Errors
    ///
    /// The message is not the next one of this direction.
    pub fn open<'a>(&mut self, sealed: &'a mut [u8], ad: &[u8]) -> Result<(Tag, &'a [u8]), OpenError> {
        let size = sealed.len();
        let short = OpenError::Short { size };
        let (body, code) = sealed.split_last_chunk_mut::<MAC_SIZE>().ok_or(short)?;
        let (tag_byte, body) = body.split_first_mut().ok_or(short)?;

        let (mut keystream, mac, mut first) = self.begin(ad);
        let tag = first[0] ^ *tag_byte;
        first[0] = *tag_byte;
        let expected = authenticate(mac, ad, &first, body);
        if !bool::from(expected.ct_eq(code.as_slice())) {
            return Err(OpenError::Forged);
        }
        keystream.apply_keystream(body);
        self.advance(&expected, tag);
        Ok((Tag(tag), body))
    }

    /// The keystream from block 2 on, the authenticator with `ad` in it, and block 1.
    fn begin(&self, ad: &[u8]) -> (ChaCha20, Poly1305, [u8; CIPHER_BLOCK]) {
        let mut keystream = self.keystream();
        let mut blocks = [0; 2 * CIPHER_BLOCK];
        keystream.apply_keystream(&mut blocks);
        let (mut key, mut first) = ([0; 32], [0; CIPHER_BLOCK]);
        key.copy_from_slice(&blocks[..32]);
        first.copy_from_slice(&blocks[CIPHER_BLOCK..]);
        blocks.zeroize();
        let mut mac = Poly1305::new(&Array(key));
        key.zeroize();
        mac.update_padded(ad);
        (keystream, mac, first)
    }

    fn advance(&mut self, code: &[u8; MAC_SIZE], tag: u8) {
        for (byte, code) in self.nonce.iter_mut().zip(code) {
            *byte ^= code;
        }
        self.counter = self.counter.wrapping_add(1);
        if tag & REKEY_BIT != 0 || self.counter == 0 {
            self.rekey();
        }
    }

    fn rekey(&mut self) {
        let mut keystream = self.keystream();
        keystream.apply_keystream(&mut self.key);
        keystream.apply_keystream(&mut self.nonce);
        self.counter = 1;
    }

    fn keystream(&self) -> ChaCha20 {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.counter.to_le_bytes());
        nonce[4..].copy_from_slice(&self.nonce);
        ChaCha20::new(&Array(self.key), &Array(nonce))
    }
}

/// The authenticator over block 1 and `body`: block 1, the body, its padding as libsodium has it, and two lengths.
fn authenticate(mut mac: Poly1305, ad: &[u8], first: &[u8; CIPHER_BLOCK], body: &[u8]) -> [u8; MAC_SIZE] {
    mac.update(Block::slice_as_chunks(first).0);
    let (whole, rest) = Block::slice_as_chunks(body);
    mac.update(whole);
    // At most 15 bytes of body, as many zeros, and the lengths.
    let mut tail = [0; 3 * MAC_BLOCK];
    tail[..rest.len()].copy_from_slice(rest);
    let lengths = 2 * rest.len();
    tail[lengths..lengths + 8].copy_from_slice(&length_bytes(ad.len()));
    tail[lengths + 8..lengths + MAC_BLOCK].copy_from_slice(&length_bytes(CIPHER_BLOCK + body.len()));
    mac.compute_unpadded(&tail[..lengths + MAC_BLOCK]).0
}

fn length_bytes(length: usize) -> [u8; 8] {
    u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair() -> (Cipher, Cipher) {
        let cipher = Cipher::new(&SessionKey::new([3; 32]), &[9; HEADER_SIZE]);
        (cipher.clone(), cipher)
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(
            messages in proptest::collection::vec((0u8..4, proptest::collection::vec(any::<u8>(), 0..200)), 0..12),
        ) {
            let (mut sender, mut receiver) = pair();
            for (tag, plain) in messages {
                let mut sealed = sender.seal(Tag(tag), &plain, &[]);
                prop_assert_eq!(sealed.len(), plain.len() + OVERHEAD);
                prop_assert_eq!(receiver.open(&mut sealed, &[]), Ok((Tag(tag), plain.as_slice())));
                prop_assert!(sender == receiver);
            }
        }

        #[test]
        fn a_changed_bit_is_found_and_changes_nothing(
            plain in proptest::collection::vec(any::<u8>(), 0..100),
            position in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let (mut sender, mut receiver) = pair();
            let mut sealed = sender.seal(Tag::MESSAGE, &plain, &[]);
            let mut damaged = sealed.clone();
            let at = position.index(damaged.len());
            damaged[at] ^= 1 << bit;
            prop_assert_eq!(receiver.open(&mut damaged, &[]), Err(OpenError::Forged));
            prop_assert_eq!(receiver.open(&mut sealed, &[]), Ok((Tag::MESSAGE, plain.as_slice())));
        }

        #[test]
        fn arbitrary_bytes_do_not_open(mut bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(pair().1.open(&mut bytes, &[]).is_err());
        }
    }
}
