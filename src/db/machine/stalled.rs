//! Logs of which nothing more is taken, and blocks that were dropped: what is noted, and who is told.

use thiserror::Error;

use super::log::StoredLog;
use super::{Effect, Event, Machine};
use crate::crypto::CoreKey;
use crate::engine::Frozen;
use crate::engine::encryption::KeyMismatch;
use crate::env::{Crypto, Point, TraceEvent};
use crate::hypercore::encryption::CipherError;
use crate::wire::Length;

/// Why nothing more of a core is taken. The database goes on without it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Stalled {
    /// Its owner rewrote blocks that were in the order already. They stay there until the database is opened again, or
    /// the order is made anew for another reason.
    #[error("its owner rewrote it from block {kept} on, and {taken} blocks were taken before")]
    Rewritten {
        /// Leading blocks that are as before, as far as is known.
        kept: Length,
        /// Leading blocks that were taken.
        taken: Length,
        /// The fork that replaced them.
        fork: u64,
    },
    /// Its owner signed two logs of the same length.
    #[error("its owner signed two logs of {length} blocks at fork {fork}")]
    Conflict {
        /// The length.
        length: Length,
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

impl<C: Crypto, L: StoredLog> Machine<C, L> {
    /// Says which blocks of a log were dropped, as the disk gave other bytes of them than were written.
    pub(super) fn note_rotten(&mut self, key: &CoreKey) {
        let rotten = self
            .logs
            .get(key)
            .map(|log| log.take_rotten())
            .unwrap_or_default();
        for index in rotten {
            let what = format!("block {index} of {key} is damaged here, and is fetched from peers again");
            self.trace(|| TraceEvent::Failed {
                what: "reading a block".into(),
                why: what.clone(),
            });
            self.sights.note(Point::RotDropped);
            self.effects.push(Effect::Tell(Event::Error { what }));
        }
    }

    /// Why nothing more of a log is taken.
    pub(super) fn note_stalled(&mut self, key: &CoreKey) {
        self.check_key(key);
        let frozen = self.engine.frozen(key).cloned().map(Stalled::Frozen);
        match frozen.or_else(|| self.logs.stalled(key).cloned()) {
            _ if self.mismatch.is_some() && *key == self.engine.key() => {}
            Some(stalled) => {
                let is_conflict = |why: &Stalled| matches!(why, Stalled::Conflict { .. });
                let was_conflict = self.stalled.get(key).is_some_and(is_conflict);
                if let Stalled::Conflict { length, .. } = stalled
                    && *key == self.logs.local()
                    && !was_conflict
                {
                    self.sights.note(Point::OwnLogContradicted);
                    self.effects.push(Effect::Tell(Event::Contradicted { length }));
                }
                self.stalled.insert(*key, stalled);
            }
            // A persistent map that readers share is copied to be changed, also where nothing is.
            None if self.stalled.contains_key(key) => _ = self.stalled.remove(key),
            None => {}
        }
    }

    /// Looks whether the creator's log is encrypted as the key says. Nobody else's log tells: strangers write what they like.
    pub(super) fn check_key(&mut self, key: &CoreKey) {
        if *key != self.engine.key() || self.mismatch.is_some() || self.engine.batches() > 0 {
            return;
        }
        let Some(mismatch) = self.logs.get(key).and_then(|log| log.key_mismatch()) else {
            return;
        };
        self.mismatch = Some(mismatch);
        self.stalled.insert(*key, Stalled::Encryption(mismatch));
        let what = mismatch.to_string();
        self.sights.note(Point::KeyContradicted);
        self.effects.push(Effect::Tell(Event::Error { what }));
    }
}
