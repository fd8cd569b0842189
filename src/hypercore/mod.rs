//! The single-writer log: an append-only list of blocks under one signed Merkle tree.

pub mod manifest;
