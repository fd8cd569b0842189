//! The blocks of one log as a replica has them, with a digest behind each.

use autobee::crypto::{Hash, hash};
use autobee::wire::Length;
use bytes::Bytes;

/// The leading blocks of a log, as they are stored: clear, also in an encrypted database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogCopy {
    blocks: Vec<Bytes>,
    digests: Vec<Hash>,
}

impl LogCopy {
    /// Adds blocks behind those that are here.
    pub fn extend(&mut self, blocks: impl IntoIterator<Item = Bytes>) {
        for block in blocks {
            let before = self.digests.last().map_or([0; 32], |digest| *digest.as_bytes());
            self.digests.push(hash(&[&before, &block]));
            self.blocks.push(block);
        }
    }

    /// How many blocks there are.
    #[must_use]
    pub fn length(&self) -> Length {
        Length(self.blocks.len() as u64)
    }

    /// All blocks.
    #[must_use]
    pub fn blocks(&self) -> &[Bytes] {
        &self.blocks
    }

    /// The block with which the log has this length.
    #[must_use]
    pub fn block(&self, length: Length) -> Option<&Bytes> {
        self.blocks.get(position(length)?)
    }

    /// A digest of all blocks up to this length.
    #[must_use]
    pub fn digest(&self, length: Length) -> Option<Hash> {
        self.digests.get(position(length)?).copied()
    }
}

fn position(length: Length) -> Option<usize> {
    usize::try_from(length.0.checked_sub(1)?).ok()
}
