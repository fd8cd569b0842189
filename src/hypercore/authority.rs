//! In whose name a core is written, and what may be written: signatures that peers accept, prologues, sizes, padding.
//!
//! The reference stores some things that none of its peers accepts; here they are refused when they are written.

use bytes::Bytes;

use super::cores::OpenCore;
use super::encryption::BlockCipher;
use super::error::CoreError;
use super::manifest::{Manifest, MultiSignature, MultiSignatureV0, PartialSignature};
use super::merkle::MerkleTree;
use crate::crypto::{KeyPair, Sign, Signature};
use crate::wire::compact::Encode as _;

/// In whose name a line is changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Authority {
    pub(super) key_pair: Option<KeyPair>,
    /// A complete signature that was made elsewhere.
    pub(super) signature: Option<Bytes>,
    /// Nothing is signed now, if anything is to be signed at all.
    pub(super) is_deferred: bool,
}

/// Pads and encrypts a batch. All of it is padded as its first block.
pub(super) fn sealed(
    cipher: &dyn BlockCipher,
    start: u64,
    fork: u64,
    blocks: &[Bytes],
) -> Result<Vec<Bytes>, CoreError> {
    let padding = cipher.padding(start);
    let mut stored = Vec::with_capacity(blocks.len());
    for (index, plain) in (start..).zip(blocks) {
        let mut block = vec![0; padding];
        block.extend_from_slice(plain);
        cipher.encrypt(index, fork, &mut block)?;
        stored.push(block.into());
    }
    Ok(stored)
}

/// Refuses blocks in front of the end of a prologue that are not its own; all peers would.
pub(super) fn check_prologue(core: &OpenCore, blocks: &[Bytes], grown: &MerkleTree) -> Result<(), CoreError> {
    let Some(prologue) = core.manifest().and_then(Manifest::prologue) else {
        return Ok(());
    };
    let refused = Err(CoreError::Prologue(prologue.length));
    let mut tree = core.main.head.tree.clone();
    if tree.length() >= prologue.length {
        return Ok(());
    }
    if grown.length() < prologue.length {
        return refused;
    }
    let mut added = Vec::new();
    for block in blocks {
        if tree.length() == prologue.length {
            break;
        }
        tree.append(block, &mut added);
    }
    if tree.hash() == prologue.hash {
        Ok(())
    } else {
        refused
    }
}

/// The signature over a tree of the main line, in the form in which it is stored.
pub(super) fn sign(
    crypto: &impl Sign,
    core: &OpenCore,
    tree: &MerkleTree,
    authority: &Authority,
) -> Result<Option<Bytes>, CoreError> {
    let manifest = core.manifest().ok_or(CoreError::NotWritable)?;
    let check = |signature: &[u8]| {
        let verified = manifest.verify(crypto, core.key(), &tree.head(), Some(signature));
        verified.map_err(CoreError::Signature)
    };
    if let Some(signature) = &authority.signature {
        check(signature)?;
        return Ok(Some(signature.clone()));
    }
    let Some(pair) = &authority.key_pair else {
        // The manifest itself vouches for exactly the prologue.
        let prologue = manifest
            .prologue()
            .filter(|prologue| prologue.length == tree.length());
        return match prologue {
            Some(_) if manifest.signers().is_empty() => Ok(None),
            _ => Err(CoreError::NotWritable),
        };
    };
    let signature = manifest.sign(crypto, core.key(), pair, &tree.head())?;
    if manifest.signers().len() == 1 && signature.len() != Signature::SIZE
        || manifest.is_compat(core.key())
        || manifest.version() == 0 && manifest.signers().len() == 1 && !manifest.allow_patch()
    {
        return Ok(Some(signature.into()));
    }
    // One signature of several: stored alone, it would be one that no peer accepts.
    let signer = manifest
        .signers()
        .iter()
        .position(|signer| signer.public_key == pair.public);
    let (Some(signer), Ok(signature)) = (signer, Signature::try_from(signature.as_slice())) else {
        return Err(CoreError::NotWritable);
    };
    let part = PartialSignature {
        signer: signer as u64,
        signature,
        patch: 0,
        nodes: Vec::new(),
    };
    let whole = if manifest.version() == 0 {
        MultiSignatureV0::assemble(&[part]).to_bytes()?
    } else {
        MultiSignature::assemble(&[part]).to_bytes()?
    };
    check(&whole)?;
    Ok(Some(whole.into()))
}
