//! The way of an own batch into the order, and from there into the log.
//!
//! ```text
//! append   composes the batch on what is applied; hands it to the engine
//! drain    the portion that comes to the end stamps the batch, and has it written
//! written  what became of it is told to whoever waits for it
//! ```
//!
//! A caller that goes away in between leaves its batch to the next drain. When the store fails, the engine holds a batch
//! that nobody else will ever see: it stops, and the database has to be opened again. When the log went on elsewhere, or is
//! contradicted, the append is refused, and the order is made anew without its batch. Nothing of that batch was
//! acknowledged.
//!
//! Source: spec/autobee.md 4, 6 "Ack", 7.4.

use std::sync::Arc;

use bytes::Bytes;

use super::fetch::EngineLogs;
use super::log::StoredLog;
use super::logs::Logs;
use super::record::TreeCommit;
use super::{Effect, Machine, Now, Stalled};
use crate::crypto::CoreKey;
use crate::db::{Appended, Event};
use crate::engine::{ComposeError, OwnBatch};
use crate::env::{Crypto, Point, TraceEvent};
use crate::error::Error;
use crate::hypercore::CoreError;
use crate::store::Seq;
use crate::wire::Length;

/// The own batch on its way. There is at most one.
#[derive(Default)]
pub(super) struct Own {
    pub(super) pending: Option<UnwrittenBatch>,
    /// What became of the last one that somebody waits for.
    pub(super) outcome: Option<Result<(Length, Seq), Error>>,
    /// Peers may have more of the own log than is here: what would be written might stand where other entries do.
    pub(super) is_unconfirmed: bool,
    /// Listeners were told that an acknowledgement waits for that.
    pub(super) is_ack_told: bool,
}

/// In the engine, not in the log.
pub(super) struct UnwrittenBatch {
    pub(super) batch: OwnBatch,
    /// A caller waits for it.
    pub(super) is_awaited: bool,
}

impl<C: Crypto, L: StoredLog> Machine<C, L> {
    /// Hands a batch to the engine. What becomes of it is told by the drain that settles it.
    pub(super) fn begin(&mut self, values: &[Bytes], optimistic: bool, now: Now) -> Result<(), Error> {
        if self.is_closed {
            return Err(Error::Closed);
        }
        let local = self.logs.local();
        if self.own.is_unconfirmed {
            return Err(Error::Unconfirmed { local });
        }
        if let Some(Stalled::Conflict { length, .. }) = self.logs.stalled(&local) {
            return Err(Error::Contradicted {
                local,
                length: *length,
            });
        }
        let length = self.logs.local_length();
        let length = length.map_err(|error| log_error(local, error))?;
        let taken = self.logs.taken(&local);
        if taken < length && self.logs.stalled(&local).is_none() {
            // More of it comes from a peer.
            return Err(Error::Unconfirmed { local });
        }
        if taken < length {
            return Err(Error::Corrupt {
                file: "store".into(),
                what: format!(
                    "the local log has {} blocks, of which the first {} can be read",
                    length.0, taken.0
                ),
            });
        }
        self.sights.note_if(Point::ManyValues, values.len() > 1);
        let Self { engine, logs, .. } = self;
        let batch = engine
            .append(values, optimistic, now.wall, |key| manifest(logs, key))
            .map_err(|error| compose_error(local, error))?;
        self.own.pending = Some(UnwrittenBatch {
            batch,
            is_awaited: true,
        });
        Ok(())
    }

    /// True while an own batch is in the engine and not in the log.
    pub fn has_own_batch(&self) -> bool {
        self.own.pending.is_some()
    }

    /// Another log is the local writer's. The one of before stays what it is to the engine, and is fetched as those of
    /// others are: its key pair may be used elsewhere.
    pub(super) fn set_local(&mut self, log: Arc<L>, is_unconfirmed: bool, now: Now) {
        let (from, to) = (self.logs.local(), log.key());
        let is_new = match self.logs.add(log) {
            Ok(is_new) => is_new,
            Err(error) => return self.failed("the log of the local writer", &Error::from(error)),
        };
        self.logs.set_local(to);
        self.own = Own {
            is_unconfirmed,
            ..Own::default()
        };
        self.engine.change_local(to);
        self.effects.push(Effect::Tell(Event::Rotated { from, to }));
        let is_writable = self.engine.is_writer(&to);
        self.effects
            .extend(self.news.rotated(is_writable).map(Effect::Tell));
        self.released.remove(&to);
        self.turns.remove(&to);
        let Self {
            engine, logs, wanted, ..
        } = self;
        let view = EngineLogs::new(engine, logs, self.planted);
        wanted.set_local(&to, &[from], &view, now.mono);
        for core in [from, to] {
            self.allow(&core);
            self.download(&core);
        }
        if is_new {
            self.effects.push(Effect::Follow(to));
        } else {
            // What waited for its turn, or had left the set, takes part.
            self.feed_or_give_up(&to, now);
        }
        self.note_stalled(&from);
        self.note_stalled(&to);
        self.effects
            .extend([Effect::ChooseLogs, Effect::Drain, Effect::Notify]);
    }

