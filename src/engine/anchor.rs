//! Anchors: one-block cores that every peer computes from an entry.
//!
//! Source: spec/autobee.md 12. In clear databases only; encryption is not in the engine yet.

use crate::crypto::{CoreKey, TreeNode, hash, leaf, tree};
use crate::hypercore::manifest::{Manifest, ManifestError, ManifestOptions, Prologue};
use crate::wire::oplog::OplogBlock;
use crate::wire::system::ManifestData;
use crate::wire::{Encode as _, Length, Link};

/// The anchor of the entry `{key, length}`.
///
/// # Errors
///
/// When the manifest cannot be made: a length above 2^53 - 1.
pub fn anchor(key: CoreKey, length: Length) -> Result<Link, ManifestError> {
    let namespace = *hash(&[key.as_bytes(), &length.0.to_le_bytes()]).as_bytes();
    let block = OplogBlock {
        links: vec![Link { key, length }],
        ..OplogBlock::default()
    }
    .to_bytes()?;
    let root = TreeNode {
        index: 0,
        size: block.len() as u64,
        hash: leaf(&block),
    };
    let manifest = Manifest::new(ManifestOptions {
        version: Some(2),
        quorum: Some(0),
        prologue: Some(Prologue {
            hash: tree([&root]),
            length: 1,
        }),
        user_data: Some(
            ManifestData {
                namespace: Some(namespace),
                ..ManifestData::default()
            }
            .to_bytes()?,
        ),
        ..ManifestOptions::default()
    })?;
    Ok(Link {
        key: manifest.key(),
        length: Length(1),
    })
}
