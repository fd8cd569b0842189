//! How far everything is: writers, peers, and what is waited for.

use super::machine::{Known, StoredLog as _};
use super::{Autobee, Changes, Progress, Session, Stalled, WriterStatus};
use crate::crypto::CoreKey;
use crate::engine::MissingBlock;
use crate::env::{Clock as _, Env, Mono, Slip, knob};
use crate::error::Error;
use crate::store::Recovered;
use crate::wire::oplog::{OplogBlock, ViewStamps};
use crate::wire::{Decode as _, Index, Length, Link, Timestamp};

/// Blocks of a writer that are searched for the stamps of its views, as the original does.
const VIEWS_SEARCHED: u64 = 64;

/// A look at a database at one moment.
///
/// ```
/// # use autobee::{Autobee, Corestore};
/// # use autobee::apply::OrderOnly;
/// # use autobee::env::memory::MemoryEnv;
/// # let env = MemoryEnv::new(1);
/// # env.run(async {
/// # let db = Autobee::builder(Corestore::open_default(env.clone()).await?).apply(OrderOnly).open().await?;
/// db.append(b"hello").await?;
/// let status = db.status();
/// assert!(status.is_writable && status.peers.is_empty() && status.missing.is_empty());
/// assert_eq!(status.writers[0].applied, status.writers[0].length);
/// # Ok::<(), autobee::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// The local writer may write; never where the database was opened for reading only.
    pub is_writable: bool,
    /// Each core of a writer, or of a stranger that is looked at, by key.
    pub writers: Vec<WriterProgress>,
    /// Each running connection, oldest first.
    pub peers: Vec<PeerProgress>,
    /// Links that nothing can be ordered behind before what they name is here.
    pub missing: Vec<Link>,
    /// The block of a tree that applying waits for: peers are asked for it.
    pub awaited: Option<MissingBlock>,
    /// The key is that of a writer's log of this other database, see [`Event::WritersKey`](super::Event::WritersKey).
    pub writer_of: Option<CoreKey>,
    /// Why this peer applies nothing any more.
    pub stopped: Option<String>,
    /// Entries whose time stamp is more than two hours ahead of the clock here, by writer: those that wait here, then those
    /// that are applied here and wait at each peer whose clock is right.
    pub ahead: Vec<Ahead>,
    /// How far a rebuild of the view is that another version of apply causes; none when there is none.
    pub rebuild: Option<Rebuild>,
    /// What the opening of the store found: commits that were durable once and are missing, a checkpoint that was left
    /// aside, an unfinished write that was cut off.
    pub recovered: Recovered,
}

/// An entry that waits for the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ahead {
    /// The writer.
    pub key: CoreKey,
    /// The length of its log with the entry: of those that wait here the first one, of those that are applied here the one
    /// with the latest time stamp. What the writer wrote behind it waits with it, and so does what others wrote on top.
    pub length: Length,
    /// When it is no longer more than two hours ahead.
    pub until: Timestamp,
    /// It is applied here: it came, or was written, when the clock was further ahead than it is now. It waits at peers.
    pub is_applied: bool,
}

/// How far a rebuild of the view is, see [`Builder::apply_version`](super::Builder::apply_version).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rebuild {
    /// The version of apply that made the view that was stored.
    pub from: u64,
    /// The version of apply that makes it anew.
    pub to: u64,
    /// Batches that were applied since the database was opened, about: what is undone on the way counts twice.
    pub applied: u64,
    /// Batches that are here. Those of strangers whom nobody lets in are among them.
    pub batches: u64,
}

/// How far one writer is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WriterProgress {
    /// The writer.
    pub key: CoreKey,
    /// What the membership says of it. None: a stranger.
    pub record: Option<WriterStatus>,
    /// How long its log is, as far as a peer proved it.
    pub length: Length,
    /// How many of its first blocks are here.
    pub have: Length,
    /// How many of them are applied.
    pub applied: Length,
    /// What keeps the others from being applied; none when there are no others.
    pub pending: Option<Pending>,
}

/// Why blocks of a writer are not applied.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pending {
    /// They are still at peers.
    Blocks,
    /// They wait for blocks that they link, for the clock, for a grant, or for the next drain.
    Order,
    /// Nothing more of this log is taken.
    Stalled(Stalled),
}

/// How far the exchange with one peer is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PeerProgress {
    /// The connection: it can be closed, or waited for.
    pub session: Session,
    /// How much came and went, and how much the peer has that is not here.
    pub progress: Progress,
}

impl<E: Env> Autobee<E> {
    // How far it is.

