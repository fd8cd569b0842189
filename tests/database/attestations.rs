//! Weights at the public handle and at the engine: grants, the attestations that prove them, and own batches on their way
//! into the order and the log.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "attestations/database.rs"]
mod database;
#[path = "attestations/engine.rs"]
mod engine;
