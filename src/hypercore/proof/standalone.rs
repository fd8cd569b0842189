//! A proof that travels alone: the public name of a core, then a proof with its manifest.
//!
//! It can be checked by whoever holds the manifest, without a connection. Only cores with one signer whose key is the
//! hash of their manifest can be proven this way.
//!
//! Source: spec/hypercore.md 7.6.

use bytes::Bytes;

use super::check::Evidence;
use super::{
    BlockRequest, DataMessage, Proof, ProofError, ProofSource, Request, RequestError, UpgradeRequest,
};
use crate::crypto::{DiscoveryKey, Signature, Verify};
use crate::hypercore::manifest::Manifest;
use crate::hypercore::merkle::{MerkleTree, Nodes};
use crate::wire::compact::{Decode, DecodeError, Decoder, Encode, Encoder};

/// A proof with the public name of its core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standalone {
    /// The core.
    pub discovery_key: DiscoveryKey,
    /// The proof, with the manifest.
    pub proof: Proof,
}

/// The content of a stand-alone proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The signed length.
    pub length: u64,
    /// A block, with its index.
    pub block: Option<(u64, Bytes)>,
}

impl Standalone {
    /// Proves a log, or an upgrade of it, and a block if one is wanted (whose value the caller fills in).
    ///
    /// # Errors
    /// When the request makes no sense, or a node is not stored.
    pub fn prove<N: Nodes + ?Sized>(
        source: &ProofSource<'_, N>,
        discovery_key: DiscoveryKey,
        manifest: Manifest,
        block: Option<u64>,
        upgrade: Option<UpgradeRequest>,
    ) -> Result<Self, RequestError> {
        let request = Request {
            block: block.map(|index| BlockRequest { index, nodes: 0 }),
            upgrade: upgrade.or(Some(UpgradeRequest {
                start: 0,
                length: source.tree.length(),
            })),
            ..Request::default()
        };
        let mut proof = source.prove(&request)?;
        proof.manifest = Some(manifest);
        Ok(Self { discovery_key, proof })
    }

    /// Checks the proof against the manifest of its core. `None`: not signed by its signer, or a core of a kind
    /// that cannot be proven this way.
    ///
    /// # Errors
    /// When the proof is malformed.
    pub fn check(&self, manifest: &Manifest, verifier: &impl Verify) -> Result<Option<Shown>, ProofError> {
        let mut tree = MerkleTree::empty(self.proof.fork);
        let mut evidence = Evidence::default();
        let sub = evidence.subtree(&self.proof)?;
        let Some(upgrade) = &self.proof.upgrade else {
            return Ok(None);
        };
        if let Some(node) = evidence.upgrade(&mut tree, upgrade, manifest.prologue(), sub)? {
            return Err(ProofError::Unrequested(node.index));
        }
        let signature = upgrade.signature.as_ref().map_or(&[][..], Bytes::as_ref);
        let is_signed = signed_by_first(manifest, verifier, &tree, signature);
        Ok(is_signed.then(|| Shown {
            length: tree.length(),
            block: self
                .proof
                .block
                .as_ref()
                .map(|block| (block.index, block.value.clone())),
        }))
    }
}

/// The only signature that counts here is that of the first signer, over the message of a core that is no compat
/// core.
fn signed_by_first(manifest: &Manifest, verifier: &impl Verify, tree: &MerkleTree, signature: &[u8]) -> bool {
    let Some(signer) = manifest.signers().first() else {
        return false;
    };
    let bare = if manifest.version() == 0 {
        signature
    } else {
        match signature {
            [1, 0, rest @ ..] => rest.get(..Signature::SIZE).unwrap_or_default(),
            _ => return false,
        }
    };
    let message = manifest.signable(&manifest.key(), signer, &tree.head());
    Signature::try_from(bare).is_ok_and(|bare| verifier.verify(&signer.public_key, &message, &bare))
}

impl Encode for Standalone {
    fn encode(&self, to: &mut Encoder) {
        to.raw(self.discovery_key.as_bytes());
        let message = DataMessage {
            request: 0,
            proof: self.proof.clone(),
        };
        message.encode(to);
    }
}

impl Decode for Standalone {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            discovery_key: DiscoveryKey::new(from.fixed()?),
            proof: DataMessage::decode(from)?.proof,
        })
    }
}
