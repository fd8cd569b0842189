//! When faults stop, replicas that reach each other come to the same.

use super::{Look, Moment, ReplicaLook, Violation, first_difference};

/// A writer is gone, or cut off for good, and somebody has the proof of a length of its log of which nobody in reach has all
/// blocks. Who has it cannot check the blocks that others have, as shorter logs have other roots: it waits for its writer.
#[must_use]
pub fn is_beyond_reach(moment: &Moment<'_>) -> bool {
    moment.claims.groups.iter().any(|group| {
        let in_reach = group.iter().filter_map(|replica| moment.replicas.get(*replica));
        let looks: Vec<&Look> = in_reach.filter_map(|replica| replica.look.as_ref()).collect();
        let here = |core| {
            let progress = looks.iter().flat_map(|look| &look.progress);
            let have = progress.filter(|progress| progress.key == core);
            have.map(|progress| progress.have).max()
        };
        let is_there = |core| looks.iter().any(|look| look.writes(&core));
        let mut all = looks.iter().flat_map(|look| &look.progress);
        all.any(|progress| !is_there(progress.key) && Some(progress.length) > here(progress.key))
    })
}

/// Why nothing can be said of a replica.
fn unseen(replica: &ReplicaLook) -> String {
    let why = replica.unseen.as_deref().unwrap_or("it is not open");
    format!("{}: {why}", replica.name)
}

/// Compares the replicas of each group that reach each other. Where logs may have two continuations, nothing is claimed
/// here: see [`super::EqualSets`].
#[must_use]
pub fn convergence(moment: &Moment<'_>) -> Option<Violation> {
    let violation = |what: String| {
        Some(Violation {
            invariant: "convergence",
            what,
        })
    };
    for group in &moment.claims.groups {
        let members = group
            .iter()
            .filter(|replica| !moment.claims.damaged.contains(replica));
        let members: Vec<&ReplicaLook> = members.map(|replica| &moment.replicas[*replica]).collect();
        let (Some(first), others) = (members.first(), members.iter().skip(1)) else {
            continue;
        };
        let Some(look) = &first.look else {
            return violation(unseen(first));
        };
        if look.set.is_none() {
            return violation(format!("{} did not come to an order", first.name));
        }
        for other in others {
            let Some(theirs) = &other.look else {
                return violation(unseen(other));
            };
            if theirs.set.is_none() {
                return violation(format!("{} did not come to an order", other.name));
            }
            if moment.claims.may_disagree {
                continue;
            }
            let named = |look: &Look| -> Vec<String> {
                let entries = look.order.iter();
                entries
                    .map(|entry| {
                        format!(
                            "{} (weight {})",
                            moment.block(&entry.key, entry.length),
                            entry.weight.0
                        )
                    })
                    .collect()
            };
            let who = format!("({} here, {} there)", first.name, other.name);
            if look.order != theirs.order {
                let difference = first_difference(&named(look), &named(theirs));
                let first = look
                    .order
                    .iter()
                    .zip(&theirs.order)
                    .take_while(|(a, b)| a == b)
                    .count();
                let differing = [look.order.get(first), theirs.order.get(first)];
                let cores = differing.into_iter().flatten().map(|entry| entry.key);
                let why: Vec<String> = cores
                    .flat_map(|core| {
                        [
                            (described(&look.progress, core), &look.missing),
                            (described(&theirs.progress, core), &theirs.missing),
                        ]
                    })
                    .map(|(progress, missing)| format!("{progress}, missing {}", missing.len()))
                    .collect();
                return violation(format!("orders differ {difference} {who}; {}", why.join("; ")));
            }
            if look.writers != theirs.writers {
                let difference = first_difference(&look.writers, &theirs.writers);
                return violation(format!("writer records differ {difference} {who}"));
            }
            if look.view != theirs.view {
                let difference = first_difference(&look.view, &theirs.view);
                return violation(format!("views differ {difference} {who}"));
            }
        }
    }
    None
}

/// How far one log is, for people.
fn described(progress: &[super::Progress], core: autobee::crypto::CoreKey) -> String {
    progress.iter().find(|progress| progress.key == core).map_or_else(
        || "unknown".into(),
        |progress| {
            format!(
                "length {}, {} here, {} applied, waits for {:?}",
                progress.length, progress.have, progress.applied, progress.pending
            )
        },
    )
}
