//! `bee_diff.json`: differences between two trees.

pub(crate) use super::bee_steps::check;
