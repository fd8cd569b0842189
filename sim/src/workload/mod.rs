//! What simulated users do: the operations they append, and the apply function that understands them.

mod app;
mod contract;

pub use app::AppOp;
pub use contract::{Contract, Op};
pub(crate) use contract::{SELF, tally};
