//! What happens to replicas at a point of time.

use serde::{Deserialize, Serialize};

use crate::disk::{DiskFaults, DiskOp};
use crate::network::PathConfig;

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds of virtual time.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub action: Action,
}

/// What happens. In a file: `do = "partition"` and the fields of that action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Action {
    /// Only replicas of one group reach each other. Who is in no group reaches nobody.
    Partition {
        /// The groups.
        groups: Vec<Vec<usize>>,
    },
    /// Nothing from one replica reaches the other any more; the way back stays open.
    Cut {
        /// The sender.
        from: usize,
        /// The receiver.
        to: usize,
        /// The heal at the end does not open it.
        #[serde(default)]
        lasting: bool,
    },
    /// A way that was cut is open again.
    Open {
        /// The sender.
        from: usize,
        /// The receiver.
        to: usize,
    },
    /// All ways are open again, but those that are cut for good.
    Heal,
    /// All streams between two replicas are reset, in the middle of whatever they carry.
    Reset {
        /// One.
        a: usize,
        /// The other.
        b: usize,
    },
    /// All streams between two replicas are dead from now on, and neither end hears of it: a router on the way forgot
    /// them. What is dialled later is sound.
    Mute {
        /// One.
        a: usize,
        /// The other.
        b: usize,
    },
    /// From now on the path from one replica to the other is like this.
    Path {
        /// The sender.
        from: usize,
        /// The receiver.
        to: usize,
        /// How it behaves.
        path: PathConfig,
    },
    /// Starts a replica that did not start with the others.
    Join {
        /// Which.
        replica: usize,
    },
    /// Ends the process of a replica.
    Crash {
        /// Which.
        replica: usize,
        /// How.
        mode: CrashMode,
        /// Nobody starts it again.
        #[serde(default)]
        lasting: bool,
    },
    /// A replica loses power within a millisecond after the next append returns there.
    Blackout {
        /// Which.
        replica: usize,
    },
    /// A replica loses power right behind a call of its disk.
    CrashPoint {
        /// Which.
        replica: usize,
        /// The kind of call.
        call: DiskOp,
        /// Calls of this kind that pass before.
        #[serde(default)]
        after: u32,
    },
    /// Starts a crashed replica again, from its disk.
    Restart {
        /// Which.
        replica: usize,
    },
    /// A replica closes its database, ends, and starts again, perhaps with other settings.
    Reopen {
        /// Which.
        replica: usize,
        /// Fields of [`autobee::Settings`] that differ from those of the scenario.
        #[serde(default)]
        settings: toml::Table,
        /// The version of apply from now on: with another one the view is made anew from the logs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        apply_version: Option<u64>,
    },
    /// The next call of apply at a replica stops it, as an app does that cannot go on: its program ends, and starts again.
    Interrupt {
        /// Which.
        replica: usize,
    },
    /// A replica makes a new log for its writer, adds it to the writers, if it is one, and goes on in it.
    Rotate {
        /// Which.
        replica: usize,
    },
    /// The directory of a replica is lost. It starts again with an empty one, as a newcomer with another key.
    Wipe {
        /// Which.
        replica: usize,
    },
    /// The directory of a replica is copied, as a backup does.
    Backup {
        /// Which.
        replica: usize,
    },
    /// A replica is ended, and starts again from its last backup, as the same writer; without one it goes on.
    Restore {
        /// Which.
        replica: usize,
        /// It is told so, see [`autobee::db::Builder::restored`].
        #[serde(default)]
        told: bool,
    },
    /// From now on this goes wrong on the disk of a replica.
    Disk {
        /// Which.
        replica: usize,
        /// What.
        faults: DiskFaults,
    },
    /// Stops a replica from doing anything, as a closed laptop lid does.
    Pause {
        /// Which.
        replica: usize,
    },
    /// Lets it go on.
    Resume {
        /// Which.
        replica: usize,
    },
    /// Sets how far the wall clock of a replica is off.
    Skew {
        /// Which.
        replica: usize,
        /// By how much, in milliseconds; negative is behind.
        ms: i64,
    },
    /// Sets how fast the wall clock of a replica runs.
    Drift {
        /// Which.
        replica: usize,
        /// Millionths by which it is too fast; negative is too slow.
        ppm: i64,
    },
    /// One replica adds another as a writer.
    Add {
        /// Who adds.
        by: usize,
        /// Who is added.
        target: usize,
        /// The ceiling of its weight.
        #[serde(default = "Action::weight_default")]
        weight: u64,
    },
    /// One replica acknowledges another, as apply does of a stranger. Itself: it appends so without being a writer, and
    /// members acknowledge that.
    Ack {
        /// Who acknowledges.
        by: usize,
        /// Who is acknowledged.
        target: usize,
    },
    /// The log of a replica gets a block that its program would not write: with no links, older than everything, and
    /// with a claim that no signature supports and that another one's newest block is to back.
    Forge {
        /// Whose log.
        by: usize,
        /// Whose block is named.
        backer: usize,
    },
    /// One replica removes another from the writers.
    Remove {
        /// Who removes.
        by: usize,
        /// Who is removed.
        target: usize,
    },
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CrashMode {
    /// The process is killed; what it wrote is there, its peers get resets.
    Kill,
    /// The machine loses power; what was not synced may be lost, its peers hear nothing.
    PowerLoss,
}

impl Action {
    const fn weight_default() -> u64 {
        2
    }

    /// The replica that starts late with this.
    #[must_use]
    pub const fn joins(&self) -> Option<usize> {
        match self {
            Self::Join { replica } => Some(*replica),
            _ => None,
        }
    }

    /// The replicas that it names.
    #[must_use]
    pub fn replicas(&self) -> Vec<usize> {
        match self {
            Self::Partition { groups } => groups.concat(),
            Self::Cut { from, to, .. } | Self::Open { from, to } | Self::Path { from, to, .. } => {
                vec![*from, *to]
            }
            Self::Reset { a, b } | Self::Mute { a, b } => vec![*a, *b],
            Self::Heal => Vec::new(),
            Self::Join { replica }
            | Self::Crash { replica, .. }
            | Self::Blackout { replica }
            | Self::CrashPoint { replica, .. }
            | Self::Restart { replica }
            | Self::Pause { replica }
            | Self::Resume { replica }
            | Self::Reopen { replica, .. }
            | Self::Interrupt { replica }
            | Self::Rotate { replica }
            | Self::Wipe { replica }
            | Self::Backup { replica }
            | Self::Restore { replica, .. }
            | Self::Disk { replica, .. }
            | Self::Drift { replica, .. }
            | Self::Skew { replica, .. } => vec![*replica],
            Self::Add { by, target, .. } | Self::Ack { by, target } | Self::Remove { by, target } => {
                vec![*by, *target]
            }
            Self::Forge { by, backer } => vec![*by, *backer],
        }
    }
}
