//! A core as it was at one moment.
//!
//! What was stored then is read from the store's snapshot, even after the core was truncated. A block that was not
//! stored may still arrive in the core, but only counts while no truncation has passed below it.
//!
//! Source: spec/hypercore.md 9.2.

use std::sync::Arc;

use bytes::Bytes;

use super::corestore::CorestoreShared;
use super::download::WantedBlock;
use super::encryption::BlockCipher;
use super::error::CoreError;
use super::line::Line;
use super::merkle::{MerkleTree, Seek};
use super::session::open_block;
use super::wait::{Wait, Woken, changed};
use crate::crypto::Hash;
use crate::env::Env;
use crate::store::{CorePointer, Key, Snapshot};
use crate::wire::{Index, Length};

/// The blocks of a core at one moment. Read-only.
pub struct CoreSnapshot<E: Env> {
    shared: Arc<CorestoreShared<E>>,
    pointer: CorePointer,
    id: u64,
    line: Line,
    tree: MerkleTree,
    store: Box<dyn Snapshot>,
    cipher: Option<Arc<dyn BlockCipher>>,
}

impl<E: Env> CoreSnapshot<E> {
    pub(super) fn start(
        shared: Arc<CorestoreShared<E>>,
        pointer: CorePointer,
        line: Line,
        store: Box<dyn Snapshot>,
        cipher: Option<Arc<dyn BlockCipher>>,
    ) -> Result<Self, CoreError> {
        let mut cores = shared.lock();
        let id = cores.next_session;
        cores.next_session += 1;
        let core = cores.get_mut(pointer)?;
        core.sessions.insert(id);
        core.compatible.insert(id, line.head.tree.length());
        drop(cores);
        let tree = line.head.tree.clone();
        Ok(Self {
            shared,
            pointer,
            id,
            line,
            tree,
            store,
            cipher,
        })
    }

    /// The first `length` blocks of this snapshot.
    ///
    /// # Errors
    /// When there are fewer, or the tree is not complete here.
    pub fn checkout(mut self, length: Length) -> Result<Self, CoreError> {
        let nodes = self.line.nodes(&*self.store);
        self.tree = self.tree.truncated(length.0, self.tree.fork(), &nodes)?;
        Ok(self)
    }

    /// Number of blocks.
    #[must_use]
    pub const fn length(&self) -> Length {
        Length(self.tree.length())
    }

    /// Fork of the core at that moment.
    #[must_use]
    pub const fn fork(&self) -> u64 {
        self.tree.fork()
    }

    /// Bytes of all blocks, without padding.
    #[must_use]
    pub fn byte_length(&self) -> u64 {
        let padding = self.padding().saturating_mul(self.tree.length());
        self.tree.byte_length().saturating_sub(padding)
    }

    /// The hash over all blocks.
    #[must_use]
    pub fn tree_hash(&self) -> Hash {
        self.tree.hash()
    }

    /// True when the block is stored here.
    ///
    /// # Errors
    /// When the store fails.
    pub fn has(&self, index: Index) -> Result<bool, CoreError> {
        Ok(self.local(index.0)?.is_some())
    }

    /// Finds the block that holds a byte, as far as the tree is known here.
    ///
    /// # Errors
    /// When the store fails.
    pub fn seek(&self, bytes: u64) -> Result<Seek, CoreError> {
        Ok(self
            .tree
            .seek(bytes, self.padding(), &self.line.nodes(&*self.store))?)
    }

    /// A block, decrypted. Waits for it if need be.
    ///
    /// # Errors
    /// When it is not here in time, beyond the end, or was truncated before it came.
    pub async fn get(&self, Index(index): Index, wait: Wait) -> Result<Bytes, CoreError> {
        if index >= self.tree.length() {
            return Err(CoreError::Beyond {
                asked: index,
                length: self.tree.length(),
            });
        }
        let clock = self.shared.env.clock();
        let deadline = wait.deadline(clock);
        let mut changes = self.shared.changes(self.pointer)?;
        let mut wanted = None;
        let block = loop {
            changes.mark_unchanged();
            if let Some(block) = self.local(index)? {
                break block;
            }
            if !self.is_compatible(index)? {
                return Err(CoreError::Truncated(Index(index)));
            }
            if wait == Wait::Local {
                return Err(CoreError::Unavailable(Index(index)));
            }
            if wanted.is_none() {
                wanted = Some(WantedBlock::register(&self.shared, self.pointer, index)?);
            }
            match changed(&mut changes, clock, deadline).await {
                Woken::Changed => {}
                Woken::TimedOut => return Err(CoreError::Timeout(Index(index))),
                Woken::Closed => return Err(CoreError::Closed),
            }
        };
        open_block(self.cipher.as_deref(), index, block)
    }

    /// The block from the snapshot, or from the core while that is the same log.
    fn local(&self, index: u64) -> Result<Option<Bytes>, CoreError> {
        if index >= self.tree.length() {
            return Ok(None);
        }
        if let Some(block) = self.line.block(index, &*self.store)? {
            return Ok(Some(block));
        }
        let found = {
            let cores = self.shared.lock();
            let core = cores.get(self.pointer)?;
            let is_there = self.is_shared(index)
                && core
                    .compatible
                    .get(&self.id)
                    .is_some_and(|length| index < *length)
                && core.main.blocks.has(index);
            if !is_there {
                return Ok(None);
            }
            (Key::Block(core.main.data, index), self.shared.store.snapshot()?)
        };
        Ok(found.1.get(&found.0)?)
    }

    fn is_compatible(&self, index: u64) -> Result<bool, CoreError> {
        let cores = self.shared.lock();
        let core = cores.get(self.pointer)?;
        Ok(self.is_shared(index)
            && core
                .compatible
                .get(&self.id)
                .is_some_and(|length| index < *length))
    }

    /// True for blocks of the main line.
    const fn is_shared(&self, index: u64) -> bool {
        match self.line.parent {
            Some(parent) => index < parent.length,
            None => true,
        }
    }

    fn padding(&self) -> u64 {
        self.cipher.as_ref().map_or(0, |cipher| cipher.padding(0) as u64)
    }
}

impl<E: Env> Drop for CoreSnapshot<E> {
    fn drop(&mut self) {
        let mut cores = self.shared.lock();
        let Some(core) = cores.open.get_mut(&self.pointer) else {
            return;
        };
        core.compatible.remove(&self.id);
        core.sessions.remove(&self.id);
        if core.sessions.is_empty() {
            cores.open.remove(&self.pointer);
        }
    }
}
