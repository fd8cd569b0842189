//! The open logs of a database, and how much of each went to the engine.
//!
//! # Logs that their owners contradict
//!
//! The state is a function of the causally complete blocks that are here. When the owner of a log replaces blocks that
//! were taken, those of both forks are here for a while: the old ones in the order, the new ones in the store. Nothing
//! more is taken then, and what was taken stays, until the order has to be made anew from the store: when the database
//! is opened, or when what came belongs before what is in memory. Either makes it from the start, with the new fork, as
//! no checkpoint tells what the old one did. When an owner signed two logs of the same length, what is stored stays, and
//! is taken at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use im::OrdMap;

use super::log::StoredLog;
use super::stalled::Stalled;
use super::taken_log::{Reopens, TakenLog};
use crate::crypto::CoreKey;
use crate::engine::{STRANGER_BLOCKS_MAX, STRANGER_BYTES_MAX};
use crate::env::{Point, Sights};
use crate::hypercore::{Contradiction, CoreError};
use crate::wire::oplog::{OplogBlock, VERSION};
use crate::wire::{Decode as _, Index, Length};

/// The open logs of a database.
pub struct Logs<L: StoredLog> {
    local: CoreKey,
    open: BTreeMap<CoreKey, TakenLog<L>>,
    /// The same logs, for readers.
    handles: OrdMap<CoreKey, Arc<L>>,
    /// Of the blocks that were taken, as far as cores were ever truncated.
    forks: BTreeMap<CoreKey, u64>,
    /// Cores that were closed although the engine has blocks of them: how many, and their fork.
    closed: BTreeMap<CoreKey, (u64, u64)>,
    /// Cores that lacked blocks when they changed last.
    filling: BTreeSet<CoreKey>,
    /// Those that are not fetched as a whole.
    limited: BTreeMap<CoreKey, Limit>,
    sights: Sights,
}

/// How much of a log is fetched.
#[derive(Debug, Clone, Copy, Default)]
struct Limit {
    /// The first block that is not.
    end: u64,
    /// Leading blocks whose bytes were counted, and these.
    counted: u64,
    bytes: u64,
    /// How many of them have no more bytes than are taken.
    fitting: u64,
    /// The most bytes of a block that is fetched.
    block_bytes_max: Option<u64>,
}

/// How large a log is that is not fetched as a whole.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measured {
    /// Leading blocks that are here.
    pub(super) here: u64,
    /// Bytes of those, as far as they are looked at.
    pub(super) bytes: u64,
    /// How many of them are within the bytes that are taken.
    pub(super) fitting: u64,
    /// Bytes of all, as far as it is proven.
    pub(super) all: u64,
}

/// How much there is of one log.
#[derive(Debug, Clone, Copy)]
pub(in crate::db) struct Known {
    pub(in crate::db) key: CoreKey,
    /// As far as a peer proved it.
    pub(in crate::db) length: Length,
    /// Leading blocks that are here.
    pub(in crate::db) have: Length,
}

impl Known {
    /// Of a log as it is now.
    pub(in crate::db) fn of<L: StoredLog>(log: &L) -> Self {
        let (length, have) = log.contradicted_lengths().unwrap_or_default();
        Self {
            key: log.key(),
            length: Length(length),
            have: Length(have),
        }
    }
}

impl<L: StoredLog> Logs<L> {
    /// None, for a local writer.
    #[must_use]
    pub fn new(local: CoreKey) -> Self {
        Self {
            local,
            open: BTreeMap::new(),
            handles: OrdMap::new(),
            forks: BTreeMap::new(),
            closed: BTreeMap::new(),
            filling: BTreeSet::new(),
            limited: BTreeMap::new(),
            sights: Sights::default(),
        }
    }

