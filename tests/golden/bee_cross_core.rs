//! `bee_cross_core.json`: trees that build on heads in other cores.

pub(crate) use super::bee_steps::check;
