//! What the simulator sees of a database and its users do not: read-only, and no part of the public interface.

pub use crate::db::sim_hooks::{EngineSet, blocks_from, held};
