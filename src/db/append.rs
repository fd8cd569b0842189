//! The way of an own batch into the order, and from there into the log.
//!
//! ```text
//! append   waits for its turn; composes the batch on what is applied; hands it to the engine
//! drain    whoever drains to the end, the caller or another task, stamps the batch and writes it, in the same step
//! append   takes what became of it, ends its turn, and waits for the sync: one sync covers many
//! ```
//!
//! A caller that goes away in between leaves its batch to the next drain, and sees to it that there is one. When the
//! log cannot be written, the engine holds a batch that nobody else will ever see: it stops, and the database has to
//! be opened again. Nothing of that batch was acknowledged.
//!
//! Source: spec/autobee.md 4, 6 "Ack", 7.4.

use std::sync::Arc;

use bytes::Bytes;

use super::shared::{LATE, Shared, State, lock};
use crate::crypto::CoreKey;
use crate::engine::{ComposeError, Drained, OwnBatch, Stop};
use crate::env::{Clock as _, Env, Point, Slip, Spawn as _, TraceEvent};
use crate::error::Error;
use crate::hypercore::CoreError;
use crate::store::Seq;
use crate::wire::{Length, Timestamp};

/// The own batch on its way. There is at most one.
#[derive(Default)]
pub(super) struct Own {
    pending: Option<Pending>,
    /// What became of the last one that somebody waits for.
    outcome: Option<Result<(Length, Seq), Error>>,
}

/// In the engine, not in the log.
struct Pending {
    batch: OwnBatch,
    /// A caller waits for it.
    is_awaited: bool,
}

impl<E: Env> Shared<E> {
    /// Appends one batch to the local log. It is visible here, and written with the commit that is returned.
    pub(super) async fn append(
        self: &Arc<Self>,
        values: &[Bytes],
        optimistic: bool,
    ) -> Result<(Length, Seq), Error> {
        let _turn = self.appending.lock().await;
        // A batch links what is applied here, so what is here must be applied first.
        self.drain().await?;
        if self.env.buggify("late_append") {
            self.env.clock().sleep(LATE).await;
        }
        self.env.sometimes(Point::ManyValues, values.len() > 1);
        lock(&self.state).begin(values, optimistic, self.now())?;
        let mut unfinished = Unfinished {
            shared: self,
            is_over: false,
        };
        let drained = self.drain().await;
        unfinished.is_over = true;
        match lock(&self.state).own.outcome.take() {
            Some(outcome) => outcome,
            None => Err(drained.err().unwrap_or(Error::Closed)),
        }
    }
}

/// Sees to it that a batch is written whose caller went away.
struct Unfinished<'a, E: Env> {
    shared: &'a Arc<Shared<E>>,
    is_over: bool,
}

impl<E: Env> Drop for Unfinished<'_, E> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // It is still our turn: what is on its way, or over, is ours.
        let written = {
            let mut state = lock(&self.shared.state);
            if let Some(pending) = &mut state.own.pending {
                pending.is_awaited = false;
            }
            state.own.outcome.take()
        };
        if let Some(Ok((_, seq))) =
            written.filter(|_| !self.shared.store.planted().has(Slip::AbandonedUnsynced))
        {
            self.shared.sync_later(seq);
        }
        let shared = Arc::clone(self.shared);
        self.shared.env.spawn().spawn("finish an append", async move {
            // The state remembers what went wrong with applying.
            let _ = shared.drain().await;
        });
    }
}