    /// Takes a log in. False when it is here already.
    ///
    /// # Errors
    ///
    /// When it is closed, or contradicted by its owner.
    pub fn add(&mut self, log: Arc<L>) -> Result<bool, CoreError> {
        let key = log.key();
        if self.open.contains_key(&key) {
            return Ok(false);
        }
        let mut contradiction = log.contradiction()?;
        if let Some(contradiction) = &mut contradiction
            && log.key_pair().is_ok_and(|pair| pair.is_some())
        {
            // What was under way when it was found is written all the same, and nobody else writes here.
            contradiction.blocks = Length(u64::MAX);
        }
        self.sights
            .note_if(Point::ContradictionKept, contradiction.is_some());
        let mut open = TakenLog {
            events: log.events()?,
            fed: 0,
            held: (0, Vec::new()),
            has_missed: false,
            fork: log.fork()?,
            stalled: None,
            contradiction,
            reopens: Reopens::No,
            log: Arc::clone(&log),
        };
        if let Some((fed, fork)) = self.closed.remove(&key) {
            open.fed = fed;
            open.stalled = (fork != open.fork).then_some(Stalled::Rewritten {
                kept: Length::ZERO,
                taken: Length(fed),
                fork: open.fork,
            });
        }
        self.forks
            .extend(Some((key, open.fork)).filter(|(_, fork)| *fork > 0));
        self.open.insert(key, open);
        self.handles.insert(key, log);
        self.look(&key);
        Ok(true)
    }

    /// True, once, when a log is to be opened in another session: its owner was found to contradict itself.
    pub(super) fn reopens(&mut self, key: &CoreKey) -> bool {
        let is_due = |open: &&mut TakenLog<L>| open.reopens == Reopens::Due;
        let open = self.open.get_mut(key).filter(is_due);
        open.is_some_and(|open| {
            open.reopens = Reopens::Asked;
            true
        })
    }

    /// Reads a log in another session from now on. False when it was let go of, or needs none.
    ///
    /// # Errors
    ///
    /// When it is closed.
    pub(super) fn take_anew(&mut self, log: Arc<L>) -> Result<bool, CoreError> {
        let is_asked = |open: &&mut TakenLog<L>| open.reopens == Reopens::Asked;
        let Some(open) = self.open.get_mut(&log.key()).filter(is_asked) else {
            return Ok(false);
        };
        open.contradiction = log.contradiction()?;
        open.reopens = Reopens::No;
        open.log = Arc::clone(&log);
        self.handles.insert(log.key(), log);
        Ok(true)
    }

    /// Lets go of a log, which is given; none when it is not open.
    pub(super) fn close(&mut self, key: &CoreKey) -> Option<Arc<L>> {
        let open = self.open.remove(key)?;
        self.handles.remove(key);
        if open.fed > 0 {
            self.closed.insert(*key, (open.fed, open.fork));
        }
        self.forks.remove(key);
        self.filling.remove(key);
        self.limited.remove(key);
        Some(open.log)
    }

    /// Has readers keep a log that is closed: a slip.
    pub(super) fn keep_handle(&mut self, log: &Arc<L>) {
        self.handles.insert(log.key(), Arc::clone(log));
    }

    // What there is.

    pub(in crate::db) const fn local(&self) -> CoreKey {
        self.local
    }

    pub(in crate::db) fn keys(&self) -> impl Iterator<Item = CoreKey> {
        self.open.keys().copied()
    }

    /// True when a log is open.
    pub(in crate::db) fn has(&self, key: &CoreKey) -> bool {
        self.open.contains_key(key)
    }

    /// A log that is open.
    pub(in crate::db) fn get(&self, key: &CoreKey) -> Option<&Arc<L>> {
        self.open.get(key).map(|open| &open.log)
    }

    /// Another log, which is open, is the local writer's.
    pub(super) const fn set_local(&mut self, local: CoreKey) {
        self.local = local;
    }

    /// All that are open, for readers.
    pub(super) fn handles(&self) -> OrdMap<CoreKey, Arc<L>> {
        self.handles.clone()
    }

    /// The points that it passed since the last call.
    pub(super) fn take_sights(&mut self) -> Sights {
        self.sights.take()
    }

    /// The first blocks of a core that are stored here, when they are those that were taken of it.
    pub(in crate::db) fn taken_blocks(&self, key: &CoreKey, length: Length) -> Option<Vec<Bytes>> {
        let open = self.open.get(key)?;
        let is_taken = !open.is_rewritten() && length.0 <= open.fed;
        let blocks = (0..length.0).map(|index| open.log.block(index).ok().flatten());
        is_taken.then(|| blocks.collect()).flatten()
    }

