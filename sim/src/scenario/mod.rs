//! Scenarios: what happens to a group of replicas, as data.
//!
//! A scenario is a TOML file. It says how many replicas there are, what they append and when, and which faults strike
//! them; a seed decides everything that it leaves open. Integers only, so that files compare and shrink well.

mod draw;
mod event;
mod load;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use event::{Action, CrashMode, Event};
pub use load::ScenarioError;

use crate::disk::DiskFaults;
use crate::network::PathConfig;

/// A group of replicas, their work, and their misfortunes.
///
/// ```
/// use autobee_sim::Scenario;
///
/// let scenario = Scenario::parse(
///     "two",
///     r#"
///         about = "two replicas write at the same time"
///         replicas = 2
///
///         [[workload]]
///         replicas = [0, 1]
///         appends = 5
///         to_ms = 1000
///     "#,
/// )?;
/// assert_eq!(scenario.replicas, 2);
/// # Ok::<(), autobee_sim::ScenarioError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The name: that of the file, without its ending.
    #[serde(skip)]
    pub name: String,
    /// One sentence for people.
    pub about: String,
    /// How many replicas take part. Number 0 creates the database.
    pub replicas: usize,
    /// Which signatures are used.
    #[serde(default)]
    pub crypto: CryptoChoice,
    /// Defects that the engine is to have, to prove that a run finds them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub planted: BTreeSet<String>,
    /// Replicas that the creator makes writers at the start; all but itself when absent.
    #[serde(default)]
    pub writers: Option<Vec<usize>>,
    /// The ceiling of the sort weight that they get.
    #[serde(default = "Scenario::weight_default")]
    pub writer_weight: u64,
    /// How many batches of the order each replica holds in memory, [`autobee::Settings::window_batches`]; its default when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_batches: Option<usize>,
    /// How long each replica gathers blocks that are on their way, in milliseconds: both times of
    /// [`autobee::db::HealGather`], whose defaults hold when absent. When it is given, replicas may undo at most once each
    /// such time, and twice, from when everything is healed until all agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gather_ms: Option<u64>,
    /// The paths between replicas.
    #[serde(default)]
    pub network: PathConfig,
    /// What goes wrong on the disks of replicas, and how long their calls take.
    #[serde(default)]
    pub disk: DiskFaults,
    /// What is appended.
    #[serde(default)]
    pub workload: Vec<Workload>,
    /// What happens besides.
    #[serde(default)]
    pub event: Vec<Event>,
    /// After the last event and the last append everything is healed; from then on this long, in milliseconds of
    /// virtual time, until all replicas must agree.
    #[serde(default = "Scenario::converge_ms_default")]
    pub converge_ms: u64,
    /// Simulated events after which a run is given up.
    #[serde(default = "Scenario::events_max_default")]
    pub events_max: u64,
}

/// Which signatures a run uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CryptoChoice {
    /// The real ones.
    #[default]
    Ed25519,
    /// A keyed hash that only the simulator can make: about ten times the speed.
    StandIn,
}

/// Appends, spread over a span of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Who appends.
    pub replicas: Vec<usize>,
    /// How many appends each of them makes.
    pub appends: u32,
    /// The most values that one append holds.
    #[serde(default = "Workload::batch_max_default")]
    pub batch_max: u32,
    /// How many keys they write to.
    #[serde(default = "Workload::keys_default")]
    pub keys: u32,
    /// When the first append may come, in milliseconds.
    #[serde(default)]
    pub from_ms: u64,
    /// When the last one comes, in milliseconds.
    pub to_ms: u64,
    /// Append without being a writer.
    #[serde(default)]
    pub optimistic: bool,
    /// One in so many values is one that apply refuses; none when 0.
    #[serde(default)]
    pub refused: u32,
}

impl Scenario {
    /// The replicas that the creator makes writers.
    #[must_use]
    pub fn writers(&self) -> Vec<usize> {
        self.writers
            .clone()
            .unwrap_or_else(|| (1..self.replicas).collect())
    }

    /// When everything is healed: after the last event and the last append, in milliseconds.
    #[must_use]
    pub fn heal_ms(&self) -> u64 {
        let events = self.event.iter().map(|event| event.at_ms);
        let appends = self.workload.iter().map(|workload| workload.to_ms);
        events.chain(appends).max().unwrap_or(0)
    }

    const fn weight_default() -> u64 {
        2
    }

    const fn converge_ms_default() -> u64 {
        60_000
    }

    const fn events_max_default() -> u64 {
        20_000_000
    }
}

impl Workload {
    const fn batch_max_default() -> u32 {
        3
    }

    const fn keys_default() -> u32 {
        32
    }
}
