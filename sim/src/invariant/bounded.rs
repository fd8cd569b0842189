//! What is in memory stays within its bounds.
//!
//! Source: `Settings::window_batches` and `db::Held`: twice the window is held, and what waits is bounded by what is here.
//! `Settings::outbox_bytes_max`, `requests_queued_max` and `stranger_cores_max` bound what peers can make one hold.

use super::{Invariant, Look, Moment, ReplicaLook};

/// Batches that may be held beyond twice the window: one portion of applying, and the own batch.
const SLACK: usize = 64;

/// Checkpoints besides two for each doubling of the way back.
const CHECKPOINTS_MORE: usize = 4;

/// Bytes that one more message about each core may have, when there is room for a byte in the outbox: a block with its
/// proof.
const MESSAGE_BYTES: usize = 1 << 16;

/// Connections of one peer at one time: one that runs, and those that nobody has given up yet.
const SESSIONS_OF_A_PEER: usize = 24;

/// Cores besides those of writers and strangers: the bootstrap core, the own one, and those of the trees.
const OWN_CORES: usize = 8;

/// Streams of one peer at one time: those of connections, and those that are being made.
const STREAMS_OF_A_PEER: usize = 2 * SESSIONS_OF_A_PEER;

/// Tasks of one name, besides one for each core and each stream.
const OWN_TASKS: usize = 16;

/// What the run itself starts: for each append of its plan, and for each replica that is dialled.
const TASKS_OF_THE_PLAN: &[&str] = &["append", "dial", "keep", crate::side_core::TASK];

/// See the module.
#[derive(Debug, Default)]
pub struct Bounds {
    looks: u64,
}

impl Invariant for Bounds {
    fn name(&self) -> &'static str {
        "bounds"
    }

    fn tick(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for (replica, look) in moment.open() {
            let blocks: u64 = look.logs.values().map(|log| log.length().0).sum();
            let held = look.held;
            if held.waiting as u64 > blocks {
                return Err(format!(
                    "{} has {} batches that wait, of {blocks} blocks",
                    replica.name, held.waiting
                ));
            }
            // What takes part in the order does not wait, nor what is forgotten.
            let beyond = look.set.as_ref().zip(look.known.as_ref()).map(|(set, known)| {
                let beyond = known.iter().map(|(core, length)| {
                    let ready = set.get(core).copied().unwrap_or_default();
                    length.0.saturating_sub(ready.0)
                });
                beyond.sum::<u64>()
            });
            if let Some(beyond) = beyond.filter(|beyond| held.waiting as u64 > *beyond) {
                return Err(format!(
                    "{} says that {} batches wait, and {beyond} blocks are not in its order",
                    replica.name, held.waiting
                ));
            }
            if let Some(what) = queues(moment, look).or_else(|| running(moment, replica, look)) {
                return Err(format!("{} {what}", replica.name));
            }
            self.looks += 1;
        }
        Ok(())
    }

    fn end(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        self.tick(moment)?;
        for (replica, look) in moment.open() {
            let appends = replica.tasks.get("append").copied().unwrap_or_default();
            if appends > 0 && look.stopped.is_none() {
                return Err(format!(
                    "{} has {appends} appends that never returned",
                    replica.name
                ));
            }
            let (kept, sessions) = (look.sizes.peers_kept, look.sizes.sessions);
            if kept > sessions {
                return Err(format!(
                    "{} remembers {kept} peers at rest, and has {sessions} sessions",
                    replica.name
                ));
            }
            let doublings = usize::BITS - look.order.len().leading_zeros();
            if look.held.checkpoints > 2 * doublings as usize + CHECKPOINTS_MORE {
                return Err(format!(
                    "{} holds {} checkpoints of {} entries in memory",
                    replica.name,
                    look.held.checkpoints,
                    look.order.len()
                ));
            }
            let window = look.settings.window_batches;
            let most = window.saturating_mul(2).saturating_add(SLACK);
            if look.held.batches > most {
                return Err(format!(
                    "{} holds {} batches of the order in memory, with a window of {}",
                    replica.name, look.held.batches, window
                ));
            }
        }
        Ok(())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("bounded memories", self.looks)]
    }
}

/// Streams, and tasks of each name.
fn running(moment: &Moment<'_>, replica: &ReplicaLook, look: &Look) -> Option<String> {
    let most = peers(moment) * STREAMS_OF_A_PEER;
    if replica.streams > most {
        return Some(format!(
            "holds {} streams, at most {most} are allowed",
            replica.streams
        ));
    }
    let most = OWN_TASKS + look.sizes.cores + replica.streams;
    replica.tasks.iter().find_map(|(name, count)| {
        (*count > most && !TASKS_OF_THE_PLAN.contains(name))
            .then(|| format!("runs {count} tasks {name:?}, at most {most} are allowed"))
    })
}

/// Who may be connected with a replica.
fn peers(moment: &Moment<'_>) -> usize {
    moment.replicas.len() + moment.claims.hostile + moment.claims.readers
}

/// What is held for peers, and because of them.
fn queues(moment: &Moment<'_>, look: &Look) -> Option<String> {
    let (sizes, settings) = (look.sizes, &look.settings);
    let over = |what: &str, count: usize, most: usize| {
        (count > most).then(|| format!("has {count} {what}, at most {most} are allowed"))
    };
    let peers = peers(moment);
    let cores = sizes.cores.max(1);
    over(
        "bytes for one peer",
        sizes.unsent_max,
        settings
            .outbox_bytes_max
            .saturating_add((cores + 1) * MESSAGE_BYTES),
    )
    .or_else(|| {
        let most = settings.requests_queued_max.saturating_add(1).saturating_mul(2);
        over(
            "requests of one peer",
            sizes.unanswered_max,
            most.saturating_mul(cores),
        )
    })
    .or_else(|| {
        over(
            "callers who hear nothing of a sync that failed",
            sizes.syncs_unanswered,
            0,
        )
    })
    .or_else(|| over("limits of downloads that are over", sizes.limits_left, 0))
    .or_else(|| over("sessions", sizes.sessions, peers * SESSIONS_OF_A_PEER))
    .or_else(|| over("strangers", sizes.strangers, settings.stranger_cores_max))
    .or_else(|| {
        let known = look.writers.len() + sizes.strangers;
        over(
            "open cores",
            sizes.cores,
            known + settings.stranger_cores_max + OWN_CORES,
        )
    })
    .or_else(|| {
        // Of each writer the log and two trees, of which views and histories are read.
        let beside = moment.claims.side_cores;
        let most = 3 * (look.writers.len() + peers) + settings.stranger_cores_max + OWN_CORES + beside;
        over("cores of its store in use", sizes.store_cores, most)
    })
}
