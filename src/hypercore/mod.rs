//! The single-writer log: an append-only list of blocks under one signed Merkle tree.

pub mod bitfield;
pub mod encryption;
pub mod flat_tree;
pub mod keys;
pub mod log;
pub mod manifest;
pub mod merkle;
pub mod proof;
pub mod provisional_cores;
