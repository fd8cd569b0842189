//! Runs of simulated databases, and what is made of them: plans, shrunk plans, futures, pages, stores against the model.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod page;
mod plans;
mod stores;
mod why;
