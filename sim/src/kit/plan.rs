//! Drawing what the replicas of one seed do, and what befalls them.

use super::ops::Ops;
use super::{CheckParts, Faults};
use crate::scenario::{
    Action, Append, Choices, Class, CryptoChoice, Scenario, Topology, befall, drawn_schedule,
};
use crate::seed::Seeds;
use crate::workload::Op;

/// Time over which operations are appended, in milliseconds.
const SPAN_MS_MIN: u64 = 300;
const SPAN_MS_MAX: u64 = 3_000;

/// The scenario of a seed.
pub(super) fn draw(parts: &CheckParts, ops: &dyn Ops, seed: u64) -> Result<Scenario, String> {
    let stream = Seeds::new(seed).stream("kit", &["plan"]);
    let choices = &mut Choices::Seeded(Box::new(stream));
    let (least, most) = parts.replicas;
    let replicas = usize::try_from(choices.between(least as u64, most as u64)).unwrap_or(least);
    let span_ms = choices.between(SPAN_MS_MIN, SPAN_MS_MAX);
    let mut scenario = Scenario {
        name: parts.name.clone(),
        about: format!("what seed {seed} draws for {}", parts.name),
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
    Ok(scenario)
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
    for number in 0..count {
        let op = Op {
            app: Some(ops.tree(seed, number)?.current()),
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
