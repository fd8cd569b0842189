//! What happens when: the scenario's events, and the appends that the seed spreads over their spans.

use crate::scenario::{Action, Append, Scenario, Workload};
use crate::seed::{Seeds, Stream};
use crate::workload::{NOBODY, Op, SELF};

/// One thing that happens.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Append(Append),
    Action(Action),
}

impl Scenario {
    /// The same scenario, with what this seed draws from its workloads written out as appends. With this seed it runs
    /// identically.
    #[must_use]
    pub fn explicit(&self, seed: u64) -> Self {
        // The stream that a world gives for its plan.
        let mut stream = Seeds::new(seed).stream("workload", &["plan"]);
        Self {
            append: appends(self, &mut stream),
            workload: Vec::new(),
            ..self.clone()
        }
    }
}

/// All steps in the order of their times, which are in milliseconds. Events come before appends of the same time.
pub(super) fn plan(scenario: &Scenario, stream: &mut Stream) -> Vec<(u64, Step)> {
    let mut steps: Vec<(u64, Step)> = scenario
        .event
        .iter()
        .map(|event| (event.at_ms, Step::Action(event.action.clone())))
        .collect();
    let appends = appends(scenario, stream);
    steps.extend(
        appends
            .into_iter()
            .map(|append| (append.at_ms, Step::Append(append))),
    );
    steps.sort_by_key(|(at_ms, _)| *at_ms);
    steps
}

/// All appends, those that the seed draws from workloads among them.
pub(super) fn appends(scenario: &Scenario, stream: &mut Stream) -> Vec<Append> {
    let mut appends = scenario.append.clone();
    for (position, workload) in scenario.workload.iter().enumerate() {
        for replica in &workload.replicas {
            for number in 0..workload.appends {
                let at_ms = stream.between(workload.from_ms, workload.to_ms);
                let name = format!("r{replica}.{position}.{number}");
                appends.push(append(workload, *replica, at_ms, &name, stream));
            }
        }
    }
    appends
}

/// An append is left after at most so many steps.
const LEFT_AFTER: u64 = 4;

fn append(workload: &Workload, replica: usize, at_ms: u64, name: &str, stream: &mut Stream) -> Append {
    let count = stream.between(1, u64::from(workload.batch_max));
    let op = |position| {
        let key = padded(
            &format!("k{}", stream.below(u64::from(workload.keys))),
            workload.key_bytes_max,
        );
        if once_in(stream, workload.refused) {
            return Op {
                remove_writer: Some(NOBODY.into()),
                ..Op::default()
            };
        }
        let mut op = if once_in(stream, workload.deletes) {
            // Some write to the key first, in the same flush.
            let is_written = position % 2 == 1;
            Op {
                put: is_written.then(|| (key.clone(), format!("{name}.{position}"))),
                del: Some(key),
                ..Op::default()
            }
        } else {
            let bytes = match workload.value_bytes_max {
                0 => 0,
                most => stream.below(u64::from(most)),
            };
            let value = padded(&format!("{name}.{position}"), u32::try_from(bytes).unwrap_or(0));
            Op::put(key, value)
        };
        op.anchor = once_in(stream, workload.anchors);
        if once_in(stream, workload.asking) {
            op.ack = Some(SELF.into());
        }
        if once_in(stream, workload.contested) {
            let key = format!("k{}", stream.below(u64::from(workload.keys)));
            op.reject_if = Some(padded(&key, workload.key_bytes_max));
        }
        if once_in(stream, workload.looks) {
            op.look = Some(format!("seen/{}", stream.below(8)));
        }
        op.forget = once_in(stream, workload.forgets);
        op
    };
    let ops = (0..count).map(op).collect();
    let is_left = once_in(stream, workload.left);
    Append {
        at_ms,
        replica,
        ops,
        optimistic: workload.optimistic,
        left: is_left.then(|| 1 + u32::try_from(stream.below(LEFT_AFTER)).unwrap_or_default()),
    }
}

/// True once in `times`; never when that is 0.
fn once_in(stream: &mut Stream, times: u32) -> bool {
    times > 0 && stream.below(u64::from(times)) == 0
}

/// A text, made longer to have this many bytes.
fn padded(text: &str, bytes: u32) -> String {
    format!("{text:.<width$}", width = bytes as usize)
}
