//! What checks read of a database while it runs. For the simulator: no part of the public interface, and read-only.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::machine::StoredLog as _;
use super::shell::MachineOf;
use super::{Autobee, Held, OrderedEntry, Stats};
use crate::apply::TreeSnapshot;
use crate::crypto::CoreKey;
use crate::engine::{AnchorKeys, Covered};
use crate::env::Env;
use crate::error::Error;
use crate::hypercore::{CoreError, Corestore};
use crate::replication::session::Progress;
use crate::store::Seq;
use crate::wire::system::{InfoRecord, SystemKey};
use crate::wire::{Decode as _, Index, Length, Link, Timestamp};

/// The machine of a database, to be stepped by hand, without executor or network.
pub mod machine {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use crate::crypto::{CoreKey, Verify};
    use crate::db::machine::{BOOT, CHECKPOINTS, FORKS};
    use crate::engine::{Engine, EngineOptions, Trees};
    use crate::env::Planted;

    pub use crate::db::machine::{
        Effect, Input, ListenerState, LogEvents, Logs, Machine, MachineParts, Moved, NotMoved, Now,
        Published, StoredLog, TreeCommit, TreeLengths, TreeRecord,
    };

    /// An engine that goes on from what was stored, as an opening makes it, and where its trees stand. `values` are those of
    /// [`TreeCommit::values`] that the local writer's log has.
    ///
    /// # Errors
    ///
    /// With what cannot be gone on from: nothing here is damaged, so that it should be.
    pub fn go_on<V: Verify>(
        options: EngineOptions<V>,
        trees: Trees,
        values: &BTreeMap<&'static str, Bytes>,
        local: CoreKey,
        planted: Planted,
    ) -> Result<(Engine<V>, TreeRecord), String> {
        let value = |name: &str| values.get(name).cloned();
        let record = TreeRecord::new(trees, value(BOOT), value(FORKS));
        let mut record = record.map_err(|(name, error)| format!("{name}: {error}"))?;
        let forks = BTreeMap::new();
        let checkpoints = record.checkpoints(value(CHECKPOINTS), &forks);
        let checkpoints = checkpoints.ok_or("the checkpoints do not decode")?;
        let mut engine = Engine::resume(options, &checkpoints).map_err(|error| error.to_string())?;
        engine.plant(planted);
        engine.set_local(local);
        record.resume(&mut engine, &forks, true);
        if record.is_void() {
            return Err("what is stored of the trees cannot be gone on from".into());
        }
        Ok((engine, record))
    }
}

/// Looks at the machine of a database.
fn look<E: Env, T>(db: &Autobee<E>, look: impl FnOnce(&MachineOf<E>) -> T) -> Result<T, Error> {
    db.shared.check_open()?;
    let seen = db.shared.machine.look(look);
    seen.ok_or_else(|| Error::Internal {
        what: "the machine is being stepped".into(),
    })
}

/// What the engine of a database holds at one moment.
#[derive(Debug, Clone)]
pub struct EngineSet {
    /// The set of batches that order, records and view are those of. None while a drain is not finished, is suspended or
    /// stopped, and while there are batches that none has seen.
    pub covered: Option<Covered>,
    /// The bootstrap key of the database.
    pub database: CoreKey,
    /// Whether batches of strangers are tried.
    pub takes_strangers: bool,
    /// Whether the logs are encrypted.
    pub is_encrypted: bool,
    /// The keys of anchors.
    pub anchors: AnchorKeys,
    /// What is in memory, and must be bounded.
    pub sizes: Sizes,
    /// Batches in the order, with those that were forgotten.
    pub applied: usize,
    /// Calls of apply, undos and undone batches since the opening.
    pub stats: Stats,
    /// How long the own log is.
    pub own_visible: Length,
    /// How much of it is shown to peers, and so survives power loss.
    pub own_durable: Length,
    /// An own batch is in the order, and not yet in the own log.
    pub has_unwritten: bool,
    /// The head of the system tree.
    pub system: Link,
    /// The head of the view.
    pub view: Link,
    /// What an append would stand on, oldest first.
    pub heads: Vec<Link>,
    /// The highest timestamp in the order.
    pub timestamp: Timestamp,
    /// Batches that were applied or recorded, as the system tree counts them.
    pub flushes: u64,
    /// What readers are shown is what the machine has: the same logs, and the same versions of the trees.
    pub is_shown: bool,
    /// The time for which the next entry from the future waits.
    pub waits_until: Option<Timestamp>,
    /// The same, when the local clock says that it has come.
    pub overdue: Option<Timestamp>,
}

