//! Programs that come with another version of apply.

use super::{Action, Choices, Event, Scenario};

/// In every eighth scenario the program of some replicas is another one at times. Who has not the logs of what it passed
/// over keeps its program: it could not make the view anew.
pub(super) fn draw(choices: &mut Choices<'_>, scenario: &mut Scenario, span_ms: u64) {
    if !choices.once_in(8) {
        return;
    }
    for version in 1..=choices.between(1, 4) {
        let replica = choices.index(scenario.replicas);
        let at_ms = 100 + choices.below(span_ms);
        if scenario.passing.contains(&replica) {
            continue;
        }
        let action = Action::Reopen {
            replica,
            settings: toml::Table::new(),
            apply_version: Some(version),
        };
        scenario.event.push(Event { at_ms, action });
    }
    scenario.event.sort_by_key(|event| event.at_ms);
}
