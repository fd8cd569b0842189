//! What simulated users do: the operations they append, and the apply function that understands them.

mod app;
mod contract;

pub use app::AppOp;
pub(crate) use contract::tally;
pub use contract::{Contract, Op};
