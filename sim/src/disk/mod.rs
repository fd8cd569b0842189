//! A disk that keeps what was *written* apart from what was *synced*, and fails on request.
//!
//! A process sees its own writes at once. What a power cut leaves is another matter: everything since the last sync
//! of a file, and every creation, renaming and removal since the last sync of the directory, may be kept, lost, torn
//! or reordered. Model: POSIX as strict as file systems have ever been, at sectors of 512 bytes.
//!
//! Contents are persistent maps of pages, so a snapshot of the whole disk costs nothing: the crash tests take one
//! after every operation. Decisions are drawn from a seeded stream, or enumerated by [`Odometer`]. Nothing here reads
//! a clock: latency piles up as a debt that the caller sleeps off.

mod choice;
mod crash;
mod fault;
mod file;
mod image;
mod sync;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use autobee::env::{Disk, DiskFile, DiskLock, Open, check_name};

pub use choice::{Choose, Odometer, Seeded};
pub use crash::{DiskCrash, DiskSnapshot};
pub use fault::{DiskEvent, DiskFault, DiskFaults, DiskOp, DiskStats, Latency};
pub use sync::BegunSync;
pub(crate) use sync::serve;

use file::SimFile;
use image::{DiskChange, Image, Inode};

/// One replica's directory. Clones are handles of the same incarnation: after [`SimDisk::crash`] or
/// [`SimDisk::kill`] they fail, as does every file that was opened through them.
///
/// ```
/// use autobee::env::{Disk as _, Open};
/// use autobee_sim::disk::{DiskCrash, Seeded, SimDisk};
/// use std::io::IoSlice;
///
/// let disk = SimDisk::new(1);
/// let file = disk.open("log", Open::CreateNew)?;
/// disk.sync_dir()?;
/// file.write_at(0, &[IoSlice::new(b"kept")])?;
/// file.sync()?;
/// file.write_at(4, &[IoSlice::new(b", lost")])?;
///
/// let disk = disk.crash(DiskCrash::Lost, &mut Seeded::new(1));
/// assert_eq!(disk.open("log", Open::Read)?.len()?, 4);
/// assert!(file.len().is_err()); // of a process that is no more
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<DiskShared>,
    incarnation: u64,
}

type Observer = Box<dyn FnMut(&DiskEvent<'_>) + Send>;

struct DiskShared {
    state: Mutex<DiskState>,
    observer: Mutex<Option<Observer>>,
    observed: AtomicBool,
}

struct DiskState {
    incarnation: u64,
    locked: bool,
    next_inode: u64,
    /// What the running process sees.
    written: Image,
    /// What no power cut can take.
    synced: Image,
    /// What turns `synced` into `written`, in the order of the calls.
    pending: Vec<PendingChange>,
    /// Number of changes so far.
    changes: u64,
    open: BTreeMap<Inode, u64>,
    faults: DiskFaults,
    planned: BTreeMap<u64, DiskFault>,
    choice: Seeded,
    stats: DiskStats,
    debt: Duration,
    /// The next sync of a file is the end of this one.
    begun: Option<BegunSync>,
    /// Calls are those of an observer.
    is_observed: bool,
    /// Behind which call the power goes.
    crash_point: Option<CrashPoint>,
    /// What was on the disk when it went: what comes behind that is lost whole.
    struck: Option<DiskSnapshot>,
}

/// The power goes right behind a call.
struct CrashPoint {
    op: DiskOp,
    /// Calls of this kind that still pass.
    left: u32,
    /// Set when it went.
    interrupt: Arc<AtomicBool>,
}

/// How far a crash point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CrashPointStage {
    /// So many calls of its kind still pass.
    Left(u32),
    /// The power went: the replica is to be crashed before anything else happens.
    Struck,
}

/// A change that is not durable, with its number.
#[derive(Clone)]
struct PendingChange {
    number: u64,
    change: DiskChange,
}

