//! The Noise handshake `Noise_XX_Ed25519_ChaChaPoly_BLAKE2b`, as a sans-IO machine.
//!
//! Plain Noise (revision 34), but that the Diffie-Hellman function multiplies Ed25519 points and keeps the product in
//! its compressed Edwards form. Keys come in as seeds, so that a run can be repeated exactly. The pattern IK, which the
//! DHT of the original uses, is here too: it is one table more.
//!
//! Source: spec/replication.md 2 (packages noise-handshake 4.2, noise-curve-ed 2.1). Written over the primitives and
//! not over `snow`: that crate would need its own resolver for three of its four parts anyway, and pins an older
//! generation of the curve.

mod symmetric;

use symmetric::front;
pub use symmetric::{Symmetric, hkdf, hmac};

use blake2::Digest as _;
use curve25519_dalek::EdwardsPoint;
use curve25519_dalek::edwards::CompressedEdwardsY;
use sha2::Sha512;
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::Role;
use crate::crypto::{PublicKey, Seed};

/// Bytes of a hash, of a chaining key, and of the handshake hash.
pub const HASH_SIZE: usize = 64;

/// Bytes that a seal adds.
pub const TAG_SIZE: usize = 16;

const KEY_SIZE: usize = 32;
const HMAC_BLOCK_SIZE: usize = 128;

/// A handshake that cannot go on. The connection is to be dropped without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoiseError {
    /// The peer's message ends before its parts do.
    #[error("the peer sent a handshake message that is too short")]
    Short,
    /// The peer's seal does not open: the message was damaged, or made with other keys.
    #[error("the peer sent a handshake message that does not open")]
    Seal,
    /// The peer's key is no canonical point of the prime-order group.
    #[error("the peer sent an invalid public key")]
    Point,
    /// Our side reads when it should write, or the reverse, or goes on after an error. A fault of the caller.
    #[error("a handshake step out of turn")]
    OutOfTurn,
}

/// The pattern of a handshake: who learns whose static key, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Neither side knows the other. Three messages.
    Xx,
    /// The initiator knows the responder's key beforehand. Two messages.
    Ik,
}

impl Pattern {
    /// The protocol name, which is part of the first hash.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xx => "Noise_XX_Ed25519_ChaChaPoly_BLAKE2b",
            Self::Ik => "Noise_IK_Ed25519_ChaChaPoly_BLAKE2b",
        }
    }

    const fn messages(self) -> &'static [&'static [Token]] {
        use Token::{E, Ee, Es, S, Se, Ss};
        match self {
            Self::Xx => &[&[E], &[E, Ee, S, Es], &[S, Se]],
            Self::Ik => &[&[E, Es, S, Ss], &[E, Ee, Se]],
        }
    }
}

/// One part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// The ephemeral key of the sender, in the clear.
    E,
    /// The static key of the sender, sealed once there is a key.
    S,
    /// Mixes in the product of both ephemeral keys.
    Ee,
    /// Of the initiator's ephemeral key and the responder's static one.
    Es,
    /// Of the initiator's static key and the responder's ephemeral one.
    Se,
    /// Of both static keys.
    Ss,
}

/// The secrets that one side brings. The ephemeral seed must be fresh for every handshake.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The seed of the key pair by which the other side may recognise us.
    pub identity: Seed,
    /// 32 random bytes for this handshake alone.
    pub ephemeral: Seed,
}

