//! What must hold when a run is over.

mod acknowledged;
mod convergence;
mod gathering;
mod reference;
mod seen;

use std::collections::BTreeMap;
use std::fmt;

use autobee::crypto::CoreKey;
use autobee::db::{OrderedEntry, WriterStatus};
use autobee::wire::Length;
use bytes::Bytes;
use serde::Serialize;

pub use acknowledged::acknowledged;
pub use convergence::convergence;
pub use gathering::{Healing, gathering};
pub use reference::reference;
pub use seen::Seen;

/// What a replica holds at the end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The name of the replica.
    pub replica: String,
    /// Everything in its order.
    pub order: Vec<OrderedEntry>,
    /// The records of all writers.
    pub writers: Vec<WriterStatus>,
    /// The whole view.
    pub view: Vec<(Bytes, Bytes)>,
    /// All blocks of all cores.
    pub cores: BTreeMap<CoreKey, Vec<Bytes>>,
}

/// An append that returned to its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// The replica that appended.
    pub replica: usize,
    /// The writer.
    pub key: CoreKey,
    /// The length of its log with the last value of the append.
    pub length: Length,
    /// What was appended, in its order.
    pub values: Vec<Bytes>,
}

/// Something that must hold, and does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which property.
    pub invariant: &'static str,
    /// Who differs from what, and where.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}
