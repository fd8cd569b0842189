//! Which log is the local writer's, and how another one takes its place.
//!
//! A log has one writer. Who moves to a new device, or fears that somebody else has the key pair, goes on in another log: a
//! member adds its key, and may remove the old one. What stands in the old log stays in the order.
//!
//! Source: spec/autobee.md 3.5.

use super::Autobee;
use crate::crypto::{CoreKey, KeyPair};
use crate::env::Env;
use crate::error::Error;

/// The log that [`Autobee::set_local`] makes the local writer's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LocalWriter {
    /// A log that nobody has, with a key pair that is drawn. The store keeps that.
    #[default]
    New,
    /// A log whose key pair the store has: one that was the local writer's before, or that a program of its own made.
    Key(CoreKey),
    /// The log of a key pair. The store keeps it. It may have been written elsewhere: appends wait for a peer to say so, as
    /// with [`Builder::key_pair`](super::Builder::key_pair), and connections of now end, as nobody was asked there. For a
    /// log that only this store wrote give its key.
    KeyPair(KeyPair),
}

impl From<CoreKey> for LocalWriter {
    fn from(key: CoreKey) -> Self {
        Self::Key(key)
    }
}

impl From<KeyPair> for LocalWriter {
    fn from(key_pair: KeyPair) -> Self {
        Self::KeyPair(key_pair)
    }
}

impl<E: Env> Autobee<E> {
    /// Makes a log that may become the local writer's, with a key pair that is drawn, and gives its key: so that a member
    /// can add it before [`Autobee::set_local`] turns to it. The store keeps both.
    ///
    /// ```
    /// # use autobee::{Autobee, Corestore};
    /// # use autobee::apply::OrderOnly;
    /// # use autobee::env::memory::MemoryEnv;
    /// # let env = MemoryEnv::new(1);
    /// # env.run(async {
    /// # let db = Autobee::builder(Corestore::open_default(env.clone()).await?).apply(OrderOnly).open().await?;
    /// let next = db.create_writer().await?;
    /// // append the entry by which your apply adds the writer `next`, then:
    /// db.set_local(next).await?;
    /// assert_eq!(db.local(), next);
    /// # Ok::<(), autobee::Error>(())
    /// # }).unwrap().unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// `Reentrant`, `ReadOnly`, `Disk`, `Closed`.
    pub async fn create_writer(&self) -> Result<CoreKey, Error> {
        super::check_writable::<E>()?;
        self.shared.create_writer().await
    }

    /// Appends to another log from now on, also after the database was opened again. Gives its key.
    ///
    /// Appends that are under way end in the old log; later ones go to the new one. The new log is no member's: until one
    /// adds it, [`Autobee::writable`] is false. The old one stays what it is, so who is to write no longer with it is to be
    /// removed, by then or before. [`Event::Rotated`](super::Event::Rotated) tells of it. The log that is the local one
    /// already is no change, and nothing happens. A [`Builder::key_pair`](super::Builder::key_pair) that is given at a later
    /// opening counts more than this.
    ///
    /// ```
    /// # use autobee::{Autobee, Corestore};
    /// # use autobee::apply::OrderOnly;
    /// # use autobee::env::memory::MemoryEnv;
    /// use autobee::db::LocalWriter;
    ///
    /// # let env = MemoryEnv::new(1);
    /// # env.run(async {
    /// # let db = Autobee::builder(Corestore::open_default(env.clone()).await?).apply(OrderOnly).open().await?;
    /// let old = db.local();
    /// let new = db.set_local(LocalWriter::New).await?;
    /// assert_eq!(db.local(), new);
    /// assert!(!db.writable()); // until a member adds it
    /// db.set_local(old).await?;
    /// assert!(db.writable());
    /// # Ok::<(), autobee::Error>(())
    /// # }).unwrap().unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// `Invalid` when the store has no key pair of the log, or the log is another database's, or is the core of the view
    /// or of the system tree; `InUse` when another
    /// handle writes to it; `Reentrant`, `ReadOnly`, `Interrupted`, `Closed`: then the local writer is the one that it
    /// was. `Disk`: which one it is shows when the database is opened again.
    pub async fn set_local(&self, local: impl Into<LocalWriter>) -> Result<CoreKey, Error> {
        super::check_writable::<E>()?;
        self.shared.set_local(local.into()).await
    }
}