    /// The cores of which blocks are on their way that a peer has proved to exist.
    pub(super) fn filling(&self) -> impl Iterator<Item = CoreKey> {
        self.filling.iter().copied()
    }

    /// Takes note that a core changed.
    fn look(&mut self, key: &CoreKey) {
        let known = self.open.get(key).map(|open| Known::of(&*open.log));
        let end = self.limited.get(key).map_or(u64::MAX, |limit| limit.end);
        if known.is_some_and(|known| known.have.0 < known.length.0.min(end)) {
            self.filling.insert(*key);
        } else {
            self.filling.remove(key);
        }
    }

    // Limits.

    /// Fetches and takes a log up to this block only, and fetches no larger blocks; as a whole without an end. True when
    /// that is news.
    pub(super) fn limit(&mut self, key: &CoreKey, end: Option<u64>, block_bytes_max: Option<u64>) -> bool {
        let Some(end) = end else {
            let is_news = self.limited.remove(key).is_some();
            self.look(key);
            return is_news;
        };
        let is_new = !self.limited.contains_key(key);
        let limit = self.limited.entry(*key).or_default();
        let before = (limit.end, limit.block_bytes_max);
        (limit.end, limit.block_bytes_max) = (end, block_bytes_max);
        self.look(key);
        is_new || before != (end, block_bytes_max)
    }

    /// Those that are not fetched as a whole.
    pub(super) fn limited(&self) -> Vec<CoreKey> {
        self.limited.keys().copied().collect()
    }

    /// The first block of a log that is not fetched; none when it is fetched as a whole.
    pub(super) fn end(&self, key: &CoreKey) -> Option<u64> {
        self.limited.get(key).map(|limit| limit.end)
    }

    /// The most bytes of a block of a log that is fetched; none when it may have any.
    pub(super) fn block_bytes_max(&self, key: &CoreKey) -> Option<u64> {
        self.limited.get(key)?.block_bytes_max
    }

    /// Bytes of the leading blocks that are here of those that are not fetched as a whole, together.
    pub(super) fn limited_bytes(&self) -> u64 {
        self.limited.values().map(|limit| limit.bytes).sum()
    }

    /// How large a log is that is not fetched as a whole.
    pub(super) fn measure(&mut self, key: &CoreKey) -> Measured {
        let Some(open) = self.open.get(key) else {
            return Measured::default();
        };
        let here = open.log.contiguous_length().unwrap_or_default();
        let all = open.log.byte_length().unwrap_or_default();
        let limit = self.limited.entry(*key).or_default();
        if limit.counted > here {
            (limit.counted, limit.bytes, limit.fitting) = (0, 0, 0);
        }
        while limit.counted < here.min(STRANGER_BLOCKS_MAX) {
            let block = open.log.contradicted_block(limit.counted);
            let bytes = block.ok().flatten().map_or(0, |block| block.len() as u64);
            limit.bytes = limit.bytes.saturating_add(bytes);
            limit.counted += 1;
            if limit.bytes <= STRANGER_BYTES_MAX {
                limit.fitting = limit.counted;
            }
        }
        Measured {
            here,
            bytes: limit.bytes,
            fitting: limit.fitting,
            all,
        }
    }

    /// Makes blocks of a log count as not taken from this length on.
    pub(super) fn give_back(&mut self, key: &CoreKey, length: Length) {
        if let Some(open) = self.open.get_mut(key)
            && open.fed > length.0
        {
            open.fed = length.0;
            // What is before the block that freezes it can be taken again, up to the same one.
            open.stalled
                .take_if(|stalled| matches!(stalled, Stalled::Sealed(_)));
        }
        if let Some((fed, _)) = self.closed.get_mut(key) {
            *fed = length.0.min(*fed);
        }
        self.closed.retain(|_, (fed, _)| *fed > 0);
    }

    // Blocks.

