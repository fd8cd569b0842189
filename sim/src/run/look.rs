//! Looking at all replicas of a run, from outside of their world and without moving it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use autobee::crypto::CoreKey;
use autobee::db::{Autobee, Pending, Stalled, View, sim_hooks};
use autobee::env::Env;
use autobee::wire::{Index, Link};
use autobee::{Range, Settings};
use bytes::Bytes;

use super::group::{Entries, Group};
use crate::invariant::{
    LogCopy, Look, Progress, ReplicaLook, Seen, SettledLook, VIEW_WAITS, Violation, first_difference,
};
use crate::simulated_world::SimulatedWorld;

/// What was read of replicas before, so that a look reads only what came since.
#[derive(Default)]
pub(super) struct Looks {
    logs: BTreeMap<(usize, CoreKey), Known>,
    views: BTreeMap<usize, KnownView>,
    settled: BTreeMap<usize, KnownSettled>,
    /// Looks up to now.
    count: u64,
    /// What is wrong with how views are read.
    misread: Vec<String>,
}

/// What a replica said can no longer change.
struct KnownSettled {
    life: u32,
    fast_forwards: u64,
    entries: u64,
    head: Option<Link>,
    rests_on_strangers: bool,
}

/// One of so many looks asks what can no longer change.
const SETTLED_LOOKS: u64 = 5;

/// What is known of a replica and not of its database.
#[derive(Default)]
struct KnownOutside {
    life: u32,
    former: BTreeSet<CoreKey>,
    settings: Settings,
    seen: Seen,
}

/// What one open database shows, which is no replica of a run. The error says why it shows nothing.
pub(crate) fn look_at<E: Env>(db: &Autobee<E>) -> Result<Look, String> {
    Looks::default().look(0, db, KnownOutside::default())
}

struct KnownView {
    life: u32,
    view: View,
    entries: Entries,
    /// Looks that asked only for what had changed, since one that read everything.
    by_changes: u32,
}

/// Entries up to which a view is always read as a whole.
const READ_WHOLE: usize = 16;

/// One of so many reads of a longer view is of all entries, and what had changed is compared with them.
const WHOLE_READS: u32 = 8;

struct Known {
    life: u32,
    fork: u64,
    log: Arc<LogCopy>,
}

impl Looks {
    /// What all replicas are now.
    pub(super) fn take<S: SimulatedWorld>(
        &mut self,
        world: &S,
        group: &Group<S::Env>,
        replicas: usize,
    ) -> Vec<ReplicaLook> {
        (0..replicas)
            .map(|replica| {
                let looked = group.db(replica).map(|db| {
                    let known = KnownOutside {
                        life: group.life(replica),
                        former: group.former(replica, db.local()),
                        settings: group.settings(replica),
                        seen: group.seen(replica),
                    };
                    self.look(replica, &db, known)
                });
                let (look, unseen) = match looked {
                    None => (None, None),
                    Some(Ok(look)) => (Some(look), None),
                    Some(Err(why)) => (None, Some(why)),
                };
                ReplicaLook {
                    replica,
                    name: group.name(replica),
                    life: group.life(replica),
                    tasks: world.tasks_of(group.id(replica)),
                    streams: world.streams_of(group.id(replica)),
                    blames: world.blames_of(group.id(replica)),
                    offered: BTreeMap::new(),
                    look,
                    unseen,
                }
            })
            .collect()
    }

    /// What was found wrong with how views are read, since it was asked for last.
    pub(super) fn take_misread(&mut self) -> Vec<Violation> {
        let found = self.misread.drain(..);
        let named = found.map(|what| Violation {
            invariant: "changes of views",
            what,
        });
        named.collect()
    }

    /// The error says why the database answers nothing: it is closed, or its disk fails.
    fn look<E: Env>(
        &mut self,
        replica: usize,
        db: &Autobee<E>,
        outside: KnownOutside,
    ) -> Result<Look, String> {
        let life = outside.life;
        let set = sim_hooks::held(db).map_err(|error| format!("it is not open: {error}"))?;
        let (ready, known) = set.covered.map(|covered| (covered.ready, covered.known)).unzip();
        let view = self.view(replica, life, &db.view())?;
        let settled = self.settled(replica, life, db, outside.seen.settled);
        let status = db.status();
        let mut logs = BTreeMap::new();
        for (core, fork) in &sim_hooks::forks(db) {
            let known = self.logs.entry((replica, *core)).or_insert_with(|| Known {
                life,
                fork: *fork,
                log: Arc::default(),
            });
            if (known.life, known.fork) != (life, *fork) {
                *known = Known {
                    life,
                    fork: *fork,
                    log: Arc::default(),
                };
            }
            let more = sim_hooks::blocks_from(db, core, Index(known.log.length().0))
                .map_err(|error| format!("the log {core} cannot be read: {error}"))?;
            if !more.is_empty() {
                Arc::make_mut(&mut known.log).extend(more);
            }
            logs.insert(*core, Arc::clone(&known.log));
        }
        let progress = status.writers.iter().map(|writer| Progress {
            key: writer.key,
            record: writer.record,
            length: writer.length,
            have: writer.have,
            applied: writer.applied,
            pending: writer.pending.as_ref().map(|pending| format!("{pending:?}")),
            is_stalled: matches!(writer.pending, Some(Pending::Stalled(_))),
        });
        Ok(Look {
            local: db.local(),
            former: outside.former,
            shown: set.own_durable,
            has_unwritten: set.has_unwritten,
            set: ready,
            settled,
            known,
            sizes: set.sizes,
            connections: sim_hooks::connections(db),
            heads: set.heads,
            timestamp: set.timestamp,
            flushes: set.flushes,
            is_shown: set.is_shown,
            overdue: set.overdue,
            order: sim_hooks::order(db).map_err(|error| format!("its order cannot be read: {error}"))?,
            writers: db.writers(),
            view,
            view_head: db.view().head(),
            logs,
            stats: db.stats(),
            held: db.held(),
            settings: outside.settings,
            contradicted: db
                .stalled()
                .into_iter()
                .filter_map(|(core, why)| matches!(why, Stalled::Conflict { .. }).then_some(core))
                .collect(),
            progress: progress.collect(),
            held_back: status
                .ahead
                .iter()
                .filter(|entry| !entry.is_applied)
                .map(|entry| {
                    let (key, length) = (entry.key, entry.length);
                    (Link { key, length }, entry.until)
                })
                .collect(),
            missing: status.missing,
            stopped: status.stopped,
            status_writable: status.is_writable,
            is_writable: db.writable(),
            seen: outside.seen,
        })
    }

