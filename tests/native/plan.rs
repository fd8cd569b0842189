//! Scenarios as processes can play them.

use autobee_sim::Scenario;
use autobee_sim::scenario::{Action, Append, CrashMode, Event};
use autobee_sim::workload::Op;

/// Time between two steps in the simulator: all that is connected knows of the first one when the second one comes.
const STEP_MS: u64 = 2_000;

/// Appends of one scenario; a process takes its time for each.
const APPENDS_MAX: usize = 16;

const REPLICAS_MAX: usize = 6;

/// Why processes cannot play a scenario; none when they can.
pub(crate) fn unplayable(scenario: &Scenario) -> Option<&'static str> {
    let is_playable = |action: &Action| match action {
        Action::Partition { .. }
        | Action::Heal
        | Action::Reset { .. }
        | Action::Join { .. }
        | Action::Restart { .. }
        | Action::Add { .. }
        | Action::Remove { .. } => true,
        Action::Reopen { settings, .. } => settings.is_empty(),
        Action::Crash { mode, .. } => *mode == CrashMode::Kill,
        _ => false,
    };
    let explicit = scenario.explicit(0);
    let is_of_one_key = |op: &Op| {
        op.put
            .as_ref()
            .zip(op.del.as_ref())
            .is_none_or(|((put, _), del)| put == del)
    };
    let is_plain =
        |op: &Op| op.reject_if.is_none() && !op.reject && !op.anchor && op.ack.is_none() && is_of_one_key(op);
    let mut appends = explicit.append.iter();
    if !scenario.hostile.is_empty() || !scenario.reader.is_empty() {
        Some("it has hostile peers, or readers of single blocks")
    } else if scenario.replicas > REPLICAS_MAX {
        Some("it has more replicas than this machine is to have processes")
    } else if !scenario.event.iter().all(|event| is_playable(&event.action)) {
        Some("it has faults that no process can be made to suffer")
    } else if !scenario.forward.is_empty() {
        Some("replicas go forward on their own")
    } else if appends.any(|append| append.optimistic || !append.ops.iter().all(is_plain)) {
        Some("its entries say more than put and delete")
    } else {
        None
    }
}

/// The same scenario with its first appends, each written out, and with time for all to hear of each step.
pub(crate) fn pulled_apart(scenario: &Scenario, seed: u64) -> Scenario {
    let mut explicit = scenario.explicit(seed);
    explicit.append.sort_by_key(|append| append.at_ms);
    // Some of the whole time, not its beginning.
    let every = explicit.append.len().div_ceil(APPENDS_MAX).max(1);
    let appends: Vec<Append> = explicit.append.drain(..).step_by(every).collect();
    let mut steps: Vec<(u64, Result<Event, Append>)> = Vec::new();
    steps.extend(explicit.event.drain(..).map(|event| (event.at_ms, Ok(event))));
    steps.extend(appends.into_iter().map(|append| (append.at_ms, Err(append))));
    // Events before appends of the same time, as in a run.
    steps.sort_by_key(|(at_ms, _)| *at_ms);
    for (at_ms, (_, step)) in (1..).map(|number| number * STEP_MS).zip(steps) {
        match step {
            Ok(event) => explicit.event.push(Event { at_ms, ..event }),
            Err(append) => explicit.append.push(Append { at_ms, ..append }),
        }
    }
    explicit.converge_ms = explicit.converge_ms.max(60_000);
    explicit
}

/// The keys that a scenario writes.
pub(crate) fn keys(scenario: &Scenario) -> Vec<String> {
    let ops = scenario.append.iter().flat_map(|append| &append.ops);
    ops.filter_map(|op| op.put.as_ref().map(|(key, _)| key.clone()))
        .collect()
}
