//! What is signed when a tree is signed (spec/hypercore.md 5.1).

use crate::crypto::{Hash, namespace};

/// The prefix of a signed message, so that the tree behind it cannot be taken for another core's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signable<'a> {
    /// The key of the core; in version 0 the signer's namespace instead.
    Named(&'a [u8; 32]),
    /// A compat core: nothing but the constant.
    Compat,
    /// A compat core of the oldest kind: not even that. Never accepted unless asked for.
    Legacy,
}

impl Signable<'_> {
    /// The message of a tree of `length` blocks in generation `fork`.
    #[must_use]
    pub fn message(&self, tree_hash: &Hash, length: u64, fork: u64) -> Vec<u8> {
        let (constant, name): (&[u8], &[u8]) = match self {
            Self::Named(name) => (namespace::TREE.as_bytes(), *name),
            Self::Compat => (namespace::TREE.as_bytes(), &[]),
            Self::Legacy => (&[], &[]),
        };
        [
            constant,
            name,
            tree_hash.as_bytes(),
            &length.to_le_bytes(),
            &fork.to_le_bytes(),
        ]
        .concat()
    }
}
