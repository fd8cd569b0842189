//! Logs and what is below and beside them: storage engines, cores of a store, and their replication.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cores;
mod laws;
mod owner;
mod power_cuts;
mod replicators;
mod sessions;
