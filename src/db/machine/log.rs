//! One log as it is stored here: all that the machine reads of the world.

use bytes::Bytes;

use crate::crypto::{CoreKey, KeyPair};
use crate::engine::encryption::KeyMismatch;
use crate::hypercore::{Contradiction, CoreError, CoreEvent, CoreEvents};
use crate::wire::Length;

/// A log that is stored here, to be read without waiting.
///
/// The store may get more of it at any time; whoever stores it tells the machine ([`super::Input::Changed`]).
pub trait StoredLog: Send + Sync {
    /// What happened to it, in order.
    type Events: LogEvents;

    /// Its key.
    fn key(&self) -> CoreKey;

    /// Number of blocks, as far as its owner or a peer proved it.
    ///
    /// # Errors
    ///
    /// When it is closed, or contradicted by its owner.
    fn length(&self) -> Result<u64, CoreError>;

    /// Bytes of all blocks of that length, wherever they are.
    ///
    /// # Errors
    ///
    /// As [`StoredLog::length`].
    fn byte_length(&self) -> Result<u64, CoreError> {
        Ok(0)
    }

    /// Number of leading blocks that are here, or passed over.
    ///
    /// # Errors
    ///
    /// As [`StoredLog::length`].
    fn contiguous_length(&self) -> Result<u64, CoreError>;

    /// So many leading blocks need not be here, and are not fetched: the entries before are in the past of trees that were
    /// moved onto.
    fn pass_over(&self, blocks: Length) {
        _ = blocks;
    }

    /// Number of leading blocks that peers may see, with those that are passed over.
    ///
    /// # Errors
    ///
    /// As [`StoredLog::length`].
    fn offered_length(&self) -> Result<u64, CoreError>;

    /// How often it was truncated.
    ///
    /// # Errors
    ///
    /// As [`StoredLog::length`].
    fn fork(&self) -> Result<u64, CoreError>;

    /// A block, in clear; none when it is not here.
    ///
    /// # Errors
    ///
    /// As [`StoredLog::length`]; when it is not encrypted as it should be; when the store fails.
    fn block(&self, index: u64) -> Result<Option<Bytes>, CoreError>;

    /// The same, also when the owner of the log contradicted itself since.
    ///
    /// # Errors
    ///
    /// As [`StoredLog::block`].
    fn contradicted_block(&self, index: u64) -> Result<Option<Bytes>, CoreError>;

    /// Blocks that the store gave other bytes of than it was given, since the last call: they are not here any more, and
    /// peers are asked for them.
    fn take_rotten(&self) -> Vec<u64> {
        Vec::new()
    }

    /// Number of blocks, and of leading blocks that are here, also when the owner of the log contradicted itself since.
    ///
    /// # Errors
    ///
    /// When it is closed.
    fn contradicted_lengths(&self) -> Result<(u64, u64), CoreError> {
        Ok((self.length()?, self.contiguous_length()?))
    }

    /// What was found of its owner: it signed two logs of one length. Nothing more of it is taken since.
    ///
    /// # Errors
    ///
    /// When it is closed.
    fn contradiction(&self) -> Result<Option<Contradiction>, CoreError> {
        Ok(None)
    }

    /// The bytes of its manifest, once known.
    ///
    /// # Errors
    ///
    /// As [`StoredLog::length`].
    fn manifest(&self) -> Result<Option<Bytes>, CoreError>;

    /// How its first block contradicts the encryption key of the database, or that there is none. None when it does not, or
    /// nothing tells yet.
    fn key_mismatch(&self) -> Option<KeyMismatch> {
        None
    }

    /// The key pair that signs it, when it is here.
    ///
    /// # Errors
    ///
    /// As [`StoredLog::length`].
    fn key_pair(&self) -> Result<Option<KeyPair>, CoreError>;

    /// Listens to it from now on.
    ///
    /// # Errors
    ///
    /// As [`StoredLog::length`].
    fn events(&self) -> Result<Self::Events, CoreError>;
}

/// What happened to a log since it was listened to.
pub trait LogEvents: Send {
    /// The next event; none when there is none yet.
    fn try_next(&mut self) -> Option<CoreEvent>;
}

impl LogEvents for CoreEvents {
    fn try_next(&mut self) -> Option<CoreEvent> {
        Self::try_next(self)
    }
}
