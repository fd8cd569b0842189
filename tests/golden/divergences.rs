//! `divergences.json`: sets of blocks on which the original depends on the order of arrival, never settles, or dies.
//!
//! The model and the linearizer, in every delivery, must reach what is recommended.

use std::collections::BTreeMap;

use autobee::crypto::CoreKey;
use autobee::wire::Length;
use serde_json::Value;

use super::history::{Fed, History, fed};
use super::order::Nodes;
use super::{list, optional};

pub(crate) fn check(case: &Value) -> Result<(), String> {
    let runs = optional(&case["runs"]).map_or(&[][..], |runs| list(runs));
    if optional(&case["nodes"]).is_some() {
        // Weights are given; what is recommended is not said, but that it is one.
        let nodes = Nodes::new(case);
        let delivery = |run: &Value| super::order::indexes(&run["delivery"]);
        let orders: Vec<_> = runs
            .iter()
            .map(|run| nodes.run(&delivery(run), &BTreeMap::new()))
            .collect();
        assert!(
            orders.windows(2).all(|pair| pair[0] == pair[1]),
            "{}: {orders:?}",
            case["name"]
        );
        return Ok(());
    }
    let Some(recommended) = optional(&case["recommended"]) else {
        // A recipe for a whole peer, without blocks.
        assert!(runs.is_empty(), "{}", case["name"]);
        return Ok(());
    };
    let history = History::new(case);
    let deliveries: Vec<Vec<Vec<_>>> = runs
        .iter()
        .map(|run| {
            let steps = list(&run["delivery"]).iter();
            steps
                .map(|step| list(&step["feed"]).iter().map(fed).collect())
                .collect()
        })
        .collect();
    let all = union(deliveries.iter().flatten());
    assert_eq!(&history.declared(&all), recommended, "{}", case["name"]);
    for steps in &deliveries {
        let set = union(steps);
        // Some runs stop early, because the original did: no recommendation is given for what they got.
        let expected = if set == all {
            recommended
        } else {
            &history.declared(&set)
        };
        assert_eq!(&history.replayed(steps), expected, "{}", case["name"]);
    }
    Ok(())
}

fn union<'a>(steps: impl IntoIterator<Item = &'a Vec<(CoreKey, Length)>>) -> Fed {
    let mut set = Fed::new();
    for (key, length) in steps.into_iter().flatten() {
        let fed = set.entry(*key).or_default();
        *fed = (*fed).max(*length);
    }
    set
}
