//! Blocks that are to be fetched, whether somebody reads them or not.

use std::sync::Arc;

use super::cores::{Demand, DownloadRange};
use super::corestore::CorestoreShared;
use super::error::CoreError;
use super::wait::{Wait, Woken, changed};
use crate::env::{Env, Slip};
use crate::store::CorePointer;

/// A range of blocks that is asked for, as long as this lives.
pub struct Download<E: Env> {
    shared: Arc<CorestoreShared<E>>,
    pointer: CorePointer,
    id: u64,
    range: DownloadRange,
}

impl<E: Env> Download<E> {
    pub(super) fn start(
        shared: Arc<CorestoreShared<E>>,
        pointer: CorePointer,
        range: DownloadRange,
        block_bytes_max: Option<u64>,
    ) -> Result<Self, CoreError> {
        let mut cores = shared.lock();
        let id = cores.next_session;
        cores.next_session += 1;
        cores.want(pointer, |demand| {
            demand.ranges.insert(id, range);
            demand
                .block_bytes_max
                .extend(block_bytes_max.map(|max| (id, max)));
        })?;
        drop(cores);
        Ok(Self {
            shared,
            pointer,
            id,
            range,
        })
    }

    /// True when all blocks are here. Never for a range without end.
    ///
    /// # Errors
    /// When the core is closed.
    pub fn is_done(&self) -> Result<bool, CoreError> {
        let cores = self.shared.lock();
        let core = cores.get(self.pointer)?;
        let (start, end) = self.range.bounds();
        Ok(end.is_some_and(|end| core.main.blocks.has_all(start..end)))
    }

    /// Waits until all blocks are here. False when they did not come in time.
    ///
    /// # Errors
    /// When the core is closed.
    pub async fn done(&self, wait: Wait) -> Result<bool, CoreError> {
        let clock = self.shared.env.clock();
        let deadline = wait.deadline(clock);
        let mut changes = self.shared.changes(self.pointer)?;
        loop {
            changes.mark_unchanged();
            if self.is_done()? {
                return Ok(true);
            }
            match changed(&mut changes, clock, deadline).await {
                Woken::Changed => {}
                Woken::TimedOut => return Ok(false),
                Woken::Closed => return Err(CoreError::Closed),
            }
        }
    }
}

impl<E: Env> Drop for Download<E> {
    fn drop(&mut self) {
        if let Some(core) = self.shared.lock().open.get_mut(&self.pointer) {
            if self.shared.planted.has(Slip::DownloadStays) {
                return;
            }
            core.demand.ranges.remove(&self.id);
            if !self.shared.planted.has(Slip::LimitStays) {
                core.demand.block_bytes_max.remove(&self.id);
            }
            core.demand_changed();
        }
    }
}

/// Tells peers that somebody waits for a block, as long as it lives.
pub(super) struct WantedBlock<'a, E: Env> {
    shared: &'a CorestoreShared<E>,
    pointer: CorePointer,
    index: u64,
}

impl<'a, E: Env> WantedBlock<'a, E> {
    pub(super) fn register(
        shared: &'a CorestoreShared<E>,
        pointer: CorePointer,
        index: u64,
    ) -> Result<Self, CoreError> {
        let register = |demand: &mut Demand| *demand.blocks.entry(index).or_default() += 1;
        shared.lock().want(pointer, register)?;
        Ok(Self {
            shared,
            pointer,
            index,
        })
    }
}

impl<E: Env> Drop for WantedBlock<'_, E> {
    fn drop(&mut self) {
        if let Some(core) = self.shared.lock().open.get_mut(&self.pointer) {
            if self.shared.planted.has(Slip::OneReaderGone) {
                core.demand.blocks.remove(&self.index);
            }
            core.unwant(self.index);
        }
    }
}
