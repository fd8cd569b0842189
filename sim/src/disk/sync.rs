//! Syncs that take time: begun, waited for, ended.

use std::time::Duration;

use autobee::env::{Clock, Worker};

use super::SimDisk;
use super::fault::DiskOp;

/// A sync that began and did not end yet. Dropping it forgets it, as the end of the process does.
#[derive(Debug)]
pub struct BegunSync {
    latency: Duration,
    /// Number of the first change that is not part of it; none when it is about all changes before its end.
    end: Option<u64>,
    incarnation: u64,
}

impl BegunSync {
    /// How long it takes.
    #[must_use]
    pub const fn latency(&self) -> Duration {
        self.latency
    }
}

impl SimDisk {
    /// Begins a sync. Whoever calls this lets [`BegunSync::latency`] pass before [`SimDisk::end_sync`], so that a power
    /// cut in between meets changes that are not durable yet. With `only_before`, changes from now on are no part of
    /// the sync.
    #[must_use]
    pub fn begin_sync(&self, only_before: bool) -> BegunSync {
        let mut state = self.state();
        BegunSync {
            latency: state.draw_latency(DiskOp::Sync),
            end: only_before.then_some(state.changes),
            incarnation: self.incarnation,
        }
    }

    /// Ends a sync that was begun: `work` makes the call, and its first [`DiskFile::sync`](autobee::env::DiskFile::sync)
    /// is that sync. It adds no debt, and makes durable what the file had when the sync began.
    pub fn end_sync<T>(&self, begun: BegunSync, work: impl FnOnce() -> T) -> T {
        self.set_begun(Some(begun));
        let outcome = work();
        self.set_begun(None);
        outcome
    }

    fn set_begun(&self, begun: Option<BegunSync>) {
        let mut state = self.state();
        if state.incarnation == self.incarnation {
            state.begun = begun.filter(|begun| begun.incarnation == self.incarnation);
        }
    }
}

impl BegunSync {
    /// True when the change with this number is part of the sync.
    pub(super) fn covers(&self, number: u64) -> bool {
        self.end.is_none_or(|end| number < end)
    }
}

/// Runs a worker to its end. The time of each step passes between its two halves, while other tasks run.
pub(crate) async fn serve(mut worker: impl Worker, clock: impl Clock, disk: SimDisk) {
    while worker.ready().await {
        let begun = disk.begin_sync(worker.start());
        clock.sleep(disk.take_debt() + begun.latency()).await;
        disk.end_sync(begun, || worker.finish());
    }
}
