//! Another log takes the place of the local writer's.

use std::sync::{Arc, PoisonError};

use super::store::OpenLog;
use super::{Shell, store};
use crate::crypto::{CoreKey, Seed, Sign as _};
use crate::db::Event;
use crate::db::local::LocalWriter;
use crate::db::machine::Input;
use crate::db::own_log::{Origin, Unconfirmed};
use crate::env::{BoxFuture, Entropy as _, Env, Point};
use crate::error::Error;
use crate::hypercore::{CoreOptions, Hold};
use crate::store::Seq;

/// How often at most own batches that began meanwhile are waited for.
const DRAINS_MAX: usize = 16;

impl<E: Env> Shell<E> {
    /// See [`Autobee::create_writer`](crate::db::Autobee::create_writer).
    pub(in crate::db) fn create_writer(&self) -> BoxFuture<'_, Result<CoreKey, Error>> {
        Box::pin(async move {
            self.check_open()?;
            self.check_entry()?;
            let log = store::open_local(&self.store, self.key, self.keys.as_ref(), self.drawn()).await?;
            // Whoever adds it is to find it here.
            let seq = store::claim(&self.store, self.key, &log)?;
            self.store.synced(seq).await?;
            Ok(log.core().key())
        })
    }

    /// A log with a key pair that nobody has.
    fn drawn(&self) -> CoreOptions {
        let seed = Seed::new(self.env.entropy().array());
        CoreOptions::key_pair(self.env.crypto().key_pair(&seed))
    }

    /// See [`Autobee::set_local`](crate::db::Autobee::set_local).
    pub(in crate::db) fn set_local(
        self: &Arc<Self>,
        local: LocalWriter,
    ) -> BoxFuture<'_, Result<CoreKey, Error>> {
        Box::pin(async move {
            self.check_entry()?;
            let _turn = self.appending.lock().await;
            // A batch whose caller went away belongs to the log of now.
            self.drain().await?;
            let origin = Origin {
                // Whatever is here of it: it may have been written elsewhere.
                is_given: matches!(local, LocalWriter::KeyPair(_)),
                // The directory knew it when it was copied, and may have gone on in it.
                is_restored: matches!(local, LocalWriter::Key(_)) && self.was_restored,
                is_complete: matches!(local, LocalWriter::New),
                ..Origin::default()
            };
            let options = match local {
                LocalWriter::New => self.drawn(),
                LocalWriter::Key(key) if key == self.local() => return Ok(key),
                LocalWriter::Key(key) => {
                    self.check_is_no_tree(key)?;
                    CoreOptions::key(key)
                }
                LocalWriter::KeyPair(key_pair) => CoreOptions::key_pair(key_pair),
            };
            let next = store::open_local(&self.store, self.key, self.keys.as_ref(), options).await?;
            let key = next.core().key();
            self.check_is_no_tree(key)?;
            if key == self.local() {
                return Ok(key);
            }
            let unconfirmed = store::doubt(&self.store, next.core(), origin).await?;
            let hold = self.store.hold(*key.as_bytes()).await?;
            let mut turn = Turn {
                next: Arc::new(next),
                hold: Some(hold),
                unconfirmed,
            };
            let mut drains = 0;
            let seq = loop {
                if let Some(seq) = self.turn_to(&mut turn).await? {
                    break seq;
                }
                // An acknowledgement that began meanwhile is still to be written to the log of now.
                if drains == DRAINS_MAX {
                    let reason = "own batches come without end".into();
                    return Err(Error::Interrupted { reason });
                }
                drains += 1;
                self.drain().await?;
            };
            self.store.synced(seq).await?;
            self.env.sometimes(Point::LocalRotated, true);
            Ok(key)
        })
    }

    /// Refuses the cores of the own trees: entries among their blocks would spoil both.
    fn check_is_no_tree(&self, key: CoreKey) -> Result<(), Error> {
        let trees = [("system tree", &self.trees.system), ("view", &self.trees.view)];
        match trees.iter().find(|(_, core)| core.key() == key) {
            Some((name, _)) => {
                let what = format!("the core {key} is that of the {name} here, and no log of a writer");
                Err(Error::Invalid { what })
            }
            None => Ok(()),
        }
    }

    /// Has the machine turn to another log. Gives the commit; none while an own batch is on its way to the log of now.
    async fn turn_to(self: &Arc<Self>, turn: &mut Turn<E>) -> Result<Option<Seq>, Error> {
        let mut machine = self.machine.enter().await;
        self.check_open()?;
        if machine.has_own_batch() {
            return Ok(None);
        }
        let logs = machine.logs();
        let (old, bootstrap) = (logs.get(&logs.local()), logs.get(&self.key));
        let (Some(old), Some(bootstrap)) = (old, bootstrap) else {
            return Err(Error::Closed);
        };
        // The trees go on where they stand, in the same commit: no crash separates the two.
        let seq = store::set_local(&self.store, self.key, (bootstrap, old), &turn.next)?;
        *self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner) = turn.unconfirmed;
        let is_unconfirmed = turn.unconfirmed.is_some();
        let log = Arc::clone(&turn.next);
        self.step(&mut machine, Input::SetLocal { log, is_unconfirmed });
        if machine.logs().local() != turn.next.core().key() {
            return Err(Error::Closed);
        }
        // The namespace stays, and the log of before is anybody's.
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        holds.truncate(1);
        holds.extend(turn.hold.take());
        drop(holds);
        if let Some(why) = turn.unconfirmed {
            self.machine.tell(Event::Unconfirmed(why));
            // What they said so far says nothing of this log: only connections that come later count.
            for session in self.machine.take_sessions() {
                session.close();
            }
        }
        Ok(Some(seq))
    }
}

/// What it takes to turn to another log.
struct Turn<E: Env> {
    next: Arc<OpenLog<E>>,
    hold: Option<Hold<E>>,
    unconfirmed: Option<Unconfirmed>,
}
