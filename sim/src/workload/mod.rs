//! What simulated users do: the operations they append, and the apply function that understands them.

mod app;
mod json_apply;

pub use app::AppOp;
pub use json_apply::{JsonApply, Op};
pub(crate) use json_apply::{LOOKED_AT, NOBODY, SELF, Shown, forgotten, refused_for, tally};
