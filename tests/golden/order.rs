//! `order.json`: batches with fixed weights, delivered in several orders.
//!
//! Here weights are given, not resolved, and need not rise along a writer. So each batch becomes a writer of its own
//! whose standing is the given weight, with explicit links where the original has its chain and its backer.

use std::collections::BTreeMap;

use autobee::crypto::CoreKey;
use autobee::engine::dag::{Dag, NewBatch};
use autobee::engine::linearizer::{
    Linearizer, PlacedBatch, Replay, Rules, Suspended, Verdict, WriterStanding,
};
use autobee::wire::{Length, Link, Timestamp, Weight};
use serde_json::Value;

use super::{hex, list, uint};

pub(crate) fn check(case: &Value) -> Result<(), String> {
    let nodes = Nodes::new(case);
    for run in list(&case["runs"]) {
        let order = indexes(&case["order"]);
        let steps = run["steps"].as_array().map_or(&[][..], Vec::as_slice);
        let steps: BTreeMap<usize, Vec<usize>> = steps
            .iter()
            .map(|step| (index(&step[0]), indexes(&step[2])))
            .collect();
        assert_eq!(
            nodes.run(&indexes(&run["delivery"]), &steps),
            order,
            "{}",
            case["name"]
        );
    }
    Ok(())
}

/// The nodes of a case, as batches of a writer each.
pub(crate) struct Nodes {
    batches: Vec<NewBatch>,
    weights: BTreeMap<CoreKey, Weight>,
    /// Position in the file of the batch with this key.
    names: BTreeMap<CoreKey, usize>,
}

impl Nodes {
    pub(crate) fn new(case: &Value) -> Self {
        let keys: Vec<Vec<u8>> = list(&case["keys"]).iter().map(hex).collect();
        let nodes = list(&case["nodes"]);
        // What the original compares: the key of the writer, then the length.
        let mut ranks: Vec<(&[u8], u64, usize)> = nodes
            .iter()
            .enumerate()
            .map(|(at, node)| (&*keys[index(&node[0])], uint(&node[1]), at))
            .collect();
        ranks.sort_unstable();
        let mut name = vec![CoreKey::new([0; 32]); nodes.len()];
        for (rank, (_, _, at)) in ranks.iter().enumerate() {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&(rank as u64 + 1).to_be_bytes());
            name[*at] = CoreKey::new(key);
        }
        let find = |writer: usize, length: u64| {
            let at = nodes
                .iter()
                .position(|node| {
                    index(&node[0]) == writer && uint(&node[1]) <= length && length <= uint(&node[2])
                })
                .unwrap_or_else(|| panic!("no batch holds {writer}:{length}"));
            Link {
                key: name[at],
                length: Length(1),
            }
        };
        let batches = nodes.iter().enumerate().map(|(at, node)| {
            let (writer, first) = (index(&node[0]), uint(&node[1]));
            let named = list(&node[5])
                .iter()
                .chain((!node[6].is_null()).then_some(&node[6]));
            let mut links: Vec<Link> = named.map(|link| find(index(&link[0]), uint(&link[1]))).collect();
            if first > 1 {
                links.push(find(writer, first - 1));
            }
            NewBatch {
                writer: name[at],
                first: Length(1),
                last: Length(1),
                timestamp: Timestamp(uint(&node[4])),
                optimistic: false,
                links,
                gates: Vec::new(),
                claim: None,
            }
        });
        Self {
            batches: batches.collect(),
            weights: nodes
                .iter()
                .enumerate()
                .map(|(at, node)| (name[at], Weight(uint(&node[3]))))
                .collect(),
            names: name.iter().enumerate().map(|(at, key)| (*key, at)).collect(),
        }
    }

    /// Feeds the nodes one by one and gives the last order.
    pub(crate) fn run(&self, delivery: &[usize], steps: &BTreeMap<usize, Vec<usize>>) -> Vec<usize> {
        let mut dag = Dag::new();
        let rules = Rules {
            bootstrap: CoreKey::new([0; 32]),
            optimistic: false,
            set: autobee::wire::Rules::interop(),
        };
        let mut linearizer = Linearizer::new(rules, Vec::new());
        let mut weights = Weights(&self.weights);
        for node in delivery {
            dag.insert(self.batches[*node].clone()).unwrap();
            linearizer.update(&dag, &mut weights).unwrap();
            let order = linearizer
                .entries()
                .map(|entry| self.names[&dag.batch(entry.batch).writer]);
            let order: Vec<usize> = order.collect();
            let replayed = linearizer.state().iter().map(|key| self.names[key]);
            assert!(replayed.eq(order.iter().copied()));
            if let Some(expected) = steps.get(node) {
                assert_eq!(&order, expected);
            }
        }
        linearizer.state().iter().map(|key| self.names[key]).collect()
    }
}

/// Everybody is a member and stands with a given weight. The state is what was applied.
struct Weights<'a>(&'a BTreeMap<CoreKey, Weight>);

impl Replay for Weights<'_> {
    type State = Vec<CoreKey>;

    fn standing(&self, _: &Self::State, writer: &CoreKey) -> Option<WriterStanding> {
        self.0.get(writer).map(|weight| WriterStanding {
            weight: *weight,
            ceiling: *weight,
            length: Length(0),
        })
    }

    fn apply(
        &mut self,
        state: &Self::State,
        step: PlacedBatch<'_>,
    ) -> Result<Verdict<Self::State>, Suspended> {
        let mut state = state.clone();
        state.push(step.batch.writer);
        Ok(Verdict::Accepted(state))
    }
}

pub(crate) fn indexes(value: &Value) -> Vec<usize> {
    list(value).iter().map(index).collect()
}

fn index(value: &Value) -> usize {
    usize::try_from(uint(value)).unwrap()
}