/// A handshake under way.
///
/// ```
/// use autobee::crypto::Seed;
/// use autobee::replication::Role;
/// use autobee::replication::noise::{Handshake, Keys};
///
/// let keys = |a, b| Keys { identity: Seed::new([a; 32]), ephemeral: Seed::new([b; 32]) };
/// let mut alice = Handshake::xx(Role::Initiator, keys(1, 2), &[]);
/// let mut bob = Handshake::xx(Role::Responder, keys(3, 4), &[]);
///
/// bob.read(&alice.write(&[])?)?;
/// alice.read(&bob.write(&[])?)?;
/// bob.read(&alice.write(&[])?)?;
///
/// let (alice, bob) = (alice.finish()?, bob.finish()?);
/// assert_eq!(alice.hash, bob.hash);
/// # Ok::<(), autobee::replication::noise::NoiseError>(())
/// ```
#[derive(Debug)]
pub struct Handshake {
    role: Role,
    pattern: Pattern,
    keys: Keys,
    symmetric: Symmetric,
    remote_identity: Option<PublicKey>,
    remote_ephemeral: Option<PublicKey>,
    next: usize,
    failed: bool,
}

/// The result of a finished handshake: keys of both directions, the hash, and who the peer is.
#[derive(Debug)]
pub struct HandshakeResult {
    /// Key of what we send.
    pub send: SessionKey,
    /// Key of what we receive.
    pub receive: SessionKey,
    /// The handshake hash: it binds whatever is proved later to this very stream. All 64 bytes count.
    pub hash: [u8; HASH_SIZE],
    /// The static key of the other side. It authorises nothing by itself.
    pub remote: PublicKey,
}

/// A symmetric key of one direction. Wiped when dropped; never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SessionKey([u8; KEY_SIZE]);

impl SessionKey {
    /// Wraps the bytes.
    #[must_use]
    pub const fn new(bytes: [u8; KEY_SIZE]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_SIZE] {
        &self.0
    }
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

impl Handshake {
    /// A handshake between strangers. The prologue is empty on a plain socket.
    #[must_use]
    pub fn xx(role: Role, keys: Keys, prologue: &[u8]) -> Self {
        Self::new(role, Pattern::Xx, keys, prologue, None)
    }

    /// A handshake whose initiator knows the responder's key.
    #[must_use]
    pub fn ik_initiator(keys: Keys, responder: PublicKey, prologue: &[u8]) -> Self {
        Self::new(Role::Initiator, Pattern::Ik, keys, prologue, Some(responder))
    }

    /// The other side of [`Handshake::ik_initiator`].
    #[must_use]
    pub fn ik_responder(keys: Keys, prologue: &[u8]) -> Self {
        Self::new(Role::Responder, Pattern::Ik, keys, prologue, None)
    }

    fn new(role: Role, pattern: Pattern, keys: Keys, prologue: &[u8], remote: Option<PublicKey>) -> Self {
        let mut symmetric = Symmetric::new(pattern.name());
        symmetric.mix_hash(prologue);
        if pattern == Pattern::Ik {
            let responder = remote.unwrap_or_else(|| public_key(&keys.identity));
            symmetric.mix_hash(responder.as_bytes());
        }
        Self {
            role,
            pattern,
            keys,
            symmetric,
            remote_identity: remote,
            remote_ephemeral: None,
            next: 0,
            failed: false,
        }
    }

    // What comes next.

    /// True when all messages were written and read.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        !self.failed && self.next == self.pattern.messages().len()
    }

    /// True when it is our turn to write.
    #[must_use]
    pub const fn is_our_turn(&self) -> bool {
        !self.failed && !self.is_finished() && self.next.is_multiple_of(2) == self.role.is_initiator()
    }

    /// Hashes and keys between two messages, for tests against recorded handshakes.
    #[must_use]
    pub const fn symmetric(&self) -> &Symmetric {
        &self.symmetric
    }

    // Steps.

