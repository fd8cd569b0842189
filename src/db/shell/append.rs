//! Appending: one caller after the other.
//!
//! ```text
//! append   waits for its turn; everything that is here is applied; hands its batch to the machine
//! drain    whoever drains to the end, the caller or another task, has the batch written, in the same step
//! append   takes what became of it, ends its turn, and waits for the sync: one sync covers many
//! ```
//!
//! A caller that goes away in between leaves its batch to the next drain, and sees to it that there is one.

use std::sync::{Arc, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{LATE, MachineOf, Shell, told};
use crate::db::Appended;
use crate::db::machine::Input;
use crate::env::{BoxFuture, Clock as _, Env, Slip, Spawn as _, TraceEvent};
use crate::error::Error;
use crate::store::Seq;

impl<E: Env> Shell<E> {
    /// Appends one batch to the local log. It is visible here, and written with the commit that is returned.
    pub(in crate::db) fn append<'a>(
        self: &'a Arc<Self>,
        values: &'a [Bytes],
        optimistic: bool,
    ) -> BoxFuture<'a, Result<(Appended, Seq), Error>> {
        Box::pin(async move {
            self.check_entry()?;
            let _turn = self.appending.lock().await;
            let deadline = self.env.clock().now() + self.settings.read_wait();
            loop {
                self.own_log_is_whole().await?;
                // A batch links what is applied here, so what is here must be applied first.
                self.drain().await?;
                if self.env.buggify("late_append") {
                    self.env.clock().sleep(LATE).await;
                }
                let (values, named) = (values.to_vec(), self.named().await);
                let append = Input::Append {
                    values,
                    optimistic,
                    named,
                };
                let refused = {
                    let mut machine = self.machine.enter().await;
                    self.step(&mut machine, append);
                    taken::<E>(&mut machine)
                };
                let outcome = match refused {
                    Some(refused) => refused,
                    None => self.own_batch_settled().await,
                };
                match outcome {
                    // More of the own log came from a peer meanwhile.
                    Err(Error::Unconfirmed { .. }) if self.env.clock().now() < deadline => {}
                    outcome => return outcome,
                }
            }
        })
    }

    /// Has the own batch written that the engine has, and gives what became of it.
    async fn own_batch_settled(self: &Arc<Self>) -> Result<(Appended, Seq), Error> {
        let mut unfinished = UnfinishedAppend {
            shared: self,
            is_over: self.store.planted().has(Slip::AppendUnfinished),
        };
        if self.env.buggify("late_own_batch") {
            self.env.clock().sleep(LATE).await;
        }
        let drained = self.drain().await;
        let outcome = taken::<E>(&mut *self.machine.enter().await);
        unfinished.is_over = true;
        match outcome {
            Some(outcome) => outcome,
            None => Err(drained.err().unwrap_or(Error::Closed)),
        }
    }

    /// Waits until a commit is durable; one sync covers everybody who waits for one.
    pub(in crate::db) async fn synced(self: &Arc<Self>, seq: Seq) -> Result<(), Error> {
        let outcome = self.store.synced(seq).await;
        if let Err(error) = &outcome {
            self.check_open()?;
            self.env.trace(|| TraceEvent::Fenced {
                why: error.to_string(),
            });
        }
        {
            let mut machine = self.machine.enter().await;
            let tending = self.choose_logs(&machine);
            self.step_alone(&mut machine, tending);
        }
        self.notify();
        Ok(outcome?)
    }

    fn unsynced(&self) -> MutexGuard<'_, Unsynced> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_unsynced(&self) -> Option<Seq> {
        self.unsynced().next()
    }

    /// Makes a commit durable while nobody waits for it: only then do peers see it. One task does so for all that come while a
    /// sync is under way, however long that takes.
    pub(in crate::db) fn sync_later(self: &Arc<Self>, seq: Seq) {
        if !self.unsynced().add(seq) {
            return;
        }
        let shared = Arc::clone(self);
        self.env.spawn().spawn("sync", async move {
            if shared.env.buggify("late_sync") {
                shared.env.clock().sleep(LATE).await;
            }
            while let Some(seq) = shared.next_unsynced() {
                if let Err(error) = shared.synced(seq).await {
                    // The store takes nothing more then, and the next append says so too.
                    let what = "a sync that nobody waits for";
                    let mut machine = shared.machine.enter().await;
                    shared.step(&mut machine, Input::Failed { what, error });
                }
            }
        });
    }
}

/// Commits that are to be durable while nobody waits for them.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    /// The newest one that no sync was asked for.
    newest: Option<Seq>,
    /// A task sees to it.
    is_running: bool,
}

impl Unsynced {
    /// One more. True when a task is to be started.
    fn add(&mut self, seq: Seq) -> bool {
        self.newest = self.newest.max(Some(seq));
        !std::mem::replace(&mut self.is_running, true)
    }

    /// Up to where the next sync has to reach; none when the task is done.
    fn next(&mut self) -> Option<Seq> {
        let newest = self.newest.take();
        self.is_running = newest.is_some();
        newest
    }
}

/// What became of the own batch; none while it is on its way.
fn taken<E: Env>(machine: &mut MachineOf<E>) -> Option<Result<(Appended, Seq), Error>> {
    let outcome = machine.take_outcome()?;
    Some(outcome.map(|(length, seq)| (machine.appended_at(length), seq)))
}

/// Sees to it that a batch is written whose caller went away.
struct UnfinishedAppend<'a, E: Env> {
    shared: &'a Arc<Shell<E>>,
    is_over: bool,
}

impl<E: Env> Drop for UnfinishedAppend<'_, E> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // It is still our turn: what is on its way, or over, is ours.
        self.shared.machine.leave(Input::Abandoned);
        let shared = Arc::clone(self.shared);
        self.shared.env.spawn().spawn("finish an append", async move {
            told(shared.drain().await, &shared.env);
        });
    }
}
