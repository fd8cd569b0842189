//! What the simulator sees of a database.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Autobee;
use super::shared::lock;
use crate::crypto::CoreKey;
use crate::env::Env;
use crate::wire::{Index, Length};

/// What takes part in the order of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineSet {
    /// How much of each log; none while an order is being made, or when what came last is not in it.
    pub lengths: Option<BTreeMap<CoreKey, Length>>,
    /// How often blocks of each log were replaced.
    pub forks: BTreeMap<CoreKey, u64>,
}

/// What takes part in the order of a database.
pub fn held<E: Env>(db: &Autobee<E>) -> EngineSet {
    let state = lock(&db.shared.state);
    let forks = state.cores.keys().filter_map(|key| {
        let fork = state.cores.get(&key)?.fork().ok()?;
        Some((key, fork))
    });
    EngineSet {
        lengths: state.engine.set(),
        forks: forks.collect(),
    }
}

/// The leading blocks of a core from an index on, clear, as far as they are here.
pub fn blocks_from<E: Env>(db: &Autobee<E>, core: &CoreKey, from: Index) -> Vec<Bytes> {
    let state = lock(&db.shared.state);
    let Some(core) = state.cores.get(core) else {
        return Vec::new();
    };
    let blocks = (from.0..).map_while(|index| core.get_local(index).ok().flatten());
    blocks.collect()
}
