//! What the owner of a log beside the database does with it.

use std::time::Duration;

use autobee::Corestore;
use autobee::env::{Clock as _, Env};
use autobee::hypercore::{Core, CoreError, CoreOptions, NamedOptions};
use autobee::wire::{Index, Length};
use bytes::Bytes;

use super::written::State;
use super::{Phase, SideCores, below, is_split};
use crate::invariant::Claims;
use crate::scenario::SideCore;

/// Blocks of one change, at most.
const BLOCKS_MAX: u64 = 4;

/// Bytes of a block, at most; every eighth may have this many times as many.
const BLOCK_BYTES_MAX: u64 = 40;
const LARGE: u64 = 50;

/// What the named session is called that is never taken in.
const BRANCH: &str = "aside";

/// One change of a log.
enum LogChange {
    Append(Vec<Bytes>),
    /// By way of a named session.
    Commit(Vec<Bytes>),
    Truncate(usize),
    /// To a named session that is never taken in, which begins anew.
    Branch(Vec<Bytes>, bool),
}

impl SideCores {
    /// Opens the log and changes it until the plan is over.
    pub(super) async fn own<E: Env>(self, env: E, store: Corestore<E>, number: usize, plan: SideCore) {
        // A disk that fails is none of the log's; whoever has it is started again.
        let Ok(core) = store.get(CoreOptions::name(format!("beside {number}"))).await else {
            return;
        };
        if !self.is_as_it_was(&core, number, &plan).await {
            return;
        }
        loop {
            env.clock().sleep(Duration::from_millis(plan.every_ms)).await;
            match self.lock().phase {
                Phase::Before => continue,
                Phase::Changing => {}
                Phase::Settling | Phase::Over => return,
            }
            let Some(change) = self.draw(&env, number, &plan) else {
                return;
            };
            let is_branch = matches!(change, LogChange::Branch(..));
            if let Err(error) = make(&core, change).await {
                // Whether it was made is found out at the next start.
                self.failed(number, &plan, &error);
                return;
            }
            match is_branch {
                true => self.lock().logs[number].branched(),
                false => self.lock().logs[number].changed(),
            }
            if !self.is_as_it_was(&core, number, &plan).await {
                return;
            }
        }
    }

    /// Looks whether the log is what its owner was told, after a start and after each change.
    async fn is_as_it_was<E: Env>(&self, core: &Core<E>, number: usize, plan: &SideCore) -> bool {
        let found = read(core);
        let has_branch = self.lock().logs[number].has_branch();
        let branch = match has_branch {
            true => Some(read_branch(core).await),
            false => None,
        };
        let mut run = self.lock();
        let may_lose = may_lose(&run.claims, plan.of);
        let may_fail = run.claims.unsound.contains(&plan.of);
        let is_closing = run.closing.contains(&plan.of);
        let log = &mut run.logs[number];
        if log.is_void() {
            return false;
        }
        let found = found.and_then(|found| branch.transpose().map(|branch| (found, branch)));
        let what = match found {
            Ok(((state, blocks), branch)) => {
                let opened = log.opened(core.key(), state, &blocks);
                opened.and_then(|()| branch.map_or(Ok(()), |blocks| log.opened_branch(blocks)))
            }
            Err(_) if may_fail || may_lose => return false,
            // What it is is found out at the next start.
            Err(CoreError::Closed) if is_closing => return false,
            Err(error) => Err(format!("cannot be read: {error}")),
        };
        let Err(what) = what else { return true };
        log.give_up();
        if !may_lose {
            run.wrong.push(format!(
                "the log {number} of r{} beside the database {what}",
                plan.of
            ));
        }
        false
    }

    /// A change was refused: only a disk that fails, or a store that is closed, excuses that.
    fn failed(&self, number: usize, plan: &SideCore, error: &CoreError) {
        let mut run = self.lock();
        let is_excused = may_lose(&run.claims, plan.of) || run.claims.unsound.contains(&plan.of);
        let is_closed = matches!(error, CoreError::Closed) && run.closing.contains(&plan.of);
        if !is_excused && !is_closed {
            run.wrong.push(format!(
                "the log {number} of r{} beside the database cannot be changed: {error}",
                plan.of
            ));
        }
    }

    /// Draws the next change, and writes it down before it is made; none when all were made.
    fn draw<E: Env>(&self, env: &E, number: usize, plan: &SideCore) -> Option<LogChange> {
        let mut run = self.lock();
        let log = &mut run.logs[number];
        if log.changes() >= plan.changes {
            return None;
        }
        let length = log.head().length;
        let truncates = plan.truncations > 0 && below(env, u64::from(plan.truncations)) == 0;
        if truncates && length > 0 {
            let kept = usize::try_from(below(env, length as u64)).unwrap_or_default();
            log.truncating(kept);
            return Some(LogChange::Truncate(kept));
        }
        let count = 1 + below(env, BLOCKS_MAX);
        let blocks: Vec<Bytes> = (0..count)
            .map(|block| {
                let large = if below(env, 8) == 0 { LARGE } else { 1 };
                let bytes = usize::try_from(below(env, BLOCK_BYTES_MAX * large)).unwrap_or_default();
                let name = format!("{number}.{}.{block}", log.changes());
                format!("{name:.<width$}", width = name.len() + bytes).into()
            })
            .collect();
        if plan.branches > 0 && below(env, u64::from(plan.branches)) == 0 {
            let is_anew = below(env, 3) == 0;
            log.branching(&blocks, is_anew);
            return Some(LogChange::Branch(blocks, is_anew));
        }
        log.appending(&blocks);
        Some(match below(env, 4) {
            0 => LogChange::Commit(blocks),
            _ => LogChange::Append(blocks),
        })
    }
}

/// What a replica was told that it has of a log of its own may be gone.
fn may_lose(claims: &Claims, replica: usize) -> bool {
    claims.wiped.contains(&replica) || is_split(replica, claims)
}

async fn make<E: Env>(core: &Core<E>, change: LogChange) -> Result<(), CoreError> {
    match change {
        LogChange::Append(blocks) => core.append(blocks).await.map(drop),
        LogChange::Truncate(length) => core.truncate(Length(length as u64), None).await,
        LogChange::Branch(blocks, is_anew) => {
            let options = NamedOptions {
                overwrite: is_anew,
                checkout: None,
            };
            core.named(BRANCH, options).await?.append(blocks).await.map(drop)
        }
        LogChange::Commit(blocks) => {
            let options = NamedOptions {
                overwrite: true,
                checkout: None,
            };
            let draft = core.named("draft", options).await?;
            draft.append(blocks).await?;
            core.commit(&draft, None, None).await.map(drop)
        }
    }
}

/// All that is stored of a log of one's own.
fn read<E: Env>(core: &Core<E>) -> Result<(State, Vec<Bytes>), CoreError> {
    let (fork, length) = (core.fork()?, core.length()?.0);
    let blocks = (0..length).map(|index| core.get_local(Index(index))?.ok_or(CoreError::Unknown));
    let blocks: Vec<Bytes> = blocks.collect::<Result<_, CoreError>>()?;
    let length = blocks.len();
    Ok((State { fork, length }, blocks))
}

/// All that is stored of the named session that is never taken in.
async fn read_branch<E: Env>(core: &Core<E>) -> Result<Vec<Bytes>, CoreError> {
    let branch = core.named(BRANCH, NamedOptions::default()).await?;
    let (_, blocks) = read(&branch)?;
    Ok(blocks)
}
