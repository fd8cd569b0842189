//! Readers of a scenario: peers that hold only what they asked for.

use serde::{Deserialize, Serialize};

/// A peer that reads drawn blocks of one log and holds no others. In a file: a table `[[reader]]`. The first is the process
/// `s0`, the second `s1`, and so on. It knows the key of the log, and dials its targets from the start of the plan on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reader {
    /// The replica whose log it reads.
    #[serde(default)]
    pub of: usize,
    /// Time between two reads, in milliseconds.
    #[serde(default = "Reader::every_ms_default")]
    pub every_ms: u64,
    /// The replicas that it dials; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<usize>>,
}

impl Reader {
    const fn every_ms_default() -> u64 {
        200
    }

    /// Whom it dials, in a scenario of so many replicas.
    #[must_use]
    pub fn dialled(&self, replicas: usize) -> Vec<usize> {
        self.targets.clone().unwrap_or_else(|| (0..replicas).collect())
    }

    /// The field that cannot be as it is, and why.
    pub(super) fn refused(&self, replicas: usize) -> Option<(&'static str, String)> {
        if self.of >= replicas {
            return Some(("of", format!("there is no replica {}", self.of)));
        }
        if self.every_ms == 0 {
            return Some(("every_ms", "must be at least 1".into()));
        }
        let targets = self.dialled(replicas);
        if let Some(replica) = targets.iter().find(|replica| **replica >= replicas) {
            return Some(("targets", format!("there is no replica {replica}")));
        }
        targets
            .is_empty()
            .then(|| ("targets", "must hold at least one".into()))
    }
}
