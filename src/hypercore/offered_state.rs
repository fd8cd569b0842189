//! The state of a core as peers may see it, and small questions that replication asks about it for every message.

use std::ops::Range;

use super::cores::OpenCore;
use super::error::CoreError;
use super::flat_tree;
use super::manifest::Manifest;
use super::merkle::Seek;
use super::peer_access::PeerAccess;
use super::proof::Head;
use crate::env::Env;

/// The state of a core, as peers may see it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogState {
    /// How often it was truncated.
    pub fork: u64,
    /// Its length in blocks: for an own core the durable one.
    pub length: u64,
    /// The bytes of these blocks.
    pub byte_length: u64,
    /// Number of leading blocks that are stored here.
    pub contiguous: u64,
    /// The manifest is known here.
    pub knows_manifest: bool,
    /// The manifest is known, and one that peers cannot make from the key.
    pub offers_manifest: bool,
    /// An own core was cut, and what is offered of it is still what it was before: the blocks may be gone already.
    pub is_rewriting: bool,
}

impl LogState {
    pub(super) fn of(core: &OpenCore, head: &Head) -> Self {
        Self {
            fork: head.tree.fork(),
            length: head.tree.length(),
            byte_length: head.tree.byte_length(),
            contiguous: core.main.blocks.contiguous_length().min(head.tree.length()),
            knows_manifest: core.manifest().is_some(),
            offers_manifest: core.manifest().is_some() && !core.is_compat(),
            is_rewriting: core.main.head.tree.fork() != head.tree.fork(),
        }
    }
}

impl<E: Env> PeerAccess<'_, E> {
    /// Where the core stands, as peers may see it.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn offered_state(&self) -> Result<LogState, CoreError> {
        self.offer(|core, head| Ok(LogState::of(core, head)))
    }

    /// The manifest, if peers cannot make it from the key.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn offered_manifest(&self) -> Result<Option<Manifest>, CoreError> {
        self.core()
            .look(|core, _| Ok(core.manifest().filter(|_| !core.is_compat()).cloned()))
    }

    /// Whether a block is stored and offered.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn has_offered(&self, index: u64) -> Result<bool, CoreError> {
        self.offer(|core, head| Ok(index < head.tree.length() && core.main.blocks.has(index)))
    }

    /// Which blocks of a range are stored and offered: 32 to a word, the first in the lowest bit. Words of zero at the end
    /// are left out.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn offered_words(&self, range: Range<u64>) -> Result<Vec<u32>, CoreError> {
        self.offer(|core, head| {
            let end = range.end.min(head.tree.length());
            let mut words = Vec::new();
            for run in core.main.blocks.runs(range.start) {
                if run.start >= end {
                    break;
                }
                for block in run.start - range.start..run.end.min(end) - range.start {
                    let word = usize::try_from(block / 32).unwrap_or(usize::MAX);
                    if words.len() <= word {
                        words.resize(word + 1, 0);
                    }
                    words[word] |= 1 << (block % 32);
                }
            }
            Ok(words)
        })
    }

    /// Whether all roots of a shorter length are stored, so that an upgrade from it can be proven.
    ///
    /// # Errors
    /// When the session is closed, or the store fails.
    pub fn has_roots(&self, length: u64) -> Result<bool, CoreError> {
        let known = self.known()?;
        for root in flat_tree::full_roots(length) {
            if known.tree().node_if_stored(root, &known.nodes())?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where a byte offset lies, as far as the stored nodes tell.
    ///
    /// # Errors
    /// When the session is closed, or the store fails.
    pub fn seek_stored(&self, bytes: u64, padding: u64) -> Result<Seek, CoreError> {
        let known = self.known()?;
        Ok(known.tree().seek(bytes, padding, &known.nodes())?)
    }
}
