//! The network as a state machine: time and calls go in, wake-ups and notes come out.
//!
//! No clock, no runtime, no lock: the World and the madsim lane run the same machine. It models TCP where a program
//! can see TCP: a three-way handshake, bytes in order, a window, half-close, resets, silence. A cut path *holds* what
//! travels on it, in order, until it is healed; it never drops a byte inside a stream.
//!
//! `W` is whatever a driver wakes a waiter by; the machine only stores it and hands it back.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::connection::Connection;
use super::dial::{Dial, Listener};
use super::note::Note;
use super::path::{Path, PathConfig};
use super::pipe::Pipe;
use crate::replica::ReplicaId;
use crate::seed::Seeds;

/// One of the two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EndId {
    pub(super) connection: u64,
    /// 0 = the dialler, 1 = the listener.
    pub(super) side: usize,
}

/// What is due at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// The pipe that `side` of the connection writes.
    Deliver(u64, usize),
    /// The next step of a handshake.
    Dial(u64),
    /// The patience of a dialler.
    DialLimit(u64),
}

/// A machine on the network.
#[derive(Debug)]
pub(super) struct NetworkHost {
    pub(super) name: Arc<str>,
    pub(super) powered: bool,
    pub(super) next_port: u16,
    group: PartitionSide,
}

/// The side of a partition on which a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PartitionSide {
    /// There is no partition.
    Everybody,
    Number(usize),
    Alone,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Kernel<W> {
    pub(super) now: u64,
    pub(super) hosts: Vec<NetworkHost>,
    pub(super) listeners: BTreeMap<(ReplicaId, u16), Listener<W>>,
    pub(super) dials: BTreeMap<u64, Dial<W>>,
    pub(super) connections: BTreeMap<u64, Connection<W>>,
    pub(super) dial_limit: u64,
    pub(super) wakes: Vec<W>,
    pub(super) notes: Vec<Note>,
    paths: BTreeMap<(ReplicaId, ReplicaId), Path>,
    cuts: BTreeSet<(ReplicaId, ReplicaId)>,
    default_path: PathConfig,
    seeds: Seeds,
    queue: BinaryHeap<Reverse<(u64, u64, Due)>>,
    scheduled: u64,
    ids: u64,
    pub(super) delivered: u64,
    pub(super) opened: u64,
    strikes: BTreeMap<&'static str, u64>,
}

impl<W> Kernel<W> {
    /// A network without replicas. Paths that nobody configures are `default_path`; a dial that hears nothing fails
    /// after `dial_limit`.
    pub(crate) fn new(seeds: Seeds, default_path: PathConfig, dial_limit: Duration) -> Self {
        Self {
            now: 0,
            hosts: Vec::new(),
            listeners: BTreeMap::new(),
            dials: BTreeMap::new(),
            connections: BTreeMap::new(),
            dial_limit: u64::try_from(dial_limit.as_nanos()).unwrap_or(u64::MAX),
            wakes: Vec::new(),
            notes: Vec::new(),
            paths: BTreeMap::new(),
            cuts: BTreeSet::new(),
            default_path,
            seeds,
            queue: BinaryHeap::new(),
            scheduled: 0,
            ids: 0,
            delivered: 0,
            opened: 0,
            strikes: BTreeMap::new(),
        }
    }

    /// Adds a replica, powered. Ids count from 0.
    pub(crate) fn add_replica(&mut self, name: Arc<str>) -> ReplicaId {
        let id = ReplicaId::new(self.hosts.len());
        self.hosts.push(NetworkHost {
            name,
            powered: true,
            next_port: super::address::FIRST_CHOSEN_PORT,
            group: PartitionSide::Everybody,
        });
        id
    }

    // Time.

    /// When something is due, if anything is.
    pub(crate) fn next_at(&mut self) -> Option<u64> {
        while let Some(Reverse((at, _, due))) = self.queue.peek() {
            let stale = match due {
                Due::Deliver(connection, _) => !self.connections.contains_key(connection),
                Due::Dial(dial) | Due::DialLimit(dial) => self.dials.get(dial).is_none_or(Dial::is_done),
            };
            if !stale {
                return Some(*at);
            }
            self.queue.pop();
        }
        None
    }

