//! The public handle: open a database, append to it, read its view, connect it to peers.
//!
//! ```text
//! Autobee, View, Session ...   handles: reads take what was published last, and wait for nobody
//! shell                        one lock, the tasks, one timer; carries out what the machine says
//! machine                      all that is decided: synchronous, without lock, task, clock or socket
//! ```
//!
//! What is ordered and applied is decided in `engine`; what is stored is stored below `hypercore`; time, bytes and tasks
//! come from the [`Env`].

mod builder;
mod connections;
mod custom_view;
mod event;
mod fast_forward;
mod local;
mod machine;
mod own_log;
mod session;
mod settings;
mod shell;
#[doc(hidden)]
pub mod sim_hooks;
mod stats;
mod status;
mod stream;
mod swarm;
mod ticket;
mod trees;
mod update;
mod view;
mod watch;

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

pub use builder::Builder;
pub use connections::{ConnectError, ConnectionState, KeptConnection, ListenState, Listening, RetrySettings};
pub use custom_view::CustomView;
pub use event::{Event, Events};
pub use fast_forward::{AllMembers, Boot, FastForward, Trust};
pub use local::LocalWriter;
pub use machine::Stalled;
pub use own_log::Unconfirmed;
pub use session::{CloseReason, Session};
pub use settings::{Durability, HealGather, Settings};
pub use stats::Stats;
pub use status::{Ahead, PeerProgress, Pending, Rebuild, Status, WriterProgress};
#[cfg(feature = "hyperswarm")]
pub use swarm::hyperswarm::{Hyperswarm, HyperswarmSettings, HyperswarmTopic};
#[cfg(feature = "iroh")]
pub use swarm::iroh::{IrohPeer, IrohSettings, IrohStream, IrohSwarm, IrohTopic};
pub use swarm::{
    JoinedSwarm, Swarm, SwarmEvent, SwarmPeer, SwarmProtection, SwarmSettings, SwarmState, SwarmStream,
    SwarmTopic,
};
pub use ticket::{TICKET_ADDRESSES_MAX, TICKET_BYTES_MAX, Ticket, TicketError};
pub use trees::CoreLength;
pub use update::Update;
pub use view::{View, ViewChange, ViewEntries};
pub use watch::{ViewEvent, ViewWatch};

pub use crate::engine::{Held, OrderedEntry, Outcome, Settled, WriterStatus};
pub use crate::replication::Role;
pub use crate::replication::session::{Misbehaviour, Progress};
pub use crate::replication::stream::Secured;

use crate::apply::TreeSnapshot;
use crate::crypto::{CoreKey, DiscoveryKey, PublicKey};
use crate::engine::ResumeError;
use crate::env::{Env, TraceEvent};
use crate::error::Error;
use crate::hypercore::Corestore;
use crate::wire::{Index, Length, Link, Rules};
use machine::{Known, StoredLog as _};
use shell::Shell;

/// An open database. Clones are handles to the same one.
///
/// ```
/// use autobee::{Autobee, Corestore, Error};
/// use autobee::apply::{Apply, ApplyError, ApplyView, Entry, Host};
/// use autobee::env::memory::MemoryEnv;
///
/// struct Latest;
///
/// impl Apply for Latest {
///     async fn apply(&self, entries: &[Entry], view: &mut ApplyView, _: &mut dyn Host) -> Result<(), ApplyError> {
///         for entry in entries {
///             let mut write = view.write();
///             write.put(b"latest", entry.value());
///             write.flush().await?;
///         }
///         Ok(())
///     }
/// }
///
/// let env = MemoryEnv::new(1);
/// let read = env.run(async {
///     let store = Corestore::open_default(env.clone()).await?;
///     let db = Autobee::builder(store).apply(Latest).open().await?;
///     db.append(b"hello").await?; // durable when it returns
///     let read = db.view().get(b"latest").await?;
///     db.close().await?;
///     Ok::<_, Error>(read)
/// });
/// assert_eq!(read.unwrap().unwrap().as_deref(), Some(&b"hello"[..]));
/// ```
pub struct Autobee<E: Env> {
    shared: Arc<Shell<E>>,
}

