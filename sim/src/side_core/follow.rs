//! What whoever follows a log beside the database does: it fetches it, and compares what it has with what the owner wrote.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use autobee::Corestore;
use autobee::env::{Clock as _, Env};
use autobee::hypercore::merkle::Seek;
use autobee::hypercore::{Core, CoreError, CoreOptions, CoreSnapshot, Download, DownloadRange, Wait};
use autobee::wire::Index;

use super::small::SmallDownload;
use super::written::State;
use super::{Phase, SideCores, below};
use crate::scenario::SideCore;

/// How long it waits for a block or a place that it has not.
const FETCH_LIMIT: Duration = Duration::from_secs(2);

/// How much later than that a wait may end.
const LATE: Duration = Duration::from_millis(500);

/// How long whoever is reached may take to send one block, when everything is healed.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long somebody waits who goes away before a block can come.
const HASTE: Duration = Duration::from_millis(1);

/// How often blocks that nobody asks for are looked for, and how often of these some may have come: peers that were asked
/// before may send them late.
const UNWANTED_LOOKS: u32 = 12;
const UNWANTED_MAX: u32 = 6;

/// Blocks that are compared in one look, at most.
const COMPARED: u64 = 4;

pub(super) struct Follower<E: Env> {
    cores: SideCores,
    env: E,
    number: usize,
    replica: usize,
    plan: SideCore,
    /// The log as it was at an earlier look.
    earlier: Option<CoreSnapshot<E>>,
    /// What is fetched of it. Every second follower asks for single blocks until the plan is over.
    download: Option<Download<E>>,
    /// Blocks that it ever asked for, one by one.
    asked: BTreeSet<u64>,
    /// Small blocks that are fetched of it.
    small: Option<SmallDownload<E>>,
    /// Blocks that it asked for, until it changed its mind.
    unwanted: Option<Unwanted>,
    /// It dropped a block when it had all of them: that comes again, as everything is wanted.
    has_dropped: bool,
}

/// Blocks that nobody asks for any more, and that were cleared. What is on its way may come once more.
#[derive(Debug, Clone, Copy)]
struct Unwanted {
    fork: u64,
    /// The first one.
    from: u64,
    /// In how many looks some had come, and were cleared again.
    came: u32,
    /// How often they were looked for.
    looks: u32,
}

impl<E: Env> Follower<E> {
    pub(super) const fn new(cores: SideCores, env: E, number: usize, replica: usize, plan: SideCore) -> Self {
        Self {
            cores,
            env,
            number,
            replica,
            plan,
            earlier: None,
            download: None,
            asked: BTreeSet::new(),
            small: None,
            unwanted: None,
            has_dropped: false,
        }
    }

    /// Follows the log until the run is over.
    pub(super) async fn run(mut self, store: Corestore<E>) {
        let Some(mut core) = self.find(&store).await else {
            return;
        };
        let is_sparse = self.replica % 2 == 1;
        let mut is_settling = false;
        loop {
            let phase = self.cores.lock().phase;
            if phase == Phase::Over {
                return;
            }
            if !is_settling && below(&self.env, 16) == 0 {
                // Nobody here uses it for a while, and then it is used again, on the same connections.
                (self.download, self.earlier, self.unwanted) = (None, None, None);
                self.small = None;
                drop(core);
                self.env
                    .clock()
                    .sleep(Duration::from_millis(self.plan.every_ms))
                    .await;
                core = match self.find(&store).await {
                    Some(core) => core,
                    None => return,
                };
            }
            if is_sparse && !is_settling && self.plan.small_bytes > 0 && self.small.is_none() {
                self.small = SmallDownload::start(&core, self.plan.small_bytes).ok();
            }
            if phase == Phase::Settling && !is_settling && is_sparse {
                let waited = match self.wait_for_small(&core).await {
                    Ok(()) => self.wait_beside_another(&core).await,
                    Err(what) => Err(what),
                };
                if let Err(what) = waited {
                    let (replica, number) = (self.replica, self.number);
                    let what = format!("r{replica} follows the log {number} beside the database, and {what}");
                    self.cores.lock().wrong.push(what);
                    return;
                }
            }
            if (phase == Phase::Settling && !is_settling) || (self.download.is_none() && !is_sparse) {
                // Of what was cleared meanwhile, too: from the first block on.
                if let Ok(download) = core.download(DownloadRange::ALL) {
                    self.download = Some(download);
                    is_settling = phase == Phase::Settling;
                }
            }
            let looked = self.look(&core, is_settling).await;
            let what = match looked {
                Ok(Ok(())) => None,
                Ok(Err(what)) => Some(what),
                Err(error) => {
                    self.cores.lock().logs[self.number].followed.remove(&self.replica);
                    // What fails because of a disk is none of the log's.
                    let is_wrong = match &error {
                        CoreError::Closed => !self.cores.lock().closing.contains(&self.replica),
                        error => matches!(error, CoreError::Signatures { .. } | CoreError::Proof(_)),
                    };
                    is_wrong.then(|| format!("cannot look at it: {error}"))
                }
            };
            if let Some(what) = what {
                let (replica, number) = (self.replica, self.number);
                let what = format!("r{replica} follows the log {number} beside the database, and {what}");
                self.cores.lock().wrong.push(what);
                return;
            }
            self.env
                .clock()
                .sleep(Duration::from_millis(self.plan.every_ms))
                .await;
        }
    }

