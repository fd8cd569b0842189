//! Drawing what the replicas of one seed do, and what befalls them.

use super::ops::Ops;
use super::{CheckParts, Faults};
use crate::network::PathConfig;
use crate::scenario::{
    Action, Append, Choices, Class, CryptoChoice, Scenario, Topology, befall, drawn_schedule,
};
use crate::seed::Seeds;
use crate::workload::Op;

/// Time over which operations are appended, in milliseconds.
const SPAN_MS_MIN: u64 = 300;
const SPAN_MS_MAX: u64 = 3_000;

/// The longest operation.
const OP_BYTES_MAX: usize = 1 << 20;

/// Bytes after which a plan has no further operation, when it has the fewest. Each is in memory some dozens of times: each
/// replica writes it to its disk again whenever it is applied again.
const PLAN_BYTES_MAX: usize = 8 << 20;
const PLAN_OPS_MIN: u32 = 4;

/// Time in which all operations of a plan get through any path, in milliseconds.
const THROUGH_MS: u64 = 4_000;

/// Reads in which all operations of a plan get through any path: each is an event of the simulation.
const READS: usize = 100_000;

/// The scenario of a seed.
pub(super) fn draw(parts: &CheckParts, name: &str, ops: &dyn Ops, seed: u64) -> Result<Scenario, String> {
    let stream = Seeds::new(seed).stream("kit", &["plan"]);
    let choices = &mut Choices::Seeded(Box::new(stream));
    let (least, most) = parts.replicas;
    let replicas = usize::try_from(choices.between(least as u64, most as u64)).unwrap_or(least);
    let span_ms = choices.between(SPAN_MS_MIN, SPAN_MS_MAX);
    let mut scenario = Scenario {
        name: name.to_owned(),
        about: format!("what seed {seed} draws for {name}"),
        replicas,
        crypto: CryptoChoice::StandIn,
        members_only: true,
        safe: parts.rules.is_safe(),
        forward: Vec::new(),
        passing: Vec::new(),
        keeping: Vec::new(),
        topology: choices.pick(&[
            Topology::Mesh,
            Topology::Mesh,
            Topology::Star,
            Topology::Chain,
            Topology::Ring,
        ]),
        writer_weight: choices.pick(&[2, 2, 1, 0, 3]),
        ..empty()?
    };
    scenario.append = appends(choices, ops, seed, replicas, span_ms)?;
    let faults: Faults = parts.faults;
    befall(choices, &mut scenario, span_ms, |class: Class| faults.has(class));
    widen(&mut scenario);
    Ok(scenario)
}

/// Makes paths so fast that all operations get through each of them in time.
fn widen(scenario: &mut Scenario) {
    let ops = scenario.append.iter().flat_map(|append| &append.ops);
    let bytes: usize = ops
        .filter_map(|op| op.app.as_ref())
        .map(|op| op.hex.len() / 2)
        .sum();
    let least = bytes as u64 / THROUGH_MS;
    let widened = |path: &mut PathConfig| {
        // Without a number a path has no limit.
        if path.bytes_per_ms > 0 {
            path.bytes_per_ms = path.bytes_per_ms.max(least);
        }
        if path.read_max > 0 {
            path.read_max = path.read_max.max(bytes / READS);
        }
        // Of a stream no more than the window is under way at once; twice that leaves time for spikes.
        let round_ms = (path.latency_us_max + path.offset_us_max) * 2 / 1_000;
        let window = usize::try_from(2 * least * round_ms).unwrap_or(usize::MAX);
        path.window = path.window.max(window);
    };
    widened(&mut scenario.network);
    for event in &mut scenario.event {
        if let Action::Path { path, .. } = &mut event.action {
            widened(path);
        }
    }
}

