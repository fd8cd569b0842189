//! The seeded simulator of Autobee.
//!
//! A [`World`] runs replicas, their network, disks and clocks on one thread in virtual time. The same seed gives the
//! same run, event for event: see [`World::trace_hash`].

mod crypto;
mod drive;
mod env;
mod executor;
mod network;
mod plain_drive;
mod replica;
mod seed;
mod trace;
mod world;

pub use crypto::{SimCrypto, StandIn};
pub use drive::{Drive, DriveContext, DriveMaker, Tracer, VirtualTime};
pub use env::{SimClock, SimEntropy, SimEnv, SimSpawn};
pub use network::{PathConfig, SimListener, SimNetwork, SimStream};
pub use replica::{Crash, ReplicaId};
pub use seed::{Seeds, Stream};
pub use trace::{Line, Trace, TraceSink};
pub use world::{NameError, Rest, RunError, World, WorldConfig};
