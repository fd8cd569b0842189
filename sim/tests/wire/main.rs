//! Cores that replicate through the whole stack in a simulated world: Noise, sealed frames, channels, replicators, sessions.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod faults;
mod floods;
mod hostile;
mod lies;
mod mallory;
mod nodes;
