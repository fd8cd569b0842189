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
use thiserror::Error;

use super::log::{LogEvents as _, StoredLog};
use crate::crypto::CoreKey;
use crate::engine::encryption::KeyMismatch;
use crate::engine::{Frozen, STRANGER_BLOCKS_MAX, STRANGER_BYTES_MAX};
use crate::env::{Point, Sights};
use crate::hypercore::encryption::CipherError;
use crate::hypercore::{Contradiction, CoreError, CoreEvent};
use crate::wire::oplog::{OplogBlock, VERSION};
use crate::wire::{Decode as _, Index, Length};

/// The open logs of a database.
pub struct Logs<L: StoredLog> {
    local: CoreKey,
    open: BTreeMap<CoreKey, Member<L>>,
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

struct Member<L: StoredLog> {
    log: Arc<L>,
    events: L::Events,
    /// Leading blocks that the engine has.
    fed: u64,
    /// Blocks in memory, and the index of the first of them.
    held: (u64, Vec<Bytes>),
    /// Events were missed since the last look.
    has_missed: bool,
    /// The fork that they are of.
    fork: u64,
    stalled: Option<Stalled>,
    /// What was found of its owner before it was opened.
    contradiction: Option<Contradiction>,
    /// It is to be opened in another session, as that ended with what was found of its owner.
    reopens: Reopens,
}

/// Whether a log is opened in another session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reopens {
    /// It need not be.
    No,
    /// It is asked for next.
    Due,
    /// It was asked for.
    Asked,
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

/// Why nothing more of a core is taken. The database goes on without it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Stalled {
    /// Its owner rewrote blocks that were in the order already. They stay there until the database is opened again, or
    /// the order is made anew for another reason.
    #[error("its owner rewrote it from block {kept} on, and {taken} blocks were taken before")]
    Rewritten {
        /// Leading blocks that are as before, as far as is known.
        kept: u64,
        /// Leading blocks that were taken.
        taken: u64,
        /// The fork that replaced them.
        fork: u64,
    },
    /// Its owner signed two logs of the same length.
    #[error("its owner signed two logs of {length} blocks at fork {fork}")]
    Conflict {
        /// The length.
        length: u64,
        /// The fork.
        fork: u64,
    },
    /// It holds a block that is not encrypted as it should be.
    #[error(transparent)]
    Sealed(CipherError),
    /// It holds a block that no peer takes.
    #[error(transparent)]
    Frozen(#[from] Frozen),
    /// It is encrypted with another key than this peer has, or with none.
    #[error(transparent)]
    Encryption(#[from] KeyMismatch),
    /// It cannot be read here. It is tried again when the database is opened.
    #[error("it cannot be read: {why}")]
    Unreadable {
        /// What the store said.
        why: String,
    },
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
        let mut member = Member {
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
            member.fed = fed;
            member.stalled = (fork != member.fork).then_some(Stalled::Rewritten {
                kept: 0,
                taken: fed,
                fork: member.fork,
            });
        }
        self.forks
            .extend(Some((key, member.fork)).filter(|(_, fork)| *fork > 0));
        self.open.insert(key, member);
        self.handles.insert(key, log);
        self.look(&key);
        Ok(true)
    }

    /// True, once, when a log is to be opened in another session: its owner was found to contradict itself.
    pub(super) fn reopens(&mut self, key: &CoreKey) -> bool {
        let is_due = |member: &&mut Member<L>| member.reopens == Reopens::Due;
        let member = self.open.get_mut(key).filter(is_due);
        member.is_some_and(|member| {
            member.reopens = Reopens::Asked;
            true
        })
    }

    /// Reads a log in another session from now on. False when it was let go of, or needs none.
    ///
    /// # Errors
    ///
    /// When it is closed.
    pub(super) fn take_anew(&mut self, log: Arc<L>) -> Result<bool, CoreError> {
        let is_asked = |member: &&mut Member<L>| member.reopens == Reopens::Asked;
        let Some(member) = self.open.get_mut(&log.key()).filter(is_asked) else {
            return Ok(false);
        };
        member.contradiction = log.contradiction()?;
        member.reopens = Reopens::No;
        member.log = Arc::clone(&log);
        self.handles.insert(log.key(), log);
        Ok(true)
    }

    /// Lets go of a log, which is given; none when it is not open.
    pub(super) fn close(&mut self, key: &CoreKey) -> Option<Arc<L>> {
        let member = self.open.remove(key)?;
        self.handles.remove(key);
        if member.fed > 0 {
            self.closed.insert(*key, (member.fed, member.fork));
        }
        self.forks.remove(key);
        self.filling.remove(key);
        self.limited.remove(key);
        Some(member.log)
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
        self.open.get(key).map(|member| &member.log)
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
        let member = self.open.get(key)?;
        let is_taken = !member.is_rewritten() && length.0 <= member.fed;
        let blocks = (0..length.0).map(|index| member.log.block(index).ok().flatten());
        is_taken.then(|| blocks.collect()).flatten()
    }

    /// The cores of which blocks are on their way that a peer has proved to exist.
    pub(super) fn filling(&self) -> impl Iterator<Item = CoreKey> {
        self.filling.iter().copied()
    }

    /// Takes note that a core changed.
    fn look(&mut self, key: &CoreKey) {
        let known = self.open.get(key).map(|member| Known::of(&*member.log));
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
        let Some(member) = self.open.get(key) else {
            return Measured::default();
        };
        let here = member.log.contiguous_length().unwrap_or_default();
        let all = member.log.byte_length().unwrap_or_default();
        let limit = self.limited.entry(*key).or_default();
        if limit.counted > here {
            (limit.counted, limit.bytes, limit.fitting) = (0, 0, 0);
        }
        while limit.counted < here.min(STRANGER_BLOCKS_MAX) {
            let block = member.log.contradicted_block(limit.counted);
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
        if let Some(member) = self.open.get_mut(key)
            && member.fed > length.0
        {
            member.fed = length.0;
            // What is before the block that freezes it can be taken again, up to the same one.
            member
                .stalled
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
        let member = self.open.get_mut(key).ok_or(CoreError::Unknown)?;
        let from = Index(member.fed);
        let limit = self.limited.get(key).map_or(u64::MAX, |limit| limit.end);
        let end = limit.min(end.unwrap_or(u64::MAX));
        if let Some(Contradiction { length, fork, blocks }) = member.contradiction {
            match member.notice_rewriting() {
                Ok(()) | Err(CoreError::Signatures { .. }) => {}
                Err(error) => return Err(error),
            }
            if !member.is_rewritten() {
                let length = length.0;
                member.stalled = Some(Stalled::Conflict { length, fork });
                return Ok((from, member.take_stored(end.min(blocks.0))?));
            }
        }
        if matches!(member.stalled, Some(Stalled::Conflict { .. })) {
            // What was given back can be taken again.
            return Ok((from, member.take_stored(end)?));
        }
        let taken = member.take_new(end);
        let has_missed = std::mem::take(&mut member.has_missed);
        self.sights.note_if(Point::EventsMissed, has_missed);
        match taken {
            Err(CoreError::Signatures { .. }) if member.is_rewritten() => Ok((from, Vec::new())),
            Err(CoreError::Signatures { length, fork }) => {
                member.stalled = Some(Stalled::Conflict { length, fork });
                if *key != self.local && member.reopens == Reopens::No {
                    member.reopens = Reopens::Due;
                }
                Ok((from, member.take_stored(end)?))
            }
            taken => {
                let taken = taken?;
                // Of a core that was rewritten stays what was taken before.
                let fork = Some(member.fork).filter(|fork| *fork > 0 && member.stalled.is_none());
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
        for (key, member) in &mut self.open {
            member.fed = length(key).0;
        }
    }

    /// The same of one log.
    pub(super) fn begin_log_at(&mut self, key: &CoreKey, Length(length): Length) {
        if let Some(member) = self.open.get_mut(key) {
            member.fed = member.fed.max(length);
        }
    }

    /// So many leading blocks of each log need not be here.
    pub(in crate::db) fn pass_over(&mut self, length: impl Fn(&CoreKey) -> Length) {
        for (key, member) in &self.open {
            member.log.pass_over(length(key));
        }
        let keys: Vec<CoreKey> = self.keys().collect();
        for key in &keys {
            self.look(key);
        }
    }

    /// Makes blocks count as taken up to exactly these lengths, and nothing as stalled: the order begins elsewhere. Gives the
    /// cores that are open.
    pub(super) fn begin_anew(&mut self, length: impl Fn(&CoreKey) -> Length) -> Vec<CoreKey> {
        for (key, member) in &mut self.open {
            member.fed = length(key).0;
            member.stalled = None;
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
        self.open.values().any(Member::is_rewritten)
    }

    /// Makes blocks count as not taken from these lengths on: all, when some were rewritten. Gives the cores that are
    /// open.
    pub(super) fn feed_from(&mut self, length: impl Fn(&CoreKey) -> Length) -> Vec<CoreKey> {
        for (key, member) in &mut self.open {
            member.fed = member.fed.min(length(key).0);
            // What is wrong with its blocks is found again at the same one.
            member.stalled = None;
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
        for (key, member) in &self.open {
            let from = from.get(key).copied().unwrap_or_default().0;
            let mut blocks = Vec::new();
            for index in from..member.fed {
                let block = match member.log.block(index) {
                    Err(CoreError::Signatures { .. }) => member.log.contradicted_block(index),
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
        for (key, member) in &mut self.open {
            member.held = read.remove(key).unwrap_or_default();
        }
    }

    /// Takes note that a log cannot be read: nothing more of it is taken.
    pub(super) fn give_up(&mut self, key: &CoreKey, why: &CoreError) {
        if let Some(member) = self.open.get_mut(key) {
            let why = why.to_string();
            member.stalled = Some(Stalled::Unreadable { why });
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
        Length(self.open.get(key).map_or(0, |member| member.fed))
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

impl<L: StoredLog> Member<L> {
    fn take_new(&mut self, end: u64) -> Result<Vec<Bytes>, CoreError> {
        loop {
            self.notice_rewriting()?;
            if self.stalled.is_some() {
                return Ok(Vec::new());
            }
            let mut blocks = Vec::new();
            // Nothing counts as taken when one of them cannot be read.
            let mut next = self.fed;
            let mut sealed = None;
            while next < end {
                match self
                    .held(next)
                    .map_or_else(|| self.log.block(next), |block| Ok(Some(block)))
                {
                    Ok(Some(block)) => blocks.push(block),
                    Ok(None) => break,
                    Err(CoreError::Cipher(source)) => {
                        sealed = Some(source);
                        break;
                    }
                    Err(error) => return Err(error),
                }
                next += 1;
            }
            // Blocks of two forks would be mixed otherwise.
            if self.log.fork()? == self.fork {
                self.fed = next;
                self.stalled = sealed.map(Stalled::Sealed);
                return Ok(blocks);
            }
        }
    }

    /// A block that is in memory.
    fn held(&self, index: u64) -> Option<Bytes> {
        let (from, blocks) = &self.held;
        let at = usize::try_from(index.checked_sub(*from)?).ok()?;
        blocks.get(at).cloned()
    }

    /// The blocks that are stored, of a core that is closed for good.
    fn take_stored(&mut self, end: u64) -> Result<Vec<Bytes>, CoreError> {
        let mut blocks = Vec::new();
        // Nothing counts as taken when one of them cannot be read.
        let mut next = self.fed;
        while next < end {
            let held = self.held(next);
            // One that is damaged is dropped, and fetched again as long as the log is open.
            let read = || match self.log.block(next) {
                Err(CoreError::Signatures { .. }) => self.log.contradicted_block(next),
                block => block,
            };
            match held.map_or_else(read, |block| Ok(Some(block))) {
                Ok(Some(block)) => blocks.push(block),
                Ok(None) | Err(CoreError::Cipher(_)) => break,
                Err(error) => return Err(error),
            }
            next += 1;
        }
        self.fed = next;
        Ok(blocks)
    }

    const fn is_rewritten(&self) -> bool {
        matches!(self.stalled, Some(Stalled::Rewritten { .. }))
    }

    /// Looks whether blocks that were taken are not those of the core any more.
    fn notice_rewriting(&mut self) -> Result<(), CoreError> {
        let fork = self.log.fork()?;
        let mut kept = u64::MAX;
        while let Some(event) = self.events.try_next() {
            match event {
                CoreEvent::Truncate { ancestors, .. } => kept = ancestors.min(kept),
                CoreEvent::Missed(_) => {
                    self.has_missed = true;
                    if fork != self.fork {
                        // Perhaps a truncation was among them.
                        kept = 0;
                    }
                }
                _ => {}
            }
        }
        self.fork = fork;
        if kept < self.fed {
            self.stalled = Some(Stalled::Rewritten {
                kept,
                taken: self.fed,
                fork,
            });
        }
        Ok(())
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
