//! Signing trees and checking signatures over them (spec/hypercore.md 5.2 and 5.3).

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::multisig::{MultiSignature, MultiSignatureV0, SignerProof};
use super::{Manifest, Signable, Signer};
use crate::crypto::{CoreKey, Hash, KeyPair, PublicKey, Sign, Signature, TreeNode, Verify, tree};
use crate::hypercore::{flat_tree, merkle};
use crate::wire::{Decode as _, DecodeError, Encode as _, EncodeError};

/// A tree, as far as its signature is concerned.
#[derive(Debug, Clone, Copy)]
pub struct TreeHead<'a> {
    /// Roots from left to right, those of a tree of `length` blocks.
    pub roots: &'a [TreeNode],
    /// Number of blocks.
    pub length: u64,
    /// Generation: rises with every truncation.
    pub fork: u64,
}

/// A tree is not what its manifest allows.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// There is no signature, and the tree needs one.
    #[error("the tree is not signed")]
    Unsigned,
    /// Nobody can sign for this manifest: its quorum is zero.
    #[error("the manifest has no quorum")]
    NoQuorum,
    /// The tree is shorter than the prologue, or as long and another.
    #[error("the tree is not the prologue")]
    Prologue,
    /// The signature is no encoding of one.
    #[error("malformed signature: {0}")]
    Malformed(#[from] DecodeError),
    /// Fewer signatures than the quorum.
    #[error("{found} signatures of {quorum}")]
    TooFew {
        /// Signatures there are.
        found: usize,
        /// Signatures needed.
        quorum: u64,
    },
    /// A signer that the manifest does not have, or that signed twice.
    #[error("signer {0} is unknown or repeated")]
    Signer(u64),
    /// The nodes do not lead from the tree to the one that was signed.
    #[error("signer {0} is ahead without proof")]
    Patch(u64),
    /// A signature is not the signer's over this tree.
    #[error("wrong signature by signer {0}")]
    Signature(u64),
}

/// A tree cannot be signed: the fault of the caller.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SignError {
    /// The key pair belongs to no signer of the manifest.
    #[error("{0} is not a declared signer")]
    NotASigner(PublicKey),
    /// A number that the encoding cannot carry.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl TreeHead<'_> {
    /// The hash of the tree.
    #[must_use]
    pub fn hash(&self) -> Hash {
        tree(self.roots)
    }
}

impl Manifest {
    /// The message that `signer` signs for a tree of the core `key`.
    #[must_use]
    pub fn signable(&self, key: &CoreKey, signer: &Signer, head: &TreeHead<'_>) -> Vec<u8> {
        let name = if self.is_compat(key) {
            Signable::Compat
        } else if self.version() == 0 {
            Signable::Named(&signer.namespace)
        } else {
            Signable::Named(key.as_bytes())
        };
        name.message(&head.hash(), head.length, head.fork)
    }

    /// Signs a tree of the core `key`. With one signer this is the stored signature; with several, or with patches in
    /// version 0, it is the bare signature that a [`super::PartialSignature`] wants.
    ///
    /// # Errors
    ///
    /// When the key pair is not of a declared signer.
    pub fn sign(
        &self,
        crypto: &impl Sign,
        key: &CoreKey,
        pair: &KeyPair,
        head: &TreeHead<'_>,
    ) -> Result<Vec<u8>, SignError> {
        let signer = self
            .signers()
            .iter()
            .find(|signer| signer.public_key == pair.public)
            .ok_or(SignError::NotASigner(pair.public))?;
        let signature = crypto.sign(&pair.secret, &self.signable(key, signer, head));
        if self.is_compat(key) || self.version() == 0 || self.signers().len() != 1 {
            return Ok(signature.as_bytes().to_vec());
        }
        let proofs = vec![SignerProof {
            signer: 0,
            signature,
            patch: 0,
        }];
        Ok(MultiSignature {
            proofs,
            nodes: Vec::new(),
        }
        .to_bytes()?)
    }

