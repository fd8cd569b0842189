//! What the schedulers have in common, so that one scenario runs under each.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use autobee::crypto::{CoreKey, Hash};
use autobee::env::{Env, Point};

use crate::crypto::SimCrypto;
use crate::disk::{DiskSnapshot, SimDisk};
use crate::env::SimEnv;
use crate::network::PathConfig;
use crate::replica::{Crash, ReplicaId};
use crate::seed::Stream;
use crate::world::{NameError, RunError, World, WorldConfig};

/// A simulated world, whoever schedules it. What the calls mean stands at those of [`World`].
pub trait SimulatedWorld: Sized {
    /// What programs get.
    type Env: Env;
    /// Nothing of its programs is kept once it is dropped. madsim keeps tasks that end with their node.
    const KEEPS_NOTHING: bool;

    /// An empty world at time zero.
    fn new(config: WorldConfig) -> Self;

    /// Adds a replica, which runs nothing yet.
    fn add_replica(&self, name: &str) -> Result<ReplicaId, NameError>;
    /// The environment of the latest incarnation of a replica.
    fn env(&self, replica: ReplicaId) -> Self::Env;
    /// Runs `program` on a replica, now and after each restart.
    fn boot<F>(&self, replica: ReplicaId, program: impl Fn(Self::Env) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static;
    /// The disk of a replica.
    fn disk(&self, replica: ReplicaId) -> SimDisk;

    /// Runs for `duration` of virtual time.
    fn run_for(&self, duration: Duration) -> Result<(), RunError>;
    /// Runs until virtual time `at`; not at all when that has passed.
    fn run_until(&self, at: Duration) -> Result<(), RunError> {
        self.run_for(at.saturating_sub(self.now()))
    }
    /// What ends a run once the poll that is under way is over; none where nothing can.
    fn interrupt(&self) -> Option<Arc<AtomicBool>>;
    /// Runs until `future`, as a task of `replica`, is done, at most for `limit` of virtual time.
    fn block_on_for<T: Send + 'static>(
        &self,
        replica: ReplicaId,
        limit: Duration,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, RunError>;

    /// Configures the path from `from` to `to`.
    fn set_path(&self, from: ReplicaId, to: ReplicaId, config: PathConfig);
    /// From now on only replicas of one group reach each other.
    fn partition(&self, groups: &[Vec<ReplicaId>]);
    /// Cuts one way.
    fn cut(&self, from: ReplicaId, to: ReplicaId);
    /// Opens one way.
    fn open(&self, from: ReplicaId, to: ReplicaId);
    /// Opens all ways.
    fn heal(&self);
    /// Resets all streams between two replicas.
    fn reset_between(&self, a: ReplicaId, b: ReplicaId);
    /// Lets all streams between two replicas go silent for ever, without a word to either.
    fn mute_between(&self, a: ReplicaId, b: ReplicaId);
    /// Streams of which one of these replicas holds an end, though nothing can come from the other one any more.
    fn dead_streams(&self, of: &[ReplicaId]) -> BTreeSet<u64>;
    /// How many streams a replica holds an end of.
    fn streams_of(&self, replica: ReplicaId) -> usize;
    /// How many tasks of each name a replica runs; nothing where the scheduler does not say.
    fn tasks_of(&self, replica: ReplicaId) -> BTreeMap<&'static str, usize>;
    /// Ends the process of a replica.
    fn crash(&self, replica: ReplicaId, how: Crash);
    /// Starts a replica that is down, and its program.
    fn restart(&self, replica: ReplicaId) -> Self::Env;
    /// True while the process of a replica runs, paused or not.
    fn is_up(&self, replica: ReplicaId) -> bool;
    /// Stops polling the tasks of a replica.
    fn pause(&self, replica: ReplicaId);
    /// Goes on after a pause.
    fn resume(&self, replica: ReplicaId);
    /// Sets how far the time of day of a replica is ahead, in milliseconds.
    fn skew(&self, replica: ReplicaId, ahead_ms: i64);

    /// Sets by how many millionths the time of day of a replica runs fast.
    fn drift(&self, replica: ReplicaId, ppm: i64);
    /// Puts these contents on the disk of a replica that is down.
    fn set_disk(&self, replica: ReplicaId, contents: &DiskSnapshot);

    /// How often bytes reached a replica so far.
    fn delivered(&self) -> u64;
    /// How many connections were made so far.
    fn opened(&self) -> u64;
    /// Per point that a program told of: how often it was looked at, and how often it was seen.
    fn sometimes(&self) -> BTreeMap<Point, (u64, u64)>;

    /// What a replica held against peers: points that say so.
    fn blames_of(&self, replica: ReplicaId) -> BTreeSet<Point>;

    /// How often each kind of fault of the network struck so far.
    fn strikes(&self) -> BTreeMap<&'static str, u64>;

    /// The signatures of the world.
    fn signatures(&self) -> SimCrypto;
    /// Virtual time since the world began.
    fn now(&self) -> Duration;
    /// A stream for what drives the world.
    fn stream(&self, name: &str) -> Stream;
    /// Writes a line of whoever drives the world to the trace.
    fn note(&self, text: &str);
    /// Has traces call a log by this name.
    fn name_core(&self, core: CoreKey, name: &str);
    /// BLAKE2b-256 of all lines of the trace so far.
    fn trace_hash(&self) -> Hash;
    /// Number of lines of the trace so far.
    fn trace_events(&self) -> u64;
    /// The lines of the trace so far, when it is collected.
    fn trace_bytes(&self) -> Vec<u8>;
    /// Flushes the writer of the trace, and gives the first error that writing met.
    fn finish_trace(&self) -> io::Result<()>;
}

/// Hands the calls of [`SimulatedWorld`] to the methods of the same names.
macro_rules! simulated_world {
    ($world:ty, $env:ty, $keeps_nothing:literal) => {
        impl SimulatedWorld for $world {
            type Env = $env;
            const KEEPS_NOTHING: bool = $keeps_nothing;

            fn new(config: WorldConfig) -> Self {
                Self::new(config)
            }

            fn add_replica(&self, name: &str) -> Result<ReplicaId, NameError> {
                self.add_replica(name)
            }

            fn env(&self, replica: ReplicaId) -> $env {
                self.env(replica)
            }

            fn boot<F>(&self, replica: ReplicaId, program: impl Fn($env) -> F + Send + Sync + 'static)
            where
                F: Future<Output = ()> + Send + 'static,
            {
                self.boot(replica, program);
            }

            fn disk(&self, replica: ReplicaId) -> SimDisk {
                self.disk(replica)
            }

            fn run_for(&self, duration: Duration) -> Result<(), RunError> {
                self.run_for(duration)
            }

            fn interrupt(&self) -> Option<Arc<AtomicBool>> {
                self.interrupt()
            }

            fn block_on_for<T: Send + 'static>(
                &self,
                replica: ReplicaId,
                limit: Duration,
                future: impl Future<Output = T> + Send + 'static,
            ) -> Result<T, RunError> {
                self.block_on_for(replica, limit, future)
            }

            fn set_path(&self, from: ReplicaId, to: ReplicaId, config: PathConfig) {
                self.set_path(from, to, config);
            }

            fn partition(&self, groups: &[Vec<ReplicaId>]) {
                self.partition(groups);
            }

            fn cut(&self, from: ReplicaId, to: ReplicaId) {
                self.cut(from, to);
            }

            fn open(&self, from: ReplicaId, to: ReplicaId) {
                self.open(from, to);
            }

            fn heal(&self) {
                self.heal();
            }

            fn reset_between(&self, a: ReplicaId, b: ReplicaId) {
                self.reset_between(a, b);
            }

            fn mute_between(&self, a: ReplicaId, b: ReplicaId) {
                self.mute_between(a, b);
            }

            fn dead_streams(&self, of: &[ReplicaId]) -> BTreeSet<u64> {
                self.dead_streams(of)
            }

            fn streams_of(&self, replica: ReplicaId) -> usize {
                self.streams_of(replica)
            }

            fn tasks_of(&self, replica: ReplicaId) -> BTreeMap<&'static str, usize> {
                self.tasks_of(replica)
            }

            fn crash(&self, replica: ReplicaId, how: Crash) {
                self.crash(replica, how);
            }

            fn restart(&self, replica: ReplicaId) -> $env {
                self.restart(replica)
            }

            fn is_up(&self, replica: ReplicaId) -> bool {
                self.is_up(replica)
            }

            fn pause(&self, replica: ReplicaId) {
                self.pause(replica);
            }

            fn resume(&self, replica: ReplicaId) {
                self.resume(replica);
            }

            fn skew(&self, replica: ReplicaId, ahead_ms: i64) {
                self.skew(replica, ahead_ms);
            }

            fn drift(&self, replica: ReplicaId, ppm: i64) {
                self.drift(replica, ppm);
            }

            fn set_disk(&self, replica: ReplicaId, contents: &DiskSnapshot) {
                self.set_disk(replica, contents);
            }

            fn delivered(&self) -> u64 {
                self.delivered()
            }

            fn opened(&self) -> u64 {
                self.opened()
            }

            fn sometimes(&self) -> BTreeMap<Point, (u64, u64)> {
                self.sometimes()
            }

            fn blames_of(&self, replica: ReplicaId) -> BTreeSet<Point> {
                self.blames_of(replica)
            }

            fn strikes(&self) -> BTreeMap<&'static str, u64> {
                self.strikes()
            }

            fn signatures(&self) -> SimCrypto {
                self.signatures()
            }

            fn now(&self) -> Duration {
                self.now()
            }

            fn stream(&self, name: &str) -> Stream {
                self.stream(name)
            }

            fn note(&self, text: &str) {
                self.note(text);
            }

            fn name_core(&self, core: CoreKey, name: &str) {
                self.name_core(core, name);
            }

            fn trace_hash(&self) -> Hash {
                self.trace_hash()
            }

            fn trace_events(&self) -> u64 {
                self.trace_events()
            }

            fn trace_bytes(&self) -> Vec<u8> {
                self.trace_bytes()
            }

            fn finish_trace(&self) -> io::Result<()> {
                self.finish_trace()
            }
        }
    };
}

simulated_world!(World, SimEnv, true);
#[cfg(all(madsim, feature = "madsim"))]
simulated_world!(crate::madsim::MadsimWorld, crate::madsim::MadsimEnv, false);
