//! The numbers under which a local core lists other cores (spec/hyperbee.md 4 and 7.5).

use std::collections::BTreeMap;

use crate::crypto::CoreKey;

use super::block::CoreRecord;
use super::error::{BeeError, BlockFault};
use super::family::FamilyReader;
use super::place::CoreId;

/// The list of one core, as its last block says. Grows in memory only together with the append that writes it.
#[derive(Debug, Clone)]
pub(super) struct Numbers {
    local: CoreId,
    /// Length of the core for which this is the list.
    pub(super) length: u64,
    /// Where the list is stored, as a length.
    pub(super) checkpoint: u64,
    list: Vec<CoreKey>,
    by_core: BTreeMap<CoreId, u64>,
    grown: bool,
}

impl Numbers {
    /// The list that the last block of the core names. Another one is begun when that cannot be read, as it was damaged: each
    /// block says itself which list its numbers are of.
    pub(super) fn read(reader: &FamilyReader<'_>, local: CoreId, length: u64) -> Result<Self, BeeError> {
        match Self::named_by_last(reader, local, length) {
            Err(BeeError::Corrupt {
                what: BlockFault::Damaged(_),
                ..
            }) => Ok(Self::empty(local, length)),
            named => named,
        }
    }

    fn empty(local: CoreId, length: u64) -> Self {
        Self {
            local,
            length,
            checkpoint: 0,
            list: Vec::new(),
            by_core: BTreeMap::new(),
            grown: false,
        }
    }

    fn named_by_last(reader: &FamilyReader<'_>, local: CoreId, length: u64) -> Result<Self, BeeError> {
        let mut numbers = Self::empty(local, length);
        let Some(last) = length.checked_sub(1) else {
            return Ok(numbers);
        };
        numbers.checkpoint = reader.block(local, last)?.checkpoint;
        let Some(holder) = numbers.checkpoint.checked_sub(1) else {
            return Ok(numbers);
        };
        let holder = reader.block(local, holder)?;
        for record in holder.metadata.iter().flatten() {
            numbers.register(reader.bee.core_id(&record.key), record.key);
        }
        numbers.grown = false;
        Ok(numbers)
    }

    /// The number of a core, which is listed now if it was not before.
    pub(super) fn number(&mut self, reader: &FamilyReader<'_>, core: CoreId) -> u64 {
        if core == self.local {
            return 0;
        }
        match self.by_core.get(&core) {
            Some(number) => *number,
            None => self.register(core, reader.bee.core_key(core)),
        }
    }

    /// The whole list, when it grew since it was read.
    pub(super) fn grown(&self) -> Option<Vec<CoreRecord>> {
        self.grown
            .then(|| self.list.iter().map(|key| CoreRecord::from(*key)).collect())
    }

    /// The list as it is once blocks up to `length` are appended.
    pub(super) fn commit(&mut self, length: u64, checkpoint: u64) {
        self.length = length;
        self.checkpoint = checkpoint;
        self.grown = false;
    }

    fn register(&mut self, core: CoreId, key: CoreKey) -> u64 {
        self.list.push(key);
        self.grown = true;
        let number = u64::try_from(self.list.len()).unwrap_or(u64::MAX);
        // A list that names a core twice is read from the front.
        *self.by_core.entry(core).or_insert(number)
    }
}
