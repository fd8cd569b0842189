//! The network state machine, driven by hand.
