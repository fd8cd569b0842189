//! What happens to a database, as a stream.

use std::collections::BTreeSet;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::Autobee;
use super::shared::{State, lock};
use crate::crypto::CoreKey;
use crate::env::{Env, Point, Sights, Slip, knob};
use crate::error::Error;
use crate::wire::Link;

/// Events that wait for a slow listener. It is told how many more there were.
pub(super) const BACKLOG: usize = 256;

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
    /// This writer became a member.
    Writer(CoreKey),
    /// Apply stopped this peer. Nothing is applied until the database is opened again.
    Interrupt {
        /// The reason that apply gave.
        reason: String,
    },
    /// What was applied could not be stored. Nothing acknowledged is lost.
    Error {
        /// What went wrong.
        what: String,
    },
    /// The listener was too slow, and this many events are gone.
    Missed(u64),
}

/// Events from the moment of [`Autobee::events`] on.
#[derive(Debug)]
pub struct Events {
    events: broadcast::Receiver<Event>,
}

impl Events {
    /// Waits for the next event.
    ///
    /// # Errors
    ///
    /// `Closed` once the database is closed and everything before was told.
    pub async fn next(&mut self) -> Result<Event, Error> {
        match self.events.recv().await {
            Ok(event) => Ok(event),
            Err(RecvError::Lagged(count)) => Ok(Event::Missed(count)),
            Err(RecvError::Closed) => Err(Error::Closed),
        }
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
            events: lock(&self.shared.state).listen(),
        }
    }
}

/// What listeners were told, to see what is news.
pub(super) struct News {
    /// None once the database is closed.
    events: Option<broadcast::Sender<Event>>,
    order: Link,
    view: Link,
    is_writable: bool,
    writers: BTreeSet<CoreKey>,
    is_stopped: bool,
    /// Members of now, and of before: for a simulator.
    members: BTreeSet<CoreKey>,
    former: BTreeSet<CoreKey>,
}

impl News {
    pub(super) fn new<E: Env>(env: &E, order: Link, view: Link) -> Self {
        Self {
            events: Some(broadcast::Sender::new(knob::DB_EVENTS.size(env, BACKLOG))),
            order,
            view,
            is_writable: false,
            writers: BTreeSet::new(),
            is_stopped: false,
            members: BTreeSet::new(),
            former: BTreeSet::new(),
        }
    }

    /// Nothing more happens.
    pub(super) fn end(&mut self) {
        self.events = None;
    }

    fn send(&self, event: Event) {
        if let Some(events) = &self.events {
            // Nobody listening is fine.
            let _ = events.send(event);
        }
    }
}

impl<E: Env> State<E> {
    /// One more listener. What is so now is no news to the first one.
    fn listen(&mut self) -> broadcast::Receiver<Event> {
        let Some(events) = self.news.events.clone() else {
            return broadcast::Sender::new(1).subscribe();
        };
        if events.receiver_count() == 0 {
            self.news.order = self.engine.records().head();
            self.news.view = self.engine.view().head();
            self.news.is_writable = self.engine.is_writer(&self.cores.local());
            self.news.writers = self.members();
        }
        events.subscribe()
    }

    /// What became of members since the last call.
    pub(super) fn notice_members(&mut self, sights: &mut Sights) {
        let members = self.members();
        let News {
            members: known,
            former,
            ..
        } = &mut self.news;
        for key in members.difference(known) {
            sights.note(Point::MemberAdded);
            sights.note_if(Point::MemberReturned, former.remove(key));
        }
        for key in known.difference(&members) {
            sights.note(Point::MemberRemoved);
            former.insert(*key);
        }
        *known = members;
        let engine = &self.engine;
        let wrote = |key: &CoreKey| engine.system().length(key) < engine.fed_from(key);
        sights.note_if(Point::RemovedWrote, former.iter().any(wrote));
    }

    fn members(&self) -> BTreeSet<CoreKey> {
        let records = self.engine.system().records();
        let members = records.filter(|(_, record)| !record.is_removed && !record.is_anchor);
        members.map(|(key, _)| *key).collect()
    }

    /// Tells listeners, if there are any, what a drain changed.
    pub(super) fn tell(&mut self, error: Option<&Error>) {
        if self
            .news
            .events
            .as_ref()
            .is_none_or(|events| events.receiver_count() == 0)
        {
            return;
        }
        let order = self.engine.records().head();
        if order != self.news.order {
            self.news.order = order;
            let writers = self.members();
            for key in writers.difference(&self.news.writers) {
                self.news.send(Event::Writer(*key));
            }
            self.news.writers = writers;
            let is_writable = self.engine.is_writer(&self.cores.local());
            let is_untold = !is_writable && self.cores.store().planted().has(Slip::UnwritableUntold);
            if std::mem::replace(&mut self.news.is_writable, is_writable) != is_writable && !is_untold {
                self.news.send(if is_writable {
                    Event::Writable
                } else {
                    Event::Unwritable
                });
            }
            let to = self.engine.view().head();
            let from = self.news.view;
            let is_stale = to.length < from.length && self.cores.store().planted().has(Slip::UpdateFromStale);
            if !is_stale {
                self.news.view = to;
            }
            self.news.send(Event::Update { from, to });
        }
        match error {
            Some(Error::Interrupted { reason }) if !self.news.is_stopped => {
                self.news.is_stopped = true;
                self.news.send(Event::Interrupt {
                    reason: reason.clone(),
                });
            }
            Some(error @ (Error::Disk { .. } | Error::Internal { .. })) => {
                self.news.send(Event::Error {
                    what: error.to_string(),
                });
            }
            _ => {}
        }
    }
}
