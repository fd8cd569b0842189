//! A failure, as the person reads it who wrote the apply function. It fits a screen.

use std::time::Duration;

use super::Property;
use super::identity::CheckId;
use super::outside::{self, shown_path};
use super::record::{CheckFailure, seconds};
use super::words::history;
use crate::scenario::Scenario;

/// Lines of the history that are shown.
const HISTORY_MAX: usize = 24;

/// Lines about what replicas hold that are shown.
const STATES_MAX: usize = 14;

/// What there is to tell of a failure.
pub(super) struct FailureReport<'a> {
    pub(super) id: &'a CheckId,
    pub(super) seed: u64,
    /// The plan as the seed drew it.
    pub(super) drawn: &'a Scenario,
    /// The smallest one that fails in the same way.
    pub(super) scenario: &'a Scenario,
    pub(super) failure: &'a CheckFailure,
    /// What replicas hold and differ in, line by line.
    pub(super) states: Vec<String>,
    /// Runs that the shrinker made.
    pub(super) runs: u64,
    /// How often the plan failed again, of how many times that it was run again as it is.
    pub(super) again: Option<(usize, usize)>,
}

/// The text of a failure. Writes its plan to a file.
pub(super) fn tell(told: &FailureReport<'_>) -> String {
    let CheckFailure {
        property, at, lines, ..
    } = told.failure;
    let mut text = vec![format!(
        "{}, seed {}: this does not hold: {}",
        told.id.label,
        told.seed,
        property.name()
    )];
    text.push(String::new());
    // A second process has no time of its own.
    let when = match (property, *at > Duration::from_secs(1_000_000)) {
        (Property::Function, true) => String::new(),
        (_, true) => "in the end ".to_owned(),
        (_, false) => format!("at {} ", seconds(*at)),
    };
    for (number, line) in lines.iter().enumerate() {
        let when = if number == 0 { &*when } else { "" };
        text.push(format!("  {when}{line}"));
    }
    text.push(String::new());
    if !told.states.is_empty() {
        text.push("  what the replicas hold:".into());
        let shown = told.states.iter().take(STATES_MAX);
        text.extend(shown.map(|line| format!("  {}", line.trim_end())));
        text.push(String::new());
    }
    text.extend(told.again.and_then(unsteady).into_iter().flatten());
    text.push(format!("  {}:", size(told)));
    let history = history(told.scenario);
    let shown = history.len().min(HISTORY_MAX);
    text.extend(history[..shown].iter().map(|line| format!("  {line}")));
    if shown < history.len() {
        text.push(format!(
            "  ... and {} more lines, in the file",
            history.len() - shown
        ));
    }
    text.push(String::new());
    let file = told.id.folder().join(format!("{}.toml", told.seed));
    let about = format!(
        "# {}: {}\n# AUTOBEE_SEED={} {}\n",
        told.id.label,
        property.name(),
        told.seed,
        outside::test_command()
    );
    match outside::write(&file, &format!("{about}{}", told.scenario.to_toml())) {
        Ok(()) => text.push(format!("  the plan:        {}", shown_path(&file))),
        Err(error) => text.push(format!("  the plan could not be kept: {error}")),
    }
    let (when, seeds) = match told.again {
        // What earlier seeds left may be part of it.
        Some((0, _)) => ("to try it again: ", format!("AUTOBEE_SEEDS=0..={}", told.seed)),
        _ => ("to see it again: ", format!("AUTOBEE_SEED={}", told.seed)),
    };
    text.push(format!("  {when}{seeds} {}", outside::test_command()));
    text.join("\n")
}

/// What is said of a plan that does not fail each time.
fn unsteady((failed, of): (usize, usize)) -> Option<Vec<String>> {
    let seen = match failed {
        0 => format!(
            "The same plan was run {of} times more, and did not fail again. So it depends on something besides:"
        ),
        _ if failed < of => {
            format!(
                "The same plan was run {of} times more, and failed in {failed} of them. So it depends on something besides:"
            )
        }
        _ => return None,
    };
    Some(vec![
        format!("  {seen}"),
        "  a clock, randomness, another thread, or what earlier runs left in the process.".into(),
        String::new(),
    ])
}

fn size(told: &FailureReport<'_>) -> String {
    let count =
        |number: usize, one: &str, many: &str| format!("{number} {}", if number == 1 { one } else { many });
    let of = |scenario: &Scenario| {
        let replicas = count(scenario.replicas, "replica", "replicas");
        let faults = count(scenario.event.len(), "fault", "faults");
        match told.drawn.operations() {
            0 => format!("{replicas} and {faults}"),
            _ => format!(
                "{replicas}, {} and {faults}",
                count(scenario.operations(), "op", "ops")
            ),
        }
    };
    if told.runs == 0 {
        return format!("what happened, with {}", of(told.scenario));
    }
    format!(
        "what happened, shrunk from {} to {} in {} runs",
        of(told.drawn),
        of(told.scenario),
        told.runs
    )
}