    /// What was said before is compared with what is. Now and then it is asked what is settled, each time first of what
    /// would be, if somebody were silent.
    fn settled<E: Env>(
        &mut self,
        replica: usize,
        life: u32,
        db: &Autobee<E>,
        told: Option<(u64, Option<Link>)>,
    ) -> Option<SettledLook> {
        self.count += 1;
        let fast_forwards = db.stats().fast_forwards;
        let known = self.settled.get(&replica);
        let known = known.filter(|known| (known.life, known.fast_forwards) == (life, fast_forwards));
        let look = known.map(|known| {
            let said = told.filter(|(entries, _)| *entries <= known.entries);
            let mut said = said.into_iter().chain([(known.entries, known.head)]);
            SettledLook {
                entries: known.entries,
                rests_on_strangers: known.rests_on_strangers,
                // Who went on from others' trees and had to begin with the first entry made the same versions in a core of its own.
                has_moved: fast_forwards == 0
                    && said.any(|(entries, head)| {
                        let now = sim_hooks::head_behind(db, entries).ok().flatten();
                        head.is_some() && now.is_some() && head != now
                    }),
            }
        });
        let least = known.map_or(0, |known| known.entries);
        if self.count.is_multiple_of(SETTLED_LOOKS)
            && at_once(db.settled(&another(db))).is_some()
            && let Some(Ok(settled)) = at_once(db.settled(&[]))
            && settled.entries > least
        {
            let known = KnownSettled {
                life,
                fast_forwards,
                entries: settled.entries,
                head: settled.head,
                rests_on_strangers: settled.rests_on_strangers,
            };
            self.settled.insert(replica, known);
        }
        look
    }

    fn view(&mut self, replica: usize, life: u32, view: &View) -> Result<Entries, String> {
        let known = self.views.get(&replica).filter(|known| known.life == life);
        if let Some(known) = known
            && known.view.head() == view.head()
        {
            return Ok(Arc::clone(&known.entries));
        }
        let is_long = |known: &&KnownView| known.entries.len() > READ_WHOLE;
        let changed = known.filter(is_long).and_then(|known| changed(known, view));
        let by_changes = known.map_or(0, |known| known.by_changes + 1);
        let is_whole = changed.is_none() || by_changes >= WHOLE_READS;
        let entries = match changed {
            Some(entries) if !is_whole => entries,
            changed => {
                let all = at_once(view.all()).ok_or(VIEW_WAITS)?;
                let all = all.map_err(|error| format!("its view cannot be read: {error}"))?;
                if let Some(changed) = changed.filter(|changed| *changed != all) {
                    let what = first_difference(&changed, &all);
                    let replica = format!("replica {replica}");
                    self.misread.push(format!(
                        "{replica}: what changed in its view does not lead to what is in it, {what}"
                    ));
                }
                all
            }
        };
        let known = KnownView {
            life,
            view: view.clone(),
            entries: Arc::new(entries),
            by_changes: if is_whole { 0 } else { by_changes },
        };
        let entries = Arc::clone(&known.entries);
        self.views.insert(replica, known);
        Ok(entries)
    }
}

/// The entries of a view by what changed since it was read last; none when the earlier version cannot be read any more.
fn changed(known: &KnownView, view: &View) -> Option<Vec<(Bytes, Bytes)>> {
    // Versions of other cores may have blocks that are at peers, and looking asks nobody for them.
    if known.view.head().key != view.head().key {
        return None;
    }
    let changes = at_once(known.view.changes(view, Range::all()))?.ok()?;
    let mut entries = Vec::with_capacity(known.entries.len() + changes.len());
    let mut before = known.entries.iter().peekable();
    for change in changes {
        while let Some(entry) = before.next_if(|(key, _)| *key < change.key) {
            entries.push(entry.clone());
        }
        before.next_if(|(key, _)| *key == change.key);
        entries.extend(change.new.map(|value| (change.key, value)));
    }
    entries.extend(before.cloned());
    Some(entries)
}

/// Some writer but the own one.
fn another<E: Env>(db: &Autobee<E>) -> Vec<CoreKey> {
    let mut writers = db.writers().into_iter().map(|writer| writer.key);
    writers.rfind(|key| *key != db.local()).into_iter().collect()
}

/// What a future gives without waiting. A view that was written here needs no block of a peer.
pub(super) fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
