//! What a run came to.

use std::collections::BTreeMap;
use std::sync::Arc;

use autobee::crypto::hash;
use autobee::db::OrderedEntry;
use autobee::env::Point;
use bytes::Bytes;
use serde::Serialize;

use super::checks::Checks;
use crate::hostile::Deeds;
use crate::invariant::{Look, ReplicaLook, Violation};
use crate::scenario::Scenario;
use crate::simulated_world::SimulatedWorld;

/// The verdict of one run. Everything in it is a function of the scenario and the seed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The scenario.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// How many replicas took part.
    pub replicas: usize,
    /// How many entries are in the order at the end.
    pub entries: usize,
    /// Every replica holds the same, and nothing acknowledged is lost.
    pub converged: bool,
    /// BLAKE2b-256 of all events, as they are written with `--trace`.
    pub trace_hash: String,
    /// How many events there were.
    pub events: u64,
    /// How long it took, in milliseconds of virtual time.
    pub sim_ms: u64,
    /// What every replica holds.
    pub states: Vec<ReplicaState>,
    /// What should hold and does not.
    pub violations: Vec<Violation>,
    /// What does not hold either, and was expected.
    pub expected: Vec<Violation>,
    /// How often what was compared.
    pub compared: BTreeMap<&'static str, u64>,
    /// How often states worth reaching were seen, by their names.
    pub points: BTreeMap<&'static str, u64>,
    /// How often each kind of fault of the network struck.
    pub network: BTreeMap<&'static str, u64>,
    /// What hostile peers did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hostile: Vec<Deeds>,
}

/// What a replica holds, as hashes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReplicaState {
    /// Its name.
    pub replica: String,
    /// BLAKE2b-256 over key, length and weight of every entry.
    pub order_hash: String,
    /// BLAKE2b-256 over every key and value, each after its length.
    pub view_hash: String,
    /// Every key and value; nothing where the report is one of many.
    #[serde(skip)]
    pub view: Arc<Vec<(Bytes, Bytes)>>,
}

impl Report {
    /// The same, but for the views themselves: their hashes stay.
    #[must_use]
    pub fn without_views(mut self) -> Self {
        for state in &mut self.states {
            state.view = Arc::default();
        }
        self
    }

    pub(super) fn new(
        scenario: &Scenario,
        seed: u64,
        world: &impl SimulatedWorld,
        looks: &[ReplicaLook],
        checks: Checks,
    ) -> Self {
        let open: Vec<(&ReplicaLook, &Look)> = looks
            .iter()
            .filter_map(|replica| Some((replica, replica.look.as_ref()?)))
            .collect();
        let state = |(replica, look): &(&ReplicaLook, &Look)| ReplicaState {
            replica: replica.name.clone(),
            order_hash: order_hash(&look.order),
            view_hash: view_hash(&look.view),
            view: Arc::clone(&look.view),
        };
        let compared = checks.counts();
        let is_expected = |violation: &Violation| {
            let mut expected = scenario.expected.iter();
            expected.any(|expected| expected.invariant == violation.invariant)
        };
        let (expected, violations): (Vec<_>, Vec<_>) =
            checks.into_violations().into_iter().partition(is_expected);
        Self {
            scenario: scenario.name.clone(),
            seed,
            replicas: scenario.replicas,
            entries: open.first().map_or(0, |(_, look)| look.order.len()),
            converged: violations.is_empty(),
            trace_hash: world.trace_hash().to_hex(),
            events: world.trace_events(),
            sim_ms: u64::try_from(world.now().as_millis()).unwrap_or(u64::MAX),
            states: open.iter().map(state).collect(),
            violations,
            expected,
            compared,
            points: points(world),
            network: world.strikes(),
            hostile: Vec::new(),
        }
    }
}

/// Every point that there is, also those that were not reached.
fn points(world: &impl SimulatedWorld) -> BTreeMap<&'static str, u64> {
    let counts = world.sometimes();
    let seen = |point: &Point| counts.get(point).map_or(0, |(_, seen)| *seen);
    Point::ALL
        .iter()
        .map(|point| (point.name(), seen(point)))
        .collect()
}

fn order_hash(order: &[OrderedEntry]) -> String {
    let mut bytes = Vec::with_capacity(order.len() * 48);
    for entry in order {
        bytes.extend_from_slice(entry.key.as_bytes());
        bytes.extend_from_slice(&entry.length.0.to_le_bytes());
        bytes.extend_from_slice(&entry.weight.0.to_le_bytes());
    }
    hash(&[&bytes]).to_hex()
}

fn view_hash(view: &[(Bytes, Bytes)]) -> String {
    let mut bytes = Vec::new();
    for part in view.iter().flat_map(|(key, value)| [key, value]) {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    hash(&[&bytes]).to_hex()
}