impl<E: Env> State<E> {
    /// Hands a batch to the engine. What becomes of it is told by the drain that settles it.
    fn begin(&mut self, values: &[Bytes], optimistic: bool, now: Timestamp) -> Result<(), Error> {
        self.check_open()?;
        self.own.outcome = None;
        let (length, taken) = (self.cores.local_length()?, self.cores.taken(&self.cores.local()));
        if taken < length {
            return Err(Error::Corrupt {
                file: "store".into(),
                what: format!(
                    "the local log has {} blocks, of which the first {} can be read",
                    length.0, taken.0
                ),
            });
        }
        let Self { engine, cores, .. } = self;
        let manifests = |key: &CoreKey| {
            let manifest = cores.get(key)?.manifest().ok()??;
            Some(Bytes::copy_from_slice(manifest.as_bytes()))
        };
        let batch = engine
            .append(values, optimistic, now, manifests)
            .map_err(compose_error)?;
        self.own.pending = Some(Pending {
            batch,
            is_awaited: true,
        });
        Ok(())
    }

    /// What a drain ends with: the own batch that it applied is written. When there is none and one is owed, which
    /// acknowledges a stranger's, that is begun, and there is more to drain. Gives the commit that nobody waits for.
    ///
    /// When the drain ends with an error here, the state of the engine must not be stored: it may hold an own batch
    /// that the log has not.
    pub(super) fn settle(&mut self, ended: &mut Result<Drained, Stop>, now: Timestamp) -> Option<Seq> {
        match ended {
            Ok(drained) if drained.more => None,
            Ok(drained) => {
                let Some(Pending { batch, is_awaited }) = self.own.pending.take() else {
                    drained.more = drained.missing.is_none() && self.begin_ack(now);
                    return None;
                };
                let written = self.write(batch);
                if let Err(error) = &written {
                    let reason = format!("an entry could not be written to the local log: {error}");
                    self.engine.give_up(&reason);
                    *ended = Err(Stop { reason });
                }
                if is_awaited {
                    self.own.outcome = Some(written);
                    return None;
                }
                written.ok().map(|(_, seq)| seq)
            }
            Err(stop) => {
                if self.own.pending.take().is_some_and(|pending| pending.is_awaited) {
                    let reason = stop.reason.clone();
                    self.own.outcome = Some(Err(Error::Interrupted { reason }));
                }
                None
            }
        }
    }

    fn begin_ack(&mut self, now: Timestamp) -> bool {
        let Self { engine, cores, .. } = self;
        let manifests = |key: &CoreKey| {
            let manifest = cores.get(key)?.manifest().ok()??;
            Some(Bytes::copy_from_slice(manifest.as_bytes()))
        };
        // Nobody waits for an acknowledgement: what cannot be acknowledged is not.
        let batch = engine.append_ack(now, manifests).ok().flatten();
        self.own.pending = batch.map(|batch| Pending {
            batch,
            is_awaited: false,
        });
        let has_begun = self.own.pending.is_some();
        self.cores.store().env().sometimes(Point::AckBegun, has_begun);
        has_begun
    }

    /// Stamps an own batch, and signs and writes its blocks. They are durable with the commit.
    fn write(&mut self, batch: OwnBatch) -> Result<(Length, Seq), Error> {
        let local = self.cores.local();
        let core = self.cores.get(&local).ok_or(CoreError::Unknown)?;
        let length = core.length()?;
        if batch.first().0 != length + 1 {
            return Err(Error::Internal {
                what: format!(
                    "the local log has {length} blocks, and the next entry is its block {}",
                    batch.first().0
                ),
            });
        }
        let pair = core.key_pair()?.ok_or(CoreError::NotWritable)?;
        let crypto = self.cores.store().env().crypto().clone();
        let blocks = self.engine.stamp(batch, &crypto, &pair.secret);
        let blocks = blocks.map_err(|error| Error::Internal {
            what: error.to_string(),
        })?;
        let values = blocks.len() as u64;
        let (length, seq) = self.append(blocks)?;
        self.cores.store().env().trace(|| TraceEvent::Appended {
            core: local,
            length: length.0,
            values,
        });
        Ok((length, seq))
    }
}

fn compose_error(error: ComposeError) -> Error {
    match error {
        ComposeError::NotWritable(local) => Error::NotWritable { local },
        other => Error::Invalid {
            what: other.to_string(),
        },
    }
}
