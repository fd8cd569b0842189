//! Peers that hold the same blocks are in the same state, whatever the order of arrival.

#![expect(clippy::unwrap_used, reason = "a history that cannot be played is a failure")]

#[path = "convergence/cases.rs"]
mod cases;
#[path = "convergence/engine.rs"]
mod engine;
#[path = "convergence/forgetting.rs"]
mod forgetting;
#[path = "convergence/healing.rs"]
mod healing;
#[path = "convergence/history.rs"]
mod history;
#[path = "convergence/order.rs"]
mod order;
