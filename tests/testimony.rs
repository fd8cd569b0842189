//! Weights at the public handle and at the engine: grants, the testimony that proves them, and own batches on their way
//! into the order and the log.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "testimony/database.rs"]
mod database;
#[path = "testimony/engine.rs"]
mod engine;
