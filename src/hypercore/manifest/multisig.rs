//! Several signatures as one byte string (spec/hypercore.md 5.4 and 5.5; `hypercore`, `lib/multisig.js`).
//!
//! A signer that is ahead of the tree proves it with a patch: the number of blocks it is ahead, and the tree nodes
//! that cover them.

use crate::crypto::{Signature, TreeNode};
use crate::hypercore::flat_tree;
use crate::wire::{Decode, DecodeError, Decoder, Encode, Encoder};

/// Signatures of several signers over one tree: manifests of version 1 and up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MultiSignature {
    /// One entry a signer.
    pub proofs: Vec<SignerProof>,
    /// Tree nodes of all patches.
    pub nodes: Vec<TreeNode>,
}

/// The signature of one signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignerProof {
    /// Position in the manifest's list of signers.
    pub signer: u64,
    /// Over the tree, or over the tree as patched.
    pub signature: Signature,
    /// Blocks that this signer had signed beyond the tree.
    pub patch: u64,
}

/// Signatures of several signers over one tree: manifests of version 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MultiSignatureV0 {
    /// One entry a signer.
    pub proofs: Vec<SignerProofV0>,
    /// Tree nodes of all patches.
    pub nodes: Vec<TreeNode>,
}

/// The signature of one signer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerProofV0 {
    /// Position in the manifest's list of signers.
    pub signer: u64,
    /// Over the tree, or over the tree as patched.
    pub signature: Signature,
    /// How far this signer was ahead.
    pub patch: Option<PatchV0>,
}

/// The patch of a signer that was ahead: how far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchV0 {
    /// Written as the end of the patch in blocks, whatever its name says. Not looked at.
    pub start: u64,
    /// Blocks beyond the tree. The only field that counts.
    pub length: u64,
    /// Positions in the list of nodes. Not looked at.
    pub nodes: Vec<u64>,
}

/// The part of one signer in a signature for a common length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialSignature {
    /// Position in the manifest's list of signers.
    pub signer: u64,
    /// The signer's own, over its own tree.
    pub signature: Signature,
    /// Blocks that its tree is longer than the common length.
    pub patch: u64,
    /// The tree nodes that cover these blocks.
    pub nodes: Vec<TreeNode>,
}

/// The length that `quorum` of the signers have signed, given how far each of them is. Zero when there are not enough.
#[must_use]
pub fn signable_length(lengths: &[u64], quorum: u64) -> u64 {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    usize::try_from(quorum.max(1) - 1)
        .ok()
        .and_then(|last| sorted.get(last).copied())
        .unwrap_or(0)
}

impl MultiSignature {
    /// Joins signatures in the given order. A node that several patches need is kept once.
    #[must_use]
    pub fn assemble(parts: &[PartialSignature]) -> Self {
        let mut joined = Self::default();
        for part in parts {
            joined.proofs.push(SignerProof {
                signer: part.signer,
                signature: part.signature,
                patch: part.patch,
            });
            for node in &part.nodes {
                if joined.nodes.iter().all(|known| known.index != node.index) {
                    joined.nodes.push(*node);
                }
            }
        }
        joined
    }
}

impl MultiSignatureV0 {
    /// As [`MultiSignature::assemble`], for manifests of version 0.
    #[must_use]
    pub fn assemble(parts: &[PartialSignature]) -> Self {
        let mut joined = Self::default();
        for part in parts {
            let mut positions = Vec::new();
            for node in &part.nodes {
                let known = joined.nodes.iter().position(|known| known == node);
                let position = known.unwrap_or_else(|| {
                    joined.nodes.push(*node);
                    joined.nodes.len() - 1
                });
                positions.extend(u64::try_from(position));
            }
            joined.proofs.push(SignerProofV0 {
                signer: part.signer,
                signature: part.signature,
                patch: part.nodes.last().map(|last| PatchV0 {
                    start: flat_tree::end_block(last.index),
                    length: part.patch,
                    nodes: positions,
                }),
            });
        }
        joined
    }

    /// The same in the newer form.
    #[must_use]
    pub fn upgrade(self) -> MultiSignature {
        MultiSignature {
            proofs: self
                .proofs
                .into_iter()
                .map(|proof| SignerProof {
                    signer: proof.signer,
                    signature: proof.signature,
                    patch: proof.patch.map_or(0, |patch| patch.length),
                })
                .collect(),
            nodes: self.nodes,
        }
    }
}

impl Encode for MultiSignature {
    fn encode(&self, to: &mut Encoder) {
        to.array(&self.proofs, |proof, to| {
            to.uint(proof.signer);
            proof.signature.encode(to);
            to.uint(proof.patch);
        });
        to.array(&self.nodes, TreeNode::encode);
    }
}

impl Decode for MultiSignature {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            proofs: from.array(|from| {
                Ok(SignerProof {
                    signer: from.uint()?,
                    signature: Signature::decode(from)?,
                    patch: from.uint()?,
                })
            })?,
            nodes: from.array(TreeNode::decode)?,
        })
    }
}

impl Encode for MultiSignatureV0 {
    fn encode(&self, to: &mut Encoder) {
        to.array(&self.proofs, |proof, to| {
            to.uint(u64::from(proof.patch.is_some())).uint(proof.signer);
            proof.signature.encode(to);
            if let Some(patch) = &proof.patch {
                to.uint(patch.start)
                    .uint(patch.length)
                    .array(&patch.nodes, u64::encode);
            }
        });
        to.array(&self.nodes, TreeNode::encode);
    }
}

impl Decode for MultiSignatureV0 {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            proofs: from.array(|from| {
                let flags = from.uint()?;
                Ok(SignerProofV0 {
                    signer: from.uint()?,
                    signature: Signature::decode(from)?,
                    patch: match flags & 1 {
                        0 => None,
                        _ => Some(PatchV0 {
                            start: from.uint()?,
                            length: from.uint()?,
                            nodes: from.array(u64::decode)?,
                        }),
                    },
                })
            })?,
            nodes: from.array(TreeNode::decode)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::Hash;

    prop_compose! {
        fn part()(
            signer in 0..5u64,
            patch in 0..9u64,
            nodes in proptest::collection::vec((0..20u64, 0..99u64, any::<[u8; 32]>()), 0..3),
        ) -> PartialSignature {
            PartialSignature {
                signer,
                signature: Signature::new([7; 64]),
                patch: if nodes.is_empty() { 0 } else { patch },
                nodes: nodes
                    .into_iter()
                    .map(|(index, size, hash)| TreeNode { index, size, hash: Hash::new(hash) })
                    .collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn both_forms_survive_and_say_the_same(parts in proptest::collection::vec(part(), 0..4)) {
            let new = MultiSignature::assemble(&parts);
            prop_assert_eq!(MultiSignature::from_bytes(&new.to_bytes().unwrap()), Ok(new.clone()));
            let old = MultiSignatureV0::assemble(&parts);
            prop_assert_eq!(MultiSignatureV0::from_bytes(&old.to_bytes().unwrap()), Ok(old.clone()));
            prop_assert_eq!(old.upgrade().proofs, new.proofs);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = MultiSignature::from_bytes(&bytes);
            let _ = MultiSignatureV0::from_bytes(&bytes);
        }
    }
}
