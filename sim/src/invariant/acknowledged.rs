//! An append that returned survives everything, and is in the order of every replica.

use std::collections::BTreeSet;

use super::{Acknowledged, Outcome, Violation};

/// Looks for an acknowledged entry that some replica does not have.
#[must_use]
pub fn acknowledged(acknowledged: &[Acknowledged], outcomes: &[Outcome]) -> Option<Violation> {
    outcomes.iter().find_map(|outcome| {
        let order: BTreeSet<_> = outcome
            .order
            .iter()
            .map(|entry| (entry.key, entry.length))
            .collect();
        let lost = acknowledged
            .iter()
            .find(|entry| !order.contains(&(entry.key, entry.length)))?;
        let what = format!(
            "block {} of {} is not in the order of {}",
            lost.length, lost.key, outcome.replica
        );
        Some(Violation {
            invariant: "acknowledged",
            what,
        })
    })
}