    /// The log, once its owner made it.
    async fn find(&self, store: &Corestore<E>) -> Option<Core<E>> {
        loop {
            let (phase, key) = {
                let run = self.cores.lock();
                (run.phase, run.logs[self.number].key)
            };
            match key {
                _ if phase == Phase::Over => return None,
                Some(key) => {
                    if let Ok(core) = store.get(CoreOptions::key(key)).await {
                        return Some(core);
                    }
                }
                None => {}
            }
            let pause = Duration::from_millis(self.plan.every_ms);
            self.env.clock().sleep(pause).await;
        }
    }

    /// Who fetches small blocks has all of them.
    async fn wait_for_small(&mut self, core: &Core<E>) -> Result<(), String> {
        let Some(small) = &self.small else { return Ok(()) };
        let until = self.env.clock().now() + PATIENCE;
        loop {
            let head = self.cores.lock().logs[self.number].head();
            let (Ok(fork), Ok(length)) = (core.fork(), core.length()) else {
                break;
            };
            let missing = {
                let run = self.cores.lock();
                small.missing(core, run.logs[self.number].blocks(fork), length.0)
            };
            let is_whole = fork == head.fork && length.0 == head.length as u64;
            if is_whole && missing.is_none() || self.cores.lock().phase == Phase::Over {
                break;
            }
            if self.env.clock().now() >= until {
                // Of another fork nobody may have it.
                let length = to_usize(length.0);
                let state = State { fork, length };
                let is_there = is_whole && self.cores.is_there(self.number, self.replica, state);
                let missing = missing.filter(|_| is_there);
                let Some(index) = missing else { break };
                return Err(format!("did not get the small block {index} in {PATIENCE:?}"));
            }
            let pause = Duration::from_millis(self.plan.every_ms);
            self.env.clock().sleep(pause).await;
        }
        self.small = None;
        Ok(())
    }

    /// Two ask for a block, and one goes away: the other gets it.
    async fn wait_beside_another(&mut self, core: &Core<E>) -> Result<(), String> {
        self.unwanted = None;
        let (Ok(fork), Ok(length)) = (core.fork(), core.length()) else {
            return Ok(());
        };
        let missing = (0..length.0).find(|at| matches!(core.has(Index(*at)..Index(at + 1)), Ok(false)));
        let Some(index) = missing.map(Index) else {
            return Ok(());
        };
        let state = State {
            fork,
            length: to_usize(length.0),
        };
        let is_there = || self.cores.is_there(self.number, self.replica, state);
        // Of another fork nobody may have it, nor of a log that its owner lost, or behind a way that is cut.
        if !is_there() {
            return Ok(());
        }
        let asked = std::pin::pin!(core.get(index, Wait::For(PATIENCE)));
        let hasty = async {
            let _ = core.get(index, Wait::For(HASTE)).await;
            std::future::pending::<()>().await;
        };
        let hasty = std::pin::pin!(hasty);
        let got = first_of(asked, hasty).await;
        let is_late = matches!(got, Err(CoreError::Timeout(_)));
        // The owner may have found out meanwhile that it has another fork.
        if is_late && matches!(core.fork(), Ok(now) if now == fork) && is_there() {
            return Err(format!(
                "did not get block {} in {PATIENCE:?}, for which somebody else waited who went away",
                index.0
            ));
        }
        Ok(())
    }