    /// The blocks that came after those that were taken before, with the index of the first. None behind `end`.
    pub(super) fn take_new(
        &mut self,
        key: &CoreKey,
        end: Option<u64>,
    ) -> Result<(Index, Vec<Bytes>), CoreError> {
        self.look(key);
        let open = self.open.get_mut(key).ok_or(CoreError::Unknown)?;
        let from = Index(open.fed);
        let limit = self.limited.get(key).map_or(u64::MAX, |limit| limit.end);
        let end = limit.min(end.unwrap_or(u64::MAX));
        if let Some(Contradiction { length, fork, blocks }) = open.contradiction {
            match open.notice_rewriting() {
                Ok(()) | Err(CoreError::Signatures { .. }) => {}
                Err(error) => return Err(error),
            }
            if !open.is_rewritten() {
                open.stalled = Some(Stalled::Conflict { length, fork });
                return Ok((from, open.take_stored(end.min(blocks.0))?));
            }
        }
        if matches!(open.stalled, Some(Stalled::Conflict { .. })) {
            // What was given back can be taken again.
            return Ok((from, open.take_stored(end)?));
        }
        let taken = open.take_new(end);
        let has_missed = std::mem::take(&mut open.has_missed);
        self.sights.note_if(Point::EventsMissed, has_missed);
        match taken {
            Err(CoreError::Signatures { .. }) if open.is_rewritten() => Ok((from, Vec::new())),
            Err(CoreError::Signatures { length, fork }) => {
                open.stalled = Some(Stalled::Conflict { length, fork });
                if *key != self.local && open.reopens == Reopens::No {
                    open.reopens = Reopens::Due;
                }
                Ok((from, open.take_stored(end)?))
            }
            taken => {
                let taken = taken?;
                // Of a core that was rewritten stays what was taken before.
                let fork = Some(open.fork).filter(|fork| *fork > 0 && open.stalled.is_none());
                self.forks.extend(fork.map(|fork| (*key, fork)));
                Ok((from, taken))
            }
        }
    }

    /// The forks of the blocks that were taken; cores that are not here were never truncated.
    pub(in crate::db) const fn forks(&self) -> &BTreeMap<CoreKey, u64> {
        &self.forks
    }

    /// Makes blocks count as taken up to these lengths, before anything is taken.
    pub fn begin_at(&mut self, length: impl Fn(&CoreKey) -> Length) {
        for (key, open) in &mut self.open {
            open.fed = length(key).0;
        }
    }

    /// The same of one log.
    pub(super) fn begin_log_at(&mut self, key: &CoreKey, Length(length): Length) {
        if let Some(open) = self.open.get_mut(key) {
            open.fed = open.fed.max(length);
        }
    }

    /// So many leading blocks of each log need not be here.
    pub(in crate::db) fn pass_over(&mut self, length: impl Fn(&CoreKey) -> Length) {
        for (key, open) in &self.open {
            open.log.pass_over(length(key));
        }
        let keys: Vec<CoreKey> = self.keys().collect();
        for key in &keys {
            self.look(key);
        }
    }

    /// Makes blocks count as taken up to exactly these lengths, and nothing as stalled: the order begins elsewhere. Gives the
    /// cores that are open.
    pub(super) fn begin_anew(&mut self, length: impl Fn(&CoreKey) -> Length) -> Vec<CoreKey> {
        for (key, open) in &mut self.open {
            open.fed = length(key).0;
            open.stalled = None;
        }
        self.closed.clear();
        self.keys().collect()
    }

    /// True when all blocks of open logs that were taken are here, from the first one on, and of all other logs nothing was.
    pub(super) fn are_whole(&self, taken: impl Iterator<Item = (CoreKey, Length)>) -> bool {
        let mut taken = taken.filter(|(_, length)| *length > Length::ZERO);
        taken.all(|(key, length)| self.here(&key).is_some_and(|here| here >= length))
    }

    /// True when blocks that were taken are not those of their core any more.
    pub(super) fn are_rewritten(&self) -> bool {
        self.open.values().any(TakenLog::is_rewritten)
    }

    /// Makes blocks count as not taken from these lengths on: all, when some were rewritten. Gives the cores that are
    /// open.
    pub(super) fn feed_from(&mut self, length: impl Fn(&CoreKey) -> Length) -> Vec<CoreKey> {
        for (key, open) in &mut self.open {
            open.fed = open.fed.min(length(key).0);
            // What is wrong with its blocks is found again at the same one.
            open.stalled = None;
        }
        // What is closed is not here any more.
        self.closed.clear();
        self.open.keys().copied().collect()
    }