    /// Moves the time to `now` and does what is due until then. True when something was.
    pub(crate) fn advance(&mut self, now: u64) -> bool {
        let mut worked = false;
        while let Some(at) = self.next_at()
            && at <= now
            && let Some(Reverse((at, _, due))) = self.queue.pop()
        {
            self.now = self.now.max(at);
            worked = true;
            match due {
                Due::Deliver(connection, side) => self.deliver(connection, side),
                Due::Dial(dial) => self.step_dial(dial),
                Due::DialLimit(dial) => self.give_up_dial(dial),
            }
        }
        self.now = self.now.max(now);
        worked
    }

    /// Who must be woken since the last call.
    pub(crate) fn take_wakes(&mut self) -> Vec<W> {
        mem::take(&mut self.wakes)
    }

    /// What happened since the last call.
    pub(crate) fn drain_notes(&mut self) -> std::vec::Drain<'_, Note> {
        self.notes.drain(..)
    }

    // Faults.

    /// Configures the path from `from` to `to`, for what is sent from now on.
    pub(crate) fn set_path(&mut self, from: ReplicaId, to: ReplicaId, config: PathConfig) {
        self.path(from, to).config = config;
    }

    /// Configures all paths, those to come included.
    pub(crate) fn set_paths(&mut self, config: PathConfig) {
        self.default_path = config;
        for path in self.paths.values_mut() {
            path.config = config;
        }
    }

    /// Cuts the way from `from` to `to`; the way back stays.
    pub(crate) fn cut(&mut self, from: ReplicaId, to: ReplicaId) {
        if from != to {
            self.cuts.insert((from, to));
        }
    }

    /// Opens a way again that [`Self::cut`] closed.
    pub(crate) fn open(&mut self, from: ReplicaId, to: ReplicaId) {
        self.cuts.remove(&(from, to));
        self.resume();
    }

    /// From now on only replicas of one group reach each other; a replica in no group is alone. Replaces the former
    /// partition, and leaves cuts as they are.
    pub(crate) fn partition(&mut self, groups: &[Vec<ReplicaId>]) {
        for (at, host) in self.hosts.iter_mut().enumerate() {
            let id = ReplicaId::new(at);
            let group = groups.iter().position(|group| group.contains(&id));
            host.group = group.map_or(PartitionSide::Alone, PartitionSide::Number);
        }
        self.resume();
    }

    /// Opens all ways.
    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
        for host in &mut self.hosts {
            host.group = PartitionSide::Everybody;
        }
        self.resume();
    }

    /// True when what `from` sends reaches `to` now.
    pub(crate) fn passable(&self, from: ReplicaId, to: ReplicaId) -> bool {
        if from == to {
            return true;
        }
        let [one, other] = [from, to].map(|id| self.hosts[id.index()].group);
        one == other
            && one != PartitionSide::Alone
            && (self.cuts.is_empty() || !self.cuts.contains(&(from, to)))
    }

    /// Draws from other streams from now on.
    pub(crate) fn reseed(&mut self, seeds: Seeds) {
        self.seeds = seeds;
        for ((from, to), path) in &mut self.paths {
            let name = |id: &ReplicaId| self.hosts.get(id.index()).map_or("", |host| &*host.name);
            path.reseed(seeds, name(from), name(to));
        }
    }

    /// The process of `replica` is gone, its machine is not: every stream is reset, nothing listens.
    pub(crate) fn kill(&mut self, replica: ReplicaId) {
        self.forget_process(replica);
        for end in self.ends_of(replica) {
            self.close(end);
        }
    }

    /// The machine of `replica` is dark: nothing leaves any more, and what reaches it waits.
    pub(crate) fn power_off(&mut self, replica: ReplicaId) {
        self.forget_process(replica);
        self.hosts[replica.index()].powered = false;
        for end in self.ends_of(replica) {
            self.vanish(end);
        }
    }

    /// The machine of `replica` runs again and knows nothing of its former streams.
    pub(crate) fn power_on(&mut self, replica: ReplicaId) {
        self.hosts[replica.index()].powered = true;
        self.resume();
    }

    /// Resets every stream between `a` and `b`, as a middlebox that forgot them would.
    pub(crate) fn reset_between(&mut self, a: ReplicaId, b: ReplicaId) {
        let ids: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.joins(a, b))
            .map(|(id, _)| *id)
            .collect();
        for connection in ids {
            for side in [0, 1] {
                self.reset(EndId { connection, side });
            }
        }
    }

    /// Nothing gets through streams between `a` and `b` any more, as when a router on the way forgot them.
    pub(crate) fn mute_between(&mut self, a: ReplicaId, b: ReplicaId) {
        let mut count = 0;
        for connection in self.connections.values_mut() {
            // What is not open yet is dialled again.
            if connection.joins(a, b) && !connection.pipes.iter().any(Pipe::is_opening) {
                connection.is_muted = true;
                count += 1;
            }
        }
        for _ in 0..count {
            self.strike("muted");
        }
    }

    /// Streams of which one of these replicas holds an end, though nothing can come from the other one any more.
    pub(crate) fn dead_streams(&self, of: &[ReplicaId]) -> BTreeSet<u64> {
        let dead = self.connections.iter().filter(|(_, connection)| {
            let mut sides = [0, 1].into_iter();
            sides.any(|side| {
                let end = &connection.ends[side];
                // A listener does not know of a stream before the end of the handshake arrives.
                let is_known = !connection.pipes[1 - side].is_opening();
                let is_held = is_known && end.gone.is_none() && !end.is_reset() && of.contains(&end.replica);
                let [from, to] = connection.route(1 - side);
                let is_cut_off = connection.is_muted
                    || connection.ends[1 - side].gone.is_some()
                    || !self.passable(from, to);
                is_held && is_cut_off
            })
        });
        dead.map(|(id, _)| *id).collect()
    }

    /// How many connections were made so far.
    pub(crate) const fn opened(&self) -> u64 {
        self.opened
    }

    /// How often bytes became readable so far.
    pub(crate) const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// How often each kind of fault struck so far.
    pub(crate) fn strikes(&self) -> BTreeMap<&'static str, u64> {
        self.strikes.clone()
    }

    /// A fault struck.
    pub(super) fn strike(&mut self, fault: &'static str) {
        *self.strikes.entry(fault).or_default() += 1;
    }

    /// Streams that at least one end still holds.
    pub(crate) fn streams(&self) -> usize {
        self.connections.len()
    }

    /// How many streams a replica holds an end of.
    pub(crate) fn streams_of(&self, replica: ReplicaId) -> usize {
        let ends = self.connections.values().flat_map(|connection| &connection.ends);
        ends.filter(|end| end.replica == replica && end.gone.is_none() && !end.is_reset())
            .count()
    }

    // What the other parts of the machine use.

    pub(super) fn schedule(&mut self, at: u64, due: Due) {
        self.scheduled += 1;
        self.queue.push(Reverse((at, self.scheduled, due)));
    }

    pub(super) fn fresh_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    pub(super) fn path(&mut self, from: ReplicaId, to: ReplicaId) -> &mut Path {
        self.paths.entry((from, to)).or_insert_with(|| {
            let name = |id: ReplicaId| &*self.hosts[id.index()].name;
            Path::new(self.default_path, self.seeds, name(from), name(to))
        })
    }

    pub(super) fn powered(&self, replica: ReplicaId) -> bool {
        self.hosts[replica.index()].powered
    }

    fn ends_of(&self, replica: ReplicaId) -> BTreeSet<EndId> {
        self.connections
            .iter()
            .flat_map(|(id, connection)| {
                [0, 1]
                    .into_iter()
                    .filter(|side| connection.ends[*side].replica == replica)
                    .map(|side| EndId {
                        connection: *id,
                        side,
                    })
            })
            .collect()
    }

    fn forget_process(&mut self, replica: ReplicaId) {
        let wakes = &mut self.wakes;
        self.dials.retain(|_, dial| {
            let stays = dial.from != replica;
            if !stays {
                wakes.extend(dial.waiter.take());
            }
            stays
        });
        self.listeners.retain(|(at, _), listener| {
            let stays = *at != replica;
            if !stays {
                wakes.extend(listener.waiter.take());
            }
            stays
        });
    }

    /// Sends on what waited for a way or for power that is there now.
    fn resume(&mut self) {
        self.resume_pipes();
        self.resume_dials();
    }
}
