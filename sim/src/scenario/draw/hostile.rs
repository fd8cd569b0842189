//! Hostile peers of a generated scenario.

use super::{Choices, Scenario};
use crate::scenario::{Hostile, Hostility};

/// Adds one or two hostile peers to every fourth scenario.
pub(super) fn draw(choices: &mut Choices<'_>, scenario: &mut Scenario, span_ms: u64) {
    if !choices.once_in(4) {
        return;
    }
    let count = choices.between(1, 2);
    scenario.hostile = (0..count).map(|_| hostile(choices, scenario, span_ms)).collect();
}

fn hostile(choices: &mut Choices<'_>, scenario: &Scenario, span_ms: u64) -> Hostile {
    let mut kinds = vec![
        Hostility::Stranger,
        Hostility::Member,
        Hostility::ForgedProof,
        Hostility::Withheld,
        Hostility::Flood,
        Hostility::Replay,
        Hostility::Truncated,
        Hostility::Garbage,
    ];
    // Where a log has two branches little is claimed: seldom.
    if choices.once_in(4) {
        kinds = vec![Hostility::Equivocator, Hostility::Twin];
    }
    let kind = choices.pick(&kinds);
    let from_ms = choices.below(span_ms);
    // Half of them are still there when everything is healed.
    let to_ms = from_ms + 1 + choices.below(span_ms * 2);
    let is_about_a_log = matches!(
        kind,
        Hostility::Flood | Hostility::ForgedProof | Hostility::Withheld | Hostility::Replay
    );
    let of = if kind == Hostility::Twin || (is_about_a_log && choices.once_in(2)) {
        Some(choices.index(scenario.replicas))
    } else {
        None
    };
    let all = scenario.replicas;
    let targets = choices
        .once_in(3)
        .then(|| (0..all).filter(|_| choices.once_in(2)).collect::<Vec<usize>>())
        .filter(|targets| !targets.is_empty());
    let is_member = kind == Hostility::Member || (kind == Hostility::Equivocator && choices.once_in(2));
    Hostile {
        kind,
        from_ms,
        to_ms,
        targets,
        of,
        weight: is_member.then(|| choices.pick(&[2, 0, 1, 5])),
    }
}
