//! A writer that claims its weight, cut off, while its ceiling is taken and given back.

use super::{Action, Choices, Event, Scenario};

/// How long the creator and the others write so that a grant is attested, in milliseconds.
const ATTESTED_MS: u64 = 1_200;

/// In every tenth scenario a writer is granted a high weight, is cut off, and claims it, while it is removed, added again for
/// less, and granted as much as before. Half of these have a small window, so that what was picked between is forgotten.
pub(super) fn draw(choices: &mut Choices<'_>, scenario: &mut Scenario, span_ms: u64) {
    let replicas = scenario.replicas;
    if !choices.once_in(10) || replicas < 3 {
        return;
    }
    let members = scenario.writers();
    let (Some(target), Some(by)) = (members.last().copied(), members.first().copied()) else {
        return;
    };
    if target == by {
        return;
    }
    let weight = choices.pick(&[7, 5, 3]);
    let less = choices.pick(&[1, 0, 2]);
    let granted = choices.below(300);
    let cut = granted + ATTESTED_MS + choices.below(400);
    let mut at_ms = cut;
    let mut event = vec![
        Event {
            at_ms: granted,
            action: Action::Add { by, target, weight },
        },
        Event {
            at_ms: cut,
            action: Action::Partition {
                groups: groups(choices, replicas, target),
            },
        },
    ];
    for action in [
        Action::Remove { by, target },
        Action::Add {
            by,
            target,
            weight: less,
        },
        Action::Add {
            by: choices.pick(&[0, by]),
            target,
            weight,
        },
    ] {
        at_ms += 50 + choices.below(span_ms / 3);
        event.push(Event { at_ms, action });
    }
    event.push(Event {
        at_ms: at_ms + choices.below(span_ms / 2),
        action: Action::Heal,
    });
    scenario.event.extend(event);
    scenario.event.sort_by_key(|event| event.at_ms);
    if choices.once_in(2) {
        scenario.window_batches = Some(choices.pick(&[2, 1, 4]));
    }
}

/// The target alone; of the others at times another one, too.
fn groups(choices: &mut Choices<'_>, replicas: usize, target: usize) -> Vec<Vec<usize>> {
    let mut rest: Vec<usize> = (0..replicas).filter(|replica| *replica != target).collect();
    let mut groups = vec![vec![target]];
    if rest.len() > 2 && choices.once_in(2) {
        groups.extend(rest.pop().map(|last| vec![last]));
    }
    groups.push(rest);
    groups
}
