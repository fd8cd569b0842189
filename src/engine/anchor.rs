//! Anchors: one-block cores that every peer computes from an entry.
//!
//! Source: spec/autobee.md 12.

use super::encryption::{DatabaseKeys, HashedCipher};
use crate::crypto::{CoreKey, TreeNode, hash, leaf, tree};
use crate::hypercore::encryption::BlockCipher as _;
use crate::hypercore::manifest::{Manifest, ManifestError, ManifestOptions, Prologue};
use crate::wire::oplog::OplogBlock;
use crate::wire::system::ManifestData;
use crate::wire::{Encode as _, Length, Link};

/// An anchor: its core, and the one block of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// Fixes the block, and the key.
    pub manifest: Manifest,
    /// As it is stored, encrypted if the database is.
    pub block: Vec<u8>,
}

/// The link to the anchor of the entry `{key, length}` in a clear database.
///
/// # Errors
///
/// When the manifest cannot be made: a length above 2^53 - 1.
pub fn anchor(key: CoreKey, length: Length) -> Result<Link, ManifestError> {
    Anchor::new(None, key, length).map(|anchor| anchor.link())
}

impl Anchor {
    /// The anchor of the entry `{key, length}`.
    ///
    /// # Errors
    ///
    /// When the manifest cannot be made: a length above 2^53 - 1.
    pub fn new(keys: Option<&DatabaseKeys>, key: CoreKey, length: Length) -> Result<Self, ManifestError> {
        let namespace = *hash(&[key.as_bytes(), &length.0.to_le_bytes()]).as_bytes();
        let clear = OplogBlock {
            links: vec![Link { key, length }],
            ..OplogBlock::default()
        };
        let mut block = clear.to_bytes()?;
        if let Some(keys) = keys {
            block.splice(..0, [0; HashedCipher::PADDING]);
            let cipher = keys.anchor(&namespace, &block);
            // It has its padding; nothing else can go wrong.
            let _ = cipher.encrypt(0, 0, &mut block);
        }
        let root = TreeNode {
            index: 0,
            size: block.len() as u64,
            hash: leaf(&block),
        };
        let data = ManifestData {
            namespace: Some(namespace),
            ..ManifestData::default()
        };
        let manifest = Manifest::new(ManifestOptions {
            version: Some(2),
            quorum: Some(0),
            prologue: Some(Prologue {
                hash: tree([&root]),
                length: 1,
            }),
            user_data: Some(data.to_bytes()?),
            ..ManifestOptions::default()
        })?;
        Ok(Self { manifest, block })
    }

    /// What batches link.
    #[must_use]
    pub const fn link(&self) -> Link {
        Link {
            key: self.manifest.key(),
            length: Length(1),
        }
    }
}