    /// Our next message, with a payload that is sealed as soon as there is a key.
    ///
    /// # Errors
    ///
    /// Out of turn, or the peer's key that came before is no valid point.
    pub fn write(&mut self, payload: &[u8]) -> Result<Vec<u8>, NoiseError> {
        self.step(true, |handshake, tokens| {
            let mut message = Vec::new();
            for token in tokens {
                match token {
                    Token::E => {
                        let key = public_key(&handshake.keys.ephemeral);
                        handshake.symmetric.mix_hash(key.as_bytes());
                        message.extend_from_slice(key.as_bytes());
                    }
                    Token::S => {
                        let key = public_key(&handshake.keys.identity);
                        let sealed = handshake.symmetric.encrypt_and_hash(key.as_bytes())?;
                        message.extend_from_slice(&sealed);
                    }
                    product => handshake.mix_product(*product)?,
                }
            }
            let sealed = handshake.symmetric.encrypt_and_hash(payload)?;
            message.extend_from_slice(&sealed);
            Ok(message)
        })
    }

    /// Reads the peer's next message and gives its payload.
    ///
    /// # Errors
    ///
    /// When the message is not what the peer of this handshake would send. Nothing can be read after that.
    pub fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, NoiseError> {
        self.step(false, |handshake, tokens| {
            let mut rest = message;
            let mut take = |count: usize| {
                let (part, left) = rest.split_at_checked(count).ok_or(NoiseError::Short)?;
                rest = left;
                Ok(part)
            };
            for token in tokens {
                match token {
                    Token::E => {
                        let bytes = take(KEY_SIZE)?;
                        handshake.symmetric.mix_hash(bytes);
                        handshake.remote_ephemeral = Some(key_of(bytes)?);
                    }
                    Token::S => {
                        let sealed = take(KEY_SIZE + handshake.symmetric.overhead())?;
                        let bytes = handshake.symmetric.decrypt_and_hash(sealed)?;
                        handshake.remote_identity = Some(key_of(&bytes)?);
                    }
                    product => handshake.mix_product(*product)?,
                }
            }
            handshake.symmetric.decrypt_and_hash(rest)
        })
    }

    /// The keys of both directions.
    ///
    /// # Errors
    ///
    /// Out of turn: messages are missing.
    pub fn finish(self) -> Result<HandshakeResult, NoiseError> {
        let remote = self.remote_identity.filter(|_| self.is_finished());
        let remote = remote.ok_or(NoiseError::OutOfTurn)?;
        let (first, second) = hkdf(&self.symmetric.chaining_key, &[]);
        let (first, second) = (SessionKey(front(&first)), SessionKey(front(&second)));
        let (send, receive) = match self.role {
            Role::Initiator => (first, second),
            Role::Responder => (second, first),
        };
        Ok(HandshakeResult {
            send,
            receive,
            hash: self.symmetric.hash,
            remote,
        })
    }

    fn step<T>(
        &mut self,
        ours: bool,
        run: impl FnOnce(&mut Self, &[Token]) -> Result<T, NoiseError>,
    ) -> Result<T, NoiseError> {
        if self.failed || self.is_finished() || self.is_our_turn() != ours {
            return Err(NoiseError::OutOfTurn);
        }
        let tokens = self.pattern.messages().get(self.next);
        let done = tokens
            .ok_or(NoiseError::OutOfTurn)
            .and_then(|tokens| run(self, tokens));
        self.next += 1;
        self.failed = done.is_err();
        done
    }

    fn mix_product(&mut self, token: Token) -> Result<(), NoiseError> {
        let initiator = self.role.is_initiator();
        let (own_is_identity, remote_is_identity) = match token {
            Token::Es => (!initiator, initiator),
            Token::Se => (initiator, !initiator),
            Token::Ss => (true, true),
            Token::E | Token::S | Token::Ee => (false, false),
        };
        let own = if own_is_identity {
            &self.keys.identity
        } else {
            &self.keys.ephemeral
        };
        let remote = if remote_is_identity {
            self.remote_identity
        } else {
            self.remote_ephemeral
        };
        let product = dh(own, &remote.ok_or(NoiseError::OutOfTurn)?)?;
        self.symmetric.mix_key(product.as_ref());
        Ok(())
    }
}

