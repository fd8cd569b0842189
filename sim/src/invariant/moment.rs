//! What all replicas are at one point of virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use autobee::Settings;
use autobee::crypto::{CoreKey, Hash};
use autobee::db::sim_hooks::{Connected, Sizes};
use autobee::db::{Held, OrderedEntry, Stats, WriterStatus};
use autobee::env::Point;
use autobee::wire::{Length, Link, Timestamp};
use bytes::Bytes;

use super::{Claims, LogCopy, Seen};

/// A moment of a run.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    /// Virtual time since the world began.
    pub now: Duration,
    /// The database.
    pub database: CoreKey,
    /// Every replica, by number.
    pub replicas: &'a [ReplicaLook],
    /// Every append that returned so far, in the order of the returns.
    pub acknowledged: &'a [Acknowledged],
    /// What the faults of the run leave to be claimed.
    pub claims: &'a Claims,
    /// Everything is healed, and nobody is restarted any more.
    pub is_calm: bool,
}

/// One replica at a moment.
#[derive(Debug, Clone)]
pub struct ReplicaLook {
    /// Its number.
    pub replica: usize,
    /// Its name.
    pub name: String,
    /// How often it was started.
    pub life: u32,
    /// How many tasks of each name it runs, where the scheduler says so.
    pub tasks: BTreeMap<&'static str, usize>,
    /// How many streams it holds an end of.
    pub streams: usize,
    /// What it held against peers since the run began.
    pub blames: BTreeSet<Point>,
    /// How many blocks of a log, up to the first gap, readers hold that are connected to it.
    pub offered: BTreeMap<CoreKey, u64>,
    /// What its database shows; none when it is down or not open.
    pub look: Option<Look>,
    /// Why a database that is open shows nothing.
    pub unseen: Option<String>,
}

/// A start of the order that a replica said could no longer change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettledLook {
    /// Entries, batches counted as one.
    pub entries: u64,
    /// It rests on strangers.
    pub rests_on_strangers: bool,
    /// The version of the system tree behind it is another one now.
    pub has_moved: bool,
}

/// What an open database shows of itself.
#[derive(Debug, Clone)]
pub struct Look {
    /// The key of its writer.
    pub local: CoreKey,
    /// Logs that were its writer's before.
    pub former: BTreeSet<CoreKey>,
    /// How much of its own log peers may be shown: what is durable.
    pub shown: Length,
    /// An own batch is in the order, and not yet in the own log.
    pub has_unwritten: bool,
    /// How much of each log took part in the order that it shows; none while an order is being made.
    pub set: Option<BTreeMap<CoreKey, Length>>,
    /// The same, with the batches that wait for what they name.
    pub known: Option<BTreeMap<CoreKey, Length>>,
    /// What it said that can no longer change.
    pub settled: Option<SettledLook>,
    /// Everything in its order.
    pub order: Vec<OrderedEntry>,
    /// What an append would stand on, oldest first.
    pub heads: Vec<Link>,
    /// The highest timestamp in the order.
    pub timestamp: Timestamp,
    /// Batches that the system tree counts.
    pub flushes: u64,
    /// What readers are shown is what the database has.
    pub is_shown: bool,
    /// The time for which an entry from the future waits, when the clock of the replica says that it has come.
    pub overdue: Option<Timestamp>,
    /// The records of all writers.
    pub writers: Vec<WriterStatus>,
    /// The whole view.
    pub view: Arc<Vec<(Bytes, Bytes)>>,
    /// The version of the view.
    pub view_head: Link,
    /// The blocks of all logs that are here, up to the first gap.
    pub logs: BTreeMap<CoreKey, Arc<LogCopy>>,
    /// Counts of applies and undos.
    pub stats: Stats,
    /// What is in memory.
    pub held: Held,
    /// Queues, and what else must be bounded.
    pub sizes: Sizes,
    /// Its connections.
    pub connections: Vec<Connected>,
    /// The settings that it was started with.
    pub settings: Settings,
    /// Logs whose owners signed two histories, as it says.
    pub contradicted: BTreeSet<CoreKey>,
    /// How far each log is, as `status()` says.
    pub progress: Vec<Progress>,
    /// Entries that wait for the clock here, as `status()` says.
    pub held_back: Vec<(Link, Timestamp)>,
    /// What the order waits for, as `status()` says.
    pub missing: Vec<Link>,
    /// Why nothing is applied any more, as `status()` says.
    pub stopped: Option<String>,
    /// Whether the local writer may write, as `status()` says.
    pub status_writable: bool,
    /// Whether the local writer may write, as `writable()` says.
    pub is_writable: bool,
    /// What a client was told.
    pub seen: Seen,
}

/// Why a replica shows nothing whose view cannot be read before a block of it is here.
pub(crate) const VIEW_WAITS: &str = "its view waits for a block that is not here";

/// How far one log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The writer.
    pub key: CoreKey,
    /// Its record, as `status()` has it.
    pub record: Option<WriterStatus>,
    /// How long it is known to be.
    pub length: Length,
    /// How much of it is here.
    pub have: Length,
    /// How much of it is applied.
    pub applied: Length,
    /// What keeps the rest.
    pub pending: Option<String>,
    /// Nothing more of it is taken.
    pub is_stalled: bool,
}

/// An append that returned to its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// The replica that appended.
    pub replica: usize,
    /// The writer.
    pub key: CoreKey,
    /// The length of its log with the last value of the append.
    pub length: Length,
    /// What was appended, in its order.
    pub values: Vec<Bytes>,
}

impl Moment<'_> {
    /// The replicas whose databases are open, with what they show.
    pub fn open(&self) -> impl Iterator<Item = (&ReplicaLook, &Look)> {
        self.replicas
            .iter()
            .filter_map(|replica| Some((replica, replica.look.as_ref()?)))
    }

    /// The name of the replica that writes to a core; the key's first digits when it is nobody's.
    #[must_use]
    pub fn name_of(&self, core: &CoreKey) -> String {
        let mut open = self.open();
        let owner = open.find(|(_, look)| look.writes(core));
        owner.map_or_else(
            || core.to_hex()[..8].to_owned(),
            |(replica, _)| replica.name.clone(),
        )
    }

    /// A block, for people: who wrote it, and the length of the log with it.
    #[must_use]
    pub fn block(&self, core: &CoreKey, length: Length) -> String {
        format!("{}:{length}", self.name_of(core))
    }
}

impl Look {
    /// True for its own log, and for those that were.
    #[must_use]
    pub fn writes(&self, core: &CoreKey) -> bool {
        self.local == *core || self.former.contains(core)
    }

    /// A hash over the bytes of all blocks in a set; none when some of them are not here.
    #[must_use]
    pub fn set_digest(&self) -> Option<Hash> {
        let set = self.known.as_ref()?;
        let mut bytes = Vec::with_capacity(set.len() * 72);
        for (core, length) in set.iter().filter(|(_, length)| **length > Length::ZERO) {
            bytes.extend_from_slice(core.as_bytes());
            bytes.extend_from_slice(&length.0.to_le_bytes());
            bytes.extend_from_slice(self.logs.get(core)?.digest(*length)?.as_bytes());
        }
        Some(autobee::crypto::hash(&[&bytes]))
    }
}