    /// What was taken of each log from these lengths on, read again: the first index, and the blocks.
    ///
    /// # Errors
    ///
    /// When a block that is stored cannot be read: nothing is changed.
    pub(super) fn read_again(
        &self,
        from: &BTreeMap<CoreKey, Length>,
    ) -> Result<BTreeMap<CoreKey, (u64, Vec<Bytes>)>, CoreError> {
        let mut read = BTreeMap::new();
        for (key, open) in &self.open {
            let from = from.get(key).copied().unwrap_or_default().0;
            let mut blocks = Vec::new();
            for index in from..open.fed {
                let block = match open.log.block(index) {
                    Err(CoreError::Signatures { .. }) => open.log.contradicted_block(index),
                    block => block,
                };
                match block {
                    Ok(Some(block)) => blocks.push(block),
                    // It is not here any more, or is found to be sealed otherwise again.
                    Ok(None) | Err(CoreError::Cipher(_)) => break,
                    Err(error) => return Err(error),
                }
            }
            read.insert(*key, (from, blocks));
        }
        Ok(read)
    }

    /// Blocks that were read again are taken from memory, until this is called with none.
    pub(super) fn hold(&mut self, mut read: BTreeMap<CoreKey, (u64, Vec<Bytes>)>) {
        for (key, open) in &mut self.open {
            open.held = read.remove(key).unwrap_or_default();
        }
    }

    /// Takes note that a log cannot be read: nothing more of it is taken.
    pub(super) fn give_up(&mut self, key: &CoreKey, why: &CoreError) {
        if let Some(open) = self.open.get_mut(key) {
            let why = why.to_string();
            open.stalled = Some(Stalled::Unreadable { why });
        }
    }

    /// Why nothing more of a core is taken; none when all is well with it.
    pub(in crate::db) fn stalled(&self, key: &CoreKey) -> Option<&Stalled> {
        self.open.get(key)?.stalled.as_ref()
    }

    /// How much of a core peers may see.
    pub(in crate::db) fn offered_length(&self, key: &CoreKey) -> Length {
        let offered = self.get(key).and_then(|log| log.offered_length().ok());
        Length(offered.unwrap_or_default())
    }

    /// How many leading blocks of a core were taken.
    pub(in crate::db) fn taken(&self, key: &CoreKey) -> Length {
        Length(self.open.get(key).map_or(0, |open| open.fed))
    }

    /// How many leading blocks of a core are here; none when it is not open.
    pub(in crate::db) fn here(&self, key: &CoreKey) -> Option<Length> {
        self.get(key)?.contiguous_length().ok().map(Length)
    }

    /// How long a core is, as far as it is proven; none when it is not open.
    pub(in crate::db) fn proven(&self, key: &CoreKey) -> Option<Length> {
        self.get(key)?.length().ok().map(Length)
    }

    /// How long the local log is.
    pub(in crate::db) fn local_length(&self) -> Result<Length, CoreError> {
        let log = self.get(&self.local).ok_or(CoreError::Unknown)?;
        log.length().map(Length)
    }

    /// Lets go of all.
    pub(super) fn clear(&mut self) {
        self.limited.clear();
        self.open.clear();
        self.handles.clear();
    }
}

/// How many blocks of its batch come before the last one of these.
///
/// Those are counted by what they say of the blocks behind them, which every peer checks. What the last one says of
/// them nobody does.
pub(in crate::db) fn blocks_before<L: StoredLog>(log: &L, last: Length) -> Option<u64> {
    let block = |index: u64| {
        let block = log.block(index).ok()??;
        OplogBlock::from_bytes(&block).ok()
    };
    let last = last.last()?.0;
    if block(last)?.version < VERSION {
        return Some(0);
    }
    let is_before = |before: &u64| {
        let found = last.checked_sub(*before).and_then(block);
        found.is_some_and(|block| block.batch.after == *before)
    };
    Some((1..=last).take_while(is_before).count() as u64)
}
