//! What simulated users do: the operations they append, and the apply function that understands them.

mod contract;

pub(crate) use contract::tally;
pub use contract::{Contract, Op};
