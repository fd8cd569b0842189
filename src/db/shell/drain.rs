//! Draining: whoever wants everything ordered steps the machine, portion by portion, until there is no more.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;

use super::{Shell, failure, told};
use crate::db::machine::Input;
use crate::db::{Update, View};
use crate::env::{BoxFuture, Env, Slip, Spawn as _, TraceSpan, panic_words, watch};
use crate::error::Error;

impl<E: Env> Shell<E> {
    /// Orders and applies everything that is here, in portions, so that other tasks get their turn.
    pub(in crate::db) fn drain(self: &Arc<Self>) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.check_entry()?;
            let running = Running::new(&self.draining);
            let drained = E::in_span(TraceSpan::Drain, self.drain_portions()).await;
            {
                let mut machine = self.machine.enter().await;
                let failure = drained.as_ref().err().and_then(failure);
                let is_heard = self.machine.is_heard();
                self.step(&mut machine, Input::DrainOver { failure, is_heard });
            }
            self.call_update().await;
            drop(running);
            drained
        })
    }

    /// The same, while nobody waits for it.
    pub(super) fn drain_later(self: &Arc<Self>) {
        let shared = Arc::clone(self);
        self.env.spawn().spawn("drain", async move {
            told(shared.drain().await, &shared.env);
        });
    }

    /// Waits until no drain runs.
    pub(in crate::db) async fn drained(&self) -> Result<(), Error> {
        self.check_entry()?;
        // The sender lives here, so this cannot fail.
        _ = self.draining.subscribe().wait_for(|running| *running == 0).await;
        self.check_open()?;
        match &self.read().stopped {
            Some(reason) => Err(Error::Interrupted {
                reason: reason.to_string(),
            }),
            None => Ok(()),
        }
    }

    async fn drain_portions(self: &Arc<Self>) -> Result<(), Error> {
        loop {
            let done = {
                let mut machine = self.machine.enter().await;
                let applies_max = match self.settings.drain_applies_max {
                    _ if self.env.buggify("drain_nothing") => 0,
                    _ if self.env.buggify("drain_one") => 1,
                    usual => usual,
                };
                if self.env.buggify("drop_tree_caches") {
                    self.trees.trees().drop_caches();
                }
                let mut done = self.step(&mut machine, Input::Drain { applies_max });
                if self.env.buggify("extra_sync") && !machine.is_closed() {
                    self.store.request_sync();
                }
                let tending = self.choose_logs(&machine);
                done.drains |= self.step(&mut machine, tending).drains;
                done
            };
            self.notify();
            let is_portion = done.drained.unwrap_or(Err(Error::Closed))?;
            let goes_on = is_portion || done.drains;
            if !goes_on || self.store.planted().has(Slip::PortionEndsDrain) {
                return Ok(());
            }
            yield_now().await;
        }
    }

    /// Calls the update hook, if there is one and it has something to hear. One call after the other.
    async fn call_update(self: &Arc<Self>) {
        let Some(hook) = &self.updates.hook else { return };
        let mut told = self.updates.told.lock().await;
        if self.is_closed() {
            return;
        }
        let published = self.read();
        let view = View::new(published.view.clone(), self.trees.peers());
        let now = (view.head(), published.records);
        drop(published);
        let before = std::mem::replace(&mut *told, now);
        if before == now {
            return;
        }
        let from = match self.store.planted().has(Slip::HookFromNow) {
            true => now.0,
            false => before.0,
        };
        let update = Update {
            view: (from, now.0),
            system: (before.1, now.1),
        };
        let called = {
            let _busy = self.machine.busy();
            catch_unwind(AssertUnwindSafe(|| hook(&view, &update)))
        };
        if let Err(panic) = called {
            let words = panic_words(panic.as_ref());
            let mut machine = self.machine.enter().await;
            let reason = format!("the update hook panicked: {words}");
            self.step(&mut machine, Input::Broken(reason));
        }
    }
}

/// Counts a drain as long as it lives.
struct Running<'a>(&'a watch::Sender<usize>);

impl<'a> Running<'a> {
    fn new(running: &'a watch::Sender<usize>) -> Self {
        running.send_modify(|count| *count += 1);
        Self(running)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Lets other tasks run.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
