//! The program `autobee`, command by command, run as people and scripts run it.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test of processes and files of this machine, which says what it skips"
)]

#[path = "cli/care.rs"]
mod care;
#[path = "cli/data.rs"]
mod data;
#[path = "cli/manual.rs"]
mod manual;
#[cfg(feature = "hyperswarm")]
#[path = "interop/node.rs"]
mod node;
#[path = "process/peer.rs"]
mod peer;
#[path = "cli/peers.rs"]
mod peers;
#[path = "cli/run.rs"]
mod run;
#[cfg(feature = "hyperswarm")]
#[path = "cli/swarm.rs"]
mod swarm;
#[path = "cli/terminal.rs"]
mod terminal;
#[path = "cli/transfer.rs"]
mod transfer;
#[path = "cli/usage.rs"]
mod usage;
