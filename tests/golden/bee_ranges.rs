//! `bee_ranges.json`: range reads: bounds, direction, limits.

pub(crate) use super::bee_steps::check;
