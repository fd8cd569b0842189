//! The seeded simulator of Autobee.

pub mod disk;
pub mod scenario;
pub mod workload;

pub use scenario::{Scenario, ScenarioError};
