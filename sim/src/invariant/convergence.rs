//! Peers that hold the same blocks have the same order, weights, records and view.

use super::{Outcome, Violation};

const NAME: &str = "convergence";

/// Compares every replica with the first one.
#[must_use]
pub fn convergence(outcomes: &[Outcome]) -> Option<Violation> {
    let (first, others) = outcomes.split_first()?;
    others.iter().find_map(|other| {
        let what = if first.order != other.order {
            let at = first
                .order
                .iter()
                .zip(&other.order)
                .take_while(|(a, b)| a == b)
                .count();
            format!(
                "order differs at entry {at}: {:?} at {}, {:?} at {}",
                first.order.get(at),
                first.replica,
                other.order.get(at),
                other.replica,
            )
        } else if first.writers != other.writers {
            let at = first
                .writers
                .iter()
                .zip(&other.writers)
                .take_while(|(a, b)| a == b)
                .count();
            format!(
                "writer records differ: {:?} at {}, {:?} at {}",
                first.writers.get(at),
                first.replica,
                other.writers.get(at),
                other.replica,
            )
        } else if first.view != other.view {
            let at = first
                .view
                .iter()
                .zip(&other.view)
                .take_while(|(a, b)| a == b)
                .count();
            format!(
                "view differs at entry {at}: {:?} at {}, {:?} at {}",
                first.view.get(at),
                first.replica,
                other.view.get(at),
                other.replica,
            )
        } else {
            return None;
        };
        Some(Violation {
            invariant: NAME,
            what,
        })
    })
}
