//! A scenario that has everything which a scenario can have: what its fields are called is looked up here.

use toml::Table;

use super::{
    Action, Append, CrashMode, Event, Expected, Hostile, Hostility, Reader, Scenario, SideCore, Workload,
};
use crate::disk::{DiskFaults, DiskOp, Latency};
use crate::network::PathConfig;
use crate::schedule::Schedule;
use crate::workload::{AppOp, Op};

/// One of each action.
fn actions() -> Vec<Action> {
    let faults = DiskFaults {
        quota_bytes: Some(1),
        latency: Latency::default(),
        ..DiskFaults::default()
    };
    let (replica, from, to, by, target) = (1, 1, 0, 0, 1);
    vec![
        Action::Partition {
            groups: vec![vec![0], vec![1]],
        },
        Action::Cut {
            from,
            to,
            lasting: true,
        },
        Action::Open { from, to },
        Action::Heal,
        Action::Reset { a: 0, b: 1 },
        Action::Mute { a: 0, b: 1 },
        Action::Path {
            from,
            to,
            path: PathConfig::default(),
        },
        Action::Join { replica },
        Action::Crash {
            replica,
            mode: CrashMode::Kill,
            lasting: true,
        },
        Action::Blackout { replica },
        Action::CrashPoint {
            replica,
            call: DiskOp::Remove,
            after: 1,
        },
        Action::Restart { replica },
        Action::Reopen {
            replica,
            settings: settings(),
            apply_version: Some(1),
        },
        Action::Interrupt { replica },
        Action::Rotate { replica },
        Action::Wipe { replica },
        Action::Backup { replica },
        Action::Restore { replica, told: true },
        Action::Disk { replica, faults },
        Action::Pause { replica },
        Action::Resume { replica },
        Action::Skew { replica, ms: 1 },
        Action::Drift { replica, ppm: 1 },
        Action::Add {
            by,
            target,
            weight: 1,
        },
        Action::Ack { by, target },
        Action::Forge { by, backer: target },
        Action::Remove { by, target },
    ]
}

/// All settings, with their defaults.
fn settings() -> Table {
    // A struct of numbers and names is a table.
    Table::try_from(autobee::Settings::default()).unwrap_or_default()
}

/// All fields of a scenario, and all actions, as the table that a file is.
pub(crate) fn everything() -> Table {
    let text = || Some("0".to_owned());
    let op = Op {
        reject: true,
        reject_if: text(),
        add_writer: text(),
        weight: Some(1),
        remove_writer: text(),
        ack: text(),
        anchor: true,
        forget: true,
        look: text(),
        put: Some(("key".into(), "value".into())),
        del: text(),
        app: Some(AppOp::default()),
    };
    let workload = Workload {
        replicas: vec![0],
        appends: 1,
        batch_max: 1,
        keys: 1,
        key_bytes_max: 1,
        value_bytes_max: 1,
        from_ms: 0,
        to_ms: 1,
        optimistic: true,
        refused: 1,
        contested: 1,
        asking: 1,
        deletes: 1,
        anchors: 1,
        looks: 1,
        forgets: 1,
        left: 1,
    };
    let append = Append {
        at_ms: 1,
        replica: 0,
        optimistic: true,
        left: Some(1),
        ops: vec![op],
    };
    let scenario = Scenario {
        name: "everything".into(),
        writers: Some(vec![1]),
        planted: std::iter::once("slip".to_owned()).collect(),
        window_batches: Some(1),
        gather_ms: Some(1),
        encrypted: true,
        members_only: true,
        forward: vec![1],
        passing: vec![1],
        keeping: vec![1],
        safe: true,
        topology: super::Topology::Ring,
        buggify: true,
        expected: vec![Expected {
            invariant: "convergence".into(),
            because: "of this".into(),
        }],
        settings: settings(),
        knobs: std::iter::once(("knob".to_owned(), 1)).collect(),
        disk: DiskFaults {
            quota_bytes: Some(1),
            ..DiskFaults::default()
        },
        workload: vec![workload],
        append: vec![append],
        event: actions()
            .into_iter()
            .map(|action| Event { at_ms: 1, action })
            .collect(),
        hostile: vec![Hostile {
            kind: Hostility::Twin,
            from_ms: 1,
            to_ms: 2,
            targets: Some(vec![0]),
            of: Some(1),
            weight: Some(1),
        }],
        reader: vec![Reader {
            of: 1,
            every_ms: 1,
            targets: Some(vec![0]),
        }],
        core: vec![SideCore {
            of: 1,
            every_ms: 1,
            changes: 1,
            truncations: 1,
            branches: 1,
            small_bytes: 1,
            followers: Some(vec![0]),
        }],
        schedule: Schedule::Fifo,
        ..Scenario::generate(0)
    };
    Table::try_from(scenario).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use toml::Value;

    use super::*;

    /// The README of scenarios is all that somebody needs to write one.
    const README: &str = include_str!("../../../scenarios/README.md");

    #[test]
    fn every_action_is_here() {
        let error = toml::from_str::<Event>("at_ms = 1\ndo = \"?\"").unwrap_err();
        let message = error.message().to_owned();
        let known: BTreeSet<&str> = message.split('`').skip(3).step_by(2).collect();
        let everything = everything();
        let events = everything["event"].as_array().unwrap().iter();
        let here: BTreeSet<&str> = events.map(|event| event["do"].as_str().unwrap()).collect();
        assert!(known.len() > 20, "{message}");
        assert_eq!(here, known);
    }

    #[test]
    fn every_field_of_a_scenario_is_here() {
        let error = toml::from_str::<Scenario>("nothing = 1").unwrap_err();
        let message = error.message().to_owned();
        let known: BTreeSet<&str> = message.split('`').skip(3).step_by(2).collect();
        let everything = everything();
        let here: BTreeSet<&str> = everything.keys().map(String::as_str).collect();
        assert!(known.len() > 20, "{message}");
        assert_eq!(here, known);
    }

    #[test]
    fn every_field_and_every_action_is_documented() {
        let mut names = BTreeSet::new();
        collect(&Value::Table(everything()), &mut names);
        assert!(names.len() > 80, "{names:?}");
        let missing: Vec<&String> = names
            .iter()
            .filter(|name| !README.contains(&format!("`{name}`")))
            .collect();
        assert!(missing.is_empty(), "not in scenarios/README.md: {missing:?}");
    }

    #[test]
    fn every_hostile_peer_is_documented() {
        for kind in Hostility::ALL {
            let name = Value::try_from(kind).unwrap().to_string();
            let name = name.trim_matches('"');
            assert!(README.contains(&format!("`{name}`")), "{name}");
        }
    }

    fn collect(value: &Value, names: &mut BTreeSet<String>) {
        match value {
            Value::Table(table) => {
                for (name, value) in table {
                    match value {
                        Value::String(action) if name == "do" => {
                            names.insert(action.clone());
                        }
                        // Whatever the engine calls its numbers.
                        Value::Table(_) if name == "knobs" => {
                            names.insert(name.clone());
                        }
                        value => {
                            names.insert(name.clone());
                            collect(value, names);
                        }
                    }
                }
            }
            Value::Array(list) => {
                for value in list {
                    collect(value, names);
                }
            }
            _ => {}
        }
    }
}
