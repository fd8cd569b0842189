//! BLAKE2b, and the hashes that Merkle trees and names of cores are made of (spec/hypercore.md 2.1 and 2.3).

use blake2::digest::consts::{U16, U32};
use blake2::digest::{FixedOutput as _, KeyInit as _, Update as _};
use blake2::{Blake2b256, Blake2bMac, Digest as _};
use blake2b_simd::Params;
use blake2b_simd::many::{self, HashManyJob};

use super::{CoreKey, DiscoveryKey, Hash, KeyParseError};

/// BLAKE2b-256 of the parts, joined without separators.
///
/// ```
/// use autobee::crypto::hash;
///
/// assert_eq!(hash(&[b"he", b"llo"]), hash(&[b"hello"]));
/// ```
#[must_use]
pub fn hash(parts: &[&[u8]]) -> Hash {
    let mut state = plain().to_state();
    for part in parts {
        state.update(part);
    }
    hash_of(&state.finalize())
}

/// BLAKE2b-256 of the parts under a key. The key is the parameter that BLAKE2 has for one; this is not HMAC.
#[must_use]
pub fn keyed_hash(key: &HashKey, parts: &[&[u8]]) -> Hash {
    let mut state = key.state_256();
    for part in parts {
        state.update(part);
    }
    Hash::new(state.finalize_fixed().into())
}

/// BLAKE2b-128 of the parts under a key.
#[must_use]
pub fn keyed_hash_128(key: &HashKey, parts: &[&[u8]]) -> [u8; 16] {
    let mut state = key.state_128();
    for part in parts {
        state.update(part);
    }
    state.finalize_fixed().into()
}

/// BLAKE2b-128 of the parts. Its first half is not BLAKE2b-256's: the length is part of what is hashed.
#[must_use]
pub fn hash_128(parts: &[&[u8]]) -> [u8; 16] {
    let mut state = blake2::Blake2b128::new();
    for part in parts {
        blake2::Digest::update(&mut state, part);
    }
    state.finalize().into()
}

/// One node of a Merkle tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeNode {
    /// Position in the flat in-order tree: leaf `i` stands at `2 i`, parents at odd positions.
    pub index: u64,
    /// Stored bytes of all blocks below.
    pub size: u64,
    /// [`leaf`] or [`parent`].
    pub hash: Hash,
}

/// The hash of one stored block.
#[must_use]
pub fn leaf(block: &[u8]) -> Hash {
    let size = u64::try_from(block.len()).unwrap_or(u64::MAX);
    hash(&[&[0], &size.to_le_bytes(), block])
}

/// As [`leaf`] for each of many blocks, which are hashed side by side: several times as fast.
#[must_use]
pub fn leaves<'a>(blocks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Hash> {
    let mut hashes = Vec::new();
    let mut blocks = blocks.into_iter().peekable();
    while blocks.peek().is_some() {
        let group: Vec<&[u8]> = blocks.by_ref().take(GROUP).collect();
        match group.iter().map(|block| block.len()).max() {
            Some(..=COPIED_BYTES) => small_leaves(&group, &mut hashes),
            _ => large_leaves(&group, &mut hashes),
        }
    }
    hashes
}

/// Blocks that are hashed together. More than stand side by side, because they end at different times.
const GROUP: usize = 16;

/// Up to this size blocks are copied behind what is hashed before them, so that all of it is hashed side by side.
const COPIED_BYTES: usize = 4096;

const LEAF_HEAD: usize = 9;

fn leaf_head(block: &[u8]) -> [u8; LEAF_HEAD] {
    let mut head = [0; LEAF_HEAD];
    let size = u64::try_from(block.len()).unwrap_or(u64::MAX);
    head[1..].copy_from_slice(&size.to_le_bytes());
    head
}

fn small_leaves(blocks: &[&[u8]], hashes: &mut Vec<Hash>) {
    let params = plain();
    let mut bytes = Vec::with_capacity(blocks.iter().map(|block| LEAF_HEAD + block.len()).sum());
    for block in blocks {
        bytes.extend_from_slice(&leaf_head(block));
        bytes.extend_from_slice(block);
    }
    let mut rest = bytes.as_slice();
    let mut jobs: Vec<HashManyJob<'_>> = Vec::with_capacity(blocks.len());
    for block in blocks {
        let (input, behind) = rest.split_at(LEAF_HEAD + block.len());
        jobs.push(HashManyJob::new(&params, input));
        rest = behind;
    }
    many::hash_many(&mut jobs);
    hashes.extend(jobs.iter().map(|job| hash_of(&job.to_hash())));
}

fn large_leaves(blocks: &[&[u8]], hashes: &mut Vec<Hash>) {
    let mut states: Vec<blake2b_simd::State> = blocks
        .iter()
        .map(|block| {
            let mut state = plain().to_state();
            state.update(&leaf_head(block));
            state
        })
        .collect();
    many::update_many(states.iter_mut().zip(blocks));
    hashes.extend(states.iter().map(|state| hash_of(&state.finalize())));
}

fn plain() -> Params {
    let mut params = Params::new();
    params.hash_length(Hash::SIZE);
    params
}