    /// Checks that a tree of the core `key` is one that the manifest allows: the prologue itself, or signed by a quorum.
    /// That `roots` belong to a tree of `length` blocks is for the caller to know.
    ///
    /// # Errors
    ///
    /// Says why it is not. Nothing of this is our own fault.
    pub fn verify(
        &self,
        crypto: &impl Verify,
        key: &CoreKey,
        head: &TreeHead<'_>,
        signature: Option<&[u8]>,
    ) -> Result<(), VerifyError> {
        let compat = self.is_compat(key);
        if compat || self.version() == 0 {
            let signature = signature
                .filter(|bytes| !bytes.is_empty())
                .ok_or(VerifyError::Unsigned)?;
            return match self.signers() {
                [signer] if compat || !self.allow_patch() => {
                    let message = self.signable(key, signer, head);
                    let bare = Signature::try_from(signature).map_err(|_| VerifyError::Signature(0))?;
                    let holds = crypto.verify(&signer.public_key, &message, &bare);
                    holds.then_some(()).ok_or(VerifyError::Signature(0))
                }
                _ => {
                    self.check_quorum_possible()?;
                    let signatures = MultiSignatureV0::from_bytes(signature)?.upgrade();
                    self.verify_quorum(crypto, key, head, &signatures)
                }
            };
        }
        if let Some(prologue) = self.prologue().filter(|prologue| head.length <= prologue.length) {
            let same = head.length == prologue.length && head.hash() == prologue.hash;
            return same.then_some(()).ok_or(VerifyError::Prologue);
        }
        let signature = signature.ok_or(VerifyError::Unsigned)?;
        self.check_quorum_possible()?;
        self.verify_quorum(crypto, key, head, &MultiSignature::from_bytes(signature)?)
    }

    fn check_quorum_possible(&self) -> Result<(), VerifyError> {
        if self.quorum() == 0 {
            Err(VerifyError::NoQuorum)
        } else {
            Ok(())
        }
    }

    /// Looks at the first `quorum` signatures and at no other, as the reference does.
    fn verify_quorum(
        &self,
        crypto: &impl Verify,
        key: &CoreKey,
        head: &TreeHead<'_>,
        signatures: &MultiSignature,
    ) -> Result<(), VerifyError> {
        let quorum = self.quorum();
        let proofs = usize::try_from(quorum)
            .ok()
            .and_then(|quorum| signatures.proofs.get(..quorum))
            .ok_or(VerifyError::TooFew {
                found: signatures.proofs.len(),
                quorum,
            })?;
        // Both are looked up once a signature: a hostile list must not cost its square.
        let nodes: BTreeMap<u64, TreeNode> = signatures
            .nodes
            .iter()
            .rev()
            .map(|node| (node.index, *node))
            .collect();
        let mut seen = BTreeSet::new();
        for proof in proofs {
            let index = proof.signer;
            let repeated = !seen.insert(index);
            let signer = usize::try_from(index)
                .ok()
                .and_then(|index| self.signers().get(index))
                .filter(|_| !repeated)
                .ok_or(VerifyError::Signer(index))?;
            let message = if proof.patch > 0 && self.allow_patch() {
                let (roots, length) = patched(head, proof.patch, &nodes).ok_or(VerifyError::Patch(index))?;
                self.signable(
                    key,
                    signer,
                    &TreeHead {
                        roots: &roots,
                        length,
                        fork: head.fork,
                    },
                )
            } else {
                self.signable(key, signer, head)
            };
            if !crypto.verify(&signer.public_key, &message, &proof.signature) {
                return Err(VerifyError::Signature(index));
            }
        }
        Ok(())
    }
}

/// The tree `patch` blocks further, with the nodes that cover these blocks. None when a node is missing or the numbers
/// leave the range of trees.
fn patched(head: &TreeHead<'_>, patch: u64, nodes: &BTreeMap<u64, TreeNode>) -> Option<(Vec<TreeNode>, u64)> {
    let end = head.length.checked_add(patch)?;
    let mut roots = head.roots.to_vec();
    for index in flat_tree::cover(head.length, end) {
        append_root(&mut roots, *nodes.get(&index)?);
    }
    Some((roots, end))
}

