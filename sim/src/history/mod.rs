//! Histories: what a few peers write and hear, step by step, played on their machines alone and held against the model.
//!
//! A plan of the simulator has disks, connections and time, and writes a few dozen entries in a second of computing. A
//! history has none of that: [`lane0`](crate::lane0) steps the machines by hand, so that thousands of them are played in
//! the time of a few plans, each with late blocks, claims, removals, strangers and small windows. It is where mistakes of
//! the order show, and of what follows from it.
//!
//! ```
//! use autobee_sim::history::PeerHistory;
//!
//! let history = PeerHistory::generate(7);
//! let report = history.play().unwrap();
//! assert!(report.comparisons > 0);
//! assert_eq!(PeerHistory::parse(&history.to_toml()).unwrap(), history);
//! ```

mod draw;
mod judge;
mod play;
mod shrink;
mod words;

use std::fmt;

use autobee::env::{Planted, Slip};
use autobee::wire::Rules;
use serde::{Deserialize, Serialize};

use crate::lane0::Reading;
use crate::scenario::nearest;
use crate::workload::{NOBODY, Op, SELF};

pub use judge::{ModelAnswer, ModelAnswers};
pub use shrink::ShrunkHistory;

/// The most peers that a history has.
pub const PEERS_MAX: usize = crate::lane0::PEERS_MAX as usize;

/// What peers write and hear. The first one is the creator of the database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerHistory {
    /// What it shows, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Whether the database has safe rules; else those of the original.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub safe: bool,
    /// Slips that are to be made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub planted: Vec<String>,
    /// Who takes part: at most [`PEERS_MAX`].
    #[serde(rename = "peer")]
    pub peers: Vec<HistoryPeer>,
    /// What happens, one after the other.
    #[serde(default, rename = "step", skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<HistoryStep>,
}

/// How a peer of a history works.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryPeer {
    /// By how much its clock is ahead, in milliseconds.
    #[serde(skip_serializing_if = "is_zero_signed")]
    pub skew_ms: i64,
    /// Batches that it holds to order them anew; the usual number when 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub window_batches: usize,
    /// Calls of apply in one portion of a drain; no bound when 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub applies_max: usize,
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub enum HistoryStep {
    /// A peer appends a batch, if it may. Writers in its operations are peers by number: `"p0"` and so on; `"nobody"` is a
    /// name that apply refuses.
    Append {
        /// Who.
        peer: usize,
        /// As somebody who need not be a member.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        optimistic: bool,
        /// The log of this peer comes between the append and the moment at which it is written.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        meanwhile: Option<usize>,
        /// The own log does not take it when it is written, so that it is taken back.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        refused: bool,
        /// The values of the batch.
        ops: Vec<Op>,
    },
    /// A peer gets blocks of the log that another one writes, the first ones that it lacks.
    Receive {
        /// Who gets them.
        peer: usize,
        /// Whose log.
        log: usize,
        /// How many, at most; all when 0.
        #[serde(default, skip_serializing_if = "is_zero")]
        blocks: usize,
        /// The last one comes first.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        backwards: bool,
    },
    /// A peer gets everything that another one has, of all logs.
    Sync {
        /// Who gets it.
        peer: usize,
        /// Who has it.
        with: usize,
    },
    /// A peer is closed, and opened again with what it has stored.
    Reopen {
        /// Who.
        peer: usize,
    },
    /// Time goes by, and whoever waits for it goes on.
    Pass {
        /// In milliseconds.
        ms: u64,
    },
}

/// What was seen while a history was played.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HistoryReport {
    /// Batches that were appended.
    pub appends: u64,
    /// Appends that were refused, as their peers were no members.
    pub refused: u64,
    /// Appends that were taken back, as the own log did not take them.
    pub withdrawn: u64,
    /// Peers and readers that were not compared in the end, as their sets differ in what strangers wrote.
    pub apart: u64,
    /// Entries of the last order.
    pub entries: u64,
    /// States of peers that were held against the model.
    pub comparisons: u64,
    /// Members of whom it was checked that they stand with the weight that was granted.
    pub weights: u64,
    /// Entries at the start of orders that were said to be settled, the longest one of each peer.
    pub settled: u64,
}

