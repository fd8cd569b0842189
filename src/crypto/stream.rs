//! The stream cipher of blocks.

use salsa20::XSalsa20;
use salsa20::cipher::{KeyIvInit as _, StreamCipher as _};

/// Encrypts or decrypts `data` in place (libsodium `crypto_stream_xor`). Nothing is authenticated.
pub fn xsalsa20_xor(nonce: &[u8; 24], key: &[u8; 32], data: &mut [u8]) {
    XSalsa20::new(key.into(), nonce.into()).apply_keystream(data);
}