impl SimDisk {
    /// An empty disk without faults, whose decisions are drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::from_image(Image::default(), Seeded::new(seed))
    }

    /// The faults from now on.
    pub fn set_faults(&self, faults: DiskFaults) {
        self.state().faults = faults;
    }

    /// Draws decisions from this stream from now on.
    pub fn set_choice(&self, choice: Seeded) {
        self.state().choice = choice;
    }

    /// Lets the call with this number fail ([`DiskStats::calls`] counts them from one).
    pub fn plan(&self, call: u64, fault: DiskFault) {
        self.state().planned.insert(call, fault);
    }

    /// Hands every call to `observer`, after it took effect. It may take snapshots, but must not call the disk.
    pub fn observe(&self, observer: impl FnMut(&DiskEvent<'_>) + Send + 'static) {
        *locked(&self.shared.observer) = Some(Box::new(observer));
        self.shared.observed.store(true, Ordering::Release);
    }

    /// Flips one bit of a file, as decay would. False when the file has no such byte.
    pub fn rot(&self, name: &str, offset: u64, bit: u8) -> bool {
        let mut state = self.state();
        let Some(inode) = state.written.names.get(name).copied() else {
            return false;
        };
        state.rot(inode, offset, bit)
    }

    /// Cuts a file, as a broken file system would: without a word, and below what was synced.
    pub fn shorten(&self, name: &str, length: u64) -> bool {
        let mut state = self.state();
        let Some(inode) = state.written.names.get(name).copied() else {
            return false;
        };
        let change = DiskChange::Truncate { inode, length };
        state.written.apply(&change);
        state.synced.apply(&change);
        true
    }

    /// The time that the calls since the last question took.
    pub fn take_debt(&self) -> Duration {
        std::mem::take(&mut self.state().debt)
    }

    /// Has the power go right behind the next call of this kind but `left`: what the disk is told behind that is lost whole with
    /// the next [`SimDisk::crash`]. Sets `interrupt` then, so that whoever runs the world can crash the replica at once.
    pub(crate) fn set_crash_point(&self, op: DiskOp, left: u32, interrupt: Arc<AtomicBool>) {
        let mut state = self.state();
        if state.struck.is_none() {
            state.crash_point = Some(CrashPoint { op, left, interrupt });
        }
    }

    /// Takes the crash point away. None when there was none.
    pub(crate) fn take_crash_point(&self) -> Option<CrashPointStage> {
        let mut state = self.state();
        if state.struck.is_some() {
            return Some(CrashPointStage::Struck);
        }
        let point = state.crash_point.take()?;
        Some(CrashPointStage::Left(point.left))
    }

    /// Calls from now on are those of an observer, until told otherwise: they cost nothing, fail never, and count for
    /// nothing, so that what follows is as if they had not been made.
    pub fn observe_only(&self, is_observed: bool) {
        self.state().is_observed = is_observed;
    }

    /// What was called so far.
    #[must_use]
    pub fn stats(&self) -> DiskStats {
        self.state().stats
    }

    /// Bytes of all files that have a name.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.state().written.used()
    }

    /// Everything, written and synced, as it is now. Costs nothing but the list of unsynced calls.
    #[must_use]
    pub fn snapshot(&self) -> DiskSnapshot {
        self.state().snapshot()
    }

    /// Power is cut: what was not synced meets its fate. Gives the handle of the next incarnation.
    pub fn crash(&self, how: DiskCrash, choice: &mut impl Choose) -> Self {
        let mut state = self.state();
        let DiskSnapshot {
            synced,
            pending,
            written,
        } = state.struck.take().unwrap_or_else(|| state.snapshot());
        let mut image = crash::image(&synced, &pending, &written, how, choice);
        state.shorten_files(&mut image);
        state.begin(image.clone(), image, Vec::new());
        self.next(&state)
    }

    /// The process dies, the machine lives: everything written is still there, synced or not.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut state = self.state();
        let (written, synced) = (state.written.clone(), state.synced.clone());
        let pending = std::mem::take(&mut state.pending);
        state.begin(written, synced, pending);
        self.next(&state)
    }

    /// Puts back an earlier state of the whole disk, as a restored backup would. Gives the handle of the next
    /// incarnation.
    pub fn restore(&self, snapshot: &DiskSnapshot) -> Self {
        let mut state = self.state();
        let image = snapshot.written.clone();
        state.begin(image.clone(), image, Vec::new());
        self.next(&state)
    }

    fn from_image(image: Image, choice: Seeded) -> Self {
        let next_inode = image.files.keys().next_back().map_or(0, |inode| inode.0 + 1);
        let state = DiskState {
            incarnation: 0,
            locked: false,
            next_inode,
            written: image.clone(),
            synced: image,
            pending: Vec::new(),
            changes: 0,
            open: BTreeMap::new(),
            faults: DiskFaults::default(),
            planned: BTreeMap::new(),
            choice,
            stats: DiskStats::default(),
            debt: Duration::ZERO,
            begun: None,
            is_observed: false,
            crash_point: None,
            struck: None,
        };
        Self {
            shared: Arc::new(DiskShared {
                state: Mutex::new(state),
                observer: Mutex::new(None),
                observed: AtomicBool::new(false),
            }),
            incarnation: 0,
        }
    }

    fn next(&self, state: &DiskState) -> Self {
        Self {
            shared: self.shared.clone(),
            incarnation: state.incarnation,
        }
    }

    fn state(&self) -> MutexGuard<'_, DiskState> {
        locked(&self.shared.state)
    }

    /// One call: counts it, draws its fate, carries it out, reports it.
    fn call<T>(
        &self,
        call: DiskCall<'_>,
        carry_out: impl FnOnce(&mut DiskState, Option<DiskFault>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state();
        if state.incarnation != self.incarnation {
            return Err(io::Error::new(ErrorKind::NotConnected, "the process is gone"));
        }
        if state.is_observed {
            return carry_out(&mut state, None);
        }
        state.stats.count(call.op, call.name, call.offset, call.bytes);
        let number = state.stats.calls;
        let fault = state.draw_fault(number, call.op);
        state.charge(call.op);
        let outcome = carry_out(&mut state, fault);
        state.pass_crash_point(call.op);
        drop(state);
        if self.shared.observed.load(Ordering::Acquire)
            && let Some(observer) = locked(&self.shared.observer).as_mut()
        {
            observer(&DiskEvent {
                number,
                op: call.op,
                name: call.name,
                offset: call.offset,
                bytes: call.bytes,
                fault,
                failed: outcome.as_ref().err().map(io::Error::kind),
            });
        }
        outcome
    }
}