/// The scenario of a seed for programs that are no databases: what befalls them is all that there is.
pub(super) fn draw_program(
    name: &str,
    (least, most): (usize, usize),
    faults: Faults,
    seed: u64,
) -> Result<Scenario, String> {
    let stream = Seeds::new(seed).stream("kit", &["plan"]);
    let choices = &mut Choices::Seeded(Box::new(stream));
    let replicas = usize::try_from(choices.between(least as u64, most as u64)).unwrap_or(least);
    let mut scenario = Scenario {
        name: name.to_owned(),
        about: format!("what seed {seed} draws for {name}"),
        replicas,
        crypto: CryptoChoice::StandIn,
        ..empty()?
    };
    let span_ms = choices.between(SPAN_MS_MIN, SPAN_MS_MAX);
    befall(choices, &mut scenario, span_ms, |class| faults.has(class));
    // Members are a matter of databases.
    scenario
        .event
        .retain(|event| !matches!(event.action, Action::Add { .. }));
    scenario.schedule = drawn_schedule(choices);
    Ok(scenario)
}

/// A scenario in which nothing happens.
fn empty() -> Result<Scenario, String> {
    toml::from_str("about = ''\nreplicas = 1").map_err(|error| error.to_string())
}

/// Appends at a few moments, so that replicas write without knowing of each other, or spread over the whole time.
fn appends(
    choices: &mut Choices<'_>,
    ops: &dyn Ops,
    seed: u64,
    replicas: usize,
    span_ms: u64,
) -> Result<Vec<Append>, String> {
    let count = choices.pick(&[8, 4, 12, 16, 24, 40]);
    let moments: Vec<u64> = (0..choices.between(1, 4))
        .map(|_| choices.below(span_ms))
        .collect();
    let is_clumped = choices.once_in(2);
    let batched = choices.pick(&[0, 8, 3]);
    let mut appends: Vec<Append> = Vec::new();
    let mut total = 0;
    for number in 0..count {
        if total >= PLAN_BYTES_MAX && number >= PLAN_OPS_MIN {
            break;
        }
        let app = ops.tree(seed, number)?.current();
        let bytes = app.hex.len() / 2;
        if bytes > OP_BYTES_MAX {
            return Err(format!(
                "operation {number} of seed {seed} has {bytes} bytes; a check takes operations of up to {OP_BYTES_MAX}"
            ));
        }
        total += bytes;
        let op = Op {
            app: Some(app),
            ..Op::default()
        };
        if batched > 0
            && choices.once_in(batched)
            && let Some(last) = appends.last_mut()
        {
            last.ops.push(op);
            continue;
        }
        let at_ms = if is_clumped {
            moments[choices.index(moments.len())]
        } else {
            choices.below(span_ms)
        };
        appends.push(Append {
            at_ms,
            replica: choices.index(replicas),
            optimistic: false,
            left: None,
            ops: vec![op],
        });
    }
    appends.sort_by_key(|append| append.at_ms);
    Ok(appends)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Event;
    use crate::workload::AppOp;

    #[test]
    fn all_operations_get_through_each_path_in_time() {
        let slow = PathConfig {
            bytes_per_ms: 16,
            window: 64,
            ..PathConfig::default()
        };
        let without = |bytes_per_ms| PathConfig {
            bytes_per_ms,
            ..PathConfig::default()
        };
        let mut scenario = Scenario {
            network: slow,
            ..empty().unwrap()
        };
        for path in [slow, without(0), without(12_500)] {
            let action = Action::Path { from: 0, to: 0, path };
            scenario.event.push(Event { at_ms: 1, action });
        }
        let widened = |bytes: usize| {
            let mut scenario = scenario.clone();
            let op = Op {
                app: Some(AppOp::new(0, "", &vec![7; bytes])),
                ..Op::default()
            };
            scenario.append.push(Append {
                at_ms: 0,
                replica: 0,
                optimistic: false,
                left: None,
                ops: vec![op],
            });
            widen(&mut scenario);
            let paths = scenario.event.iter().map(|event| match &event.action {
                Action::Path { path, .. } => path.bytes_per_ms,
                _ => 0,
            });
            let mut all = vec![scenario.network.bytes_per_ms];
            all.extend(paths);
            (all, scenario.network.window)
        };
        assert_eq!(widened(1_000).0, [16, 16, 0, 12_500]);
        assert_eq!(widened(1_000_000).0, [250, 250, 0, 12_500]);
        // 250 bytes a millisecond, twice as long as there and back takes.
        assert_eq!((widened(1_000).1, widened(1_000_000).1), (64, 10_000));
    }
}