    /// Asks for all blocks from one on, changes its mind, clears them, and looks whether some come all the same.
    async fn change_mind(&mut self, core: &Core<E>) -> Result<Result<(), String>, CoreError> {
        let (fork, length) = (core.fork()?, core.length()?.0);
        let Some(mut unwanted) = self.unwanted.filter(|unwanted| unwanted.fork == fork) else {
            self.unwanted = None;
            if length > 0 && below(&self.env, 8) == 0 {
                let from = below(&self.env, length);
                let download = core.download(DownloadRange {
                    start: Index(from),
                    ..DownloadRange::ALL
                })?;
                let pause = Duration::from_millis(below(&self.env, self.plan.every_ms.max(1)));
                self.env.clock().sleep(pause).await;
                drop(download);
                self.unwanted = (core.fork()? == fork).then_some(Unwanted {
                    fork,
                    from,
                    came: 0,
                    looks: 0,
                });
            }
            return Ok(Ok(()));
        };
        unwanted.looks += 1;
        let mut has_come = false;
        for index in unwanted.from..length {
            let at = Index(index)..Index(index + 1);
            if core.has(at.clone())? {
                has_come = true;
                core.clear(at)?;
            }
        }
        unwanted.came += u32::from(has_come);
        if unwanted.came > UNWANTED_MAX {
            return Ok(Err(format!(
                "is sent blocks from {} on that nobody asks for, in {} of {} looks",
                unwanted.from, unwanted.came, unwanted.looks
            )));
        }
        self.unwanted = Some(unwanted).filter(|unwanted| unwanted.looks < UNWANTED_LOOKS);
        Ok(Ok(()))
    }

    /// One look at it. The inner error says what is not as the owner wrote it.
    async fn look(&mut self, core: &Core<E>, is_settling: bool) -> Result<Result<(), String>, CoreError> {
        let env = self.env.clone();
        if self.download.is_none()
            && self.small.is_none()
            && !is_settling
            && let Err(what) = self.change_mind(core).await?
        {
            return Ok(Err(what));
        }
        let (fork, length) = (core.fork()?, core.length()?.0);
        // Whoever looks whether a block comes by itself asks for none.
        if length > 0 && !is_settling && self.unwanted.is_none() {
            let index = below(&env, length);
            if below(&env, 3) == 0 && self.download.is_none() {
                // At times one that nobody has.
                let index = if index % 8 == 7 { length + index } else { index };
                self.asked.insert(index);
                let asked_at = env.clock().now();
                // It may take its time, or be cut off meanwhile.
                let _ = core.get(Index(index), Wait::For(FETCH_LIMIT)).await;
                let waited = env.clock().now().since(asked_at);
                let stands_still = self.cores.lock().claims.paused.contains(&self.replica);
                if waited > FETCH_LIMIT + LATE && !stands_still {
                    return Ok(Err(format!(
                        "waited {waited:?} for block {index}, and was to wait {FETCH_LIMIT:?}"
                    )));
                }
            }
            if below(&env, 10) == 0 {
                core.clear(Index(index)..Index(index + 1))?;
            }
            if below(&env, 2) == 0
                && let Err(what) = self.seek(core, fork).await?
            {
                return Ok(Err(what));
            }
        }
        let (fork, length) = match core.fork()? {
            now if now == fork => (fork, length),
            now => (now, core.length()?.0),
        };
        let from = below(&env, length.max(1));
        let compared = if is_settling {
            0..length
        } else {
            from..from + COMPARED
        };
        if let Err(what) = self.compare(core, fork, compared)? {
            return Ok(Err(what));
        }
        if let Some(small) = self.small.as_ref().filter(|_| !is_settling)
            && let Err(what) = small.compare(core, &self.asked)?
        {
            return Ok(Err(what));
        }
        if let Err(what) = self.compare_earlier(core).await? {
            return Ok(Err(what));
        }
        if is_settling && !self.has_dropped && length > 0 && core.contiguous_length()?.0 == length {
            self.has_dropped = true;
            let index = below(&env, length);
            core.clear(Index(index)..Index(index + 1))?;
        }
        let has = (core.fork()?, core.contiguous_length()?.0);
        let mut run = self.cores.lock();
        run.logs[self.number].followed.insert(self.replica, has);
        Ok(Ok(()))
    }