/// The public key of a seed: the same as for signing.
#[must_use]
pub fn public_key(seed: &Seed) -> PublicKey {
    let scalar = secret_scalar(seed);
    PublicKey::new(EdwardsPoint::mul_base_clamped(*scalar).compress().to_bytes())
}

/// The Diffie-Hellman function: the peer's point times our secret scalar, as a compressed Edwards point.
///
/// # Errors
///
/// [`NoiseError::Point`] when the key is not the canonical encoding of a point of the prime-order group.
pub fn dh(own: &Seed, remote: &PublicKey) -> Result<SessionKey, NoiseError> {
    let encoded = CompressedEdwardsY(*remote.as_bytes());
    let point = encoded.decompress().ok_or(NoiseError::Point)?;
    let canonical: bool = point.compress().0.ct_eq(&encoded.0).into();
    if !canonical || point.is_small_order() || !point.is_torsion_free() {
        return Err(NoiseError::Point);
    }
    let scalar = secret_scalar(own);
    Ok(SessionKey(point.mul_clamped(*scalar).compress().to_bytes()))
}

impl AsRef<[u8]> for SessionKey {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The secret scalar of a seed before clamping, which the multiplication does.
fn secret_scalar(seed: &Seed) -> Zeroizing<[u8; KEY_SIZE]> {
    let digest: Zeroizing<[u8; HASH_SIZE]> = Zeroizing::new(Sha512::digest(seed.as_bytes()).into());
    Zeroizing::new(front(&digest))
}

fn key_of(bytes: &[u8]) -> Result<PublicKey, NoiseError> {
    PublicKey::try_from(bytes).map_err(|_| NoiseError::Short)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(identity: u8, ephemeral: u8) -> Keys {
        Keys {
            identity: Seed::new([identity; 32]),
            ephemeral: Seed::new([ephemeral; 32]),
        }
    }

    #[test]
    fn steps_out_of_turn_are_the_callers_fault() {
        let mut side = Handshake::xx(Role::Responder, keys(1, 2), &[]);
        assert_eq!(side.write(&[]), Err(NoiseError::OutOfTurn));
        assert_eq!(side.finish().unwrap_err(), NoiseError::OutOfTurn);
    }

    #[test]
    fn nothing_works_after_a_failure() {
        let mut side = Handshake::xx(Role::Responder, keys(1, 2), &[]);
        assert_eq!(side.read(&[0; 31]), Err(NoiseError::Short));
        assert_eq!(side.read(&[0; 32]), Err(NoiseError::OutOfTurn));
        assert_eq!(side.write(&[]), Err(NoiseError::OutOfTurn));
    }

    proptest! {
        #[test]
        fn arbitrary_messages_never_panic(
            first in proptest::collection::vec(any::<u8>(), 0..80),
            second in proptest::collection::vec(any::<u8>(), 0..160),
        ) {
            let mut responder = Handshake::xx(Role::Responder, keys(1, 2), &[]);
            if responder.read(&first).is_ok() {
                let _ = responder.write(&[]);
                prop_assert!(responder.read(&second).is_err());
            }
            let mut initiator = Handshake::xx(Role::Initiator, keys(3, 4), &[]);
            initiator.write(&[]).unwrap();
            prop_assert!(initiator.read(&second).is_err());
        }

        #[test]
        fn a_changed_bit_is_found(message in 0usize..3, position in 0usize..32, bit in 0u8..8) {
            let mut sides = [
                Handshake::xx(Role::Initiator, keys(1, 2), &[]),
                Handshake::xx(Role::Responder, keys(3, 4), &[]),
            ];
            let mut failed = false;
            for step in 0..3 {
                let Ok(mut bytes) = sides[step % 2].write(&[]) else {
                    failed = true;
                    break;
                };
                if step == message {
                    bytes[position] ^= 1 << bit;
                }
                if sides[(step + 1) % 2].read(&bytes).is_err() {
                    failed = true;
                    break;
                }
            }
            prop_assert!(failed);
        }
    }
}
