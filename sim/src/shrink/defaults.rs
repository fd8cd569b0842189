//! Fields back to their defaults.
//!
//! A scenario is looked at as the table that it is in a file: a field that can be left out has a default, whatever it is.

use toml::{Table, Value};

use super::Search;
use crate::scenario::Scenario;

/// Fields that are no simpler when they are absent, or that other steps make smaller.
const KEPT: &[&str] = &[
    "name",
    "about",
    "replicas",
    "writers",
    "crypto",
    "planted",
    "expected",
    "workload",
    "append",
    "event",
    "hostile",
    "reader",
    "core",
    "converge_ms",
    "events_max",
];

/// Where a field stands: names of tables, and positions in lists.
type Place = Vec<ScenarioPathStep>;

#[derive(Debug, Clone, PartialEq)]
enum ScenarioPathStep {
    Field(String),
    Position(usize),
}

impl<F: FnMut(&Scenario) -> bool, B: FnMut(u64) -> bool> Search<F, B> {
    /// All numbers and choices at once, then each table and choice by itself.
    pub(super) fn defaults_in_bulk(&mut self) {
        let table = to_table(&self.best);
        let fields: Vec<String> = table
            .keys()
            .filter(|name| !KEPT.contains(&name.as_str()))
            .cloned()
            .collect();
        let mut all = table;
        all.retain(|name, _| KEPT.contains(&name));
        if self.attempt_table(all) {
            return;
        }
        for field in fields {
            let mut table = to_table(&self.best);
            table.remove(&field);
            self.attempt_table(table);
        }
    }

    /// Each field that can be left out, in tables, events, appends and values.
    pub(super) fn defaults_one_by_one(&mut self) {
        // From the end: what is taken away then moves nothing that is still to be tried.
        for place in places(&to_table(&self.best)).into_iter().rev() {
            let mut table = to_table(&self.best);
            if remove(&mut table, &place) {
                self.attempt_table(table);
            }
        }
    }

    fn attempt_table(&mut self, table: Table) -> bool {
        table
            .try_into::<Scenario>()
            .is_ok_and(|candidate| self.attempt(candidate))
    }
}

fn to_table(scenario: &Scenario) -> Table {
    // What can be written to a file is a table.
    Table::try_from(scenario).unwrap_or_default()
}

fn places(table: &Table) -> Vec<Place> {
    let mut found = Vec::new();
    for (name, value) in table {
        let place = vec![ScenarioPathStep::Field(name.clone())];
        let is_kept = KEPT.contains(&name.as_str());
        if !is_kept {
            found.push(place.clone());
        }
        if !is_kept || ["event", "append", "hostile", "reader", "core"].contains(&name.as_str()) {
            collect(value, &place, &mut found);
        }
    }
    found
}

fn collect(value: &Value, place: &Place, found: &mut Vec<Place>) {
    let inner = |step| {
        let mut inner = place.clone();
        inner.push(step);
        inner
    };
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                let place = inner(ScenarioPathStep::Field(name.clone()));
                found.push(place.clone());
                collect(value, &place, found);
            }
        }
        Value::Array(list) => {
            for (position, value) in list.iter().enumerate() {
                collect(value, &inner(ScenarioPathStep::Position(position)), found);
            }
        }
        _ => {}
    }
}

/// Removes a field; false when it is not there any more.
fn remove(table: &mut Table, place: &[ScenarioPathStep]) -> bool {
    let Some((ScenarioPathStep::Field(name), rest)) = place.split_first() else {
        return false;
    };
    if rest.is_empty() {
        return table.remove(name).is_some();
    }
    let mut value = table.get_mut(name);
    for (depth, step) in rest.iter().enumerate() {
        value = match (step, value) {
            (ScenarioPathStep::Field(_), Some(Value::Table(table))) => return remove(table, &rest[depth..]),
            (ScenarioPathStep::Position(position), Some(Value::Array(list))) => list.get_mut(*position),
            _ => return false,
        };
    }
    false
}