/// Adds a root and joins roots that are siblings.
fn append_root(roots: &mut Vec<TreeNode>, node: TreeNode) {
    let mut last = node;
    while let Some(left) = roots.pop_if(|left| flat_tree::sibling(left.index) == last.index) {
        last = merkle::parent(&left, &last);
    }
    roots.push(last);
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::Ed25519;
    use crate::hypercore::manifest::{ManifestOptions, PartialSignature};
    use crate::hypercore::merkle::MerkleTree;

    fn tree_of(length: u64) -> MerkleTree {
        let mut tree = MerkleTree::default();
        (0..length).for_each(|block| tree.append(&block.to_le_bytes(), &mut Vec::new()));
        tree
    }

    fn manifest(version: u64, quorum: u64, allow_patch: bool) -> Manifest {
        let signers = (1..=3)
            .map(|byte| Signer::new(PublicKey::new([byte; 32])))
            .collect();
        Manifest::new(ManifestOptions {
            version: Some(version),
            quorum: Some(quorum),
            allow_patch,
            signers,
            ..ManifestOptions::default()
        })
        .unwrap()
    }

    #[test]
    fn a_patch_leads_to_the_longer_tree() {
        let short = tree_of(3);
        let mut pair = Vec::new();
        append_root(&mut pair, merkle::leaf(4, &4u64.to_le_bytes()));
        append_root(&mut pair, merkle::leaf(5, &5u64.to_le_bytes()));
        let nodes = [merkle::leaf(3, &3u64.to_le_bytes()), pair[0]];
        let nodes = nodes.map(|node| (node.index, node)).into();
        assert_eq!(
            patched(&short.head(), 3, &nodes),
            Some((tree_of(6).roots().to_vec(), 6))
        );
        assert_eq!(patched(&short.head(), 4, &nodes), None);
        assert_eq!(patched(&short.head(), u64::MAX, &nodes), None);
    }

    #[test]
    fn only_a_declared_signer_can_sign() {
        let tree = tree_of(2);
        let pair = Ed25519.key_pair(&crate::crypto::Seed::new([5; 32]));
        let manifest = Manifest::single(pair.public);
        let key = manifest.key();
        let signature = manifest.sign(&Ed25519, &key, &pair, &tree.head()).unwrap();
        assert_eq!(
            manifest.verify(&Ed25519, &key, &tree.head(), Some(&signature)),
            Ok(())
        );
        assert_eq!(
            manifest.verify(&Ed25519, &key, &tree_of(3).head(), Some(&signature)),
            Err(VerifyError::Signature(0))
        );
        let stranger = Ed25519.key_pair(&crate::crypto::Seed::new([6; 32]));
        assert_eq!(
            manifest.sign(&Ed25519, &key, &stranger, &tree.head()),
            Err(SignError::NotASigner(stranger.public))
        );
    }

    proptest! {
        #[test]
        fn a_hostile_signature_is_refused_without_panic(
            version in 0..=3u64,
            quorum in 0..=3u64,
            allow_patch: bool,
            length in 0..9u64,
            proofs in vec((0..5u64, 0..=1u64 << 53, vec((0..1u64 << 53, 0..1u64 << 53), 0..4)), 0..5),
            junk in vec(any::<u8>(), 0..200),
        ) {
            let manifest = manifest(version, quorum, allow_patch);
            let key = manifest.key();
            let tree = tree_of(length);
            prop_assert!(manifest.verify(&Ed25519, &key, &tree.head(), Some(&junk)).is_err());
            let parts: Vec<_> = proofs
                .into_iter()
                .map(|(signer, patch, nodes)| PartialSignature {
                    signer,
                    signature: Signature::new([3; 64]),
                    patch: patch.min((1 << 53) - 1),
                    nodes: nodes
                        .into_iter()
                        .map(|(index, size)| TreeNode { index, size, hash: Hash::new([1; 32]) })
                        .collect(),
                })
                .collect();
            let bytes = if version == 0 {
                MultiSignatureV0::assemble(&parts).to_bytes()
            } else {
                MultiSignature::assemble(&parts).to_bytes()
            };
            prop_assert!(manifest.verify(&Ed25519, &key, &tree.head(), Some(&bytes.unwrap())).is_err());
        }
    }
}
