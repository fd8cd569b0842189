//! Applies that stop their replica, as an app does that cannot go on.

use super::{Action, Choices, Event, Scenario};

/// In every eighth scenario the app of some replicas cannot go on now and then.
pub(super) fn draw(choices: &mut Choices<'_>, scenario: &mut Scenario, span_ms: u64) {
    if !choices.once_in(8) {
        return;
    }
    for _ in 0..choices.between(1, 4) {
        let replica = choices.index(scenario.replicas);
        let at_ms = 100 + choices.below(span_ms);
        let action = Action::Interrupt { replica };
        scenario.event.push(Event { at_ms, action });
    }
    scenario.event.sort_by_key(|event| event.at_ms);
}
