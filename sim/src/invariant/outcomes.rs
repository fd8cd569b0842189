//! What clients were told became of their appends is what the model says: applied, or in the log and without effect.
//!
//! Source: the documentation of `db::Outcome` and `db::Event::Outcome`.

use autobee::db::Outcome;

use super::{Effective, Moment, Violation};

/// Compares what the client of each replica was told last of each batch of its log with those that have an effect in the
/// order that all hold who have the same set as `replica`. For a moment at rest: events come later than what they tell of.
///
/// Gives how many were compared.
pub fn outcomes(moment: &Moment<'_>, replica: usize, effective: &Effective) -> Result<u64, Violation> {
    let mut compared = 0;
    let judged = moment.open().find(|(other, _)| other.replica == replica);
    let Some(set) = judged.and_then(|(_, look)| look.set_digest()) else {
        return Ok(0);
    };
    for (replica, look) in moment.open() {
        // By the bytes: where a log has two continuations, replicas hold equal lengths of other batches.
        if look.set_digest() != Some(set) {
            continue;
        }
        let ready = look.set.as_ref().and_then(|set| set.get(&look.local));
        let ready = ready.copied().unwrap_or_default();
        for ((core, length), outcome) in look.seen.outcomes.iter().flatten() {
            if *core != look.local {
                continue;
            }
            compared += 1;
            let has_effect = effective.contains(&(*core, *length));
            let is_so = match outcome {
                Outcome::Applied => has_effect,
                Outcome::Rejected(_) => !has_effect,
                Outcome::Waiting { .. } => *length > ready,
            };
            if !is_so {
                let entry = moment.block(core, *length);
                let effect = if has_effect { "has" } else { "has not" };
                return Err(Violation {
                    invariant: "outcomes",
                    what: format!(
                        "{}: it was told last of {entry} that it is {outcome:?}, and that {effect} an effect, \
                         with {ready} blocks of its log in the set",
                        replica.name
                    ),
                });
            }
        }
    }
    Ok(compared)
}
