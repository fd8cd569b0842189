//! Signing trees and checking signatures over them (spec/hypercore.md 5.2 and 5.3).

use thiserror::Error;

use super::multisig::{MultiSignature, MultiSignatureV0, SignerProof};
use super::{Manifest, Signable, Signer};
use crate::crypto::{CoreKey, Hash, KeyPair, PublicKey, Sign, Signature, TreeNode, Verify, parent, tree};
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
        for (position, proof) in proofs.iter().enumerate() {
            let index = proof.signer;
            let repeated = proofs[..position].iter().any(|earlier| earlier.signer == index);
            let signer = usize::try_from(index)
                .ok()
                .and_then(|index| self.signers().get(index))
                .filter(|_| !repeated)
                .ok_or(VerifyError::Signer(index))?;
            let message = if proof.patch > 0 && self.allow_patch() {
                let (roots, length) =
                    patched(head, proof.patch, &signatures.nodes).ok_or(VerifyError::Patch(index))?;
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
fn patched(head: &TreeHead<'_>, patch: u64, nodes: &[TreeNode]) -> Option<(Vec<TreeNode>, u64)> {
    let end = head
        .length
        .checked_add(patch)
        .filter(|end| *end <= u64::MAX / 4)?;
    let mut roots = head.roots.to_vec();
    let mut at = head.length;
    while at < end {
        // The largest complete subtree that starts here and does not pass the end.
        let aligned = if at == 0 {
            u64::MAX
        } else {
            1 << at.trailing_zeros()
        };
        let fits = 1 << (end - at).ilog2();
        let leaves = aligned.min(fits);
        let index = 2 * at + leaves - 1;
        append_root(&mut roots, *nodes.iter().find(|node| node.index == index)?);
        at += leaves;
    }
    Some((roots, end))
}

/// Adds a root and joins roots that are siblings.
fn append_root(roots: &mut Vec<TreeNode>, node: TreeNode) {
    roots.push(node);
    while let [.., left, right] = roots.as_slice() {
        let depth = left.index.trailing_ones();
        if depth > 60 {
            break; // No tree is that high.
        }
        // Two nodes of one depth are siblings when the left one has an even position among them.
        let even = left.index >> depth >> 1 & 1 == 0;
        if right.index.trailing_ones() != depth || !even || right.index != left.index + (2 << depth) {
            break;
        }
        let joined = TreeNode {
            index: left.index + (1 << depth),
            size: left.size.saturating_add(right.size),
            hash: parent(left, right),
        };
        roots.truncate(roots.len() - 2);
        roots.push(joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::leaf;

    fn leaf_at(position: u64) -> TreeNode {
        let block = position.to_le_bytes();
        TreeNode {
            index: 2 * position,
            size: 8,
            hash: leaf(&block),
        }
    }

    fn roots_of(length: u64) -> Vec<TreeNode> {
        let mut roots = Vec::new();
        (0..length).for_each(|position| append_root(&mut roots, leaf_at(position)));
        roots
    }

    #[test]
    fn roots_join_as_the_flat_tree_says() {
        let indexes = |length| roots_of(length).iter().map(|root| root.index).collect::<Vec<_>>();
        assert_eq!(indexes(1), [0]);
        assert_eq!(indexes(4), [3]);
        assert_eq!(indexes(7), [3, 9, 12]);
        assert_eq!(indexes(8), [7]);
    }

    #[test]
    fn a_patch_leads_to_the_longer_tree() {
        let short = roots_of(3);
        let head = TreeHead {
            roots: &short,
            length: 3,
            fork: 0,
        };
        let mut pair = vec![leaf_at(4)];
        append_root(&mut pair, leaf_at(5));
        let nodes = [leaf_at(3), pair[0]];
        assert_eq!(patched(&head, 3, &nodes), Some((roots_of(6), 6)));
        assert_eq!(patched(&head, 4, &nodes), None);
        assert_eq!(patched(&head, u64::MAX, &nodes), None);
    }
}