/// What is called on what.
#[derive(Clone, Copy)]
struct DiskCall<'a> {
    op: DiskOp,
    name: &'a str,
    offset: u64,
    bytes: u64,
}

impl<'a> DiskCall<'a> {
    const fn new(op: DiskOp, name: &'a str) -> Self {
        Self {
            op,
            name,
            offset: 0,
            bytes: 0,
        }
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.call(DiskCall::new(DiskOp::List, ""), |state, fault| {
            fault::check(fault)?;
            Ok(state.written.names.keys().cloned().collect())
        })
    }

    fn open(&self, name: &str, how: Open) -> io::Result<Box<dyn DiskFile>> {
        check_name(name)?;
        let op = match how {
            Open::CreateNew => DiskOp::Create,
            Open::Read | Open::Write => DiskOp::Open,
        };
        let inode = self.call(DiskCall::new(op, name), |state, fault| {
            fault::check(fault)?;
            let inode = match (how, state.written.names.get(name).copied()) {
                (Open::CreateNew, Some(_)) => return Err(named(ErrorKind::AlreadyExists, name)),
                (Open::CreateNew, None) => {
                    let inode = Inode(state.next_inode);
                    state.next_inode += 1;
                    state.change(DiskChange::Create {
                        name: name.to_owned(),
                        inode,
                    });
                    inode
                }
                (Open::Read | Open::Write, Some(inode)) => inode,
                (Open::Read | Open::Write, None) => return Err(named(ErrorKind::NotFound, name)),
            };
            *state.open.entry(inode).or_default() += 1;
            Ok(inode)
        })?;
        Ok(Box::new(SimFile::new(
            self.clone(),
            inode,
            name,
            how != Open::Read,
        )))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        self.call(DiskCall::new(DiskOp::Rename, to), |state, fault| {
            fault::check(fault)?;
            let inode = state.written.names.get(from).copied();
            let inode = inode.ok_or_else(|| named(ErrorKind::NotFound, from))?;
            state.change(DiskChange::Rename {
                from: from.to_owned(),
                to: to.to_owned(),
                inode,
            });
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        self.call(DiskCall::new(DiskOp::Remove, name), |state, fault| {
            fault::check(fault)?;
            if !state.written.names.contains_key(name) {
                return Err(named(ErrorKind::NotFound, name));
            }
            state.change(DiskChange::Remove {
                name: name.to_owned(),
            });
            Ok(())
        })
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.call(DiskCall::new(DiskOp::SyncDir, ""), |state, fault| {
            if fault == Some(DiskFault::Lie) {
                return Ok(());
            }
            fault::check(fault)?;
            for change in state.take_pending(|pending| pending.change.is_name()) {
                state.synced.apply(&change);
            }
            state.forget_unreachable();
            Ok(())
        })
    }

    fn lock(&self) -> io::Result<DiskLock> {
        self.call(DiskCall::new(DiskOp::Lock, ""), |state, fault| {
            fault::check(fault)?;
            if std::mem::replace(&mut state.locked, true) {
                return Err(io::Error::new(ErrorKind::WouldBlock, "the directory is in use"));
            }
            Ok(Box::new(Taken(self.clone())) as DiskLock)
        })
    }
}

impl DiskState {
    /// Starts another incarnation on these contents.
    fn begin(&mut self, written: Image, synced: Image, pending: Vec<PendingChange>) {
        self.incarnation += 1;
        self.locked = false;
        self.open.clear();
        self.written = written;
        self.synced = synced;
        self.pending = pending;
        self.begun = None;
        self.struck = None;
        self.debt = Duration::ZERO;
        if self.pending.is_empty() {
            self.forget_unreachable();
        }
    }

    fn snapshot(&self) -> DiskSnapshot {
        DiskSnapshot {
            synced: self.synced.clone(),
            pending: self.pending_changes(),
            written: self.written.clone(),
        }
    }

    /// A call took effect: the power may go here.
    fn pass_crash_point(&mut self, op: DiskOp) {
        let Some(point) = self.crash_point.as_mut().filter(|point| point.op == op) else {
            return;
        };
        if point.left > 0 {
            point.left -= 1;
            return;
        }
        point.interrupt.store(true, Ordering::Release);
        self.crash_point = None;
        self.struck = Some(self.snapshot());
    }

    /// Carries a change out in sight of the process, and leaves its durability to a sync.
    fn change(&mut self, change: DiskChange) {
        self.written.apply(&change);
        self.pending.push(PendingChange {
            number: self.changes,
            change,
        });
        self.changes += 1;
    }

    fn pending_changes(&self) -> Vec<DiskChange> {
        self.pending
            .iter()
            .map(|pending| pending.change.clone())
            .collect()
    }

    /// Takes the changes that `wanted` says out of those that are not durable, in their order.
    fn take_pending(&mut self, wanted: impl Fn(&PendingChange) -> bool) -> Vec<DiskChange> {
        let (taken, left): (Vec<PendingChange>, Vec<PendingChange>) =
            self.pending.drain(..).partition(wanted);
        self.pending = left;
        taken.into_iter().map(|pending| pending.change).collect()
    }

    /// Drops contents that neither a name nor an open file can reach, on either side.
    fn forget_unreachable(&mut self) {
        let (written, synced, open) = (&self.written, &self.synced, &self.open);
        let gone: Vec<Inode> = written
            .files
            .keys()
            .chain(synced.files.keys())
            .filter(|inode| {
                let named = |image: &Image| image.names.values().any(|other| other == *inode);
                !open.contains_key(inode) && !named(written) && !named(synced)
            })
            .copied()
            .collect();
        // A name that is only in the list of changes can still come back.
        let gone: Vec<Inode> = gone
            .into_iter()
            .filter(|inode| {
                !self
                    .pending
                    .iter()
                    .any(|pending| pending.change.names_inode(*inode))
            })
            .collect();
        for inode in gone {
            self.written.files.remove(&inode);
            self.synced.files.remove(&inode);
            self.pending
                .retain(|pending| pending.change.inode() != Some(inode));
        }
    }
}

struct Taken(SimDisk);

impl Drop for Taken {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if state.incarnation == self.0.incarnation {
            state.locked = false;
        }
    }
}

fn named(kind: ErrorKind, name: &str) -> io::Error {
    io::Error::new(kind, name.to_owned())
}

fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_behind_a_crash_point_is_lost_whole() {
        let disk = SimDisk::new(1);
        for name in ["first", "second"] {
            drop(disk.open(name, Open::CreateNew));
        }
        assert!(disk.sync_dir().is_ok());
        let interrupt = Arc::new(AtomicBool::new(false));
        disk.set_crash_point(DiskOp::Remove, 1, Arc::clone(&interrupt));
        assert_eq!(disk.take_crash_point(), Some(CrashPointStage::Left(1)));
        assert_eq!(disk.take_crash_point(), None, "it was taken");

        disk.set_crash_point(DiskOp::Remove, 1, Arc::clone(&interrupt));
        assert!(disk.remove("first").is_ok() && !interrupt.load(Ordering::Acquire));
        assert!(disk.remove("second").is_ok() && interrupt.load(Ordering::Acquire));
        assert!(disk.open("third", Open::CreateNew).is_ok() && disk.sync_dir().is_ok());
        assert_eq!(
            disk.list().ok(),
            Some(vec!["third".to_owned()]),
            "the process goes on"
        );
        assert_eq!(disk.take_crash_point(), Some(CrashPointStage::Struck));

        // Neither removal was durable where the power went, and the third file was never made.
        let disk = disk.crash(DiskCrash::Lost, &mut Seeded::new(1));
        assert_eq!(
            disk.list().ok(),
            Some(vec!["first".to_owned(), "second".to_owned()])
        );
        assert_eq!(disk.take_crash_point(), None);
        drop(disk.remove("first"));
        assert_eq!(
            disk.crash(DiskCrash::Kept, &mut Seeded::new(1)).list().ok(),
            Some(vec!["second".to_owned()])
        );
    }
}
