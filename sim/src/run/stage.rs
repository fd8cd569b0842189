//! The worlds that a scenario can be played in: ours, and the one whose tasks madsim schedules.

use std::future::Future;
use std::time::Duration;

use autobee::crypto::Hash;
use autobee::env::Env;

use crate::env::SimEnv;
use crate::replica::{Crash, ReplicaId};
use crate::seed::Stream;
use crate::world::{NameError, RunError, World, WorldConfig};

/// A simulated world, as far as a scenario needs it. The calls are those of [`World`].
pub(super) trait Stage: Sized {
    type Env: Env;

    fn new(config: WorldConfig) -> Self;
    fn add_replica(&self, name: &str) -> Result<ReplicaId, NameError>;
    fn env(&self, replica: ReplicaId) -> Self::Env;
    fn boot<F>(&self, replica: ReplicaId, program: impl Fn(Self::Env) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static;
    fn run_for(&self, duration: Duration) -> Result<(), RunError>;
    fn block_on<T: Send + 'static>(
        &self,
        replica: ReplicaId,
        limit: Duration,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, RunError>;
    fn partition(&self, groups: &[Vec<ReplicaId>]);
    fn cut(&self, from: ReplicaId, to: ReplicaId);
    fn heal(&self);
    fn crash(&self, replica: ReplicaId, how: Crash);
    fn restart(&self, replica: ReplicaId);
    fn is_up(&self, replica: ReplicaId) -> bool;
    fn pause(&self, replica: ReplicaId);
    fn resume(&self, replica: ReplicaId);
    fn skew(&self, replica: ReplicaId, ahead_ms: i64);
    fn now(&self) -> Duration;
    fn stream(&self, name: &str) -> Stream;
    fn note(&self, text: &str);
    fn trace_hash(&self) -> Hash;
    fn trace_events(&self) -> u64;
    fn finish_trace(&self) -> std::io::Result<()>;
}

/// Both worlds have the same methods under the same names.
macro_rules! stage {
    ($world:ty, $env:ty) => {
        impl Stage for $world {
            type Env = $env;

            fn new(config: WorldConfig) -> Self {
                Self::new(config)
            }
            fn add_replica(&self, name: &str) -> Result<ReplicaId, NameError> {
                self.add_replica(name)
            }
            fn env(&self, replica: ReplicaId) -> Self::Env {
                self.env(replica)
            }
            fn boot<F>(&self, replica: ReplicaId, program: impl Fn(Self::Env) -> F + Send + Sync + 'static)
            where
                F: Future<Output = ()> + Send + 'static,
            {
                self.boot(replica, program);
            }
            fn run_for(&self, duration: Duration) -> Result<(), RunError> {
                self.run_for(duration)
            }
            fn block_on<T: Send + 'static>(
                &self,
                replica: ReplicaId,
                limit: Duration,
                future: impl Future<Output = T> + Send + 'static,
            ) -> Result<T, RunError> {
                self.block_on_for(replica, limit, future)
            }
            fn partition(&self, groups: &[Vec<ReplicaId>]) {
                self.partition(groups);
            }
            fn cut(&self, from: ReplicaId, to: ReplicaId) {
                self.cut(from, to);
            }
            fn heal(&self) {
                self.heal();
            }
            fn crash(&self, replica: ReplicaId, how: Crash) {
                self.crash(replica, how);
            }
            fn restart(&self, replica: ReplicaId) {
                drop(self.restart(replica));
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
            fn now(&self) -> Duration {
                self.now()
            }
            fn stream(&self, name: &str) -> Stream {
                self.stream(name)
            }
            fn note(&self, text: &str) {
                self.note(text);
            }
            fn trace_hash(&self) -> Hash {
                self.trace_hash()
            }
            fn trace_events(&self) -> u64 {
                self.trace_events()
            }
            fn finish_trace(&self) -> std::io::Result<()> {
                self.finish_trace()
            }
        }
    };
}

stage!(World, SimEnv);

#[cfg(madsim)]
stage!(crate::madsim::MadsimWorld, crate::madsim::MadsimEnv);
