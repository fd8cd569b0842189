//! One open log of a database, and how its blocks are taken.

use std::sync::Arc;

use bytes::Bytes;

use super::log::{LogEvents as _, StoredLog};
use super::stalled::Stalled;
use crate::hypercore::{Contradiction, CoreError, CoreEvent};
use crate::wire::Length;

/// One open log: what of it went to the engine, and why nothing more does.
pub(super) struct TakenLog<L: StoredLog> {
    pub(super) log: Arc<L>,
    pub(super) events: L::Events,
    /// Leading blocks that the engine has.
    pub(super) fed: u64,
    /// Blocks in memory, and the index of the first of them.
    pub(super) held: (u64, Vec<Bytes>),
    /// Events were missed since the last look.
    pub(super) has_missed: bool,
    /// The fork that they are of.
    pub(super) fork: u64,
    pub(super) stalled: Option<Stalled>,
    /// What was found of its owner before it was opened.
    pub(super) contradiction: Option<Contradiction>,
    /// It is to be opened in another session, as that ended with what was found of its owner.
    pub(super) reopens: Reopens,
}

/// Whether a log is opened in another session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reopens {
    /// It need not be.
    No,
    /// It is asked for next.
    Due,
    /// It was asked for.
    Asked,
}

impl<L: StoredLog> TakenLog<L> {
    pub(super) fn take_new(&mut self, end: u64) -> Result<Vec<Bytes>, CoreError> {
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
    pub(super) fn take_stored(&mut self, end: u64) -> Result<Vec<Bytes>, CoreError> {
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

    pub(super) const fn is_rewritten(&self) -> bool {
        matches!(self.stalled, Some(Stalled::Rewritten { .. }))
    }

    /// Looks whether blocks that were taken are not those of the core any more.
    pub(super) fn notice_rewriting(&mut self) -> Result<(), CoreError> {
        let fork = self.log.fork()?;
        let mut kept = u64::MAX;
        while let Some(event) = self.events.try_next() {
            match event {
                CoreEvent::Truncate { ancestors, .. } => kept = ancestors.0.min(kept),
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
                kept: Length(kept),
                taken: Length(self.fed),
                fork,
            });
        }
        Ok(())
    }
}
