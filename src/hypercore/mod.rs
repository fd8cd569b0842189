//! The single-writer log: an append-only list of blocks under one signed Merkle tree.

pub mod flat_tree;
pub mod log;
pub mod manifest;
pub mod merkle;
pub mod proof;