/// How to append.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AppendOptions {
    /// Write also without being a member. Peers try the entry. Under [`Rules::safe`] it takes part once a member whose apply
    /// takes it has acknowledged it, and the writer stays none; under [`Rules::interop`] who is taken is a member.
    pub optimistic: bool,
}

/// What came of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Appended {
    /// The log in which it stands: the local writer's of then.
    pub core: CoreKey,
    /// The length of the local log with the last block of the batch.
    pub length: Length,
    /// What became of the batch up to now. [`Event::Outcome`] tells when that changes.
    pub outcome: Outcome,
}

impl<E: Env> Autobee<E> {
    /// Starts to open the database of a store, which is the only one in it.
    pub fn builder(store: Corestore<E>) -> Builder<E> {
        Builder::new(store)
    }

    // What it is.

    /// The key of the database. Give it to peers so that they can join.
    #[must_use]
    pub fn key(&self) -> CoreKey {
        self.shared.key
    }

    /// The rules of the database; none as long as nothing of its creator's log is here, which says them.
    #[must_use]
    pub fn rules(&self) -> Option<Rules> {
        self.shared.read().rules
    }

    /// What the database is called in public.
    #[must_use]
    pub fn discovery_key(&self) -> DiscoveryKey {
        self.shared.discovery_key()
    }

    /// The key of the database in z-base-32.
    #[must_use]
    pub fn id(&self) -> String {
        self.shared.key.to_id()
    }

