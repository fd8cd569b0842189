//! Fewer replicas: one goes with all that it does, and those after it get its number.

use toml::{Table, Value};

use super::Search;
use crate::scenario::{Event, Scenario};

/// Fields of events that hold the number of a replica, or lists of them.
const NUMBERS: &[&str] = &[
    "replica", "from", "to", "a", "b", "by", "target", "backer", "groups",
];

impl<F: FnMut(&Scenario) -> bool, B: FnMut(u64) -> bool> Search<F, B> {
    pub(super) fn replicas(&mut self) {
        // The creator stays.
        for replica in (1..self.best.replicas).rev() {
            if let Some(candidate) = without(&self.best, replica) {
                self.attempt(candidate);
            }
        }
    }
}

/// The scenario without a replica, its appends, and the events that name it. A partition only loses it.
fn without(scenario: &Scenario, gone: usize) -> Option<Scenario> {
    let renumber = |replica: usize| if replica > gone { replica - 1 } else { replica };
    let mut scenario = scenario.clone();
    scenario.replicas -= 1;
    scenario.append.retain(|append| append.replica != gone);
    for append in &mut scenario.append {
        append.replica = renumber(append.replica);
    }
    if let Some(writers) = &mut scenario.writers {
        writers.retain(|writer| *writer != gone);
        for writer in writers {
            *writer = renumber(*writer);
        }
    }
    for those in [
        &mut scenario.forward,
        &mut scenario.passing,
        &mut scenario.keeping,
    ] {
        those.retain(|replica| *replica != gone);
        for replica in those {
            *replica = renumber(*replica);
        }
    }
    scenario
        .hostile
        .retain(|hostile| hostile.of != Some(gone) && hostile.targets.as_deref() != Some(&[gone]));
    for hostile in &mut scenario.hostile {
        hostile.of = hostile.of.map(renumber);
        if let Some(targets) = &mut hostile.targets {
            targets.retain(|target| *target != gone);
            for target in targets {
                *target = renumber(*target);
            }
        }
    }
    scenario
        .reader
        .retain(|reader| reader.of != gone && reader.targets.as_deref() != Some(&[gone]));
    for reader in &mut scenario.reader {
        reader.of = renumber(reader.of);
        if let Some(targets) = &mut reader.targets {
            targets.retain(|target| *target != gone);
            for target in targets {
                *target = renumber(*target);
            }
        }
    }
    scenario
        .core
        .retain(|core| core.of != gone && core.followers.as_deref() != Some(&[gone]));
    for core in &mut scenario.core {
        core.of = renumber(core.of);
        if let Some(followers) = &mut core.followers {
            followers.retain(|follower| *follower != gone);
            for follower in followers {
                *follower = renumber(*follower);
            }
        }
    }
    let mut events = Vec::new();
    for event in std::mem::take(&mut scenario.event) {
        let is_group = matches!(event.action, crate::scenario::Action::Partition { .. });
        let named = event.action.replicas();
        if named.contains(&gone) && !is_group {
            continue;
        }
        let mut table = Table::try_from(&event).ok()?;
        for name in NUMBERS {
            if let Some(value) = table.get_mut(*name) {
                change(value, gone);
            }
        }
        let event: Event = table.try_into().ok()?;
        let expected = named.into_iter().filter(|replica| *replica != gone).map(renumber);
        // An action whose replicas stand in other fields.
        if event.action.replicas() != expected.collect::<Vec<_>>() {
            return None;
        }
        events.push(event);
    }
    scenario.event = events;
    Some(scenario)
}

fn change(value: &mut Value, gone: usize) {
    match value {
        Value::Integer(number) if usize::try_from(*number).is_ok_and(|number| number > gone) => {
            *number -= 1;
        }
        Value::Array(list) => {
            list.retain(|value| value.as_integer() != i64::try_from(gone).ok());
            for value in list.iter_mut() {
                change(value, gone);
            }
            list.retain(|value| value.as_array().is_none_or(|list| !list.is_empty()));
        }
        _ => {}
    }
}