    /// Nobody waits any longer for the own batch: it is on its way, or it was written.
    pub(super) fn abandon(&mut self) {
        if let Some(pending) = &mut self.own.pending {
            pending.is_awaited = false;
        }
        match self.own.outcome.take() {
            Some(Ok((_, seq))) => self.effects.push(Effect::Sync(seq)),
            Some(Err(error)) => self.failed("an append that nobody waits for", &error),
            None => {}
        }
    }

    /// Begins the batch that acknowledges a stranger's, if one is owed. True when there is more to drain now.
    pub(super) fn begin_ack(&mut self, now: Now) -> bool {
        let local = self.logs.local();
        let is_whole = self
            .logs
            .local_length()
            .is_ok_and(|length| length == self.logs.taken(&local));
        let is_contradicted = matches!(self.logs.stalled(&local), Some(Stalled::Conflict { .. }));
        let is_refused = self.own.is_unconfirmed || is_contradicted;
        if is_refused && self.engine.owes_ack() && !self.own.is_ack_told {
            self.own.is_ack_told = true;
            self.effects.push(Effect::Tell(Event::Unacknowledged));
        }
        if is_refused || !is_whole {
            return false;
        }
        let Self { engine, logs, .. } = self;
        let batch = engine.append_ack(now.wall, |key| manifest(logs, key));
        // Nobody waits for an acknowledgement: what cannot be acknowledged is not.
        let batch = batch.unwrap_or_else(|error| {
            self.failed("an acknowledgement", &error);
            None
        });
        self.own.pending = batch.map(|batch| UnwrittenBatch {
            batch,
            is_awaited: false,
        });
        let has_begun = self.own.pending.is_some();
        self.sights.note_if(Point::AckBegun, has_begun);
        has_begun
    }

    /// Stamps an own batch: its blocks, and the trees, about which they speak, are to be written together.
    pub(super) fn stamp(&mut self, batch: OwnBatch) -> Result<TreeCommit, Error> {
        let local = self.logs.local();
        let log = self.logs.get(&local).ok_or(CoreError::Unknown)?;
        let length = log.length().map_err(|error| log_error(local, error))?;
        if batch.first().0 != length + 1 {
            // Entries of it came from a peer while this batch was applied.
            return Err(Error::Unconfirmed { local });
        }
        let pair = log.key_pair().map_err(|error| log_error(local, error))?;
        let pair = pair.ok_or(CoreError::NotWritable)?;
        let own = self.engine.stamp(batch, &self.crypto, &pair.secret);
        let own = own.map_err(|error| Error::Internal {
            what: error.to_string(),
        })?;
        let mut trees = self.record.write(self.logs.forks(), &mut self.engine)?;
        self.slip_in(&mut trees);
        Ok(TreeCommit { own, ..trees })
    }

    /// The own batch that ends at this length, and what became of it up to now.
    pub fn appended_at(&self, length: Length) -> Appended {
        Appended {
            core: self.logs.local(),
            length,
            outcome: self.engine.outcome(length),
        }
    }

    /// Own blocks were written, with the trees. Gives the length of the log.
    pub(super) fn appended(&mut self, length: Length, values: usize, now: Now) -> Result<Length, Error> {
        let core = self.logs.local();
        self.feed(&core, now)?;
        self.trace(|| TraceEvent::Appended {
            core,
            length: length.0,
            values: values as u64,
        });
        Ok(length)
    }
}

fn manifest<L: StoredLog>(logs: &Logs<L>, key: &CoreKey) -> Option<Bytes> {
    // Without its manifest a backer does not count, and there may be another one.
    logs.get(key)?.manifest().ok()?
}

/// What keeps the own log from growing.
pub(in crate::db) fn log_error(local: CoreKey, error: CoreError) -> Error {
    match error {
        CoreError::Signatures { length, .. } => Error::Contradicted { local, length },
        error => error.into(),
    }
}

fn compose_error(local: CoreKey, error: ComposeError) -> Error {
    match error {
        ComposeError::NotWritable(local) => Error::NotWritable { local },
        ComposeError::NoRoom { blocks, bytes } => Error::NoRoom { local, blocks, bytes },
        other => Error::Invalid {
            what: other.to_string(),
        },
    }
}
