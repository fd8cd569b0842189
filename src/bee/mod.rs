//! The B-tree over cores: the original's Hyperbee 2, byte for byte (package `hyperbee2` 2.14; spec/hyperbee.md).
//!
//! A [`Tree`] is one version of a tree that may be spread over many cores: its nodes lie in blocks, and blocks are never
//! changed, so a version is named by its head and stays readable for ever. A [`TreeBatch`] turns operations into the
//! blocks of a new version. A [`Bee`] is what all versions share: caches, bounded in bytes, and settings.
//!
//! Nothing here waits or writes. Blocks are read through [`Blocks`]; one that is not on this machine makes the
//! operation fail with [`BeeError::Unavailable`], and the operation is run again once the block is there. A batch
//! hands out its blocks and lets the caller append them; only [`Tree::commit`] moves the tree.
//!
//! Blocks come from other peers and may say anything. Every pointer is checked where it is followed, a walk over keys
//! must move on with every key and stay within 64 levels, and a chain of versions must go down in each core: whatever
//! a block says, work is bounded by the blocks that are really there, and the answer is [`BeeError::Corrupt`].

mod batch;
mod block;
mod cache;
mod changes;
mod diff;
mod error;
mod family;
mod legacy;
mod node;
mod numbers;
mod place;
mod pointer;
mod range;
mod sealed;
mod settings;
mod source;
mod stored;
mod stored_blocks;
mod tree;
mod walk;
mod watch;

pub use batch::{BatchOptions, Pair, TreeBatch, WrittenBatch};
pub use block::{Block, BlockKind, CoreRecord, DEGREE_DEFAULT, KeyRecord, NodeLogs, Previous};
pub use changes::{ChangedKey, History, TreeChange, TreeChanges, TreeVersion};
pub use diff::{Diff, Difference, Sameness};
pub use error::{BeeError, BlockFault};
pub use family::{Bee, CacheUse};
pub use pointer::{BlockEdit, EditKind, Pointer, ValuePointer};
pub use range::Range;
pub use sealed::{Ciphers, Unsealed};
pub use settings::BeeSettings;
pub use source::{BlockError, Blocks, MemoryBlocks};
pub use stored::{StoredBee, StoredBeeError};
pub use stored_blocks::StoredBlocks;
pub use tree::{Entries, Tree, TreeEntry};
pub use watch::{Watch, WatchEvent, WatchEvents};

#[cfg(test)]
mod tests {
    use super::*;

    /// An engine holds all of these across waits, in tasks that move between threads.
    #[test]
    fn everything_can_move_between_threads() {
        fn check<T: Send + Sync + 'static>() {}
        check::<Bee>();
        check::<Tree>();
        check::<TreeBatch>();
        check::<WrittenBatch>();
        check::<Entries>();
        check::<TreeChanges>();
        check::<Diff>();
        check::<Watch>();
        check::<BeeError>();
    }
}