    /// Compares the blocks that are here.
    fn compare(&self, core: &Core<E>, fork: u64, range: Range<u64>) -> Result<Result<(), String>, CoreError> {
        for index in range.start..range.end.min(core.length()?.0) {
            let is_here = core.has(Index(index)..Index(index + 1))?;
            let block = core.get_local(Index(index))?;
            if core.fork()? != fork {
                return Ok(Ok(()));
            }
            if is_here != block.is_some() {
                return Ok(Err(format!(
                    "is told that it {} block {index}, and {}",
                    if is_here { "has" } else { "has not" },
                    if is_here { "does not get it" } else { "gets it" }
                )));
            }
            let Some(block) = block else { continue };
            let run = self.cores.lock();
            let written = run.logs[self.number].blocks(fork).get(to_usize(index));
            if written != Some(&block) {
                return Ok(Err(format!(
                    "has block {index} of fork {fork} as {block:?}, which was written as {written:?}"
                )));
            }
        }
        Ok(Ok(()))
    }

    /// Compares what the log was at an earlier look, and takes what it is now for a later one.
    async fn compare_earlier(&mut self, core: &Core<E>) -> Result<Result<(), String>, CoreError> {
        if let Some(earlier) = &self.earlier {
            let (fork, length) = (earlier.fork(), earlier.length().0);
            let (written, bytes) = {
                let run = self.cores.lock();
                let blocks = run.logs[self.number].blocks(fork);
                let known = blocks.iter().take(to_usize(length));
                let bytes: u64 = known.map(|block| block.len() as u64).sum();
                (blocks.len() as u64, bytes)
            };
            if written < length {
                return Ok(Err(format!(
                    "had {length} blocks of fork {fork}, of which {written} were written"
                )));
            }
            if earlier.byte_length() != bytes {
                return Ok(Err(format!(
                    "had {} bytes of {length} blocks of fork {fork}, which was written with {bytes}",
                    earlier.byte_length()
                )));
            }
            let index = below(&self.env, length.max(1));
            if length > 0 && earlier.has(Index(index))? {
                let block = earlier.get(Index(index), Wait::Local).await?;
                let run = self.cores.lock();
                let written = run.logs[self.number].blocks(fork).get(to_usize(index));
                if written != Some(&block) {
                    return Ok(Err(format!(
                        "had block {index} of fork {fork} as {block:?}, which was written as {written:?}"
                    )));
                }
            }
        }
        if self.earlier.is_none() || below(&self.env, 6) == 0 {
            self.earlier = Some(core.snapshot()?);
        }
        Ok(Ok(()))
    }

    /// Looks for the block with a drawn byte.
    async fn seek(&self, core: &Core<E>, fork: u64) -> Result<Result<(), String>, CoreError> {
        let all = core.byte_length()?;
        if all == 0 || core.fork()? != fork {
            return Ok(Ok(()));
        }
        let bytes = below(&self.env, all);
        let wait = match below(&self.env, 2) {
            0 => Wait::Local,
            // A block brings the nodes, whatever its size.
            _ if self.small.is_some() => Wait::Local,
            _ => Wait::For(FETCH_LIMIT),
        };
        let found = match core.seek(bytes, wait).await {
            Err(CoreError::Timeout(_)) => return Ok(Ok(())),
            found => found?,
        };
        let expected = self.cores.lock().logs[self.number].place_of(fork, bytes);
        let is_other = !matches!(found, Seek::Unresolved { .. }) && expected != Some(found);
        Ok(match is_other && core.fork()? == fork {
            true => Err(format!(
                "finds byte {bytes} of fork {fork} at {found:?}, which was written at {expected:?}"
            )),
            false => Ok(()),
        })
    }
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What the first future gives. The second one is polled beside it, and does not end.
async fn first_of<T>(
    mut first: std::pin::Pin<&mut impl Future<Output = T>>,
    mut second: std::pin::Pin<&mut impl Future<Output = ()>>,
) -> T {
    std::future::poll_fn(|context| {
        let _ = second.as_mut().poll(context);
        first.as_mut().poll(context)
    })
    .await
}
