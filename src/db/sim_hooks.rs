//! What the simulator sees of a database.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Autobee;
use super::shared::lock;
use crate::crypto::CoreKey;
use crate::env::Env;
use crate::error::Error;
use crate::hypercore::{Core, CoreError};
use crate::wire::{Index, Length};

/// What takes part in the order of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineSet {
    /// How much of each log; none while an order is being made, or when what came last is not in it.
    pub lengths: Option<BTreeMap<CoreKey, Length>>,
    /// How often blocks of each log were replaced.
    pub forks: BTreeMap<CoreKey, u64>,
    /// How much of the local log peers may be shown: what is durable.
    pub shown: Length,
}

/// What takes part in the order of a database.
pub fn held<E: Env>(db: &Autobee<E>) -> EngineSet {
    let state = lock(&db.shared.state);
    let forks = state.cores.keys().filter_map(|key| {
        let fork = state.cores.get(&key)?.fork().ok()?;
        Some((key, fork))
    });
    let offered = state.cores.local_core().and_then(Core::offered_state);
    EngineSet {
        lengths: state.engine.set(),
        shown: Length(offered.map_or(0, |offered| offered.length)),
        forks: forks.collect(),
    }
}

/// The leading blocks of a core from an index on, clear, as far as they are here.
///
/// # Errors
///
/// When the store cannot be read.
pub fn blocks_from<E: Env>(db: &Autobee<E>, core: &CoreKey, from: Index) -> Result<Vec<Bytes>, Error> {
    let state = lock(&db.shared.state);
    let Some(core) = state.cores.get(core) else {
        return Ok(Vec::new());
    };
    let mut blocks = Vec::new();
    for index in from.0.. {
        match core.get_local(index) {
            Ok(Some(block)) => blocks.push(block),
            // What is not encrypted as it should be ends what can be read of a log.
            Ok(None) | Err(CoreError::Cipher(_)) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(blocks)
}
