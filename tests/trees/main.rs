//! The B-tree without a store: against a map, against invented blocks, and what it costs to read.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod hostile;
mod properties;
mod sparse;