    /// The static key by which peers may recognise this one. It says nothing about who may write.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.shared.replication.public_key()
    }

    /// The key of the local writer. A member adds it to let this peer write.
    #[must_use]
    pub fn local(&self) -> CoreKey {
        self.shared.local()
    }

    /// True when this peer is a writer, and the database was not opened for reading only.
    #[must_use]
    pub fn writable(&self) -> bool {
        if E::READ_ONLY {
            return false;
        }
        let published = self.shared.read();
        published.is_writer(&published.local)
    }

    /// True when the ceiling of this peer's weight is exactly an indexer's, 2.
    #[must_use]
    pub fn is_indexer(&self) -> bool {
        let published = self.shared.read();
        let mut writers = published.writers().into_iter();
        writers.any(|writer| writer.key == published.local && writer.max_weight.0 == 2)
    }

    // Writing.

    /// Appends one value. It is written and, as [`Settings::durability`] says by default, survives power loss when this
    /// returns, with the length of the local log. It is in the view, too, unless apply rejects it or it has to wait:
    /// [`Autobee::append_with`] answers that, and [`Event::Outcome`] says it.
    ///
    /// # Errors
    ///
    /// `NotWritable` when this peer is no writer, `ReadOnly`, `Invalid` for a value beyond the limits, `Reentrant` inside of apply or
    /// of the update hook, `Disk`, `Closed`, `Interrupted`.
    pub async fn append(&self, value: impl AsRef<[u8]>) -> Result<Length, Error> {
        self.append_batch(vec![Bytes::copy_from_slice(value.as_ref())])
            .await
    }

    /// Appends values as one batch: they are ordered and applied together.
    ///
    /// # Errors
    ///
    /// As [`Autobee::append`].
    pub async fn append_batch(&self, values: Vec<Bytes>) -> Result<Length, Error> {
        let appended = self.append_with(values, AppendOptions::default()).await?;
        Ok(appended.length)
    }

    /// Appends one value without being a member, if need be. Under [`Rules::safe`] it takes part once a member has acknowledged
    /// it, and this peer stays none; under [`Rules::interop`] peers whose apply takes it make this peer a member.
    ///
    /// # Errors
    ///
    /// As [`Autobee::append`], but for `NotWritable`.
    pub async fn append_optimistic(&self, value: impl AsRef<[u8]>) -> Result<Length, Error> {
        let value = Bytes::copy_from_slice(value.as_ref());
        let options = AppendOptions { optimistic: true };
        let appended = self.append_with(vec![value], options).await?;
        Ok(appended.length)
    }

    /// Appends values as one batch, in the way that is asked for. Answers the length of the local log, and what became of
    /// the batch.
    ///
    /// ```
    /// # use autobee::{Autobee, Corestore};
    /// # use autobee::apply::{Apply, ApplyError, ApplyView, Entry, Host};
    /// # use autobee::env::memory::MemoryEnv;
    /// use autobee::db::Outcome;
    ///
    /// struct Picky;
    ///
    /// impl Apply for Picky {
    ///     async fn apply(&self, entries: &[Entry], _: &mut ApplyView, _: &mut dyn Host) -> Result<(), ApplyError> {
    ///         match entries.iter().find(|entry| entry.value() == b"bad") {
    ///             Some(_) => Err(ApplyError::reject("not this one")),
    ///             None => Ok(()),
    ///         }
    ///     }
    /// }
    ///
    /// # let env = MemoryEnv::new(1);
    /// # env.run(async {
    /// # let db = Autobee::builder(Corestore::open_default(env.clone()).await?).apply(Picky).open().await?;
    /// let appended = db.append_with(vec!["bad".into()], Default::default()).await?;
    /// assert_eq!(appended.outcome, Outcome::Rejected("not this one".into()));
    /// assert_eq!(appended.length.0, 1); // it is in the log all the same
    /// # Ok::<(), autobee::Error>(())
    /// # }).unwrap().unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Autobee::append`].
    pub async fn append_with(&self, values: Vec<Bytes>, options: AppendOptions) -> Result<Appended, Error> {
        check_writable::<E>()?;
        self.check_values(&values)?;
        if values.is_empty() {
            self.shared.check_open()?;
            let published = self.shared.read();
            let core = published.local;
            let local = published.logs.get(&core);
            let length = local.map_or(Length::ZERO, |log| Known::of(&**log).length);
            let outcome = Outcome::Applied;
            return Ok(Appended {
                core,
                length,
                outcome,
            });
        }
        let (appended, seq) = self.shared.append(&values, options.optimistic).await?;
        self.shared.counters.appended(&values);
        match self.shared.settings.durability {
            Durability::Durable => self.shared.synced(seq).await?,
            Durability::Visible => self.shared.sync_later(seq),
        }
        self.shared.env.trace(|| TraceEvent::Acknowledged {
            core: appended.core,
            length: appended.length.0,
        });
        Ok(appended)
    }

    // Reading.

    /// A snapshot of the view.
    #[must_use]
    pub fn view(&self) -> View {
        View::new(self.shared.read().view.clone(), self.shared.trees.peers())
    }

    /// The view as a type of the program's own, which `open` makes once for each version that is asked for. What it makes is
    /// let go when the database closes. See [`CustomView`], with an example.
    ///
    /// `open` must not call [`CustomView::get`] of what it makes, nor close the database.
    #[must_use]
    pub fn custom_view<T: Send + Sync + 'static>(
        &self,
        open: impl Fn(View) -> T + Send + Sync + 'static,
    ) -> CustomView<E, T> {
        CustomView::new(self.clone(), open)
    }

    /// The view as it was at an earlier version, or as another writer has it: what [`View::head`], [`Event::Update`] or
    /// [`Autobee::writer_views`] say. Whether `head` is the end of a version is not checked: a tree of peers may be read
    /// here that was never the view.
    ///
    /// ```
    /// # use autobee::{Autobee, Corestore};
    /// # use autobee::apply::OrderOnly;
    /// # use autobee::env::memory::MemoryEnv;
    /// # let env = MemoryEnv::new(1);
    /// # env.run(async {
    /// # let db = Autobee::builder(Corestore::open_default(env.clone()).await?).apply(OrderOnly).open().await?;
    /// let head = db.view().head();
    /// db.append(b"hello").await?;
    /// assert_eq!(db.view_at(head)?.head(), head);
    /// # Ok::<(), autobee::Error>(())
    /// # }).unwrap().unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// `Invalid` when the own view never had this version, and for the log of a writer or the own system tree; `Closed`. That a block is still at a peer shows when it is read.
    pub fn view_at(&self, head: Link) -> Result<View, Error> {
        self.shared.check_open()?;
        let tree = &self.shared.trees.trees().view;
        if head.key == tree.core() && head.length > tree.length() {
            let what = format!("the view has {} versions, not {}", tree.length().0, head.length.0);
            return Err(Error::Invalid { what });
        }
        if head.key != tree.core() && self.is_no_view(&head.key) {
            let what = format!(
                "the core {} is no view: it is the log of a writer, or a system tree",
                head.key
            );
            return Err(Error::Invalid { what });
        }
        Ok(View::new(TreeSnapshot::at(tree, head), self.shared.trees.peers()))
    }

    /// All entries in their order, with the weight that each batch has there. Those before the window are read from the
    /// system tree, one after the other; so are the others while something is being applied. Not for the steps of a busy
    /// program.
    ///
    /// # Errors
    ///
    /// When the system tree cannot be read: `Unavailable`, `Corrupt`, `Closed`, `Internal`.
    pub fn order(&self) -> Result<Vec<OrderedEntry>, Error> {
        self.shared.check_open()?;
        let in_memory = self.shared.machine.look(|machine| machine.order());
        let order = in_memory.unwrap_or_else(|| self.shared.read().order());
        order.map_err(history_error)
    }

    /// The records of all writers, removed ones included, in key order.
    #[must_use]
    pub fn writers(&self) -> Vec<WriterStatus> {
        self.shared.read().writers()
    }

    /// All blocks of a core that are here; empty when it is unknown, or the database is closed.
    #[must_use]
    pub fn blocks(&self, core: &CoreKey) -> Vec<Bytes> {
        let published = self.shared.read();
        let Some(log) = published.logs.get(core) else {
            return Vec::new();
        };
        (0..).map_while(|index| log.block(index).ok().flatten()).collect()
    }

    /// One block of a core, as its writer wrote it; none when it is not here.
    ///
    /// # Errors
    ///
    /// `Disk`, `Corrupt`, `Closed`.
    pub fn block(&self, core: &CoreKey, index: Index) -> Result<Option<Bytes>, Error> {
        self.shared.check_open()?;
        let published = self.shared.read();
        let Some(log) = published.logs.get(core) else {
            return Ok(None);
        };
        Ok(log.block(index.0)?)
    }

    /// The core of the system tree, the core of the view, and the version of the system tree that is current: after a
    /// fast-forward it may be in the core of a peer.
    ///
    /// # Errors
    ///
    /// `Closed`.
    pub fn views(&self) -> Result<[CoreLength; 3], Error> {
        self.shared.check_open()?;
        Ok(self.shared.trees.lengths(self.shared.read().records)?)
    }

    /// The keys of all cores that are here; empty once the database is closed.
    #[must_use]
    pub fn cores(&self) -> Vec<CoreKey> {
        self.shared.read().logs.keys().copied().collect()
    }

    /// The cores of which nothing more is taken, and why. All others go on.
    #[must_use]
    pub fn stalled(&self) -> Vec<(CoreKey, Stalled)> {
        let published = self.shared.read();
        let stalled = published.stalled.iter();
        stalled.map(|(key, why)| (*key, why.clone())).collect()
    }

    /// Counts of what was done since the database was opened: applies, blocks, bytes, connections and the like.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// What of the order and of the logs is in memory.
    #[must_use]
    pub fn held(&self) -> Held {
        self.shared.read().held
    }

    /// The start of the order that can no longer change, and on what that rests: no writer replaces its entries, and whoever is
    /// in `silent` writes nothing more. A writer who was away for long, or was let in and never wrote, keeps everything
    /// after from being settled, unless it is taken to be silent; [`Settled::awaited`] names those who are behind.
    ///
    /// ```
    /// # use autobee::{Autobee, Corestore};
    /// # use autobee::apply::OrderOnly;
    /// # use autobee::env::memory::MemoryEnv;
    /// # let env = MemoryEnv::new(1);
    /// # env.run(async {
    /// # let db = Autobee::builder(Corestore::open_default(env.clone()).await?).apply(OrderOnly).open().await?;
    /// db.append(b"hello").await?;
    /// let settled = db.settled(&[]).await?;
    /// assert_eq!((settled.entries, settled.awaited), (1, Vec::new())); // nobody else may write
    /// # Ok::<(), autobee::Error>(())
    /// # }).unwrap().unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// `Closed`, `Reentrant`.
    pub async fn settled(&self, silent: &[CoreKey]) -> Result<Settled, Error> {
        self.shared.check_open()?;
        self.shared.check_entry()?;
        Ok(self.shared.settled(silent).await)
    }

    // Going on.

    /// Orders and applies everything that is here.
    ///
    /// # Errors
    ///
    /// `Interrupted` when apply stopped this peer; `Closed`.
    pub async fn update(&self) -> Result<(), Error> {
        self.shared.drain().await
    }

    /// Waits until nobody orders or applies any more. Starts nothing itself.
    ///
    /// # Errors
    ///
    /// As [`Autobee::update`].
    pub async fn updated(&self) -> Result<(), Error> {
        self.shared.drained().await
    }

    /// Waits until something changed since the last call: the order, or what may be offered to peers.
    pub async fn changed(&self, since: &mut Changes) {
        since.wait(&self.shared).await;
    }

    /// Replicates with a peer over any duplex stream, until the stream, the session or the database ends. The side that
    /// dialled is the initiator by habit; the two roles must differ. The protocol is that of the original, encryption
    /// included: the peer may be one of its own.
    ///
    /// # Errors
    ///
    /// `Closed`, `ReadOnly`.
    pub fn replicate<S>(&self, stream: S, role: Role) -> Result<Session, Error>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        check_writable::<E>()?;
        self.shared.replicate(stream, role)
    }

    /// Ends all connections, closes the store, and lets go of the directory; a store that holds other open databases, in
    /// other namespaces, stays open until the last of them is closed. Everything acknowledged is durable already; calls after
    /// this answer `Closed`, but for another `close`, which waits for the end of the first, or goes on with it when that call was
    /// dropped before it was done: only then the directory is free.
    ///
    /// # Errors
    ///
    /// `Disk` when the store does not end in an orderly way. Nothing acknowledged is lost then.
    pub async fn close(&self) -> Result<(), Error> {
        self.shared.close().await
    }

    /// True for a core that is known to hold something else than views.
    fn is_no_view(&self, core: &CoreKey) -> bool {
        let published = self.shared.read();
        *core == self.shared.trees.trees().system.core()
            || published.logs.contains_key(core)
            || published.writer(core).is_some()
    }

    fn check_values(&self, values: &[Bytes]) -> Result<(), Error> {
        let settings = &self.shared.settings;
        if values.len() > settings.append_values_max {
            let what = format!(
                "a batch of {} values, more than {}",
                values.len(),
                settings.append_values_max
            );
            return Err(Error::Invalid { what });
        }
        let most = settings.value_bytes_max;
        if let Some(position) = values.iter().position(|value| value.len() > most) {
            return Err(Error::Invalid {
                what: format!(
                    "value {position} has {} bytes, more than {most}",
                    values[position].len()
                ),
            });
        }
        let (size, most) = (
            values.iter().map(Bytes::len).sum::<usize>(),
            settings.append_bytes_max,
        );
        if size > most {
            return Err(Error::Invalid {
                what: format!("a batch of {size} bytes, more than {most}"),
            });
        }
        Ok(())
    }
}