/// Something in a history that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryFailure {
    /// Behind so many steps; none at the end, when everybody had heard everything.
    pub step: Option<usize>,
    /// What does not hold.
    pub invariant: &'static str,
    /// In words.
    pub what: String,
}

/// A history that makes no sense: what, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryError(String);

impl PeerHistory {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// When it is no history, with the place in the text, or when it names somebody who is not there.
    pub fn parse(text: &str) -> Result<Self, HistoryError> {
        let history: Self = toml::from_str(text).map_err(|error| HistoryError(error.to_string()))?;
        history.check()?;
        Ok(history)
    }

    /// As [`PeerHistory::parse`] reads it.
    #[must_use]
    pub fn to_toml(&self) -> String {
        // Numbers, texts and tables always have a form.
        toml::to_string(self).unwrap_or_default()
    }

    /// Whether it can be played.
    ///
    /// # Errors
    ///
    /// With what makes no sense.
    pub fn check(&self) -> Result<(), HistoryError> {
        let refuse = |why: String| Err(HistoryError(why));
        if !(1..=PEERS_MAX).contains(&self.peers.len()) {
            return refuse(format!("{} peers: 1 to {PEERS_MAX} can be", self.peers.len()));
        }
        for name in &self.planted {
            let mut names = Slip::ALL.iter().map(|slip| slip.name());
            if !names.clone().any(|slip| slip == name) {
                let meant = nearest(name, &mut names);
                let meant = meant.map_or_else(String::new, |meant| format!("; is {meant} meant?"));
                return refuse(format!("planted: there is no slip {name}{meant}"));
            }
        }
        for (number, step) in self.steps.iter().enumerate() {
            let named = match step {
                HistoryStep::Append {
                    peer, ops, meanwhile, ..
                } => {
                    if ops.is_empty() {
                        return refuse(format!("step {number}: a batch without operations"));
                    }
                    if let Some(nobody) = ops.iter().find_map(|op| self.nobody_in(op)) {
                        return refuse(format!("step {number}: there is no peer {nobody}"));
                    }
                    vec![*peer, meanwhile.unwrap_or(*peer)]
                }
                HistoryStep::Receive { peer, log, .. } => vec![*peer, *log],
                HistoryStep::Sync { peer, with } => vec![*peer, *with],
                HistoryStep::Reopen { peer } => vec![*peer],
                HistoryStep::Pass { .. } => Vec::new(),
            };
            if let Some(nobody) = named.iter().find(|peer| **peer >= self.peers.len()) {
                return refuse(format!("step {number}: there is no peer {nobody}"));
            }
        }
        Ok(())
    }

    /// Somebody whom an operation names and who is not there.
    fn nobody_in<'a>(&self, op: &'a Op) -> Option<&'a str> {
        let named = [&op.add_writer, &op.remove_writer, &op.ack];
        let mut named = named.into_iter().flatten().map(String::as_str);
        named.find(|name| ![SELF, NOBODY].contains(name) && self.number_of(name).is_none())
    }

    /// The peer that operations call so.
    fn number_of(&self, name: &str) -> Option<usize> {
        let number = name.strip_prefix('p')?.parse().ok()?;
        (number < self.peers.len()).then_some(number)
    }

    /// The rules of the database.
    #[must_use]
    pub const fn rules(&self) -> Rules {
        if self.safe {
            Rules::safe()
        } else {
            Rules::interop()
        }
    }

    fn planted(&self) -> Planted {
        Planted::new(|slip| self.planted.iter().any(|name| name == slip.name()))
    }
}

impl HistoryPeer {
    fn reading(&self, planted: Planted) -> Reading {
        let usual = Reading::default();
        let or_usual = |number: usize, usual: usize| if number == 0 { usual } else { number };
        Reading {
            applies_max: or_usual(self.applies_max, usual.applies_max),
            window_batches: or_usual(self.window_batches, usual.window_batches),
            planted,
            ..usual
        }
    }
}

impl fmt::Display for HistoryFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Some(step) => write!(f, "{} behind step {step}: {}", self.invariant, self.what),
            None => write!(f, "{} at the end: {}", self.invariant, self.what),
        }
    }
}

impl std::error::Error for HistoryFailure {}

impl fmt::Display for HistoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HistoryError {}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_zero_signed(number: &i64) -> bool {
    *number == 0
}
