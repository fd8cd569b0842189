//! What somebody has of a log beside the database who fetches its small blocks alone.

use std::collections::BTreeSet;

use autobee::env::Env;
use autobee::hypercore::{Core, CoreError, Download, DownloadRange};
use autobee::wire::Index;
use bytes::Bytes;

/// Small blocks that are fetched.
pub(super) struct SmallDownload<E: Env> {
    /// Bytes of one block, at most.
    bytes_max: u64,
    /// Larger blocks that were here before.
    excused: BTreeSet<u64>,
    _download: Download<E>,
}

impl<E: Env> SmallDownload<E> {
    /// Fetches them from now on.
    pub(super) fn start(core: &Core<E>, bytes_max: u64) -> Result<Self, CoreError> {
        let mut excused = BTreeSet::new();
        for index in 0..core.length()?.0 {
            if core.has(Index(index)..Index(index + 1))? {
                excused.insert(index);
            }
        }
        let all = DownloadRange::ALL;
        Ok(Self {
            bytes_max,
            excused,
            _download: core.download_small(all, bytes_max)?,
        })
    }

    /// Looks whether a block came that is too large, and that nobody `asked` for.
    pub(super) fn compare(
        &self,
        core: &Core<E>,
        asked: &BTreeSet<u64>,
    ) -> Result<Result<(), String>, CoreError> {
        let is_wrong = |index: &u64| !self.excused.contains(index) && !asked.contains(index);
        for index in (0..core.length()?.0).filter(is_wrong) {
            let block = core.get_local(Index(index))?;
            if let Some(block) = block.filter(|block| block.len() as u64 > self.bytes_max) {
                return Ok(Err(format!(
                    "is sent block {index} of {} bytes, and asked for those of {} at most",
                    block.len(),
                    self.bytes_max
                )));
            }
        }
        Ok(Ok(()))
    }

    /// The first small block that is not here, of so many that were written so.
    pub(super) fn missing(&self, core: &Core<E>, written: &[Bytes], length: u64) -> Option<u64> {
        (0..length).zip(written).find_map(|(index, block)| {
            let is_small = block.len() as u64 <= self.bytes_max;
            let is_here = core.has(Index(index)..Index(index + 1)).unwrap_or(true);
            (is_small && !is_here).then_some(index)
        })
    }
}
