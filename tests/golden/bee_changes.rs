//! `bee_changes.json`: what the changes of a tree are, newest first.

pub(crate) use super::bee_steps::check;
