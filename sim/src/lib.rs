//! The seeded simulator of Autobee.

pub mod disk;