    /// How far everything is, and what is waited for.
    #[must_use]
    pub fn status(&self) -> Status {
        let peers = self
            .shared
            .machine
            .sessions()
            .into_iter()
            .map(|session| PeerProgress {
                progress: session.progress(),
                session,
            });
        let peers = peers.collect();
        let published = self.shared.read();
        let writers = published.known().map(|known| {
            let mut record = published.writer(&known.key);
            if let Some(record) = &mut record
                && self.shared.store.planted().has(Slip::StatusStored)
            {
                record.length = known.have;
            }
            let stalled = published.stalled.get(&known.key).cloned();
            WriterProgress::new(known, record, stalled)
        });
        let now = Timestamp(self.shared.env.clock().wall().0);
        let ahead = published.stamped.ahead(now);
        let ahead = ahead.filter(|(key, ..)| published.logs.contains_key(key));
        let ahead = ahead.map(|(key, length, until, is_applied)| Ahead {
            key,
            length,
            until,
            is_applied,
        });
        Status {
            is_writable: self.writable(),
            writers: writers.collect(),
            peers,
            missing: published.missing().collect(),
            awaited: published.awaited,
            writer_of: published.writer_of,
            stopped: published.stopped.as_deref().map(str::to_owned),
            ahead: ahead.collect(),
            rebuild: published.rebuild.map(|change| Rebuild {
                from: change.from,
                to: change.to,
                applied: published.stats.applies.min(published.held.ready as u64),
                batches: published.held.ready as u64,
            }),
            recovered: self.shared.store.recovered().clone(),
        }
    }

    /// The record of one writer; none when it never was one.
    #[must_use]
    pub fn writer(&self, key: &CoreKey) -> Option<WriterStatus> {
        self.shared.read().writer(key)
    }

    /// Where a writer says that its own system tree and its own view stand, by its newest block that says so; none when
    /// it is no writer of now, or said nothing lately.
    ///
    /// # Errors
    ///
    /// `Closed`, or that of a store that cannot be read.
    pub fn writer_views(&self, key: &CoreKey) -> Result<Option<ViewStamps>, Error> {
        self.shared.check_open()?;
        let published = self.shared.read();
        let (true, Some(log)) = (published.is_writer(key), published.logs.get(key)) else {
            return Ok(None);
        };
        let end = log.contiguous_length()?;
        let searched = knob::VIEWS_SEARCHED.of(&self.shared.env, VIEWS_SEARCHED);
        for index in (end.saturating_sub(searched)..end).rev() {
            let block = log.block(index)?;
            let views = block.and_then(|block| OplogBlock::from_bytes(&block).ok()?.views);
            if views.is_some() {
                return Ok(views);
            }
        }
        Ok(None)
    }

    // Waiting.

    /// Waits until all that is known of the logs of all writers is here and applied, as far as it can be: what stalled
    /// is not waited for.
    ///
    /// # Errors
    ///
    /// `Unavailable` with the first block that did not come within `read_wait_ms`; `Interrupted`, `Closed`.
    pub async fn flush(&self) -> Result<(), Error> {
        let clock = self.shared.env.clock();
        let deadline = clock.now() + self.shared.settings.read_wait();
        loop {
            self.shared.drain().await?;
            // A drain is a change itself: what counts is what comes after it.
            let mut changes = Changes::now(&self.shared);
            let Some((core, index)) = self.first_missing() else {
                return Ok(());
            };
            if !self.changed_before(&mut changes, deadline).await {
                return Err(Error::Unavailable { core, index });
            }
        }
    }

    /// Notes that a writer has at least this many entries, as somebody said elsewhere: its core is looked for at all
    /// peers, like one that a peer announces, and what is here of it is applied.
    ///
    /// # Errors
    ///
    /// `Interrupted`, `Closed`.
    pub async fn wakeup(&self, writer: Link) -> Result<(), Error> {
        self.shared.check_open()?;
        self.shared.check_entry()?;
        self.shared.hint(&[writer]).await;
        self.shared.drain().await
    }

    /// True for a database, whatever it is handed in as.
    #[must_use]
    pub fn is_autobee(value: &dyn std::any::Any) -> bool {
        value.is::<Self>()
    }

    /// The first block that is known to exist and is not here.
    fn first_missing(&self) -> Option<(CoreKey, Index)> {
        let published = self.shared.read();
        let mut known = published.known();
        let waits_for_all = self.shared.store.planted().has(Slip::FlushAwaitsStalled);
        let is_awaited = |key: &CoreKey| waits_for_all || !published.stalled.contains_key(key);
        let unfinished = known.find(|known| {
            known.have < known.length && published.is_member(&known.key) && is_awaited(&known.key)
        });
        if let Some(known) = unfinished {
            return Some((known.key, Index(known.have.0)));
        }
        let link = published.missing().find(|link| is_awaited(&link.key))?;
        Some((link.key, Index(link.length.0.saturating_sub(1))))
    }

    /// Waits for a change. False when none came before `deadline`.
    async fn changed_before(&self, changes: &mut Changes, deadline: Mono) -> bool {
        let clock = self.shared.env.clock();
        super::shell::unless(changes.wait(&self.shared), clock.sleep_until(deadline))
            .await
            .is_some()
    }
}

impl WriterProgress {
    fn new(known: Known, record: Option<WriterStatus>, stalled: Option<Stalled>) -> Self {
        let applied = record.map_or(Length::ZERO, |record| record.length);
        let pending = match stalled {
            Some(stalled) => Some(Pending::Stalled(stalled)),
            None if known.have > applied => Some(Pending::Order),
            None if known.length > known.have => Some(Pending::Blocks),
            None => None,
        };
        Self {
            key: known.key,
            record,
            length: known.length,
            have: known.have,
            applied,
            pending,
        }
    }
}