/// Numbers that must stay bounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Of the engine.
    pub engine: Held,
    /// Blocks of batches that are not whole, or that wait for the clock.
    pub unready_blocks: u64,
    /// Cores that are open.
    pub cores: usize,
    /// Cores of the store of which somebody has a session that does more than serve peers.
    pub store_cores: usize,
    /// Limits of downloads that are over.
    pub limits_left: usize,
    /// Callers who wait for a sync of a store that has failed.
    pub syncs_unanswered: usize,
    /// Cores that are to be opened.
    pub cores_to_open: usize,
    /// Cores of strangers that are fetched.
    pub strangers: usize,
    /// Cores of strangers that wait to be fetched.
    pub strangers_waiting: usize,
    /// Connections.
    pub sessions: usize,
    /// Peers that some core or topic remembers, of that which remembers most.
    pub peers_kept: usize,
    /// The most bytes that wait for one peer to read them.
    pub unsent_max: usize,
    /// The most requests of one peer that wait for their answers.
    pub unanswered_max: usize,
}

/// What the engine of a database holds.
///
/// # Errors
///
/// `Closed`.
pub fn held<E: Env>(db: &Autobee<E>) -> Result<EngineSet, Error> {
    let sessions = db.shared.machine.sessions();
    let progress: Vec<_> = sessions.iter().map(super::Session::progress).collect();
    look(db, |machine| {
        let engine = machine.engine();
        let logs = machine.logs();
        let [cores_to_open, strangers, strangers_waiting] = machine.counts();
        Ok(EngineSet {
            covered: engine.covered(),
            database: engine.key(),
            takes_strangers: engine.takes_strangers(),
            is_encrypted: db.shared.keys.is_some(),
            anchors: engine.anchor_keys(),
            sizes: Sizes {
                engine: engine.held(),
                unready_blocks: engine.unready_blocks(),
                cores: logs.keys().count(),
                store_cores: db.shared.store.open_cores().len(),
                limits_left: db.shared.store.limits_left(),
                syncs_unanswered: db.shared.store.syncs_unanswered(),
                cores_to_open,
                strangers,
                strangers_waiting,
                sessions: sessions.len(),
                peers_kept: db.shared.replication.peers_kept(),
                unsent_max: progress.iter().map(|peer| peer.unsent).max().unwrap_or(0),
                unanswered_max: progress.iter().map(|peer| peer.unanswered).max().unwrap_or(0),
            },
            applied: engine.batches(),
            stats: engine.stats().into(),
            // Of a log that its owner contradicted, what was taken is all that can be said.
            own_visible: match logs.local_length() {
                Err(CoreError::Signatures { .. }) => logs.taken(&db.local()),
                length => length?,
            },
            own_durable: logs.offered_length(&db.local()),
            has_unwritten: machine.has_own_batch(),
            system: engine.records().head(),
            view: engine.view().head(),
            heads: engine.system().heads().iter().collect(),
            timestamp: engine.system().timestamp(),
            flushes: engine.system().flushes(),
            is_shown: {
                let shown = db.shared.read();
                let versions = (engine.records().head(), engine.view().head());
                (shown.records, shown.view.head()) == versions && shown.logs.keys().copied().eq(logs.keys())
            },
            waits_until: engine.waits_until(),
            overdue: engine.waits_until().filter(|at| *at <= db.shared.now().wall),
        })
    })?
}

