//! Asking peers for the end of the own log before anything is appended to it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Shell, store, unless};
use crate::db::machine::Input;
use crate::db::own_log::Unconfirmed;
use crate::env::{BoxFuture, Clock as _, Env, Point};
use crate::error::Error;
use crate::wire::Length;

/// How long at most nothing is heard before it is looked again: a peer that had sent all that it has may have got more, and
/// nobody says when it sent that, too.
const LOOK: Duration = Duration::from_secs(1);

impl<E: Env> Shell<E> {
    /// Why peers may have more of the own log than is here.
    pub(in crate::db) fn unconfirmed(&self) -> Option<Unconfirmed> {
        *self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what the next append would do before it appends.
    pub(in crate::db) fn confirm_own_log(self: &Arc<Self>) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.check_open()?;
            self.check_entry()?;
            let _turn = self.appending.lock().await;
            self.own_log_is_whole().await
        })
    }

    /// Waits until the own log is whole here, and, where that is in doubt, until a peer sent all that it has of it.
    pub(super) async fn own_log_is_whole(self: &Arc<Self>) -> Result<(), Error> {
        let clock = self.env.clock();
        let deadline = clock.now() + self.settings.read_wait();
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            self.check_open()?;
            let is_doubted = self.unconfirmed().is_some();
            let is_whole = {
                let machine = self.machine.enter().await;
                let (logs, local) = (machine.logs(), machine.logs().local());
                let log = logs.get(&local).ok_or(Error::Closed)?;
                // Of a log that is contradicted, or cannot be read, the append says so.
                let is_stalled = logs.stalled(&local).is_some();
                let taken = logs.taken(&local).0;
                is_stalled || log.core().length().map_or(true, |length| length == Length(taken))
            };
            if is_whole && (!is_doubted || self.has_heard_out()) {
                return if is_doubted { self.confirm().await } else { Ok(()) };
            }
            if clock.now() >= deadline {
                return Err(Error::Unconfirmed { local: self.local() });
            }
            let look = (clock.now() + LOOK).min(deadline);
            _ = unless(changed.changed(), clock.sleep_until(look)).await;
        }
    }

    /// True when some peer that is connected sent all that it has: of the own log, or, as one that does not know it has nothing
    /// of it, of all that both sides replicate. The own log alone has to do where trees were compared: those of the peer stay
    /// among what is replicated, and are fetched as a whole by nobody.
    fn has_heard_out(&self) -> bool {
        let sessions = self.machine.sessions();
        sessions.iter().any(|session| session.progress().is_synced)
            || self.replication.has_all_of_a_peer(&self.local())
    }

    /// Nothing speaks any more for entries of the own log elsewhere.
    async fn confirm(self: &Arc<Self>) -> Result<(), Error> {
        // What was fetched is applied by the drain that comes next, and durable before anything stands on it.
        let seq = {
            let machine = self.machine.enter().await;
            let logs = machine.logs();
            let log = logs.get(&logs.local()).ok_or(Error::Closed)?;
            store::confirm(&self.store, log)?
        };
        self.store.synced(seq).await?;
        *self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let mut machine = self.machine.enter().await;
        self.step(&mut machine, Input::Confirmed);
        drop(machine);
        self.env.sometimes(Point::OwnLogConfirmed, true);
        Ok(())
    }
}