/// Refuses what would be lost.
const fn check_writable<E: Env>() -> Result<(), Error> {
    if E::READ_ONLY {
        return Err(Error::ReadOnly);
    }
    Ok(())
}

fn history_error(error: ResumeError) -> Error {
    match error {
        ResumeError::Tree(error) => view::read_error(error),
        other => Error::Internal {
            what: other.to_string(),
        },
    }
}

/// Remembers up to where changes were seen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Changes {
    seen: u64,
}

impl Changes {
    /// Everything up to now was seen.
    fn now<E: Env>(shared: &Shell<E>) -> Self {
        Self {
            seen: *shared.changed.subscribe().borrow(),
        }
    }

    async fn wait<E: Env>(&mut self, shared: &Shell<E>) {
        // Nothing changes any more: who waits finds out by what it does next.
        if shared.is_closed() {
            return;
        }
        let mut changed = shared.changed.subscribe();
        // The sender lives in `shared`, so this cannot fail.
        _ = changed.wait_for(|count| *count != self.seen).await;
        self.seen = *changed.borrow();
    }
}

impl<E: Env> Clone for Autobee<E> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<E: Env> std::fmt::Debug for Autobee<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Autobee")
            .field("key", &self.shared.key)
            .field("local", &self.local())
            .finish()
    }
}