/// The last commit of a store, and the last one that survives power loss.
///
/// # Errors
///
/// The store was closed.
pub fn commits<E: Env>(store: &Corestore<E>) -> Result<(Seq, Seq), Error> {
    Ok(store.commits()?)
}

/// A connection that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// What it says of itself.
    pub progress: Progress,
    /// The cores that both sides replicate on it, as the cores know it.
    pub cores: BTreeSet<CoreKey>,
}

/// The connections that run.
#[must_use]
pub fn connections<E: Env>(db: &Autobee<E>) -> Vec<Connected> {
    let sessions = db.shared.machine.sessions();
    let running = sessions.iter().filter_map(|session| {
        Some(Connected {
            cores: db.shared.replication.cores_of(session.inner())?,
            progress: session.progress(),
        })
    });
    running.collect()
}

/// The first blocks of a log, in clear, as the engine took them. None when they are not all here any more: the core was
/// closed or rewritten, and its start forgotten. Own blocks may come without what the end of a round stamps on them: views and attestations, which mean nothing to
/// the order.
#[must_use]
pub fn blocks<E: Env>(db: &Autobee<E>, core: &CoreKey, length: Length) -> Option<Vec<Bytes>> {
    let blocks = look(db, |machine| {
        let stored = machine.logs().taken_blocks(core, length);
        stored.or_else(|| machine.engine().read_blocks(core, length))
    });
    blocks.ok().flatten()
}

/// Everything in the order, as [`Autobee::order`] gives it.
///
/// # Errors
///
/// When what is not in memory cannot be read.
pub fn order<E: Env>(db: &Autobee<E>) -> Result<Vec<OrderedEntry>, Error> {
    db.shared.check_open()?;
    db.order()
}

/// The version of the system tree behind so many entries of the order; none when it is not in memory.
///
/// # Errors
///
/// `Closed`.
pub fn head_behind<E: Env>(db: &Autobee<E>, entries: u64) -> Result<Option<Link>, Error> {
    look(db, |machine| machine.engine().head_behind(entries))
}

/// The trees behind the order: the view, then that of the records.
///
/// # Errors
///
/// `Closed`.
pub fn trees<E: Env>(db: &Autobee<E>) -> Result<[TreeSnapshot; 2], Error> {
    look(db, |machine| {
        [machine.engine().view(), machine.engine().records()]
    })
}

/// What the tree of records says of itself at an earlier version; none when it cannot be read.
#[must_use]
pub fn info_at<E: Env>(db: &Autobee<E>, head: Link) -> Option<InfoRecord> {
    let [_, records] = trees(db).ok()?;
    let version = TreeSnapshot::at(records.tree(), head);
    let info = version.get(&SystemKey::Info.to_bytes()).ok()??;
    InfoRecord::from_bytes(&info).ok()
}

/// How often each log that is open was rewritten.
pub fn forks<E: Env>(db: &Autobee<E>) -> BTreeMap<CoreKey, u64> {
    let published = db.shared.read();
    let forks = published.logs.iter().filter_map(|(key, log)| {
        // A log that is closed has none.
        let fork = log.fork().ok()?;
        Some((*key, fork))
    });
    forks.collect()
}

/// The leading blocks of a log from an index on, clear, as far as they are stored here.
///
/// # Errors
///
/// When the store cannot be read.
pub fn blocks_from<E: Env>(db: &Autobee<E>, core: &CoreKey, from: Index) -> Result<Vec<Bytes>, Error> {
    let published = db.shared.read();
    let Some(log) = published.logs.get(core) else {
        return Ok(Vec::new());
    };
    let mut blocks = Vec::new();
    for index in from.0.. {
        match log.block(index) {
            Ok(Some(block)) => blocks.push(block),
            // What is not encrypted as it should be ends what can be read of a log.
            Ok(None) | Err(CoreError::Cipher(_)) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(blocks)
}
