//! What happens to a database, as a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::stream::Steps;
use super::{Autobee, Unconfirmed};
use crate::crypto::CoreKey;
use crate::engine::Outcome;
use crate::env::Env;
use crate::error::Error;
use crate::wire::{Length, Link};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The order changed, and with it perhaps the view: entries were applied, or undone and applied again.
    Update {
        /// The head of the view before. Never seen by a listener that missed events.
        from: Link,
        /// The head of the view now.
        to: Link,
    },
    /// The local writer may write now.
    Writable,
    /// The local writer may write no longer.
    Unwritable,
    /// The local writer is another log now, see [`Autobee::set_local`].
    Rotated {
        /// The key of the log of before.
        from: CoreKey,
        /// The key of the log of now.
        to: CoreKey,
    },
    /// The database goes on from the trees of another writer: see [`FastForward`](super::FastForward). What was written since
    /// is applied from there on; [`Event::Update`] follows.
    MoveTo {
        /// The version of the system tree before.
        from: Link,
        /// The version of now, in the core of that writer.
        to: Link,
    },
    /// This writer became a member.
    Writer(CoreKey),
    /// What became of an own batch is another thing now than what [`Autobee::append_with`] answered, or than the last
    /// event about it said. It comes also with the append itself, when the batch is not applied: [`Autobee::append`] does
    /// not answer that. Of batches of earlier openings it tells only what is another thing than at this one.
    Outcome {
        /// The length of the local log with the last block of the batch, as the append gave it.
        length: Length,
        /// What became of it.
        outcome: Outcome,
    },
    /// Apply stopped this peer. Nothing is applied until the database is opened again.
    Interrupt {
        /// The reason that apply gave.
        reason: String,
    },
    /// The view was rebuilt from the logs, because another version of apply made the one that was stored: see
    /// [`Builder::apply_version`](super::Builder::apply_version). Or, with the same version twice, because blocks of the one that
    /// was stored were damaged. The first listener hears of it even when it comes later.
    Rebuilt {
        /// The version that made the view before.
        from: u64,
        /// The version that made this one.
        to: u64,
    },
    /// Another writer's view has another value under a key than the view here has, behind the same entries: the two run
    /// applies that differ, or one that looks at more than its entries and its view, like a counter or a clock; or that
    /// writer lies. Nothing is done about it.
    ///
    /// It is looked for where a writer's batch says where its views stand, as many batches were applied there as here,
    /// and the order ended in the same heads: at most once in [`Settings::compare_ms`](super::Settings::compare_ms), and
    /// with a bounded number of blocks. That nothing is told says nothing.
    Diverged {
        /// The writer whose view is another one.
        writer: CoreKey,
        /// The length of its log with the batch behind which the views were compared.
        length: Length,
        /// The key.
        key: Bytes,
    },
    /// The store was opened, and its end is missing: these commits, from the first to the last, were durable once, and
    /// somebody cut them off. What was acknowledged with them is gone here; [`Event::Unconfirmed`] follows. The first
    /// listener hears of it even when it comes later, as of the three that follow.
    CutOff {
        /// The first commit that is missing.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// Peers may have more of the own log than is here, and this is why: nothing is appended before one was met that has not,
    /// see [`Autobee::unconfirmed`].
    Unconfirmed(Unconfirmed),
    /// The own log is whole here: what peers had of it came, and it is appended to again.
    Confirmed,
    /// The own key pair signed two logs, as a peer proved: nothing is appended any more. See [`Autobee::stalled`].
    Contradicted {
        /// A length at which they differ.
        length: Length,
    },
    /// An entry of somebody else was accepted that this writer would acknowledge, and does not before its own log is
    /// confirmed, or at all when that was written twice. It says so once.
    Unacknowledged,
    /// More of the order can no longer change: see [`Autobee::settled`]. It is looked for with a round of applying, at most once in
    /// [`Settings::settled_ms`](super::Settings::settled_ms).
    Settled {
        /// So many entries, batches counted as one.
        entries: u64,
        /// The version of the system tree behind them; none when it is not in memory.
        head: Option<Link>,
    },
    /// The key by which the database was joined is that of a writer's log, and no database has it: what is shown is a part of
    /// the database of that writer. It is said where that database records its rules, as one with
    /// [`Rules::safe`](crate::Rules::safe) does; the first listener hears of it even when it comes later.
    WritersKey {
        /// The key of the database whose writer it is.
        database: CoreKey,
    },
    /// Something failed for which nobody waits: what was applied could not be stored, a log could not be opened or read.
    /// Nothing acknowledged is lost. The first listener hears of the first 32 even when it comes later.
    Error {
        /// What went wrong.
        what: String,
    },
    /// The listener was too slow, and this many events are gone.
    Missed(u64),
}

/// Events from the moment of [`Autobee::events`] on, also as a [`Stream`] that ends when the database is closed.
#[derive(Debug)]
pub struct Events {
    steps: Steps<Receiver, Result<Event, Error>>,
}

type Receiver = broadcast::Receiver<Event>;

async fn receive(mut events: Receiver) -> (Receiver, Result<Event, Error>) {
    let received = match events.recv().await {
        Ok(event) => Ok(event),
        Err(RecvError::Lagged(count)) => Ok(Event::Missed(count)),
        Err(RecvError::Closed) => Err(Error::Closed),
    };
    (events, received)
}

impl Events {
    /// Waits for the next event. A call that is dropped loses nothing.
    ///
    /// # Errors
    ///
    /// `Closed` once the database is closed and everything before was told.
    pub async fn next(&mut self) -> Result<Event, Error> {
        self.steps.step(receive).await
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.get_mut().steps.poll_step(context, receive).map(Result::ok)
    }
}

impl<E: Env> Autobee<E> {
    /// What happens from now on.
    ///
    /// ```
    /// # use autobee::{Autobee, Corestore};
    /// # use autobee::apply::OrderOnly;
    /// # use autobee::env::memory::MemoryEnv;
    /// use autobee::db::Event;
    ///
    /// # let env = MemoryEnv::new(1);
    /// # env.run(async {
    /// # let db = Autobee::builder(Corestore::open_default(env.clone()).await?).apply(OrderOnly).open().await?;
    /// let mut events = db.events();
    /// db.append(b"hello").await?;
    /// assert_eq!(events.next().await?, Event::Writer(db.local()));
    /// assert!(matches!(events.next().await?, Event::Update { .. }));
    /// # Ok::<(), autobee::Error>(())
    /// # }).unwrap().unwrap();
    /// ```
    #[must_use]
    pub fn events(&self) -> Events {
        Events {
            steps: Steps::new(self.shared.machine.listen()),
        }
    }
}
