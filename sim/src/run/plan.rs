//! What happens when: the scenario's events, and the appends that the seed spreads over their spans.

use crate::scenario::{Action, Scenario, Workload};
use crate::seed::Stream;
use crate::workload::Op;

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Append(Append),
    Action(Action),
}

/// One append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Append {
    pub(super) replica: usize,
    pub(super) ops: Vec<Op>,
    pub(super) optimistic: bool,
}

/// All steps in the order of their times, which are in milliseconds. Events come before appends of the same time.
pub(super) fn plan(scenario: &Scenario, stream: &mut Stream) -> Vec<(u64, Step)> {
    let mut steps: Vec<(u64, Step)> = scenario
        .event
        .iter()
        .map(|event| (event.at_ms, Step::Action(event.action.clone())))
        .collect();
    for workload in &scenario.workload {
        for replica in &workload.replicas {
            for number in 0..workload.appends {
                let at_ms = stream.between(workload.from_ms, workload.to_ms);
                steps.push((at_ms, Step::Append(append(workload, *replica, number, stream))));
            }
        }
    }
    steps.sort_by_key(|(at_ms, _)| *at_ms);
    steps
}

fn append(workload: &Workload, replica: usize, number: u32, stream: &mut Stream) -> Append {
    let count = stream.between(1, u64::from(workload.batch_max));
    let op = |position| {
        let key = format!("k{}", stream.below(u64::from(workload.keys)));
        if workload.refused > 0 && stream.below(u64::from(workload.refused)) == 0 {
            return Op {
                remove_writer: Some("nobody".into()),
                ..Op::default()
            };
        }
        // One in eight removes.
        if stream.below(8) == 0 {
            Op {
                del: Some(key),
                ..Op::default()
            }
        } else {
            Op::put(key, format!("r{replica}.{number}.{position}"))
        }
    };
    Append {
        replica,
        ops: (0..count).map(op).collect(),
        optimistic: workload.optimistic,
    }
}
