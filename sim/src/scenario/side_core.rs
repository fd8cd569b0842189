//! Logs that are replicated beside the database.

use serde::{Deserialize, Serialize};

/// A log beside the database: its owner appends to it, truncates it, and takes in what named sessions wrote, and other
/// replicas follow it, over the connections that they have for the database. In a file: a table `[[core]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SideCore {
    /// The replica that writes it.
    #[serde(default)]
    pub of: usize,
    /// Time between two changes, and between two looks of whoever follows it, in milliseconds.
    #[serde(default = "SideCore::every_ms_default")]
    pub every_ms: u64,
    /// Changes that its owner makes, at most.
    #[serde(default = "SideCore::changes_default")]
    pub changes: u32,
    /// One of so many changes truncates it; none with 0.
    #[serde(default = "SideCore::truncations_default")]
    pub truncations: u32,
    /// One of so many changes goes to a named session that is never taken in; none with 0.
    #[serde(default)]
    pub branches: u32,
    /// Those who follow it block by block fetch all blocks that have no more bytes than this, too; none with 0.
    #[serde(default)]
    pub small_bytes: u64,
    /// The replicas that follow it; all others when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub followers: Option<Vec<usize>>,
}

impl SideCore {
    const fn every_ms_default() -> u64 {
        200
    }

    const fn changes_default() -> u32 {
        20
    }

    const fn truncations_default() -> u32 {
        5
    }

    /// True when a replica follows it.
    #[must_use]
    pub fn is_followed_by(&self, replica: usize) -> bool {
        replica != self.of
            && self
                .followers
                .as_ref()
                .is_none_or(|followers| followers.contains(&replica))
    }

    /// The field that cannot be as it is, and why.
    pub(super) fn refused(&self, replicas: usize) -> Option<(&'static str, String)> {
        if self.of >= replicas {
            return Some(("of", format!("there is no replica {}", self.of)));
        }
        if self.every_ms == 0 {
            return Some(("every_ms", "must be at least 1".into()));
        }
        let mut followers = self.followers.iter().flatten();
        let replica = followers.find(|replica| **replica >= replicas)?;
        Some(("followers", format!("there is no replica {replica}")))
    }
}