fn hash_of(hash: &blake2b_simd::Hash) -> Hash {
    let mut bytes = [0; Hash::SIZE];
    bytes.copy_from_slice(hash.as_bytes());
    Hash::new(bytes)
}

/// The hash of the node above two siblings. The one with the smaller index is the left one, in whatever order they
/// are given. Sizes that do not add up to a number of 64 bits give the hash of no tree.
#[must_use]
pub fn parent(a: &TreeNode, b: &TreeNode) -> Hash {
    let (left, right) = if a.index <= b.index { (a, b) } else { (b, a) };
    let size = left.size.saturating_add(right.size);
    hash(&[
        &[1],
        &size.to_le_bytes(),
        left.hash.as_bytes(),
        right.hash.as_bytes(),
    ])
}

/// The hash of a whole tree: of its roots, from left to right.
#[must_use]
pub fn tree<'a>(roots: impl IntoIterator<Item = &'a TreeNode>) -> Hash {
    let mut state = Blake2b256::new_with_prefix([2]);
    for root in roots {
        blake2::Digest::update(&mut state, root.hash.as_bytes());
        blake2::Digest::update(&mut state, root.index.to_le_bytes());
        blake2::Digest::update(&mut state, root.size.to_le_bytes());
    }
    Hash::new(state.finalize().into())
}

/// The public name of a core.
#[must_use]
pub fn discovery_key(key: &CoreKey) -> DiscoveryKey {
    DiscoveryKey::new(*keyed_hash(&HashKey::from(key.as_bytes()), &[b"hypercore"]).as_bytes())
}

/// A key of BLAKE2b: 1 to 64 bytes. Wiped when dropped; never printed.
#[derive(Clone, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct HashKey {
    bytes: [u8; 64],
    size: usize,
}

impl HashKey {
    fn state_256(&self) -> Blake2bMac<U32> {
        #[expect(clippy::expect_used, reason = "construction bounds the size")]
        Blake2bMac::new_from_slice(&self.bytes[..self.size]).expect("1 to 64 bytes")
    }

    fn state_128(&self) -> Blake2bMac<U16> {
        #[expect(clippy::expect_used, reason = "construction bounds the size")]
        Blake2bMac::new_from_slice(&self.bytes[..self.size]).expect("1 to 64 bytes")
    }
}

impl<const N: usize> From<&[u8; N]> for HashKey {
    fn from(key: &[u8; N]) -> Self {
        const { assert!(N >= 1 && N <= 64) };
        let mut bytes = [0; 64];
        bytes[..N].copy_from_slice(key);
        Self { bytes, size: N }
    }
}

impl TryFrom<&[u8]> for HashKey {
    type Error = KeyParseError;

    fn try_from(key: &[u8]) -> Result<Self, KeyParseError> {
        if key.is_empty() || key.len() > 64 {
            return Err(KeyParseError::Length {
                expected: 64,
                found: key.len(),
            });
        }
        let mut bytes = [0; 64];
        bytes[..key.len()].copy_from_slice(key);
        Ok(Self {
            bytes,
            size: key.len(),
        })
    }
}

impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn many_leaves_are_those_of_each(
            sizes in proptest::collection::vec(prop_oneof![0..300usize, 4000..4200usize, 9000..10_000usize], 0..40),
            fill: u8,
        ) {
            let blocks: Vec<Vec<u8>> = (fill..=u8::MAX).cycle().zip(&sizes).map(|(fill, size)| vec![fill; *size]).collect();
            let each: Vec<Hash> = blocks.iter().map(|block| {
                let size = (block.len() as u64).to_le_bytes();
                let state = Blake2b256::new_with_prefix([0]).chain_update(size).chain_update(block);
                Hash::new(state.finalize().into())
            }).collect();
            prop_assert_eq!(&leaves(blocks.iter().map(Vec::as_slice)), &each);
            prop_assert_eq!(blocks.iter().map(|block| leaf(block)).collect::<Vec<_>>(), each);
        }
    }

    #[test]
    fn siblings_hash_alike_in_either_order() {
        let a = TreeNode {
            index: 0,
            size: 3,
            hash: leaf(b"abc"),
        };
        let b = TreeNode {
            index: 2,
            size: 1,
            hash: leaf(b"d"),
        };
        assert_eq!(parent(&a, &b), parent(&b, &a));
        assert_ne!(tree([&a, &b]), tree([&b, &a]));
    }

    #[test]
    fn a_hash_key_has_bounds() {
        assert!(HashKey::try_from(&[][..]).is_err());
        assert!(HashKey::try_from(&[0; 65][..]).is_err());
        assert_eq!(
            keyed_hash(&HashKey::from(&[7; 32]), &[b"a"]),
            keyed_hash(&HashKey::try_from(&[7; 32][..]).unwrap(), &[b"a"])
        );
    }

    #[test]
    fn a_short_digest_is_not_a_prefix() {
        assert_ne!(hash_128(&[b"a"])[..], hash(&[b"a"]).as_bytes()[..16]);
        assert_ne!(
            keyed_hash_128(&HashKey::from(&[1; 32]), &[b"a"]),
            hash_128(&[b"a"])
        );
    }
}
