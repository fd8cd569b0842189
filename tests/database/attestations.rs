//! Weights at the public handle and at the engine: grants, the attestations that prove them, and own batches on their way
//! into the order and the log.

mod database;
mod engine;
