//! Scenarios: what happens to a group of replicas, as data.
//!
//! A scenario is a TOML file. It says how many replicas there are, what they append and when, and which faults strike
//! them; a seed decides everything that it leaves open. Integers only, so that files compare and shrink well.

mod catalogue;
mod choices;
mod draw;
mod event;
mod hostile;
mod load;
mod nearest;
mod reader;
mod side_core;
mod unknown;
mod workload;

use std::collections::{BTreeMap, BTreeSet};

use autobee::{Rules, Settings};
use serde::{Deserialize, Serialize};

pub use choices::Choices;
pub(crate) use draw::{Class, befall, drawn_schedule};
pub use event::{Action, CrashMode, Event};
pub use hostile::{Hostile, Hostility};
pub use load::ScenarioError;
pub use nearest::nearest;
pub use reader::Reader;
pub use side_core::SideCore;
pub use workload::{Append, Workload};

use crate::disk::DiskFaults;
use crate::network::PathConfig;
use crate::schedule::Schedule;

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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The name; that of the file, without its ending, when the file says none. It is part of the trace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
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
    /// The logs of writers and the trees are encrypted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
    /// Entries of strangers are never tried: the opposite of [`autobee::db::Builder::optimistic`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub members_only: bool,
    /// Replicas that go on from the trees of any member that is far ahead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forward: Vec<usize>,
    /// Replicas of those that never fetch the logs that they passed over, but only the trees that order and view are read
    /// from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passing: Vec<usize>,
    /// Replicas whose database dials its peers and accepts them, [`autobee::db::Autobee::keep_connected`] and
    /// [`autobee::db::Autobee::listen`], and lets some peers go now and then; of the others the program does it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keeping: Vec<usize>,
    /// The database has the rules that are safe, [`autobee::Rules::safe`]; those of the original otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub safe: bool,
    /// Who dials whom.
    #[serde(default, skip_serializing_if = "Topology::is_default")]
    pub topology: Topology,
    /// Rare paths of the engine are taken at random, see [`autobee::env::Env::buggify`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub buggify: bool,
    /// Which of several ready tasks of the group runs next.
    #[serde(default, skip_serializing_if = "Schedule::is_default")]
    pub schedule: Schedule,
    /// Violations that are known, and what else they would take. A run in which nothing but them is found is a good one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expected: Vec<Expected>,
    /// Fields of [`autobee::Settings`] that differ from the default, at each replica.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub settings: toml::Table,
    /// Inner numbers that differ from those of production, by their names: see [`autobee::env::Env::knob`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub knobs: BTreeMap<String, u64>,
    /// The paths between replicas.
    #[serde(default)]
    pub network: PathConfig,
    /// What goes wrong on the disks of replicas, and how long their calls take.
    #[serde(default)]
    pub disk: DiskFaults,
    /// What is appended, in outline: the seed draws the rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workload: Vec<Workload>,
    /// What is appended, to the letter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub append: Vec<Append>,
    /// What happens besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event: Vec<Event>,
    /// Peers that do not keep to the protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostile: Vec<Hostile>,
    /// Peers that hold only the blocks that they asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reader: Vec<Reader>,
    /// Logs that replicas write and follow beside the database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub core: Vec<SideCore>,
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

/// Who dials whom. Every replica replicates everything, so what two of them do not exchange comes by others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topology {
    /// Everybody with everybody.
    #[default]
    Mesh,
    /// Each with the next, and the last with the first.
    Ring,
    /// Each with the next.
    Chain,
    /// Everybody with the creator.
    Star,
    /// A ring, in which each also dials the one that is as many places on as the square root of all: four connections
    /// each, and few hops between any two.
    Chords,
    /// Nobody dials anybody: what replicas have of each other comes by readers.
    Apart,
}

/// A violation that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The name of the invariant.
    pub invariant: String,
    /// What is missing until it holds.
    pub because: String,
}

impl Scenario {
    /// The rules of the database.
    #[must_use]
    pub const fn rules(&self) -> Rules {
        if self.safe {
            Rules::safe()
        } else {
            Rules::interop()
        }
    }

    /// The replicas that the creator makes writers.
    #[must_use]
    pub fn writers(&self) -> Vec<usize> {
        self.writers
            .clone()
            .unwrap_or_else(|| (1..self.replicas).collect())
    }

    /// The seed with which it once failed: the number that its name ends in, as in `lost_ack-417`.
    #[must_use]
    pub fn own_seed(&self) -> Option<u64> {
        self.name
            .rsplit_once('-')
            .and_then(|(_, number)| number.parse().ok())
    }

    /// When everything is healed: after the last event and the last append, in milliseconds.
    #[must_use]
    pub fn heal_ms(&self) -> u64 {
        let events = self.event.iter().map(|event| event.at_ms);
        let appends = self.workload.iter().map(|workload| workload.to_ms);
        let single = self.append.iter().map(|append| append.at_ms);
        events.chain(appends).chain(single).max().unwrap_or(0)
    }

    /// The settings of each replica.
    ///
    /// # Errors
    ///
    /// When a field of [`Scenario::settings`] is not one, or has a value that cannot be.
    pub fn replica_settings(&self) -> Result<Settings, toml::de::Error> {
        let mut settings: Settings = self.settings.clone().try_into()?;
        settings.window_batches = self.window_batches.unwrap_or(settings.window_batches);
        if let Some(gather_ms) = self.gather_ms {
            settings.heal_gather.time_ms = gather_ms;
            settings.heal_gather.quiet_ms = gather_ms;
        }
        Ok(settings)
    }

    /// True when the first dials the second, or the other way round.
    #[must_use]
    pub const fn connects(&self, a: usize, b: usize) -> bool {
        let (low, high) = if a < b { (a, b) } else { (b, a) };
        match self.topology {
            Topology::Mesh => low != high,
            Topology::Chain => low + 1 == high,
            Topology::Ring => low + 1 == high || (low == 0 && high + 1 == self.replicas && high > 0),
            Topology::Star => low == 0 && high > 0,
            Topology::Apart => false,
            Topology::Chords => {
                let (way, chord) = (high - low, self.replicas.isqrt());
                let around = self.replicas - way;
                way > 0 && (way == 1 || around == 1 || way == chord || around == chord)
            }
        }
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

impl Topology {
    fn is_default(&self) -> bool {
        *self == Self::Mesh
    }
}
