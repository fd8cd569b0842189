//! Another log takes the place of the local writer's.

use std::sync::{Arc, PoisonError};

use super::{Shell, store};
use crate::crypto::{CoreKey, Seed, Sign as _};
use crate::db::Event;
use crate::db::local::LocalWriter;
use crate::db::machine::Input;
use crate::db::own_log::Origin;
use crate::env::{Entropy as _, Env, Point};
use crate::error::Error;
use crate::hypercore::CoreOptions;

impl<E: Env> Shell<E> {
    /// See [`Autobee::create_writer`](crate::db::Autobee::create_writer).
    pub(in crate::db) async fn create_writer(&self) -> Result<CoreKey, Error> {
        self.check_open()?;
        let log = store::open_local(&self.store, self.key, self.keys.as_ref(), self.drawn()).await?;
        // Whoever adds it is to find it here.
        let seq = store::claim(&self.store, self.key, &log)?;
        self.store.synced(seq).await?;
        Ok(log.core().key())
    }

    /// A log with a key pair that nobody has.
    fn drawn(&self) -> CoreOptions {
        let seed = Seed::new(self.env.entropy().array());
        CoreOptions::key_pair(self.env.crypto().key_pair(&seed))
    }

    /// See [`Autobee::set_local`](crate::db::Autobee::set_local).
    pub(in crate::db) async fn set_local(self: &Arc<Self>, local: LocalWriter) -> Result<CoreKey, Error> {
        self.check_entry()?;
        let _turn = self.appending.lock().await;
        // A batch whose caller went away belongs to the log of now.
        self.drain().await?;
        let is_given = matches!(local, LocalWriter::KeyPair(_));
        let options = match local {
            LocalWriter::New => self.drawn(),
            LocalWriter::Key(key) if key == self.local() => return Ok(key),
            LocalWriter::Key(key) => CoreOptions::key(key),
            LocalWriter::KeyPair(key_pair) => CoreOptions::key_pair(key_pair),
        };
        let next = store::open_local(&self.store, self.key, self.keys.as_ref(), options).await?;
        let key = next.core().key();
        if key == self.local() {
            return Ok(key);
        }
        let hold = self.store.hold(*key.as_bytes()).await?;
        let origin = Origin {
            is_joined_as: is_given,
            ..Origin::default()
        };
        let unconfirmed = store::doubt(&self.store, next.core(), origin).await?;
        let seq = {
            let mut machine = self.machine.enter().await;
            self.check_open()?;
            let logs = machine.logs();
            let (old, bootstrap) = (logs.get(&logs.local()), logs.get(&self.key));
            let (Some(old), Some(bootstrap)) = (old, bootstrap) else {
                return Err(Error::Closed);
            };
            // The trees go on where they stand, in the same commit: no crash separates the two.
            let seq = store::set_local(&self.store, self.key, (bootstrap, old), &next)?;
            *self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner) = unconfirmed;
            let is_unconfirmed = unconfirmed.is_some();
            let log = Arc::new(next);
            self.step(&mut machine, Input::SetLocal { log, is_unconfirmed });
            if machine.logs().local() != key {
                return Err(Error::Closed);
            }
            if let Some(why) = unconfirmed {
                self.machine.tell(Event::Unconfirmed(why));
                // What they said so far says nothing of this log.
                for session in self.machine.sessions() {
                    session.close();
                }
            }
            seq
        };
        {
            let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
            // The namespace stays, and the log of before is anybody's.
            holds.truncate(1);
            holds.push(hold);
        }
        self.store.synced(seq).await?;
        self.env.sometimes(Point::LocalRotated, true);
        Ok(key)
    }
}
