//! `bee_ops.json`: batches written by one tree to its own core, with every block.

pub(crate) use super::bee_steps::check;
