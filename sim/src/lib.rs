//! The seeded simulator of Autobee.
//!
//! A [`World`] runs replicas, their network, disks and clocks on one thread in virtual time. The same seed gives the
//! same run, event for event: see [`World::trace_hash`]. A [`Scenario`] says, as data, what the replicas do and what
//! befalls them.

mod check_log;
mod crypto;
pub mod disk;
mod env;
pub mod events;
mod executor;
pub mod explain;
mod exported_logs;
pub mod history;
pub mod hostile;
pub mod invariant;
mod kit;
pub mod lane0;
#[cfg(all(madsim, feature = "madsim"))]
pub mod madsim;
pub mod model;
mod network;
mod points;
mod reader;
mod replica;
pub mod report;
mod run;
pub mod scenario;
mod schedule;
mod seed;
mod shrink;
mod side_core;
mod simulated_world;
mod sweep;
mod trace;
mod why;
pub mod workload;
mod world;

pub use autobee::db::View;
pub use check_log::{StoreCheckError, StoreVerdict, check_logs, check_store};
pub use crypto::{SimCrypto, StandIn};
pub use env::{SimClock, SimEntropy, SimEnv, SimSpawn};
pub use exported_logs::{ExportError, ExportedLogs};
pub use kit::{AsBytes, AsValue, Check, Faults, IntoOp, Peer, Program, ProgramCheck, Raw, Shown, check};
pub use network::{LatencyShape, PathConfig, SimListener, SimNetwork, SimStream};
pub use replica::{Crash, ReplicaId};
#[cfg(all(madsim, feature = "madsim"))]
pub use run::run_on_madsim;
pub use run::{ReplicaState, Report, SimError, run};
pub use scenario::{Scenario, ScenarioError};
pub use schedule::Schedule;
pub use seed::{Seeds, Stream};
pub use shrink::{Shrunk, shrink};
pub use simulated_world::SimulatedWorld;
pub use sweep::{SeedResult, fails_by, failure, in_parallel, run_caught, sweep};
pub use trace::{Line, Trace, TraceSink};
pub use why::{FutureSample, Why, WhyError, WhyLimits, why};
pub use world::{NameError, Reseed, Rest, RunError, World, WorldConfig};
